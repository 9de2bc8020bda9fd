"""The tokens of a tokenizer.json in id order, and what its extension needs to know of each."""

from dataclasses import dataclass
from typing import Any

from dllama_glm.formats import tokenizer_file as format_
from dllama_glm.formats.tokenizer_file import TokenizerError, TokenRecord
from dllama_glm.tokenizer import bytetable, pipeline

_PARTS = ("normalizer", "pre_tokenizer", "post_processor", "decoder")
_ELSEWHERE = frozenset(("type", "vocab", "merges", "dropout"))  # of the model's entries: fixed, or kept by the file


@dataclass(frozen=True)
class Vocabulary:
    """A byte-pair vocabulary.

    `strings[i]` is the text of id i, None for an id without a token; `added` is tokenizer.json's list by id;
    `regular` maps the model's own strings to ids; `merges` are pairs of strings; `form` is one of pipeline's two.
    """

    strings: tuple[str | None, ...]
    added: dict[int, dict[str, Any]]
    regular: dict[str, int]
    merges: tuple[tuple[str, str], ...]
    form: str

    @property
    def boundary(self) -> int:
        """The first id from which on there are only added tokens: where regular tokens end."""
        boundary = len(self.strings)
        while boundary and (boundary - 1 in self.added or self.strings[boundary - 1] is None):
            boundary -= 1
        return boundary

    def id(self, text: str) -> int | None:
        """The id of a token by its text, None where there is none."""
        added = next((token_id for token_id, entry in self.added.items() if entry["content"] == text), None)
        return self.regular.get(text) if added is None else added

    def merge_ids(self) -> list[int]:
        """The merges as a flat list of ids. Raises TokenizerError where one names a token that does not exist."""
        try:
            return [self.regular[string] for pair in self.merges for string in pair]
        except KeyError as error:
            raise TokenizerError(f"a merge names {error}, which is not in the vocabulary") from None

    def exact(self) -> tuple[list[bytes], list[TokenRecord]]:
        """The tokens' bytes, as they decode, and the records from which the strings follow again."""
        tokens, records = [], []
        for token_id, string in enumerate(self.strings):
            token, flags = self._one(token_id, string)
            tokens.append(token)
            if flags:
                records.append(TokenRecord(token_id, flags))
        return tokens, records

    def upstream(self) -> list[bytes]:
        """The tokens' bytes as upstream's converter writes them."""
        return [
            format_.placeholder(token_id) if s is None else bytetable.to_bytes_mixed(s)
            for token_id, s in enumerate(self.strings)
        ]

    def _one(self, token_id: int, string: str | None) -> tuple[bytes, int]:
        if string is None:
            return format_.placeholder(token_id), format_.HOLE
        if token_id in self.added:
            return string.encode(), pipeline.record_flags(self.added[token_id], in_vocab=string in self.regular)
        if self.form == pipeline.BYTE_LEVEL:
            token = bytetable.to_bytes(string)
            return (token, 0) if token is not None else (string.encode(), format_.LITERAL)
        if len(string) == 6 and string.startswith("<0x") and string.endswith(">"):
            value = bytes.fromhex(string[3:5]) if _is_hex(string[3:5]) else None
            if value is not None and string == f"<0x{value[0]:02X}>":
                return value, format_.BYTE
        return (string.encode(), format_.LITERAL) if " " in string else (string.replace("▁", " ").encode(), 0)


def read_vocabulary(document: dict[str, Any]) -> Vocabulary:
    """Take a tokenizer.json apart. Raises TokenizerError where it is no byte-pair vocabulary or contradicts itself."""
    model = document.get("model")
    if not isinstance(model, dict) or not isinstance(model.get("vocab"), dict) or "merges" not in model:
        kind = model.get("type") if isinstance(model, dict) else None
        raise TokenizerError(f"its model is of type {kind!r}; only byte-pair encoding (BPE) is supported")
    if model.get("dropout"):
        raise TokenizerError("model.dropout makes ids random; set it to null")
    regular: dict[str, int] = model["vocab"]
    added = {entry["id"]: entry for entry in document.get("added_tokens") or []}
    by_id = {token_id: string for string, token_id in regular.items()} | {
        token_id: entry["content"] for token_id, entry in added.items()
    }
    if any(isinstance(token_id, bool) or not isinstance(token_id, int) for token_id in by_id):
        raise TokenizerError("a token id is not a whole number")
    if not by_id or min(by_id) < 0 or max(by_id) > 4 * len(by_id) + 65536:
        raise TokenizerError("token ids are missing, negative or far beyond the number of tokens")
    if any(not string for string in by_id.values()):
        raise TokenizerError("has an empty token, which a .t file cannot hold")
    return Vocabulary(
        strings=tuple(by_id.get(token_id) for token_id in range(max(by_id) + 1)),
        added=added,
        regular=regular,
        merges=tuple(_pair(merge) for merge in model["merges"]),
        form=pipeline.BYTE_LEVEL if _uses(document, "ByteLevel") else pipeline.SENTENCEPIECE,
    )


def pipeline_of(document: dict[str, Any], form: str, special_tokens: dict[str, str]) -> dict[str, Any]:
    """What the extension keeps of a tokenizer.json as JSON: everything but vocabulary, merges and added tokens."""
    return {
        "strings": form,
        **{part: document.get(part) for part in _PARTS},
        "model": {name: value for name, value in document["model"].items() if name not in _ELSEWHERE},
        "special_tokens": special_tokens,
    }


def _pair(merge: Any) -> tuple[str, str]:
    left, _, right = merge.partition(" ") if isinstance(merge, str) else (merge[0], None, merge[1])
    return left, right


def _uses(document: dict[str, Any], kind: str) -> bool:
    """Whether a step of this kind is among the pre-tokenisers, or in a sequence of them."""
    waiting = [document.get("pre_tokenizer")]
    while waiting:
        step = waiting.pop()
        if isinstance(step, dict):
            if step.get("type") == kind:
                return True
            waiting += step.get("pretokenizers") or []
    return False


def _is_hex(text: str) -> bool:
    return all(character in "0123456789ABCDEF" for character in text)
