"""The rehearsal's daemon: one process with all emulators on loopback ports, and a guard that outlives it.

`python -m orchestrator.rehearsal.daemon --folder DIR` writes DIR/rehearsal.json when everything listens, and ends when
told, after SIGTERM, or when it has been idle.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import json
import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import IO, Any

from aiohttp import web

from orchestrator.rehearsal import git_mirror, guard, orphans, standins
from orchestrator.rehearsal.clouds.server import mount
from orchestrator.rehearsal.clouds.state import CloudState
from orchestrator.rehearsal.control import Control
from orchestrator.rehearsal.faults import Switchboard
from orchestrator.rehearsal.gcs import BUCKET as GCS_BUCKET
from orchestrator.rehearsal.gcs import Gcs
from orchestrator.rehearsal.hosts import Hosts
from orchestrator.rehearsal.hub import Hub
from orchestrator.rehearsal.hub_uploads import Uploads
from orchestrator.rehearsal.network import Line, Network
from orchestrator.rehearsal.s3_gate import BUCKET, REGION, S3
from orchestrator.words import files
from orchestrator.words.observed import Observed, load

FACTS = "rehearsal.json"
ALREADY_RUNNING = 9  # exit code: another daemon holds the folder
TICK_S = 1.0
LONGEST_IDLE = 3  # times the idle minutes: even a machine with running jobs ends then


class Daemon:
    """Everything that listens, and how it ends."""

    def __init__(
        self,
        folder: Path,
        *,
        time_scale: float,
        idle_s: float,
        network: str = "",
        skew_s: float = 0.0,
        observed: Mapping[str, Observed] | None = None,
    ) -> None:
        """`observed`: what was seen of the real clouds, by provider: these do as they did."""
        self._observed = observed
        self._folder = folder
        self._time_scale = time_scale
        self._conditions = {"network": network, "clock_skew_s": skew_s}
        self._network = Network.parse(network) if network else None
        self._lines: list[Line] = []
        self._idle_s = idle_s
        self._ended = asyncio.Event()
        self._last_request = time.monotonic()
        self._runners: list[web.AppRunner] = []
        self._switches = Switchboard()
        self._s3 = S3(folder=folder / "cloud/s3", switches=self._switches, touch=self._touch)
        self._hub_token = "hf_" + secrets.token_hex(12)
        self._key = secrets.token_urlsafe(24)
        self._mirror = git_mirror.make(folder / "cloud/git")
        self._guard, self._pipe = guard.spawn(folder)
        self._hosts = Hosts(
            folder / "cloud",
            groups=folder / "groups",
            touch=self._touch,
            cuda_fault=lambda: standins.armed_cuda_fault(self._switches, time_scale),
            gpu_fault=self._switches.take,
            network=self._network,
            skew_s=skew_s,
        )

    def _touch(self) -> None:
        self._last_request = time.monotonic()

    def stop(self) -> None:
        """Let `run` come to its end."""
        self._ended.set()

    async def run(self) -> None:
        """Serve until told to stop or idle, then end everything."""
        try:
            facts = await self._start()
            self._write(facts)
            asyncio.get_running_loop().run_in_executor(None, self._s3.gate.warm)
            while not self._ended.is_set():
                try:
                    await asyncio.wait_for(self._ended.wait(), TICK_S)
                except TimeoutError:
                    await self._tick(facts)
        finally:
            await self._close()

    async def _start(self) -> dict[str, Any]:
        self._s3.start()
        models = Hub(files.models(), self._hub_token, switches=self._switches)
        uploads = Uploads(self._folder / "cloud/hub", models.repositories, models.allows)
        hub = await self._lined(await self._serve([*models.routes(), *uploads.routes()]))
        gcs = await self._lined(await self._serve(Gcs(self._folder / "cloud/gcs", switches=self._switches).routes()))
        s3 = await self._lined(self._s3.endpoint)
        git_env = git_mirror.redirect(self._mirror)
        compiled = self._compiled()
        self._hosts.readable.append(self._mirror)
        self._hosts.shared.append(compiled)
        self._hosts.machine_env |= {
            "HF_ENDPOINT": hub,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DOWNLOAD_TIMEOUT": "3600",  # Xet, which the emulated hub does not speak, waits for ever
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NUMBA_CACHE_DIR": str(compiled),
            "PIP_NO_INDEX": "1",  # `python -m pip` goes past the stand-in: it must fetch nothing either
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            **git_env,
        }
        app = self._app()
        cloud = mount(
            app, self._hosts, self._folder / "cloud", self._time_scale, faults=self._switches, observed=self._observed
        )
        self._control = Control(self._key, cloud, self._hosts, self._switches, self.stop)
        app.add_routes(self._control.routes())
        base = await self._listen(app)
        facts = self._facts(await self._lined(base), hub=hub, gcs=gcs, s3=s3, cloud=cloud, git_env=git_env)
        return facts | {"control": f"{base}/control"}  # which is no part of the rehearsed world

    def _compiled(self) -> Path:
        """Where the machines keep compiled code, as if the image brought it: they compile once, or not at all.

        It begins as a copy of the user's: what strangers' steps leave in it is never run outside the rehearsal.
        """
        folder = self._folder.resolve() / "cloud" / "compiled"
        folder.mkdir(parents=True, exist_ok=True)
        if given := os.environ.get("NUMBA_CACHE_DIR"):
            with contextlib.suppress(OSError, shutil.Error):  # then it is compiled here
                shutil.copytree(given, folder, dirs_exist_ok=True)
        return folder

    async def _lined(self, address: str) -> str:
        """Where clients reach what is at that address: at the other end of a line, if there is a network."""
        if self._network is None:
            return address
        line = Line(self._network, int(address.rpartition(":")[2]))
        self._lines.append(line)
        return f"http://127.0.0.1:{await line.open()}"

    def _facts(
        self, base: str, *, hub: str, gcs: str, s3: str, cloud: CloudState, git_env: dict[str, str]
    ) -> dict[str, Any]:
        keys = cloud.api_keys()
        return {
            "pid": os.getpid(),
            "guard_pid": self._guard.pid,
            "time_scale": self._time_scale,
            **self._conditions,
            "control_key": self._key,
            "runpod": {"rest": f"{base}/v2", "graphql": f"{base}/graphql", "api_key": keys["runpod"]},
            "lambda": {"url": f"{base}/api/v1", "api_key": keys["lambda"], "ssh_port": cloud.ssh_port},
            "s3": {
                "endpoint": s3,
                "access_key": self._s3.access_key,
                "secret_key": self._s3.secret_key,
                "bucket": BUCKET,
                "region": REGION,
            },
            "gcs": {"endpoint": gcs, "bucket": GCS_BUCKET},
            "hub": {"endpoint": hub, "token": self._hub_token},
            "git": {"mirror": self._mirror.resolve().as_uri(), "env": git_env},
            "machine_env": self._hosts.machine_env,
        }

    def _app(self) -> web.Application:
        @web.middleware
        async def touch(
            request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
        ) -> web.StreamResponse:
            self._touch()
            if "Origin" in request.headers:  # a web page in the user's browser: nobody else says where it comes from
                raise web.HTTPForbidden(text="this is no place for web pages\n")
            return await handler(request)

        return web.Application(middlewares=[touch])

    async def _serve(self, routes: list[web.RouteDef]) -> str:
        app = self._app()
        app.add_routes(routes)
        return await self._listen(app)

    async def _listen(self, app: web.Application) -> str:
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        self._runners.append(runner)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    def _write(self, facts: dict[str, Any]) -> None:
        """All at once, and readable by the user alone: it holds keys."""
        new = self._folder / f"{FACTS}.new"
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(facts, file, indent=1)
        new.replace(self._folder / FACTS)

    async def _tick(self, facts: dict[str, Any]) -> None:
        """Replace a guard that was killed, bury orphans, and end what nobody uses."""
        if self._guard.poll() is not None:
            os.close(self._pipe)
            self._guard, self._pipe = guard.spawn(self._folder)
            facts["guard_pid"] = self._guard.pid
            self._write(facts)
        await asyncio.to_thread(orphans.bury)
        if self._hosts.connections:
            self._touch()
        idle = time.monotonic() - self._last_request
        if idle > self._idle_s and (idle > LONGEST_IDLE * self._idle_s or not await self._hosts.processes()):
            self.stop()

    async def _close(self) -> None:
        """Last in, first out; the guard ends by the closing of the pipe, and finds nothing left to do."""
        (self._folder / FACTS).unlink(missing_ok=True)
        for line in self._lines:
            line.close()
        for runner in reversed(self._runners):
            await runner.cleanup()  # the clouds' clean-up ends their machines
        await self._hosts.end_all()
        await asyncio.to_thread(self._s3.stop)
        await asyncio.to_thread(orphans.end_descendants, spare={self._guard.pid})
        os.close(self._pipe)
        await asyncio.to_thread(self._guard.wait)


def lock(folder: Path) -> IO[str] | None:
    """Hold the folder for as long as the returned file is open. None: another daemon does."""
    file = (folder / "daemon.lock").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


async def _main(options: argparse.Namespace, folder: Path) -> None:
    daemon = Daemon(
        folder,
        time_scale=options.time_scale,
        idle_s=options.idle_minutes * 60,
        network=options.network,
        skew_s=options.clock_skew,
        observed=load(options.fixtures) if options.fixtures else None,
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, daemon.stop)
    # Handled, not ignored: what is ignored here would be ignored in every program on every machine.
    for number in (signal.SIGHUP, signal.SIGQUIT):
        loop.add_signal_handler(number, lambda: None)
    await daemon.run()


def main(arguments: list[str]) -> int:
    """Run the daemon to its end."""
    parser = argparse.ArgumentParser(prog="python -m orchestrator.rehearsal.daemon", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--time-scale", type=float, default=0.02)
    parser.add_argument("--idle-minutes", type=float, default=10)
    parser.add_argument("--network", default="")
    parser.add_argument("--clock-skew", type=float, default=0.0)
    parser.add_argument("--fixtures", type=Path, help="what doctor --live has written of the real clouds")
    options = parser.parse_args(arguments)
    folder = options.folder.resolve()
    (folder / "cloud/tmp").mkdir(parents=True, exist_ok=True)
    (folder / "groups").mkdir(exist_ok=True)
    held = lock(folder)
    if held is None:
        return ALREADY_RUNNING
    with held:
        (folder / FACTS).unlink(missing_ok=True)
        guard.sweep(folder, groups=False)  # their numbers may be other processes' by now
        tempfile.tempdir = str(folder / "cloud/tmp")
        orphans.adopt()
        asyncio.run(_main(options, folder))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
