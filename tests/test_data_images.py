"""Files of images, whole and damaged: IDX, Fashion-MNIST, CIFAR-10."""

from __future__ import annotations

import gzip
import lzma
import struct

import numpy as np
import pytest

from tinyml import data
from tinyml.data._files import read_bytes
from tinyml.errors import FileError, ShapeError

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 28, 28), np.uint8)
LABELS = np.arange(20, dtype=np.uint8) % 10
PACK = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress}


def write(path, content):
    path.write_bytes(content)
    return path


# ---- IDX files


def idx(array, code=0x08, sizes=None):
    sizes = array.shape if sizes is None else sizes
    return struct.pack(f">HBB{len(sizes)}I", 0, code, len(sizes), *sizes) + array.tobytes()


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
