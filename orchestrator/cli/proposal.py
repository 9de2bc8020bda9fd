"""From what was asked to what will be done: provider, place, preview; refuses what cannot work before it costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal

from orchestrator.cli import preflight
from orchestrator.cli.earlier import done_steps, frozen, without_finished
from orchestrator.cli.input_sizes import with_sizes
from orchestrator.cli.terms import withheld
from orchestrator.config.prices import PriceList, load_prices
from orchestrator.engine import accounting
from orchestrator.engine.resting import resting
from orchestrator.ledger import Ledger
from orchestrator.ledger.rows import VolumeRow
from orchestrator.plan import (
    PhaseRun,
    Preview,
    described,
    kinds,
    may_stage,
    misplaced,
    networked,
    ranked,
    resolve,
    with_disk,
)
from orchestrator.plan.preview import Market, preview
from orchestrator.report import history
from orchestrator.transport.code import Code
from orchestrator.words.errors import NoMachine, ProviderUnavailable, UsageError
from orchestrator.words.lifecycle import RunState
from orchestrator.words.model import Phase, Plan
from orchestrator.words.provider import Capability, Offer, Provider
from orchestrator.words.retry import retrying
from orchestrator.words.spec import RunSpec, WorldSpec
from orchestrator.world.home import Home
from orchestrator.world.real import real
from orchestrator.world.world import World

STORE_PATIENCE_S = 60.0  # of the cloud's time, before anything is rented


@dataclass(frozen=True, slots=True)
class Proposal:
    """A run that can begin. `up_to_date`: when everything in it was done last; "": there is something to do."""

    spec: RunSpec
    preview: Preview
    volume: str = ""  # the volume that is there already; "": there is none yet
    leaving: str = ""  # what a move leaves behind and does again; "": the plan stays where it is
    up_to_date: str = field(default="")
    passed_over: tuple[str, ...] = ()  # providers that would have been taken first, each with the reason


def propose(
    world: World, spec: RunSpec, code: Code, *, only: bool, check: bool, strictly: bool = False, chain: bool = False
) -> Proposal:
    """Choose provider and place, compute the preview, check stores and secrets. Nothing is created.

    `strictly`: what failed a while ago is not tried, whether anything else would do or not; `chain`: nor what failed in
    the runs that this one goes on with, however long ago.
    """
    home, ledger = world.home, world.ledger
    spec = spec.model_copy(update={"plan": with_sizes(spec.plan, world.source, spec.asked)})
    require_free(home, ledger, spec)
    volume, leaving = living_volume(ledger, spec), ""
    if volume and spec.moves_to:
        leaving = _left(ledger, spec, code, volume)
        volume = None
    seen, as_of = done_steps(ledger, spec, code, volume)
    done = seen - frozenset(spec.force)
    spec = spec if check else without_finished(home, ledger, spec, done)
    if not spec.asked:
        return Proposal(spec, preview(spec.plan, (), Market()), up_to_date=as_of)
    phases = resolve(spec.plan, spec.asked)
    open_steps = [s for p in phases for s in p.steps if s.id not in done]
    if only and (pulled := [s.id for s in open_steps if s.pulled_in]):
        raise UsageError(f"steps of other phases are missing: {', '.join(pulled)}", remedy="run without --only")
    if not spec.world.ssh_host:  # that machine is what it is
        _require_fitting(spec.plan, phases, done)
    world.require_secrets({name for step in open_steps for name in step.secrets})
    _require_stores(spec, phases)
    if volume:
        _require_own(home, volume, spec)
    providers, without_key = _providers(world, spec, volume)
    choice = preflight.choose(
        phases,
        providers,
        spot=spec.spot,
        spot_or_demand=spec.spot_or_demand,
        place=volume.place or None if volume else spec.place,
        network=networked(spec.plan, [p.phase for p in phases]),
        cuda=spec.plan.settings.cuda,
        done=done,
        rests=resting(ledger, spec, world.clock, chain=chain),
        strictly=strictly,
    )
    unseen = withheld(home, spec.plan, spec.stores)
    check_stores(world, [url for url in spec.stores if url not in unseen])
    market = _market(ledger, spec.plan, phases, choice, done, len(spec.stores))
    market = replace(
        market,
        spent_usd=accounting.accrued_with_earlier(ledger, spec.run),
        idle=frozenset(spec.done_before),
        looked_at=choice.looked_at,
    )
    chosen = _settled(spec, choice, done)
    return Proposal(
        chosen,
        replace(preview(spec.plan, _shown(spec, phases), market), credit_usd=choice.provider.credit()),
        volume.name if volume else "",
        leaving,
        passed_over=_before(spec, choice.provider.name, without_key) + choice.passed_over,
    )


def _left(ledger: Ledger, spec: RunSpec, code: Code, volume: VolumeRow) -> str:
    """What a move leaves behind, and which steps it does again. UsageError: a volume of the plan is at that place."""
    if volume.place == spec.moves_to:
        raise UsageError(f"the plan's volume {volume.name} is in {volume.place} already", remedy="leave --move out")
    if old := [v for v in accounting.living_volumes(ledger, spec) if v.place == spec.moves_to]:
        raise UsageError(
            f"{old[0].name}, which the plan has left, is in {spec.moves_to} still",
            remedy=f"gpuplan down --volumes {old[0].run} asks which volume to delete",
        )
    done, _ = done_steps(ledger, spec, code, volume)
    again = [step.id for phase in resolve(spec.plan, spec.asked) for step in phase.steps if step.id in done]
    return (
        f"moves from {volume.place} to {spec.moves_to}; does again: {', '.join(again) or 'nothing'}\n"
        f"stays behind: {volume.name}, ${volume.price_hour * 24:.2f} a day until `gpuplan down --volumes {volume.run}`"
    )


def check_stores(world: World, stores: Sequence[str]) -> None:
    """Send a small object the whole way. One that is unwell is asked again for a while: nothing is rented yet."""
    for url in stores:
        retrying(world.store(url).check, within_s=STORE_PATIENCE_S, time_scale=world.clock.scaled(1.0))


def _settled(spec: RunSpec, choice: preflight.Choice, done: frozenset[str]) -> RunSpec:
    """The run with all that was chosen for it."""
    return spec.model_copy(
        update={
            "world": spec.world.model_copy(update={"provider": choice.provider.name}),
            "place": choice.place,
            "movable": choice.movable,
            "seen_done": tuple(sorted(done)),
            "looked_at": tuple(sorted(choice.looked_at)),
            "staged": tuple(sorted(choice.staged)),
        }
    )


def _before(spec: RunSpec, chosen: str, without_key: dict[str, str]) -> tuple[str, ...]:
    """The providers that come before the chosen one in the settings, and cannot be asked."""
    order = spec.plan.settings.providers
    first = order[: order.index(chosen)] if chosen in order else ()
    return tuple(f"{name}: {without_key[name]}" for name in first if name in without_key)


def _shown(spec: RunSpec, phases: tuple[PhaseRun, ...]) -> list[PhaseRun]:
    """Every phase that was asked for, those with nothing to do too, in the plan's order."""
    held = {p.phase.name: p for p in phases}
    return [held.get(name) or PhaseRun(spec.plan.phase(name), ()) for name in spec.wanted]


