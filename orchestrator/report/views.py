"""temporary plain view"""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager

from orchestrator.ledger import Ledger, tables


class Plain:
    def __init__(self, out):
        self.out = out
        self.seen = {}

    def update(self, ledger: Ledger, run: str) -> None:
        for r in ledger.all(tables.phases, run=run):
            self.note(("p", r["name"]), f"{r['name']}  {r['state']} {r['outcome'] or ''} {r['error'] or ''}")
        for r in ledger.all(tables.steps, run=run):
            if r["state"] != "PENDING":
                self.note(("s", r["phase"], r["id"]), f"{r['phase']}/{r['id']}  {r['state']} {r['detail'] or ''}")
        for r in ledger.all(tables.machines, run=run):
            self.note(("m", r["name"]), f"{r['name']}  {r['state']} {r['reason'] or ''}")

    def note(self, key, text):
        if self.seen.get(key) != text:
            self.seen[key] = text
            print(time.strftime("%H:%M:%S"), text, file=self.out, flush=True)

    def log(self, step: str, text: str) -> None:
        pass

    def say(self, text: str) -> None:
        print(text, file=self.out, flush=True)


@contextmanager
def open_view(folder, spec, *, err):
    yield Plain(sys.stderr if err else sys.stdout)
