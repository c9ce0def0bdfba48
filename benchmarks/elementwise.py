"""Memory-bound work: a layer or a function, forward and backward, on data that fit the L2 cache and data that do not.

The share is relative to reading as many bytes. Each operand, saved array, cotangent and result counts once.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from tinyml import Tensor, nn, no_grad
from tinyml._kernels.layout import nchw

from .prepared import Prepared
from .timing import Row, Run

ROWS = ((768, 128), (2048, 1536))
SQUARES = ((32, 32), (256, 256), (1024, 1024))      # 10^3 to 10^6 elements
HEADS = ((16, 16, 16), (48, 64, 32), (192, 128, 64))
IMAGES = ((12, 32, 16, 16), (64, 32, 32, 32))       # channels-last


@dataclass(frozen=True)
class Work:
    """A layer or function to measure.

    Attributes:
        make: make(nn, c) returns the function. nn is that of tinyml or of a peer; c is the number of channels or the last
            dimension.
        operands: for each operand "x", an array of the given shape, "m", a mask of it, "i", indices along its last
            dimension, or "t", class ids.
        saved: how many arrays of that size backward must read, besides the cotangent.
        random: whether results differ from call to call.
    """

    make: Callable[[Any, int], Callable[..., Any]]
    operands: str = "x"
    saved: float = 1
    shapes: tuple[tuple[int, ...], ...] = ROWS
    random: bool = False


def function(call: Callable[..., Any], operands: str = "x", shapes: tuple[tuple[int, ...], ...] = SQUARES,
             saved: float = 1) -> Work:
    """The work of call(library, *operands), where the library is tinyml or torch."""
    def make(nn: Any, c: int) -> Callable[..., Any]:
        library = import_module(nn.__name__.partition(".")[0])
        return lambda *given: call(library, *given)
    return Work(make, operands, saved, shapes)


WORK = {
    "add": Work(lambda nn, c: operator.add, "xx", saved=0),
    "mul": Work(lambda nn, c: operator.mul, "xx", saved=2),
    "relu": Work(lambda nn, c: nn.ReLU()),
    "gelu": Work(lambda nn, c: nn.GELU()),
    "exp": Work(lambda nn, c: operator.methodcaller("exp")),
    "tanh": Work(lambda nn, c: nn.Tanh()),
    "softmax": Work(lambda nn, c: nn.Softmax(-1)),
    "layer_norm": Work(lambda nn, c: nn.LayerNorm(c)),
    "rms_norm": Work(lambda nn, c: nn.RMSNorm(c)),
    "batch_norm": Work(lambda nn, c: nn.BatchNorm2d(c), shapes=IMAGES),
    "batch_norm, relu": Work(lambda nn, c: nn.Sequential(nn.BatchNorm2d(c), nn.ReLU()), shapes=IMAGES),
    "dropout": Work(lambda nn, c: nn.Dropout(0.1), saved=0.25, random=True),      # one byte per element
    "cross_entropy": Work(lambda nn, c: nn.CrossEntropyLoss(), "xt"),
    "where": function(lambda lib, m, a, b: lib.where(m, a, b), "mxx"),
    "masked_fill": function(lambda lib, a, m: a.masked_fill(m, -1.0), "xm"),
    "gather": function(lambda lib, a, i: lib.gather(a, 1, i), "xi"),
    "scatter_add": function(lambda lib, a, i, b: lib.scatter_add(a, 1, i, b), "xix"),
    "cumsum": function(lambda lib, a: lib.cumsum(a, 1)),
    "sort": function(lambda lib, a: lib.sort(a, 1)[0]),
    "topk": function(lambda lib, a: lib.topk(a, 4, 1)[0]),
    "cat": function(lambda lib, a, b: lib.cat([a, b], 1), "xx"),
    "stack": function(lambda lib, a, b: lib.stack([a, b], 1), "xx"),
    "softmax over dim 0": function(lambda lib, a: lib.softmax(a, 0)),
    "softmax over dim 1 of 3": function(lambda lib, a: lib.softmax(a, 1), shapes=HEADS),
    "einsum of attention": function(lambda lib, q, k: lib.einsum("...qd,...kd->...qk", q, k), "xx", HEADS),
}


def normal(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """Random values of a normal distribution; images have channels-last memory."""
    rng = np.random.default_rng(seed)
    if len(shape) == 4:
        b, c, h, w = shape
        return nchw(rng.standard_normal((b, h, w, c), np.float32))
    return np.asarray(rng.standard_normal(shape, np.float32))


def operands(work: Work, shape: tuple[int, ...]) -> list[np.ndarray]:
    """The operands of the work, for one shape."""
    draw = {"x": lambda i: normal(i, shape),
            "m": lambda i: np.random.default_rng(i).random(shape) < 0.5,
            "i": lambda i: np.random.default_rng(i).integers(0, shape[-1], shape),
            "t": lambda i: np.random.default_rng(i).integers(0, shape[-1], shape[:-1])}
    return [draw[kind](i) for i, kind in enumerate(work.operands)]


def nbytes(arrays: list[np.ndarray], result: np.ndarray, saved: float | None) -> int:
    """The bytes of the forward; with `saved` also of the backward, which writes a gradient of each float operand."""
    forward = sum(a.nbytes for a in arrays) + result.nbytes
    if saved is None:
        return forward
    gradients = sum(a.nbytes for a in arrays if a.dtype == np.float32)
    return forward + int(saved * arrays[0].nbytes) + result.nbytes + gradients


def prepare(function: Callable[..., Any], arrays: list[np.ndarray], cotangent: np.ndarray | None) -> Prepared:
    """The call in tinyml. Its array is the result or, with a cotangent, the stacked gradients of the operands."""
    if cotangent is None:
        given = [Tensor(a) for a in arrays]
        return Prepared(lambda: function(*given), lambda y: y.numpy())
    given = [Tensor(a, requires_grad=a.dtype == np.float32) for a in arrays]
    leaves = [*given, *(function.parameters() if isinstance(function, nn.Module) else ())]
    seed = Tensor(cotangent)

    def call() -> None:
        for t in leaves:
            t.grad = None
        function(*given).backward(seed)
    return Prepared(call, lambda _: np.stack([t.grad.numpy() for t in given if t.requires_grad]))


def keep_factors(p: Prepared, source: np.ndarray) -> Prepared:
    """Compare only the factor of the elements that dropout kept, because their choice differs between calls."""
    def array(result: Any) -> np.ndarray:
        y = p.array(result).reshape(source.shape)
        return (y[y != 0] / source[y != 0]).mean(keepdims=True)
    return Prepared(p.call, array)


def row(run: Run, name: str, work: Work, shape: tuple[int, ...], backward: bool) -> Row:
    """The row of one call, forward alone or with backward, in tinyml and in its peers with the same parameters."""
    arrays, function = operands(work, shape), work.make(nn, shape[1])
    forward = prepare(function, arrays, None)
    with no_grad():
        y = forward.array(forward.call())
    cotangent = normal(len(arrays), y.shape) if backward else None
    prepared = {"tinyml": prepare(function, arrays, cotangent)}
    for peer in run.peers:
        prepared |= peer.elementwise(name, work.make, function, arrays, cotangent)
    if work.random:
        prepared = {form: keep_factors(p, cotangent if backward else arrays[0]) for form, p in prepared.items()}
    title = f"{name} {'x'.join(map(str, shape))}{', and backward' if backward else ''}"
    with nullcontext() if backward else no_grad():
        expected = prepared["tinyml"].array(prepared["tinyml"].call())
    return run.row(title, "float32", prepared, expected, 0, nbytes(arrays, y, work.saved if backward else None), "read",
                   grad=backward)


def rows(run: Run) -> list[Row]:
    """Two rows per shape: forward, and forward with backward."""
    return [row(run, name, work, shape, backward)
            for name, work in WORK.items() for shape in work.shapes for backward in (False, True)]
