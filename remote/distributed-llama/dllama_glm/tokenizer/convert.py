"""`convert-tokenizer-hf.py`: a Hugging Face model folder's tokenizer becomes a `.t` file."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dllama_glm.formats import tokenizer_file as format_
from dllama_glm.formats.tokenizer_file import Extension, TokenizerError, TokenizerFile
from dllama_glm.tokenizer import pipeline
from dllama_glm.tokenizer.folder import Folder, read_folder
from dllama_glm.tokenizer.sentencepiece_model import read_pieces, to_document
from dllama_glm.tokenizer.vocabulary import Vocabulary, pipeline_of, placeholder, read_vocabulary

_GLM_PREFIX = ("[gMASK]", "<sop>")
_CONVERTER = Path(__file__).resolve().parents[2] / "converter"


def main(argv: Sequence[str], default_folder: Path | None = None) -> int:
    """Run the command line; the file goes to `default_folder` (the converter's own) unless --output says otherwise.

    Returns 0, or 1 with one clear message on stderr; argparse ends the process with 2 on bad usage.
    """
    options = _parser().parse_args(argv)
    try:
        output = _output(options.name, options.output or default_folder or _CONVERTER)
        content, notes = convert(read_folder(options.folder), extended=options.extended)
        format_.write(output, content)
    except TokenizerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: cannot write the tokenizer: {error}", file=sys.stderr)
        return 1
    for note in notes:
        print(f"note: {note}")
    _describe(content)
    print(f"{output.name} created successfully")
    return 0


def convert(folder: Folder, *, extended: bool = False) -> tuple[TokenizerFile, list[str]]:
    """Return the `.t` content of a folder and notes for the user.

    Upstream's own bytes where upstream can load the model; with our extension for GLM, where `extended` asks for it,
    and where upstream would split regular from special tokens at the wrong id. Raises TokenizerError.
    """
    if not extended and not folder.is_glm and folder.has_model and folder.tokenizer_class == "LlamaTokenizer":
        return _standard_sentencepiece(folder)
    document = folder.document if folder.document is not None else _from_model(folder)
    try:
        vocabulary = read_vocabulary(document)
    except TokenizerError as error:
        raise TokenizerError(f"{folder.path}: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise TokenizerError(f"{folder.path / 'tokenizer.json'}: is not laid out as expected: {error!r}") from None
    eos_ids = _eos_ids(folder, vocabulary)
    bos_id = _bos_id(folder, vocabulary)
    misplaced = (vocabulary.boundary if bos_id is None else bos_id) >= len(vocabulary.strings) or (
        bos_id is not None and bos_id < vocabulary.boundary
    )
    if extended or folder.is_glm or misplaced:
        notes = [] if extended or folder.is_glm else [_MISPLACED]
        return _extended(folder, document, vocabulary, eos_ids, bos_id, notes)
    return _standard(folder, vocabulary, eos_ids, bos_id)


def _from_model(folder: Folder) -> dict[str, object]:
    return to_document(folder.path / "tokenizer.model", add_bos=folder.add_bos)


_MISPLACED = (
    "upstream tells regular from special tokens by the bos id, which does not separate them here; "
    "the file carries our extension, which upstream's dllama refuses"
)


def _standard(
    folder: Folder, vocabulary: Vocabulary, eos_ids: tuple[int, ...], bos_id: int | None
) -> tuple[TokenizerFile, list[str]]:
    tokens = vocabulary.upstream()
    content = TokenizerFile(
        tokens=tuple(tokens),
        scores=tuple(-float(token_id) for token_id in range(len(tokens))),
        bos_id=vocabulary.boundary if bos_id is None else bos_id,
        eos_ids=eos_ids,
        add_bos=folder.add_bos and bos_id is not None,
        chat_template=folder.chat_template(file_first=False),
    )
    return content, [
        "standard format: without the pre-tokeniser, ids can differ from Hugging Face's; --extended makes them equal"
    ]


def _extended(
    folder: Folder,
    document: dict[str, object],
    vocabulary: Vocabulary,
    eos_ids: tuple[int, ...],
    bos_id: int | None,
    notes: list[str],
) -> tuple[TokenizerFile, list[str]]:
    tokens, records = vocabulary.exact()
    n_tokens = len(tokens)
    rows = folder.model_vocab_size or n_tokens
    if rows < n_tokens:
        notes.append(f"the tokenizer has {n_tokens} tokens, the model only {rows} rows: the ids above must not occur")
    tokens += [placeholder(token_id) for token_id in range(n_tokens, rows)]
    add_bos = folder.add_bos and bos_id is not None
    content = TokenizerFile(
        tokens=tuple(tokens),
        scores=tuple(-float(token_id) for token_id in range(len(tokens))),
        bos_id=vocabulary.boundary,
        eos_ids=eos_ids,
        add_bos=add_bos,
        chat_template=folder.chat_template(file_first=True),
        extension=Extension(
            pipeline=json.dumps(
                pipeline_of(document, vocabulary.form, folder.special_tokens), ensure_ascii=False, separators=(",", ":")
            ),
            merges=vocabulary.merge_ids(),
            records=tuple(records),
            prefix_ids=_prefix(document, vocabulary, bos_id if add_bos else None),
            n_tokens=n_tokens,
            bos_id=bos_id,
        ),
    )
    _prove(document, content)
    return content, notes


def _standard_sentencepiece(folder: Folder) -> tuple[TokenizerFile, list[str]]:
    pieces = read_pieces(folder.path / "tokenizer.model")
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
    return content, ["standard format: upstream's rule reads a sentencepiece text only roughly; --extended is exact"]


def _prefix(document: dict[str, object], vocabulary: Vocabulary, bos_id: int | None) -> tuple[int, ...]:
    """The ids that a raw prompt needs in front and that the tokenizer's own post-processor does not add."""
    glm = [vocabulary.id(text) for text in _GLM_PREFIX]
    wanted = (
        [token_id for token_id in glm if token_id is not None]
        if None not in glm
        else [bos_id]
        if bos_id is not None
        else []
    )
    added = _tokenizer(document).encode("x").ids[: len(wanted)]
    return () if added == wanted else tuple(wanted)


def _prove(document: dict[str, object], content: TokenizerFile) -> None:
    """Check that the tokenizer built from the file is the one that tokenizer.json describes, in every part."""
    if pipeline.assemble(content).to_str() != _tokenizer(document).to_str():
        raise TokenizerError("tokenizer.json: cannot be carried in a .t file without a change of meaning")


def _tokenizer(document: dict[str, object]) -> Any:
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_str(json.dumps({**document, "truncation": None, "padding": None}))
    except Exception as error:  # noqa: BLE001 - the library raises bare Exception for whatever it does not accept
        raise TokenizerError(f"tokenizer.json: {error}") from None


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


def _describe(content: TokenizerFile) -> None:
    extension = content.extension
    rows = len(content.tokens)
    padding = f", {rows - extension.n_tokens} of them padding" if extension and rows > extension.n_tokens else ""
    print(f"vocabulary: {rows} rows{padding}; special from id {content.bos_id}")
    print(
        "end tokens: "
        + ", ".join(f"{token_id} {content.tokens[token_id].decode(errors='replace')}" for token_id in content.eos_ids)
    )
    print(f"chat template: {'yes' if content.chat_template else 'none'}; extension: {'yes' if extension else 'no'}")


def _output(name: str, path: Path) -> Path:
    if not name or "/" in name or "\0" in name or name in {".", ".."}:
        raise TokenizerError(f"NAME is {name!r}; it names the file NAME.t and may hold no '/': use --output for a path")
    return path / f"{name}.t" if path.is_dir() else path


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="convert-tokenizer-hf.py", description="Convert a Hugging Face tokenizer to Distributed Llama's .t format."
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="the model's folder, with its tokenizer files")
    parser.add_argument("name", metavar="NAME", help="the file is written as NAME.t beside this script")
    parser.add_argument(
        "--extended", action="store_true", help="carry pre-tokeniser and merges: exact ids, read by this dllama only"
    )
    parser.add_argument("--output", type=Path, metavar="PATH", help="write to this file, or into this folder")
    return parser
