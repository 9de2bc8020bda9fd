"""How what `publish` offers is shown and written, and how what somebody agreed to is sent."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.cli.outgoing import Model, Offer, paragraphs
from orchestrator.publish.github import GitHub
from orchestrator.publish.model_hub import TOKEN, ModelHub
from orchestrator.publish.repository import File, Repository
from orchestrator.report.console import say
from orchestrator.report.figures import size
from orchestrator.words.errors import StepFailed, UsageError

if TYPE_CHECKING:
    from orchestrator.ledger import Ledger
    from orchestrator.words.secret import Secret

BODY, ANNOUNCEMENT, BUNDLE, CARD = "pull_request.md", "announcement.md", "branch.bundle", "README.md"


def weight(model: Model) -> str:
    """How much it is: `2 files, 62.3 GB`."""
    files = "1 file" if len(model.files) == 1 else f"{len(model.files)} files"
    return f"{files}, {size(model.bytes)}"


def place(model: Model) -> str:
    """Which repository it goes to."""
    return model.repo if "/" in model.repo else f"{model.repo} of your own account"


def shown(offer: Offer, models: Sequence[Model]) -> list[str]:
    """Everything that would go out, as lines for a person."""
    lines = [
        f"branch {offer.branch.name} upon {offer.branch.base[:12]} of {offer.upstream}  [{offer.digest}]",
        *paragraphs(offer.branch.changes),
        f"pull request at {offer.name}, a draft: {offer.title}",
        *paragraphs(offer.body),
    ]
    if offer.announcement:
        lines += ["announcement, for you to post: nothing sends it", *paragraphs(offer.announcement)]
    for model in models:
        if model.missing:
            lines.append(f"model {place(model)}: not offered, {', '.join(model.missing)} is not at home (gpuplan pull)")
            continue
        lines.append(f"model {place(model)}: {weight(model)}  [{model.digest}]")
        lines += [f"    {file.name}  {size(file.bytes)}  {path}" for path, file in model.files]
        lines += paragraphs(model.card)
    return lines


def document(run: str, offer: Offer, models: Sequence[Model], done: Mapping[str, str]) -> dict[str, object]:
    """All of it as JSON. `done`: digest -> what came of it."""
    return {
        "run": run,
        "upstream": offer.upstream,
        "branch": offer.branch.name,
        "base": offer.branch.base,
        "commit": offer.branch.commit,
        "files": offer.branch.files,
        "title": offer.title,
        "body": offer.body,
        "announcement": offer.announcement,
        "agree": offer.digest,
        "pull_request": done.get(offer.digest),
        "models": [
            {
                "repo": model.repo,
                "bytes": model.bytes,
                "files": [{"name": f.name, "bytes": f.bytes, "sha256": f.sha256} for _, f in model.files],
                "missing": list(model.missing),
                "card": model.card,
                "agree": None if model.missing else model.digest,
                "uploaded": done.get(model.digest),
            }
            for model in models
        ],
    }


def write(
    folder: Path,
    repository: Repository,
    offer: Offer | None,
    laid: Mapping[str, File],
    words: tuple[str, str],
    models: Sequence[Model],
) -> list[str]:
    """Write it all into a new folder, and return the names there.

    The branch is a bundle where upstream's commit is at home already (offer None: it is not), else its files alone.
    UsageError: the folder has something in it, or cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is there, and is no empty folder", remedy="--out names another one")
    texts = {BODY: words[0], ANNOUNCEMENT: words[1]}
    texts |= {f"models/{model.repo}/{CARD}": model.card for model in models}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            if text:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_text(text, encoding="utf-8")
        if offer is None:
            for name, file in laid.items():
                (folder / "files" / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file.file, folder / "files" / name)
        else:
            repository.bundle(offer.branch, (folder / BUNDLE).absolute())
    except OSError as error:
        raise UsageError(
            f"{folder} cannot be written: {error.strerror}", remedy="--out names another folder"
        ) from error
    return [name for name, text in texts.items() if text] + ["files/" if offer is None else BUNDLE]


