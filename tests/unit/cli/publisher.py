"""A home with a run that can be published, a mirror of upstream, a fork, and programs of our own called gh and hf."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrator.rehearsal import git_mirror
from orchestrator.testing.machine import Script
from orchestrator.transport import code_folder
from orchestrator.transport.code import Code
from tests.unit.cli.desk import Desk

UPSTREAM = "https://github.com/b4rtaz/distributed-llama"
FORK = "https://github.com/ada/distributed-llama"
BODY = """Generates ${train/measure:tokens_per_second@gpu} tokens/s, on a CPU ${train/measure:tokens_per_second@cpu}.
Read ${prepare/fetch:bytes_read}; memory ${train/measure:gpu_memory_percent}. Price: $$5.

${benchmarks}

${figures}

${deliverables}; ${branch} upon ${base}; ${made_of}
"""
CARD = "# ${repo}, made of ${base_model}, ${license}\n\n${files}\n"
PLAN: dict[str, Any] = {
    "settings": {
        "budget_usd": 20,
        "plan": "toy",
        "code": "code",
        "publish": {
            "upstream": UPSTREAM,
            "base": "8d624a7",
            "branch": "feature/toy",
            "title": "Add a toy",
            "files": [{"code": "**"}, {"artifact": "out/WRITEUP.md", "to": "docs/WRITEUP.md"}],
            "pull_request": "texts/body.md",
            "announcement": "texts/news.md",
            "models": [
                {
                    "artifacts": ["out/model.bin"],
                    "repo": "toy-model",
                    "card": "texts/card.md",
                    "base_model": "zai-org/Toy",
                    "license": "mit",
                }
            ],
        },
    },
    "prepare": {
        "volume": {"name": "data", "size_gb": 10},
        "steps": [{"name": "fetch", "run": "fetch", "creates": ["data.bin"], "gpu": False}],
    },
    "train": {
        "machine": {"gpu": ["RTX-4090"]},
        "volume": {"name": "data", "size_gb": 10},
        "steps": [
            {"name": "train", "run": "train", "needs": ["prepare/fetch"], "creates": ["out/*"]},
            {"name": "measure", "run": "measure", "needs": ["train"]},
        ],
        "deliverables": [{"name": "answers", "step": "measure", "stdout": "Paris"}],
        "artifacts": ["out/**"],
        "pull_to": "home",
    },
}
CARD_NAME = "NVIDIA GeForce RTX 4090"
SCRIPTS = {
    "fetch": Script(
        seconds=600,
        creates={"data.bin": "x" * 100},
        metrics={"bytes_read": {"value": 100, "measured_on": "AMD EPYC", "device": "cpu"}},
    ),
    "train": Script(seconds=3600, creates={"out/model.bin": "m" * 1000, "out/WRITEUP.md": "# Toy\n"}),
    "measure": Script(
        seconds=60,
        output="The capital of France is Paris.\n",
        metrics={"tokens_per_second": {"value": 52.5, "measured_on": "1x RTX 4090", "device": CARD_NAME}},
        peaks={"gpu_memory_percent": 71.5, "gpu_memory_mib": 17500.0, "gpu_utilisation": 98.0, "gpus_at_work": 1.0},
        cards=(CARD_NAME,),
    ),
}
NOTES = """
expected:
  - {what: speed, plan: "10", fact: at most 100, step: train/measure, metric: tokens_per_second, unit: tokens/s}
"""
# A program that writes down how it was called and answers from files: NAME.WORD.out, NAME.WORD.fails.
# WORD is the second word if it is one, else the first.
PROGRAM = """#!{python}
import json, os, pathlib, sys
folder, name = pathlib.Path({folder!r}), os.path.basename(sys.argv[0])
argv = sys.argv[1:]
body = argv[argv.index("--body-file") + 1] if "--body-file" in argv else ""
env = {{key: os.environ.get(key) for key in ("HF_TOKEN", "GH_TOKEN", "RUNPOD_API_KEY")}}
sent = pathlib.Path(argv[2]).read_text() if name == "hf" else pathlib.Path(body).read_text() if body else ""
with (folder / "calls").open("a") as out:
    out.write(json.dumps({{"name": name, "argv": argv, "env": env, "sent": sent}}) + "\\n")
asked = name + "." + (argv[1] if len(argv) > 1 and argv[1].isalpha() else argv[0])
if (folder / (asked + ".fails")).exists():
    sys.exit((folder / (asked + ".fails")).read_text())
