"""Steps of training: tinyml beside PyTorch from the same parameters, both with AdamW; several threads beside one."""

from __future__ import annotations

from collections.abc import Callable

import tinyml

from . import steps
from .prepared import Prepared
from .steps import Step
from .timing import Row, Run, check

# mean error / mean size. The gradient of a first convolution is what batch norm leaves of sums that cancel: PyTorch's own
# in float32 is 0.4% off that in float64 where images are channels-last
TOLERANCE = {"loss": 1e-5, "gradient of the first parameter": 2e-2}


def agree(work: str, prepared: dict[str, Prepared]) -> None:
    """Run a step of each from the same parameters, tinyml's first.

    Raises:
        ValueError: a loss, or the gradient of the first parameter, through which all of backward has gone, is not tinyml's.
    """
    expected = None
    for name, p in prepared.items():
        found = p.array(p.call())
        expected = found if expected is None else expected
        for (what, tolerance), part in zip(TOLERANCE.items(), (slice(1), slice(1, None)), strict=True):
            check(f"{work}, {name}, {what}", found[part], expected[part], tolerance)


def forms(run: Run, step: Step) -> dict[str, Prepared]:
    """tinyml, tinyml on one thread where there are more, and the peers; each has a model of its own."""
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
    """A row a step."""
    found = []
    for name, step in steps.STEPS.items():
        prepared = forms(run, step)
        agree(name, prepared)
        found.append(run.time(name, "float32", prepared, steps.operations(step), bound="fma", grad=True))
    tinyml.set_num_threads(run.threads)
    return found
