"""Networks that are hard to quantize. They are made from ordinary ones, and compute the same in floats."""

from __future__ import annotations

import argparse

import numpy as np

import tinyml
from tinyml import data, models, nn, optim

NORM, DEPTHWISE = 13, 15        # the positions in DepthwiseCNN of a batch norm and of the depthwise convolution after it


def images(split: str, n: int) -> data.ArrayDataset:
    """The first n shipped images, reduced to 14 x 14 pixels."""
    x, y = data.fashion_mnist_small(split)[range(n)]
    return data.ArrayDataset(np.ascontiguousarray(x[:, :, ::2, ::2]), y)


def fit(model: nn.Module, loader: data.DataLoader, epochs: int, lr: float) -> None:
    """Train with AdamW on a one-cycle schedule."""
    optimizer = optim.AdamW(model.parameters(), lr, weight_decay=0.05)
    schedule = optim.OneCycleLR(optimizer, lr, epochs * len(loader))
    tinyml.Trainer(model, optimizer, schedule=schedule, progress=False).fit(loader, epochs)


def train(model: nn.Module, epochs: int = 3) -> nn.Module:
    """Train a network of one input channel and ten classes for a few epochs on 6,000 small images, and return it."""
    fit(model, data.DataLoader(images("train", 6000), 64, shuffle=True, drop_last=True, seed=0), epochs, 4e-3)
    return model.eval()


def calibration() -> list:
    """512 training images in batches of 64."""
    train = images("train", 512)
    return [train[range(i, i + 64)] for i in range(0, 512, 64)]


def scale_apart(model: models.DepthwiseCNN, times: float = 100) -> nn.Module:
    """A copy in which one channel of a depthwise convolution has much larger weights than the others.

    It is the channel whose weights are the largest already. They are multiplied by `times`, and the batch norm before them
    divides the input of the channel by it, so that float outputs stay as they are.
    """
    scaled = model.copy()
    conv, before, after = scaled[DEPTHWISE], scaled[NORM], scaled[DEPTHWISE + 1]
    gain = after.weight.array / np.sqrt(after.running_var.array + after.eps)
    c = int((np.abs(conv.weight.array).max(axis=(1, 2, 3)) * np.abs(gain)).argmax())
    before.weight.array[c] /= times
    before.bias.array[c] /= times
    conv.weight.array[c] *= times
    return scaled


def text() -> tuple[np.ndarray, int]:
    """The shipped text as ids, and the size of the vocabulary."""
    whole = data.bible()
    tokenizer = data.CharTokenizer(whole)
    return tokenizer.encode(whole), tokenizer.vocab_size


def windows() -> tuple[list, list]:
    """256 windows of ids for calibration, and 512 windows with targets, from the last tenth of the text, for tests."""
    ids, _ = text()
    split = len(ids) * 9 // 10
    train, tests = (data.TextDataset(part, 64) for part in (ids[:split], ids[split:]))
    return [train[range(i, i + 16)][0] for i in range(0, 256, 16)], [tests[range(i, i + 64)] for i in range(0, 512, 64)]


def train_gpt(steps: int = 300) -> models.TinyGPT:
    """A TinyGPT with two layers of width 64, trained for a few steps on the shipped text."""
    ids, size = text()
    model = models.TinyGPT(size, 64, 2, 4, 64)
    optimizer = optim.AdamW(model.parameters(), 4e-3, betas=(0.9, 0.99), weight_decay=0.1)
    schedule = optim.CosineAnnealingLR(optimizer, steps, 4e-4, warmup_steps=steps // 10)
    batches = data.RandomBatches(data.TextDataset(ids[: len(ids) * 9 // 10], 64, 1), 16, steps, 0)
    tinyml.Trainer(model, optimizer, schedule=schedule, clip_norm=1.0, progress=False).fit(batches, 1)
    return model.eval()


def plant_outliers(model: models.TinyGPT, times: float = 60) -> nn.Module:
    """A copy in which two channels after each norm are outliers, as they occur in large language models.

    The norm multiplies them by `times`, and the weights that read them are divided by it. Float outputs stay as they are.
    """
    planted, rng = model.copy(), np.random.default_rng(0)
    for block in planted.blocks:
        for norm, reader in ((block.norm1, block.attention.qkv), (block.norm2, block.up)):
            at = rng.choice(len(norm.weight.array), 2, replace=False)
            norm.weight.array[at] *= times
            norm.bias.array[at] *= times
            reader.weight.array[:, at] /= times
    return planted


def main() -> None:
    """Write the hard net to a file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hard_nets", description=main.__doc__)
    parser.add_argument("out", metavar="OUT")
    out = parser.parse_args().out
    tinyml.manual_seed(0)
    scale_apart(train(models.DepthwiseCNN(in_channels=1, width=8))).save(out)


if __name__ == "__main__":
    main()
