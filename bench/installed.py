"""Measure what gpuplan takes on a disk and to start: its core, and what each extra adds. Nothing is rented.

It builds the wheel from this checkout, or takes the one named, and installs it into an environment of its own, from
where pip is configured to look. An extra is installed on top of the core, measured, and taken away again.

usage: python bench/installed.py [--wheel FILE] [--page docs/benchmarks.md]
"""
# ruff: noqa: T201 - a script whose output is its interface

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LARGE = frozenset({"rehearsal", "dev"})  # torch is in them: what they take is torch's size
TOOLS = frozenset({"pip", "setuptools", "wheel"})  # what an environment is born with
ROUNDS = 7
BEGIN, END = "<!-- installed: begin -->", "<!-- installed: end -->"
STARTS = {  # what is started -> the words after `python`
    "an empty Python": ("-c", "pass"),
    "`import orchestrator.cli.app`": ("-c", "import orchestrator.cli.app"),
    "`gpuplan --version`": ("-c", "import sys; sys.argv[1:] = ['--version']; import orchestrator.cli as c; c.main()"),
}


@dataclass(frozen=True)
class Installed:
    """What an environment holds beside pip: each distribution with its version, and the bytes of all files."""

    packages: dict[str, str]
    size: int


class Environment:
    """A fresh environment, and pip in it."""

    def __init__(self, folder: Path) -> None:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        self.python = folder / "bin" / "python"
        self._born = self._bytes()

    def pip(self, *words: str) -> str:
        """Run pip, and return what it printed."""
        pip = [str(self.python), "-m", "pip", "--disable-pip-version-check", *words]
        return subprocess.run(pip, check=True, stdout=subprocess.PIPE, text=True).stdout

    def look(self) -> Installed:
        """What is there now."""
        found = {str(one["name"]): str(one["version"]) for one in json.loads(self.pip("list", "--format", "json"))}
        return Installed({n: v for n, v in found.items() if n not in TOOLS}, self._bytes() - self._born)

    def start_s(self, words: tuple[str, ...]) -> float:
        """Processor seconds of one start: the least of some rounds, for other work on this computer adds to it."""
        return min(self._once(words) for _ in range(ROUNDS))

    def _once(self, words: tuple[str, ...]) -> float:
        env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "GPUPLAN"))}
        process = subprocess.Popen([self.python, *words], env=env, stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            sys.exit(f"python {' '.join(words)} ended with {process.returncode}")
        return used.ru_utime + used.ru_stime

    def _bytes(self) -> int:
        lib = self.python.parents[1] / "lib"
        return sum(file.lstat().st_size for file in lib.rglob("*") if file.is_file() and not file.is_symlink())


def main() -> None:
    """Measure, and print the page's section; `--page` writes it there, between its marks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheel", type=Path, help="a wheel of gpuplan; left out: one is built from this checkout")
    parser.add_argument("--page", type=Path, help="the page whose section is written anew")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gpuplan-installed-") as folder:
        wheel = args.wheel.resolve() if args.wheel else built(Path(folder))
        text = section(wheel, Environment(Path(folder) / "venv"))
    print(text)
    if args.page:
        args.page.write_text(placed(args.page.read_text(), text))


def built(folder: Path) -> Path:
    """The wheel of this checkout."""
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], cwd=ROOT, check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def section(wheel: Path, environment: Environment) -> str:
    """The section's text: core, extras, starts."""
    environment.pip("install", "--quiet", str(wheel))
    core = environment.look()
    rows = [f"| **core** | {len(core.packages)} | {_mb(core.size)} |"]
    starts = {what: environment.start_s(words) for what, words in STARTS.items()}
    for extra in extras():
        environment.pip("install", "--quiet", f"{wheel}[{extra}]")
        more = environment.look()
        if changed := [n for n, version in core.packages.items() if more.packages.get(n) != version]:
            sys.exit(f"[{extra}] changes what the core has installed: {', '.join(changed)}")
        added = sorted(set(more.packages) - set(core.packages))
        rows.append(f"| `[{extra}]` | +{len(added)} | +{_mb(more.size - core.size)} |")
        if added:
            environment.pip("uninstall", "--quiet", "--yes", *added)
    empty = starts["an empty Python"]
    about = (
        f"`bench/installed.py`: the wheel ({_mb(wheel.stat().st_size)}, most of it the rehearsal's tiny models) "
        "installed with pip into an empty environment, and what each extra adds to the core; "
        "sizes with compiled files, without pip's own."
    )
    where = (
        f"Python {platform.python_version()} on {platform.system()} {platform.machine()}. "
        "`[rehearsal]` and `[dev]` are not measured: torch is nearly all of them. "
        "Where an extra adds little, a dependency of the core brings the rest already."
    )
    lines = [about, where, "", "| what | packages | on the disk |", "|---|---|---|", *rows]
    lines += ["", "| start | processor seconds | against an empty Python |", "|---|---|---|"]
    lines += [f"| {what} | {seconds:.3f} | {seconds / empty:.1f}x |" for what, seconds in starts.items()]
    return "\n".join(lines)


def extras() -> list[str]:
    """Those that pyproject.toml has, but for the large ones."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [name for name in project["optional-dependencies"] if name not in LARGE]


def placed(page: str, text: str) -> str:
    """The page with the section between its marks."""
    found = re.compile(rf"({re.escape(BEGIN)}\n## [^\n]+\n\n).*?(\n+{re.escape(END)})", re.DOTALL)
    if not found.search(page):
        sys.exit(f"the page has no section between {BEGIN} and {END}")
    return found.sub(lambda match: f"{match[1]}{text}{match[2]}", page)


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


if __name__ == "__main__":
    main()
