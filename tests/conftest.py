"""What all tests share: repeatable random choices, no leftovers from one test to the next."""

from __future__ import annotations

import hypothesis
import pytest

import tinyml.random
from tinyml._kernels import dispatch

# so that asserts in shared modules show values, as they do in tests
pytest.register_assert_rewrite("interpreter", "kernel_calls", "nets", "saved", "trainers")

# derandomized, so that a failure comes from a change; no deadlines, because they would depend on the shared machine
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def unchanged_globals():
    """Every test starts from seed 0 and the machine's number of threads."""
    threads = dispatch._threads
    tinyml.random.manual_seed(0)
    yield
    dispatch._threads = threads
