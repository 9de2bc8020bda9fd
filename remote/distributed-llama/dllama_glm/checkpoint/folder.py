"""The shards of a checkpoint and the index that lists them."""

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from dllama_glm.checkpoint.jsonfile import read_object
from dllama_glm.checkpoint.shard import Shard, SourceTensor, read_shard

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"  # which transformers prefers to an index
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


def read_folder(path: Path) -> Folder:
    """Read index and shard headers; what is wrong is in `problems`, nothing is raised."""
    if not path.is_dir():
        return Folder(path, (), {}, (f"{path} is not a folder",), ())
    files = sorted(file.name for file in path.glob("*.safetensors") if not file.name.startswith("."))
    weight_map, problems = _weight_map(path)
    notes: list[str] = []
    if weight_map is None:
        problems += _missing_numbers(files)
        wanted = files
    else:
        wanted = sorted(set(weight_map.values()))
        problems += [f"{INDEX}: the shard {name} is missing" for name in wanted if name not in files]
        if SINGLE in files and SINGLE not in wanted:
            problems.append(f"{SINGLE} and {INDEX} are both here, and say different things: remove the one that is old")
        notes += [f"{name} is not in {INDEX}: left out" for name in files if name not in (*wanted, SINGLE)]
    if not wanted and not problems:
        problems.append(f"{path} holds no *.safetensors file")
    shards = tuple(read_shard(path / name) for name in wanted if name in files)
    tensors: dict[str, SourceTensor] = {}
    for shard in shards:
        problems += shard.problems
        for tensor in shard.tensors:
            if tensor.name in tensors:
                twice = tensors[tensor.name].file.name
                problems.append(f"{shard.path.name}: tensor {tensor.name!r} is in {twice} too")
            tensors[tensor.name] = tensor
    if weight_map is not None:
        problems += _against_index(weight_map, shards, tensors)
    return Folder(path, shards, tensors, tuple(problems), tuple(notes))


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
        problems += [f"the shard {name} is missing" for name in names if name not in files]
    return problems


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
