"""The dtypes of Tensors, and those that an op computes in."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from . import checks
from .errors import DtypeError

FLOAT16, FLOAT32, FLOAT64 = FLOATS = tuple(np.dtype(t) for t in (np.float16, np.float32, np.float64))
INTEGERS = tuple(np.dtype(t) for t in (np.int32, np.int64, np.uint8, np.bool_))
INT8 = np.dtype(np.int8)        # codes, which have a scale
NAMES = {str(d): d for d in (*FLOATS, *INTEGERS, INT8)}


def as_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    """The NumPy dtype of that name.

    Raises:
        DtypeError: not one that a Tensor can have.
    """
    try:
        found = np.dtype(dtype)
    except (TypeError, ValueError):
        found = None
    if found is None or found not in NAMES.values():
        raise DtypeError(f"dtype: expected one of {', '.join(NAMES)}, got {checks.described(dtype)}")
    return found


def converted(op: Any, arrays: list[Any]) -> tuple[list[Any], bool]:
    """The operands in the dtypes that `op` computes in, and whether its result is rounded to float16.

    Raises:
        DtypeError: a dtype that the op does not take.
    """
    if not op.any_dtype:
        _check(op, arrays)
    floats = {a.dtype for a in arrays if a is not None and a.dtype in FLOATS}
    half = floats == {FLOAT16} and not op.any_dtype and any(
        a is not None and a.dtype == FLOAT16 for i, a in enumerate(arrays) if i not in op.stored)
    if len(floats) > 1 or half:
        if op.one_precision and FLOAT64 in floats:
            raise DtypeError(f"{op.name}: operands are {' and '.join(sorted(str(d) for d in floats))}; float64 would "
                             "take a slow road through the layer: convert it with .to('float32') (or astype in NumPy)")
        wide = FLOAT64 if FLOAT64 in floats else FLOAT32
        arrays = [a.astype(wide) if a is not None and a.dtype in FLOATS and a.dtype != wide and not (
            a.dtype == FLOAT16 and i in op.reads_half) else a for i, a in enumerate(arrays)]
    return arrays, half


def _check(op: Any, arrays: list[Any]) -> None:
    for i, a in enumerate(arrays):
        if a is None:
            continue
        expected = INTEGERS if i in op.integer_operands else FLOATS
        if a.dtype not in expected:
            hint = "" if i in op.integer_operands else "; convert it with .to('float32')"
            raise DtypeError(f"{op.name}: operand {i + 1} is {a.dtype}, expected "
                             f"{' or '.join(str(d) for d in expected)}{hint}")
