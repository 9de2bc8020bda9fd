"""Tokens that stand outside tokenizer.json: added_tokens.json, and what tokenizer_config.json adds.

transformers puts them into the tokenizer when it loads it, in an order of its own; the same is done here.
"""

import json
from typing import Any

from dllama_glm.formats.tokenizer_file import TokenizerError
from dllama_glm.tokenizer import pipeline
from dllama_glm.tokenizer.folder import Folder

_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")

Entry = dict[str, Any]


def with_outside_tokens(folder: Folder, document: dict[str, Any]) -> dict[str, Any]:
    """Return the tokenizer.json with all of the folder's tokens, under the ids and flags that transformers gives them.

    Raises TokenizerError where a file states another id than the token gets there, since then one of both is wrong.
    """
    tokenizer = pipeline.reference(document)
    before = tokenizer.to_str()
    stated = _stated(folder, document)
    by_text = {entry["content"]: entry for entry in stated.values()}
    named = [by_text.get(entry["content"], entry) for entry in _named(folder)]
    roles = {entry["content"] for entry in _named(folder, extra=False)}
    present = {repr(token) for token in tokenizer.get_added_tokens_decoder().values()}
    known = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    fresh = [entry for _, entry in sorted(stated.items()) if repr(_token(entry)) not in present]
    known |= {entry["content"] for entry in fresh}
    for entry in named:
        if entry["content"] not in known:
            fresh.append(entry)
            known.add(entry["content"])
    tokenizer.add_tokens([_token({**e, "special": e["special"] or e["content"] in roles}) for e in fresh])
    tokenizer.add_special_tokens([_token(entry) for entry in named])
    for token_id, entry in stated.items():
        found = tokenizer.token_to_id(entry["content"])
        if found != token_id:
            raise TokenizerError(
                f"{folder.path}: states the id {token_id} for the added token {entry['content']!r}, "
                f"which gets the id {found} behind the others: they contradict each other"
            )
    if tokenizer.to_str() == before:
        return document
    return {**document, "added_tokens": json.loads(tokenizer.to_str())["added_tokens"]}


def outside_texts(folder: Folder, known: set[str]) -> list[str]:
    """The tokens that only added_tokens.json or tokenizer_config.json hold; `known` are those of the vocabulary."""
    entries = [*_stated(folder, folder.document or {}).values(), *_named(folder)]
    return list(dict.fromkeys(entry["content"] for entry in entries if entry["content"] not in known))


def _token(entry: Entry) -> Any:
    from tokenizers import AddedToken

    return AddedToken(entry["content"], **{flag: entry[flag] for flag in _FLAGS})


def _entry(content: Any, values: Entry, where: str) -> Entry:
    if not isinstance(content, str) or not content:
        raise TokenizerError(f"{where}: an added token is {content!r}, not a text")
    special = bool(values.get("special", False))
    flags = {flag: bool(values.get(flag, flag == "normalized" and not special)) for flag in _FLAGS}
    return {"content": content, **flags}


def _stated(folder: Folder, document: dict[str, Any]) -> dict[int, Entry]:
    """The tokens that a file gives an id to. With added_tokens_decoder there, transformers looks at no other file."""
    where = str(folder.path / "tokenizer_config.json")
    if "added_tokens_decoder" in folder.tokenizer_config:
        found = folder.tokenizer_config["added_tokens_decoder"]
        if not isinstance(found, dict) or not all(
            key.isdecimal() and isinstance(entry, dict) for key, entry in found.items()
        ):
            raise TokenizerError(f"{where}: added_tokens_decoder is no object of tokens by id")
        return {int(key): _entry(entry.get("content"), entry, where) for key, entry in found.items()}
    where = str(folder.path / "added_tokens.json")
    special = {entry["content"] for entry in _named(folder)}
    stated: dict[int, Entry] = {}
    for text, token_id in folder.added_tokens.items():
        if isinstance(token_id, bool) or not isinstance(token_id, int):
            raise TokenizerError(f"{where}: the id of {text!r} is {token_id!r}, not a whole number")
        stated[token_id] = _entry(text, {"special": text in special}, where)
    for entry in document.get("added_tokens") or []:
        stated[entry["id"]] = _entry(entry["content"], entry, str(folder.path / "tokenizer.json"))
    return stated


def _named(folder: Folder, *, extra: bool = True) -> list[Entry]:
    """The tokens that have a role (bos, eos, ...), and the additional ones; special unless they say otherwise."""
    where = str(folder.path / "tokenizer_config.json")
    found: list[Any] = list(folder.role_tokens.values())
    if extra:
        values = folder.tokenizer_config.get("extra_special_tokens")
        values = values or folder.tokenizer_config.get("additional_special_tokens") or []
        found += list(values.values()) if isinstance(values, dict) else values if isinstance(values, list) else [values]
    entries: dict[str, Entry] = {}
    for value in found:
        own = value if isinstance(value, dict) else {"special": True}
        entry = _entry(own.get("content") if isinstance(value, dict) else value, own, where)
        entries.setdefault(entry["content"], entry)
    return list(entries.values())
