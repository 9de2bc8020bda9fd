"""The branch that is offered: made of git's own objects in a repository of gpuplan's, and pushed when somebody agreed.

No working tree is written: a link or a filter of upstream's has no say in what becomes of our files, and no file of
upstream's is ever opened here. What it was made of lies in the repository, which git alone reads.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.publish.programs import CLOUDS, HUB, Program
from orchestrator.words.errors import StepFailed, UsageError

NO_IDENTITY = 'git config --global user.name "YOU" and user.email "YOU@EXAMPLE.ORG" say who you are'


@dataclass(frozen=True, slots=True)
class File:
    """What a path of the branch holds."""

    file: Path
    executable: bool = False


@dataclass(frozen=True, slots=True)
class Branch:
    """A commit upon upstream's `base`, ready to go. `changes`: what git says of its files, for a person."""

    name: str
    base: str
    commit: str
    tree: str
    changes: str
    files: int


class Repository:
    """A bare repository in `folder`, with what upstream has. `env`: what git gets besides the user's own settings."""

    def __init__(self, folder: Path, upstream: str, env: Mapping[str, str]) -> None:
        self.folder, self._upstream = folder, upstream
        quiet = {"GIT_TERMINAL_PROMPT": "0", "GIT_DIR": str(folder), "GIT_LITERAL_PATHSPECS": "1"}
        self._git = Program("git", HUB | CLOUDS, {**quiet, **env})  # its helper gh may need GitHub's tokens

    def has(self, base: str) -> bool:
        """Whether what the name means can be found without asking anybody; a branch's newest commit may be another."""
        return self._find(base) is not None

    def fetch(self) -> None:
        """Get all that upstream has. StepFailed: git could not, with its words."""
        if not (self.folder / "HEAD").exists():
            half = self.folder.with_name(f"{self.folder.name}.half")
            shutil.rmtree(half, ignore_errors=True)
            self._git("init", "--quiet", "--bare", "--template=", str(half), env={"GIT_DIR": str(half)})
            half.rename(self.folder)
        wanted = ("+refs/heads/*:refs/upstream/*", "+refs/tags/*:refs/tags/*")
        self._git("fetch", "--quiet", "--no-write-fetch-head", "--prune", self._upstream, *wanted)

    def commit_of(self, base: str) -> str:
        """The commit that the name of a branch, a tag or a commit means. StepFailed: upstream has none such."""
        if found := self._find(base):
            return found
        raise StepFailed(f"{self._upstream} has no branch, tag or commit {base}", remedy="publish: base names one")

    def is_branch(self, base: str) -> bool:
        """Whether the name is that of one of upstream's branches."""
        return self._parse(f"refs/upstream/{base}") is not None

    def build(self, name: str, base: str, title: str, files: Mapping[str, File]) -> Branch:
        """Make the branch: upstream's files at `base`, a commit's id, with these laid over them.

        What is there with the same content stays the same commit. UsageError: git does not know who the user is, or
        upstream has exactly these files. StepFailed: git's words, as where a file would have to be a folder.
        """
        self._require_identity()
        tree = self._tree(base, files)
        if tree == self._parse(f"{base}^{{tree}}"):
            raise UsageError("there is nothing to publish: upstream has exactly these files")
        commit = self._same(f"refs/heads/{name}", base, tree, title)
        if commit is None:
            commit = self._git("commit-tree", tree, "-p", base, "-F", "-", text=title)
            self._git("update-ref", f"refs/heads/{name}", commit)
        difference = ("diff", "--no-ext-diff", "--no-textconv", "--no-color", base, commit)
        changed = self._git(*difference, "--name-only", "-z").count("\0")
        return Branch(name, base, commit, tree, self._git(*difference, "--stat=100"), changed)

    def push(self, branch: Branch, to: str, settings: Sequence[str] = ()) -> bool:
        """Send the branch to that address, unless it is there; whether it was sent.

        `settings`: NAME=VALUE of git's, for this alone. StepFailed: another branch of that name is there, which is left
        as it is, or git's words.
        """
        given = [word for setting in settings for word in ("-c", setting)]
        ref = f"refs/heads/{branch.name}"
        there = self._git(*given, "ls-remote", to, ref).partition("\t")[0]
        if there:
            if there != branch.commit:
                self._git(*given, "fetch", "--quiet", "--no-write-fetch-head", to, there)
            if there != branch.commit and self._content(there) != (branch.tree, branch.base):
                raise StepFailed(
                    f"{to} has a branch {branch.name} with something else ({there[:12]}): nothing was pushed",
                    remedy="delete that branch there if it is yours, or name another one in publish: branch",
                )
            return False
        # The lease: it is created, or somebody was faster and nothing happens.
        self._git(*given, "push", "--quiet", f"--force-with-lease={ref}:", to, f"{branch.commit}:{ref}")
        return True

    def await_answer(self, to: str, settings: Sequence[str], pause: Callable[[float], None]) -> None:
        """Wait until a repository that was just made answers. StepFailed: it does not, with git's words."""
        given = [word for setting in settings for word in ("-c", setting)]
        for wait in (1.0, 2.0, 4.0, 8.0, 16.0):
            try:
                self._git(*given, "ls-remote", to, "HEAD")
            except StepFailed:
                pause(wait)
            else:
                return
        self._git(*given, "ls-remote", to, "HEAD")

    def bundle(self, branch: Branch, file: Path) -> None:
        """Write the branch as a file that `git fetch FILE BRANCH` reads, where its base is there."""
        self._git("bundle", "create", "--quiet", str(file), f"{branch.base}..refs/heads/{branch.name}")

    def _require_identity(self) -> None:
        for who in ("GIT_AUTHOR_IDENT", "GIT_COMMITTER_IDENT"):
            try:
                self._git("-c", "user.useConfigOnly=true", "var", who)
            except StepFailed as error:
                raise UsageError("git does not know who you are: a commit needs a name", remedy=NO_IDENTITY) from error

    def _tree(self, base: str, files: Mapping[str, File]) -> str:
        """The tree of `base` with these files in it, byte for byte."""
        index = self.folder / "gpuplan-index"
        index.unlink(missing_ok=True)
        own = {"GIT_INDEX_FILE": str(index)}
        named = sorted(files)
        paths = "".join(f"{files[name].file}\n" for name in named)
        blobs = self._git("hash-object", "-w", "--no-filters", "--stdin-paths", text=paths).split()
        modes = ("100755" if files[name].executable else "100644" for name in named)
        lines = (f"{mode} {blob}\t{name}\0" for mode, blob, name in zip(modes, blobs, named, strict=True))
        self._git("read-tree", base, env=own)
        self._git("update-index", "-z", "--index-info", text="".join(lines), env=own)
        tree = self._git("write-tree", env=own)
        index.unlink(missing_ok=True)
        return tree

    def _same(self, ref: str, base: str, tree: str, title: str) -> str | None:
        """The commit behind `ref`, if it is the very one that would be made."""
        there = self._parse(ref)
        if there is None or self._content(there) != (tree, base):
            return None
        return there if self._git("log", "-1", "--format=%B", there).strip() == title.strip() else None

    def _content(self, commit: str) -> tuple[str, str]:
        """Tree and parents."""
        tree, _, parents = self._git("log", "-1", "--format=%T %P", commit).partition(" ")
        return tree, parents

    def _find(self, base: str) -> str | None:
        if not (self.folder / "HEAD").exists():
            return None
        found = (self._parse(f"{name}^{{commit}}") for name in (f"refs/upstream/{base}", f"refs/tags/{base}", base))
        return next(filter(None, found), None)

    def _parse(self, name: str) -> str | None:
        try:
            return self._git("rev-parse", "--verify", "--quiet", "--end-of-options", name)
        except StepFailed:
            return None
