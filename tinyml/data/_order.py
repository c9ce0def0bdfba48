"""The order in which a loader visits items."""

from __future__ import annotations

import math

import numpy as np

SMALL = 2**22       # items up to which a random order is an array, of 32 MB


class Shuffled:
    """`n` items in a random order, in memory of the order of sqrt(n).

    Item i is i = left * width + right; each round adds to one half a random number that depends on the other half, which
    can be undone, so no two items meet (Luby & Rackoff 1988; Black & Rogaway 2002 for halves that are no powers of two).
    The halves number a few more than n: what falls among those goes through the rounds again.
    """

    def __init__(self, n: int, rng: np.random.Generator):
        self.n, self.height = n, math.isqrt(n - 1) + 1
        self.width = -(-n // self.height)
        self.rounds = [(rng.integers(self.height, size=self.width), rng.integers(self.width, size=self.height))
                       for _ in range(4)]

    def __getitem__(self, at: slice) -> np.ndarray:
        """The items at places `at`."""
        items = self._permuted(np.arange(*at.indices(self.n)))
        while (outside := items >= self.n).any():
            items[outside] = self._permuted(items[outside])
        return items

    def _permuted(self, i: np.ndarray) -> np.ndarray:
        left, right = np.divmod(i, self.width)
        for to_left, to_right in self.rounds:
            left = (left + to_left[right]) % self.height
            right = (right + to_right[left]) % self.width
        return left * self.width + right


def shuffled(n: int, rng: np.random.Generator) -> np.ndarray | Shuffled:
    """A random order of `n` items, of which slices are taken."""
    return rng.permutation(n) if n <= SMALL else Shuffled(n, rng)
