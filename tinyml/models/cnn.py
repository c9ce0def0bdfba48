"""Convolutional networks for small images."""

from __future__ import annotations

from .. import checks, nn
from ..errors import ShapeError
from ..nn import functional as F
from ..tensors import Tensor


def _conv(i: int, o: int, size: int = 3, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """A convolution that keeps the size of the image but for its stride, batch norm, ReLU."""
    return [nn.Conv2d(i, o, size, stride, size // 2, groups=groups, bias=False), nn.BatchNorm2d(o), nn.ReLU()]


class CifarCNN(nn.Sequential):
    """VGG-like: 3x3 conv + batch norm + ReLU, twice each at width, 2 width, 4 width, pooled between; mean pool, linear.

    77 MFLOP per 3x32x32 image at width 32. Logits (B, classes) from images (B, in_channels, H, W), H and W at least 4.

    Args:
        in_channels: channels of the images.
        classes: how many there are.
        width: channels behind the first convolution.

    Raises:
        ShapeError, DtypeError: a size below 1, or that is no whole number.

    Example:
        >>> models.CifarCNN(width=8)(np.zeros((2, 3, 32, 32), np.float32)).shape
        (2, 10)
    """

    def __init__(self, in_channels: int = 3, classes: int = 10, width: int = 32):
        in_channels, classes, w = checks.sizes("CifarCNN", in_channels=in_channels, classes=classes, width=width)
        super().__init__(
            *_conv(in_channels, w), *_conv(w, w), nn.MaxPool2d(2),
            *_conv(w, 2 * w), *_conv(2 * w, 2 * w), nn.MaxPool2d(2),
            *_conv(2 * w, 4 * w), *_conv(4 * w, 4 * w),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * w, classes))


class Residual(nn.Module):
    """relu(bn(conv(relu(bn(conv(x))))) + shortcut(x)); a 1x1 conv shortcut where the shape changes (He et al. 2015)."""

    def __init__(self, channels: int, out: int, stride: int):
        self.conv1 = nn.Conv2d(channels, out, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.shortcut = None
        if stride != 1 or channels != out:
            self.shortcut = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class ResNet8(nn.Module):
    """Conv, three residual blocks at width, 2 width, 4 width, mean pool, linear: MLPerf Tiny's image classifier.

    Logits (B, classes) from images (B, in_channels, H, W) of any size.

    Args:
        in_channels: channels of the images.
        classes: how many there are.
        width: channels behind the first convolution.

    Raises:
        ShapeError, DtypeError: a size below 1, or that is no whole number.

    Example:
        >>> models.ResNet8(width=8)(np.zeros((2, 3, 32, 32), np.float32)).shape
        (2, 10)
    """

    def __init__(self, in_channels: int = 3, classes: int = 10, width: int = 16):
        in_channels, classes, width = checks.sizes("ResNet8", in_channels=in_channels, classes=classes, width=width)
        self.conv = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        self.block1 = Residual(width, width, 1)
        self.block2 = Residual(width, 2 * width, 2)
        self.block3 = Residual(2 * width, 4 * width, 2)
        self.pool, self.flatten = nn.AdaptiveAvgPool2d(1), nn.Flatten()
        self.fc = nn.Linear(4 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block3(self.block2(self.block1(F.relu(self.bn(self.conv(x))))))
        return self.fc(self.flatten(self.pool(x)))


class DepthwiseCNN(nn.Sequential):
    """MobileNet-like (Howard et al. 2017): 3x3 conv, five pairs of a 3x3 depthwise and a 1x1 conv, mean pool, linear.

    Batch norm and ReLU behind every conv; from width to 8 width, and two of the depthwise convs halve the image.
    33 MFLOP per 3x32x32 image at width 32. Logits (B, classes) from images (B, in_channels, H, W) of any size.

    Args:
        in_channels: channels of the images.
        classes: how many there are.
        width: channels behind the first convolution.

    Raises:
        ShapeError, DtypeError: a size below 1, or that is no whole number.

    Example:
        >>> models.DepthwiseCNN(width=8)(np.zeros((2, 3, 32, 32), np.float32)).shape
        (2, 10)
    """

    def __init__(self, in_channels: int = 3, classes: int = 10, width: int = 32):
        in_channels, classes, w = checks.sizes("DepthwiseCNN", in_channels=in_channels, classes=classes, width=width)

        def separable(i: int, o: int, stride: int) -> list[nn.Module]:
            return [*_conv(i, i, 3, stride, groups=i), *_conv(i, o, 1)]

        super().__init__(
            *_conv(in_channels, w), *separable(w, 2 * w, 1),
            *separable(2 * w, 4 * w, 2), *separable(4 * w, 4 * w, 1),
            *separable(4 * w, 8 * w, 2), *separable(8 * w, 8 * w, 1),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8 * w, classes))


class MLP(nn.Sequential):
    """Linear layers with ReLU between; images are flattened.

    Args:
        sizes: inputs, hidden features, ..., classes.

    Raises:
        ShapeError, DtypeError: fewer than two sizes, or one that is no whole number of at least 1.

    Example:
        >>> models.MLP(784, 64, 10)(np.zeros((2, 1, 28, 28), np.float32)).shape
        (2, 10)
    """

    def __init__(self, *sizes: int):
        if len(sizes) < 2:
            raise ShapeError(f"MLP: expected at least two sizes (inputs, classes), got {sizes}")
        sizes = checks.several("MLP", "sizes", sizes, 1)
        layers: list[nn.Module] = [nn.Flatten()]
        for i, (a, b) in enumerate(zip(sizes, sizes[1:])):
            layers += [nn.ReLU()] if i else []
            layers.append(nn.Linear(a, b))
        super().__init__(*layers)
