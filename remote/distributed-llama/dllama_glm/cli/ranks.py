"""A model on the ranks that the options ask for: this process alone, or at the head of workers."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dllama_glm.devices.choice import card_of, cards_for
from dllama_glm.parallel.addresses import parse_endpoints
from dllama_glm.parallel.cards import seated
from dllama_glm.runtime.architecture import Architecture
from dllama_glm.runtime.evidence import Place, gpus_used, publish, where
from dllama_glm.runtime.generate import Forward
from dllama_glm.runtime.machine import host_id, peak_memory_mib, threads_from

if TYPE_CHECKING:
    from dllama_glm.devices.card import Card
    from dllama_glm.parallel.team import Team
    from dllama_glm.runtime.device import Group
    from dllama_glm.runtime.model import Model


@dataclass(frozen=True)
class Formation:
    """How a model runs: on how many ranks, hosts and GPUs; `computed_by` is rank 0's (`model.Model.computed_by`).

    `capacity` are the positions of the cache.
    """

    ranks: int
    hosts: int
    gpus: int
    capacity: int
    computed_by: dict[str, Any]

    @property
    def place(self) -> Place:
        """Where its figures are measured."""
        return where(self.computed_by)

    def as_dict(self) -> dict[str, Any]:
        """Return it for a JSON document."""
        return {
            "ranks": self.ranks,
            "hosts": self.hosts,
            "gpus_used": self.gpus,
            "device": self.place.device,
            "measured_on": self.place.measured_on,
            "runtime": self.computed_by,
            "peak_memory_mib": peak_memory_mib(),
        }

    def publish(self, figures: dict[str, float]) -> None:
        """Publish figures, and what they were measured with."""
        own = self.as_dict()
        publish(figures | {name: own[name] for name in ("ranks", "hosts", "gpus_used", "peak_memory_mib")}, self.place)


class Ranks:
    """The ranks of one model, met and not yet at work; `team` is None where this process is the only one."""

    def __init__(
        self, options: argparse.Namespace, path: Path, architecture: Architecture, team: "Team | None", cards: int
    ) -> None:
        self._options, self._path, self._architecture, self._team = options, path, architecture, team
        self._exact = options.buffer_float_type == "f32"
        self._cards = cards

    def load(self) -> tuple[Forward, Formation]:
        """Have every rank load its part of the model."""
        if self._team is None:
            from dllama_glm.parallel.group import SingleGroup

            card = card_of(seated([(host_id(), self._cards)]).seats[0])
            model = self._model(SingleGroup(), threads_from(self._options.nthreads), card, self._capacity(card))
            return model, self._formation(model, round(gpus_used(model.computed_by)))
        from dllama_glm.parallel.team import Leader

        seating = self._team.seating(self._cards)
        card = card_of(seating.seats[0])
        capacity = self._capacity(card)
        group = self._team.form(self._architecture, capacity, seating, exact=self._exact)
        threads = threads_from(self._options.nthreads, self._team.ranks_on(host_id()))
        model = self._model(group, threads, card, capacity)
        gpus = self._team.loaded(group, gpus_used(model.computed_by))
        return Leader(model, self._team), self._formation(model, gpus)

    def _capacity(self, card: "Card | None") -> int:
        """Positions of the cache: as asked for; else the model's, on a card as many as fit beside the weights."""
        asked = self._options.max_seq_len
        if card is None or asked is not None:
            return min(asked or self._architecture.max_seq_len, self._architecture.max_seq_len)
        from dllama_glm.runtime.loader import positions_on

        ranks = self._team.ranks if self._team else 1
        return positions_on(card, self._path, self._architecture, 0, ranks, exact=self._exact)

    def _model(self, group: "Group", threads: int, card: "Card | None", capacity: int) -> "Model":
        from dllama_glm.runtime.loader import load_model

        return load_model(
            self._path,
            self._architecture,
            group,
            threads,
            max_seq_len=capacity,
            exact=self._exact,
            resident=False if self._options.low_memory else None,
            card=card,
        )

    def _formation(self, model: "Model", gpus: int) -> Formation:
        ranks, hosts = (self._team.ranks, self._team.hosts) if self._team else (1, 1)
        return Formation(ranks, hosts, gpus, model.capacity, model.computed_by)


@contextmanager
def gathered(options: argparse.Namespace, path: Path, architecture: Architecture) -> Iterator[Ranks]:
    """Meet the workers that the options ask for; they end with the block, and with its error if it has one."""
    cards = cards_for(options.device)
    endpoints = parse_endpoints(options.workers)
    workers = []
    if endpoints or options.port is not None:
        from dllama_glm.parallel.meeting import assemble

        workers = assemble(path, architecture, endpoints, options.port)
    if not workers:
        yield Ranks(options, path, architecture, None, cards)
        return
    from dllama_glm.parallel.team import Team

    team = Team(workers)
    ranks = Ranks(options, path, architecture, team, cards)
    with team.at_work():
        yield ranks
    team.close()
