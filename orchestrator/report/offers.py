"""What is for sale, for people and for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TextIO

from rich.console import RenderableType
from rich.text import Text

from orchestrator.report import rendering
from orchestrator.report.figures import money
from orchestrator.words.outside import quoted

if TYPE_CHECKING:
    from orchestrator.cli.market import CrewOffers, ProviderOffers
    from orchestrator.plan.sorting import LeftOut
    from orchestrator.words.provider import Offer

SHOWN = 8  # of what would be tried; the rest is a number
NAMED = 4  # of what is left out for one reason


def show(found: Sequence[ProviderOffers], missing: Mapping[str, str], volume: str, *, out: TextIO) -> None:
    """A table for each provider, the one to try first in front."""
    parts: list[RenderableType] = []
    for number, one in enumerate(found):
        where = f" in {one.place}" if one.place else ""
        where += f", when {found[number - 1].provider} has none" if number else ""
        fixed = f", where the volume {volume} is" if volume else ""
        parts.append(Text(f"{one.provider}{where}{fixed}", style="bold"))
        if one.why:
            parts.append(Text(f"passed over: {one.why}", style="yellow"))
        for crew in one.crews:
            parts += _crew(one, crew)
    parts += [Text(f"cannot be asked: {name}: {why}", style="yellow") for name, why in missing.items()]
    rendering.show(*parts, out=out)


def _crew(one: ProviderOffers, crew: CrewOffers) -> list[RenderableType]:
    table = rendering.new_table(f"{crew.phase}, {crew.crew}: {crew.needs}")
    table.add_column("", justify="right")
    table.add_column("machine", overflow="fold", ratio=1)
    table.add_column("place", overflow="fold")
    for name in ("$/hour", "capacity", "network", "CUDA"):
        table.add_column(name, justify="right" if name == "$/hour" else "left", no_wrap=name != "capacity")
    for number, offer in enumerate(crew.tried[:SHOWN], start=1):
        table.add_row(
            str(number), _machine(offer), offer.place, money(offer.price_hour * crew.nodes), capacity(offer),
            "private" if offer.private_network else "-", _cuda(one, offer),
        )  # fmt: skip
    lines = []
    if len(crew.tried) > SHOWN:
        last = crew.tried[SHOWN:]
        dearest = max(offer.price_hour for offer in last) * crew.nodes
        lines.append(f"then {len(last)} more, up to {money(dearest)}/h: --json lists them")
    lines += rendering.own_disks(crew.tried)
    lines += [f"left out: {line}" for line in _grouped(crew.left_out)]
    head = table if crew.tried else Text(f"{crew.phase}, {crew.crew}: {crew.needs}: nothing here would be tried")
    return [head, *(Text(line, style="dim") for line in lines)]


def _machine(offer: Offer) -> str:
    many = f"{offer.gpus}x " if offer.gpus > 1 else ""
    cards = offer.gpu.replace("-", " ") if offer.gpus else "CPU"
    spot = ", interruptible" if offer.spot else ""
    return f"{many}{cards} ({offer.type_id}){spot}"


def capacity(offer: Offer) -> str:
    """The provider's own word, or whether it lists any."""
    return offer.stock.lower().replace("cuda", "CUDA") if offer.stock else "listed" if offer.available else "sold out"


def _cuda(one: ProviderOffers, offer: Offer) -> str:
    return f">= {one.cuda}" if one.cuda and offer.gpus else "-"


def _grouped(left: Sequence[LeftOut]) -> list[str]:
    """A line for each reason: some names, and how many there are."""
    groups: dict[str, list[LeftOut]] = {}
    for one in left:
        groups.setdefault(str(one.reason), []).append(one)
    lines = []
    for reason, members in groups.items():
        types = list(dict.fromkeys(_short(one.offer) for one in members))
        named = ", ".join(types[:NAMED]) + (f" and {len(types) - NAMED} other types" if len(types) > NAMED else "")
        example = f" ({quoted(members[0].why)})" if len(members) == 1 else f" (as {quoted(members[0].why)})"
        lines.append(f"{reason}: {named}{example}")
    return lines


def _short(offer: Offer) -> str:
    return f"{offer.gpus}x {offer.gpu}" if offer.gpus > 1 else offer.gpu or offer.type_id


def document(found: Sequence[ProviderOffers], missing: Mapping[str, str], volume: str) -> dict[str, object]:
    """The JSON document of `gpuplan offers --json`; money as text."""
    return {
        "volume": volume or None,
        "cannot_be_asked": [{"provider": name, "why": why} for name, why in missing.items()],
        "providers": [
            {
                "provider": one.provider, "place": one.place, "serves": not one.why, "why": one.why, "cuda": one.cuda,
                "crews": [
                    {
                        "phase": crew.phase, "crew": crew.crew, "needs": crew.needs, "nodes": crew.nodes,
                        "tried": [_plain(offer, crew.nodes) for offer in crew.tried],
                        "left_out": [
                            _plain(left.offer, crew.nodes) | {"reason": str(left.reason), "why": left.why}
                            for left in crew.left_out
                        ],
                    }
                    for crew in one.crews
                ],
            }
            for one in found
        ],
    }  # fmt: skip


def _plain(offer: Offer, nodes: int) -> dict[str, object]:
    return {
        "type": offer.type_id, "gpu": offer.gpu, "gpus": offer.gpus, "memory_gb": offer.memory_gb, "place": offer.place,
        "usd_hour": str(offer.price_hour), "usd_hour_all": str(offer.price_hour * nodes),
        "usd_hour_disk": str(offer.disk_hour), "spot": offer.spot, "available": offer.available,
        "capacity": capacity(offer), "private_network": offer.private_network,
    }  # fmt: skip
