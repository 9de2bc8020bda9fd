"""`convert-tokenizer-hf.py`: a Hugging Face model folder's tokenizer becomes a `.t` file."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from dllama_glm.formats import tokenizer_file as format_
from dllama_glm.formats.tokenizer_file import TokenizerError, TokenizerFile
from dllama_glm.runtime.evidence import publish_checksum
from dllama_glm.runtime.machine import print_in_utf8
from dllama_glm.tokenizer.build import convert
from dllama_glm.tokenizer.folder import read_folder

_CONVERTER = Path(__file__).resolve().parents[2] / "converter"


def main(argv: Sequence[str], default_folder: Path | None = None) -> int:
    """Run the command line; the file goes to `default_folder` (the converter's own) unless --output says otherwise.

    Returns 0, or 1 with one clear message on stderr; argparse ends the process with 2 on bad usage.
    """
    options = _parser().parse_args(argv)
    print_in_utf8()
    try:
        output = _output(options.name, options.output or default_folder or _CONVERTER)
        content, notes = convert(read_folder(options.folder), extended=options.extended)
        publish_checksum(output, format_.write(output, content))
    except TokenizerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: cannot write the tokenizer: {error}", file=sys.stderr)
        return 1
    for note in notes:
        print(f"note: {note}")
    for line in _description(content):
        print(line)
    print(f"{output.name} created successfully")
    return 0


def _description(content: TokenizerFile) -> list[str]:
    extension = content.extension
    rows = len(content.tokens)
    padding = f", {rows - extension.n_tokens} of them padding" if extension and rows > extension.n_tokens else ""
    ends = [f"{token_id} {content.tokens[token_id].decode(errors='replace')!r}" for token_id in content.eos_ids]
    return [
        f"vocabulary: {rows} rows{padding}; special from id {content.bos_id}",
        f"end tokens: {', '.join(ends)}",
        f"chat template: {'yes' if content.chat_template else 'none'}; extension: {'yes' if extension else 'no'}",
    ]


def _output(name: str, path: Path) -> Path:
    name = name.removesuffix(".t")
    if not name or "/" in name or "\0" in name or name in {".", ".."}:
        raise TokenizerError(f"NAME is {name!r}; it names the file NAME.t and may hold no '/': use --output for a path")
    return path / f"{name}.t" if path.is_dir() else path


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="convert-tokenizer-hf.py", description="Convert a Hugging Face tokenizer to Distributed Llama's .t format."
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="the model's folder, with its tokenizer files")
    parser.add_argument("name", metavar="NAME", help="the file is NAME.t, beside this script; NAME may end in .t")
    parser.add_argument(
        "--extended", action="store_true", help="carry pre-tokeniser and merges: exact ids, read by this dllama only"
    )
    parser.add_argument("--output", type=Path, metavar="PATH", help="write to this file, or into this folder")
    return parser
