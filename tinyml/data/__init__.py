"""Data sets, batches of them, and readers for the files they come in."""

from .arrays import read_idx
from .dataset import ArrayDataset, Dataset, TextDataset
from .images import (
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
from .loader import DataLoader, RandomBatches
from .named import load_dataset
from .text import CharTokenizer, bible, read_text
from .tokens import TokenFile, write_tokens
from .transforms import Compose, Normalize, RandomCrop, RandomFlip, RandomShift

__all__ = ["CIFAR10_CLASSES", "CIFAR10_MEAN", "CIFAR10_STD", "FASHION_MNIST_CLASSES", "FASHION_MNIST_MEAN",
           "FASHION_MNIST_STD", "ArrayDataset", "CharTokenizer", "Compose", "DataLoader", "Dataset", "Normalize",
           "RandomBatches", "RandomCrop", "RandomFlip", "RandomShift", "TextDataset", "TokenFile", "bible", "cifar10",
           "fashion_mnist", "fashion_mnist_small", "load_dataset", "npz_images", "read_idx", "read_text", "write_tokens"]
