"""What attention keeps of the positions it has seen, so that the next one does not compute them again."""

from __future__ import annotations

import numpy as np

from .. import checks
from .._kernels.rows.codes import quantize_rows
from ..errors import DtypeError, QuantizationError, ShapeError
from ..tensors import FLOATS, Tensor

# how keys and values may be stored, and the bytes of one; int8 has a float32 scale for each head and position beside them
STORED = {"float32": np.float32, "float16": np.float16, "int8": np.uint8}
LARGEST_HALF = 65504


class KeyValueCache:
    """Keys and values of one attention layer, (B, kv_heads, capacity, size) each, of which `lengths` (B,) are there.

    A head's positions lie one behind the other, so that a new query reads them in one sweep. No gradient goes through it.

    Args:
        batch: B.
        kv_heads: heads of keys and values.
        capacity: positions there is room for.
        size: elements of a head.
        stored: "float32", "float16", or "int8": codes 128 + rint(x / s), s = max|x| / 127 of each head and position.

    Raises:
        DtypeError: another `stored`; ShapeError: a size out of range; OutOfMemoryError: more than this machine has.

    Example:
        >>> cache = nn.KeyValueCache(batch=1, kv_heads=2, capacity=16, size=8)
        >>> attention = nn.SelfAttention(16, heads=2)
        >>> attention(np.ones((1, 3, 16), np.float32), cache).shape, cache.length
        ((1, 3, 16), 3)
    """

    key_scale: np.ndarray | None
    value_scale: np.ndarray | None

    def __init__(self, batch: int, kv_heads: int, capacity: int, size: int, stored: str = "float32"):
        if not isinstance(stored, str) or stored not in STORED:
            raise DtypeError(f"KeyValueCache: expected one of {', '.join(STORED)}, got {checks.described(stored)}")
        shape = (checks.whole("KeyValueCache", "batch", batch), *checks.sizes(
            "KeyValueCache", kv_heads=kv_heads, capacity=capacity, size=size))
        checks.room("KeyValueCache", "keys and values", (2, *shape), np.dtype(STORED[stored]).itemsize)
        self.stored, self.lengths = stored, np.zeros(shape[0], np.int64)
        self.keys, self.values = (np.empty(shape, STORED[stored]) for _ in range(2))
        self.key_scale = self.value_scale = None
        if stored == "int8":
            self.key_scale, self.value_scale = (np.empty(shape[:3], np.float32) for _ in range(2))

    @property
    def capacity(self) -> int:
        """Positions there is room for."""
        return self.keys.shape[2]

    @property
    def length(self) -> int:
        """Positions that all rows have.

        Raises:
            ShapeError: rows have different numbers of them.
        """
        if len(set(self.lengths.tolist())) > 1:
            raise ShapeError(f"KeyValueCache: expected rows of equal lengths, got {self.lengths.tolist()}; rows(b, b + 1) "
                             "is one row")
        return int(self.lengths[0]) if len(self.lengths) else 0

    def rows(self, first: int, end: int) -> KeyValueCache:
        """Some of the rows as a cache that shares their memory.

        Args:
            first: the first of them.
            end: the first behind them.

        Returns:
            A cache of end - first rows.
        """
        part = KeyValueCache.__new__(KeyValueCache)
        part.stored = self.stored
        for name in ("lengths", "keys", "values", "key_scale", "value_scale"):
            whole = getattr(self, name)
            setattr(part, name, None if whole is None else whole[first:end])
        return part

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add the next T positions.

        Args:
            keys: (B, kv_heads, T, size).
            values: of the same shape.

        Returns:
            Keys and values of all positions there are now, as float32 and as they are stored.

        Raises:
            ShapeError: another batch, heads or size, or more positions than there is room for.
            DtypeError: keys or values that are no Tensors of floats.
            QuantizationError: beyond the largest float16.
        """
        for name, given in (("keys", keys), ("values", values)):
            if checks.instance("KeyValueCache", name, given, Tensor).ndim != 4 or given.shape != keys.shape:
                raise ShapeError(f"KeyValueCache: expected {name} (B, kv_heads, T, size), as many keys as values, got "
                                 f"{given.shape}")
            if given.dtype not in FLOATS:
                raise DtypeError(f"KeyValueCache: expected {name} to be floats, got {given.dtype}")
        b, heads, t, size = keys.shape
        begin = self.length
        if (b, heads, size) != (*self.keys.shape[:2], self.keys.shape[3]) or begin + t > self.capacity:
            raise ShapeError(f"KeyValueCache: expected up to {self.capacity - begin} more positions of shape "
                             f"{self.keys.shape[:2]} and size {self.keys.shape[3]}, got {keys.shape}")
        end = begin + t
        for kept, scale, new in ((self.keys, self.key_scale, keys.array), (self.values, self.value_scale, values.array)):
            if scale is not None:
                codes, scales = quantize_rows(new.reshape(b * heads * t, size))
                kept[:, :, begin:end] = codes.reshape(new.shape)
                scale[:, :, begin:end] = scales.reshape(b, heads, t)
            else:
                if self.stored == "float16" and new.size and np.abs(new).max() > LARGEST_HALF:
                    raise QuantizationError(f"KeyValueCache: expected keys and values up to {LARGEST_HALF} to store as "
                                            f"float16, got {np.abs(new).max():.6g}")
                kept[:, :, begin:end] = new
        self.lengths[:] = end
        return self._floats(self.keys, self.key_scale, end), self._floats(self.values, self.value_scale, end)

    def _floats(self, kept: np.ndarray, scale: np.ndarray | None, end: int) -> Tensor:
        kept = kept[:, :, :end]
        if scale is None:
            return Tensor._of(kept.astype(np.float32, copy=False))
        return Tensor._of((kept.astype(np.float32) - 128) * scale[:, :, :end, None])

    @property
    def nbytes(self) -> int:
        """Bytes of all positions there is room for; memory is used as they come."""
        return sum(a.nbytes for a in (self.keys, self.values, self.key_scale, self.value_scale) if a is not None)
