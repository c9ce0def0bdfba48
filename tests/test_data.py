"""Data sets, loaders, transforms, readers of files (whole and damaged), and the data shipped in the package."""

from __future__ import annotations

import gzip
import json
import lzma
import shutil
import struct
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinyml.random
from tinyml import data
from tinyml.data._files import read_bytes
from tinyml.data._order import Shuffled
from tinyml.data._shipped import SHIPPED, shipped
from tinyml.errors import DtypeError, FileError, ShapeError
from tinyml.tensor import Tensor

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
needs_fashion = pytest.mark.skipif(not DEBIAN.is_dir(), reason="Debian package dataset-fashion-mnist is not installed")
needs_bible = pytest.mark.skipif(shutil.which("bible") is None, reason="Debian package bible-kjv is not installed")


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


# ---- data sets


@settings(deadline=None)
@given(length=st.integers(2, 40), context=st.integers(1, 12), stride=st.none() | st.integers(1, 15))
def test_text_windows_are_those_of_the_definition(length, context, stride):
    ids = np.arange(length, dtype=np.int32) * 3
    if length < context + 1:
        with pytest.raises(ShapeError, match="TextDataset"):
            data.TextDataset(ids, context, stride)
        return
    dataset = data.TextDataset(ids, context, stride)
    step = context if stride is None else stride
    starts = [s for s in range(0, length, step) if s + context + 1 <= length]
    assert len(dataset) == len(starts)
    inputs, targets = dataset[np.arange(len(starts))]
    assert inputs.dtype == targets.dtype == np.int64
    for item, s in enumerate(starts):
        for pair in (dataset[item], (inputs[item], targets[item])):
            np.testing.assert_array_equal(pair[0], ids[s : s + context])
            np.testing.assert_array_equal(pair[1], ids[s + 1 : s + context + 1])


@pytest.mark.parametrize("dataset", [data.TextDataset(np.arange(9), 2), numbered(4)], ids=["text", "array"])
@pytest.mark.parametrize(
    "index, error",
    [
        (4, IndexError), (-1, IndexError), (np.array([0, 4]), IndexError), (np.array([-1, 0]), IndexError),
        (1.0, DtypeError), (np.array([0.0]), DtypeError), (np.ones(4, bool), DtypeError), (slice(2), DtypeError),
        (np.zeros((1, 1), int), ShapeError),
    ],
)  # fmt: skip
def test_bad_indices_are_refused(dataset, index, error):
    assert len(dataset) == 4
    with pytest.raises(error):
        dataset[index]


@pytest.mark.parametrize(
    "make, error",
    [
        (lambda: data.ArrayDataset(np.zeros((3, 2)), np.zeros(2)), ShapeError),
        (lambda: data.ArrayDataset(np.float32(1), np.zeros(1)), ShapeError),
        (lambda: data.TextDataset(np.arange(5), 5), ShapeError),
        (lambda: data.TextDataset(np.zeros((5, 5), int), 2), ShapeError),
        (lambda: data.TextDataset(np.arange(5), 0), ShapeError),
        (lambda: data.TextDataset(np.arange(5), 2, stride=0), ShapeError),
        (lambda: data.TextDataset(np.arange(5.0), 2), DtypeError),
    ],
)
def test_bad_data_sets_are_refused(make, error):
    with pytest.raises(error, match="Dataset"):
        make()


# ---- loaders


@settings(deadline=None)
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
        (lambda: data.DataLoader(numbered(3), 2.0), ShapeError, "batch_size"),
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


# ---- transforms


class Draws:
    """Stands in for a generator, to know what a transform drew."""

    def __init__(self, *values):
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


# ---- IDX files

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 28, 28), np.uint8)
LABELS = np.arange(20, dtype=np.uint8) % 10
PACK = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress}


def idx(array, code=0x08, sizes=None):
    sizes = array.shape if sizes is None else sizes
    return struct.pack(f">HBB{len(sizes)}I", 0, code, len(sizes), *sizes) + array.tobytes()


