"""Emulated machines: each is an SSH server of its own on loopback, with a folder, a home and a workspace."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import asyncssh

from orchestrator.rehearsal import processes, standins
from orchestrator.rehearsal.host_spec import HostSpec
from orchestrator.rehearsal.network import Line, Network
from orchestrator.rehearsal.sessions import Login, MachineServer
from orchestrator.rehearsal.spawner import Spawner
from orchestrator.rehearsal.standins import image, skewed

OWN_KEY = "ssh-ed25519"  # the kind of host key that a machine makes itself
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# A login shell reads the system's profile first, which sets PATH anew.
PROFILE = 'export PATH="{first}:$PATH"\n'
# What the vendors' images with torch set: the hub's client gets half of the memory, and a cache on the volume.
IMAGE_ENV = {
    "HF_XET_HIGH_PERFORMANCE": "1",
    "HF_HUB_ENABLE_HF_TRANSFER": "1",
    "HF_HOME": "/workspace/.cache/huggingface",
}


@dataclass(frozen=True)
class Host:
    """A machine that is up. `workspace` is the volume's folder (the same path on every machine), or one of its own."""

    spec: HostSpec
    host: str
    port: int
    folder: Path
    home: Path
    workspace: Path
    host_key: str  # its fingerprint, SHA256:...


@dataclass
class _Running:
    host: Host
    login: Login
    listener: asyncssh.SSHAcceptor
    line: Line | None  # before it; None: it is reached as fast as this computer is
    since: float


