"""All that `publish` would send, put together from a run that has succeeded: nothing is sent from here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from orchestrator.words.errors import UsageError
from orchestrator.words.secret import SHORTEST, Secret, hide

if TYPE_CHECKING:
    from orchestrator.engine.effects import ManifestFile
    from orchestrator.engine.sources import Sources
    from orchestrator.ledger import Ledger
    from orchestrator.publish.repository import Branch, File
    from orchestrator.report.page.texts import Texts
    from orchestrator.words.publish import Publish, PublishedModel
    from orchestrator.words.spec import RunSpec
    from orchestrator.world.home import Home

DIGEST = 12  # characters that stand for what would be sent


@dataclass(frozen=True, slots=True)
class Offer:
    """The branch and its words."""

    branch: Branch
    upstream: str  # its address
    onto: str | None  # that branch of upstream's; None: its default one
    title: str
    body: str
    announcement: str

    @property
    def name(self) -> str:
        """OWNER/REPO of upstream."""
        return self.upstream.removeprefix("https://github.com/")

    @property
    def digest(self) -> str:
        """What stands for these very words and files."""
        return digest(self.upstream, self.branch.base, self.branch.name, self.branch.tree, self.title, self.body)


@dataclass(frozen=True, slots=True)
class Model:
    """What would be uploaded to one repository. `missing`: artifacts that are not at home: it is not offered then."""

    repo: str
    files: tuple[tuple[Path, ManifestFile], ...]
    card: str
    missing: tuple[str, ...]

    @property
    def bytes(self) -> int:
        """Of all files together."""
        return sum(file.bytes for _, file in self.files)

    @property
    def digest(self) -> str:
        """See Offer.digest."""
        return digest(self.repo, self.card, *(f"{path.name} {file.sha256}" for path, file in self.files))


@dataclass(frozen=True, slots=True)
class Results:
    """What a run has left at home: its code, and its artifacts, as its manifests list them, with their folders."""

    runs: tuple[RunSpec, ...]  # it, then those that it goes on with
    code: Mapping[str, Path]
    listed: Mapping[str, ManifestFile]
    folders: tuple[Path, ...]
    sources: Sources

    def where(self, artifact: str) -> tuple[Path, ManifestFile] | None:
        """The artifact at home, by its name and size; None: it was not pulled. UsageError: the run has none such."""
        if artifact not in self.listed:
            from orchestrator.config.problems import nearest

            raise UsageError(f"the run has saved no artifact {artifact}", remedy=nearest(artifact, self.listed))
        found = self.listed[artifact]
        for folder in self.folders:
            path = folder / artifact
            if path.is_file() and path.stat().st_size == found.bytes:
                return path, found
        return None


def results(home: Home, ledger: Ledger, spec: RunSpec, pulled: Path | None) -> Results:
    """What the run has left. `pulled`: where its artifacts are, if that is not where the run brought them."""
    from orchestrator.engine.artifacts import manifest_loose
    from orchestrator.engine.sources import Sources
    from orchestrator.transport.code import Code
    from orchestrator.world.opening import CODE

    runs = _runs(home, ledger, spec)
    listed: dict[str, ManifestFile] = {}
    made = Sources({}, {}, {})
    for one in reversed(runs):  # what the newest one says counts
        for file in sorted(home.run_folder(one.run).glob("manifest-*.json")):
            text = file.read_text()
            listed |= {entry.name: entry for entry in manifest_loose(text)}
            made = _joined(made, text)
    own = [Path(spec.pull_root, phase.pull_to) for phase in spec.plan.phases if phase.pull_to]
    folders = (pulled,) if pulled else tuple(dict.fromkeys(own))
    code = {entry.path: entry.file for entry in Code(home.run_folder(spec.run) / CODE).content}
    return Results(runs, code, listed, folders, made)


def files(publish: Publish, found: Results) -> dict[str, File]:
    """What the branch has, by path in the repository. UsageError: something of it is not there, or not what it was."""
    from orchestrator.engine.artifacts import is_whole
    from orchestrator.plan.globs import matches
    from orchestrator.publish.repository import File
    from orchestrator.transport.bundle import can_be_run

    laid: dict[str, File] = {}
    for entry in publish.files:
        if entry.artifact is not None:
            there = found.where(entry.artifact)
            if there is None or not is_whole(*there):
                raise UsageError(
                    f"{entry.artifact} is not at home, or not as the run made it", remedy=_pull(found.runs[0].run)
                )
            laid[entry.to or PurePosixPath(entry.artifact).name] = File(there[0])
            continue
        named = {path: file for path, file in found.code.items() if matches(path, entry.code or "")}
        if not named:
            raise UsageError(f"the run's code has no file {entry.code}", remedy="publish: files names some of it")
        laid |= {str(PurePosixPath(entry.to, path)): File(file, can_be_run(file)) for path, file in named.items()}
    return laid


def require_no_secret(laid: Mapping[str, File], secrets: Mapping[str, Secret]) -> None:
    """UsageError: a file that strangers would see holds one of the user's secrets."""
    forms = {name: secret.reveal().encode() for name, secret in secrets.items() if len(secret.reveal()) >= SHORTEST}
    for path, file in laid.items():
        data = file.file.read_bytes()
        if name := next((name for name, form in forms.items() if form in data), ""):
            raise UsageError(f"{path} holds the secret {name}: nothing is published", remedy="take it out of the code")


