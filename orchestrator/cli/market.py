"""What each provider has for the machines of some phases: what would be tried, in order, and why the rest would not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from orchestrator.cli import preflight
from orchestrator.plan import PhaseRun, bare, crews_of, described, kinds, networked, sorted_out
from orchestrator.plan.sorting import Key, LeftOut
from orchestrator.words.errors import AccountRefused, NoMachine, ProviderUnavailable
from orchestrator.words.model import Plan
from orchestrator.words.provider import Offer, Provider

OLD_DRIVERS = (
    "none with CUDA"  # in place of a catalogue's word, where its hosts have older drivers than the image needs
)


@dataclass(frozen=True)
class CrewOffers:
    """The machines of a phase that come and go together."""

    phase: str
    crew: str
    needs: str
    nodes: int
    tried: tuple[Offer, ...]
    left_out: tuple[LeftOut, ...]


@dataclass(frozen=True)
class ProviderOffers:
    """One provider. `why`: it does not serve these phases; "": it does, at `place` (None: anywhere)."""

    provider: str
    place: str | None
    cuda: str  # what its images need of a machine's driver; "": nothing
    crews: tuple[CrewOffers, ...] = ()
    why: str = ""


@dataclass
class Survey:
    """Asks providers for the machines of these phases."""

    plan: Plan
    phases: Sequence[PhaseRun]
    spot: bool = False
    spot_or_demand: bool = False
    place: str | None = None  # where the plan's volume is; None: free to choose
    rests: Mapping[Key, str] = field(default_factory=dict)

    def of(self, provider: Provider) -> ProviderOffers:
        """What it has. Never raises for what one provider says or does not say."""
        cuda = self.plan.settings.cuda.get(provider.name, "")
        network = networked(self.plan, [run.phase for run in self.phases])
        try:
            found = preflight.served(
                self.phases, provider, spot=self.spot, spot_or_demand=self.spot_or_demand, place=self.place,
                network=network, cuda=cuda, rests=self.rests,
            )  # fmt: skip
            place, staged, why = found.place, found.staged, ""
        except (AccountRefused, ProviderUnavailable) as error:
            return ProviderOffers(provider.name, self.place, cuda, why=str(error))
        except NoMachine as error:
            place, staged, why = self.place, frozenset[str](), error.message
        try:
            crews = self._crews(provider, place, staged, cuda)
        except (AccountRefused, ProviderUnavailable) as error:
            return ProviderOffers(provider.name, place, cuda, why=str(error))
        return ProviderOffers(provider.name, place, cuda, crews, why)

    def _crews(
        self, provider: Provider, place: str | None, staged: frozenset[str], cuda: str
    ) -> tuple[CrewOffers, ...]:
        asked = _Catalogue(provider, cuda)
        found = []
        for run in self.phases:
            need = run.phase.machine
            for crew in crews_of(run, need, staged=run.phase.name in staged):
                phase = run.phase.model_copy(update={"machine": crew.need})
                sold = [
                    (kind, asked.offers(crew.need.count if crew.need.gpu else 0, spot=kind))
                    for kind in kinds(phase, spot=self.spot, spot_or_demand=self.spot_or_demand)
                ]
                tried, left = sorted_out(phase, sold, place=place, rests=self.rests)
                needs = described(bare(crew.need) if not crew.need.gpu else crew.need)
                found.append(
                    CrewOffers(run.phase.name, str(crew.name), needs, len(crew.nodes), _once(tried), tuple(left))
                )
        return tuple(found)


class _Catalogue:
    """A provider's offers; each question is asked once."""

    def __init__(self, provider: Provider, cuda: str) -> None:
        self._provider, self._cuda = provider, cuda
        self._answers: dict[tuple[int, bool], list[Offer]] = {}

    def offers(self, gpus: int, *, spot: bool) -> list[Offer]:
        """Those with so many GPUs, of that kind. What is in stock on older drivers alone says so."""
        if (gpus, spot) not in self._answers:
            cuda = self._cuda if gpus else ""
            found = self._provider.offers(gpus=gpus, spot=spot, min_cuda=cuda)
            if cuda and not all(offer.available for offer in found):
                anyhow = {_at(o) for o in self._provider.offers(gpus=gpus, spot=spot) if o.available}
                found = [_on_old_drivers(o, cuda) if not o.available and _at(o) in anyhow else o for o in found]
            self._answers[gpus, spot] = found
        return self._answers[gpus, spot]


def _at(offer: Offer) -> tuple[str, str]:
    return offer.type_id, offer.place


def _on_old_drivers(offer: Offer, cuda: str) -> Offer:
    return replace(offer, stock=f"{OLD_DRIVERS} {cuda}")


def _once(offers: Sequence[Offer]) -> tuple[Offer, ...]:
    """A type that a provider has under several names is tried once."""
    return tuple({(o.type_id, o.place, o.spot): o for o in reversed(offers)}.values())[::-1]
