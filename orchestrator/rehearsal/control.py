"""The control page of a rehearsal: what the cloud's owner would see and do. Loopback HTTP with a key."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aiohttp import web

from orchestrator.rehearsal import switches
from orchestrator.rehearsal.hosts import Hosts
from orchestrator.rehearsal.standins import CudaFault

if TYPE_CHECKING:
    from orchestrator.rehearsal.clouds.state import CloudState

KEY_HEADER = "X-Rehearsal-Key"
CUDA_LATE_S = 90.0


class Control:
    """The page's routes over the clouds, the machines and the switches."""

    def __init__(
        self,
        key: str,
        cloud: CloudState,
        hosts: Hosts,
        faults: switches.Switches,
        *,
        time_scale: float,
        stop: Callable[[], None],
    ) -> None:
        self._key = key
        self._cloud = cloud
        self._hosts = hosts
        self._switches = faults
        self._time_scale = time_scale
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
        return [*self._cloud.faults(), *self._switches.listing()]

    async def _arm(self, body: dict[str, Any]) -> Any:
        self.arm(body["name"], body.get("arg"))
        return {"armed": body["name"]}

    def arm(self, name: str, arg: str | None) -> None:
        """Arm a fault of the clouds, or of what else is emulated here. ValueError: there is no such fault."""
        from orchestrator.rehearsal.clouds import faults

        if name in faults.KNOWN:
            self._cloud.arm(name, arg)
        elif name in switches.FAULTS:
            self._switches.arm(name, arg)
            self._cuda(name, arg)
        else:
            raise ValueError(f"there is no fault {name}; there are {', '.join([*faults.KNOWN, *switches.FAULTS])}")

    def _cuda(self, name: str, arg: str | None) -> None:
        if not name.startswith("cuda-"):
            return
        fault = CudaFault()
        if name == "cuda-late":
            fault = CudaFault(lasts_s=float(arg or CUDA_LATE_S) * self._time_scale)
        elif name == "cuda-missing":
            fault = CudaFault(gpus=(int(arg or 0),))
        self._hosts.arm_cuda(fault, lambda: self._switches.take(name))

    async def _step(self, body: dict[str, Any]) -> Any:
        step, machine, state = body["step"], body["machine"], body["state"]
        if state not in {"started", "ended"}:
            raise ValueError(f"state is started or ended, not {state}")
        await (self._cloud.step_started if state == "started" else self._cloud.step_ended)(step, machine)
        return {"noted": step}

    async def _end(self, _body: dict[str, Any]) -> Any:
        self._stop()
        return {"stopping": True}
