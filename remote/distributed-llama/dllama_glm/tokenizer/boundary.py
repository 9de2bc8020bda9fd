"""Upstream's own way from text to ids, for files that carry no pre-tokeniser: needs only tokens, scores and a boundary.

Special tokens are matched first, in id order, at each byte. What is left is cut into the shortest regular tokens, and
the adjacent pair whose joined bytes are the regular token of the highest score is merged until no pair is left.
"""

import heapq
import re
from typing import TypeAlias

from dllama_glm.formats.tokenizer_file import TokenizerError, TokenizerFile

_ByFirst: TypeAlias = dict[int, list[tuple[bytes, int]]]  # tokens and their ids, in id order, by the first byte

# Special by the boundary, yet words that the model's own texts hold: the families that have them flag them so.
_WORDS = frozenset(
    f"<{slash}{name}>".encode() for name in ("think", "tool_call", "tool_response") for slash in ("", "/")
)


class BoundaryEncoder:
    """Encodes by upstream's rule: ids below `bos_id` are regular tokens, the others special ones.

    A sentencepiece vocabulary has its bos in front, where it marks no boundary: then all but the leading unknown, bos
    and eos are regular, a text begins with a space, and characters that are no token are spelled in byte tokens.
    """

    def __init__(self, content: TokenizerFile) -> None:
        self._scores = content.scores
        self._tokens = content.tokens
        self.sentencepiece = 0 <= content.bos_id < min(256, len(content.tokens) - 1)
        control = {*range(content.bos_id + 1), *content.eos_ids} if self.sentencepiece else set()
        stop = len(content.tokens) if self.sentencepiece or content.bos_id < 0 else content.bos_id
        # Of equal tokens the last counts: sentencepiece's byte tokens stand before the letters that they spell.
        self._regular = {content.tokens[token_id]: token_id for token_id in range(stop) if token_id not in control}
        special = sorted(control) if self.sentencepiece else range(stop, len(content.tokens))
        self._special: _ByFirst = {}
        for token_id in special:
            self._special.setdefault(content.tokens[token_id][0], []).append((content.tokens[token_id], token_id))
        self._words = {first: [one for one in ones if one[0] in _WORDS] for first, ones in self._special.items()}
        self._controls: dict[str, int] = {}
        for token_id in special:
            if content.tokens[token_id] not in _WORDS:
                self._controls.setdefault(content.tokens[token_id].decode("utf-8", "replace"), token_id)
        self._any_control = re.compile("|".join(map(re.escape, self._controls)) or "(?!)")  # in id order, as matched

    def encode(self, text: str, *, plain: bool = False, inside: bool = False) -> list[int]:
        """Return the ids of `text`. Raises TokenizerError where the vocabulary cannot spell it.

        `plain`: text that writes out a special token is text. `inside`: the text goes on behind other text.
        """
        data = text.encode()
        if self.sentencepiece and data and not inside:
            data = b" " + data
        return self._merge(self._pieces(data, self._words if plain else self._special))

    def special_tokens(self, text: str) -> list[tuple[int, int, int]]:
        """Return id, start and end of each special token that is written out in a text."""
        return [(self._controls[match[0]], *match.span()) for match in self._any_control.finditer(text)]

    def _pieces(self, data: bytes, known: _ByFirst) -> list[int]:
        ids: list[int] = []
        start = position = 0
        while position < len(data):
            special = self._special_at(known, data, position) if start == position else None
            if special is not None:
                ids.append(special)
                position += len(self._tokens[special])
                start = position
                continue
            position += self._step(data, position)
            token_id = self._regular.get(data[start:position])
            if token_id is not None:
                ids.append(token_id)
            elif self.sentencepiece:
                ids += self._spelled(data[start:position])
            else:
                continue
            start = position
        if start != len(data):
            raise TokenizerError(f"the vocabulary has no token for {data[start:]!r}")
        return ids

    @staticmethod
    def _special_at(known: _ByFirst, data: bytes, position: int) -> int | None:
        candidates = known.get(data[position], ())
        return next((token_id for token, token_id in candidates if data.startswith(token, position)), None)

    def _step(self, data: bytes, position: int) -> int:
        if not self.sentencepiece or data[position] < 0x80:
            return 1
        end = position + 1
        while end < len(data) and data[end] & 0xC0 == 0x80:
            end += 1
        return end - position

    def _spelled(self, character: bytes) -> list[int]:
        ids = [self._regular.get(bytes((byte,)), -1) for byte in character]
        if -1 in ids:
            raise TokenizerError(f"the vocabulary has no token for {character!r}")
        return ids

    def _merge(self, ids: list[int]) -> list[int]:
        """Merge the best pair, the first of equals, until none is left: a heap of pairs over a linked list of ids."""
        following = [*range(1, len(ids)), -1] if ids else []
        previous = list(range(-1, len(ids) - 1))
        alive = [True] * len(ids)
        heap: list[tuple[float, int, int, int, int]] = []

        def offer(left: int) -> None:
            right = following[left]
            if right >= 0:
                merged = self._regular.get(self._tokens[ids[left]] + self._tokens[ids[right]])
                if merged is not None:
                    heapq.heappush(heap, (-self._scores[merged], left, ids[left], ids[right], merged))

        for position in range(len(ids)):
            offer(position)
        while heap:
            _, left, left_id, right_id, merged = heapq.heappop(heap)
            right = following[left]
            if not alive[left] or right < 0 or (ids[left], ids[right]) != (left_id, right_id):
                continue
            ids[left], alive[right] = merged, False
            following[left] = following[right]
            if following[right] >= 0:
                previous[following[right]] = left
            offer(left)
            if previous[left] >= 0:
                offer(previous[left])
        return [token_id for token_id, living in zip(ids, alive, strict=True) if living]
