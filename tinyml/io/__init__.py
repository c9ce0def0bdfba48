"""Files: models in and out."""

from .files import load, save, serialize

__all__ = ["load", "save", "serialize"]