def _require_fitting(plan: Plan, phases: tuple[PhaseRun, ...], done: frozenset[str]) -> None:
    """UsageError when a step of another phase would have to run on a machine that is too small for it."""
    for run in phases:
        for step in misplaced(plan, run, done):
            own = plan.phase(step.phase).machine
            raise UsageError(
                f"{run.phase.name} needs {step.id}, which is not done and is written for {described(own)}; "
                f"{run.phase.name} has {described(run.phase.machine)}",
                remedy=f"run {step.phase} first, or both, each on its machine: "
                f"gpuplan run {step.phase} {run.phase.name}",
            )


def require_free(home: Home, ledger: Ledger, spec: RunSpec) -> None:
    """UsageError while another run of this plan has not ended: both would write to the same volume."""
    wanted = _labels(spec)
    for row in ledger.runs.all():
        name = row.id
        if name == spec.run or row.state == RunState.DONE or (other := frozen(home, name)) is None:
            continue
        if (other.cloud, other.world.ssh_host) != (spec.cloud, spec.world.ssh_host) or not wanted & _labels(other):
            continue
        if not home.is_driven(name):
            raise UsageError(
                f"{name} was left unfinished, and works on the same volume",
                remedy=f"gpuplan resume {name} goes on with it, gpuplan down {name} ends what it left",
            )
        raise UsageError(
            f"{name} is running, and works on the same volume",
            remedy=f"gpuplan logs -f {name} looks on, gpuplan down {name} ends it",
        )


def _require_own(home: Home, volume: VolumeRow, spec: RunSpec) -> None:
    """UsageError when a plan in another folder made this volume: two plans of one name are not one plan."""
    maker = frozen(home, volume.run)
    if maker and not spec.plan.settings.plan and maker.plan.folder != spec.plan.folder:
        made_in = maker.plan.folder or "gpuplan itself"
        raise UsageError(
            f"the volume {volume.name} was made by the plan in {made_in}; this one is in "
            f"{spec.plan.folder or 'gpuplan itself'}",
            remedy="give this plan a name of its own in its gpuplan.yaml (plan: NAME); "
            f"if it is the same plan and was moved: plan: {spec.plan.name}",
        )


