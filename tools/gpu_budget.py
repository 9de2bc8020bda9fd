"""What the kernels of one GLM-4.5-Air token cost: compiled for cards that need not be here, and counted.

usage: python tools/gpu_budget.py [--write | --json] [--capability 80|90]

The launches are those of the runtime itself, over tensors without memory. Instructions are counted in the machine's
own code: what stands in a loop counts as often as it runs, of two branches both. Times are computed, not measured.
`--write` renews the tables of docs/gpu-budget.md.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "remote" / "distributed-llama"))

import torch
import triton
from dllama_glm.devices.tiles import Tile, tiles_for
from gpu_launches import AIR, CONTEXT, Launch, launches
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

PAGE = Path(__file__).resolve().parents[1] / "docs" / "gpu-budget.md"
BEGIN, END = "<!-- budget: begin -->", "<!-- budget: end -->"
BINARIES = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
KINDS = {
    torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16", torch.int32: "i32", torch.int8: "i8",
    torch.uint8: "u8", torch.int64: "i64",
}  # fmt: skip
_COLUMNS = (
    "kernel", "programs x warps", "MB", "issued MB", "instructions a weight", "dp4a", "mma", "conversions",
    "registers", "spilled", "shared", "streaming us", "issuing us", "us",
)  # fmt: skip
STREAMING, ISSUING = 0.75, 0.6  # shares of the peaks that a kernel is taken to reach while it runs
LAUNCH = 2.8e-6  # seconds of a launch within a graph, and of filling and draining the card


@dataclass(frozen=True)
class CardFacts:
    """A card's peaks: bytes a second, and warps' instructions a second (four a cycle and multiprocessor)."""

    name: str
    capability: int
    bandwidth: float
    issue: float


CARDS = (
    CardFacts("A100 80GB SXM", 80, 2.039e12, 108 * 4 * 1.41e9),
    CardFacts("H100 SXM", 90, 3.35e12, 132 * 4 * 1.755e9),
)


@dataclass(frozen=True)
class Cost:
    """One launch: its programs, weights and bytes; what was compiled; the times that follow, in microseconds.

    `issued_mb` is what the machine code's own loads of weights ask for; None where there are none.
    """

    name: str
    programs: int
    warps: int
    megabytes: float
    issued_mb: float | None
    per_weight: float | None
    dp4a: int
    mma: int
    conversions: int
    registers: int
    spilled: int
    shared: int
    streaming_us: float
    issuing_us: float

    @property
    def time_us(self) -> float:
        """The longer of the two, and the launch."""
        return max(self.streaming_us, self.issuing_us) + LAUNCH * 1e6


def compiled(launch: Launch, capability: int) -> Any:
    """Compile a launch as triton would when it comes first."""
    signature: dict[str, str] = {}
    constants: dict[tuple[int, ...], Any] = {}
    hints: dict[tuple[int, ...], Any] = {}
    for place, parameter in enumerate(launch.kernel.params):
        value = launch.arguments[parameter.name]
        aligned = not parameter.do_not_specialize_on_alignment
        if parameter.is_constexpr or (type(value) is int and value == 1):
            signature[parameter.name] = "constexpr"
            constants[place,] = value
            continue
        if isinstance(value, torch.Tensor):
            signature[parameter.name] = "*" + KINDS[value.dtype]
        else:
            signature[parameter.name] = "fp32" if isinstance(value, float) else "i32"
            aligned = isinstance(value, int) and value % 16 == 0
        if aligned:
            hints[place,] = [["tt.divisibility", 16]]
    source = ASTSource(launch.kernel, signature, constants, hints)
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=launch.options)


@dataclass(frozen=True)
class Code:
    """Machine code: names of its instructions in order, and its loops as (first, last).

    `streamed`: how many bytes of weights each loads for a lane: nothing else is loaded to be evicted first.
    """

    names: list[str]
    streamed: list[int]
    loops: list[tuple[int, int]]
    registers: int
    stack: int


def disassembled(cubin: bytes) -> Code:
    """Read machine code by the programs that triton's wheel brings."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        text = _run("nvdisasm", "-c", file.name)
        usage = _run("cuobjdump", "-res-usage", file.name)
    names: list[str] = []
    streamed: list[int] = []
    labels: dict[str, int] = {}
    loops = []
    for line in text.splitlines():
        if label := re.match(r"\s*(\.L_x_\d+):", line):
            labels[label[1]] = len(names)
        elif found := re.match(r"\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_]*)(.*)", line):
            target = re.search(r"\.L_x_\d+", found[2])
            back = found[1] == "BRA" and target and labels.get(target[0], len(names)) < len(names)
            if back and target:
                loops.append((labels[target[0]], len(names)))
            names.append(found[1])
            width = re.match(r"\.E\.EF(?:\.[US]?(\d+))?", found[2]) if found[1] == "LDG" else None
            streamed.append(int(width[1] or 32) // 8 if width else 0)
    registers, stack = re.search(r"REG:(\d+) STACK:(\d+)", usage).groups()  # type: ignore[union-attr]
    return Code(names, streamed, loops, int(registers), int(stack))


def _run(program: str, *words: str) -> str:
    return subprocess.run([BINARIES / program, *words], capture_output=True, text=True, check=True).stdout


def executed(code: Code, launch: Launch, each: Sequence[float]) -> float:
    """Sum `each` instruction's over what a warp of the launch executes; an unrolled loop holds several of its turns."""
    turns, total = launch.turns, float(sum(each))
    if len(code.loops) != len(turns):  # unrolled from end to end, as far as it has loops at all
        return total
    for (first, last), (count, products) in zip(code.loops, turns, strict=True):
        held = code.names[first : last + 1].count("IDP") / products if products else 1.0
        total += sum(each[first : last + 1]) * (count / max(held, 1.0) - 1)
    return total


def cost(launch: Launch, card: CardFacts) -> Cost:
    """Compile a launch for a card, count, and compute its times."""
    kernel = compiled(launch, card.capability)
    code = disassembled(kernel.asm["cubin"])
    warps, programs = launch.options.get("num_warps", 4), launch.programs
    instructions = executed(code, launch, [1.0] * len(code.names)) * warps * programs
    issued = executed(code, launch, code.streamed) * 32 * warps * programs
    return Cost(
        name=launch.title,
        programs=programs,
        warps=warps,
        megabytes=launch.bytes / 1e6,
        issued_mb=issued / 1e6 if launch.weights else None,
        per_weight=instructions * 32 / launch.weights if launch.weights else None,
        dp4a=code.names.count("IDP"),
        mma=code.names.count("HMMA") + code.names.count("HGMMA"),
        conversions=code.names.count("I2F") + code.names.count("I2FP"),
        registers=code.registers,
        spilled=code.stack,
        shared=kernel.metadata.shared,
        streaming_us=launch.bytes / (STREAMING * card.bandwidth) * 1e6,
        issuing_us=instructions / (ISSUING * card.issue) * 1e6,
    )


def costs(card: CardFacts, tiles: dict[str, Tile] | None = None) -> list[Cost]:
    """All launches of a token, in their order: of a sparse layer, and behind the layers."""
    return [cost(launch, card) for launch in launches(tiles or tiles_for(card.capability))]


def token_us(found: list[Cost]) -> float:
    """A token's time: every layer taken as a sparse one."""
    layer = sum(one.time_us for one in found if one.name[0].isdigit())
    return AIR.layers * layer + sum(one.time_us for one in found if not one.name[0].isdigit())


def table(card: CardFacts, found: list[Cost]) -> str:
    """The page's section of a card."""
    lines = [
        f"### {card.name} (sm_{card.capability})\n",
        "| " + " | ".join(_COLUMNS) + " |",
        "|---" * len(_COLUMNS) + "|",
    ]
    for c in found:
        weight, issued = ("" if value is None else f"{value:.2f}" for value in (c.per_weight, c.issued_mb))
        lines.append(
            f"| {c.name} | {c.programs} x {c.warps} | {c.megabytes:.2f} | {issued} | {weight} | {c.dp4a} | {c.mma} | "
            f"{c.conversions} | {c.registers} | {c.spilled} | {c.shared} | {c.streaming_us:.1f} | "
            f"{c.issuing_us:.1f} | {c.time_us:.1f} |"
        )
    took = token_us(found)
    limit = sum(c.megabytes * (AIR.layers if c.name[0].isdigit() else 1) for c in found) * 1e6 / card.bandwidth * 1e6
    lines.append(
        f"\nA token behind {CONTEXT} others, computed: {took / 1e3:.2f} ms, {1e6 / took:.0f} tokens/s, "
        f"{limit / took:.0%} of what the bandwidth alone would allow ({1e6 / limit:.0f})."
    )
    return "\n".join(lines)


def main() -> None:
    """Print the tables, or write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--capability", type=int, choices=[card.capability for card in CARDS], help="one card only")
    options = parser.parse_args()
    chosen = [card for card in CARDS if options.capability in {None, card.capability}]
    found = {card.name: costs(card) for card in chosen}
    if options.json:
        print(json.dumps({name: [asdict(one) for one in many] for name, many in found.items()}))
        return
    text = "\n\n".join(table(card, found[card.name]) for card in chosen)
    text = f"Computed with triton {triton.__version__}.\n\n{text}"
    if options.write:
        page = PAGE.read_text(encoding="utf-8")
        before, after = page.partition(BEGIN)[0], page.partition(END)[2]
        PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
