"""A small stand-in for the upstream repository that the plan clones, made anew for each rehearsal.

It holds our own words and the folders that the payload is laid over; nothing of upstream. Its commit id is the same
everywhere, because author, date and content are. A tag is named like the abbreviated id of upstream's commit that the
plan checks out, so that the plan's own command finds it (a whole id cannot be a name: git reads it as an object), and
the branch has gone on since, as upstream's has: whoever checks nothing out has the wrong commit.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

PINNED = "8d624a7"
UPSTREAM = "https://github.com/b4rtaz/distributed-llama.git"
CONTENT = {
    "README.md": """# Stand-in for Distributed Llama

This repository is not Distributed Llama. It stands in for it while gpuplan rehearses a plan without a network:
`git clone` of the real address is redirected here. It has the folders that the plan's commands expect and no code.

The real project: https://github.com/b4rtaz/distributed-llama
""",
    "converter/README.md": "The converters of gpuplan's payload are laid over this folder by the step `overlay`.\n",
    "src/README.md": "The real project has its C++ sources here. The rehearsal builds none.\n",
    ".gitignore": "*.m\n*.t\n",
}


def make(folder: Path, pinned: str = PINNED) -> Path:
    """Make the bare repository `folder`/distributed-llama.git unless it is there. Returns its path.

    `pinned`: what its tag is called.
    """
    bare = folder / "distributed-llama.git"
    if (bare / "refs/tags" / pinned).exists():
        return bare
    bare.mkdir(parents=True, exist_ok=True)
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1", "GIT_DIR": str(bare)}

    def git(*arguments: str, text: str = "") -> str:
        done = subprocess.run(["git", *arguments], env=env, input=text, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    git("init", "-q", "--bare", "--template=", "--initial-branch=main")
    begun = _commit("Stand in for distributed-llama\n", CONTENT)
    tag = f"reset refs/tags/{pinned}\nfrom refs/heads/main\n\n"
    git("fast-import", "--quiet", text=begun + tag + _commit("Go on after what plans pin\n", {"LATER.md": "Later.\n"}))
    return bare


def _commit(message: str, files: dict[str, str]) -> str:
    """A commit on the branch in git's words for an import; the first one begins it."""
    who = "gpuplan <gpuplan@localhost> 1767225600 +0000"
    head = f"commit refs/heads/main\nauthor {who}\ncommitter {who}\ndata {len(message)}\n{message}"
    marks = [f"M 100644 inline {path}\ndata {len(text.encode())}\n{text}\n" for path, text in files.items()]
    return head + "".join(marks) + "\n"


def redirect(bare: Path, address: str = UPSTREAM) -> dict[str, str]:
    """Return the environment in which git finds the stand-in at the upstream address."""
    return {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{bare.resolve().as_uri()}.insteadOf",
        "GIT_CONFIG_VALUE_0": address,
        "GIT_TERMINAL_PROMPT": "0",
    }
