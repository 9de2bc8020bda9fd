"""Showing what a foreign plan would do, and remembering what was agreed to."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from orchestrator.report.console import say

if TYPE_CHECKING:
    from orchestrator.words.spec import RunSpec
    from orchestrator.world.home import Home


def show(home: Home, spec: RunSpec, *, err: bool) -> str:
    """Show the terms of a plan from a folder; the digest that stands for them, "" for the shipped plan.

    What was agreed to before, to the letter, is shown in a line.
    """
    from orchestrator.plan import resolve
    from orchestrator.plan.terms import digest, is_foreign, terms

    if not is_foreign(spec.plan):
        return ""
    lines = terms(spec.plan, resolve(spec.plan, spec.asked), spec.stores)
    found = digest([*lines, _where(spec)])
    if agreed := home.agreed().get(found):
        say(f"commands, secrets and addresses: as agreed to on {datetime.fromtimestamp(agreed):%Y-%m-%d}", err=err)  # noqa: DTZ006  for a person
        return found
    say(f"what this plan would do ({spec.plan.folder or ', '.join(spec.plan.read)}):", err=err)
    for line in [*lines, _where(spec)]:
        say(f"  {line}", err=err)
    return found


def _where(spec: RunSpec) -> str:
    """Where its commands run, and what they can reach there of the user's."""
    if spec.world.ssh_host:
        return f"the commands run on {spec.world.ssh_host}, as that user: NOT confined"
    if not spec.world.dry_run:
        return "the commands run on rented machines"
    from orchestrator.rehearsal import confine

    return f"the commands run on this computer, as you: {confine.how()}"
