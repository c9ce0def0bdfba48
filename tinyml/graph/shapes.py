"""Shapes of a program, in which Batch stands for the batch size: shown, compared with those of inputs, made numbers."""

from __future__ import annotations

from typing import Any

from ..errors import ShapeError
from ..ops import Batch

Shape = tuple[Any, ...]     # numbers, and Batch for those that follow the batch


def show_shape(shape: Shape) -> str:
    """A shape as text, with B for the batch size.

    Args:
        shape: of numbers and Batch.

    Returns:
        The text.

    Example:
        >>> tinyml.graph.show_shape((tinyml.graph.Batch(), 3, 32, 32))
        '(B, 3, 32, 32)'
    """
    parts = ["B" if n == Batch() else f"{n.factor}B" if isinstance(n, Batch) else str(n) for n in shape]
    return f"({', '.join(parts)}{',' if len(parts) == 1 else ''})"


def check_inputs(expected: list[Shape], got: list[tuple[int, ...]]) -> int:
    """The batch size of inputs.

    Args:
        expected: their shapes, with Batch.
        got: their shapes as they are.

    Returns:
        The batch size; 1 where no shape follows it.

    Raises:
        ShapeError: a fixed dimension that differs, or batch sizes that do.

    Example:
        >>> tinyml.graph.check_inputs([(tinyml.graph.Batch(), 3)], [(8, 3)])
        8
    """
    batch = None
    for want, shape in zip(expected, got):
        fits = len(want) == len(shape)
        for w, n in zip(want, shape) if fits else ():
            if isinstance(w, Batch):
                batch = n if batch is None else batch
                fits &= n == batch
            else:
                fits &= w == n
        if not fits:
            raise ShapeError(f"graph: expected input {show_shape(want)}, got {shape}")
    return 1 if batch is None else batch


def resolve(value: Any, batch: int) -> Any:
    """Attributes or shapes with every Batch replaced by its number.

    Args:
        value: which may be nested.
        batch: the batch size.

    Returns:
        The value without Batch.

    Example:
        >>> tinyml.graph.resolve({"shape": (tinyml.graph.Batch(), 3)}, batch=8)
        {'shape': (8, 3)}
    """
    if isinstance(value, Batch):
        return value.factor * batch
    if isinstance(value, dict):
        return {k: resolve(v, batch) for k, v in value.items()}
    if isinstance(value, (tuple, list)):
        return type(value)(resolve(v, batch) for v in value)
    if isinstance(value, slice):
        return slice(*(resolve(v, batch) for v in (value.start, value.stop, value.step)))
    return value
