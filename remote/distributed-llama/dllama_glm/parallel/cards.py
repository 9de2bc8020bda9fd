"""Which card each rank computes on, and whether the ranks' sums can stay on the cards."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Seat:
    """A rank's card by its number on its host, and how many ranks share it."""

    card: int
    sharers: int = 1

    def as_message(self) -> dict[str, Any]:
        """Return it for the wire."""
        return asdict(self)


@dataclass(frozen=True)
class Seating:
    """The seats of all ranks, in rank order; None: that rank computes on the processor."""

    seats: tuple[Seat | None, ...]

    @property
    def on_cards(self) -> bool:
        """Whether sums can go from card to card by NCCL, which takes a card of its own for every rank."""
        return all(seat is not None and seat.sharers == 1 for seat in self.seats)


def seated(ranks: list[tuple[str, int]]) -> Seating:
    """Deal out cards, given each rank's host and how many cards that has: a host's ranks take its cards in turns."""
    hosts = [host for host, _ in ranks]
    seats: list[Seat | None] = []
    for number, (host, cards) in enumerate(ranks):
        if not cards:
            seats.append(None)
            continue
        card = hosts[:number].count(host) % cards
        sharers = len(range(card, hosts.count(host), cards))
        seats.append(Seat(card, sharers))
    return Seating(tuple(seats))
