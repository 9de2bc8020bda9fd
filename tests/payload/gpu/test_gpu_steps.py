"""The captured step: capture, replay, position, stop, reset; with a device that does as it is told, then kernels."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from dllama_glm.devices.steps import Repeated, Steps

from tests.payload.gpu.gpu_models import TINY, device, model_of, reference


class Book:
    """A graph and a bench in one: a step makes the sum of all that it has read; everything is noted."""

    def __init__(self) -> None:
        self.token = self.position = -1
        self.cache: dict[int, int] = {}
        self.notes: list[str] = []
        self.slots: dict[int, int] = {}

    def work(self) -> None:
        self.cache[self.position] = self.token
        self.token = sum(self.cache[place] for place in range(self.position + 1)) % 97
        self.position += 1

    def capture(self, work: Callable[[], None]) -> None:
        self.notes.append("capture")
        self.recorded = work

    def replay(self) -> None:
        self.notes.append(f"read {self.token} at {self.position}")
        self.recorded()

    def place(self, token: int, position: int) -> None:
        self.notes.append(f"place {token} at {position}")
        self.token, self.position = token, position

    def fetch(self, slot: int) -> None:
        self.slots[slot] = self.token

    def wait(self, slot: int) -> int:
        self.notes.append(f"wait {self.slots[slot]}")
        return self.slots[slot]

    def columns(self) -> np.ndarray:
        return np.array([[self.token]], np.float32)


def steps_over(book: Book, capacity: int = 8) -> Steps:
    return Steps(book.work, book, book, capacity)


def test_a_step_is_captured_once_and_begun_one_ahead():
    """The first step compiles, is recorded and placed again; while the host waits, the next one is under way."""
    book = Book()
    steps = steps_over(book)
    assert steps.token(5, 0) == 5
    assert book.notes == ["place 5 at 0", "capture", "place 5 at 0", "read 5 at 0", "read 5 at 1", "wait 5"]
    book.notes.clear()
    assert steps.token(5, 1) == 10  # this one has been made already
    assert book.notes == ["read 10 at 2", "wait 10"]


def test_tokens_are_those_of_single_steps():
    """Following its own tokens for a while gives what the work gives when it is done token by token."""
    alone, book = Book(), Book()
    alone.place(3, 0)
    expected = []
    for _ in range(6):
        alone.work()
        expected.append(alone.token)
    steps, found, token = steps_over(book), [], 3
    for position in range(6):
        token = steps.token(token, position)
        found.append(token)
    assert found == expected


def test_no_step_is_begun_beyond_the_cache():
    """At the last position nothing further is under way."""
    book = Book()
    steps = steps_over(book, capacity=1)
    steps.token(5, 0)
    assert [note for note in book.notes if note.startswith("read")] == ["read 5 at 0"]


@pytest.mark.parametrize(("token", "position"), [(6, 1), (5, 0)], ids=["another token", "another position"])
def test_going_on_otherwise_places_anew(token: int, position: int):
    """A host that stops and begins elsewhere gets that step; the one under way was for nothing."""
    book = Book()
    steps = steps_over(book)
    steps.token(5, 0)
    assert steps.token(token, position) == (11 if position else 5)
    assert f"place {token} at {position}" in book.notes[6:]
    assert book.notes.count("capture") == 1


def test_what_was_under_way_is_forgotten_with_the_cache():
    """After a prompt was read the step under way is of an older cache, though it would fit."""
    book = Book()
    steps = steps_over(book)
    steps.token(5, 0)
    book.cache[0] = 40  # a prompt was read
    steps.forget()
    assert steps.token(5, 1) == 45


def test_logits_are_of_the_token_that_was_asked():
    """Asked for logits, nothing is begun ahead that would replace them."""
    book = Book()
    steps = steps_over(book)
    steps.token(5, 0)
    assert steps.columns(6, 1)[0, 0] == 11
    assert steps.token(5, 1) == 10


def test_a_repeated_graph_does_its_work_at_replay_only():
    """Where no card is, capturing does nothing, and each replay does the work."""
    done: list[int] = []
    graph = Repeated()
    graph.capture(lambda: done.append(1))
    assert done == []
    graph.replay()
    graph.replay()
    assert done == [1, 1]


def test_a_prompt_on_the_card_ends_what_was_under_way():
    """The step begun ahead is of the older cache: after a prompt, or a token by operations, none is under way."""
    small = replace(TINY, layers=1, first_dense_layers=0)
    made = device(small)
    card = model_of(small, made)
    assert made._steps is not None
    for ids in ([4, 5], [6]):
        card.greedy([1], 0)
        assert made._steps._under_way is not None
        made.embed(ids)
        assert made._steps._under_way is None


def test_steps_on_kernels_make_the_tokens_of_the_reference():
    """A prompt, tokens by the captured step, back to an earlier position: the reference's tokens and logits."""
    small = replace(TINY, layers=1, first_dense_layers=0)
    card, plain = model_of(small, device(small, exact=True)), model_of(small, reference(small))
    assert card.computed_by["arithmetic"] == "f32"
    token, other = card.greedy([1, 2, 3], 0), plain.greedy([1, 2, 3], 0)
    assert token == other
    assert card.greedy([token], 3) == plain.greedy([token], 3)
    found, expected = card.forward([9], 2), plain.forward([9], 2)
    assert found is not None
    assert expected is not None
    assert np.abs(found - expected).max() < 1e-4
