"""Models in training or evaluation mode for a while, in this thread."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..state import state
from .module import Module


@contextmanager
def mode(*models: Module, training: bool) -> Iterator[None]:
    """Whole models run in training or evaluation mode within it, in this thread only: nothing in a model is changed.

    train(), eval() and assignments to `training` within it hold from there on, here too.

    Args:
        models: the Modules.
        training: whether they are in training mode.

    Example:
        >>> layer = nn.Dropout(0.5)
        >>> with mode(layer, training=False):
        ...     layer.training
        False
    """
    before = state.modes
    state.modes = {**(before or {}), **{id(m): training for model in models for m in model.modules()}}
    try:
        yield
    finally:
        state.modes = before
