"""Where elements are in order: the places of the sorted, the k-th and the most frequent. NaN counts as the largest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .. import checks
from ..errors import ShapeError
from ..state import Context
from .op import Op, Sample, normal, sample

_LOW = np.int64(0xFFFFFFFF)


def _keys(x: np.ndarray, descending: bool) -> np.ndarray | None:
    """int64 numbers in the order of the rows of x, equal elements by place: NumPy sorts them by vector instructions, which
    its stable argsort does not have. The high half has the order of the element, the low half its place. None: too wide."""
    if x.dtype.itemsize > 4 or x.shape[-1] > _LOW:
        return None
    if x.dtype.kind == "f":
        bits = np.add(x, 0, dtype=np.float32).view(np.int32)      # of -0 and 0 both are 0
        keys = bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))
        np.copyto(keys, np.int32(0x7FFFFFFF), where=np.isnan(x))
    else:
        keys = x.astype(np.int32)
    wide: np.ndarray = (~keys if descending else keys).astype(np.int64)
    wide <<= 32
    wide |= np.arange(x.shape[-1])
    return wide


def order(x: np.ndarray, descending: bool = False, k: int | None = None) -> np.ndarray:
    """The places of the elements of each row in order, or of the first k of them; equal ones stay as they are."""
    keys = _keys(x, descending)
    if keys is not None:
        if k is not None and 0 < k < x.shape[-1]:
            keys.partition(k - 1)
            keys = keys[..., :k].copy()
        keys.sort()
        return keys[..., :k] & _LOW
    if not descending:
        return np.argsort(x, kind="stable")[..., :k]
    places: np.ndarray = x.shape[-1] - 1 - np.argsort(x[..., ::-1], kind="stable")[..., ::-1]
    return places[..., :k]


class _Order(Op):
    """Base of the places of elements along `axis`.

    Raises:
        ShapeError: fewer elements than asked for.
    """

    any_dtype = True
    differentiable = False

    @staticmethod
    def rows(name: str, x: np.ndarray, axis: int, least: int) -> np.ndarray:
        """x with `axis` last."""
        checks.fits(name, axis, x.ndim)
        if x.shape[axis] < least:
            raise ShapeError(f"{name}: expected at least {least} elements along dimension {axis}, got shape {x.shape}")
        return np.ascontiguousarray(x.swapaxes(axis, -1))


class ArgSort(_Order):
    """The places of the elements of x along `axis` in order; the first k, or all for None. Equal ones stay as they are."""

    name = "argsort"

    @classmethod
    def forward(cls, ctx: Context, x: np.ndarray, *, axis: int, descending: bool, k: int | None) -> np.ndarray:
        return order(cls.rows(cls.name, x, axis, k or 0), descending, k).swapaxes(axis, -1)

    @staticmethod
    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        yield sample(normal(rng, 3, 4), axis=1, descending=False, k=None)
        yield sample(normal(rng, 5, 4).round(), axis=0, descending=True, k=None)
        yield sample(normal(rng, 3, 40), axis=-1, descending=True, k=3)

    @staticmethod
    def parity(torch: Any, x: Any, axis: Any, descending: Any, k: Any) -> Any:
        found = torch.sort(x, dim=axis, descending=descending, stable=True).indices
        return found if k is None else found.narrow(axis, 0, k)


class ArgKth(_Order):
    """The place of the k-th smallest element of x along `axis`, which stays, as 1.

    For k None that of the median, the lower one of an even number; of elements with a NaN it is the place of the first.
    """

    name = "argkth"

    @classmethod
    def forward(cls, ctx: Context, x: np.ndarray, *, axis: int, k: int | None) -> np.ndarray:
        rows = cls.rows(cls.name, x, axis, k or 1)
        nth = (rows.shape[-1] + 1) // 2 if k is None else k
        found = order(rows, False, nth)[..., nth - 1:]
        if k is None and x.dtype.kind == "f":
            nan = np.isnan(rows)
            found = np.where(nan.any(axis=-1, keepdims=True), nan.argmax(axis=-1, keepdims=True), found)
        return found.swapaxes(axis, -1)

    @staticmethod
    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        yield sample(normal(rng, 3, 5), axis=1, k=2)
        yield sample(normal(rng, 4, 3), axis=0, k=None)

    @staticmethod
    def parity(torch: Any, x: Any, axis: Any, k: Any) -> Any:
        return (torch.median(x, axis, True) if k is None else torch.kthvalue(x, k, axis, True)).indices


class ArgMode(_Order):
    """The last place of the most frequent element of x along `axis`, which stays, as 1; of several the smallest."""

    name = "argmode"

    @classmethod
    def forward(cls, ctx: Context, x: np.ndarray, *, axis: int) -> np.ndarray:
        rows = cls.rows(cls.name, x, axis, 1)
        places = order(rows)
        ordered, at = np.take_along_axis(rows, places, -1), np.arange(rows.shape[-1])
        ends = np.ones(rows.shape, bool)
        ends[..., :-1] = ordered[..., 1:] != ordered[..., :-1]
        starts = np.zeros(rows.shape, np.int64)
        starts[..., 1:] = np.maximum.accumulate(np.where(ends, at + 1, 0), axis=-1)[..., :-1]
        longest = np.where(ends, at + 1 - starts, 0).argmax(axis=-1, keepdims=True)
        return np.take_along_axis(places, longest, -1).swapaxes(axis, -1)

    @staticmethod
    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        yield sample(normal(rng, 3, 9).round(), axis=1)
        yield sample(normal(rng, 9, 3).round(), axis=0)

    @staticmethod
    def parity(torch: Any, x: Any, axis: Any) -> Any:
        return torch.mode(x, axis, True).indices


class SearchSorted(Op):
    """How many elements of the last dimension of `sorted` lie below each of `values`; with `right`, not above it.

    `sorted` is one row, or one for each row of the values.

    Raises:
        ShapeError: as many rows as the values do not have.
    """

    name = "searchsorted"
    promotes = "numbers"
    differentiable = False

    @staticmethod
    def forward(ctx: Context, ordered: np.ndarray, values: np.ndarray, *, right: bool) -> np.ndarray:
        side: Any = "right" if right else "left"
        if ordered.ndim == 1:
            return np.asarray(np.searchsorted(ordered, values, side))
        if ordered.shape[:-1] != values.shape[:-1]:
            raise ShapeError(f"searchsorted: expected values of as many rows as sorted, got shapes {ordered.shape} and "
                             f"{values.shape}")
        if not values.size:
            return np.zeros(values.shape, np.int64)
        rows = zip(ordered.reshape(-1, ordered.shape[-1]), values.reshape(-1, values.shape[-1]))
        found = [np.searchsorted(a, v, side) for a, v in rows]
        return np.array(found, np.int64).reshape(values.shape)

    @staticmethod
    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        yield sample(np.sort(normal(rng, 5)), normal(rng, 3, 2), right=False)
        yield sample(np.sort(normal(rng, 2, 5).round()), normal(rng, 2, 4).round(), right=True)

    @staticmethod
    def parity(torch: Any, ordered: Any, values: Any, right: Any) -> Any:
        return torch.searchsorted(ordered, values, right=right)