class Hosts:
    """The machines and volumes of one cloud, in the daemon's event loop."""

    def __init__(  # noqa: PLR0913, a cloud is made of many things, in one place (daemon.py)
        self,
        folder: Path,
        *,
        groups: Path | None = None,
        machine_env: dict[str, str] | None = None,
        touch: Callable[[], None] = lambda: None,
        cuda_fault: Callable[[], standins.CudaFault | None] = lambda: None,
        gpu_fault: Callable[[str], bool] = lambda _name: False,
        network: Network | None = None,
        skew_s: float = 0.0,
    ) -> None:
        """Keep machines in `folder`/hosts/ID and volumes in `folder`/volumes/NAME.

        `groups` is where the guard looks for process groups (default `folder`/groups), `machine_env` what every
        machine has in its environment, `touch` is called at each sign of life of an SSH client. `cuda_fault` is asked
        at each boot of a GPU machine: nvidia-smi lists its GPUs, and CUDA calls on them fail as it says, and so is
        `gpu_fault`: whether a fault of its torch, by name, is to be had. `network`:
        what each machine's line can do; `skew_s`: by how much their clocks are ahead.
        """
        self.folder = folder.resolve()
        self.machine_env = machine_env or {}
        self.readable: list[Path] = []  # what every machine may read besides
        self.shared: list[Path] = []  # what all of them may write too
        self._groups = groups or self.folder / "groups"
        self._touch = touch
        self._running: dict[str, _Running] = {}
        self.cuda_fault, self.gpu_fault, self._network = cuda_fault, gpu_fault, network
        for path in (self.folder / "hosts", self.folder / "volumes", self._groups):
            path.mkdir(parents=True, exist_ok=True)
        self._path_first = standins.install(self.folder / "bin")
        self._python_path = standins.install_pip_module(self.folder / "python")
        if skew_s:
            skewed.install(self.folder / "bin", self.folder / "python", skew_s)

    @property
    def running(self) -> dict[str, Host]:
        """The machines that are up, by id."""
        return {host_id: running.host for host_id, running in self._running.items()}

    @property
    def connections(self) -> int:
        """How many SSH connections are open now."""
        return sum(len(running.login.connections) for running in self._running.values())

    async def boot(self, spec: HostSpec) -> Host:
        """Start a machine, or start again one that ended with keep_disk.

        ValueError: it runs already, there is no such volume, or the address cannot be had.
        """
        if spec.id in self._running:
            raise ValueError(f"machine {spec.id} is running already")
        host_name, port = _address(spec.address)
        folder = self.folder / "hosts" / _file_name(spec.id)
        workspace = self._workspace(folder, spec.volume)
        reads = [self.folder / "bin", self.folder / "python", *self.readable]
        spawner = Spawner([folder, workspace, *self.shared], reads)
        login = Login(spec.user, _keys(spec.public_key), {}, workspace, self._groups, spawner, self._touch)
        key = asyncssh.import_private_key(spec.host_key) if spec.host_key else asyncssh.generate_private_key(OWN_KEY)
        try:
            listener, line, port = await self._listen(host_name, port, login, key)
        except OSError as error:
            await login.spawner.close()
            raise ValueError(f"{spec.address} cannot be listened on: {error.strerror}") from None
        home, shown = folder / "home", key.get_fingerprint()
        host = Host(spec, host_name, port, folder, home, workspace, shown)
        login.env.update(self._prepare(host))
        self._running[spec.id] = _Running(host, login, listener, line, time.time())
        return host

    async def _listen(
        self, host: str, port: int, login: Login, key: asyncssh.SSHKey
    ) -> tuple[asyncssh.SSHAcceptor, Line | None, int]:
        """Open the machine's port, at the end of its line where it has one. OSError: the address cannot be had."""
        if self._network is None:
            listener = await _listen(host, port, login, key)
            return listener, None, listener.get_port()
        listener = await _listen("127.0.0.1", 0, login, key)
        line = Line(self._network, listener.get_port())
        try:
            return listener, line, await line.open(host, port)
        except OSError:
            listener.close()
            raise

    def _workspace(self, folder: Path, volume: str | None) -> Path:
        link = folder / "workspace"
        (folder / "home").mkdir(parents=True, exist_ok=True)
        (folder / "tmp").mkdir(exist_ok=True)
        if volume is None:
            link.mkdir(exist_ok=True)
            return link
        target = self.folder / "volumes" / _file_name(volume)
        if not target.is_dir():
            raise ValueError(f"there is no volume {volume}")
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        return target

    def _prepare(self, host: Host) -> dict[str, str]:
        """Write what the stand-ins and the login shell read; return the environment: nothing of the user's own."""
        spec = host.spec
        machine = {"name": spec.name, "gpu": spec.gpu, "gpus": spec.gpus, "gpu_memory_mib": spec.gpu_memory_mib}
        machine["disk_kib"] = None if spec.disk_gb is None else int(spec.disk_gb * 10**9 / 1024)
        (host.folder / "machine.json").write_text(json.dumps(machine))
        (host.home / ".bash_profile").write_text(PROFILE.format(first=self._path_first))
        self._bring_environ(host.home)
        modules = self._python_path
        if spec.gpus and self.gpu_fault("image-old-torch"):
            image.bring_old_torch(host.folder)
        if (host.folder / image.FOLDER).is_dir():
            modules = f"{modules}:{host.folder / image.FOLDER}"
        if spec.gpus and self.gpu_fault("torch-no-kernel"):
            (host.folder / standins.NO_KERNEL).touch()
        faulty = host.folder / standins.CUDA_FAULT
        faulty.unlink(missing_ok=True)
        if spec.gpus and (fault := self.cuda_fault()):
            fault.write(faulty)
        return {
            **self.machine_env,
            **spec.env,
            processes.MARK: str(host.folder),
            "GPUPLAN_BOOT_ID": secrets.token_hex(8),
            "PATH": f"{self._path_first}:{SYSTEM_PATH}",
            "PYTHONPATH": modules,
            "HOME": str(host.home),
            "WORKSPACE": str(host.workspace),
            "USER": spec.user,
            "LOGNAME": spec.user,
            "SHELL": "/bin/bash",
            "LANG": "C.UTF-8",
            "TMPDIR": str(host.folder / "tmp"),
            "TMUX_TMPDIR": str(host.folder / "tmp"),
            "GIT_CONFIG_NOSYSTEM": "1",
        }

    def _bring_environ(self, home: Path) -> None:
        """Write what this image sets: process 1 of the computer that plays the machine is not the machine's."""
        folder = home / ".gpuplan"
        folder.mkdir(mode=0o700, exist_ok=True)
        image = {"PATH": f"{self._path_first}:{SYSTEM_PATH}", **IMAGE_ENV, **self.machine_env}
        (folder / "environ").write_text("\0".join(f"{name}={text}" for name, text in image.items()))

    async def end(self, host_id: str, *, keep_disk: bool = False) -> None:
        """Kill every process of the machine, close its port, remove its folder. Idempotent."""
        running = self._running.pop(host_id, None)
        folder = self.folder / "hosts" / _file_name(host_id)
        groups: set[int] = set()
        if running is not None:
            running.listener.close()
            if running.line:
                running.line.close()
            _drop(running)
            groups = running.login.started | processes.job_groups(folder, since=running.since)
            await running.login.spawner.close()
        await asyncio.to_thread(processes.end, processes.marked(folder), groups)  # where orphans go elsewhere
        if running is not None:
            await asyncio.gather(*running.login.running, return_exceptions=True)
            for group in running.login.started:
                (self._groups / str(group)).unlink(missing_ok=True)
        if not keep_disk:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def cut(self, host_id: str) -> None:
        """Drop the machine's SSH connections once; what runs goes on."""
        if (running := self._running.get(host_id)) is not None:
            _drop(running)
        await asyncio.sleep(0)

    async def hang(self, host_id: str) -> None:
        """Drop the machine's SSH connections and listen no more; what runs goes on. It may be ended and booted."""
        if (running := self._running.get(host_id)) is not None:
            running.listener.close()
            if running.line:
                running.line.close()
            _drop(running)
        await asyncio.sleep(0)

    async def end_all(self) -> None:
        """End every machine, keeping the disks."""
        await asyncio.gather(*(self.end(host_id, keep_disk=True) for host_id in list(self._running)))

    async def processes(self) -> int:
        """How many processes run on all machines together."""
        marked = processes.marked(self.folder / "hosts")
        firsts = {running.login.spawner.pid for running in self._running.values()}
        return len(await asyncio.to_thread(processes.members, lambda p: p.parent in firsts or marked(p)))

    async def create_volume(self, name: str) -> None:
        """Make an empty volume. ValueError: the name is taken, or is no file name."""
        path = self.folder / "volumes" / _file_name(name)
        try:
            path.mkdir()
        except FileExistsError:
            raise ValueError(f"there is a volume {name} already") from None

    async def destroy_volume(self, name: str) -> None:
        """Remove a volume with all that is on it. ValueError while a machine mounts it; idempotent."""
        users = [running.host.spec.name for running in self._running.values() if running.host.spec.volume == name]
        if users:
            raise ValueError(f"volume {name} is mounted by {', '.join(users)}")
        await asyncio.to_thread(shutil.rmtree, self.folder / "volumes" / _file_name(name), ignore_errors=True)

    def volume_bytes(self, name: str) -> int:
        """What a volume holds now. It walks the whole folder: call it in a thread."""
        total = 0
        for top, _, files in os.walk(self.folder / "volumes" / _file_name(name)):
            for file in files:
                with contextlib.suppress(FileNotFoundError):  # a download renames its files while this walks
                    total += (Path(top) / file).lstat().st_size
        return total


async def _listen(host: str, port: int, login: Login, key: asyncssh.SSHKey) -> asyncssh.SSHAcceptor:
    return await asyncssh.listen(
        host,
        port,
        server_factory=lambda: MachineServer(login),
        server_host_keys=[key],
        password_auth=False,
        kbdint_auth=False,
        host_based_auth=False,
        gss_host=None,
        line_editor=False,
        allow_scp=True,
    )


def _drop(running: _Running) -> None:
    for connection in list(running.login.connections):
        connection.abort()


def _file_name(name: str) -> str:
    if not name or name != os.path.basename(name) or name in {".", ".."}:  # noqa: PTH119 - a test, not a path
        raise ValueError(f"{name!r} cannot be the name of a folder")
    return name


def _address(address: str | None) -> tuple[str, int]:
    host, _, port = (address or "127.0.0.1").partition(":")
    return host, int(port or 0)


def _keys(lines: str) -> list[asyncssh.SSHKey]:
    """Read authorised keys as sshd does: a line that is no key lets nobody in and stops nothing."""
    keys = []
    for line in lines.splitlines():
        try:
            keys.append(asyncssh.import_public_key(line))
        except asyncssh.KeyImportError:
            continue
    return keys
