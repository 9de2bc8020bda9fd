"""`gpuplan pull`: which of a run's files come home, from a folder that is their store."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.cli import common
from orchestrator.cli.app import main
from orchestrator.engine.artifacts import manifest_files, manifest_text
from orchestrator.engine.effects import ManifestFile
from orchestrator.engine.packs import Pack, header
from orchestrator.engine.sources import Sources
from orchestrator.ledger.rows import ArtifactRow, RunRow
from orchestrator.words.lifecycle import RunState
from orchestrator.world.home import Home
from tests.unit.engine.stepbench import Bench

RUN = "1102-pull"
PHASES = {
    "only": {"models/a.m": b"weights", "models/a.t": b"tokens", "log.txt": b"first"},
    "second": {"results/1/x.json": b"{}", "results/y.json": b"[]", "log.txt": b"second"},
}
ALL = sorted({name for files in PHASES.values() for name in files})
Gpuplan = Callable[..., tuple[int, str, str]]


def listed(content: bytes, name: str) -> ManifestFile:
    return ManifestFile(name, len(content), hashlib.sha256(content).hexdigest())


@pytest.fixture
def gpuplan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Gpuplan:
    """A run of two phases that saved files, of which the second has replaced one; what `gpuplan pull ...` says."""
    monkeypatch.setenv("GPUPLAN_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    home, store = Home(tmp_path / "home"), tmp_path / "store"
    home.make()
    (folder := home.run_folder(RUN)).mkdir(parents=True)
    (tmp_path / "bench").mkdir()
    spec = Bench(tmp_path / "bench").context.spec
    phases = [spec.plan.phases[0].model_copy(update={"name": name}) for name in PHASES]
    plan = spec.plan.model_copy(update={"phases": tuple(phases)})
    world = spec.world.model_copy(update={"dry_run": False, "cloud": "", "ssh_host": ""})
    spec.model_copy(update={"run": RUN, "plan": plan, "world": world, "stores": (store.as_uri(),)}).save(folder)
    ledger = home.open_ledger()
    ledger.runs.put(RunRow(id=RUN, state=RunState.DONE, outcome=None, dry_run=False, plan="toy", created_at=1.0))
    for phase, files in PHASES.items():
        found = [listed(content, name) for name, content in files.items()]
        (folder / f"manifest-{phase}.json").write_text(manifest_text(found, Sources({}, {}, {})))
        for name, content in files.items():
            (store / name).parent.mkdir(parents=True, exist_ok=True)
            (store / name).write_bytes(content)
            one = listed(content, name)
            ledger.artifacts.put(
                ArtifactRow(
                    run=RUN, store=store.as_uri(), name=name, state="VERIFIED", bytes=one.bytes, sha256=one.sha256,
                    at=1.0,
                )
            )  # fmt: skip
    ledger.close()

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(common, "_printed", [])
        monkeypatch.setattr(sys, "argv", ["gpuplan", "pull", *words])
        with pytest.raises(SystemExit) as caught:
            main()
        said = capsys.readouterr()
        return int(caught.value.code or 0), said.out, said.err

    return run


def at_home() -> list[str]:
    return sorted(str(path.relative_to("local")) for path in Path("local").rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ((), ALL),
        (("--phase", "only"), ["models/a.m", "models/a.t"]),
        (("--phase", "only", "--phase", "second"), ALL),
        (("--only", "*.m"), ["models/a.m"]),
        (("--only", "*.m", "--only", "results/*"), ["models/a.m", "results/y.json"]),
        (("--only", "results/**"), ["results/1/x.json", "results/y.json"]),
        (("--only", "results"), ["results/1/x.json", "results/y.json"]),
        (("--phase", "second", "--only", "*.txt"), ["log.txt"]),
    ],
)
def test_what_is_named_comes_home(gpuplan: Gpuplan, words: tuple[str, ...], names: list[str]):
    """Phases and patterns choose; a name that a later phase has replaced is the later one's."""
    code, said, err = gpuplan(*words)
    assert (code, err, at_home()) == (0, "", names)
    assert all(f"{name}  fetched" in said for name in names)
    files = "1 file" if len(names) == 1 else f"{len(names)} files"
    assert f"fetched home: {files}, " in said.splitlines()[-1], "all are whole"
    if "log.txt" in names:
        assert Path("local/log.txt").read_bytes() == b"second"
    assert gpuplan(*words, "--json")[1].count("already there") == len(names)


@pytest.mark.parametrize(
    ("words", "error", "remedy"),
    [
        (("--only", "*.gguf"), "no file is like '*.gguf'", ", ".join(ALL)),
        (("--only", "*.m", "--only", "nope/**"), "no file is like 'nope/**'", "models/a.m"),
        (("--phase", "only", "--only", "results/**"), "no file is like 'results/**'", "there are: models/a.m"),
        (("--phase", "third"), f"third of {RUN} has saved nothing", "only, second"),
    ],
)
def test_what_names_nothing_fetches_nothing(gpuplan: Gpuplan, words: tuple[str, ...], error: str, remedy: str):
    """Exit code 2 with the names that there are: a slip is not half a pull."""
    code, said, _ = gpuplan(*words, "--json")
    document = json.loads(said)
    assert (code, document["exit"]) == (2, 2)
    assert error in document["error"]
    assert remedy in document["remedy"]
    assert not Path("local").exists()


@pytest.fixture
def packed(gpuplan: Gpuplan, tmp_path: Path) -> Gpuplan:
    """The same, and a folder of the second phase that was packed."""
    contents = {f"frames/{number}.txt": b"%d" % number for number in range(3)}
    tar = b"".join(header(n, len(c), executable=False) + c + bytes(-len(c) % 512) for n, c in contents.items())
    tar += bytes(10240 - len(tar))
    pack = Pack(listed(tar, "frames.tar"), tuple(listed(content, name) for name, content in contents.items()))
    manifest = tmp_path / f"home/runs/{RUN}/manifest-second.json"
    files = [*manifest_files(manifest.read_text()), pack.file]
    manifest.write_text(manifest_text(files, Sources({}, {}, {}), {"frames.tar": pack}))
    (tmp_path / "store/frames.tar").write_bytes(tar)
    return gpuplan


FRAMES = [f"frames/{number}.txt" for number in range(3)]


@pytest.mark.parametrize(
    ("words", "names", "said"),
    [
        (("--phase", "second"), [*FRAMES, "log.txt", "results/1/x.json", "results/y.json"], "fetched: 3 files"),
        (("--only", "frames"), FRAMES, "fetched: 3 files"),
        (("--only", "frames.tar"), FRAMES, "fetched: 3 files"),
        (("--only", "frames/1.txt"), ["frames/1.txt"], "fetched: 1 file"),
        (("--only", "frames/1.txt", "--packed"), ["frames.tar"], "frames.tar  fetched\n"),
    ],
)
def test_a_packed_folder_comes_home_as_files(packed: Gpuplan, words: tuple[str, ...], names: list[str], said: str):
    """All of it or what a pattern names in it, or with --packed the tar; a second time nothing is fetched."""
    code, out, err = packed(*words)
    assert (code, err, at_home()) == (0, "", names)
    assert said in out
    assert "fetched" not in packed(*words)[1]
    assert packed("--phase", "only", "--only", "frames")[0] == 2
