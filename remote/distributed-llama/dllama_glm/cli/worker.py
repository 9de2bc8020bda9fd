"""`dllama worker` and `dllama-worker`: compute a part of a model for a root."""

import argparse
import sys
from pathlib import Path

from dllama_glm.cli.options import existing
from dllama_glm.parallel.addresses import listen, parse_endpoint
from dllama_glm.parallel.channel import Channel
from dllama_glm.parallel.door import Door
from dllama_glm.parallel.ending import Ending
from dllama_glm.parallel.joining import dial_root, negotiate, root_at
from dllama_glm.parallel.worker import Served, serve
from dllama_glm.runtime.errors import DllamaError, UsageError
from dllama_glm.runtime.evidence import publish, where
from dllama_glm.runtime.machine import peak_memory_mib


def run(options: argparse.Namespace) -> None:
    """Meet the root, follow it, and end with it; with --keep begin anew then, however it has ended."""
    if options.keep and options.root_hostname:
        raise UsageError("--keep goes with --port: a worker that dials its root ends with it.")
    model = existing(options.model, "model") if options.model else None
    channel, ending = _meet(options, model)
    try:
        path, part = negotiate(channel, model, options.device)
    except DllamaError as error:
        ending.now(str(error))
    served = serve(channel, path, part, options.nthreads, ending, resident=False if options.low_memory else None)
    _publish(served)
    channel.tell({"served": served.tokens})
    print("the root has ended", flush=True)
    ending.begin_anew()


def _meet(options: argparse.Namespace, model: Path | None) -> tuple[Channel, Ending]:
    if options.root_hostname:
        return dial_root(parse_endpoint(options.root_hostname), model), Ending()
    door = Door(listen(options.port, other_hosts=False), "worker")
    again = None
    if options.keep:  # a new process: what a lost collective holds is let go only with the old one
        same_port = [] if options.port else ["--port", str(door.port)]
        again = [sys.executable, *sys.orig_argv[1:], *same_port]
    return root_at(door), Ending(again)


def _publish(served: Served) -> None:
    figures = {"rank": served.rank, "passes": served.passes, "tokens": served.tokens}
    publish(figures | {"peak_memory_mib": peak_memory_mib()}, where(served.computed_by))
