"""The store through which ranks find each other is open on the network that they share, and on no other."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

from dllama_glm.parallel.group import host_store, store_listener


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="only Linux shows who listens")
def test_the_store_listens_on_one_address_only():
    """Torch's own would listen on every address; the root's listens where the ranks are."""
    listener = store_listener("127.0.0.1", 2)
    port = listener.getsockname()[1]
    store = host_store(listener, 1)
    tables = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()]
    listening = {row[1].rpartition(":")[0] for row in tables if row[3] == "0A" and row[1].endswith(f":{port:04X}")}
    assert listening == {"0100007F"}
    del store
