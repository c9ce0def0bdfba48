"""Calibration: run sample inputs through a graph and note the range of every activation."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from ... import checks
from ...batches import read_inputs
from ...errors import DtypeError, QuantizationError
from ...graph import Graph, Ranges
from ...tape import no_grad
from ...tensor import FLOATS
from .observers import MinMax, Observer


@dataclass
class Calibration:
    """What calibration found: (lo, hi) of every activation by its number in the graph, and from what data.

    digest: SHA-256 of the inputs' shapes and bytes, in their order.
    """

    ranges: Ranges
    samples: int
    digest: str


def new_observer(factory: Any) -> Observer:
    """An observer of a class, or of a function without arguments."""
    try:
        made = checks.function("calibration", "what makes an observer", factory)()
    except (TypeError, ValueError) as error:
        raise DtypeError(f"calibration: expected an Observer's class, or a function without arguments, to make observers, "
                         f"got {checks.described(factory)}: {error}") from error
    if not (callable(getattr(made, "observe", None)) and callable(getattr(made, "range", None))):
        raise DtypeError(f"calibration: expected an Observer, which has observe(x) and range(), got "
                         f"{checks.described(made)}")
    return made


def calibrate(graph: Graph, data: Any, observer: Callable[[str], Callable[[], Observer]] = lambda _: MinMax,
              progress: bool = False) -> Calibration:
    """Range of every float activation of `graph` over the batches of `data`; memory does not grow with their number.

    Args:
        observer: what makes the observer of a layer's activations, by the layer's name ("" for the input).

    Raises:
        QuantizationError: no batch came, or a NaN or infinity, naming batch and op.
        ShapeError: a batch that does not fit the graph.
    """
    checks.instance("calibrate", "graph", graph, Graph)
    checks.function("calibrate", "observer", observer)
    progress = checks.flag("calibrate", "progress", progress)
    observers: dict[int, Observer] = {}
    made = {n.output: n for n in graph.nodes}
    masked, infinite = graph.may_be_infinite(), set()
    digest, samples, batch = hashlib.sha256(), 0, 0

    def observe(value: int, x: np.ndarray) -> None:
        if x.dtype not in FLOATS or value in infinite:
            return
        if not np.isfinite(x).all():
            if value in masked and not np.isnan(x).any():
                infinite.add(value)     # no range: what makes or reads it stays float
                return
            where = f"the result of {made[value]}" if value in made else "the input"
            raise QuantizationError(f"calibration: {np.count_nonzero(~np.isfinite(x))} NaN or infinite values in {where}, "
                                    f"batch {batch}; expected finite data")
        if value not in observers:
            observers[value] = new_observer(observer(made[value].module if value in made else ""))
        observers[value].observe(x)

    with no_grad():
        for inputs in tqdm(read_inputs("calibration", data, graph), desc="calibrating", unit="batch", disable=not progress):
            graph(*inputs, observe=observe)
            for x in inputs:
                digest.update(f"{x.dtype}{x.shape}".encode())
                digest.update(np.ascontiguousarray(x))
            samples += len(inputs[0])
            batch += 1
    if not batch:
        raise QuantizationError("calibration: expected at least one batch of data, got none")
    ranges = {value: o.range() for value, o in observers.items() if value not in infinite}
    return Calibration(ranges, samples, digest.hexdigest())