def write(path, content):
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize(
    "code, dtype", [(8, "u1"), (9, "i1"), (0x0B, ">i2"), (0x0C, ">i4"), (0x0D, ">f4"), (0x0E, ">f8")]
)
def test_idx_round_trip(tmp_path, suffix, code, dtype):
    array = np.random.default_rng(0).integers(0, 127, (3, 4, 5)).astype(dtype)
    read = data.read_idx(write(tmp_path / f"a{suffix}", PACK[suffix](idx(array, code))))
    np.testing.assert_array_equal(read, array)
    assert read.dtype == np.dtype(dtype).newbyteorder("=") and read.flags.writeable


GOOD = idx(IMAGES)
IDX_DAMAGE = {
    "nothing": (b"", "4 bytes of magic number, got 0"),
    "half a magic": (GOOD[:3], "got 3"),
    "wrong magic": (b"\x89PNG" + GOOD[4:], "got 89504e47"),
    "unknown type": (b"\0\0\x0a\3" + GOOD[4:], "got 00000a03"),
    "no axes": (b"\0\0\x08\0" + GOOD[4:], "got 00000800"),
    "half the sizes": (GOOD[:9], "axis sizes, got 5"),
    "truncated": (GOOD[:-1], "15680 bytes .* got 15679"),
    "trailing": (GOOD + b"\0", "more bytes"),
    "absurd sizes": (idx(IMAGES, sizes=(2**32 - 1,) * 3), "got 15680"),
    "empty": (idx(IMAGES, sizes=(0, 28, 28)), "at least one element"),
}


@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize("damage", IDX_DAMAGE)
def test_damaged_idx(tmp_path, damage, suffix):
    content, words = IDX_DAMAGE[damage]
    path = write(tmp_path / f"images{suffix}", PACK[suffix](content))
    with pytest.raises(FileError, match=rf"images{suffix}.*expected.*{words}"):
        data.read_idx(path)


@pytest.mark.parametrize("suffix", [".gz", ".xz"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda packed: packed[:-9], lambda packed: packed + b"junk", lambda packed: b"", lambda packed: GOOD,
        lambda packed: packed[:4000] + bytes(4) + packed[4004:],
    ],
    ids=["truncated", "trailing", "nothing", "not compressed", "overwritten"],
)  # fmt: skip
def test_damaged_compression(tmp_path, suffix, damage):
    path = write(tmp_path / f"images{suffix}", damage(PACK[suffix](GOOD)))
    with pytest.raises(FileError, match=f"images{suffix}: expected"):
        data.read_idx(path)


def test_missing_file_or_a_directory_for_one(tmp_path):
    for path in (tmp_path / "none", tmp_path):
        for read in (data.read_idx, data.npz_images, data.read_text):
            with pytest.raises(FileError, match=str(path)):
                read(path)


def test_memory_follows_the_bytes_that_are_there_not_the_count_asked_for():
    class Stream:
        asked = 0

        def read(self, count):
            self.asked = max(self.asked, count)
            return b""

    stream = Stream()
    with pytest.raises(FileError, match="truncated"):
        read_bytes(stream, 2**60, "file", "elements")
    assert stream.asked <= 2**20


# ---- Fashion-MNIST


def write_fashion(root, images=IMAGES, labels=LABELS, part="train", suffix=".gz"):
    root.mkdir(exist_ok=True)
    write(root / f"{part}-images-idx3-ubyte{suffix}", PACK[suffix](idx(images)))
    write(root / f"{part}-labels-idx1-ubyte{suffix}", PACK[suffix](idx(labels)))
    return root


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_fashion_mnist_of_a_folder(tmp_path, suffix):
    write_fashion(tmp_path, part="t10k", suffix=suffix)
    dataset = data.fashion_mnist("test", root=tmp_path)
    assert dataset.inputs.shape == (20, 1, 28, 28) and dataset.inputs.dtype == np.float32
    np.testing.assert_allclose(dataset.inputs[:, 0], (IMAGES / 255 - 0.2860) / 0.3530, atol=1e-5)
    assert dataset.targets.dtype == np.int64 and dataset.targets.tolist() == LABELS.tolist()
    assert dataset.classes[9] == "Ankle boot" and len(dataset.classes) == 10


