"""Where one run's offer is put together: its plan's section and texts, its files and figures, the branch of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator.cli import outgoing
from orchestrator.cli.outgoing import Model, Offer, Results
from orchestrator.ledger import Ledger
from orchestrator.plan.resolve import all_steps
from orchestrator.publish.programs import CLOUDS, GITHUB, HUB
from orchestrator.publish.repository import File, Repository
from orchestrator.rehearsal import git_mirror
from orchestrator.report.page import gather
from orchestrator.report.page.texts import Texts, texts
from orchestrator.words import files
from orchestrator.words.credentials import secret_from_env
from orchestrator.words.errors import UsageError
from orchestrator.words.model import Plan
from orchestrator.words.publish import Publish
from orchestrator.words.secret import Secret, hide
from orchestrator.words.spec import RunSpec
from orchestrator.world.home import Home


@dataclass(frozen=True, slots=True)
class Desk:
    """See above. `secrets`: what no text and no file of it may hold, by name; as long as it lives they are masked."""

    home: Home
    ledger: Ledger
    spec: RunSpec
    plan: Plan
    found: Results
    dry_run: bool
    secrets: Mapping[str, Secret]

    @property
    def publish(self) -> Publish:
        """The plan's section. UsageError: it has none."""
        if self.plan.settings.publish is None:
            raise UsageError(f"{self.plan.called} says nothing of publishing", remedy="docs/publishing.md: publish:")
        return self.plan.settings.publish

    @property
    def folder(self) -> Path:
        """What is kept of the offer, in the run's folder; a rehearsed one is kept apart."""
        folder = self.home.run_folder(self.spec.run) / ("publish-rehearsed" if self.dry_run else "publish")
        folder.mkdir(exist_ok=True)
        return folder

    @property
    def base(self) -> str:
        """The name that the branch begins at; the stand-in has no commit of a whole id, so that is cut short there."""
        whole = self.dry_run and len(self.publish.base) == 40
        return self.publish.base[:12] if whole else self.publish.base

    @property
    def mirror(self) -> Path:
        """What stands in for upstream in a rehearsal."""
        return git_mirror.make(self.folder / "git", self.base)

    def repository(self) -> Repository:
        """Where the branch is made."""
        env = git_mirror.redirect(self.mirror, self.publish.upstream) if self.dry_run else {}
        return Repository(self.folder / "repository.git", self.publish.upstream, env)

    def files(self) -> dict[str, File]:
        """What the branch has. UsageError: see outgoing.files; or a secret is in it."""
        laid = outgoing.files(self.publish, self.found)
        outgoing.require_no_secret(laid, self.secrets)
        return laid

    def offer(self, repository: Repository, *, fetch: bool) -> Offer:
        """The branch, made, and its words. `fetch`: upstream may be asked."""
        laid = self.files()
        if fetch and (not repository.has(self.base) or repository.is_branch(self.base)):
            repository.fetch()
        commit = repository.commit_of(self.base)
        branch = repository.build(self.publish.branch, commit, self.publish.title, laid)
        onto = self.publish.base if repository.is_branch(self.base) else None
        empty = Offer(branch, self.publish.upstream, onto, self.publish.title, "", "")
        body, announcement = self.words(empty)
        return replace(empty, body=body, announcement=announcement)

    def words(self, offer: Offer | None) -> tuple[str, str]:
        """The pull request's text and the announcement."""
        said, written = self._texts(offer), outgoing.texts_of(self.publish, self._beside)
        announcement = self.publish.announcement
        return (
            hide(said.filled(written[self.publish.pull_request])),
            hide(said.filled(written[announcement])) if announcement else "",
        )

    def models(self, offer: Offer | None) -> list[Model]:
        """What would be uploaded to the hub."""
        return outgoing.models(
            self.publish, self.found, self._texts(offer), outgoing.texts_of(self.publish, self._beside)
        )

    @property
    def _beside(self) -> Path:
        return Path(self.plan.folder) if self.plan.folder else files.shipped()

    def _texts(self, offer: Offer | None) -> Texts:
        account = gather.account(self.ledger, self.spec, self.home.run_folder(self.spec.run), driven=False)
        said = {
            "upstream": self.publish.upstream,
            "base": offer.branch.base if offer else self.publish.base,
            "branch": self.publish.branch,
            "title": self.publish.title,
        }
        return texts(self.ledger, self.found.runs, account, self.found.sources, said)


def secrets_of(plan: Plan) -> dict[str, Secret]:
    """Those of the user's environment that the plan's steps get, or that the programs of publishing get."""
    named = {name for step in all_steps(plan).values() for name in step.secrets}
    found = {name: secret_from_env(name) for name in sorted(named | CLOUDS | GITHUB | HUB)}
    return {name: secret for name, secret in found.items() if secret}
