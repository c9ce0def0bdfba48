"""The errors tinyml raises: each says what was expected and what came.

They sit below every other module, so that a kernel, an op and the trainer can raise the same kinds.
"""

from __future__ import annotations


class TinymlError(Exception):
    """Base of all errors; collects the path of the layers it passed through on its way out."""

    def __init__(self, message: str):
        super().__init__(message)
        self.message = message
        self.layers: list[str] = []

    def passing(self, layer: str) -> None:
        """Note that the error left a layer; a Module calls it, the innermost first.

        Args:
            layer: its name.
        """
        self.layers.insert(0, layer)

    def __str__(self) -> str:
        return self.message + (f" (in layer {'.'.join(self.layers)})" if self.layers else "")


class ShapeError(TinymlError, ValueError):
    """Shapes, sizes or values of arguments do not fit together."""


class OutOfMemoryError(ShapeError, MemoryError):
    """An array of this shape would not fit in this machine's memory."""


class OutOfRangeError(TinymlError, IndexError):
    """An index beyond the end, which also ends a `for` over what has no iterator of its own."""


class DtypeError(TinymlError, TypeError):
    """The dtype of an argument is not one the operation takes."""


class GradError(TinymlError, RuntimeError):
    """A gradient was asked for where there is none."""


class TraceError(TinymlError, RuntimeError):
    """A forward cannot be recorded as a program."""


class QuantizationError(TinymlError, ValueError):
    """Numbers that cannot be represented: non-finite ranges, scales out of range, sums past int32."""


class FileError(TinymlError, ValueError):
    """A file is missing, damaged, or not what it claims to be."""


class NonFiniteError(TinymlError, ArithmeticError):
    """A NaN or an infinity turned up where training cannot go on."""


def install_hint(extra: str) -> str:
    """How to install what an extra of pyproject.toml brings.

    On PyPI the name tinyml belongs to another project, so that the checkout is what there is to install from.

    Args:
        extra: its name, such as "text".

    Returns:
        Words that end a message.

    Example:
        >>> tinyml.errors.install_hint("text")
        "pip install '.[text]' in tinyml's checkout installs it"
    """
    return f"pip install '.[{extra}]' in tinyml's checkout installs it"
