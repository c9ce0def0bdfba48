"""What attention keeps of the positions it has seen, so that the next one does not compute them again."""

from __future__ import annotations

import numpy as np

from ..errors import ShapeError
from ..tensor import Tensor


class KeyValueCache:
    """Keys and values of one attention layer, (B, kv_heads, length, size) each, in arrays for up to `capacity` positions.

    A head's positions lie one behind the other, so that a new query reads them in one sweep. No gradient goes through it.
    """

    def __init__(self, batch: int, kv_heads: int, capacity: int, size: int):
        self.length, self.capacity = 0, capacity
        self._keys, self._values = (np.empty((batch, kv_heads, capacity, size), np.float32) for _ in range(2))

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add (B, kv_heads, T, size) of the next T positions; all there are now.

        Raises:
            ShapeError: another batch, heads or size, or more positions than there is room for.
        """
        b, heads, t, size = keys.shape
        if (b, heads, size) != (*self._keys.shape[:2], self._keys.shape[3]) or self.length + t > self.capacity:
            raise ShapeError(f"KeyValueCache: expected up to {self.capacity - self.length} more positions of shape "
                             f"{self._keys.shape[:2]} and size {self._keys.shape[3]}, got {keys.shape}")
        end = self.length + t
        for kept, new in ((self._keys, keys), (self._values, values)):
            kept[:, :, self.length : end] = new.data
        self.length = end
        return Tensor._of(self._keys[:, :, :end]), Tensor._of(self._values[:, :, :end])

    @property
    def nbytes(self) -> int:
        """Bytes of both arrays."""
        return self._keys.nbytes + self._values.nbytes
