"""Every error that a user of gpuplan can meet, and the exit code that each one means.

GpuplanError
  UsageError                  2  a flag, an argument, or a question that nobody could answer
    ConfigError               2  a YAML file is wrong; says file, line, column and the remedy
  StepFailed                  3  a step or a deliverable of the plan failed
  NoMachine                   4  no provider could or would give the machine
    Refused                   4  the provider answered no: nothing was created
      NoCapacity              4  ... for want of machines: the next candidate may do
      AccountRefused          4  ... the account (401, 402, 403): no candidate will do
      RequestRefused          4  ... the request itself (422): it is wrong whatever machine it asks for
  Ambiguous                   4  a create whose result is unknown: look by name before anything else
  OverBudget                  5  the budget is used up, or the estimate is above it
  Interrupted                 6  Ctrl-C, SIGTERM, `gpuplan down`
  StillRunning                7  something may still cost money; says the command that ends it
  ConnectionLost              -  the machine cannot be reached just now: retried, then MachineLost
  MachineLost                 -  the machine is gone for good: replaced, or NoMachine
  ProviderUnavailable         -  a provider's API fails for now (429, 5xx, network): retried
    StoreUnavailable          3  ... a store's: no machine is to blame
      StoreBusy               3  ...... that asks for patience (429, 503): waited for as long as the phase may take
  DatabaseBusy                1  our own database is held by another process (7: while a machine may live)
"""

from __future__ import annotations

import re
from enum import IntEnum

from orchestrator.words.secret import hide

_ADVICE = re.compile(r"\s*(\[SQL: .*|\(Background on this error at: \S+\))", re.DOTALL)


def plainly(text: str) -> str:
    """The text without what a library adds for those who program with it."""
    return _ADVICE.sub("", text)


class ExitCode(IntEnum):
    """What the shell sees. When several hold, 7 > 6 > 5 > 4 > 3."""

    DONE = 0
    INTERNAL = 1
    USAGE = 2
    FAILED = 3
    NO_MACHINE = 4
    OVER_BUDGET = 5
    INTERRUPTED = 6
    STILL_RUNNING = 7


class GpuplanError(Exception):
    """What happened and where; `remedy` says what to do about it (empty: nothing to add). No secret shows in them."""

    exit_code = ExitCode.INTERNAL

    def __init__(self, message: str, *, remedy: str = "") -> None:
        self.message, self.remedy = hide(plainly(message)), hide(remedy)
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.message}\n  {self.remedy}" if self.remedy else self.message


class UsageError(GpuplanError):
    """A flag, an argument, or a question without anybody to answer it."""

    exit_code = ExitCode.USAGE


class ConfigError(UsageError):
    """A mistake in a file of the user's: `where` is file:line:column."""

    def __init__(self, message: str, *, where: str = "", remedy: str = "") -> None:
        super().__init__(f"{where}: {message}" if where else message, remedy=remedy)
        self.where = where


class StepFailed(GpuplanError):
    """A step ended badly or a deliverable does not hold."""

    exit_code = ExitCode.FAILED


class NoMachine(GpuplanError):
    """No provider could or would give a machine that fits."""

    exit_code = ExitCode.NO_MACHINE


class Refused(NoMachine):
    """The provider's answer was a definite no: nothing exists."""


class NoCapacity(Refused):
    """A definite no for want of machines: another type or place may do."""


class AccountRefused(Refused):
    """The account itself is refused (401, 402, 403): no candidate of this provider will do."""


class RequestRefused(Refused):
    """The request itself is wrong (422): it would be for every candidate."""


class Ambiguous(NoMachine):
    """A create was sent and its result is unknown (time-out, reset, 5xx, half a body)."""


class OverBudget(GpuplanError):
    """The budget is used up, or would be."""

    exit_code = ExitCode.OVER_BUDGET


class Interrupted(GpuplanError):
    """Somebody asked the run to stop. An ordinary Exception, so that a durable step records it."""

    exit_code = ExitCode.INTERRUPTED


class StillRunning(GpuplanError):
    """Something may still cost money: the remedy is the command that ends it."""

    exit_code = ExitCode.STILL_RUNNING


class DatabaseBusy(GpuplanError):
    """Another process holds our own database, and was waited for. `may_cost`: a machine may live meanwhile."""

    def __init__(self, message: str, *, remedy: str = "", may_cost: bool = False) -> None:
        super().__init__(message, remedy=remedy)
        self.exit_code = ExitCode.STILL_RUNNING if may_cost else ExitCode.INTERNAL


class ConnectionLost(GpuplanError):
    """The machine cannot be reached just now; whatever runs there may go on."""

    exit_code = ExitCode.NO_MACHINE


class HostKeyChanged(ConnectionLost):
    """Another machine answers at this address, or the machine was made anew: never trusted silently."""


class NobodyListens(ConnectionLost):
    """No TCP connection comes about: what would answer over SSH has not begun to listen, or nothing leads there."""


class KeyRefused(ConnectionLost):
    """It answers over SSH, and does not take our key."""


class MachineLost(GpuplanError):
    """The provider's word: this machine is gone, or will never be reachable."""

    exit_code = ExitCode.NO_MACHINE


class ProviderUnavailable(GpuplanError):
    """A provider's API fails for now. `retry_after` is in seconds; None: it did not say."""

    exit_code = ExitCode.NO_MACHINE

    def __init__(self, message: str, *, retry_after: float | None = None, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.retry_after = retry_after


class StoreUnavailable(ProviderUnavailable):
    """A store fails for now."""

    exit_code = ExitCode.FAILED


class StoreBusy(StoreUnavailable):
    """A store takes nothing just now and asks for patience: 429, 503, SlowDown."""

    STATUSES = frozenset({429, 503})  # of HTTP
