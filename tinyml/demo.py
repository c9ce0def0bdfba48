"""The demo: train on data that ships with tinyml, quantize, and show what that costs and gains."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from . import data, optim
from ._kernels.dispatch import config
from .models import CifarCNN, TinyGPT
from .precision import compare
from .random import manual_seed
from .trainer import Trainer

CNN = {"seed": 0, "batch": 64, "epochs": 5, "width": 16, "lr": 4e-3, "calibration": 512}
GPT = {"seed": 0, "batch": 12, "steps": 1000, "layers": 4, "heads": 4, "dim": 128, "context": 64, "lr": 2e-3}


def say_setup(what: str, settings: dict[str, Any]) -> None:
    """Print a line on the settings and a line on the machine."""
    c = config()
    print(f"{what}: " + ", ".join(f"{k} {v}" for k, v in settings.items()))
    print(f"kernels: {c['isa']} on {c['threads']} threads\n")


def cnn(settings: dict[str, Any] = CNN) -> dict[str, Any]:
    """Train CifarCNN on Fashion-MNIST (12,000 images), quantize it statically, and compare on 2,000 test images.

    Args:
        settings: All keys of CNN.

    Returns:
        The settings, the seconds of training and the figures of the comparison, for JSON.
    """
    s = settings
    say_setup("CNN on the shipped Fashion-MNIST images", s)
    manual_seed(s["seed"])
    train, test = data.fashion_mnist_small("train"), data.fashion_mnist_small("test")
    loader = data.DataLoader(train, s["batch"], shuffle=True, drop_last=True, seed=s["seed"], transform=data.RandomFlip())
    tests = data.DataLoader(test, 100)
    model = CifarCNN(in_channels=1, classes=10, width=s["width"])
    optimizer = optim.AdamW(model.parameters(), lr=s["lr"], weight_decay=0.05)
    schedule = optim.OneCycleLR(optimizer, s["lr"], s["epochs"] * len(loader))
    start = time.perf_counter()
    Trainer(model, optimizer, schedule=schedule).fit(loader, s["epochs"], validation=tests)
    seconds = time.perf_counter() - start
    int8 = model.to_int8(calibration=[train[range(s["calibration"])]])
    print(f"\ntrained in {seconds:.0f} s; to_int8(calibration={s['calibration']} training images):\n")
    result = compare(model, int8, tests)
    return {"model": "cnn", "settings": s, "train_seconds": seconds, **result.as_dict()}


def gpt(settings: dict[str, Any] = GPT) -> dict[str, Any]:
    """Train a TinyGPT on the characters of the King James Bible (Genesis to Ruth), store its weights as int8, compare on
    the last tenth, and write a sample.

    Args:
        settings: All keys of GPT.

    Returns:
        The settings, the seconds of training, the sample and the figures of the comparison, for JSON.
    """
    s = settings
    say_setup("TinyGPT on the shipped text", s)
    manual_seed(s["seed"])
    text = data.bible()
    tokenizer = data.CharTokenizer(text)
    ids = tokenizer.encode(text)
    split = len(ids) * 9 // 10
    model = TinyGPT(tokenizer.vocab_size, s["context"], s["layers"], s["heads"], s["dim"])
    optimizer = optim.AdamW(model.parameters(), lr=s["lr"], betas=(0.9, 0.99), weight_decay=0.1)
    schedule = optim.CosineAnnealingLR(optimizer, s["steps"], s["lr"] / 10, warmup_steps=s["steps"] // 10)
    batches = data.RandomBatches(data.TextDataset(ids[:split], s["context"], 1), s["batch"], s["steps"], s["seed"])
    tests = data.DataLoader(data.TextDataset(ids[split:], s["context"]), 64)
    start = time.perf_counter()
    Trainer(model, optimizer, schedule=schedule, clip_norm=1.0).fit(batches, 1, validation=tests)
    seconds = time.perf_counter() - start
    int8 = model.to_int8()
    print(f"\ntrained in {seconds:.0f} s; to_int8():\n")
    result = compare(model, int8, tests)
    prompt = "And God said"
    continued = int8.generate(tokenizer.encode(prompt), 200, temperature=0.8, top_k=20, seed=s["seed"])
    written = tokenizer.decode(np.asarray(continued))
    print(f"\nthe int8 model writes:\n{written}")
    return {"model": "gpt", "settings": s, "train_seconds": seconds, "sample": written, **result.as_dict()}

