"""RunPod (REST v2, GraphQL) and Lambda Cloud on loopback: stateful, priced, held to the vendors' specifications."""

from __future__ import annotations

import socket
from pathlib import Path

from aiohttp import web

from orchestrator.rehearsal.clouds.clock import CloudClock
from orchestrator.rehearsal.clouds.context import Hosts
from orchestrator.rehearsal.clouds.faults import KNOWN as FAULTS
from orchestrator.rehearsal.clouds.lambdalabs import LambdaCloud
from orchestrator.rehearsal.clouds.runpod import RunPodRest
from orchestrator.rehearsal.clouds.runpod_graphql import RunPodGraphql
from orchestrator.rehearsal.clouds.state import CloudState

__all__ = ["FAULTS", "CloudState", "Hosts", "mount"]


def mount(
    app: web.Application, hosts: Hosts, folder: Path, time_scale: float, *, clock: CloudClock | None = None
) -> CloudState:
    """Add the routes /v2/*, /graphql and /api/v1/* to an application that has not started yet.

    `folder` keeps what the cloud remembers (clouds.json, 0600). Delays take `time_scale` seconds for a cloud's
    second; `clock` replaces both for tests. The application's start takes an earlier daemon's cloud over, its
    clean-up ends every machine.
    """
    state = CloudState(hosts, folder, time_scale, _free_port(), clock)
    rest = RunPodRest(state.context, state.pods)
    graphql = RunPodGraphql(state.context, state.pods)
    cloud = LambdaCloud(state.context, state.instances)
    app.router.add_route("*", "/v2/{tail:.*}", rest.handle)
    app.router.add_route("*", "/graphql", graphql.handle)
    app.router.add_route("*", "/api/v1/{tail:.*}", cloud.handle)

    async def start(_app: web.Application) -> None:
        await state.recover()

    async def clean_up(_app: web.Application) -> None:
        await state.close()

    app.on_startup.append(start)
    app.on_cleanup.append(clean_up)
    return state


def _free_port() -> int:
    """A port for all Lambda instances: as non-root it cannot be 22."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