def test_fashion_mnist_places_in_their_order(tmp_path, monkeypatch):
    mine, shared = tmp_path / "mine", tmp_path / "shared"
    monkeypatch.setattr("tinyml.data.images._DEBIAN_FASHION_MNIST", tmp_path / "debian")
    monkeypatch.setenv("TINYML_DATA", str(shared))
    shared.mkdir()
    # Written last place first: each one found must hide those written before it.
    for items, place in enumerate([tmp_path / "debian", shared / "fashion-mnist", shared, mine], start=1):
        write_fashion(place, IMAGES[:items], LABELS[:items])
        assert len(data.fashion_mnist(root=mine)) == items
    assert len(data.fashion_mnist()) == 3


@pytest.mark.parametrize(
    "images, labels, words",
    [
        (IMAGES, LABELS[:-1], r"labels-idx1.*expected 20 .*\(19,\)"),
        (IMAGES, np.full(20, 10, np.uint8), "labels-idx1.*expected labels in 0..9, got 10 at item 0"),
        (IMAGES[:, :27], LABELS, r"images-idx3.*\(20, 27, 28\)"),
        (LABELS, IMAGES, r"images-idx3.*\(20,\)"),
    ],
)
def test_fashion_mnist_files_that_do_not_fit(tmp_path, images, labels, words):
    with pytest.raises(FileError, match=words):
        data.fashion_mnist("train", root=write_fashion(tmp_path, images, labels))


def test_missing_fashion_mnist_lists_the_places(tmp_path, monkeypatch):
    monkeypatch.setattr("tinyml.data.images._DEBIAN_FASHION_MNIST", tmp_path / "debian")
    monkeypatch.setenv("TINYML_DATA", str(tmp_path / "shared"))
    with pytest.raises(FileError) as caught:
        data.fashion_mnist(root=tmp_path / "mine")
    for words in ("mine", "shared", "shared/fashion-mnist", "debian", "package dataset-fashion-mnist", "train-images"):
        assert words in str(caught.value)


@pytest.mark.parametrize("read", [data.fashion_mnist, data.fashion_mnist_small, lambda s: data.cifar10(".", s)])
def test_unknown_splits_are_refused(read):
    with pytest.raises(ShapeError, match="'valid'"):
        read("valid")


@needs_fashion
def test_full_fashion_mnist_and_its_shipped_part(monkeypatch):
    monkeypatch.delenv("TINYML_DATA", raising=False)
    full, small = data.fashion_mnist("test"), data.fashion_mnist_small("test")
    assert full.inputs.shape == (10000, 1, 28, 28) and np.bincount(full.targets).tolist() == [1000] * 10
    chosen = np.sort(np.concatenate([np.flatnonzero(full.targets == c)[:200] for c in range(10)]))
    np.testing.assert_array_equal(small.inputs, full.inputs[chosen])
    np.testing.assert_array_equal(small.targets, full.targets[chosen])


# ---- CIFAR-10


def cifar_records(items, seed=0):
    records = np.random.default_rng(seed).integers(0, 256, (items, 3073), np.uint8)
    records[:, 0] %= 10
    return records


@pytest.mark.parametrize("folder", [".", "cifar-10-batches-bin"])
def test_cifar10(tmp_path, folder):
    (tmp_path / folder).mkdir(exist_ok=True)
    batches = [cifar_records(3, seed) for seed in range(6)]
    names = [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]
    for name, batch in zip(names, batches, strict=True):
        write(tmp_path / folder / name, batch.tobytes())
    for split, records in (("train", np.concatenate(batches[:5])), ("test", batches[5])):
        dataset = data.cifar10(tmp_path, split)
        assert dataset.inputs.dtype == np.float32 and dataset.targets.dtype == np.int64
        np.testing.assert_array_equal(dataset.targets, records[:, 0])
        # Byte 1 + 1024 c + 32 y + x of a record is the pixel at row y, column x of channel c.
        pixel = records[:, 1 + 1024 * 2 + 32 * 5 + 7] / 255
        np.testing.assert_allclose(dataset.inputs[:, 2, 5, 7], (pixel - 0.4465) / 0.2616, atol=1e-5)
    assert dataset.classes[0] == "airplane" and len(dataset.classes) == 10


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", "got 0 bytes"),
        (cifar_records(2).tobytes()[:-1], "1 records and 3072 bytes"),
        (cifar_records(2).tobytes() + b"\0", "2 records and 1 bytes"),
        (b"\x0a" + cifar_records(2).tobytes()[1:], "expected labels in 0..9, got 10 at item 0"),
    ],
)
def test_damaged_cifar10(tmp_path, content, words):
    with pytest.raises(FileError, match=r"test_batch.bin.*or.*cifar-10-batches-bin"):
        data.cifar10(tmp_path, "test")
    write(tmp_path / "test_batch.bin", content)
    with pytest.raises(FileError, match=f"test_batch.bin: .*{words}"):
        data.cifar10(tmp_path, "test")


