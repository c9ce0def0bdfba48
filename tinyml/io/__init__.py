"""Files: models are saved to them and loaded from them."""

from .files import load, save, serialize

__all__ = ["load", "save", "serialize"]
