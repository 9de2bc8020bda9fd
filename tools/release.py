"""Make a version: what pyproject.toml says and CHANGELOG.md's unreleased section change together, or not at all.

usage: python tools/release.py VERSION [--commit]
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from packaging.version import InvalidVersion, Version

ROOT = Path(__file__).resolve().parent.parent
PROJECT, CHANGELOG = ROOT / "pyproject.toml", ROOT / "CHANGELOG.md"
UNRELEASED = "## [Unreleased]\n"
HEADING = re.compile(r"^## \[([^\]]+)\] - \d{4}-\d{2}-\d{2}$", re.MULTILINE)
STATED = re.compile(r'^(version = ")([^"]+)(")$', re.MULTILINE)


class RefusedError(Exception):
    """Why this version is not made. Nothing has been changed."""


@dataclass(frozen=True)
class Release:
    """A version, and both files as they are with it."""

    version: Version
    project: str
    changelog: str

    @property
    def tag(self) -> str:
        """The name of its tag."""
        return f"v{self.version}"


def release(words: str, project: str, changelog: str, today: str) -> Release:
    """Both files with this version. RefusedError: it is none, it is not higher, or nothing has changed for it."""
    version = parsed(words)
    stated = stated_in(project)
    out = [parsed(found) for found in HEADING.findall(changelog)]
    if version < stated or (version == stated and version in out) or any(version <= one for one in out):
        raise RefusedError(
            f"{version} is not higher than {max([stated, *out])}, which pyproject.toml or CHANGELOG.md has"
        )
    if changelog.count(UNRELEASED) != 1:
        raise RefusedError(f"CHANGELOG.md has not one section {UNRELEASED.strip()!r}")
    before, _, after = changelog.partition(UNRELEASED)
    if not re.search(r"^- \S", after.partition("\n## [")[0], re.MULTILINE):
        raise RefusedError("the unreleased section of CHANGELOG.md lists no change: a version without one helps nobody")
    return Release(
        version,
        STATED.sub(lambda found: f"{found[1]}{version}{found[3]}", project),
        f"{before}{UNRELEASED}\n## [{version}] - {today}\n{after}",
    )


def parsed(words: str) -> Version:
    """The version that is written so, and in no other way."""
    try:
        version = Version(words)
    except InvalidVersion:
        raise RefusedError(f"{words!r} is no version (PEP 440): write 0.2.0, or 0.2.0rc1 to try one") from None
    if version.local:
        raise RefusedError(f"{words} has a local part, which no index takes")
    if str(version) != words:
        raise RefusedError(f"{words} is written {version}")
    return version


def stated_in(project: str) -> Version:
    """What pyproject.toml says; it is the only place that says it."""
    found = STATED.findall(project)
    if len(found) != 1:
        raise RefusedError(f"pyproject.toml has {len(found)} lines version = ...: one is expected")
    return parsed(found[0][1])


def require_clean(tag: str) -> None:
    """RefusedError where the tree has a change that no commit has, or the tag is there."""
    if dirty := git("status", "--porcelain"):
        raise RefusedError(f"the tree has changes that no commit has, and would be in what is built:\n{dirty.rstrip()}")
    if git("tag", "--list", tag):
        raise RefusedError(f"the tag {tag} is there already")


def git(*words: str) -> str:
    """What git printed; its own error ends this program."""
    done = subprocess.run(["git", "-C", str(ROOT), *words], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise RefusedError(f"git {words[0]} ended with {done.returncode}")
    return done.stdout


def main() -> int:
    """Refuse, or write both files; with --commit commit and tag them. Say what is to be done next."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("version", help="by PEP 440, higher than every version before")
    parser.add_argument("--commit", action="store_true", help="commit both files and tag the commit; nothing is pushed")
    asked = parser.parse_args()
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    try:
        made = release(asked.version, PROJECT.read_text(), CHANGELOG.read_text(), today)
        require_clean(made.tag)
        PROJECT.write_text(made.project)
        CHANGELOG.write_text(made.changelog)
        commit, tag = (
            ["commit", "-m", f"Release {made.version}"],
            ["tag", "-a", made.tag, "-m", f"gpuplan {made.version}"],
        )
        files = [PROJECT.name, CHANGELOG.name]
        print(f"{made.version} of {today}: written to {' and '.join(files)}")
        if asked.commit:
            git(*commit, "--", *files)
            git(*tag)
            print(f"committed, and tagged {made.tag}; nothing has been pushed")
    except RefusedError as error:
        print(f"release: {error}", file=sys.stderr)
        return 2
    print("next:")
    if not asked.commit:
        print("  git diff                       # as it should be? git checkout . takes it back")
        print(f"  git commit -am 'Release {made.version}' && git tag -a {made.tag} -m 'gpuplan {made.version}'")
    print("  make test dist                 # sdist and wheel, checked, in dist/")
    print("  git push --follow-tags")
    print(f"  twine upload dist/gpuplan-{made.version}*   # where it is published, for good: no version is sent twice")
    return 0


if __name__ == "__main__":
    sys.exit(main())
