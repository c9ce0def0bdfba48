"""Models in training or evaluation mode for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .module import Module


@contextmanager
def mode(*models: Module, training: bool) -> Iterator[None]:
    """Whole models in training or evaluation mode, and every layer back in its own at the end."""
    before = [(m, m.training) for model in models for m in model.modules()]
    for model in models:
        model.train(training)
    try:
        yield
    finally:
        for m, was in before:
            m.training = was
