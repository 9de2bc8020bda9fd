"""The emulated clouds in the caller's own process: no socket, no thread, and the time that the caller says it is.

The real adapters talk to the clouds' own code through an httpx transport:

    clouds = InProcessClouds(clock, seed=1, faults=["create-reply-lost"])
    runpod = open_provider("runpod", clouds.access("runpod"))

The clouds look at the clock whenever they are asked something, and do first what was to happen by then, each thing at
its own moment. Whoever moves the clock and wants a machine to be up (or taken away) without asking for it calls
`advance`, and finds in `next_change` when there will be something to do.
"""

from __future__ import annotations

import asyncio
import json
import random
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self, TypeVar

import httpx

from orchestrator.rehearsal.clouds.clock import HeldClock
from orchestrator.rehearsal.clouds.records import Span
from orchestrator.rehearsal.clouds.state import CloudState
from orchestrator.rehearsal.clouds.wire import Reply, Request
from orchestrator.rehearsal.faults import Switchboard
from orchestrator.rehearsal.paper_machines import Machine, PaperMachines
from orchestrator.words.access import ProviderAccess
from orchestrator.words.observed import Observed
from orchestrator.words.secret import Secret
from orchestrator.words.waiting import Clock

__all__ = ["Call", "InProcessClouds", "Machine"]

T = TypeVar("T")
LAMBDA_SSH_PORT = 22
MOST_TURNS = 10_000  # of the loop, for what was woken to act


@dataclass(frozen=True)
class Call:
    """One request as the clouds saw it. `status` None: the client got no reply, or half of one."""

    at: datetime
    method: str
    path: str
    body: Any  # parsed JSON; None where there was none
    status: int | None


