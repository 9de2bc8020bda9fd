"""A bench for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.rehearsal.in_process.clouds_bench import Bench


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    assert made.clouds.breaches() == []
    made.clouds.close()
