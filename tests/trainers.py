"""Trainers of small models, data for them, loaders and metrics that do as they are told, and what files hold."""

from __future__ import annotations

import numpy as np
from safetensors.numpy import load_file

from tinyml import nn, optim
from tinyml.data import ArrayDataset
from tinyml.models import MLP
from tinyml.trainer import Trainer


def separable(n=60, classes=3, seed=0):
    """Points around one corner per class."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, classes, n)
    return ArrayDataset((np.eye(classes)[targets] * 3 + rng.standard_normal((n, classes))).astype(np.float32), targets)


def trainer(model=None, lr=0.1, kind=optim.SGD, schedule=None, **options):
    model = model or MLP(3, 8, 3)
    optimizer = kind(model.parameters(), lr)
    options["schedule"] = schedule(optimizer) if schedule else None
    return Trainer(model, optimizer, **{"progress": False} | options)


def batches(data, size=16):
    """The same batches at every pass, in a plain list."""
    return [data.batch(np.arange(i, min(i + size, len(data)))) for i in range(0, len(data), size)]


class Raising:
    """A loader that raises after some batches."""

    def __init__(self, loader, after, error):
        self.loader, self.after, self.error = loader, after, error

    def __iter__(self):
        for i, batch in enumerate(self.loader):
            if i == self.after:
                raise self.error
            yield batch


class Scripted:
    """A metric with given values; keeps the model's weights of every call."""

    def __init__(self, model, scores):
        self.model, self.scores, self.seen = model, iter(scores), []

    def __call__(self, outputs, targets):
        assert isinstance(outputs, np.ndarray) and len(outputs) == len(targets)
        self.seen.append(weights(self.model))
        return next(self.scores)


class NormedAndTied(nn.Module):
    """Buffers, and tied parameters, in a small model of vectors."""

    def __init__(self):
        self.first, self.norm, self.second = nn.Linear(3, 3), nn.BatchNorm2d(3), nn.Linear(3, 3)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(self.norm(self.first(x).reshape(-1, 3, 1, 1)).reshape(-1, 3))


def weights(model):
    return {name: array.tobytes() for name, array in model.state_dict().items()}


def stored(path):
    return {name: array.tobytes() for name, array in load_file(path).items()}


def checkpointed(folder):
    arrays = load_file(folder / "checkpoint.safetensors")
    return {name.removeprefix("model."): a.tobytes() for name, a in arrays.items() if name.startswith("model.")}
