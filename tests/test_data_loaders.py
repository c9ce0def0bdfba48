"""Loaders: which items an epoch holds, in which order, and how samples become batches."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinyml.random
from tinyml import data
from tinyml.data._order import Shuffled
from tinyml.errors import DtypeError, ShapeError
from tinyml.tensors import Tensor


class Squares(data.Dataset):
    """Takes an int only, as users write them."""

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return self.items

    def __getitem__(self, index):
        if not isinstance(index, int) or not 0 <= index < self.items:
            raise IndexError(index)
        return np.full((2,), index, np.float32), index * index


def numbered(items):
    return data.ArrayDataset(np.arange(items, dtype=np.float32)[:, None], np.arange(items))


def seen(loader):
    """The targets of one epoch, in the order they came."""
    return np.concatenate([targets.numpy() for _, targets in loader])


@given(items=st.integers(1, 50), size=st.integers(1, 20), drop=st.booleans(), seed=st.none() | st.integers(0, 2**70))
def test_an_epoch_holds_each_item_once(items, size, drop, seed):
    if drop and items < size:
        with pytest.raises(ShapeError, match="drop_last"):
            data.DataLoader(numbered(items), size, drop_last=drop)
        return
    loader = data.DataLoader(numbered(items), size, shuffle=True, drop_last=drop, seed=seed)
    batches = list(loader)
    assert len(batches) == len(loader)
    assert all(len(targets.numpy()) == size for _, targets in batches[: len(batches) if drop else -1])
    order = np.concatenate([targets.numpy() for _, targets in batches])
    assert len(order) == (items // size * size if drop else items)
    assert len(set(order)) == len(order) and set(order) <= set(range(items))
    for inputs, targets in batches:
        assert isinstance(inputs, Tensor) and inputs.numpy().dtype == np.float32 and targets.numpy().dtype == np.int64
        np.testing.assert_array_equal(inputs.numpy()[:, 0], targets.numpy())


@given(n=st.integers(1, 3000), seed=st.integers(0, 2**32))
def test_an_order_without_an_array_of_all_items_has_each_once(n, seed):
    order = Shuffled(n, np.random.default_rng(seed))
    pieces = [order[i : i + 64] for i in range(0, n, 64)]
    assert sorted(np.concatenate(pieces)) == list(range(n))


def test_an_order_without_an_array_of_all_items_is_random():
    n, draws = 12, 6000
    orders = np.array([Shuffled(n, np.random.default_rng(seed))[:] for seed in range(draws)])
    # where each item goes, and which follows which: counts within five standard deviations, the seeds are fixed
    places = np.array([np.bincount(orders[:, i], minlength=n) for i in range(n)])
    assert np.abs(places - draws / n).max() < 5 * np.sqrt(draws / n)
    follows = np.bincount((orders[:, :-1] * n + orders[:, 1:]).ravel(), minlength=n * n).reshape(n, n)
    expected = draws * (n - 1) / (n * (n - 1))
    assert np.abs(follows[~np.eye(n, dtype=bool)] - expected).max() < 5 * np.sqrt(expected)
    large = Shuffled(2**40, np.random.default_rng(0))[2**39 : 2**39 + 100_000]
    assert len(np.unique(large)) == 100_000
    shares = np.histogram(large, 16, (0, 2**40))[0]
    assert np.abs(shares - 6250).max() < 5 * np.sqrt(6250)


def test_a_seed_fixes_the_order_of_each_epoch():
    tinyml.random.manual_seed(1)
    loader = data.DataLoader(numbered(40), 7, shuffle=True, seed=3)
    epochs = [seen(loader) for _ in range(3)]
    assert loader.epoch == 3
    assert len({tuple(order) for order in [*epochs, np.arange(40)]}) == 4
    tinyml.random.manual_seed(2)
    resumed = data.DataLoader(numbered(40), 7, shuffle=True, seed=3)
    resumed.epoch = 2
    np.testing.assert_array_equal(seen(resumed), epochs[2])
    assert tuple(seen(data.DataLoader(numbered(40), 7, shuffle=True, seed=4))) != tuple(epochs[0])
    np.testing.assert_array_equal(seen(data.DataLoader(numbered(40), 7)), np.arange(40))


def test_without_a_seed_the_order_comes_from_the_global_generator():
    orders = []
    for manual_seed in (5, 5, 6):
        tinyml.random.manual_seed(manual_seed)
        loader = data.DataLoader(numbered(40), 7, shuffle=True)
        orders.append((tuple(seen(loader)), tuple(seen(loader))))
    assert orders[0] == orders[1] != orders[2]
    assert orders[0][0] != orders[0][1]


def test_random_batches_draw_uniformly_and_repeatably():
    batches = data.RandomBatches(data.TextDataset(np.arange(11), 3, stride=1), 50, steps=40, seed=0)
    drawn = [(inputs.numpy(), targets.numpy()) for inputs, targets in batches]
    assert len(drawn) == len(batches) == 40
    starts = np.concatenate([inputs[:, 0] for inputs, _ in drawn])
    counts = np.bincount(starts, minlength=8)
    # 2,000 draws of 8 items: 250 each, standard deviation 14.8; the seed is fixed, so this passes or fails for good.
    assert len(counts) == 8 and np.abs(counts - 250).max() < 4 * 14.8
    assert all(np.array_equal(inputs + 1, targets) for inputs, targets in drawn)
    again = data.RandomBatches(batches.dataset, 50, steps=40, seed=0)
    np.testing.assert_array_equal(np.concatenate([inputs.numpy()[:, 0] for inputs, _ in again]), starts)
    assert again.epoch == 1
    assert not np.array_equal(np.concatenate([inputs.numpy()[:, 0] for inputs, _ in again]), starts)


def test_int_indexed_data_sets_are_stacked():
    inputs, targets = next(iter(data.DataLoader(Squares(5), 3)))
    np.testing.assert_array_equal(inputs.numpy(), np.float32([[0, 0], [1, 1], [2, 2]]))
    np.testing.assert_array_equal(targets.numpy(), [0, 1, 4])
    assert [int(target) for _, target in Squares(3)] == [0, 1, 4]


class Halves(Squares):
    def __getitem__(self, index):
        return np.zeros(2, np.float16), index / 2


def test_python_floats_become_float32_and_arrays_keep_their_dtype():
    inputs, targets = next(iter(data.DataLoader(Halves(3))))
    assert inputs.numpy().dtype == np.float16 and targets.numpy().dtype == np.float32
    np.testing.assert_array_equal(targets.numpy(), [0, 0.5, 1])


class Ragged(Squares):
    def __getitem__(self, index):
        return np.zeros(index + 1, np.float32), index


class NoPair(Squares):
    def __getitem__(self, index):
        return np.zeros(2, np.float32)


class Words(Squares):
    def __getitem__(self, index):
        return np.zeros(2, np.float32), "cat"


@pytest.mark.parametrize(
    "run, error, words",
    [
        (lambda: data.DataLoader(numbered(0)), ShapeError, "empty"),
        (lambda: data.RandomBatches(numbered(0), 1, 1), ShapeError, "empty"),
        (lambda: data.DataLoader(numbered(3), 0), ShapeError, "batch_size"),
        (lambda: data.DataLoader(numbered(3), 2.0), DtypeError, "batch_size"),
        (lambda: data.DataLoader(numbered(3), 2, seed=-1), ShapeError, "seed"),
        (lambda: data.RandomBatches(numbered(3), 2, 0), ShapeError, "steps"),
        (lambda: data.DataLoader([1, 2]), DtypeError, "list"),
        (lambda: next(iter(data.DataLoader(Ragged(3)))), ShapeError, r"\(1,\), \(2,\)"),
        (lambda: next(iter(data.DataLoader(NoPair(3)))), ShapeError, "pair"),
        (lambda: next(iter(data.DataLoader(Words(3)))), DtypeError, "targets"),
        (lambda: next(iter(data.DataLoader(numbered(3), transform=lambda x, rng: None))), DtypeError, "NoneType"),
        (lambda: next(iter(data.DataLoader(numbered(3), transform=lambda x, rng: x[:1]))), ShapeError, "3 samples"),
    ],
)
def test_loaders_say_what_is_wrong(run, error, words):
    with pytest.raises(error, match=words):
        run()


def test_transforms_of_a_seeded_loader_repeat():
    images = data.ArrayDataset(np.random.default_rng(0).random((9, 1, 6, 6), np.float32), np.arange(9))
    runs = []
    for _ in range(2):
        loader = data.DataLoader(images, 4, shuffle=True, seed=1, transform=data.RandomShift(2))
        runs.append(np.concatenate([inputs.numpy() for inputs, _ in loader]))
    np.testing.assert_array_equal(*runs)
    assert not np.array_equal(runs[0], images.inputs[seen(data.DataLoader(images, 4, shuffle=True, seed=1))])
