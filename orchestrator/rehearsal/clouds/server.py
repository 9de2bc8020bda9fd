"""The emulated clouds behind aiohttp: the same replies, over sockets."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path

from aiohttp import web

from orchestrator.rehearsal.clouds.clock import CloudClock
from orchestrator.rehearsal.clouds.context import Hosts
from orchestrator.rehearsal.clouds.state import CloudState
from orchestrator.rehearsal.clouds.wire import Request
from orchestrator.rehearsal.faults import Switchboard
from orchestrator.words.observed import Observed


def mount(
    app: web.Application,
    hosts: Hosts,
    folder: Path,
    time_scale: float,
    *,
    clock: CloudClock | None = None,
    faults: Switchboard | None = None,
    observed: Mapping[str, Observed] | None = None,
) -> CloudState:
    """Add the routes /v2/*, /graphql and /api/v1/* to an application that has not started yet.

    `folder` keeps what the cloud remembers (clouds.json, 0600). Delays take `time_scale` seconds for a cloud's
    second; `clock` replaces both for tests. `faults` is where disasters are armed, `observed` what was seen of the
    real clouds. The application's start takes an
    earlier daemon's cloud over, its clean-up ends every machine.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = CloudState(
        hosts, folder / "clouds.json", clock or CloudClock(time_scale), _free_port(), faults=faults, observed=observed
    )

    async def handle(request: web.Request) -> web.StreamResponse:
        return await _answer(state, request)

    for path in state.apis:
        app.router.add_route("*", f"{path}{{tail:.*}}" if path.endswith("/") else path, handle)

    async def start(_app: web.Application) -> None:
        await state.recover()

    async def clean_up(_app: web.Application) -> None:
        await state.close()

    app.on_startup.append(start)
    app.on_cleanup.append(clean_up)
    return state


async def _answer(state: CloudState, request: web.Request) -> web.StreamResponse:
    reply = await state.answer(
        Request(
            method=request.method,
            path=request.path,
            query=request.query,
            headers=request.headers,
            body=await request.read(),
            base_url=f"{request.scheme}://{request.host}",
        )
    )
    if reply.reaches is None:
        return web.Response(status=reply.status, headers=reply.headers, body=reply.body)
    response = web.StreamResponse(status=reply.status, headers=reply.headers)
    if reply.reaches:
        response.content_length = len(reply.body)
        await response.prepare(request)
        await response.write(reply.body[: reply.reaches])
    if request.transport is not None:
        (request.transport.close if reply.reaches else request.transport.abort)()
    return response


def _free_port() -> int:
    """A port for all Lambda instances: as non-root it cannot be 22."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
