"""One program of the user's, run to its end: which secrets it may see, and what it said if it failed."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from orchestrator.words.errors import StepFailed, UsageError
from orchestrator.words.outside import LONG, escape, quoted
from orchestrator.words.secret import Secret

LONGEST_S = 1800.0
LINES = 3  # the last ones of what a program said
# What no program gets that is not meant for it: keys of clouds, the hub's tokens, GitHub's.
HUB = frozenset({"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACE_TOKEN"})
GITHUB = frozenset({"GH_TOKEN", "GITHUB_TOKEN", "GH_ENTERPRISE_TOKEN", "GITHUB_ENTERPRISE_TOKEN"})
CLOUDS = frozenset(
    {"RUNPOD_API_KEY", "LAMBDA_API_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"}
)


_VERB = re.compile(r"[a-z]+(-[a-z]+)*")


@dataclass(frozen=True, slots=True)
class Program:
    """A program by its name in PATH. `hidden`: variables of ours that it does not get; `env`: what it gets besides."""

    name: str
    hidden: frozenset[str] = frozenset()
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_there(self) -> bool:
        """Whether it is in PATH."""
        return shutil.which(self.name) is not None

    def __call__(
        self,
        *arguments: str,
        text: str | bytes = "",
        env: Mapping[str, str] | None = None,
        secrets: Mapping[str, Secret] | None = None,
        within_s: float | None = LONGEST_S,
        seen: bool = False,
    ) -> str:
        """Run it; `text` is its standard input. Returns its standard output, without the last line end.

        `secrets`: variables for this process alone; `seen`: its standard error goes to ours. UsageError: it is not
        there. StepFailed: it ended badly, with its last words, or not within `within_s`.
        """
        told = {name: secret.reveal() for name, secret in (secrets or {}).items()}
        known = {name: value for name, value in os.environ.items() if name not in self.hidden}
        try:
            done = subprocess.run(
                [self.name, *arguments],
                input=text if isinstance(text, bytes) else text.encode(),
                stdout=subprocess.PIPE,
                stderr=None if seen else subprocess.PIPE,
                env={**known, "LC_ALL": "C.UTF-8", **self.env, **(env or {}), **told},
                timeout=within_s,
                check=False,
            )
        except FileNotFoundError as error:
            raise UsageError(f"{self.name} is not in PATH", remedy=f"install {self.name}") from error
        except subprocess.TimeoutExpired as error:
            raise StepFailed(f"{self._called(arguments)} did not end within {within_s:.0f} seconds") from error
        if done.returncode:
            said = (done.stderr or b"").decode("utf-8", "replace").strip() or done.stdout.decode("utf-8", "replace")
            words = _last(said) or ("its words are above" if seen else "it said nothing")
            raise StepFailed(f"{self._called(arguments)} failed with exit code {done.returncode}: {words}")
        return done.stdout.decode("utf-8", "replace").removesuffix("\n")

    def _called(self, arguments: Sequence[str]) -> str:
        """The program and what it was asked for, without what was said of it."""
        named = list(itertools.dropwhile(lambda word: not _VERB.fullmatch(word), arguments))
        return " ".join([self.name, *itertools.takewhile(_VERB.fullmatch, named[:2])])


def _last(said: str) -> str:
    """The end of what a program said, where its reason stands."""
    lines = [line.strip() for line in escape(said).splitlines() if line.strip()]
    return quoted("\n".join(lines[-LINES:])[-LONG // 2 :], LONG)
