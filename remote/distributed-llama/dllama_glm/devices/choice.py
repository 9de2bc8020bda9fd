"""Processor or card: what `--device` asks for, and what is here."""

from typing import TYPE_CHECKING

from dllama_glm.runtime.machine import has_nvidia_gpu

if TYPE_CHECKING:
    from dllama_glm.devices.card import Card
    from dllama_glm.parallel.cards import Seat

DEVICES = ("auto", "cpu", "cuda")


def cards_for(device: str) -> int:
    """How many cards this host's ranks may take: with "auto" those that are here; raises where none can be used.

    A card that is here and cannot be used is not passed over in silence: that would cost its price for nothing.
    """
    if device == "cpu" or (device == "auto" and not has_nvidia_gpu()):
        return 0
    from dllama_glm.devices.card import CardError, card_count, open_card

    if device == "cuda" and not has_nvidia_gpu():
        raise CardError("there is none here, or its driver is not loaded (/dev/nvidiactl is missing)")
    open_card(0)
    return card_count()


def card_of(seat: "Seat | None") -> "Card | None":
    """Open a rank's card; None for the processor."""
    if seat is None:
        return None
    from dllama_glm.devices.card import open_card

    return open_card(seat.card, seat.sharers)
