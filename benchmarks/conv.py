"""Single convolutions in float32 and in int8, from codes to codes: the layers of CifarCNN, and other windows."""

from __future__ import annotations

from tinyml._kernels.products.windows import Window

from . import ours
from .layers import make
from .timing import Row, Run


def square(size: int, stride: int = 1, groups: int = 1) -> Window:
    """A square window, padded so that the output has the size of the image divided by the stride."""
    return Window((size, size), (stride, stride), (size // 2, size // 2), groups=groups)


# name: images, input channels, height and width, output channels, window
SHAPES = {
    "3x3, 3 to 32, 32x32": (64, 3, 32, 32, square(3)),
    "3x3, 32 to 32, 32x32": (64, 32, 32, 32, square(3)),
    "3x3, 32 to 64, 16x16": (64, 32, 16, 64, square(3)),
    "3x3, 64 to 64, 16x16": (64, 64, 16, 64, square(3)),
    "3x3, 64 to 128, 8x8": (64, 64, 8, 128, square(3)),
    "3x3, 128 to 128, 8x8": (64, 128, 8, 128, square(3)),
    "1x1, 64 to 256, 16x16": (64, 64, 16, 256, square(1)),
    "5x5, 32 to 64, 16x16": (64, 32, 16, 64, square(5)),
    "7x7 stride 2, 3 to 64, 64x64": (16, 3, 64, 64, square(7, 2)),
    "3x3 stride 2, 64 to 128, 16x16": (64, 64, 16, 128, square(3, 2)),
    "3x3 depthwise, 128, 16x16": (64, 128, 16, 128, square(3, groups=128)),
    "3x3 depthwise stride 2, 128, 16x16": (64, 128, 16, 128, square(3, 2, groups=128)),
}


def rows(run: Run) -> list[Row]:
    """Two rows per shape: float32 and int8."""
    found = []
    for name, (images, channels, size, out, window) in SHAPES.items():
        layer = make((images, channels, size, size), (out, channels // window.groups, *window.size), window)
        name = f"{name}, batch {images}"
        prepared = {"tinyml": ours.layer_f32(layer)}
        for peer in run.peers:
            prepared |= peer.conv_f32(layer)
        found.append(run.row(name, "float32", prepared, layer.y, layer.operations, layer.nbytes(4, 4), "fma"))
        prepared = {"tinyml": ours.layer_int8(layer)}
        for peer in run.peers:
            prepared |= peer.conv_int8(layer)
        found.append(run.row(name, "int8", prepared, layer.y, layer.operations, layer.nbytes(1, 1), "dot4"))
    return found
