"""Image data sets read from files: float32 inputs (N, C, H, W), normalised per channel, and int64 targets (N,)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .. import checks
from ..errors import FileError
from ._files import file_errors
from ._shipped import shipped
from .arrays import npz_keys, read_idx, read_npz
from .dataset import ArrayDataset

# Mean and std per channel of pixel / 255 over the training set. Inputs are (pixel / 255 - mean) / std, whatever the
# split, so a model meets the same numbers in training, in a test, and where it is deployed.
FASHION_MNIST_MEAN, FASHION_MNIST_STD = (0.2860,), (0.3530,)
CIFAR10_MEAN, CIFAR10_STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)

FASHION_MNIST_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

SPLITS = ("train", "test")
Channels = Sequence[float] | np.ndarray  # (C,)

_DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
_CIFAR10_RECORD = 1 + 3 * 32 * 32


def fashion_mnist(split: str = "train", root: str | Path | None = None) -> ArrayDataset:
    """Fashion-MNIST: 60,000 "train" or 10,000 "test" images (N, 1, 28, 28) of 10 kinds of clothing.

    Source: Xiao, Rasul, Vollgraf, "Fashion-MNIST", 2017, arXiv:1708.07747. Reads
    {train,t10k}-{images-idx3,labels-idx1}-ubyte, plain or .gz, from the first that has them of: `root`, $TINYML_DATA,
    $TINYML_DATA/fashion-mnist, and the place of the Debian package dataset-fashion-mnist.

    Args:
        split: "train" or "test".
        root: a folder.

    Returns:
        The data set, its images normalised by FASHION_MNIST_MEAN and FASHION_MNIST_STD.

    Raises:
        FileError: no place has the files, or they are damaged; ShapeError: another split.

    Example:
        >>> train = data.fashion_mnist("train", root="/data/fashion-mnist")  # doctest: +SKIP
    """
    part = "train" if checks.choice("fashion_mnist", "split", split, SPLITS) == "train" else "t10k"
    places = [] if root is None else [Path(checks.path("fashion_mnist", root, "root"))]
    if os.environ.get("TINYML_DATA"):
        shared = Path(os.environ["TINYML_DATA"])
        places += [shared, shared / "fashion-mnist"]
    places.append(_DEBIAN_FASHION_MNIST)
    for place in places:
        images, labels = (_plain_or_gz(place / f"{part}-{kind}-ubyte") for kind in ("images-idx3", "labels-idx1"))
        if images and labels:
            return _fashion_mnist(images, labels)
    raise FileError(f"fashion_mnist: expected {part}-images-idx3-ubyte[.gz] and {part}-labels-idx1-ubyte[.gz] in one of"
                    f" {', '.join(map(str, places))}; got none. The Debian package dataset-fashion-mnist has them")


def fashion_mnist_small(split: str = "train") -> ArrayDataset:
    """The part of Fashion-MNIST that is shipped: 12,000 "train" or 2,000 "test" images (N, 1, 28, 28), balanced.

    Args:
        split: "train" or "test".

    Returns:
        The data set, its images normalised by FASHION_MNIST_MEAN and FASHION_MNIST_STD.

    Raises:
        FileError: the files are not those that were shipped; ShapeError: another split.

    Example:
        >>> images, labels = data.fashion_mnist_small("test")[[0, 1, 2]]
        >>> images.shape, labels.shape
        ((3, 1, 28, 28), (3,))
    """
    part = "train" if checks.choice("fashion_mnist_small", "split", split, SPLITS) == "train" else "t10k"
    name = f"fashion-mnist-small-{part}"
    return _fashion_mnist(shipped(f"{name}-images-idx3-ubyte.xz"), shipped(f"{name}-labels-idx1-ubyte.xz"))


def cifar10(root: str | Path, split: str = "train") -> ArrayDataset:
    """CIFAR-10: images (N, 3, 32, 32) of the binary version; "train" is data_batch_1..5.bin, "test" is test_batch.bin.

    A record is a label byte and 3,072 pixels, channel by channel. Source: Krizhevsky, "Learning Multiple Layers of
    Features from Tiny Images", 2009.

    Args:
        root: the folder of the files, or the one that has cifar-10-batches-bin.
        split: "train" or "test".

    Returns:
        The data set, its images normalised by CIFAR10_MEAN and CIFAR10_STD.

    Raises:
        FileError: files are missing or damaged; ShapeError: another split.

    Example:
        >>> train = data.cifar10("/data/cifar10", "train")  # doctest: +SKIP
    """
    checks.choice("cifar10", "split", split, SPLITS)
    root = Path(checks.path("cifar10", root, "root"))
    names = [f"data_batch_{i}.bin" for i in range(1, 6)] if split == "train" else ["test_batch.bin"]
    places = [root, root / "cifar-10-batches-bin"]
    place = next((place for place in places if all((place / name).is_file() for name in names)), None)
    if place is None:
        raise FileError(f"cifar10: expected {', '.join(names)} in {places[0]} or {places[1]}; got none or not all")
    records = np.concatenate([_cifar10_records(place / name) for name in names])
    images = records[:, 1:].reshape(-1, 3, 32, 32)
    inputs = _normalised(images, CIFAR10_MEAN, CIFAR10_STD)
    return ArrayDataset(inputs, records[:, 0].astype(np.int64), list(CIFAR10_CLASSES))


def npz_images(path: str | Path, split: str = "train") -> ArrayDataset:
    """Images and labels of an .npz archive with keys x_train, y_train, x_test, y_test.

    A file with one split may name them x, y or images, labels; that split is "train". Images are uint8 (N, H, W),
    (N, C, H, W) or (N, H, W, C) with C of 1 or 3; labels are integers (N,) from 0.

    Args:
        path: the file.
        split: "train" or "test".

    Returns:
        The data set, its images (N, C, H, W) normalised by mean and standard deviation per channel: those of x_train where
        the file has it, else of the images themselves.

    Raises:
        FileError: the file is missing, damaged, or holds other keys or arrays; ShapeError: another split.

    Example:
        >>> np.savez("images.npz", x=np.zeros((5, 8, 8), np.uint8), y=np.arange(5))
        >>> data.npz_images("images.npz")[[0, 1]][0].shape
        (2, 1, 8, 8)
    """
    wanted = [(f"x_{checks.choice('npz_images', 'split', split, SPLITS)}", f"y_{split}")]
    keys = npz_keys(path)
    if split == "train":
        wanted += [("x", "y"), ("images", "labels")]
    pair = next((pair for pair in wanted if set(pair) <= set(keys)), None)
    if pair is None:
        raise FileError(f"{path}: expected the keys {' or '.join(map(' and '.join, wanted))}, got {keys}")
    images, labels = read_npz(path, list(pair))
    images = _channels_first(images, f"{path}[{pair[0]}]")
    if labels.dtype.kind not in "iu" or labels.shape != (len(images),) or labels.min() < 0:
        raise FileError(f"{path}[{pair[1]}]: expected {len(images)} integer labels from 0,"
                        f" got {labels.dtype} {labels.shape} from {labels.min()}")
    reference = images
    if split == "test" and "x_train" in keys:
        reference = _channels_first(read_npz(path, ["x_train"])[0], f"{path}[x_train]")
        if reference.shape[1] != images.shape[1]:
            raise FileError(f"{path}: expected x_train and x_test of as many channels, got {reference.shape} and "
                            f"{images.shape}")
    return ArrayDataset(_normalised(images, *_statistics(reference)), labels.astype(np.int64))


def _plain_or_gz(path: Path) -> Path | None:
    return next((p for p in (path, path.with_name(path.name + ".gz")) if p.is_file()), None)


def _fashion_mnist(images_path: Path, labels_path: Path) -> ArrayDataset:
    images, labels = read_idx(images_path), read_idx(labels_path)
    if images.dtype != np.uint8 or images.shape[1:] != (28, 28):
        raise FileError(f"{images_path}: expected uint8 images (N, 28, 28), got {images.dtype} {images.shape}")
    if labels.dtype != np.uint8 or labels.shape != (len(images),):
        raise FileError(f"{labels_path}: expected {len(images)} uint8 labels, got {labels.dtype} {labels.shape}")
    _check_labels(labels, labels_path)
    inputs = _normalised(images[:, None], FASHION_MNIST_MEAN, FASHION_MNIST_STD)
    return ArrayDataset(inputs, labels.astype(np.int64), list(FASHION_MNIST_CLASSES))


def _cifar10_records(path: Path) -> np.ndarray:
    with file_errors(path, "a CIFAR-10 binary file"):
        data = np.frombuffer(path.read_bytes(), np.uint8)
    if len(data) == 0 or len(data) % _CIFAR10_RECORD:
        raise FileError(f"{path}: expected whole records of {_CIFAR10_RECORD} bytes, got {len(data)} bytes:"
                        f" {len(data) // _CIFAR10_RECORD} records and {len(data) % _CIFAR10_RECORD} bytes")
    records = data.reshape(-1, _CIFAR10_RECORD)
    _check_labels(records[:, 0], path)
    return records


def _check_labels(labels: np.ndarray, path: Path) -> None:
    if labels.max() > 9:
        at = int(np.argmax(labels > 9))
        raise FileError(f"{path}: expected labels in 0..9, got {labels[at]} at item {at}")


def _channels_first(images: np.ndarray, name: str) -> np.ndarray:
    if images.dtype != np.uint8 or images.ndim not in (3, 4):
        raise FileError(f"{name}: expected uint8 images (N, H, W), (N, C, H, W) or (N, H, W, C), got {images.dtype} "
                        f"{images.shape}")
    if images.ndim == 3:
        return images[:, None]
    if images.shape[3] in (1, 3) and images.shape[1] not in (1, 3):
        return images.transpose(0, 3, 1, 2)
    return images


def _statistics(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and std of pixel / 255 per channel (C,), float64, from counts of the 256 values: exact, in little memory."""
    values = np.arange(256) / 255
    counts = np.stack([np.bincount(images[:, c].ravel(), minlength=256) for c in range(images.shape[1])])
    shares = counts / counts.sum(axis=1, keepdims=True)  # (C, 256)
    mean = shares @ values
    std = np.sqrt((shares * (values - mean[:, None]) ** 2).sum(axis=1))
    # A channel of one value has no spread to divide by; it becomes 0.
    return mean, np.where(std > 1e-6, std, 1.0)


def _normalised(images: np.ndarray, mean: Channels, std: Channels) -> np.ndarray:
    """uint8 (N, C, H, W) to contiguous float32 (pixel / 255 - mean) / std."""
    inputs = images.astype(np.float32, order="C")
    inputs /= 255
    inputs -= np.asarray(mean, np.float32)[:, None, None]
    inputs /= np.asarray(std, np.float32)[:, None, None]
    return inputs