def models(publish: Publish, found: Results, said: Texts, texts: Mapping[str, str]) -> list[Model]:
    """What would be uploaded. `texts`: by the file that each is in."""
    return [_model(one, found, said, texts[one.card]) for one in publish.models]


def _model(one: PublishedModel, found: Results, said: Texts, text: str) -> Model:
    from orchestrator.report.page.texts import Uploaded, card, uploaded

    there = {name: found.where(name) for name in one.artifacts}
    listed = [found.listed[name] for name in one.artifacts]
    table = uploaded([Uploaded(PurePosixPath(f.name).name, f.bytes, f.sha256) for f in listed])
    facts = {"repo": one.repo, "base_model": one.base_model, "license": one.license, "files": table}
    return Model(
        repo=one.repo,
        files=tuple(place for place in there.values() if place),
        card=hide(card(said.filled(text, facts), one.base_model, one.license)),
        missing=tuple(name for name, place in there.items() if place is None),
    )


def digest(*parts: str) -> str:
    """What stands for these very texts, in their order."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:DIGEST]


def texts_of(publish: Publish, folder: Path) -> dict[str, str]:
    """The plan's texts by the file that each is in; they were read and checked with the plan a moment ago."""
    from orchestrator.config.publish_checks import read_text

    return {name: read_text(folder, name) for name in publish.texts().values()}


def _runs(home: Home, ledger: Ledger, spec: RunSpec) -> tuple[RunSpec, ...]:
    """The run and those whose results it goes on with, the newest first."""
    from orchestrator.words.spec import RunSpec as Spec

    found = {spec.run: spec}
    wanted = [spec.previous, *spec.done_before.values()]
    while wanted:
        run = wanted.pop()
        if run and run not in found and (home.run_folder(run) / "run.json").exists():
            found[run] = Spec.load(home.run_folder(run))
            wanted += [found[run].previous, *found[run].done_before.values()]
    begun = {run: one.created_at for run, one in found.items() if ledger.runs.maybe(id=run)}
    return tuple(found[run] for run in sorted(begun, key=lambda run: -begun[run]))


def _joined(made: Sources, manifest: str) -> Sources:
    """What a manifest says its files were made of, over what was known; the first version's say nothing."""
    from orchestrator.engine.sources import Sources

    said = json.loads(manifest)
    more = said.get("sources", {}) if isinstance(said, dict) else {}
    keys: Iterable[str] = ("images", "hub", "clones")
    images, hub, clones = ({**getattr(made, key), **more.get(key, {})} for key in keys)
    return Sources(images, hub, clones)


def _pull(run: str) -> str:
    return f"gpuplan pull {run} --to DIR, then gpuplan publish {run} --artifacts DIR"


def paragraphs(text: str) -> Sequence[str]:
    """A text as it is shown below a heading of ours."""
    return [f"    {line}" for line in text.rstrip().splitlines()]
