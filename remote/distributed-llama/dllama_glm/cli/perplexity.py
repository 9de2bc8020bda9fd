"""`dllama perplexity`: how well the model expects a text."""

import argparse
import math

from dllama_glm.cli.session import open_session
from dllama_glm.cli.text import print_json, prompt_of
from dllama_glm.runtime.errors import UsageError
from dllama_glm.runtime.generate import check_prompt, log_probabilities


def run(options: argparse.Namespace) -> None:
    """Print perplexity, average log-probability and bits per token of the prompt."""
    prompt = prompt_of(options) or ""
    with open_session(options) as session:
        ids = session.runnable(session.tokenizer.prompt_ids(prompt))
        check_prompt(ids, 0, session.max_seq_len)
        if len(ids) < 2:
            raise UsageError("The text has one token only: nothing can be scored.")
        found = log_probabilities(session.model, ids)
    average = sum(found) / len(found)
    result = {
        "tokens": len(found),
        "perplexity": math.exp(-average),
        "avgLogProb": average,
        "bitPerToken": -average / math.log(2),
        **session.formation.as_dict(),
    }
    if options.json:
        print_json(result)
        return
    print(f"perplexity: {result['perplexity']:.6f} (lower is better)")
    print(f"avgLogProb: {average:.6f}")
    print(f"bitPerToken: {result['bitPerToken']:.6f}")
