"""From a model folder to the content of a `.t` file: upstream's own bytes, or with our extension."""

import json
from dataclasses import dataclass
from typing import Any

from dllama_glm.formats.tokenizer_file import Extension, TokenizerError, TokenizerFile, check_rows, placeholder
from dllama_glm.tokenizer import pipeline
from dllama_glm.tokenizer.added import outside_texts, with_outside_tokens
from dllama_glm.tokenizer.folder import Folder
from dllama_glm.tokenizer.library import refusing
from dllama_glm.tokenizer.sentencepiece_model import as_llama, read_pieces, to_document
from dllama_glm.tokenizer.vocabulary import Vocabulary, pipeline_of, read_vocabulary

_GLM_PREFIX = ("[gMASK]", "<sop>")

_INEXACT = "standard format: without the pre-tokeniser, ids can differ from Hugging Face's; --extended carries it"
_MISPLACED = (
    "upstream tells regular from special tokens by the bos id, which does not separate them here; "
    "the file carries our extension, which upstream's dllama refuses"
)


@dataclass(frozen=True)
class _Parts:
    """What was read of a folder whose vocabulary is byte-pair encoded. `bos_id` None: the model has no such token."""

    folder: Folder
    document: dict[str, Any]
    vocabulary: Vocabulary
    eos_ids: tuple[int, ...]
    bos_id: int | None


def convert(folder: Folder, *, extended: bool = False) -> tuple[TokenizerFile, list[str]]:
    """Return the `.t` content of a folder and notes for the user.

    Upstream's own bytes where upstream can load the model (plus end tokens that only generation_config.json names, and
    a template that only chat_template.jinja holds); with our extension for GLM, where `extended` asks for it, and where
    upstream would split regular from special tokens at the wrong id. Raises TokenizerError.
    """
    content, notes = _converted(folder, extended=extended)
    if folder.model_vocab_size is not None:
        try:
            check_rows(content, folder.model_vocab_size)
        except TokenizerError as error:
            raise TokenizerError(f"{folder.path / 'config.json'} (vocab_size): {error}") from None
    return content, [*notes, *folder.template_notes(file_first=content.extension is not None)]


def _converted(folder: Folder, *, extended: bool) -> tuple[TokenizerFile, list[str]]:
    if not extended and not folder.is_glm and folder.has_model and folder.tokenizer_class == "LlamaTokenizer":
        return _standard_sentencepiece(folder)
    if extended or folder.is_glm:
        return _extended(_read(folder, complete=True))
    parts = _read(folder, complete=False)
    boundary, bos_id = parts.vocabulary.boundary, parts.bos_id
    splits = boundary <= bos_id if bos_id is not None else boundary < len(parts.vocabulary.strings)
    if not splits:
        content, notes = _extended(_read(folder, complete=True))
        return content, [_MISPLACED, *notes]
    return _standard(parts)


def _read(folder: Folder, *, complete: bool) -> _Parts:
    """`complete`: with the tokens that stand in other files than the vocabulary."""
    source = folder.path / ("tokenizer.model" if folder.document is None else "tokenizer.json")
    try:
        document = to_document(source, add_bos=folder.asks_for_bos) if folder.document is None else folder.document
        vocabulary = read_vocabulary(document)
        _agree(vocabulary, document)
        if complete:
            document = _complete(folder, document, vocabulary)
            vocabulary = read_vocabulary(document)
            _agree(vocabulary, document)
    except TokenizerError as error:
        prefix = "" if str(error).startswith(str(folder.path)) else f"{source}: "
        raise TokenizerError(f"{prefix}{error}") from None
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise TokenizerError(f"{source}: is not laid out as expected: {error!r}") from None
    return _Parts(folder, document, vocabulary, _eos_ids(folder, vocabulary), _bos_id(folder, vocabulary))


def _complete(folder: Folder, document: dict[str, Any], vocabulary: Vocabulary) -> dict[str, Any]:
    """Return the document with the tokens of the other files."""
    known = {text for text in vocabulary.strings if text is not None}
    if folder.document is None and (outside := outside_texts(folder, known)):
        if (folder.tokenizer_class or "").removesuffix("Fast") != "LlamaTokenizer":
            raise TokenizerError(
                f"{folder.path}: has added tokens ({_some(outside)}) beside tokenizer.model, which are matched as its "
                "tokenizer_class has it; only LlamaTokenizer's way is known: save a tokenizer.json with transformers"
            )
        document = as_llama(document, legacy=bool(folder.tokenizer_config.get("legacy", False)))
    return with_outside_tokens(folder, document)


def _beyond(folder: Folder, n_tokens: int) -> list[str]:
    """A note on tokens that the model has no row for."""
    rows = folder.model_vocab_size or n_tokens
    few = f"the tokenizer has {n_tokens} tokens, the model only {rows} rows: text with the ids above cannot be run"
    return [few] if rows < n_tokens else []


def _left_out(folder: Folder, known: set[str]) -> list[str]:
    """A note on tokens that the standard format leaves out, as upstream does."""
    try:
        outside = outside_texts(folder, known)
    except TokenizerError as error:
        return [f"added tokens could not be looked at: {error}"]
    if not outside:
        return []
    return [f"added tokens outside the vocabulary are left out, as upstream does ({_some(outside)}): use --extended"]


def _some(texts: list[str]) -> str:
    return ", ".join(map(repr, texts[:3])) + (", ..." if len(texts) > 3 else "")


