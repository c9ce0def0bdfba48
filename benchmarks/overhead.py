"""The overhead around the kernels: Python around an op, Python around the steps of a plan, and starting threads."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

import tinyml
from tinyml import Tensor, models

from . import cnn, ours
from .elementwise import prepare
from .layers import linear
from .machine import cores
from .prepared import Prepared
from .timing import Row, Run

# on arrays of one element, here and in NumPy and torch
OPS: dict[str, Callable[[Any, Any], Any]] = {
    "x + y": operator.add,
    "x * y": operator.mul,
    "x @ y": operator.matmul,
    "x.sum()": lambda x, y: x.sum(),
    "x.reshape(1)": lambda x, y: x.reshape(1),
    "x[0]": lambda x, y: x[0],
    "-x": lambda x, y: -x,
}
CHAIN = 100             # the number of ops, one after the other, on the tape
SMALL = (1, 8, 8)       # an image, for a network with almost no arithmetic
# sizes around the one from which products are divided among threads, and well above it
THREADED = [(1, 768, 768), (8, 256, 512), (64, 768, 768), (384, 768, 768), (384, 1024, 1024), (64, 768, 3072)]


def one_element(run: Run) -> list[Row]:
    """Ops on one element. The note is the time beyond the NumPy call inside: tinyml's Python and its recording."""
    x, y = np.full((1, 1), 1.5, np.float32), np.full((1, 1), 0.5, np.float32)
    found = []
    for name, op in OPS.items():
        for grad in (False, True):
            a, b = Tensor(x, requires_grad=grad), Tensor(y)
            # bound here, because the loop changes the variables
            prepared = {"tinyml": Prepared(lambda op=op, a=a, b=b: op(a, b), lambda y: y.numpy()),
                        "numpy": Prepared(lambda op=op: op(x, y))}
            for peer in () if grad else run.peers:
                for form, (c, d) in peer.arrays(x, y).items():
                    prepared[form] = Prepared(lambda op=op, c=c, d=d: op(c, d))
            row = run.row(f"{name}{', on the tape' if grad else ''}", "float32", prepared, op(x, y), grad=grad)
            row.note = f"{1e6 * (row.seconds - row.times['numpy'].median):+.2f} µs to numpy"
            found.append(row)
    return found


def tape(run: Run) -> list[Row]:
    """A chain of ops on one element, forward and backward: recording the tape, and walking over it."""
    def chain(x: Any) -> Any:
        y = x
        for _ in range(CHAIN):
            y = y + x
        return y

    x = np.full((1, 1), 1.5, np.float32)
    prepared = {"tinyml": prepare(chain, [x], np.ones_like(x))}
    for peer in run.peers:
        prepared |= peer.elementwise("chain", lambda nn, channels: chain, chain, [x], np.ones_like(x))
    row = run.row(f"{CHAIN} additions, and backward", "float32", prepared, np.full((1, 1, 1), CHAIN + 1.0), grad=True)
    row.note = f"{1e6 * row.seconds / CHAIN:.2f} µs per op, both ways"
    return [row]


def plan_steps(run: Run) -> list[Row]:
    """A network of one channel with a batch of 1, whose time is Python's; the note has that of a plan per step."""
    tinyml.manual_seed(0)
    model = models.CifarCNN(in_channels=SMALL[0], width=1)
    x = np.random.default_rng(0).standard_normal((1, *SMALL), np.float32)
    model.eval()
    steps = [len(plan.steps) for plan in (model.compile(x), model.to_int8(calibration=[x]))]
    found = cnn.network(run, "CifarCNN of width 1, batch 1", model, x, ["float32", "int8"])
    for row, n in zip(found, steps, strict=True):
        row.operations, row.limit = 0, None     # arithmetic takes hardly any of the time
        row.note = f"{1e6 * row.seconds / n:.1f} µs per step, {n} steps"
    return found


def threads(run: Run) -> list[Row]:
    """Small and large products and a network, on one thread and on two; no rows if there is only one core."""
    if cores() < 2:
        return []
    found, before = [], run.threads
    run = replace(run, threads=2)       # so that threads are awake when the clock starts, as in a loop of calls

    def on(n: int, prepared: Prepared) -> Prepared:
        def call() -> Any:
            tinyml.set_num_threads(n)
            return prepared.call()
        return Prepared(call, prepared.array)

    def both(work: str, precision: str, prepared: Prepared, expected: np.ndarray) -> None:
        found.append(run.row(f"{work}, 2 threads", precision,
                             {"tinyml": on(2, prepared), "tinyml, 1 thread": on(1, prepared)}, expected))

    for m, k, n in THREADED:
        layer = linear(m, k, n)
        both(f"{m}x{k}x{n}", "float32", ours.layer_f32(layer), layer.y)
        both(f"{m}x{k}x{n}", "int8", ours.layer_int8(layer), layer.y)
    tinyml.manual_seed(0)
    model, x = models.CifarCNN().eval(), np.random.default_rng(0).standard_normal((64, *cnn.IMAGE), np.float32)
    with tinyml.no_grad():
        expected = model(x).numpy()
    both("CifarCNN, batch 64", "float32", ours.model(model.compile(x), x), expected)
    both("CifarCNN, batch 64", "int8", ours.model(model.to_int8(calibration=[x]), x), expected)
    tinyml.set_num_threads(before)
    return found