class InProcessClouds:
    """RunPod and Lambda, with an account at each. The same seed and the same calls give the same clouds.

    Close it, or use it as a context manager. It is safe to use from several threads; the callbacks must not use it.
    """

    def __init__(  # noqa: PLR0913  what clouds are made of, all by name
        self,
        clock: Clock,
        *,
        seed: int = 0,
        faults: Iterable[str] = (),
        switchboard: Switchboard | None = None,
        observed: Mapping[str, Observed] | None = None,
        on_machine: Callable[[Machine], None] = lambda _machine: None,
        on_machine_end: Callable[[str], None] = lambda _machine_id: None,
        on_cut: Callable[[str], None] = lambda _machine_id: None,
        on_hang: Callable[[str], None] = lambda _machine_id: None,
    ) -> None:
        """Begin new clouds at the clock's moment; adapters wait with its `sleep`. `faults` are NAME or NAME@ARG.

        `switchboard`: where they are armed, which others may share; `observed`: what was seen of the real clouds.
        `on_machine` is called when a machine has booted, `on_machine_end` with its id when it was ended, stopped or
        taken away, `on_cut` when its connections drop while it goes on, `on_hang` when none is answered any more.

        ValueError: what is wrong with a fault.
        """
        self.calls: list[Call] = []  # every request, oldest first
        self.machines = PaperMachines(on_machine, on_machine_end, on_cut, on_hang)
        self._clock, self._time = clock, HeldClock(clock.now())
        dice = random.Random(seed)
        token = lambda size: dice.randbytes(size).hex()  # noqa: E731
        self._state = CloudState(self.machines, None, self._time, LAMBDA_SSH_PORT, token, switchboard, observed)
        for fault in faults:
            name, _, arg = fault.partition("@")
            self._state.arm(name, arg or None)
        self._loop, self._lock = _Loop(), threading.Lock()

    def __enter__(self) -> Self:
        """Nothing more to open."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Give up what goes on in the background. Idempotent."""
        if not self._loop.is_closed():
            self._loop.run_until_complete(self._state.context.close())
            self._loop.close()

    def access(self, provider: str, *, public_key: str = "", owner: str = "") -> ProviderAccess:
        """What an adapter is opened with: "runpod" or "lambda" over this transport, in the clock's time."""
        base = f"http://{provider}.test"
        return ProviderAccess(
            api_key=Secret(self._state.api_keys()[provider]),
            base_url=base + {"runpod": "/v2", "lambda": "/api/v1"}[provider],
            graphql_url=f"{base}/graphql",
            public_key=public_key,
            owner=owner,
            ssh_port=LAMBDA_SSH_PORT,
            transport=_Transport(self),
            now=lambda: self._clock.now().timestamp(),
            sleep=self._clock.sleep,
        )

    def fault(self, name: str, *, step: str = "", count: int = 1) -> None:
        """Arm a fault to happen so often, at this step where it happens at one. ValueError: what is wrong with it."""
        self._state.arm(name, f"{step}:{count}" if step else str(count))

    def faults(self) -> list[dict[str, Any]]:
        """What is armed and what has happened."""
        return self._state.faults()

    def step_started(self, step: str, machine: str) -> None:
        """Say that a step began on the machine of this name or id: faults at that step happen a second later."""
        self._run(self._state.step_started(step, machine))

    def advance(self) -> None:
        """Do whatever was to happen by the clock's moment."""
        self._run(_nothing())

    @property
    def next_change(self) -> datetime | None:
        """The moment of the next thing that happens by itself; None: nothing will, until something is asked."""
        return self._time.next

    def invoice(self) -> dict[str, Any]:
        """What machines and volumes have cost up to the clock's moment: decimal strings by name, and their total."""
        self.advance()
        return self._state.invoice()

    def bills(self) -> dict[str, list[Span]]:
        """By machine's name: when it was billed, and at which price."""
        self.advance()
        records = self._state.context.records
        found: dict[str, list[Span]] = {}
        for machine in (*records.pods.values(), *records.instances.values()):
            found.setdefault(machine.name, []).extend(machine.spans)
        return found

    def log(self) -> list[dict[str, Any]]:
        """Every change that happened, in order, with names and ids."""
        return self._state.log()

    def machines_left(self) -> list[str]:
        """The names of the machines that exist; a stopped pod does, since it can be started again."""
        self.advance()
        return self._state.alive()["machines"]

    def volumes_left(self) -> list[str]:
        """The names of the volumes that exist."""
        return self._state.alive()["volumes"]

    def breaches(self) -> list[str]:
        """Replies that broke the vendors' contracts, and background work that failed: none, ever."""
        return self._state.breaches()

    def ask(self, request: Request) -> Reply:
        """Let the clouds answer one request, and keep it in `calls`."""
        reply = self._run(self._state.answer(request))
        body = json.loads(request.body) if request.body else None
        status = reply.status if reply.reaches is None else None
        self.calls.append(Call(self._time.now(), request.method, request.path, body, status))
        return reply

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        with self._lock:
            return self._loop.run_until_complete(self._at_the_clocks_moment(work))

    async def _at_the_clocks_moment(self, work: Coroutine[Any, Any, T]) -> T:
        await self._time.advance(self._clock.now(), self._settle)
        result = await work
        await self._settle()
        return result

    async def _settle(self) -> None:
        """Wait until all background work waits for the clock."""
        for _ in range(MOST_TURNS):
            if self._state.context.background <= self._time.asleep:
                return
            await asyncio.sleep(0)
        raise RuntimeError("the clouds' background work waits for something other than the clock")


async def _nothing() -> None:
    return


class _Loop(asyncio.SelectorEventLoop):
    """Runs only while somebody asks; work that would go to a thread is done on the spot."""

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        del executor
        done: asyncio.Future[T] = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - whoever awaits it gets it
            done.set_exception(error)
        return done


class _Transport(httpx.BaseTransport):
    """Carries an adapter's requests to the clouds and their replies back, cuts included."""

    def __init__(self, clouds: InProcessClouds) -> None:
        self._clouds = clouds

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """See httpx.BaseTransport. RemoteProtocolError: the connection was cut before or within the reply."""
        url = request.url
        reply = self._clouds.ask(
            Request(
                method=request.method,
                path=url.path,
                query=url.params,
                headers=request.headers,
                body=request.read(),
                base_url=f"{url.scheme}://{url.netloc.decode()}",
            )
        )
        if reply.reaches == 0:
            raise httpx.RemoteProtocolError("server disconnected without sending a response", request=request)
        return httpx.Response(reply.status, headers=dict(reply.headers), stream=_Body(reply))


class _Body(httpx.SyncByteStream):
    def __init__(self, reply: Reply) -> None:
        self._reply = reply

    def __iter__(self) -> Iterator[bytes]:
        yield self._reply.body[: self._reply.reaches]
        if self._reply.reaches is not None:
            raise httpx.RemoteProtocolError("peer closed connection without sending complete message body")