# ---- .npz

RGB = np.random.default_rng(1).integers(0, 256, (6, 3, 8, 5), np.uint8)
SIX = np.arange(6)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_splits_share_their_normalisation_and_layouts_agree(tmp_path, save):
    test = RGB[:2] // 2
    save(tmp_path / "nchw.npz", x_train=RGB, y_train=SIX, x_test=test, y_test=SIX[:2].astype(np.uint8))
    nhwc = {"x_train": RGB.transpose(0, 2, 3, 1), "x_test": np.asfortranarray(test.transpose(0, 2, 3, 1))}
    save(tmp_path / "nhwc.npz", y_train=SIX, y_test=SIX[:2], **nhwc)
    scaled = RGB / 255
    mean, std = scaled.mean(axis=(0, 2, 3), keepdims=True), scaled.std(axis=(0, 2, 3), keepdims=True)
    for split, images in (("train", RGB), ("test", test)):
        first, second = (data.npz_images(tmp_path / name, split) for name in ("nchw.npz", "nhwc.npz"))
        assert first.inputs.dtype == np.float32 and first.targets.dtype == np.int64
        np.testing.assert_allclose(first.inputs, (images / 255 - mean) / std, atol=1e-5)
        np.testing.assert_array_equal(first.inputs, second.inputs)
        np.testing.assert_array_equal(first.targets, SIX[: len(images)])


@pytest.mark.parametrize(
    "shape, channels",
    [((6, 8, 5), 1), ((6, 1, 8, 3), 1), ((6, 3, 8, 3), 3), ((6, 8, 5, 1), 1), ((6, 8, 5, 3), 3), ((6, 4, 8, 5), 4)],
)
def test_npz_axis_of_the_channels(tmp_path, shape, channels):
    np.savez(tmp_path / "images.npz", x=np.resize(RGB, shape), y=SIX)
    assert data.npz_images(tmp_path / "images.npz").inputs.shape == (6, channels, 8, shape[-1] if shape[1] != 8 else 5)


@pytest.mark.parametrize("names", [("x", "y"), ("images", "labels")])
def test_npz_of_one_split_is_normalised_by_itself(tmp_path, names):
    grey = RGB[:, 0].copy()
    grey[:] = grey[:1, :1, :1]
    for images in (RGB[:, 0], grey):
        np.savez(tmp_path / "one.npz", **dict(zip(names, (images, SIX), strict=True)))
        dataset = data.npz_images(tmp_path / "one.npz")
        assert dataset.inputs.shape == (6, 1, 8, 5)
        np.testing.assert_allclose(dataset.inputs.mean(), 0, atol=1e-5)
        np.testing.assert_allclose(dataset.inputs.std(), 1 if images is not grey else 0, atol=1e-5)
    with pytest.raises(FileError, match=rf"one.npz: expected the keys x_test and y_test, got \['{names[0]}"):
        data.npz_images(tmp_path / "one.npz", "test")


def npy(descr="|u1", shape="(6, 3, 8, 5)", body=None, version=b"\1\0"):
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY" + version + struct.pack("<H", len(header)) + header + (RGB.tobytes() if body is None else body)


