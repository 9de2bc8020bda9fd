"""`dllama worker` and `dllama-worker`: compute a part of a model for a root."""

import argparse

from dllama_glm.cli.options import existing
from dllama_glm.parallel.addresses import parse_endpoint
from dllama_glm.parallel.joining import dial_root, listen_for_root
from dllama_glm.parallel.worker import serve


def run(options: argparse.Namespace) -> None:
    """Meet the root, follow it, and end with it."""
    model = existing(options.model, "model") if options.model else None
    if options.root_hostname:
        channel, path, part = dial_root(parse_endpoint(options.root_hostname), model)
    else:
        channel, path, part = listen_for_root(options.port, model)
    serve(channel, path, part, options.nthreads, resident=False if options.low_memory else None)
    print("the root has ended", flush=True)
