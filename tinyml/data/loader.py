"""Batches of Tensors out of a data set: by epochs (`DataLoader`) or drawn at random (`RandomBatches`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .. import checks, random
from ..errors import DtypeError, ShapeError
from ..nests import leaves, map_arrays
from ..tensors import Tensor
from ._order import Shuffled, shuffled
from .dataset import Dataset

Transform = Callable[[Any, np.random.Generator], Any]


class _Batches:
    """What both loaders share: the data set, the batch size, and one random stream per epoch."""

    def __init__(self, dataset: Dataset, batch_size: int, seed: int | None):
        name = type(self).__name__
        if not isinstance(dataset, Dataset):
            raise DtypeError(f"{name}: expected a tinyml.data.Dataset, got {type(dataset).__name__}")
        if len(dataset) == 0:
            raise ShapeError(f"{name}: expected a data set with at least one item, got an empty one")
        self.dataset = dataset
        self.batch_size = checks.whole(name, "batch_size", batch_size, 1)
        self.seed = None if seed is None else checks.seed(name, seed)
        self.epoch = 0

    def _start_epoch(self) -> np.random.Generator:
        epoch, self.epoch = self.epoch, self.epoch + 1
        return random.generator() if self.seed is None else np.random.default_rng([self.seed, epoch])


class DataLoader(_Batches):
    """Each iteration is one epoch over `dataset`: pairs of Tensors, inputs (B, ...) and targets (B, ...).

    Where the data set's items are nested (tuples, dicts), so are the batches, with Tensors (B, ...) in the place of arrays.
    dtypes are the data set's. `epoch` counts the iterations started: set it to resume.

    Args:
        dataset: a Dataset.
        batch_size: B.
        shuffle: whether items come in random order. There is no array of the order of more than 4 million items.
        drop_last: whether the last batch is left out where it has fewer than B items.
        seed: of the order and the transform, which then depend on (seed, epoch) only; None: they are drawn from tinyml's
            generator.
        transform: a function of (inputs, rng) that returns the inputs to use, as an ndarray, or nested as the model takes
            them.

    Raises:
        ShapeError: a batch size below 1, a negative seed, an empty data set, or no full batch with `drop_last`.
        DtypeError: no Dataset, or another kind of argument.

    Example:
        >>> items = data.ArrayDataset(np.zeros((10, 3), np.float32), np.arange(10))
        >>> [len(y) for x, y in data.DataLoader(items, batch_size=4, shuffle=True)]
        [4, 4, 2]
    """

    def __init__(self, dataset: Dataset, batch_size: int = 32, shuffle: bool = False, drop_last: bool = False,
                 seed: int | None = None, transform: Transform | None = None):
        super().__init__(dataset, batch_size, seed)
        self.shuffle = checks.flag("DataLoader", "shuffle", shuffle)
        self.drop_last = checks.flag("DataLoader", "drop_last", drop_last)
        self.transform = None if transform is None else checks.function("DataLoader", "transform", transform)
        if len(self) == 0:
            raise ShapeError(f"DataLoader with drop_last: expected at least {self.batch_size} items for one full batch,"
                             f" got {len(dataset)}")

    def __len__(self) -> int:
        full, rest = divmod(len(self.dataset), self.batch_size)
        return full + (1 if rest and not self.drop_last else 0)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        # The epoch starts here and not in the generator below, whose body would wait for the first batch.
        rng = self._start_epoch()
        return self._epoch(shuffled(len(self.dataset), rng) if self.shuffle else None, rng)

    def _epoch(self, order: np.ndarray | Shuffled | None, rng: np.random.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in range(len(self)):
            begin, end = batch * self.batch_size, min((batch + 1) * self.batch_size, len(self.dataset))
            inputs, targets = self.dataset.batch(np.arange(begin, end) if order is None else order[begin:end])
            if self.transform is not None:
                inputs = _checked_transform(self.transform(inputs, rng), end - begin)
            yield map_arrays(Tensor, inputs), map_arrays(Tensor, targets)


def _checked_transform(inputs: Any, samples: int) -> Any:
    for _, a in leaves(inputs):
        if not isinstance(a, np.ndarray):
            raise DtypeError("DataLoader transform: expected it to return an ndarray, or a tuple or dict of them, got "
                             f"{type(a).__name__}")
        if a.shape[:1] != (samples,):
            raise ShapeError(f"DataLoader transform: expected it to keep {samples} samples, got shape {a.shape}")
    return inputs


class RandomBatches(_Batches):
    """Each iteration is `steps` batches of items that are drawn uniformly, with replacement.

    For training on windows of a text that overlap (`TextDataset` with stride 1), where an epoch has no meaning.

    Args:
        dataset: a Dataset.
        batch_size: items in a batch.
        steps: batches in an iteration.
        seed: of the draws, which then depend on (seed, epoch) only; None: they come from tinyml's generator.

    Raises:
        ShapeError: a batch size or steps below 1, a negative seed, or an empty data set.
        DtypeError: no Dataset, or another kind of argument.

    Example:
        >>> windows = data.TextDataset(np.arange(100), context=8, stride=1)
        >>> [x.shape for x, y in data.RandomBatches(windows, batch_size=4, steps=2)]
        [(4, 8), (4, 8)]
    """

    def __init__(self, dataset: Dataset, batch_size: int, steps: int, seed: int | None = None):
        super().__init__(dataset, batch_size, seed)
        self.steps = checks.whole("RandomBatches", "steps", steps, 1)
        checks.room("RandomBatches", "the indices of a batch", (self.batch_size,), 8)

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self._batches(self._start_epoch())

    def _batches(self, rng: np.random.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        for _ in range(self.steps):
            inputs, targets = self.dataset.batch(rng.integers(len(self.dataset), size=self.batch_size))
            yield map_arrays(Tensor, inputs), map_arrays(Tensor, targets)
