"""Chat templates, rendered as Hugging Face renders them, in a process of their own: each is somebody else's program."""

import atexit
import json
import os
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dllama_glm.formats.tokenizer_file import TokenizerError

PROGRAM = Path(__file__).with_name("rendering.py")
START_SECONDS = 60.0  # of a busy computer
RENDER_SECONDS = 10.0  # a template takes milliseconds; one that loops for ever would keep a server from all others
ANSWER_BYTES = 256 << 20  # rendering.LONGEST as JSON, and more
GIVEN = ("PATH", "LANG", "LC_ALL", "TZ", "PYTHONPATH", "LD_LIBRARY_PATH")  # of the environment: no secret


def render(template: str, messages: Sequence[Mapping[str, Any]], variables: Mapping[str, Any]) -> str:
    """Return the text that `template` makes of `messages`. Raises TokenizerError with the template's own complaint."""
    try:
        asked = json.dumps({"template": template, "messages": list(messages), "variables": dict(variables)})
    except (TypeError, ValueError) as error:
        raise TokenizerError(f"the chat template does not fit these messages: {error}") from None
    answer = _renderer.ask(asked)
    if "error" in answer:
        raise TokenizerError(f"the chat template {answer['error']}")
    return answer["text"]


class _Renderer:
    """One process, begun when it is first asked, and anew when it had to be ended. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._read = bytearray()

    def ask(self, line: str) -> dict[str, str]:
        """Its answer; `error` where it took too long, or died of it."""
        with self._lock:
            try:
                return self._asked(line)
            except TimeoutError:
                self.end()
                return {"error": f"cannot be rendered: it takes longer than {RENDER_SECONDS:g} s"}
            except (OSError, ValueError):
                self.end()
                return {"error": "cannot be rendered: the process that renders it ended"}
            except BaseException:  # Ctrl-C: the answer would be taken for the next one's
                self.end()
                raise

    def end(self) -> None:
        """End the process, if there is one."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _asked(self, line: str) -> dict[str, str]:
        process = self._living()
        assert process.stdin is not None
        process.stdin.write(f"{line}\n".encode())
        process.stdin.flush()
        answer: dict[str, str] = json.loads(self._line(process, RENDER_SECONDS))
        return answer

    def _living(self) -> "subprocess.Popen[bytes]":
        if self._process is None or self._process.poll() is not None:
            env = {name: os.environ[name] for name in GIVEN if name in os.environ}
            isolated = ["-P"] if sys.version_info >= (3, 11) else []  # Python 3.10 would look into our own folder first
            self._read.clear()
            self._process = subprocess.Popen(
                [sys.executable, *isolated, str(PROGRAM)], env=env, cwd=PROGRAM.parent,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            try:
                self._line(self._process, START_SECONDS)
            except TimeoutError:
                raise OSError("it does not start") from None
        return self._process

    def _line(self, process: "subprocess.Popen[bytes]", within_s: float) -> bytes:
        """The next line. TimeoutError: none came; OSError: none will, or it has no end."""
        assert process.stdout is not None
        deadline = time.monotonic() + within_s
        with selectors.DefaultSelector() as waiting:
            waiting.register(process.stdout, selectors.EVENT_READ)
            while (end := self._read.find(b"\n")) < 0:
                if not waiting.select(max(deadline - time.monotonic(), 0)):
                    raise TimeoutError
                more = os.read(process.stdout.fileno(), 1 << 20)
                if not more or len(self._read) > ANSWER_BYTES:
                    raise OSError("no answer")
                self._read += more
        line = bytes(self._read[:end])
        del self._read[: end + 1]
        return line


_renderer = _Renderer()
atexit.register(_renderer.end)
