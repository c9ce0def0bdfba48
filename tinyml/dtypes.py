"""The dtypes of Tensors, and those that an op computes in."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from . import checks
from .errors import DtypeError

FLOAT16, FLOAT32, FLOAT64 = FLOATS = tuple(np.dtype(t) for t in (np.float16, np.float32, np.float64))
INT32, INT64, UINT8, BOOL = INTEGERS = tuple(np.dtype(t) for t in (np.int32, np.int64, np.uint8, np.bool_))
INT8 = np.dtype(np.int8)        # codes, which have a scale
_KINDS = {"f": "a float", "iu": "integers"}
NAMES = {str(d): d for d in (*FLOATS, *INTEGERS, INT8)}
NAME_OF = {d: name for name, d in NAMES.items()}       # str(dtype) takes longer than most ops


def as_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    """The NumPy dtype of that name.

    Raises:
        DtypeError: not one that a Tensor can have.
    """
    try:
        found = None if dtype is None else np.dtype(dtype)      # NumPy takes None for float64
    except (TypeError, ValueError):
        found = None
    if found is None or found not in NAMES.values():
        raise DtypeError(f"dtype: expected one of {', '.join(NAMES)}, got {checks.described(dtype)}")
    return found


def element_dtype(who: str, dtype: DTypeLike | None, default: np.dtype[Any], kinds: str = "biuf") -> np.dtype[Any]:
    """The dtype that elements are made in: `dtype`, or `default` for None.

    Raises:
        DtypeError: int8, whose codes mean nothing without a scale, or a dtype that is not of `kinds`.
    """
    found = default if dtype is None else as_dtype(dtype)
    if found == INT8:
        raise DtypeError(f"{who}: int8 codes need a scale; make floats, and quantize them by to_int8()")
    if found.kind not in kinds:
        raise DtypeError(f"{who}: expected dtype to be {_KINDS.get(kinds, 'a number')}, got {found}")
    return found


def category(dtype: np.dtype[Any]) -> int:
    """Which of two dtypes decides what an op computes in: floats before integers before bools.

    Raises:
        DtypeError: it is no dtype of numbers.
    """
    if dtype.kind not in "biuf":
        raise DtypeError(f"Tensor: expected one of {', '.join(NAMES)}, got {dtype}")
    return "biuf".index(dtype.kind) if dtype.kind != "u" else 1


def promote(a: np.dtype[Any], b: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype that an op of `a` and `b` computes in: the wider of two floats, and a float beside integers as it is."""
    if a == b:
        return a
    if category(a) != category(b):
        return max(a, b, key=category)
    return np.promote_types(a, b)


def result_dtype(arrays: Iterable[np.ndarray]) -> np.dtype[Any]:
    """The common dtype of several operands, as PyTorch has it: those of no dimensions count only where the others are of a
    lower category (floats, integers, bools)."""
    found: list[np.dtype[Any] | None] = [None, None]        # of arrays, and of those without dimensions
    for a in arrays:
        which = int(not a.ndim)
        known = found[which]
        found[which] = a.dtype if known is None or known == a.dtype else promote(known, a.dtype)
    whole, single = found
    if whole is None or single is None:
        return whole or single      # type: ignore[return-value]    # there is an array
    return promote(whole, single) if category(single) > category(whole) else whole


def dtype_of_number(value: float | bool, like: np.dtype[Any] | None) -> np.dtype[Any]:
    """The dtype of a Python number beside operands of the dtype `like`: numbers never widen a dtype, but a float makes a
    float of integers, and an int makes one of bools."""
    own = BOOL if isinstance(value, (bool, np.bool_)) else INT64 if isinstance(value, int) else FLOAT32
    return own if like is None or category(own) > category(like) else like


def converted(op: Any, arrays: list[Any]) -> tuple[list[Any], bool]:
    """The operands in the dtypes that `op` computes in, and whether its result is rounded to float16.

    Raises:
        DtypeError: a dtype that the op does not take.
    """
    for i in op.integer_operands:
        if arrays[i] is not None and arrays[i].dtype not in INTEGERS:
            raise _unexpected(op, i, arrays[i].dtype, INTEGERS)
    if op.promotes is not None:
        return _promoted(op, arrays)
    if not op.any_dtype:
        _check(op, arrays)
    floats = {a.dtype for a in arrays if a is not None and a.dtype in FLOATS}
    half = floats == {FLOAT16} and not op.any_dtype and any(
        a is not None and a.dtype == FLOAT16 for i, a in enumerate(arrays) if i not in op.stored)
    if len(floats) > 1 or half:
        _check_precision(op, floats)
        wide = FLOAT64 if FLOAT64 in floats else FLOAT32
        arrays = [a.astype(wide) if a is not None and a.dtype in FLOATS and a.dtype != wide and not (
            a.dtype == FLOAT16 and i in op.reads_half) else a for i, a in enumerate(arrays)]
    return arrays, half


def _promoted(op: Any, arrays: list[Any]) -> tuple[list[Any], bool]:
    """All operands, but for those that are integers by meaning, in their common dtype."""
    common = result_dtype(a for i, a in enumerate(arrays) if a is not None and i not in op.integer_operands)
    if common == BOOL and not op.bools:
        raise DtypeError(f"{op.name}: expected numbers, got bool; convert with int(), or use ~ and ^ for logic")
    if op.promotes == "floats" and common.kind != "f":
        common = FLOAT32
    _check_precision(op, {a.dtype for a in arrays if a is not None and a.dtype in FLOATS})
    half = common == FLOAT16
    if half:
        common = FLOAT32
    return [a if a is None or i in op.integer_operands or a.dtype == common else a.astype(common)
            for i, a in enumerate(arrays)], half


def _check_precision(op: Any, floats: set[np.dtype[Any]]) -> None:
    if op.one_precision and len(floats) > 1 and FLOAT64 in floats:
        raise DtypeError(f"{op.name}: operands are {' and '.join(sorted(str(d) for d in floats))}; float64 would "
                         "take a slow road through the layer: convert it with .to('float32') (or astype in NumPy)")


def _check(op: Any, arrays: list[Any]) -> None:
    for i, a in enumerate(arrays):
        if a is None:
            continue
        expected = INTEGERS if i in op.integer_operands else FLOATS
        if a.dtype not in expected:
            raise _unexpected(op, i, a.dtype, expected)


def _unexpected(op: Any, i: int, dtype: np.dtype[Any], expected: tuple[np.dtype[Any], ...]) -> DtypeError:
    hint = "; convert it with .to('float32')" if expected is FLOATS else ""
    return DtypeError(f"{op.name}: operand {i + 1} is {dtype}, expected {' or '.join(map(str, expected))}{hint}")
