"""How long ranks wait for each other, in seconds; $DLLAMA_PATIENCE, a factor, stretches or shortens all of it.

Whatever goes wrong between ranks at work is noticed and said on each of them within 30 s.
"""

import os

from dllama_glm.runtime.errors import UsageError


def _factor() -> float:
    text = os.environ.get("DLLAMA_PATIENCE", "1")
    try:
        factor = float(text)
    except ValueError:
        factor = 0.0
    if not 0 < factor <= 1000:
        raise UsageError(f"DLLAMA_PATIENCE is {text!r}: it multiplies the times that ranks wait, so 0.1 to 1000.")
    return factor


FACTOR = _factor()
HANDSHAKE = 10 * FACTOR  # for all of a handshake
UNANSWERED = 25 * FACTOR  # for an end that accepts connections and does not answer: busy, hanging, or a stranger
READY = 120 * FACTOR  # for a worker, alive, that has been asked to make itself ready
DIAL = 60 * FACTOR  # for workers that were started together with the root
JOIN = 600 * FACTOR  # for workers that dial in, and for the root that they dial
REFUSAL = 1 * FACTOR  # in which workers are told that their number cannot work
BEAT = 2 * FACTOR  # between two signs of life
LOADING = 25 * FACTOR  # without one an end is taken for lost while libraries and weights are loaded
SILENCE = 15 * FACTOR  # likewise later
STEP = 18 * FACTOR  # for all ranks to come to the same sum
FIRST_PASS = 1800 * FACTOR  # for the same until a first pass is through: it brings the weights from the disk
VERDICT = 8 * FACTOR  # for the root to find out and say which rank was lost
