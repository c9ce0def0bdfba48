"""Networks that are hard to quantize, made from sound ones without changing what they compute in floats."""

from __future__ import annotations

import argparse

import numpy as np

import tinyml
from tinyml import data, models, nn, optim

NORM, DEPTHWISE = 13, 15        # positions in DepthwiseCNN of a batch norm, and of the depthwise convolution that reads it


def images(split: str, n: int) -> data.ArrayDataset:
    """n of the shipped images, of 14 x 14."""
    x, y = data.fashion_mnist_small(split)[range(n)]
    return data.ArrayDataset(np.ascontiguousarray(x[:, :, ::2, ::2]), y)


def fit(model: nn.Module, loader: data.DataLoader, epochs: int, lr: float) -> None:
    """Train with AdamW on one cycle."""
    optimizer = optim.AdamW(model.parameters(), lr, weight_decay=0.05)
    schedule = optim.OneCycleLR(optimizer, lr, epochs * len(loader))
    tinyml.Trainer(model, optimizer, schedule=schedule, progress=False).fit(loader, epochs)


def trained(model: nn.Module, epochs: int = 3) -> nn.Module:
    """A network of one channel and ten classes, trained for a moment on 6,000 small images."""
    fit(model, data.DataLoader(images("train", 6000), 64, shuffle=True, drop_last=True, seed=0), epochs, 4e-3)
    return model.eval()


def calibration() -> list:
    """512 images in batches of 64."""
    train = images("train", 512)
    return [train[range(i, i + 64)] for i in range(0, 512, 64)]


def scaled_apart(model: models.DepthwiseCNN, times: float = 100) -> nn.Module:
    """The channel of one depthwise convolution with the largest weights is scaled up, and its input, by the batch norm
    before it, down: float outputs stay as they are."""
    scaled = model.copy()
    conv, before, after = scaled[DEPTHWISE], scaled[NORM], scaled[DEPTHWISE + 1]
    gain = after.weight.data / np.sqrt(after.running_var.data + after.eps)
    c = int((np.abs(conv.weight.data).max(axis=(1, 2, 3)) * np.abs(gain)).argmax())
    before.weight.data[c] /= times
    before.bias.data[c] /= times
    conv.weight.data[c] *= times
    return scaled


def text() -> tuple[np.ndarray, int]:
    """The shipped text as ids, and the vocabulary's size; the last tenth is for tests."""
    whole = data.bible()
    tokenizer = data.CharTokenizer(whole)
    return tokenizer.encode(whole), tokenizer.vocab_size


def windows() -> tuple[list, list]:
    """256 windows of ids for calibration, 512 with their targets for tests."""
    ids, _ = text()
    split = len(ids) * 9 // 10
    train, tests = (data.TextDataset(part, 64) for part in (ids[:split], ids[split:]))
    return [train[range(i, i + 16)][0] for i in range(0, 256, 16)], [tests[range(i, i + 64)] for i in range(0, 512, 64)]


def trained_gpt(steps: int = 300) -> models.TinyGPT:
    """A TinyGPT of two layers of 64, trained for a moment on the shipped text."""
    ids, size = text()
    model = models.TinyGPT(size, 64, 2, 4, 64)
    optimizer = optim.AdamW(model.parameters(), 4e-3, betas=(0.9, 0.99), weight_decay=0.1)
    schedule = optim.CosineAnnealingLR(optimizer, steps, 4e-4, warmup_steps=steps // 10)
    batches = data.RandomBatches(data.TextDataset(ids[: len(ids) * 9 // 10], 64, 1), 16, steps, 0)
    tinyml.Trainer(model, optimizer, schedule=schedule, clip_norm=1.0, progress=False).fit(batches, 1)
    return model.eval()


def with_outliers(model: models.TinyGPT, times: float = 60) -> nn.Module:
    """Two channels of what each norm hands on are scaled up, the weights that read them down: outlier activations, as large
    language models grow them; float outputs stay as they are."""
    planted, rng = model.copy(), np.random.default_rng(0)
    for block in planted.blocks:
        for norm, reader in ((block.norm1, block.attention.qkv), (block.norm2, block.up)):
            at = rng.choice(len(norm.weight.data), 2, replace=False)
            norm.weight.data[at] *= times
            norm.bias.data[at] *= times
            reader.weight.data[:, at] /= times
    return planted


def main() -> None:
    """Write the hard net to a file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hard_nets", description=main.__doc__)
    parser.add_argument("out", metavar="OUT")
    out = parser.parse_args().out
    tinyml.manual_seed(0)
    scaled_apart(trained(models.DepthwiseCNN(in_channels=1, width=8))).save(out)


if __name__ == "__main__":
    main()
