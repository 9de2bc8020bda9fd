"""Showing what a foreign plan would do, and remembering what was agreed to."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from orchestrator.report.console import say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.words.model import Plan
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


def withheld(home: Home, plan: Plan, stores: Sequence[str]) -> tuple[str, ...]:
    """Those of the stores whose address is a foreign plan's, and was not agreed to yet: nothing is signed for them."""
    from orchestrator.plan.terms import digest, is_foreign, sent_to

    if not is_foreign(plan):
        return ()
    agreed = home.agreed()
    return tuple(u for u in stores if u in plan.settings.stores and sent_to(u) and digest([sent_to(u)]) not in agreed)


def agree(home: Home, agreed: str, stores: Sequence[str]) -> None:
    """Remember that these terms were agreed to, and with them the addresses of these stores."""
    from orchestrator.plan.terms import digest, sent_to

    home.agree(agreed)
    for line in {sent_to(url) for url in stores} - {""}:
        home.agree(digest([line]))


def _where(spec: RunSpec) -> str:
    """Where its commands run, and what they can reach there of the user's."""
    if spec.world.ssh_host:
        return f"the commands run on {spec.world.ssh_host}, as that user: NOT confined"
    if not spec.world.dry_run:
        return "the commands run on rented machines"
    from orchestrator.rehearsal import confine

    return f"the commands run on this computer, as you: {confine.how()}"
