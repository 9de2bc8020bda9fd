"""The shards of a checkpoint and the index that lists them."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from dllama_glm.checkpoint.jsonfile import read_object
from dllama_glm.checkpoint.shard import INCOMPLETE, Shard, SourceTensor, read_shard

INDEX = "model.safetensors.index.json"
ADAPTER = "adapter_config.json"
SINGLE = "model.safetensors"  # which transformers prefers to an index
_ADAPTER_WEIGHTS = "adapter_model.safetensors"
_NAMED = 3  # missing shards that are named each
_NUMBERED = re.compile(r"^(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.safetensors$")


@dataclass(frozen=True)
class Folder:
    """Every tensor of a checkpoint by name; `problems` are all that its index and headers show."""

    path: Path
    shards: tuple[Shard, ...]
    tensors: dict[str, SourceTensor]
    problems: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def nbytes(self) -> int:
        """Size of all shards."""
        return sum(shard.size for shard in self.shards)


def read_folder(path: Path, elsewhere: Mapping[str, Callable[[], Shard]] | None = None) -> Folder:
    """Read index and shard headers; what is wrong is in `problems`, nothing is raised.

    `elsewhere`: the shards are not in the folder, but these, read by a call where they are needed.
    """
    if not path.is_dir():
        return Folder(path, (), {}, (f"{path} is not a folder",), ())
    files = sorted(elsewhere or (file.name for file in path.glob("*.safetensors") if not file.name.startswith(".")))
    weight_map, problems = _weight_map(path)
    notes: list[str] = []
    if weight_map is None:
        problems += _missing_numbers(files)
        wanted = files
    else:
        wanted = sorted(set(weight_map.values()))
        problems += _missing([name for name in wanted if name not in files], len(wanted), f"{INDEX}: ")
        if SINGLE in files and SINGLE not in wanted:
            problems.append(f"{SINGLE} and {INDEX} are both here, and say different things: remove the one that is old")
        notes += [f"{name} is not in {INDEX}: left out" for name in files if name not in (*wanted, SINGLE)]
    if not wanted and not problems:
        problems.append(f"{path} holds no *.safetensors file")
    present = [name for name in wanted if name in files]
    shards = tuple(elsewhere[name]() if elsewhere else read_shard(path / name) for name in present)
    tensors, faults = _gathered(shards)
    problems += faults
    if weight_map is not None:
        problems += _against_index(weight_map, shards, tensors)
    return Folder(path, shards, tensors, tuple(problems), tuple(notes))


def adapter_problem(folder: Folder) -> str | None:
    """Why a folder of what was trained on top of a model is no model; None where it is, or where one is there too."""
    path = folder.path / ADAPTER
    if not path.exists() or any(shard.path.name != _ADAPTER_WEIGHTS for shard in folder.shards):
        return None
    try:
        said = read_object(path)
    except ValueError as error:
        return f"{ADAPTER}: {error}"
    kind = "LoRA" if said.get("peft_type") in (None, "LORA") else said["peft_type"]
    return (
        f"{ADAPTER}: this is a {kind} adapter of {said.get('base_model_name_or_path') or 'some model'}, not a model: "
        "merge it into that one first (peft: merge_and_unload, then save_pretrained), and convert the merged folder"
    )


def _gathered(shards: Iterable[Shard]) -> tuple[dict[str, SourceTensor], list[str]]:
    """All tensors by name, and what is wrong with the shards."""
    tensors: dict[str, SourceTensor] = {}
    problems: list[str] = []
    for shard in shards:
        problems += shard.problems
        for tensor in shard.tensors:
            if tensor.name in tensors:
                twice = tensors[tensor.name].file.name
                problems.append(f"{shard.path.name}: tensor {tensor.name!r} is in {twice} too")
            tensors[tensor.name] = tensor
    return tensors, problems


def _weight_map(path: Path) -> tuple[dict[str, str] | None, list[str]]:
    if not (path / INDEX).exists():
        return None, []
    try:
        raw = read_object(path / INDEX).get("weight_map")
    except ValueError as error:
        return {}, [f"{INDEX}: {error}"]
    if not isinstance(raw, dict) or not raw:
        return {}, [f"{INDEX}: has no weight_map"]
    problems = []
    weight_map = {}
    for name, file in raw.items():
        if not isinstance(file, str) or PurePosixPath(file).name != file or not file.endswith(".safetensors"):
            problems.append(f"{INDEX}: weight_map places {name!r} in {file!r}, which is no shard beside the index")
        else:
            weight_map[name] = file
    return weight_map, problems


def _missing_numbers(files: list[str]) -> list[str]:
    """Shards that the others' names (model-00001-of-00004) tell of, where there is no index."""
    problems = []
    sets = {match.group("stem", "count") for name in files if (match := _NUMBERED.match(name))}
    for stem, count in sorted(sets):
        numbers = range(1, int(count) + 1)
        names = (f"{stem}-{number:05d}-of-{count}.safetensors" for number in numbers)
        problems += _missing([name for name in names if name not in files], int(count))
    return problems


def _missing(names: list[str], count: int, where: str = "") -> list[str]:
    """A sentence a shard that is missing of `count`, or one for many."""
    if len(names) <= _NAMED:
        return [f"{where}the shard {name} is missing {INCOMPLETE}" for name in names]
    first = ", ".join(names[:_NAMED])
    return [f"{where}{len(names)} of {count} shards are missing: {first}, ... {INCOMPLETE}"]


def _against_index(
    weight_map: dict[str, str], shards: tuple[Shard, ...], tensors: dict[str, SourceTensor]
) -> list[str]:
    readable = {shard.path.name for shard in shards if not shard.problems}
    problems = [
        f"{INDEX}: tensor {name!r} should be in {file}, which lacks it"
        for name, file in weight_map.items()
        if file in readable and (name not in tensors or tensors[name].file.name != file)
    ]
    problems += [
        f"{tensor.file.name}: tensor {name!r} is not in {INDEX}"
        for name, tensor in tensors.items()
        if name not in weight_map and tensor.file.name in readable
    ]
    return problems
