"""What must hold of the section `publish`, and of the texts that it names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from orchestrator.config.problems import KeyPath, Place, Problems
from orchestrator.config.validate import Source
from orchestrator.config.words import below
from orchestrator.plan.placeholders import CARD, FACTS, LONGEST, mistakes
from orchestrator.words.publish import Publish, PublishedFile

UPSTREAM = re.compile(r"https://github\.com/[A-Za-z0-9][A-Za-z0-9-]{0,38}/[A-Za-z0-9_.-]{1,100}")
REPO = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9_.-]{0,95}/)?[A-Za-z0-9][A-Za-z0-9_.-]{0,95}")
REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]{0,199}")
LICENSE = re.compile(r"[a-z0-9][a-z0-9.-]{0,60}")


def check_publish(publish: Publish, source: Source) -> None:
    """Note everything that is wrong in the section; what is in its texts: see check_texts."""

    def wrong(path: KeyPath, message: str, remedy: str = "") -> None:
        source.wrong(("publish", *path), message, remedy)

    if not UPSTREAM.fullmatch(publish.upstream) or publish.upstream.endswith((".git", "/.", "/..")):
        wrong(("upstream",), f"{publish.upstream} is no repository", "write https://github.com/OWNER/REPO")
    for key in ("base", "branch"):
        if why := revision(getattr(publish, key)):
            wrong((key,), why)
    if not publish.title.strip() or "\n" in publish.title:
        wrong(("title",), "the title is one line that says something")
    if not publish.files:
        wrong(("files",), "a branch without files changes nothing", "write files: [{code: '**'}]")
    for index, file in enumerate(publish.files):
        if mistake := _file(file):
            wrong(("files", index), *mistake)
    for key in ("pull_request", "announcement"):
        text = getattr(publish, key)
        if (text or key == "pull_request") and (said := below(text)):
            wrong((key,), said)
    for index, model in enumerate(publish.models):
        for key, repo in (("repo", model.repo), ("base_model", model.base_model)):
            if not REPO.fullmatch(repo) or "--" in repo or ".." in repo or repo.endswith(".git"):
                wrong(("models", index, key), f"{repo!r} is no repository of the hub", "write OWNER/NAME")
        if not LICENSE.fullmatch(model.license):
            wrong(("models", index, "license"), f"{model.license!r} is no licence as the hub names it", "as mit")
        if said := below(model.card):
            wrong(("models", index, "card"), said)
        if why := _uploads(model.artifacts):
            wrong(("models", index, "artifacts"), why)


def revision(name: str) -> str:
    """What is wrong with the name of a branch, tag or commit; "" when nothing is."""
    parts = name.split("/")
    odd = any(not part or part.startswith(".") or part.endswith((".", ".lock")) for part in parts)
    if REVISION.fullmatch(name) and not odd and ".." not in name and not name.startswith("refs/"):
        return ""
    return f"{name!r} cannot be the name of a branch: letters, digits, `.`, `_`, `-` and `/`"


def check_texts(publish: Publish, folder: Path, steps: Iterable[str], problems: Problems) -> None:
    """Note every placeholder that means nothing, and texts that are not there. `steps`: see placeholders.mistakes."""
    known = frozenset(steps)
    for key, name in publish.texts().items():
        if below(name):
            continue  # said of the section
        place = Place(str(folder / name))
        try:
            text = read_text(folder, name)
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            problems.add(place, f"publish: {key} names it, and it cannot be read: {why}")
            continue
        for line, column, message, remedy in mistakes(text, FACTS | CARD if key.endswith(".card") else FACTS, known):
            problems.add(Place(str(folder / name), line, column), message, remedy)


def read_text(folder: Path, name: str) -> str:
    """A text of the plan's. OSError, ValueError: it is none, or a link that leads out of the plan's folder."""
    file = (folder / name).resolve()
    if not file.is_relative_to(folder.resolve()):
        raise ValueError(f"it is a link that leads out of {folder}")
    with file.open("rb") as opened:
        return opened.read(4 * LONGEST + 1).decode("utf-8")


def _file(file: PublishedFile) -> tuple[str, str] | None:
    if (file.artifact is None) == (file.code is None):
        return "one of artifact and code says what the file is", "write {artifact: PATH} or {code: GLOB}"
    for path in filter(None, (file.artifact, file.code, file.to)):
        if said := below(path):
            return said, ""
        if any(part.lower() == ".git" for part in PurePosixPath(path).parts):
            return f"{path} is git's own", ""
    return None


def _uploads(artifacts: tuple[str, ...]) -> str:
    if not artifacts:
        return "a model without artifacts is none"
    names = [PurePosixPath(path).name for path in artifacts]
    if said := next(filter(None, map(below, artifacts)), ""):
        return said
    if len(set(names)) < len(names) or "README.md" in names:
        return "each artifact needs a name of its own on the hub, and README.md is the card's"
    return ""
