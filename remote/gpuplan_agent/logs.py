"""A job's log: what is kept of its output, and how it is read from an offset.

Offsets count the bytes of the filtered output. The first HEAD bytes are in the file `log`; what follows is in segments
`log.START`, of which only the newest KEPT are there: the log is bounded, and what was dropped is said so.
"""

from __future__ import annotations

import os

HEAD = 8 << 20
SEGMENT = 4 << 20
KEPT = 2
LONGEST_STATE = 1 << 16  # a line that redraws itself is shorter than this; a longer one is passed on as it is
STATE_EVERY_S = 0.5
SHORTEST = 4  # characters: shorter ones would mask ordinary words
NOTE = b"\n[gpuplan: the log goes on in log.* beside this file, of which the newest are kept]\n"


def forms(text: str) -> set[str]:
    """A secret as programs write it: in JSON and Python, in a shell, in URLs, in HTML; each of its lines too."""
    import html
    import json
    import re
    from urllib.parse import quote, quote_plus

    found = set()
    for part in (text, *text.splitlines()):
        if len(part) >= SHORTEST:
            urls = [quote(part, "/"), quote(part, ""), quote_plus(part)]
            numbers = "".join(chr(byte) if 32 <= byte < 127 else f"\\{byte:03o}" for byte in part.encode())
            found |= {
                part,
                html.escape(part),
                *urls,
                *(re.sub("%[0-9A-F]{2}", lambda code: code[0].lower(), url) for url in urls),
            }
            found |= {json.dumps(part)[1:-1], json.dumps(part, ensure_ascii=False)[1:-1], repr(part)[1:-1]}
            found |= {part.replace("'", "'\"'\"'"), part.replace("'", "'\\''"), numbers.replace("'", "\\'")}
            found |= {re.sub(r'([$`"\\!])', r"\\\1", part), re.sub(r"^[~#]|[^\w@%+=:./~#-]", r"\\\g<0>", part)}
    return found


class Filter:
    """Masks secrets, and of a line that redraws itself with carriage returns keeps the newest state now and then."""

    def __init__(self, secrets: list[str]) -> None:
        self._secrets = sorted({form.encode() for text in secrets for form in forms(text)}, key=len, reverse=True)
        self._held = b""  # the end of the output, as long as it may be the beginning of a secret
        self._line = b""  # the state of the last line, not yet passed on
        self._open = False  # what was passed on last ends in the middle of a line
        self._rewind = False  # ... which the text that comes next replaces
        self._last_state = float("-inf")

    def feed(self, data: bytes, now: float) -> bytes:
        """Take output as it comes and return what is to be logged of it; `now` is in seconds, monotonic."""
        data = self._mask(self._held + data)
        keep = max((_overlap(data, word) for word in self._secrets), default=0)
        self._held = data[len(data) - keep :]
        whole, newline, rest = (self._line + data[: len(data) - keep]).rpartition(b"\n")
        if b"\r" in whole:
            out = b"".join([self._pass_on(self._settle(line).rstrip(b"\r") + b"\n") for line in whole.split(b"\n")])
        else:
            out = self._pass_on(whole + newline) if newline else b""
        self._line = self._settle(rest)
        return out + self.tick(now)

    def tick(self, now: float) -> bytes:
        """Return the state of a line that is not ended, if there is one and the last one is long enough ago."""
        if not self._line or (now - self._last_state < STATE_EVERY_S and len(self._line) < LONGEST_STATE):
            return b""
        self._last_state = now
        line, self._line = self._line, b""
        return self._pass_on(line)

    def finish(self) -> bytes:
        """Return all that was held back."""
        rest, self._line, self._held = self._line + self._held, b"", b""
        return self._pass_on(rest)

    def _settle(self, line: bytes) -> bytes:
        """The last state of a line that redraws itself, with the return that ends it if there is one."""
        if b"\r" not in line:
            return line
        body = line.rstrip(b"\r")
        before, rewound, state = body.rpartition(b"\r")
        self._rewind = self._rewind or (self._open and bool(before or rewound))
        return state + (b"\r" if len(body) < len(line) else b"")

    def _pass_on(self, text: bytes) -> bytes:
        if not text:
            return text
        prefix, self._rewind = (b"\r" if self._rewind else b""), False
        self._open = not text.endswith((b"\n", b"\r"))
        return prefix + text

    def _mask(self, data: bytes) -> bytes:
        for word in self._secrets:
            data = data.replace(word, b"***")
        return data


def _overlap(data: bytes, word: bytes) -> int:
    """Length of the longest end of `data` that is a proper beginning of `word`."""
    for length in range(min(len(word) - 1, len(data)), 0, -1):
        if data.endswith(word[:length]):
            return length
    return 0


class Writer:
    """Appends to a job's log and drops what is beyond its bounds. A full disk drops output, never the job."""

    def __init__(self, folder: str, *, head: int = HEAD, segment: int = SEGMENT) -> None:
        self.offset = 0
        self._folder = folder
        self._head, self._segment = head, segment
        self._room = head
        self._file = _create(os.path.join(folder, "log"))
        self._starts: list[int] = []

    def write(self, data: bytes) -> None:
        """Append; a full disk loses the data, and only that."""
        view = memoryview(data)
        try:
            while view:
                if not self._room:
                    self._next_segment()
                written = os.write(self._file, view[: self._room])
                self.offset += written
                self._room -= written
                view = view[written:]
        except OSError:
            return

    def _next_segment(self) -> None:
        file = _create(os.path.join(self._folder, f"log.{self.offset}"))
        if not self._starts:
            os.write(self._file, NOTE)
        os.close(self._file)
        self._file, self._room = file, self._segment
        self._starts.append(self.offset)
        if len(self._starts) > KEPT:
            os.unlink(os.path.join(self._folder, f"log.{self._starts.pop(0)}"))

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def _create(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)


def read(folder: str, offset: int, limit: int, *, head: int = HEAD) -> tuple[bytes, int, int]:
    """Bytes of the log from `offset` on, at most `limit`: (bytes, how many before them are gone, where they end)."""
    names = os.listdir(folder) if os.path.isdir(folder) else []  # a supervisor that died at once has made none
    starts = sorted([0] + [int(name[4:]) for name in names if name[:4] == "log." and name[4:].isdigit()])
    for start, following in zip(starts, [*starts[1:], None]):
        try:
            with open(os.path.join(folder, f"log.{start}" if start else "log"), "rb") as file:
                size = os.fstat(file.fileno()).st_size
                end = start + (min(size, head) if start == 0 else size)
                if offset < end:
                    begin = max(start, offset)
                    file.seek(begin - start)
                    data = file.read(min(limit, end - begin))
                    return data, begin - offset, begin + len(data)
        except FileNotFoundError:  # dropped between the listing and the reading: the next one has what follows
            if following is None:
                break
    return b"", 0, offset
