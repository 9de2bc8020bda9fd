"""From hf://OWNER/NAME to a plan and a supply of shards, before one of them is fetched."""

import os
import tempfile
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path

from dllama_glm.checkpoint.config import CONFIG
from dllama_glm.checkpoint.folder import ADAPTER, INDEX, read_folder
from dllama_glm.checkpoint.shard import Shard, SourceTensor, parse_shard
from dllama_glm.convert.hub.client import Client
from dllama_glm.convert.hub.repository import Repository, open_repository, split_address
from dllama_glm.convert.hub.supply import AT_ONCE, HubSupply
from dllama_glm.convert.plan import COMPARED, Plan, check_output, match
from dllama_glm.formats.float_types import FloatType

_HUB = "https://huggingface.co"


def open_hub(
    address: str,
    weight_type: FloatType,
    output: Path,
    *,
    ignore: Collection[str],
    rope_theta: float | None,
    allow_window: bool,
) -> tuple[Plan, HubSupply, str]:
    """(the plan, the shards, the commit) of hf://OWNER/NAME[@REVISION].

    HF_ENDPOINT names the hub, HF_TOKEN the account. Raises HubError, and CheckpointError for what cannot be converted
    or has no room beside `output`.
    """
    client = Client(os.environ.get("HF_ENDPOINT") or _HUB, os.environ.get("HF_TOKEN"))
    repository = open_repository(client, *split_address(address))
    shards = output.with_name(f"{output.name}.shards")
    with tempfile.TemporaryDirectory(prefix="dllama-glm-") as room:
        for name in (CONFIG, INDEX, ADAPTER):
            if name in repository.files:
                (Path(room) / name).write_bytes(repository.small(name))
        folder = read_folder(Path(room), _headers(repository, shards))
        identities = tuple((shard.path.name, repository.files[shard.path.name].identity) for shard in folder.shards)
        plan = match(
            folder,
            weight_type,
            ignore=ignore,
            rope_theta=rope_theta,
            allow_window=allow_window,
            blocks=partial(_blocks, repository),
            identities=identities,
        )
    check_output(output, None, plan.write_bytes, beside=_beside(plan, shards))
    return plan, HubSupply(plan, repository, shards), repository.commit


def _headers(repository: Repository, folder: Path) -> dict[str, Callable[[], Shard]]:
    names = [path for path in repository.files if path.endswith(".safetensors") and "/" not in path]
    return {name: partial(_shard, repository, folder / name) for name in names}


def _shard(repository: Repository, path: Path) -> Shard:
    size = repository.files[path.name].size
    try:
        return parse_shard(path, (size, 0, 0), repository.header(path.name))
    except ValueError as error:
        return Shard(path, size, 0, 0, b"", (), (f"{path.name}: {error}",))


def _blocks(repository: Repository, tensor: SourceTensor) -> Iterator[bytes]:
    address, end = repository.address(tensor.file.name), tensor.offset + tensor.nbytes
    for start in range(tensor.offset, end, COMPARED):
        yield repository.client.part(address, start, min(start + COMPARED, end))


def _beside(plan: Plan, folder: Path) -> int:
    """Bytes that shards still take at once beside the output."""
    largest = sorted(shard.size for shard in plan.folder.shards)[-AT_ONCE:]
    there = sum(file.stat().st_blocks * 512 for file in folder.glob("*")) if folder.is_dir() else 0
    return max(sum(largest) - there, 0)
