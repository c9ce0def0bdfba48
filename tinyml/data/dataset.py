"""Data sets: numbered (inputs, targets) pairs, one at a time or a batch of indices at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import checks
from ..errors import DtypeError, OutOfRangeError, ShapeError
from ..nests import leaves, map_arrays
from ..tensors import Tensor
from .tokens import TokenFile

Pair = tuple[Any, Any]
Index = int | Sequence[int] | np.ndarray      # of one item, or of several


def collate(items: Sequence[Any], what: str) -> Any:
    """Nests of one form, one per item, as one nest of batches: each array or number stacked along a new first axis.

    Raises ShapeError where items differ in form or shape, DtypeError where they are not numbers; naming `what`.
    """
    forms = [dict(leaves(item)) for item in items]
    for form in forms:
        if form.keys() != forms[0].keys():
            raise ShapeError(f"{what} of one batch: expected items of one form, got arrays at {', '.join(forms[0])} and at "
                             f"{', '.join(form)}")
    stacked = iter([_stacked([form[path] for form in forms], what + path) for path in forms[0]])
    return map_arrays(lambda _: next(stacked), items[0])


def _stacked(parts: Sequence[Any], what: str) -> np.ndarray:
    arrays = [part.array if isinstance(part, Tensor) else np.asarray(part) for part in parts]
    shapes = sorted({array.shape for array in arrays})
    if len(shapes) > 1:
        raise ShapeError(f"{what} of one batch: expected items of one shape, got {', '.join(map(str, shapes))}")
    batch = np.stack(arrays)
    if batch.dtype.kind not in "biuf":
        raise DtypeError(f"{what} of one batch: expected arrays of numbers, got dtype {batch.dtype}")
    # As Tensor has it: a Python float becomes float32, or one float64 target would widen all that it meets.
    return batch.astype(np.float32) if type(parts[0]) is float else batch


class Dataset:
    """Base of data sets: a subclass defines `__len__`, and `__getitem__(index)` giving the pair (inputs, targets).

    Both are ndarrays or numbers, or tuples (named ones too), lists and dicts of them; a list of numbers is an array.
    `__getitem__` needs to take an int only; raise IndexError past the end and `for` works too. Where a whole batch
    can be fetched at once, override `batch`.

    Example:
        >>> class Squares(data.Dataset):
        ...     def __len__(self):
        ...         return 5
        ...     def __getitem__(self, index):
        ...         return np.float32(index), index**2
        >>> Squares().batch(np.array([1, 2]))
        (array([1., 2.], dtype=float32), array([1, 4]))
    """

    def __len__(self) -> int:
        raise NotImplementedError(f"{type(self).__name__} does not define __len__")

    def __getitem__(self, index: Index) -> Pair:
        raise NotImplementedError(f"{type(self).__name__} does not define __getitem__")

    def batch(self, indices: np.ndarray) -> Pair:
        """Several items, stacked.

        Args:
            indices: (B,), in the order wanted.

        Returns:
            Inputs (B, ...) and targets (B, ...), nested as the items are.

        Raises:
            ShapeError: items that differ in shape or form, or are no pairs; DtypeError: items that are no numbers.
        """
        items = [self[int(index)] for index in indices]
        for index, item in zip(indices, items, strict=True):
            if not isinstance(item, (tuple, list)) or len(item) != 2:
                raise ShapeError(f"{type(self).__name__}[{index}]: expected the pair (inputs, targets), got "
                                 f"{type(item).__name__}")
        return collate([item[0] for item in items], "inputs"), collate([item[1] for item in items], "targets")


def checked_indices(index: Index, length: int) -> np.ndarray:
    """`index` as an int64 array of shape () or (B,), every entry in [0, length).

    Raises DtypeError for anything but integers, ShapeError for more than one axis, OutOfRangeError out of range.
    """
    indices = checks.array("data set", "index", index, "iu")
    if indices.ndim > 1:
        raise ShapeError(f"data set index: expected shape () or (B,), got {indices.shape}")
    # Negative indices are refused, not wrapped: a window or a sample taken from the wrong end is a silent error.
    outside = (indices < 0) | (indices >= length)
    if outside.any():
        raise OutOfRangeError(f"data set index {indices[outside].flat[0]} is out of range for {length} items")
    return indices.astype(np.int64)


class ArrayDataset(Dataset):
    """Arrays held in memory: item i is (inputs[i], targets[i]); inputs (N, ...), targets (N, ...).

    Args:
        inputs: an array, or a tuple or dict of arrays, whose items are tuples or dicts then. A list is one array.
        targets: likewise.
        classes: the name of each class, where targets are classes.

    Raises:
        ShapeError: lengths that differ, or arrays without dimensions; DtypeError: no numbers.

    Example:
        >>> items = data.ArrayDataset(np.zeros((10, 3), np.float32), np.arange(10))
        >>> len(items), items[7][1]
        (10, array(7))
    """

    def __init__(self, inputs: Any, targets: Any, classes: list[str] | None = None):
        self.inputs, self.targets = _as_arrays("inputs", inputs), _as_arrays("targets", targets)
        self.classes = classes
        arrays = [(what + path, a) for what, nest in (("inputs", self.inputs), ("targets", self.targets))
                  for path, a in leaves(nest)]
        shapes = " and ".join(f"{what} {a.shape}" for what, a in arrays)
        if any(a.ndim == 0 for _, a in arrays) or not arrays:
            raise ShapeError(f"ArrayDataset: expected arrays with a first axis of samples, got {shapes or 'none'}")
        self._length = len(arrays[0][1])
        if any(len(a) != self._length for _, a in arrays):
            raise ShapeError(f"ArrayDataset: expected as many targets as inputs, got {shapes}")

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: Index) -> Pair:
        indices = checked_indices(index, len(self))
        inputs, targets = (map_arrays(lambda a: np.asarray(a[indices]), nest) for nest in (self.inputs, self.targets))
        return inputs, targets

    def batch(self, indices: np.ndarray) -> Pair:
        """Items `indices` (B,): inputs (B, ...), targets (B, ...), copied out in one gather each."""
        return self[indices]


def _as_arrays(name: str, nest: Any) -> Any:
    def one(value: Any) -> np.ndarray:
        return checks.array("ArrayDataset", name, value)

    return one(nest) if isinstance(nest, list) else map_arrays(one, nest)


class TextDataset(Dataset):
    """Windows of a text for next-token prediction: item i is (ids[s:s+T], ids[s+1:s+T+1]), s = i * stride, both int64.

    An array of indices (B,) gives a pair of (B, T).

    Args:
        ids: (L,) integers, as an array or a TokenFile.
        context: T.
        stride: from one window to the next; None: T, consecutive windows without overlap; 1: every start.

    Raises:
        ShapeError: ids that are no row of at least T + 1, a context or stride below 1; DtypeError: ids that are no
        integers; when indexed, OutOfRangeError.

    Example:
        >>> data.TextDataset(np.arange(10), context=3)[1]
        (array([3, 4, 5]), array([4, 5, 6]))
    """

    def __init__(self, ids: np.ndarray | TokenFile, context: int, stride: int | None = None):
        ids = ids if isinstance(ids, TokenFile) else checks.array("TextDataset", "ids", ids, "iu")
        context = checks.whole("TextDataset", "context", context, 1)
        stride = context if stride is None else checks.whole("TextDataset", "stride", stride, 1)
        if ids.ndim != 1 or len(ids) <= context:
            raise ShapeError(f"TextDataset: expected ids (L,) with L > {context}, the context, got shape {ids.shape}")
        if ids.dtype.kind not in "iu":
            raise DtypeError(f"TextDataset: expected integer ids, got dtype {ids.dtype}")
        self.ids, self.context, self.stride = ids, context, stride

    def __len__(self) -> int:
        return (len(self.ids) - 1 - self.context) // self.stride + 1

    def __getitem__(self, index: Index) -> Pair:
        starts = checked_indices(index, len(self)) * self.stride
        positions = starts[..., None] + np.arange(self.context)  # (T,) or (B, T)
        windows = self.ids[np.concatenate([positions, positions[..., -1:] + 1], axis=-1)].astype(np.int64)
        return np.ascontiguousarray(windows[..., :-1]), np.ascontiguousarray(windows[..., 1:])

    def batch(self, indices: np.ndarray) -> Pair:
        """Windows `indices` (B,): inputs (B, T), targets (B, T)."""
        return self[indices]