@pytest.mark.parametrize(
    "member, words",
    [
        (npy(shape="(60000000000, 3, 8, 5)"), "7200000000000 bytes .* got 720"),
        (npy(shape=f"({2**62}, {2**62}, 8, 5)"), "got 720"),
        (npy(body=RGB.tobytes()[:-1]), "720 bytes .* got 719"),
        (npy(body=RGB.tobytes() + b"\0"), "more bytes"),
        (npy(shape="(-6, 3, 8, 5)"), "at least one element"),
        (npy(descr="|O"), "numbers, got dtype object"),
        (npy(descr="<U4"), "numbers, got dtype <U4"),
        (npy(version=b"\3\0"), "format 1.0 or 2.0"),
        (npy(shape="(6, 3"), "ValueError|TokenError"),
        (npy(shape="'many'"), "ValueError"),
        (b"no array", "ValueError"),
        (npy(descr="<f4", shape="(6, 3, 2, 5)"), "uint8 images"),
        (npy(shape="(6, 120)"), "uint8 images"),
        (npy(shape="(5, 3, 8, 6)"), "5 integer labels from 0, got int64"),
    ],
)
def test_damaged_npz_members(tmp_path, member, words):
    path = tmp_path / "images.npz"
    np.savez(path, y_train=SIX)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("x_train.npy", member)
    with pytest.raises(FileError, match=rf"images.npz.*expected.*({words})"):
        data.npz_images(path)


@pytest.mark.parametrize(
    "arrays, words",
    [
        ({"x_train": RGB, "labels": SIX}, r"got \['labels', 'x_train'\]"),
        ({"x_train": np.array([{}, None] * 3, object), "y_train": SIX}, "dtype object"),
        ({"x_train": RGB, "y_train": SIX - 1}, "from -1"),
        ({"x_train": RGB, "y_train": SIX / 2}, "float64"),
    ],
)
def test_npz_of_other_arrays(tmp_path, arrays, words):
    np.savez(tmp_path / "images.npz", **arrays)
    with pytest.raises(FileError, match=f"images.npz.*expected.*{words}"):
        data.npz_images(tmp_path / "images.npz")


@settings(max_examples=150, deadline=None)
@given(cut=st.integers(0, 10**6), at=st.integers(0, 10**6), value=st.integers(0, 255), pack=st.booleans())
def test_a_damaged_archive_is_a_file_error_or_harmless(tmp_path_factory, cut, at, value, pack):
    path = tmp_path_factory.mktemp("npz") / "images.npz"
    (np.savez_compressed if pack else np.savez)(path, x_train=RGB, y_train=SIX)
    expected = data.npz_images(path)
    content = bytearray(path.read_bytes())
    size = len(content)
    with pytest.raises(FileError, match=r"images\.npz"):
        data.npz_images(write(path, bytes(content[: cut % size])))
    content[at % size] = value
    write(path, bytes(content))
    # Some bytes of an archive are dates and flags; what a reader returns must be what was stored.
    try:
        read = data.npz_images(path)
    except FileError as error:
        assert "images.npz" in str(error)
    else:
        np.testing.assert_array_equal(read.inputs, expected.inputs)
        np.testing.assert_array_equal(read.targets, expected.targets)


# ---- text


@given(st.text(min_size=1))
def test_tokenizer_round_trip(text):
    tokenizer = data.CharTokenizer(text)
    ids = tokenizer.encode(text)
    assert ids.dtype == np.int64 and ids.shape == (len(text),)
    assert tokenizer.vocab_size == len(set(text)) and set(ids) == set(range(tokenizer.vocab_size))
    assert tokenizer.decode(ids) == text
    again = data.CharTokenizer.from_json(tokenizer.to_json())
    np.testing.assert_array_equal(again.encode(text), ids)
    assert tokenizer.encode("").shape == (0,) and tokenizer.decode([]) == ""
    assert [tokenizer.decode(i) for i in range(tokenizer.vocab_size)] == sorted(set(text))


@pytest.mark.parametrize("character", ["b", "!", "\U0001f600", "\ud800"])
def test_unknown_characters_are_named(character):
    with pytest.raises(ShapeError) as caught:
        data.CharTokenizer("acé").encode("ac" + character + character + "aß")
    assert f"got {character!r} at position 2, 'ß' at position 5" in str(caught.value)


def test_many_unknown_characters_are_named_in_part():
    with pytest.raises(ShapeError, match="'f' at position 5, and 20 more"):
        data.CharTokenizer("_").encode("abcdefghijklmnopqrstuvwxyz")


