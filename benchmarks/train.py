"""Training steps in tinyml and in PyTorch from the same parameters, both with AdamW; several threads beside one."""

from __future__ import annotations

from collections.abc import Callable

import tinyml

from . import steps
from .prepared import Prepared
from .steps import Step
from .timing import Row, Run, check

# mean error / mean size. Sums that almost cancel behind batch norm make the gradient of a first convolution inexact: with
# channels-last images PyTorch's own float32 differs from its float64 by 0.4%
TOLERANCE = {"loss": 1e-5, "gradient of the first parameter": 2e-2}


def agree(work: str, prepared: dict[str, Prepared]) -> None:
    """Run a step of each form from the same parameters, tinyml's first, and compare them.

    Raises:
        ValueError: the loss differs from tinyml's, or the gradient of the first parameter, which all of backward computes.
    """
    expected = None
    for name, p in prepared.items():
        found = p.array(p.call())
        expected = found if expected is None else expected
        for (what, tolerance), part in zip(TOLERANCE.items(), (slice(1), slice(1, None)), strict=True):
            check(f"{work}, {name}, {what}", found[part], expected[part], tolerance)


def forms(run: Run, step: Step) -> dict[str, Prepared]:
    """tinyml, tinyml on one thread if the run has several, and the peers, each with its own model."""
    def on(threads: int) -> Prepared:
        prepared = steps.training(step)

        def call() -> object:
            tinyml.set_num_threads(threads)
            return prepared.call()
        return Prepared(call, prepared.array)

    peers: dict[str, Callable[[], Prepared]] = {}
    for peer in run.peers:
        peers |= peer.training(step)
    alone = {"tinyml, 1 thread": on(1)} if run.threads > 1 else {}
    return {"tinyml": on(run.threads), **alone, **{name: prepare() for name, prepare in peers.items()}}


def rows(run: Run) -> list[Row]:
    """One row per step."""
    found = []
    for name, step in steps.STEPS.items():
        prepared = forms(run, step)
        agree(name, prepared)
        found.append(run.time(name, "float32", prepared, steps.operations(step), bound="fma", grad=True))
    tinyml.set_num_threads(run.threads)
    return found