answer = folder / (asked + ".out")
print(answer.read_text() if answer.exists() else "")
"""


class Publisher:
    """See above. Each has a copy of one run's home; the environment is this process's while the test goes on."""

    def __init__(self, made: Made, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
        self.run, self.folder, self.bin = made.run, folder, folder / "bin"
        self._patch, self._capsys = monkeypatch, capsys
        shutil.copytree(made.folder, folder / "desk")
        self.home, self.plan = folder / "desk/home", folder / "desk/plan"
        self._move(made.folder)
        self.mirror = git_mirror.make(folder / "upstream")
        self.fork = folder / "fork.git"
        shutil.copytree(self.mirror, self.fork)
        self.bin.mkdir()
        for name in ("gh", "hf"):
            self.program(name)
        self.answers("gh.user", "ada")
        self.answers("gh.api", "ada/distributed-llama")  # --method POST: the fork
        self.answers("gh.list", "[]")
        self.answers("gh.create", f"{UPSTREAM}/pull/7")
        (folder / "gitconfig").write_text("[user]\n\tname = Ada\n\temail = ada@example.org\n")
        places = {self.mirror: UPSTREAM, self.fork: FORK}
        git = {"GIT_CONFIG_COUNT": str(len(places)), "GIT_CONFIG_GLOBAL": str(folder / "gitconfig")}
        for number, (bare, address) in enumerate(places.items()):
            git |= {f"GIT_CONFIG_KEY_{number}": f"url.{bare.as_uri()}.insteadOf", f"GIT_CONFIG_VALUE_{number}": address}
        self.env(GIT_CONFIG_NOSYSTEM="1", GPUPLAN_HOME=str(self.home), **git)
        self.env(PATH=f"{self.bin}:{os.environ['PATH']}", HF_TOKEN="hf_abcdefgh", RUNPOD_API_KEY="rp-secret-1")
        for name in ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL", "EMAIL"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.chdir(folder)

    def _move(self, before: Path) -> None:
        """The copy's own places, in place of those that it was copied from."""
        for file in (self.home / "runs").glob("*/run.json"):
            file.write_text(file.read_text().replace(str(before), str(self.folder / "desk")))

    def env(self, **values: str) -> None:
        for name, value in values.items():
            self._patch.setenv(name, value)

    def without(self, name: str) -> None:
        """A computer without this program: PATH has git alone beside what is ours."""
        (self.bin / name).unlink()
        git = self.folder / "git-only"
        git.mkdir(exist_ok=True)
        for program in ("git", "sh"):
            (git / program).symlink_to(shutil.which(program) or "")
        self.env(PATH=f"{self.bin}:{git}")

    def program(self, name: str) -> None:
        (self.bin / name).write_text(PROGRAM.format(python=sys.executable, folder=str(self.bin)))
        (self.bin / name).chmod(0o755)

    def answers(self, asked: str, text: str) -> None:
        (self.bin / f"{asked}.out").write_text(text)

    def fails(self, asked: str, text: str) -> None:
        (self.bin / f"{asked}.fails").write_text(text)

    @property
    def calls(self) -> list[Any]:
        file = self.bin / "calls"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def called(self, name: str) -> list[list[str]]:
        return [call["argv"] for call in self.calls if call["name"] == name]

    def __call__(self, *words: str) -> tuple[int, str, str]:
        """`gpuplan publish WORDS`: exit code, standard output, standard error."""
        from orchestrator.cli import common
        from orchestrator.cli.app import main

        self._patch.setattr(sys, "argv", ["gpuplan", "publish", *words])
        self._patch.setattr(common, "_printed", [])
        with pytest.raises(SystemExit) as caught:
            main()
        said = self._capsys.readouterr()
        return int(caught.value.code or 0), said.out, said.err

    def document(self) -> Any:
        """What would be sent, as JSON, with what stands for it."""
        code, out, _ = self("--json", "--dry-run")
        assert code == 0
        return json.loads(out)

    def digests(self) -> tuple[str, str]:
        """What stands for the branch and for the model, by what is said where nobody can be asked."""
        code, _, said = self()
        assert code == 2, said
        branch, model = said.rpartition("is sent with")[2].replace("--agree", "").split()
        return branch, model

    def git(self, bare: Path, *words: str, text: str = "") -> str:
        argv = ["git", f"--git-dir={bare}", *words]
        done = subprocess.run(argv, input=text, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def branches(self, bare: Path) -> list[str]:
        return self.git(bare, "for-each-ref", "--format=%(refname:short)", "refs/heads").split()


class Made:
    """The run that is published: begun once, copied for each test."""

    def __init__(self, folder: Path, **scripts: Script) -> None:
        self.folder = folder / "made"
        plan = self.folder / "plan"
        for name, text in (("body", BODY), ("news", "Toy: ${title}\n"), ("card", CARD)):
            (plan / "texts").mkdir(parents=True, exist_ok=True)
            (plan / "texts" / f"{name}.md").write_text(text)
        (plan / "plan-notes.yaml").write_text(NOTES)
        (plan / "code/converter").mkdir(parents=True)
        (plan / "code/converter/README.md").write_text("Ours.\n")
        (plan / "code/run.sh").write_text("#!/bin/sh\n")
        (plan / "code/toy.m").write_text("ignored by upstream\n")
        self.desk = Desk(self.folder, json.dumps(PLAN), scripts=SCRIPTS | scripts, stores=1)
        self.desk.run("all", whole_plan=False)
        self.run = self.desk.bench.spec.run
        into = self.desk.home.run_folder(self.run) / "code"
        Code.freeze(code_folder.find(plan / "code", most_mb=1), into)
