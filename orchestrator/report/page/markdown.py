"""The account of a run as Markdown, for a pull request or a message: what holds, what it cost, what it measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal

from orchestrator.report import verdicts
from orchestrator.report.figures import duration, elapsed, hours, money, plain, size
from orchestrator.report.page.account import Account
from orchestrator.report.page.text import markdown
from orchestrator.report.verdicts import Verdict

STANDS_IN = "A rehearsal: a CPU stood in for the GPUs, tiny models for the real ones, and nothing was paid."
MARKS = {True: "ok", False: "FAILED", None: "not shown here"}


def page(account: Account) -> str:
    """The whole text. What others wrote in it means nothing to Markdown, mentions nobody and is no HTML."""
    seen = account.seen
    took = elapsed(seen.started, seen.ended, account.until)
    lines = [f"## {markdown(seen.plan)} `{seen.run}`: {markdown(account.outcome)}", ""]
    if seen.dry_run:
        lines += [f"> {STANDS_IN}", ""]
    if account.reason:
        lines += [f"**Why:** {markdown(account.reason)}", ""]
    cap = f" of {money(seen.budget_usd)}" if seen.budget_usd is not None else ""
    plan = f"; the plan said {money(account.planned_usd)}" if account.planned_usd is not None else ""
    lines += [f"{took or 'Not begun'}, {money(seen.cost_usd)}{cap}{plan}; {verdicts.summary(account.verdicts)}.", ""]
    lines += [*_deliverables(account.verdicts), *_costs(account)]
    lines += _section(
        "Expected and measured",
        ("what", "the plan expects", "in fact", "measured", "where"),
        [(b.what, b.plan, b.fact, b.measured or "not measured", b.where) for b in account.benchmarks],
    )
    measured = [
        (m.step + (f", node {m.node}" if m.node else ""), m.name, plain(m.value), m.measured_on)
        for m in account.measures
    ]
    lines += _folded(f"Everything that was measured ({len(measured)})", ("step", "figure", "value", "where"), measured)
    artifacts = [(s.called, size(s.bytes), s.sha256 or "not known yet", ", ".join(s.stores)) for s in account.saved]
    lines += _folded(f"Artifacts ({len(artifacts)})", ("file", "size", "sha256", "verified in"), artifacts)
    return "\n".join([*lines, f"Made by gpuplan {account.version}, as of {account.until:%Y-%m-%d %H:%M} UTC."]) + "\n"


def _deliverables(found: Sequence[Verdict]) -> Iterable[str]:
    """What does not hold, or was not shown, stands open; what holds is folded away."""
    rows = [(MARKS[v.ok] if v.answered else "not asked", v.phase, v.name, v.detail) for v in found]
    head = ("verdict", "phase", "deliverable", "evidence")
    others = [row for row, verdict in zip(rows, found, strict=True) if verdict.ok is not True]
    good = [row for row, verdict in zip(rows, found, strict=True) if verdict.ok is True]
    yield from _section("Deliverables", head, others)
    yield from _folded(f"Deliverables that hold ({len(good)})", head, good)


def _costs(account: Account) -> Iterable[str]:
    bill = account.bill
    rows = [
        (p.phase, duration(p.hours * 3600) if p.hours else "-", money(p.usd), hours(p.planned_hours),
         money(p.planned_usd))
        for p in bill.phases
    ]  # fmt: skip
    if bill.volumes_usd:
        rows.append(("volumes", "", money(bill.volumes_usd), "", ""))
    total = sum((p.hours for p in bill.phases), Decimal(0))
    rows.append(
        ("total", duration(total * 3600) if total else "-", money(bill.total_usd), "", money(account.planned_usd))
    )
    return _section("Cost", ("phase", "took", "cost", "plan's hours", "plan's dollars"), rows)


def _section(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"### {title}", "", *table(head, rows), ""] if rows else []


def _folded(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    if not rows:
        return []
    return ["<details>", f"<summary>{title}</summary>", "", *table(head, rows), "", "</details>", ""]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table; what stands in its cells means nothing to Markdown."""
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return [*lines, *(f"| {' | '.join(markdown(cell) for cell in row)} |" for row in rows)]