@pytest.mark.parametrize(
    "run, error, words",
    [
        (lambda t: t.decode([0, 3]), ShapeError, "0 .. 2, got 3 at position 1"),
        (lambda t: t.decode([-1]), ShapeError, "got -1 at position 0"),
        (lambda t: t.decode([[0]]), ShapeError, "shape"),
        (lambda t: t.decode([0.0]), DtypeError, "float64"),
        (lambda t: data.CharTokenizer(""), ShapeError, "empty"),
        (lambda t: data.CharTokenizer("a\ud800"), ShapeError, "surrogate"),
        (lambda t: t.from_json('"ba"'), FileError, "sorted"),
        (lambda t: t.from_json('"aa"'), FileError, "sorted"),
        (lambda t: t.from_json('["a"]'), FileError, "sorted"),
        (lambda t: t.from_json('""'), FileError, "sorted"),
        (lambda t: t.from_json('"a'), FileError, "JSON"),
    ],
)
def test_tokenizer_errors(run, error, words):
    with pytest.raises(error, match=words):
        run(data.CharTokenizer("abc"))


def test_read_text(tmp_path):
    assert data.read_text(write(tmp_path / "text", "é\r\nb\n".encode())) == "é\nb\n"
    for content, words in ((b"\xff\xfea", "UTF-8"), (b"", "empty")):
        with pytest.raises(FileError, match=f"text.*{words}"):
            data.read_text(write(tmp_path / "text", content))


# ---- what is shipped


def test_manifest_lists_what_is_there():
    entries = json.loads((SHIPPED / "MANIFEST.json").read_text())["files"]
    files = {path.name: path.stat().st_size for path in SHIPPED.iterdir()}
    assert {entry["name"]: entry["bytes"] for entry in entries} == {
        name: size for name, size in files.items() if name.endswith((".gz", ".xz"))
    }
    assert all(entry["source"] and entry["licence"] for entry in entries)
    assert sum(files.values()) < 6_000_000
    for entry in entries:
        assert shipped(entry["name"]).name == entry["name"]


@pytest.mark.parametrize("split, per_class", [("train", 1200), ("test", 200)])
def test_shipped_images_are_balanced(split, per_class):
    dataset = data.fashion_mnist_small(split)
    assert dataset.inputs.shape == (10 * per_class, 1, 28, 28) and dataset.inputs.dtype == np.float32
    assert np.bincount(dataset.targets).tolist() == [per_class] * 10
    # The constants are of the full training set: this part is close to it.
    assert abs(dataset.inputs.mean()) < 0.02 and abs(dataset.inputs.std() - 1) < 0.02


def test_shipped_text():
    text = data.bible()
    assert text.startswith("In the beginning God created the heaven and the earth.\n")
    assert text.endswith("And Obed begat Jesse, and Jesse begat David.\n")
    assert 1_000_000 < len(text) < 1_100_000
    assert not set(text) & set("0123456789\r\t[]{}") and "  " not in text and "\n\n\n" not in text


@needs_bible
def test_shipped_text_is_that_of_the_package():
    lines = subprocess.run(
        ["bible", "-f", "gen1:1-ruth4:22"], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    ours = [line for line in data.bible().splitlines() if line]
    assert ours == [" ".join(line.split()[1:]) for line in lines]


def test_a_changed_shipped_file_is_refused(tmp_path):
    name = "fashion-mnist-small-t10k-labels-idx1-ubyte.xz"
    for file in (name, "MANIFEST.json"):
        shutil.copy(SHIPPED / file, tmp_path)
    content = bytearray((tmp_path / name).read_bytes())
    assert shipped(name, tmp_path).read_bytes() == content
    content[100] ^= 1
    write(tmp_path / name, content)
    with pytest.raises(FileError, match=f"{name}: expected sha256 843ee98.*, got "):
        shipped(name, tmp_path)
    with pytest.raises(FileError, match="expected an entry other"):
        shipped("other.xz", tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(FileError, match=f"{name}: expected"):
        shipped(name, tmp_path)
    for manifest in (b'{"files": [{}]}', b"[]", b"{"):
        write(tmp_path / "MANIFEST.json", manifest)
        with pytest.raises(FileError, match=r"MANIFEST\.json: expected"):
            shipped(name, tmp_path)
