"""What a Hugging Face model folder says about its tokenizer, file by file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dllama_glm.checkpoint.jsonfile import read_object
from dllama_glm.formats.tokenizer_file import TokenizerError

_NAMES = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")


@dataclass(frozen=True)
class Folder:
    """The tokenizer's side of a model folder.

    Files that may be missing are empty objects; `added_tokens` is added_tokens.json (ids by text); `document` is
    tokenizer.json, None where there is none; `has_model` tells whether there is a sentencepiece tokenizer.model.
    """

    path: Path
    tokenizer_config: dict[str, Any]
    config: dict[str, Any]
    generation_config: dict[str, Any]
    added_tokens: dict[str, Any]
    document: dict[str, Any] | None
    has_model: bool

    @property
    def tokenizer_class(self) -> str | None:
        """The class that tokenizer_config.json names, None where it names none."""
        name = self.tokenizer_config.get("tokenizer_class")
        return name if isinstance(name, str) else None

    @property
    def is_glm(self) -> bool:
        """Whether the model is one of the GLM architectures, which upstream cannot load."""
        return any(self.config.get("model_type") == name for name in ("glm4", "glm4_moe"))

    @property
    def model_vocab_size(self) -> int | None:
        """The number of rows of the model's embedding, None where config.json does not say."""
        value = self._model("vocab_size")
        return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None

    @property
    def bos_id(self) -> int | None:
        """config.json's bos_token_id, None where there is none."""
        ids = self._ids("config.json", self._model("bos_token_id"), "bos_token_id")
        return ids[0] if ids else None

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """All end tokens: config.json's, then those that only generation_config.json names."""
        stated = self._ids("config.json", self._model("eos_token_id"), "eos_token_id")
        generation = self.generation_config.get("eos_token_id")
        return tuple(dict.fromkeys((*stated, *self._ids("generation_config.json", generation, "eos_token_id"))))

    @property
    def special_tokens(self) -> dict[str, str]:
        """The tokens that tokenizer_config.json names by role (`bos_token`, `eos_token`, ...), for chat templates."""
        found = {}
        for name, value in self.role_tokens.items():
            content = value.get("content") if isinstance(value, dict) else value
            if isinstance(content, str):
                found[name] = content
        return found

    @property
    def role_tokens(self) -> dict[str, Any]:
        """The same as they are written: a text, or an object with flags."""
        values = {name: self.tokenizer_config.get(name) for name in _NAMES}
        return {name: value for name, value in values.items() if value is not None}

    @property
    def add_bos(self) -> bool:
        """Whether a text begins with the bos token; upstream takes it so where nothing is said."""
        return bool(self.tokenizer_config.get("add_bos_token", True))

    @property
    def asks_for_bos(self) -> bool:
        """Whether add_bos_token is set to true: for exact ids nothing else but a post-processor adds a bos."""
        return self.tokenizer_config.get("add_bos_token") is True

    def chat_template(self, *, file_first: bool) -> str | None:
        """The chat template, None where there is none. `file_first`: chat_template.jinja wins, as in transformers."""
        shipped, stated = self._shipped_template(), self._stated_template()[0]
        return (shipped or stated) if file_first else (stated or shipped)

    def template_notes(self, *, file_first: bool) -> list[str]:
        """What the user should know of a choice between several templates."""
        shipped, (stated, name) = self._shipped_template(), self._stated_template()
        if shipped and stated:
            if shipped.rstrip("\n") == stated.rstrip("\n"):
                return []
            taken = "chat_template.jinja" if file_first else "tokenizer_config.json"
            why = "as transformers does" if file_first else "as upstream does; --extended takes the other"
            return [f"chat_template.jinja and tokenizer_config.json hold different templates: {taken} is taken, {why}"]
        if stated and name not in {None, "default"}:
            return [f"of the templates that tokenizer_config.json names, none is called 'default': {name!r} is taken"]
        return []

    def _shipped_template(self) -> str | None:
        path = self.path / "chat_template.jinja"
        try:
            return path.read_text(encoding="utf-8") if path.is_file() else None
        except (OSError, UnicodeDecodeError) as error:
            raise TokenizerError(f"{path}: cannot be read as UTF-8 text: {error}") from None

    def _stated_template(self) -> tuple[str | None, str | None]:
        """tokenizer_config.json's template, and its name where there are several: "default", or else the first."""
        value, name = self.tokenizer_config.get("chat_template"), None
        if isinstance(value, list):
            named = {str(entry.get("name")): entry.get("template") for entry in value if isinstance(entry, dict)}
            name = "default" if "default" in named else next(iter(named), None)
            value = named.get(name or "")
        if value is not None and not isinstance(value, str):
            raise TokenizerError(
                f"{self.path / 'tokenizer_config.json'}: chat_template is neither text nor a list of texts"
            )
        return value or None, name

    def _model(self, key: str) -> Any:
        text_config = self.config.get("text_config")  # where a model with more than one modality keeps its own
        nested = text_config.get(key) if isinstance(text_config, dict) else None
        return self.config[key] if self.config.get(key) is not None else nested

    def _ids(self, file: str, value: Any, key: str) -> tuple[int, ...]:
        values = value if isinstance(value, list) else [] if value is None else [value]
        if any(isinstance(token_id, bool) or not isinstance(token_id, int) or token_id < 0 for token_id in values):
            raise TokenizerError(f"{self.path / file}: {key} is {value!r}, not a token id or a list of them")
        return tuple(values)


def read_folder(path: Path) -> Folder:
    """Read a model folder. Raises TokenizerError where it holds no tokenizer or a file that cannot be read."""
    if not path.is_dir():
        raise TokenizerError(f"{path}: no such folder")
    document = _object(path / "tokenizer.json")
    has_model = (path / "tokenizer.model").is_file()
    if document is None and not has_model:
        raise TokenizerError(
            f"{path}: has neither tokenizer.json nor tokenizer.model; download the model's tokenizer files into it"
        )
    return Folder(
        path=path,
        tokenizer_config=_object(path / "tokenizer_config.json") or {},
        config=_object(path / "config.json") or {},
        generation_config=_object(path / "generation_config.json") or {},
        added_tokens=_object(path / "added_tokens.json") or {},
        document=document,
        has_model=has_model,
    )


def _object(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        return read_object(path)
    except ValueError as error:
        raise TokenizerError(f"{path}: {error}") from None