def _labels(spec: RunSpec) -> set[str]:
    """What the volumes of the asked phases are known by."""
    return {spec.label(p.volume) for p in spec.plan.phases if p.volume and p.name in spec.wanted}


def _require_stores(spec: RunSpec, phases: tuple[PhaseRun, ...]) -> None:
    """UsageError when a deliverable is to be uploaded and there is nowhere to."""
    for phase in phases:
        if any(d.uploaded for d in phase.phase.deliverables) and not spec.stores:
            raise UsageError(
                f"{phase.phase.name} saves its artifacts, and no store is configured",
                remedy="--store s3://bucket/prefix (or gs://…), or stores: in the configuration",
            )


def _providers(world: World, spec: RunSpec, volume: VolumeRow | None) -> tuple[list[Provider], dict[str, str]]:
    """The providers to ask, best first: the one that was named, the one that has the volume, or the settings'.

    Beside them those that cannot be asked, with the reason.
    """
    names = [spec.world.provider] if spec.world.provider else list(spec.plan.settings.providers)
    if volume and volume.provider not in names:
        raise NoMachine(
            f"the plan's volume {volume.name} is at {volume.provider}", remedy=f"--provider {volume.provider}"
        )
    if volume:
        names = [volume.provider]
    return world.providers(names)


def living_volume(ledger: Ledger, spec: RunSpec) -> VolumeRow | None:
    """The plan's volume, where an earlier run left it; None: there is none yet."""
    living = [r for r in accounting.living_volumes(ledger, spec) if r.label in _labels(spec)]
    return living[-1] if living else None


def _market(
    ledger: Ledger,
    plan: Plan,
    phases: tuple[PhaseRun, ...],
    choice: preflight.Choice,
    done: frozenset[str],
    stores: int,
) -> Market:
    sizes = {p.phase.volume.size_gb for p in phases if p.phase.volume}
    provider = choice.provider
    has_volume = sizes and Capability.VOLUMES in provider.capabilities
    return Market(
        offers=choice.offers,
        dearest=choice.dearest,
        cpu=choice.cpu,
        dearest_cpu=choice.dearest_cpu,
        staged=choice.staged,
        volume_price_hour=provider.volume_price_hour(max(sizes)) if has_volume else Decimal(0),
        earlier=history.earlier(ledger, plan),
        rates=history.rates(ledger, plan),
        metrics=history.metrics(ledger),
        done=done,
        stores=stores,
    )


def _listed(prices: PriceList, phase: Phase, *, spot: bool) -> list[tuple[bool, list[Offer]]]:
    return [(kind, prices.offers(phase.machine, spot=kind)) for kind in kinds(phase, spot=spot, spot_or_demand=False)]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A preview, and whose prices it is made with."""

    preview: Preview
    prices_from: str


def estimate(
    home: Home, ledger: Ledger, plan: Plan, asked: tuple[str, ...], *, provider: str | None, spot: bool
) -> Estimate:
    """What a run would take, at the prices of a provider whose key is set, else at the dated list in configs/.

    NoMachine: the provider that was named does not serve it.
    """
    world = real(home, ledger, WorldSpec(provider=""))
    plan = with_sizes(plan, world.source, tuple(p.phase.name for p in resolve(plan, asked)))
    phases = resolve(plan, asked)
    for name in [provider] if provider else plan.settings.providers:
        try:
            found = world.provider(name)
            network = networked(plan, [p.phase for p in phases])
            choice = preflight.choose(
                phases, [found], spot=spot, spot_or_demand=False, place=None, network=network, cuda=plan.settings.cuda
            )
        except (UsageError, NoMachine, ProviderUnavailable):
            if provider:
                raise
            continue
        return Estimate(preview(plan, phases, _market(ledger, plan, phases, choice, frozenset(), 1)), f"{name}, now")
    prices = load_prices()
    sizes = [p.phase.volume.size_gb for p in phases if p.phase.volume]
    offers = {
        p.name: fitting[0] for p in plan.phases if (fitting := ranked(p, _listed(prices, p, spot=spot), place=None))
    }
    market = Market(
        offers=offers,
        cpu=with_disk(prices.cpu_offer(), max(p.phase.machine.disk_gb for p in phases)),
        staged=frozenset(run.phase.name for run in phases if may_stage(run)),
        volume_price_hour=prices.volume_hour(max(sizes)) if sizes else Decimal(0),
        earlier=history.earlier(ledger, plan),
        rates=history.rates(ledger, plan),
        metrics=history.metrics(ledger),
        stores=1,
    )
    return Estimate(preview(plan, phases, market), f"{prices.provider}'s list of {prices.read_on}: no key is set")
