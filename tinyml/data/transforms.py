"""Changes to a batch of images (B, C, H, W): each is called as transform(batch, rng) and returns a new array."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from .. import checks
from ..errors import DtypeError, ShapeError


def _checked(transform: object, batch: np.ndarray, rng: np.random.Generator | None, draws: bool = False) -> np.ndarray:
    name = type(transform).__name__
    batch = checks.array(name, "the batch", batch)
    if batch.ndim != 4:
        raise ShapeError(f"{name}: expected a batch (B, C, H, W), got shape {batch.shape}")
    if draws:
        checks.instance(name, "rng", rng, np.random.Generator)
    return batch


class Compose:
    """Applies transforms in order.

    Args:
        transforms: functions of (batch, rng).

    Raises:
        DtypeError: no list of functions.

    Example:
        >>> transform = data.Compose([data.RandomFlip(), data.RandomShift(2)])
        >>> transform(np.zeros((4, 1, 8, 8)), np.random.default_rng(0)).shape
        (4, 1, 8, 8)
    """

    def __init__(self, transforms: Sequence[Callable[[np.ndarray, np.random.Generator], np.ndarray]]):
        if not isinstance(transforms, (tuple, list)):
            raise DtypeError(f"Compose: expected a list of transforms, got {checks.described(transforms)}")
        self.transforms = [checks.function("Compose", f"transform {i}", t) for i, t in enumerate(transforms)]

    def __call__(self, batch: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        for transform in self.transforms:
            batch = transform(batch, rng)
        return batch


class RandomFlip:
    """Mirrors each sample of (B, C, H, W) left to right with probability `p`.

    Args:
        p: from 0 to 1.

    Raises:
        ShapeError: `p` out of range; when called, a batch of another rank.

    Example:
        >>> data.RandomFlip(p=1.0)(np.arange(3.0).reshape(1, 1, 1, 3), np.random.default_rng(0)).ravel()
        array([2., 1., 0.])
    """

    def __init__(self, p: float = 0.5):
        self.p = checks.probability("RandomFlip", "p", p)

    def __call__(self, batch: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        batch = _checked(self, batch, rng, draws=True)
        flip = rng.random(len(batch)) < self.p
        return np.where(flip[:, None, None, None], batch[..., ::-1], batch)


class RandomShift:
    """Moves each sample of (B, C, H, W) by -pixels to pixels rows and columns, drawn uniformly and independently.

    Args:
        pixels: how far at most, below H and W.
        mode: "roll": what leaves on one side comes back on the other; "zero": it is lost, and zeros come in.

    Raises:
        ShapeError: an unknown mode, pixels below 0; when called, a batch of another rank, or too small.

    Example:
        >>> data.RandomShift(2, "zero")(np.ones((4, 3, 8, 8)), np.random.default_rng(0)).shape
        (4, 3, 8, 8)
    """

    def __init__(self, pixels: int, mode: str = "roll"):
        name = type(self).__name__
        self.pixels, self.mode = checks.whole(name, "pixels", pixels), checks.choice(name, "mode", mode, ("roll", "zero"))

    def __call__(self, batch: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        batch = _checked(self, batch, rng, draws=True)
        height, width = batch.shape[2:]
        if self.pixels >= min(height, width):
            raise ShapeError(f"{type(self).__name__}: expected images larger than {self.pixels} pixels, got shape "
                             f"{batch.shape}")
        rows, columns = rng.integers(-self.pixels, self.pixels + 1, size=(2, len(batch)))  # (B,) each
        # A shift by (dy, dx) is the window at (pixels - dy, pixels - dx) of the padded image: one copy per sample,
        # where gathering every pixel by index would compute an address for each.
        edge = (self.pixels, self.pixels)
        padded = np.pad(batch, ((0, 0), (0, 0), edge, edge), mode="wrap" if self.mode == "roll" else "constant")
        windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(2, 3))
        return windows[np.arange(len(batch)), :, self.pixels - rows, self.pixels - columns]


class RandomCrop(RandomShift):
    """Pads each sample of (B, C, H, W) with zeros on every side and crops it back to (H, W) anywhere.

    That is a shift of up to `padding` pixels that brings in zeros.

    Args:
        padding: rows and columns of zeros.

    Raises:
        ShapeError: as RandomShift does.

    Example:
        >>> data.RandomCrop(4)(np.ones((4, 3, 8, 8)), np.random.default_rng(0)).shape
        (4, 3, 8, 8)
    """

    def __init__(self, padding: int):
        super().__init__(padding, mode="zero")


class Normalize:
    """(batch - mean) / std, in the dtype of the batch.

    Args:
        mean: one number per channel, (C,), or one for all.
        std: as many, above 0.

    Raises:
        ShapeError: numbers that do not fit, a std that is not positive; when called, another rank or number of channels.
        DtypeError: when called, a batch of integers.

    Example:
        >>> data.Normalize([1.0], [2.0])(np.full((1, 1, 1, 1), 5.0)).item()
        2.0
    """

    def __init__(self, mean: float | Sequence[float], std: float | Sequence[float]):
        self.mean, self.std = (np.atleast_1d(checks.array("Normalize", name, value)).astype(float)
                               for name, value in (("mean", mean), ("std", std)))
        if self.mean.shape != self.std.shape or self.mean.ndim != 1:
            raise ShapeError(f"Normalize: expected a mean and a std per channel, got shapes {self.mean.shape} and "
                             f"{self.std.shape}")
        if not (np.isfinite(self.mean).all() and np.isfinite(self.std).all() and (self.std > 0).all()):
            raise ShapeError(f"Normalize: expected finite means and positive stds, got {self.mean} and {self.std}")

    def __call__(self, batch: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        batch = _checked(self, batch, rng)
        if batch.dtype.kind != "f":
            raise DtypeError(f"Normalize: expected a batch of floats, got dtype {batch.dtype}")
        if len(self.mean) not in (1, batch.shape[1]):
            raise ShapeError(f"Normalize: expected {len(self.mean)} channels, got shape {batch.shape}")
        mean, std = (v.astype(batch.dtype)[:, None, None] for v in (self.mean, self.std))
        return np.asarray((batch - mean) / std)
