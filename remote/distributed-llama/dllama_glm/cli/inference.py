"""`dllama inference`: continue a prompt, and measure how fast."""

import argparse

from dllama_glm.cli.benchmark import measure
from dllama_glm.cli.options import BENCHMARK_PROMPT
from dllama_glm.cli.session import open_session
from dllama_glm.cli.text import Writer, document, limits_of, print_json, prompt_of, publish_run, sampler_of, write_text
from dllama_glm.runtime.errors import UsageError


def run(options: argparse.Namespace) -> None:
    """Continue the prompt; with --benchmark also print tokens per second."""
    prompt = prompt_of(options)
    if prompt is None and options.benchmark:
        prompt = BENCHMARK_PROMPT
    if prompt is None:
        raise UsageError('Give a text to continue: --prompt "...", or --prompt-file FILE.')
    with open_session(options) as session:
        ids = session.runnable(session.tokenizer.prompt_ids(prompt))
        limits = limits_of(options, session, len(ids))
        sampler = sampler_of(options, session)
        text, generation = write_text(Writer(session), sampler, ids, limits, options.stop, show=not options.json)
        result = document(session, prompt, text, generation, sampler)
        if not options.benchmark:
            publish_run(session, generation)
        else:
            figures = measure(session, ids, limits)
            session.formation.publish(figures.speeds())
            result.update(figures.as_dict(session))
            if not options.json:
                print(figures.as_text(session), flush=True)
    if options.json:
        print_json(result)
