"""A disk that is full or read-only is the user's to mend: exit code 2 with the path."""

from __future__ import annotations

import errno
import os
import sqlite3
import sys
from pathlib import Path

import pytest

from orchestrator.cli import app, common
from orchestrator.words import disk
from orchestrator.words.errors import UsageError, plainly
from orchestrator.world.home import Home


def raised(number: int) -> OSError:
    return OSError(number, os.strerror(number), "/home/me/gpuplan.db")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM])
def test_the_path_is_named(number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Whatever was under way, the words are the system's and the path is there."""

    def fails(**_: object) -> None:
        raise raised(number)

    monkeypatch.setattr(app, "application", lambda: fails)
    monkeypatch.setattr(sys, "argv", ["gpuplan", "run", "--json"])
    monkeypatch.setattr(common, "_printed", [])
    with pytest.raises(SystemExit) as caught:
        app.main()
    said = capsys.readouterr()
    assert caught.value.code == 2
    assert f"gpuplan: /home/me/gpuplan.db: {os.strerror(number)}\n" in said.err
    assert '"exit": 2' in said.out


def test_what_caused_an_error_counts():
    """A library may wrap it; other errors are none of the disk's."""
    wrapped = RuntimeError("x")
    wrapped.__cause__ = raised(errno.ENOSPC)
    assert disk.trouble(wrapped).startswith("/home/me/gpuplan.db: ")
    assert disk.trouble(sqlite3.OperationalError("database or disk is full")) == "the ledger: database or disk is full"
    assert disk.trouble(sqlite3.OperationalError("no such table")) == ""
    assert disk.trouble(FileNotFoundError(errno.ENOENT, "no", "x")) == ""


@pytest.mark.parametrize("environ", [{}, {"GPUPLAN_HOME": "~nobody-of-that-name/x"}])
def test_a_user_without_a_home(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch):
    """No folder called ~ is made: the variable that helps is named."""
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda _uid: (_ for _ in ()).throw(KeyError("uid")))
    with pytest.raises(UsageError, match="no home folder") as caught:
        Home.find(environ)
    assert "GPUPLAN_HOME" in caught.value.remedy
    assert Home.find({"GPUPLAN_HOME": "/somewhere"}).path == Path("/somewhere")


def test_a_librarys_advice_is_left_out():
    """Neither its links nor the statement that it sent: they are for those who program with it."""
    said = "(sqlite3.OperationalError) disk I/O error\n[SQL: SELECT 1]\n(Background on this error at: https://sqlalche.me/e/20)"
    assert plainly(said) == "(sqlite3.OperationalError) disk I/O error"
