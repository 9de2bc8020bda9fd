"""What earlier runs of the same plan have done: which steps hold as last seen, which phases have nothing to do."""

from __future__ import annotations

from orchestrator.engine.artifacts import manifest_files
from orchestrator.ledger import Ledger
from orchestrator.ledger.rows import VolumeRow
from orchestrator.plan import accepted_keys
from orchestrator.report import history
from orchestrator.transport.code import Code
from orchestrator.words.errors import UsageError
from orchestrator.words.lifecycle import Outcome
from orchestrator.words.model import Phase
from orchestrator.words.spec import RunSpec
from orchestrator.world.home import Home


def done_steps(ledger: Ledger, spec: RunSpec, code: Code, volume: VolumeRow | None) -> tuple[frozenset[str], str]:
    """The steps whose records held when the volume was last seen, and when that was."""
    if volume is None:
        return frozenset(), ""
    keys = accepted_keys(spec.plan, code.files)
    rows = [r for r in ledger.records.all(volume=volume.name) if r.key in keys.get(r.step, ())]
    services = {f"{p.name}/{s.name}" for p in spec.plan.phases for s in p.steps if s.ready}
    done = frozenset(r.step for r in rows)
    return (done | services if done else done), history.as_text(max((r.at or 0.0 for r in rows), default=0.0))


def frozen(home: Home, run: str) -> RunSpec | None:
    """What a run was; None where it cannot be read: it must not stand in the way of others."""
    home.bring(run)
    try:
        return RunSpec.load(home.run_folder(run))
    except UsageError:
        return None


def without_finished(home: Home, ledger: Ledger, spec: RunSpec, done: frozenset[str]) -> RunSpec:
    """The run without those phases of which nothing is left to do: they are noted as done before."""
    runs = [(row.id, other) for row in reversed(ledger.runs.all()) if (other := _same(home, row.id, spec))]
    found = {}
    for name in spec.wanted:
        phase = spec.plan.phase(name)
        if all(f"{name}/{step.name}" in done for step in phase.steps):
            found[name] = _finisher(home, ledger, spec, runs, phase)
    before = {name: run for name, run in found.items() if run}
    asked = tuple(name for name in spec.wanted if name not in before)
    return spec.model_copy(update={"asked": asked, "done_before": before})


def _finisher(home: Home, ledger: Ledger, spec: RunSpec, runs: list[tuple[str, RunSpec]], phase: Phase) -> str:
    """The last run of the phase, if it came to a good end with its artifacts in every store that is asked for, else "".

    Steps that are done are not all: a deliverable may have failed or be a new one, or the upload been cut short.
    """
    for run, then in runs:
        row = ledger.phases.maybe(run=run, name=phase.name)
        if row is None:
            continue
        if origin := then.done_before.get(phase.name):
            home.bring(origin)
            run, then = origin, RunSpec.load(home.run_folder(origin))  # noqa: PLW2901  it is that run's word that counts
        before = then.plan.phase(phase.name)
        asks = (before.deliverables, before.artifacts, before.pack, before.pull_to)
        if row.outcome != Outcome.SUCCEEDED or asks != (phase.deliverables, phase.artifacts, phase.pack, phase.pull_to):
            return ""
        return run if not phase.artifacts or _is_saved(home, ledger, spec, run, phase.name) else ""
    return ""


def _is_saved(home: Home, ledger: Ledger, spec: RunSpec, run: str, phase: str) -> bool:
    """Whether every artifact of the phase of that run is verified in every store of this one."""
    manifest = home.run_folder(run) / f"manifest-{phase}.json"
    wanted = {file.name for file in manifest_files(manifest.read_text())} if manifest.exists() else set()
    stored = [{a.name for a in ledger.artifacts.all(run=run, store=s, state="VERIFIED")} for s in spec.stores]
    return bool(wanted) and all(wanted <= names for names in stored)


def _same(home: Home, run: str, spec: RunSpec) -> RunSpec | None:
    """What that run was, if it was of the same plan at the same place."""
    other, this = frozen(home, run), (spec.plan.name, spec.plan.folder, spec.cloud, spec.world.ssh_host)
    if other and (other.plan.name, other.plan.folder, other.cloud, other.world.ssh_host) == this:
        return other
    return None
