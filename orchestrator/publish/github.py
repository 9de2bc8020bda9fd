"""GitHub, by the user's own gh: a fork, and a draft of a pull request."""

from __future__ import annotations

import json
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

from orchestrator.publish.programs import CLOUDS, HUB, Program
from orchestrator.words.errors import StepFailed

HOST = "github.com"
QUIET = {"GH_PROMPT_DISABLED": "1", "GH_NO_UPDATE_NOTIFIER": "1", "NO_COLOR": "1", "GH_HOST": HOST}


@dataclass(frozen=True, slots=True)
class PullRequest:
    """A pull request; whether it was there before."""

    url: str
    was_there: bool


class GitHub:
    """What gh does for whoever is logged in there. StepFailed everywhere: gh failed, with its words."""

    def __init__(self) -> None:
        self._gh = Program("gh", HUB | CLOUDS, QUIET)

    @property
    def is_there(self) -> bool:
        """Whether gh is in PATH."""
        return self._gh.is_there

    @property
    def credentials(self) -> list[str]:
        """Settings with which git asks gh for a password to GitHub, and nobody else."""
        helper = f"credential.https://{HOST}.helper"
        return [f"{helper}=", f"{helper}=!{shlex.quote(shutil.which('gh') or 'gh')} auth git-credential"]

    def login(self) -> str:
        """Who is logged in."""
        return self._gh("api", "user", "--jq", ".login").strip()

    def fork(self, upstream: str) -> str:
        """The user's fork of OWNER/REPO, as OWNER/NAME: made, or the one that is there.

        `gh repo fork` asks the same of GitHub, and does not say what the fork is called.
        """
        found = self._gh("api", "--method", "POST", f"repos/{upstream}/forks", "--jq", ".full_name").strip()
        if found.count("/") != 1:
            raise StepFailed(f"gh does not say what the fork of {upstream} is called: {found!r}")
        return found

    def pull_request(self, upstream: str, owner: str, branch: str) -> PullRequest | None:
        """The open pull request from the owner's branch; None: there is none."""
        wanted = ("--head", branch, "--state", "open", "--json", "url,headRepositoryOwner")
        found = json.loads(self._gh("pr", "list", "--repo", upstream, *wanted) or "[]")
        mine = [
            one for one in found if str((one.get("headRepositoryOwner") or {}).get("login")).lower() == owner.lower()
        ]
        return PullRequest(str(mine[0]["url"]), was_there=True) if mine else None

    def draft(self, upstream: str, head: str, base: str | None, title: str, body: Path) -> PullRequest:
        """Open a draft. `head`: OWNER:BRANCH; `base`: the branch of upstream's, None: its default one."""
        where = ("--base", base) if base else ()
        words = ("--title", title, "--body-file", str(body))
        said = self._gh("pr", "create", "--draft", "--repo", upstream, "--head", head, *where, *words)
        return PullRequest(said.strip().splitlines()[-1] if said.strip() else "", was_there=False)
