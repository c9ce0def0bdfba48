"""A data set by its name or path, as programs take it from their users."""

from __future__ import annotations

from pathlib import Path

from .. import checks
from ..errors import FileError
from .dataset import Dataset, TextDataset
from .images import SPLITS, cifar10, fashion_mnist, fashion_mnist_small, npz_images
from .text import CharTokenizer, bible, read_text

NAMES = {"shipped": fashion_mnist_small, "fashion-mnist": fashion_mnist}


def load_dataset(source: str | Path, split: str = "train", context: int = 64) -> Dataset:
    """The "train" or "test" part of a data set.

    Args:
        source: "shipped" (14,000 Fashion-MNIST images) or "fashion-mnist" (all of it); "bible", the text that is shipped;
            or a path: .npz (images and labels, see npz_images), .txt (text), a folder (CIFAR-10's binary version).
        split: "train" or "test".
        context: the length of a text's windows. Characters are numbered in sorted order; the last tenth is "test".

    Returns:
        The data set.

    Raises:
        FileError: none of these, or what its reader raises; ShapeError: another split.

    Example:
        >>> len(data.load_dataset("shipped", "test"))
        2000
    """
    checks.choice("load_dataset", "split", split, SPLITS)
    context = checks.whole("load_dataset", "context", context, 1)
    name = checks.path("load_dataset", source, "source")
    path = Path(name)
    if name in NAMES:
        return NAMES[name](split)
    if name == "bible" or path.suffix == ".txt":
        text = bible() if name == "bible" else read_text(path)
        ids = CharTokenizer(text).encode(text)
        cut = len(ids) * 9 // 10
        return TextDataset(ids[:cut] if split == "train" else ids[cut:], context)
    if path.is_dir():
        return cifar10(path, split)
    if path.suffix == ".npz":
        return npz_images(path, split)
    raise FileError(f"{name}: expected {', '.join(NAMES)}, bible, a .npz or .txt file or a folder of CIFAR-10, got no "
                    f"{'such file' if not path.exists() else 'file of these kinds'}")
