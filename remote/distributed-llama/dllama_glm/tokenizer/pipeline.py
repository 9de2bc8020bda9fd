"""A Hugging Face tokenizer taken apart for a `.t` file's extension, and put together again from one."""

import json
from typing import Any

from dllama_glm.formats import tokenizer_file as format_
from dllama_glm.formats.tokenizer_file import Extension, TokenizerError, TokenizerFile
from dllama_glm.tokenizer import bytetable
from dllama_glm.tokenizer.library import refusing

# How the vocabulary's strings follow from the file's bytes: by the byte table, or as UTF-8 with "▁" for a space.
BYTE_LEVEL = "byte-level"
SENTENCEPIECE = "sentencepiece"

_RECORD_FIELDS = (
    ("special", format_.SPECIAL),
    ("single_word", format_.SINGLE_WORD),
    ("lstrip", format_.LSTRIP),
    ("rstrip", format_.RSTRIP),
    ("normalized", format_.NORMALIZED),
)


def record_flags(added: dict[str, Any], *, in_vocab: bool) -> int:
    """Return the flags of one entry of tokenizer.json's `added_tokens`."""
    flags = sum(flag for name, flag in _RECORD_FIELDS if added.get(name, False))
    return format_.ADDED | flags | (format_.IN_VOCAB if in_vocab else 0)


def assemble(content: TokenizerFile) -> Any:
    """Build the `tokenizers.Tokenizer` that a file's extension describes. Raises TokenizerError."""
    from tokenizers import Tokenizer

    extension = content.extension
    if extension is None:
        raise TokenizerError("has no extension")
    with refusing("holds a tokenizer that cannot be built"):
        return Tokenizer.from_str(json.dumps(_document(content, extension)))


def reference(document: dict[str, Any]) -> Any:
    """Build the tokenizer that a tokenizer.json describes, but for truncation and padding. Raises TokenizerError."""
    from tokenizers import Tokenizer

    with refusing("Hugging Face's tokenizers refuses it"):
        return Tokenizer.from_str(json.dumps({**document, "truncation": None, "padding": None}))


def options(extension: Extension) -> dict[str, Any]:
    """Return the pipeline's JSON object. Raises TokenizerError."""
    try:
        pipeline = json.loads(extension.pipeline)
    except (json.JSONDecodeError, RecursionError) as error:
        raise TokenizerError(f"has a pipeline that is not JSON ({error})") from None
    if not isinstance(pipeline, dict) or not isinstance(pipeline.get("model"), dict):
        raise TokenizerError("has a pipeline without a model")
    return pipeline


def _document(content: TokenizerFile, extension: Extension) -> dict[str, Any]:
    pipeline = options(extension)
    flags = {record.id: record.flags for record in extension.records}
    strings = _strings(content, extension, flags, pipeline.get("strings", BYTE_LEVEL))
    outside = format_.HOLE | format_.ADDED
    hidden = {token_id for token_id, flag in flags.items() if flag & outside and not flag & format_.IN_VOCAB}
    vocabulary = {string: token_id for token_id, string in enumerate(strings) if token_id not in hidden}
    merges = iter(extension.merges)
    pairs = [(strings[left], strings[right]) for left, right in zip(merges, merges, strict=True)]
    added = [
        {"id": token_id, "content": strings[token_id], **{name: bool(flag & bit) for name, bit in _RECORD_FIELDS}}
        for token_id, flag in sorted(flags.items())
        if flag & format_.ADDED
    ]
    parts = ("normalizer", "pre_tokenizer", "post_processor", "decoder")
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        **{part: pipeline.get(part) for part in parts},
        "model": {**pipeline["model"], "type": "BPE", "vocab": vocabulary, "merges": pairs},
    }


def _strings(content: TokenizerFile, extension: Extension, flags: dict[int, int], form: str) -> list[str]:
    tokens = content.tokens[: extension.n_tokens]
    if form not in (BYTE_LEVEL, SENTENCEPIECE):
        raise TokenizerError(f"writes its vocabulary in an unknown form {form!r}")
    from_bytes = bytetable.to_string if form == BYTE_LEVEL else _sentencepiece_string
    strings = []
    for token_id, token in enumerate(tokens):
        flag = flags.get(token_id, 0)
        try:
            if flag & format_.BYTE:
                strings.append(f"<0x{token[0]:02X}>")
            else:
                strings.append(token.decode() if flag & (format_.ADDED | format_.LITERAL) else from_bytes(token))
        except UnicodeDecodeError:
            raise TokenizerError(f"has a token at id {token_id} that is not UTF-8") from None
    return strings


def _sentencepiece_string(token: bytes) -> str:
    return token.decode().replace(" ", "▁")
