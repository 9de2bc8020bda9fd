"""Commands as data: what is quoted, what is shown, what a shell makes of it."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.transport import commands
from orchestrator.transport.commands import Shell, command
from orchestrator.words.provider import Address
from orchestrator.words.secret import Secret

WORDS = st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), max_size=20)


@given(st.lists(WORDS, min_size=1, max_size=5))
@settings(max_examples=40, deadline=None)
def test_a_shell_gives_back_every_word(words: list[str]):
    """Whatever characters a word has, the shell passes it on unchanged and expands nothing."""
    text = command("printf", "%s\\0", *words).text
    shown = subprocess.run(["sh", "-c", text], capture_output=True, check=True).stdout
    assert shown.decode() == "".join(f"{word}\0" for word in words)


def test_secrets_are_in_the_text_and_never_shown():
    """A secret is quoted where the command is run and masked wherever it is printed."""
    made = command("login", "--token", Secret("it's secret"), Shell('"$HOME"'))
    assert shlex.split(made.text) == ["login", "--token", "it's secret", "$HOME"]
    assert str(made) == 'login --token *** "$HOME"'
    assert "secret" not in f"{made} {made!r}"


def test_fetch_takes_no_path_for_an_option():
    """A relative path that begins with a dash is a path."""
    assert shlex.split(commands.fetch("-rf", 10).text)[-2:] == ["+11", "./-rf"]


def test_the_users_own_ssh():
    """The argument list pins the key, uses ours only, and keeps an address from being an option."""
    argv = commands.ssh_argv(Address("h", 2222, "root"), Path("/k"), Path("/known"), "tmux attach", tty=True)
    assert argv[-3:] == ["--", "root@h", "tmux attach"]
    assert "StrictHostKeyChecking=yes" in argv
    assert argv[argv.index("-i") + 1] == "/k"
    assert argv[argv.index("-p") + 1] == "2222"
    assert "-t" in argv
    spaced = commands.ssh_argv(Address("h", 22, "root"), Path("/k"), Path("/a folder/known"))
    assert 'UserKnownHostsFile="/a folder/known"' in spaced  # ssh splits it at spaces otherwise


def test_ports_are_led_through_ssh_as_ssh_itself_words_it():
    """Each forwarded port is a -L of its own, in front of the host, whatever the word is."""
    address = Address("203.0.113.5", 2222, "root")
    argv = commands.ssh_argv(address, Path("key"), Path("known"), forward=["9990:127.0.0.1:9990", "-oProxyCommand=x"])
    assert argv[argv.index("-L") :] == ["-L", "9990:127.0.0.1:9990", "-L", "-oProxyCommand=x", "--", "root@203.0.113.5"]


def test_nothing_is_forwarded_that_was_not_asked_for():
    """Whatever the user's settings of ssh say: no agent, no X11, no variable; `-A` alone lets the agent through."""
    address = Address("203.0.113.5", 22, "root")
    for asked in (False, True):
        argv = commands.ssh_argv(address, Path("/k"), Path("/known"), agent=asked)
        done = subprocess.run([argv[0], "-G", *argv[1:]], capture_output=True, text=True, check=True)
        said = done.stdout.splitlines()
        assert f"forwardagent {'yes' if asked else 'no'}" in said
        assert "forwardx11 no" in said
        assert "globalknownhostsfile none" in said
        assert not [line for line in said if line.startswith(("sendenv", "setenv", "localforward", "proxycommand"))]
        assert argv[argv.index("-F") + 1] == "none"
