"""The control page of a rehearsal: what the cloud's owner would see and do. Loopback HTTP with a key."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aiohttp import web

from orchestrator.rehearsal.faults import Switchboard
from orchestrator.rehearsal.hosts import Hosts

if TYPE_CHECKING:
    from orchestrator.rehearsal.clouds.state import CloudState

KEY_HEADER = "X-Rehearsal-Key"


class Control:
    """The page's routes over the clouds, the machines and the switches."""

    def __init__(
        self,
        key: str,
        cloud: CloudState,
        hosts: Hosts,
        faults: Switchboard,
        stop: Callable[[], None],
    ) -> None:
        self._key = key
        self._cloud = cloud
        self._hosts = hosts
        self._switches = faults
        self._stop = stop

    def routes(self) -> list[web.RouteDef]:
        """Return the routes, to be added beside the clouds'."""
        return [
            web.get("/control/invoice", self._guarded(self._invoice)),
            web.get("/control/log", self._guarded(self._log)),
            web.get("/control/alive", self._guarded(self._alive)),
            web.get("/control/faults", self._guarded(self._faults)),
            web.post("/control/fault", self._guarded(self._arm)),
            web.post("/control/step", self._guarded(self._step)),
            web.post("/control/stop", self._guarded(self._end)),
        ]

    def _guarded(self, answer: Any) -> Any:
        """Let only those in who know the key: the page can end everything."""

        async def handler(request: web.Request) -> web.Response:
            if not hmac.compare_digest(request.headers.get(KEY_HEADER, "").encode(), self._key.encode()):
                return web.json_response({"error": f"the header {KEY_HEADER} is wrong"}, status=403)
            try:
                body = await request.json() if request.can_read_body else {}
                return web.json_response(await answer(body))
            except KeyError as error:
                return web.json_response({"error": f"the body lacks {error}"}, status=400)
            except ValueError as error:
                return web.json_response({"error": str(error)}, status=400)

        return handler

    async def _invoice(self, _body: dict[str, Any]) -> Any:
        return self._cloud.invoice()

    async def _log(self, _body: dict[str, Any]) -> Any:
        return self._cloud.log()

    async def _alive(self, _body: dict[str, Any]) -> Any:
        return {**self._cloud.alive(), "processes": await self._hosts.processes(), "breaches": self._cloud.breaches()}

    async def _faults(self, _body: dict[str, Any]) -> Any:
        return self._switches.listing()

    async def _arm(self, body: dict[str, Any]) -> Any:
        self._switches.arm(body["name"], body.get("arg"))
        return {"armed": body["name"]}

    async def _step(self, body: dict[str, Any]) -> Any:
        step, machine, state = body["step"], body["machine"], body["state"]
        if state not in {"started", "ended"}:
            raise ValueError(f"state is started or ended, not {state}")
        await (self._cloud.step_started if state == "started" else self._cloud.step_ended)(step, machine)
        return {"noted": step}

    async def _end(self, _body: dict[str, Any]) -> Any:
        self._stop()
        return {"stopping": True}
