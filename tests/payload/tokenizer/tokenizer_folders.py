"""Model folders with small real tokenizers, trained here with the pre-tokenisers of the families that matter."""

import json
import shutil
from pathlib import Path
from typing import Any

from dllama_glm.tokenizer import convert
from dllama_glm.tokenizer.runtime import Tokenizer, load
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as HuggingFace

TESTS = Path(__file__).resolve().parents[2]
GOLDEN = TESTS / "golden"
MODELS = TESTS / "models"

_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
PATTERNS = {
    "glm": _WORDS + r"\p{N}{1,3}" + _REST,
    "llama3": _WORDS + r"\p{N}{1,3}" + _REST,
    "qwen": _WORDS + r"\p{N}" + _REST,
}
SPECIAL = {
    "glm": ["<|endoftext|>", "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<|user|>", "<|assistant|>", "<|observation|>"],
    "llama3": ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"],
    "qwen": ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
}
EOS = {"glm": ["<|endoftext|>", "<|user|>", "<|observation|>"], "llama3": ["<|eot_id|>"], "qwen": ["<|im_end|>"]}
CONFIG = {"glm": {"model_type": "glm4_moe"}, "llama3": {"model_type": "llama"}, "qwen": {"model_type": "qwen3"}}

_SENTENCES = [
    "The capital of France is Paris, and it's 1,234 kilometres from there; we'll see what they've done by 2026.",
    "Größe, naïve, coöperation, Ångström and façade: accents are letters too.",
    "Столица Франции — Париж. Ελληνικά γράμματα. עברית ומספרים 42.",
    "日本語の文章と漢字。中文分词很有意思。한국어도 있습니다. हिन्दी में लिखा है।",
    "def f(x):\r\n    return x ** 2 + 0x7F  # numbers 1 22 333 4444\n\n\tif not x: pass",
    "😀 👩‍👩‍👧‍👦 🇫🇷 emoji, e\u0301 combining, ﬁ ligature, \u00a0no-break\u3000ideographic space.",
]


def corpus() -> list[str]:
    """Some hundred lines: the licence that the project ships, and sentences in many scripts."""
    licence = (TESTS.parent / "LICENSE").read_text(encoding="utf-8")
    return [*licence.split("\n\n"), *_SENTENCES * 6]


def train(family: str, size: int = 640) -> HuggingFace:
    """Train a byte-level BPE that is built as the family's own is, from the normaliser to the special tokens."""
    tokenizer = HuggingFace(models.BPE(ignore_merges=family == "llama3"))
    split = pre_tokenizers.Split(Regex(PATTERNS[family]), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    if family == "qwen":
        tokenizer.normalizer = normalizers.NFC()
    trainer = trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    tokenizer.add_special_tokens(SPECIAL[family])
    if family != "llama3":
        tokenizer.add_tokens(["<think>", "</think>"])
    else:
        bos = ("<|begin_of_text|>", tokenizer.token_to_id("<|begin_of_text|>"))
        template = processors.TemplateProcessing(single=f"{bos[0]} $A", special_tokens=[bos])
        tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template])
    return tokenizer


def make(folder: Path, family: str, **config: Any) -> HuggingFace:
    """Write a model folder of the family's kind (no weights); `config` overrides config.json, None leaves a key out."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = train(family)
    tokenizer.save(str(folder / "tokenizer.json"))
    ids = [tokenizer.token_to_id(text) for text in EOS[family]]
    values = {**CONFIG[family], "eos_token_id": ids, "vocab_size": 704, **config}
    write(folder / "config.json", {key: value for key, value in values.items() if value is not None})
    write(folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"})
    return tokenizer


def write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def copy(source: Path, folder: Path) -> Path:
    """Copy a model folder's tokenizer side, without its weights."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in source.iterdir():
        if path.suffix in {".json", ".jinja", ".model"} and not path.name.startswith("model.safetensors"):
            shutil.copyfile(path, folder / path.name)
    return folder


def converted(folder: Path, output: Path, *options: str) -> Tokenizer:
    """Convert a folder and load the result."""
    assert convert.main([str(folder), "test", "--output", str(output), *options]) == 0
    return load(output)
