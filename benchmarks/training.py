"""The float models whose accuracy is measured: data, model and schedule of each. Trained models are kept in files."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file, save_file

import tinyml
from tinyml import Trainer, data, models, nn, optim


@dataclass
class Task:
    """A data set and the model that is trained on it; `batches(seed)` is one epoch of training batches."""

    name: str
    model: Callable[[], nn.Module]
    batches: Callable[[int], Iterable]
    tests: Iterable
    epochs: int
    optimizer: Callable[[nn.Module, float], optim.Optimizer]
    lr: float
    schedule: Callable[[optim.Optimizer, float, int], optim.Schedule]
    clip_norm: float | None = None
    calibration: Any = None

    def fit(self, model: nn.Module, epochs: int, lr: float, seed: int) -> None:
        """Train `model` in place."""
        loader = self.batches(seed)
        optimizer = self.optimizer(model, lr)
        schedule = self.schedule(optimizer, lr, epochs * len(loader))
        Trainer(model, optimizer, schedule=schedule, clip_norm=self.clip_norm).fit(loader, epochs)

    def load_or_train(self, seed: int, folder: Path) -> nn.Module:
        """The model of this seed: read from `folder` if it is there, else trained and saved there."""
        path = folder / f"{self.name}-{seed}.safetensors"
        tinyml.manual_seed(seed)
        model = self.model()
        if path.exists():
            model.load_state_dict(load_file(path))
            return model
        print(f"{self.name}, seed {seed}: training {self.epochs} epochs", flush=True)
        self.fit(model, self.epochs, self.lr, seed)
        folder.mkdir(parents=True, exist_ok=True)
        save_file(model.state_dict(), path)
        return model


def _adamw(weight_decay: float, **options: Any) -> Callable[[nn.Module, float], optim.Optimizer]:
    return lambda model, lr: optim.AdamW(model.parameters(), lr, weight_decay=weight_decay, **options)


def images(name: str, train: data.ArrayDataset, test: data.ArrayDataset, model: Callable[[], nn.Module], epochs: int,
           augment: Any) -> Task:
    """An image classifier: AdamW on a one-cycle schedule."""
    def batches(seed: int) -> data.DataLoader:
        return data.DataLoader(train, 64, shuffle=True, drop_last=True, seed=seed, transform=augment)

    return Task(name, model, batches, data.DataLoader(test, 250), epochs, _adamw(0.05), 3e-3, optim.OneCycleLR,
                calibration=[train[range(i, i + 64)] for i in range(0, 512, 64)])


def fashion() -> Task:
    """CifarCNN of width 16 on all of Fashion-MNIST."""
    return images("fashion", data.fashion_mnist("train"), data.fashion_mnist("test"),
                  lambda: models.CifarCNN(in_channels=1, width=16), 7, data.RandomFlip())


def cifar(path: str) -> Task:
    """CifarCNN on a CIFAR-10 file, as examples/train_cnn.py trains it."""
    augment = data.Compose([data.RandomFlip(), data.RandomShift(3, "roll")])
    return images("cifar", data.npz_images(path, "train"), data.npz_images(path, "test"), models.CifarCNN, 20, augment)


def shakespeare(path: str) -> Task:
    """nanoGPT's CPU configuration on a text, as examples/train_tinygpt.py trains it."""
    text = data.read_text(path)
    tokenizer = data.CharTokenizer(text)
    ids = tokenizer.encode(text)
    split = int(0.9 * len(ids))
    windows = data.TextDataset(ids[:split], 64, stride=1)
    tests = data.DataLoader(data.TextDataset(ids[split:], 64), 64)
    return Task("shakespeare", lambda: models.TinyGPT(tokenizer.vocab_size, 64, 4, 4, 128),
                lambda seed: data.RandomBatches(windows, 12, 2000, seed), tests, 1, _adamw(0.1, betas=(0.9, 0.99)), 1e-3,
                lambda optimizer, lr, steps: optim.CosineAnnealingLR(optimizer, steps, lr / 10, steps // 20), 1.0)
