"""Texts that end a text: found as it comes piece by piece, and never shown."""

from collections.abc import Sequence


class StopTexts:
    """Lets text through until one of `stops` is complete; `found` is that one then.

    What could still become a stop text is held back until that is decided.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self.found: str | None = None
        self._stops = [stop for stop in stops if stop]
        self._held = ""

    def push(self, piece: str) -> str:
        """Return what of the text so far can be shown now."""
        if self.found is not None:
            return ""
        text = self._held + piece
        places = [(text.find(stop), -len(stop), stop) for stop in self._stops if stop in text]
        if places:
            at, _, self.found = min(places)  # the first; of several in one place, the longest
            self._held = ""
            return text[:at]
        kept = max((self._beginning(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - kept :]
        return text[: len(text) - kept]

    def flush(self) -> str:
        """Return what is held back: the text has ended, so it became no stop text."""
        rest, self._held = self._held, ""
        return rest

    @staticmethod
    def _beginning(text: str, stop: str) -> int:
        """How many characters at the end of the text are the beginning of a stop text."""
        return next((size for size in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:size])), 0)
