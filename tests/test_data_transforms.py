"""Transforms of images: shifts, crops, flips, normalisation."""

from __future__ import annotations

import numpy as np
import pytest

from tinyml import data
from tinyml.errors import DtypeError, ShapeError


class Draws(np.random.Generator):
    """Stands in for a generator, to know what a transform drew."""

    def __init__(self, *values):
        super().__init__(np.random.PCG64(0))
        self.values = [np.asarray(value) for value in values]

    def random(self, size):
        return self.values.pop(0)

    def integers(self, low, high, size):
        drawn = self.values.pop(0)
        assert drawn.shape == size and low <= drawn.min() and drawn.max() < high
        return drawn


def slow_shift(image, dy, dx, roll):
    moved = np.zeros_like(image)
    _, height, width = image.shape
    for y in range(height):
        for x in range(width):
            if roll or (0 <= y + dy < height and 0 <= x + dx < width):
                moved[:, (y + dy) % height, (x + dx) % width] = image[:, y, x]
    return moved


@pytest.mark.parametrize(
    "transform, roll",
    [(data.RandomShift(3), True), (data.RandomShift(3, mode="zero"), False), (data.RandomCrop(3), False)],
)
def test_shifts_equal_a_loop_over_samples_and_reach_every_offset(transform, roll):
    offsets = np.stack(np.meshgrid(np.arange(-3, 4), np.arange(-3, 4))).reshape(2, -1)
    batch = np.random.default_rng(0).random((offsets.shape[1], 2, 5, 7), np.float32)
    before = batch.copy()
    moved = transform(batch, Draws(offsets))
    for sample, (dy, dx) in enumerate(offsets.T):
        np.testing.assert_array_equal(moved[sample], slow_shift(batch[sample], dy, dx, roll))
    np.testing.assert_array_equal(batch, before)
    assert moved.dtype == batch.dtype
    one = np.zeros((2000, 1, 7, 7), np.float32)
    one[:, :, 3, 3] = 1
    places = np.argwhere(transform(one, np.random.default_rng(0)))[:, 2:]
    assert len(np.unique(places, axis=0)) == 49


def test_flip_mirrors_the_drawn_samples_only():
    batch = np.random.default_rng(0).random((4, 3, 5, 6), np.float32)
    before = batch.copy()
    flipped = data.RandomFlip(0.3)(batch, Draws([0.2, 0.4, 0.29, 0.3]))
    for sample, mirrored in enumerate([True, False, True, False]):
        np.testing.assert_array_equal(flipped[sample], batch[sample][..., ::-1] if mirrored else batch[sample])
    np.testing.assert_array_equal(batch, before)


def test_compose_applies_in_order_and_normalize_works_per_channel():
    batch = np.random.default_rng(0).random((3, 2, 4, 4), np.float32)
    normalize = data.Normalize([0.5, 0.25], [2.0, 0.5])
    steps = data.Compose([normalize, data.RandomShift(1, mode="zero")])
    expected = np.stack([(batch[:, 0] - 0.5) / 2, (batch[:, 1] - 0.25) / 0.5], axis=1)
    np.testing.assert_allclose(normalize(batch), expected, rtol=1e-6)
    assert normalize(batch).dtype == np.float32
    # Zeros come in after the normalisation, so the other order would show.
    moved = steps(batch, Draws(np.ones((2, 3), int)))
    np.testing.assert_allclose(moved[:, :, 1:, 1:], expected[:, :, :-1, :-1], rtol=1e-6)
    assert not moved[:, :, 0].any()


@pytest.mark.parametrize(
    "transform",
    [data.RandomFlip(), data.RandomShift(1), data.RandomCrop(1), data.Normalize(0, 1)],
    ids=lambda transform: type(transform).__name__,
)
def test_transforms_refuse_another_rank_by_name(transform):
    with pytest.raises(ShapeError, match=type(transform).__name__ + r".*\(3, 8, 8\)"):
        transform(np.zeros((3, 8, 8), np.float32), np.random.default_rng(0))


@pytest.mark.parametrize(
    "run, error",
    [
        (lambda: data.RandomFlip(1.5), ShapeError),
        (lambda: data.RandomShift(-1), ShapeError),
        (lambda: data.RandomShift(1, mode="wrap"), ShapeError),
        (lambda: data.RandomCrop(4)(np.zeros((1, 1, 4, 9)), np.random.default_rng(0)), ShapeError),
        (lambda: data.Normalize([0, 0], [1]), ShapeError),
        (lambda: data.Normalize(0, 0), ShapeError),
        (lambda: data.Normalize([0, 0], [1, 1])(np.zeros((1, 3, 4, 4))), ShapeError),
        (lambda: data.Normalize(0, 1)(np.zeros((1, 3, 4, 4), np.uint8)), DtypeError),
    ],
)
def test_transforms_refuse_what_they_cannot_do(run, error):
    with pytest.raises(error):
        run()
