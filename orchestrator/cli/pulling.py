"""The command that fetches a run's artifacts from its store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.common import Json, RunName, find_run, open_home, open_world, print_json
from orchestrator.words.errors import StepFailed, UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from orchestrator.engine.artifacts import Home
    from orchestrator.engine.effects import ManifestFile
    from orchestrator.engine.packs import Pack
    from orchestrator.engine.unpacking import Unpacking
    from orchestrator.ledger import Ledger
    from orchestrator.words.spec import RunSpec
    from orchestrator.words.store import ArtifactStore
    from orchestrator.words.waiting import Clock

MANIFEST = "manifest-{}.json"  # of a phase, in the run's folder
SHOWN = 20  # names, where nothing matches


def pull(
    run: RunName = None,
    *,
    phase: Annotated[
        list[str] | None, typer.Option("--phase", metavar="PHASE", help="Only what this phase has saved; repeatable.")
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only",
            metavar="PATTERN",
            help="Only files like this ('*.m', 'results/**'; without a slash: in any folder); repeatable.",
        ),
    ] = None,
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="Where to put the files.")] = Path("local"),
    force: Annotated[bool, typer.Option("--force", help="Replace files that gpuplan did not fetch, too.")] = False,
    packed: Annotated[
        bool, typer.Option("--packed", help="Leave packed folders as the tars that they are stored as.")
    ] = False,
    json: Json = False,
) -> None:
    """Fetch a run's artifacts from its store, going on with what is there, each verified by its sha256."""
    from orchestrator.engine.artifacts import Home

    home, ledger = open_home()
    spec = find_run(home, ledger, run)
    if not spec.stores:
        raise UsageError(f"{spec.run} has no store", remedy="its artifacts were not uploaded anywhere")
    folder = home.run_folder(spec.run)
    wanted, unpacked = chosen(saved(folder, spec, ledger), held(folder, spec), spec, phase or (), only or ())
    if spec.world.throwaway:
        raise UsageError(
            "the rehearsed store ended with its run", remedy=f"what was pulled lies below {spec.pull_root}"
        )
    world = open_world(home, ledger, spec)
    try:
        place = Home(to, folder.parent, force)
        files = _fetch(world.store(spec.stores[0]), wanted, place, world.clock, {} if packed else unpacked, quiet=json)
    except FileNotFoundError as error:
        raise StepFailed(f"{spec.stores[0]} has it no more: {error}", remedy="the volume may still have it") from error
    finally:
        world.leave(spec.run)
    if json:
        print_json({"run": spec.run, "folder": str(to.resolve()), "files": files})


def _fetch(
    store: ArtifactStore,
    wanted: list[ManifestFile],
    folder: Home,
    clock: Clock,
    unpacked: Mapping[str, Unpacking],
    *,
    quiet: bool,
) -> list[dict[str, object]]:
    """Bring the files home, and say how far they are unless `quiet`; what became of each, by name."""
    from contextlib import nullcontext
    from dataclasses import asdict

    from orchestrator.engine.fetching import fetch_all
    from orchestrator.engine.packs import counted
    from orchestrator.report.homeward import Homeward, shown

    coming, files = Homeward({file.name: file.bytes for file in wanted}), list[dict[str, object]]()

    def note(file: ManifestFile, how: str) -> None:
        files.append(asdict(file) | {"how": how})
        coming.whole(file.name)
        if not quiet:
            inside = f": {counted(len(unpacked[file.name].wanted))}" if file.name in unpacked else ""
            coming.say(f"{file.name}  {how}{inside}")

    with nullcontext() if quiet else shown(coming):
        fetch_all(store, wanted, folder, clock, said=note, arrived=coming.arrived, unpacked=unpacked)
    if not quiet:
        how_far = f"{coming.words()}; " if any(file["how"] == "fetched" for file in files) else ""
        coming.say(f"{how_far}all in {folder.folder.resolve()}")
    return sorted(files, key=lambda file: str(file["name"]))  # they came in any order


def saved(folder: Path, spec: RunSpec, ledger: Ledger) -> dict[str, list[ManifestFile]]:
    """What each phase of the run has listed for its store. StepFailed: none has.

    Of a name that two phases have saved, the store has one: that which was verified last.
    """
    from orchestrator.engine.artifacts import manifest_files

    files = {p.name: folder / MANIFEST.format(p.name) for p in spec.plan.phases}
    found = {name: manifest_files(file.read_text()) for name, file in files.items() if file.exists()}
    if not found:
        raise StepFailed(f"{spec.run} has uploaded nothing", remedy=f"gpuplan status {spec.run}")
    rows = ledger.artifacts.all(run=spec.run, store=spec.stores[0], state="VERIFIED")
    there = {row.name: row.sha256 for row in rows}
    return {name: [f for f in listed if there.get(f.name, f.sha256) == f.sha256] for name, listed in found.items()}


def held(folder: Path, spec: RunSpec) -> list[Pack]:
    """What each tar holds that the run's phases have listed."""
    from orchestrator.engine.artifacts import manifest_packs

    texts = [file.read_text() for p in spec.plan.phases if (file := folder / MANIFEST.format(p.name)).exists()]
    return [pack for text in texts for pack in manifest_packs(text).values()]


def chosen(
    files: Mapping[str, Sequence[ManifestFile]],
    packs: Collection[Pack],
    spec: RunSpec,
    phases: Sequence[str],
    patterns: Sequence[str],
) -> tuple[list[ManifestFile], dict[str, Unpacking]]:
    """Those of these phases and like these patterns, each once; of tars among them, what is to be unpacked.

    A pattern may name what is in a tar: of that tar the others stay packed. UsageError: a phase or a pattern names
    nothing.
    """
    from orchestrator.engine.unpacking import Unpacking

    for phase in phases:
        if phase not in files:
            raise UsageError(f"{phase} of {spec.run} has saved nothing", remedy=f"phases that have: {', '.join(files)}")
    of_phases = {file.name: file for phase, listed in files.items() if not phases or phase in phases for file in listed}
    there = {pack.file.name: pack for pack in packs if of_phases.get(pack.file.name) == pack.file}
    every = {*of_phases, *(member.name for pack in there.values() for member in pack.members)}
    like = {pattern: {name for name in every if _is_like(name, pattern)} for pattern in patterns}
    if empty := [pattern for pattern, names in like.items() if not names]:
        raise UsageError(f"no file is like {' or '.join(map(repr, empty))}", remedy=_names(sorted(every)))
    names = set().union(*like.values()) if patterns else every
    wanted = {
        name: pack.members if name in names else tuple(member for member in pack.members if member.name in names)
        for name, pack in there.items()
    }
    unpacked = {name: Unpacking(there[name], members) for name, members in wanted.items() if members}
    return [of_phases[name] for name in sorted(of_phases) if name in names or name in unpacked], unpacked


def _is_like(name: str, pattern: str) -> bool:
    """As the plan's own globs are; a pattern without a slash may be the last part alone."""
    from orchestrator.plan.globs import matches

    return matches(name, pattern) or ("/" not in pattern and matches(name.rpartition("/")[2], pattern))


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"there are: {', '.join(names[:SHOWN])}{more}"
