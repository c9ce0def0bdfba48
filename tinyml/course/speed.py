"""How long a model takes, and how much memory its weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import checks
from ..errors import ShapeError
from ..graph import resolve
from ..nn import Conv2d, Embedding
from ..nn.mode import mode
from ..nn.module import Module
from ..plan.plan import Plan
from ..tape import no_grad
from ..tensors import as_tensor
from ..timing import LONGEST, median_times
from .models import check_model


def benchmark(model: Module, example: Any = None, batch: int = 32, seconds: float = 1.0,
              show: bool = True) -> dict[str, float]:
    """The median time of a batch in evaluation mode, and the bytes of the model.

    Args:
        model: the model, in any precision.
        example: a batch of inputs, or a tuple of them for a model of several inputs. By default `batch` random ones of
            the shape that the first layer reads are made; images are 32 x 32 then.
        batch: the number of samples, unless there is an example.
        seconds: how long to time, in seconds.
        show: whether to print the figures.

    Returns:
        {"ms": milliseconds per batch, "samples_per_second", "bytes": of the model in memory}.

    Raises:
        ShapeError: the model does not take such inputs, or a number is out of range.
        DtypeError: `model` is not a tinyml model.

    Example:
        >>> from tinyml import models
        >>> found = benchmark(models.MLP(4, 2), batch=8, seconds=0, show=False)
        >>> sorted(found), found["bytes"]
        (['bytes', 'ms', 'samples_per_second'], 40)
    """
    check_model("benchmark", model)
    batch = checks.whole("benchmark", "batch", batch, 1)
    seconds = checks.number("benchmark", "seconds", seconds, 0, LONGEST)
    show = checks.flag("benchmark", "show", show)
    inputs = make_inputs(model, batch) if example is None else example if isinstance(example, tuple) else (example,)
    inputs = tuple(as_tensor(x) for x in inputs)
    with mode(model, training=False), no_grad():
        try:
            ms, = median_times([lambda: model(*inputs)], seconds)
        except ShapeError as error:
            hint = "; pass an input that the model takes: benchmark(model, x)" if example is None else ""
            raise ShapeError(f"benchmark: {error}{hint}") from error
    samples = len(inputs[0])
    found = {"ms": ms, "samples_per_second": 1000 * samples / ms, "bytes": model.nbytes}
    if show:
        print(f"{type(model).__name__}: {ms:.2f} ms per batch of {samples}, {found['samples_per_second']:,.0f} samples/s, "
              f"{model.nbytes:,} bytes")
    return found


def make_inputs(model: Module, batch: int) -> tuple[np.ndarray, ...]:
    """Random inputs of the shapes that a plan was made for, or that a module's first layer with weights reads; ids are 0.

    Raises:
        ShapeError: no layer says what the model reads.
    """
    rng = np.random.default_rng(0)
    if isinstance(model, Plan):
        shapes = [(resolve(slot.shape, batch), slot.floats) for slot in model.inputs]
    else:
        first = next((m for m in model.modules() if m.stored_weights), None)
        if first is None:
            raise ShapeError(f"benchmark: {type(model).__name__} has no layer that tells what it reads; pass an input: "
                             "benchmark(model, x)")
        read = (32, 32) if isinstance(first, Conv2d) else ()
        weight = getattr(first, first.stored_weights[0])
        inner = getattr(model, "context", 16) if isinstance(first, Embedding) else weight.shape[1]
        shapes = [((batch, inner * getattr(first, "groups", 1), *read), not isinstance(first, Embedding))]
    for shape, _ in shapes:
        checks.room("benchmark", "an input", shape, 8)
    return tuple(rng.standard_normal(shape, np.float32) if floats else np.zeros(shape, np.int64)
                 for shape, floats in shapes)
