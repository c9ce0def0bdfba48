"""Data sets, batches of them, and readers for the files they come in."""

from tinyml.data.arrays import read_idx
from tinyml.data.dataset import ArrayDataset, Dataset, TextDataset
from tinyml.data.images import (
    CIFAR10_CLASSES,
    CIFAR10_MEAN,
    CIFAR10_STD,
    FASHION_MNIST_CLASSES,
    FASHION_MNIST_MEAN,
    FASHION_MNIST_STD,
    cifar10,
    fashion_mnist,
    fashion_mnist_small,
    npz_images,
)
from tinyml.data.loader import DataLoader, RandomBatches
from tinyml.data.named import load_dataset
from tinyml.data.text import CharTokenizer, bible, read_text
from tinyml.data.tokens import TokenFile, write_tokens
from tinyml.data.transforms import Compose, Normalize, RandomCrop, RandomFlip, RandomShift

__all__ = [
    "CIFAR10_CLASSES",
    "CIFAR10_MEAN",
    "CIFAR10_STD",
    "FASHION_MNIST_CLASSES",
    "FASHION_MNIST_MEAN",
    "FASHION_MNIST_STD",
    "ArrayDataset",
    "CharTokenizer",
    "Compose",
    "DataLoader",
    "Dataset",
    "Normalize",
    "RandomBatches",
    "RandomCrop",
    "RandomFlip",
    "RandomShift",
    "TextDataset",
    "TokenFile",
    "bible",
    "cifar10",
    "fashion_mnist",
    "fashion_mnist_small",
    "load_dataset",
    "npz_images",
    "read_idx",
    "read_text",
    "write_tokens",
]
