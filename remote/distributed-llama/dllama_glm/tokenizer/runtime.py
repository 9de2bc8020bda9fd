"""The tokenizer of a running model: `load` a `.t` file, then text to ids and ids to text."""

import codecs
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from dllama_glm.formats import tokenizer_file as format_
from dllama_glm.formats.tokenizer_file import TokenizerError, TokenizerFile
from dllama_glm.tokenizer import pipeline
from dllama_glm.tokenizer.boundary import BoundaryEncoder
from dllama_glm.tokenizer.library import refusing
from dllama_glm.tokenizer.shield import shield

_CANNOT = "Hugging Face's tokenizers fails on it"


def check_text(text: str) -> None:
    """Raise TokenizerError where a text is not valid Unicode.

    Bytes that were no UTF-8 where the text came from are U+DC80 to U+DCFF in it, as Python decodes a command line.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        if "\udc80" <= text[error.start] <= "\udcff":
            raise TokenizerError("the text is not UTF-8") from None
        raise TokenizerError("the text is not valid Unicode (it holds half of a surrogate pair)") from None


class DecodeStream:
    """Turns ids into text one by one; bytes of an unfinished character are held back until it is complete."""

    def __init__(self, piece: Callable[[int], bytes]) -> None:
        self._piece = piece
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token_id: int) -> str:
        """Return the text that `token_id` completes, often a whole word and sometimes nothing yet."""
        return self._decoder.decode(self._piece(token_id))

    def flush(self) -> str:
        """Return what is held back (as U+FFFD, since it never became a character) and begin anew."""
        rest = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return rest


class Tokenizer:
    """Ids and text of one vocabulary. Ids equal Hugging Face's where the file has our extension, else upstream's.

    `vocab_size` counts padding rows; ids from `n_tokens` on are padding. They and `holes`, ids without a token among
    the others, must never be sampled, and print nothing.
    `eos_ids` all end a generation. `bos_id` is None where the model has no such token.
    `prefix_ids` go in front of a raw prompt, `encode` does not add them (GLM: `[gMASK]<sop>`); `prompt_ids` does both.
    """

    def __init__(self, content: TokenizerFile) -> None:
        extension = content.extension
        self.vocab_size = len(content.tokens)
        self.n_tokens = extension.n_tokens if extension else self.vocab_size
        self.eos_ids = content.eos_ids
        self.prefix_ids = extension.prefix_ids if extension else ()
        self.chat_template = content.chat_template
        self.holes = format_.holes(content)
        self._content = content
        self._tokens = content.tokens
        if extension is not None:
            self.bos_id = extension.bos_id
            self._exact = pipeline.assemble(content)
            self._names = pipeline.options(extension).get("special_tokens", {})
            self._special = {record.id for record in extension.records if record.flags & format_.SPECIAL}
        else:
            self.bos_id = content.bos_id if content.add_bos and 0 <= content.bos_id < self.vocab_size else None
            self._exact = None
            self._rule = BoundaryEncoder(content)
            self._names = self._standard_names()
            self._special = {*content.eos_ids, content.bos_id}
        self._absent = self.holes | frozenset(range(self.n_tokens, self.vocab_size))

    def _standard_names(self) -> dict[str, str]:
        named = {"bos_token": self.bos_id, "eos_token": next(iter(self.eos_ids), None)}
        return {
            name: self._tokens[token_id].decode("utf-8", "replace")
            for name, token_id in named.items()
            if token_id is not None
        }

    def check_rows(self, rows: int) -> None:
        """Raise TokenizerError where an end, bos or prefix token has no row in a model of so many."""
        format_.check_rows(self._content, rows)

    def encode(self, text: str, *, add_special: bool = True) -> list[int]:
        """Return the ids of `text`; special tokens written out in it become their ids.

        `add_special` adds what the tokenizer itself puts around a text (a bos, say). Raises TokenizerError.
        """
        check_text(text)
        if self._exact is not None:
            with refusing(_CANNOT):
                ids: list[int] = self._exact.encode(text, add_special_tokens=add_special).ids
                return ids
        bos = [self.bos_id] if add_special and self.bos_id is not None else []
        return bos + self._rule.encode(text)

    def prompt_ids(self, text: str) -> list[int]:
        """Return the ids to feed for a raw prompt: the text, behind the model's prefix unless that is written out.

        White space before a prefix that is written out falls away: the prefix is nothing but the beginning.
        """
        for candidate in (text, text.lstrip()):
            ids = self.encode(candidate)
            if tuple(ids[: len(self.prefix_ids)]) == self.prefix_ids:
                return ids
        return [*self.prefix_ids, *self.encode(text)]

    def piece(self, token_id: int) -> bytes:
        """Return the bytes of a token, also of a special one. Raises TokenizerError for an unknown id."""
        if not 0 <= token_id < self.vocab_size:
            raise TokenizerError(f"token id {token_id} is not in the vocabulary of {self.vocab_size}")
        return self._tokens[token_id]

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        """Return the text of `ids`; what is no UTF-8 becomes U+FFFD. Raises TokenizerError for an unknown id."""
        pieces = [b"" if self._is_silent(token_id, skip_special) else self.piece(token_id) for token_id in ids]
        if self._exact is not None:
            with refusing(_CANNOT):
                text: str = self._exact.decode(list(ids), skip_special_tokens=skip_special)
                return text
        return b"".join(pieces).decode("utf-8", "replace")

    def decode_stream(self, *, skip_special: bool = True) -> DecodeStream:
        """Return a decoder for ids as they come; special tokens print nothing with `skip_special`."""
        return DecodeStream(lambda token_id: b"" if self._is_silent(token_id, skip_special) else self.piece(token_id))

    def _is_silent(self, token_id: int, skip_special: bool) -> bool:  # noqa: FBT001
        return token_id in self._absent or (skip_special and token_id in self._special)

    def render_chat(self, messages: Sequence[Mapping[str, Any]], **variables: Any) -> str:
        """Return the text that the chat template makes of `messages`, ready for the assistant's turn.

        `variables` reach the template (`tools`, `enable_thinking`, `add_generation_prompt`). Raises TokenizerError.
        """
        if self.chat_template is None:
            raise TokenizerError(
                "this tokenizer has no chat template: the model was not trained to chat, use inference"
            )
        from dllama_glm.tokenizer import chat

        values = {"add_generation_prompt": True, "tools": None, "documents": None, **self._names, **variables}
        return chat.render(self.chat_template, messages, values)

    def chat_prompt(
        self, messages: Sequence[Mapping[str, Any]], *, special_in_messages: bool = False, **variables: Any
    ) -> list[int]:
        """Return the ids to feed for a conversation (`{"role": ..., "content": ...}` each). Raises TokenizerError.

        A special token that a message writes out is text, so that no message can speak in another's name; with
        `special_in_messages` it is the token, as in Hugging Face. The template's own are tokens in any case.
        """
        if special_in_messages:
            return self.encode(self.render_chat(messages, **variables), add_special=False)
        shielded, texts = shield(messages, lambda text: [(start, end) for _, start, end in self._specials_in(text)])
        rendered = self.render_chat(shielded, **variables)
        if not texts:
            return self.encode(rendered, add_special=False)
        ids: list[int] = []
        at = 0
        for token_id, start, end in self._specials_in(rendered):
            ids += [*self._plain(rendered[at:start].translate(texts), inside=at > 0), token_id]
            at = end
        return ids + self._plain(rendered[at:].translate(texts), inside=at > 0)

    def _specials_in(self, text: str) -> list[tuple[int, int, int]]:
        """Id, start and end of each special token that a text holds. Raises TokenizerError."""
        check_text(text)
        if self._exact is None:
            return self._rule.special_tokens(text)
        with refusing(_CANNOT):
            found = self._exact.encode(text, add_special_tokens=False)
        return [
            (token_id, *span)
            for token_id, span in zip(found.ids, found.offsets, strict=True)
            if token_id in self._special
        ]

    def _plain(self, text: str, *, inside: bool) -> list[int]:
        """The ids of a text without special tokens; `inside`: it goes on behind other text."""
        if self._exact is None:
            return self._rule.encode(text, plain=True, inside=inside)
        with refusing(_CANNOT):
            ids: list[int] = self._exact_plain.encode(text, add_special_tokens=False).ids
            return ids

    @cached_property
    def _exact_plain(self) -> Any:
        """The exact tokenizer that takes special tokens for text."""
        tokenizer = pipeline.assemble(self._content)
        tokenizer.encode_special_tokens = True
        return tokenizer


def load(path: str | Path) -> Tokenizer:
    """Load a `.t` file. Raises TokenizerError naming the file where it is missing, damaged or of another kind."""
    path = Path(path)
    content = format_.read(path)
    try:
        return Tokenizer(content)
    except TokenizerError as error:
        raise TokenizerError(f"{path}: {error}") from None
