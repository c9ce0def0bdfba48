"""Pooling over the windows of images."""

from __future__ import annotations

from typing import Any

from ... import checks, ops
from ...arguments import renamed
from ...tensors import Tensor, TensorLike, apply
from .products import Pair


@renamed(size="kernel_size")
def max_pool2d(input: TensorLike, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0) -> Tensor:
    """Largest element of each window.

    Args:
        input: (B, C, H, W).
        kernel_size: (rows, columns) of a window, or one number for both.
        stride: pixels from one window to the next; None: the window's size.
        padding: rows and columns on each side, which are never the largest.

    Returns:
        A Tensor (B, C, OH, OW), OH = floor((H + 2 padding - rows) / stride) + 1.

    Raises:
        ShapeError: shapes or numbers that do not fit.

    Example:
        >>> F.max_pool2d(np.arange(16.0).reshape(1, 1, 4, 4), 2).numpy().ravel().tolist()
        [5.0, 7.0, 13.0, 15.0]
    """
    return apply(ops.pooling.MaxPool2d, input, **_pool("max_pool2d", kernel_size, stride, padding))


@renamed(size="kernel_size")
def avg_pool2d(input: TensorLike, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0) -> Tensor:
    """Mean of each window; padding counts as zeros.

    Args:
        input: (B, C, H, W).
        kernel_size: (rows, columns) of a window, or one number for both.
        stride: pixels from one window to the next; None: the window's size.
        padding: rows and columns of zeros on each side.

    Returns:
        A Tensor (B, C, OH, OW), OH = floor((H + 2 padding - rows) / stride) + 1.

    Raises:
        ShapeError: shapes or numbers that do not fit.

    Example:
        >>> F.avg_pool2d(np.arange(16.0).reshape(1, 1, 4, 4), 2).numpy().ravel().tolist()
        [2.5, 4.5, 10.5, 12.5]
    """
    return apply(ops.pooling.AvgPool2d, input, **_pool("avg_pool2d", kernel_size, stride, padding))


def _pool(name: str, size: Pair, stride: Pair | None, padding: Pair) -> dict[str, Any]:
    two = checks.pair(name, "kernel_size", size)
    return {"size": two, "stride": two if stride is None else checks.pair(name, "stride", stride),
            "padding": checks.pair(name, "padding", padding, 0)}


@renamed(outputs="output_size")
def adaptive_avg_pool2d(input: TensorLike, output_size: Pair) -> Tensor:
    """Mean of each of output_size[0] x output_size[1] windows, which cover the image.

    Args:
        input: (B, C, H, W).
        output_size: how many windows there are, as (rows, columns) or one number for both.

    Returns:
        A Tensor (B, C, output_size[0], output_size[1]).

    Raises:
        ShapeError: shapes or numbers that do not fit.

    Example:
        >>> F.adaptive_avg_pool2d(np.arange(16.0).reshape(1, 1, 4, 4), 1).item()
        7.5
    """
    return apply(ops.pooling.AdaptiveAvgPool2d, input,
                 outputs=checks.pair("adaptive_avg_pool2d", "output_size", output_size))