@dataclass(frozen=True, slots=True)
class Outbox:
    """Sends what was agreed to. `err`: what is said goes to standard error; `folder`: where texts lie for gh and hf."""

    ledger: Ledger
    run: str
    repository: Repository
    folder: Path
    err: bool

    def send(self, offer: Offer | None, models: Sequence[Model]) -> dict[str, str]:
        """Send these; digest -> address. UsageError: a program or a token is not there, and nothing was sent.

        StepFailed: git, gh or hf failed, or a model at home is not what the run made; what was sent before is said.
        """
        github, hub, token = GitHub(), ModelHub(), None
        if offer:
            (self.folder / BODY).write_text(offer.body, encoding="utf-8")
            if not github.is_there:
                raise UsageError("gh is not in PATH: nothing was sent", remedy=self._by_hand(offer))
        if models:
            token = self._token(hub, models)
        done = {offer.digest: self._offer(github, offer)} if offer else {}
        for model in models:
            assert token is not None
            self._upload(hub, model, token)
            done[model.digest] = place(model)
        return done

    def _offer(self, github: GitHub, offer: Offer) -> str:
        """Fork, push, draft: each unless it is there. The pull request's address."""
        me, credentials, name = github.login(), github.credentials, offer.branch.name
        target = offer.name if me.lower() == offer.name.partition("/")[0].lower() else github.fork(offer.name)
        address = f"https://github.com/{target}"
        self.repository.await_answer(address, credentials, time.sleep)
        sent = self.repository.push(offer.branch, address, credentials)
        self._say(f"{name} {'pushed to' if sent else 'already there, as it is here:'} {address}")
        found = github.pull_request(offer.name, me, name)
        found = found or github.draft(offer.name, f"{me}:{name}", offer.onto, offer.title, self.folder / BODY)
        self._say(f"pull request {'already there' if found.was_there else 'opened as a draft'}: {found.url}")
        return found.url

    def _upload(self, hub: ModelHub, model: Model, token: Secret) -> None:
        """The card last: it speaks of files that are there by then."""
        from orchestrator.engine.artifacts import is_whole

        for path, file in model.files:
            if not is_whole(path, file):
                raise StepFailed(f"{path} is not what the run made", remedy="gpuplan pull fetches it again")
        seen = not self.err and sys.stderr.isatty()
        for path, file in model.files:
            self._say(f"uploading {path.name}, {size(file.bytes)}, to {place(model)}", note=False)
            hub.upload(model.repo, path, path.name, token, seen=seen)
        card = self.folder / f"card-{model.digest}.md"
        card.write_text(model.card, encoding="utf-8")
        hub.upload(model.repo, card, CARD, token, seen=seen)
        self._say(f"uploaded to {place(model)}: {weight(model)}, and its card")

    def _token(self, hub: ModelHub, models: Sequence[Model]) -> Secret:
        from orchestrator.words.credentials import secret_from_env

        if not hub.is_there:
            first = models[0]
            said = "\n".join(f"hf upload {first.repo} {path} {path.name}" for path, _ in first.files)
            raise UsageError("hf is not in PATH: nothing was sent", remedy=f"pipx install huggingface_hub, or:\n{said}")
        token = secret_from_env(TOKEN)
        if token is None:
            raise UsageError(
                f"{TOKEN} is not set: nothing was sent", remedy="a token that may write, from the hub's page"
            )
        return token

    def _by_hand(self, offer: Offer) -> str:
        branch, repo = offer.branch.name, offer.name.partition("/")[2]
        return (
            f"install gh (https://cli.github.com) and say gh auth login; or fork {offer.upstream} there, then:\n"
            f"git --git-dir {self.repository.folder} push git@github.com:YOU/{repo}.git {branch}\n"
            f"and open a pull request with the text in {self.folder / BODY}"
        )

    def _say(self, text: str, *, note: bool = True) -> None:
        say(text, err=self.err)
        if note:
            self.ledger.event(self.run, f"published: {text}")