def _standard(parts: _Parts) -> tuple[TokenizerFile, list[str]]:
    tokens = parts.vocabulary.upstream()
    content = TokenizerFile(
        tokens=tuple(tokens),
        scores=tuple(-float(token_id) for token_id in range(len(tokens))),
        bos_id=parts.vocabulary.boundary if parts.bos_id is None else parts.bos_id,
        eos_ids=parts.eos_ids,
        add_bos=parts.folder.add_bos and parts.bos_id is not None,
        chat_template=parts.folder.chat_template(file_first=False),
    )
    known = {text for text in parts.vocabulary.strings if text is not None}
    return content, [_INEXACT, *_beyond(parts.folder, len(tokens)), *_left_out(parts.folder, known)]


def _extended(parts: _Parts) -> tuple[TokenizerFile, list[str]]:
    tokens, records = parts.vocabulary.exact()
    n_tokens = len(tokens)
    rows = parts.folder.model_vocab_size or n_tokens
    if rows > 4 * n_tokens + 65536:
        where = parts.folder.path / "config.json"
        raise TokenizerError(f"{where}: vocab_size is {rows}, far beyond the tokenizer's {n_tokens} tokens")
    tokens += [placeholder(token_id) for token_id in range(n_tokens, rows)]
    add_bos = parts.bos_id is not None and parts.folder.asks_for_bos
    options = pipeline_of(parts.document, parts.vocabulary.form, parts.folder.special_tokens)
    content = TokenizerFile(
        tokens=tuple(tokens),
        scores=tuple(-float(token_id) for token_id in range(len(tokens))),
        bos_id=parts.vocabulary.boundary,
        eos_ids=parts.eos_ids,
        add_bos=add_bos,
        chat_template=parts.folder.chat_template(file_first=True),
        extension=Extension(
            pipeline=json.dumps(options, ensure_ascii=False, separators=(",", ":")),
            merges=parts.vocabulary.merge_ids(),
            records=tuple(records),
            prefix_ids=_prefix(parts, parts.bos_id if add_bos else None),
            n_tokens=n_tokens,
            bos_id=parts.bos_id,
        ),
    )
    if pipeline.assemble(content).to_str() != pipeline.reference(parts.document).to_str():
        raise TokenizerError(f"{parts.folder.path}: its tokenizer cannot be carried in a .t file without a change")
    return content, _beyond(parts.folder, n_tokens)


def _standard_sentencepiece(folder: Folder) -> tuple[TokenizerFile, list[str]]:
    source = folder.path / "tokenizer.model"
    try:
        pieces = read_pieces(source)
    except TokenizerError as error:
        raise TokenizerError(f"{source}: {error}") from None
    eos_ids = tuple(dict.fromkeys((pieces.eos_id, *folder.eos_ids)))
    _in_range(folder, eos_ids, len(pieces.tokens))
    content = TokenizerFile(
        tokens=pieces.tokens,
        scores=pieces.scores,
        bos_id=pieces.bos_id,
        eos_ids=eos_ids,
        add_bos=folder.add_bos,
        chat_template=folder.chat_template(file_first=False),
    )
    return content, [_INEXACT, *_beyond(folder, len(pieces.tokens)), *_left_out(folder, set(pieces.names))]


def _agree(vocabulary: Vocabulary, document: dict[str, Any]) -> None:
    """Check that Hugging Face gives each token the id that the file states: it renumbers what contradicts itself."""
    stated = {string: token_id for token_id, string in enumerate(vocabulary.strings) if string is not None}
    if pipeline.reference(document).get_vocab(with_added_tokens=True) != stated:
        raise TokenizerError("its added tokens contradict its vocabulary: two tokens share an id, or one has two")


def _prefix(parts: _Parts, bos_id: int | None) -> tuple[int, ...]:
    """The ids that a raw prompt needs in front and that the tokenizer's own post-processor does not add."""
    wanted = [parts.vocabulary.id(text) for text in _GLM_PREFIX]
    if None in wanted:
        wanted = [] if bos_id is None else [bos_id]
    with refusing("Hugging Face's tokenizers cannot read a text by it"):
        added = pipeline.reference(parts.document).encode("x").ids[: len(wanted)]
    return () if added == wanted else tuple(token_id for token_id in wanted if token_id is not None)


def _bos_id(folder: Folder, vocabulary: Vocabulary) -> int | None:
    """config.json's bos, as upstream takes it; else the one that tokenizer_config.json names; None: there is none."""
    name = folder.special_tokens.get("bos_token")
    stated = folder.bos_id
    bos_id = vocabulary.id(name) if stated is None and name is not None else stated
    count = len(vocabulary.strings)
    if bos_id is not None and bos_id >= count:
        where = folder.path / "config.json"
        raise TokenizerError(f"{where}: bos_token_id {bos_id} is not in the vocabulary of {count} tokens")
    return bos_id


def _eos_ids(folder: Folder, vocabulary: Vocabulary) -> tuple[int, ...]:
    name = folder.special_tokens.get("eos_token")
    named = vocabulary.id(name) if name is not None else None
    eos_ids = folder.eos_ids or (() if named is None else (named,))
    if not eos_ids:
        raise TokenizerError(
            f"{folder.path}: no end token: neither config.json nor generation_config.json has eos_token_id, and "
            "tokenizer_config.json names no eos_token; add one, or generation would never end"
        )
    _in_range(folder, eos_ids, len(vocabulary.strings))
    return eos_ids


def _in_range(folder: Folder, eos_ids: tuple[int, ...], count: int) -> None:
    beyond = [token_id for token_id in eos_ids if token_id >= count]
    if beyond:
        raise TokenizerError(f"{folder.path}: eos_token_id {beyond[0]} is not in the vocabulary of {count} tokens")
