"""Quantizers for training: modules that round as the integer plan will, with ranges from the data or learned scales."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..._kernels.products import fixed_point
from ...nn import functional as F
from ...nn.module import Module, Parameter
from ...ops import Codec
from ...ops.fake_quantize import FakeQuantize
from ...tape import no_grad
from ...tensors import Tensor, apply

SMALLEST = -30      # log2 of the smallest scale that can be learned


class _LearnedScale(Module):
    """A scale that is trained as its logarithm, so that an optimizer step changes it relative to its size.

    Its gradient is that of LSQ (Esser et al. 2020). It has no weight decay, and stays at 2^-30 or above.

    Source: Jain et al. 2020.
    """

    def learn(self, scale: np.ndarray | np.float32) -> None:
        """Learn the scale from now on, starting from `scale`, of any shape."""
        self.log2_scale = Parameter(np.log2(np.asarray(scale, np.float32)), decay=False)

    @property
    def learned(self) -> bool:
        return hasattr(self, "log2_scale")

    def scale(self) -> Tensor:
        """The scale as a Tensor, which gets a gradient."""
        np.maximum(self.log2_scale.array, SMALLEST, out=self.log2_scale.array)
        return (self.log2_scale * np.float32(math.log(2))).exp()


class ActivationQuantizer(_LearnedScale):
    """Fake-quantizes an activation with one scale for the tensor: y = scale * (q(x) - zero_point), equations (6) and (7).

    Its range is a moving average of the smallest and the largest value of each batch, or its scale is learned and its zero
    point fixed.

    Args:
        lo, hi: the range to start from.
        learned: whether to learn the scale.
        momentum: the weight of a batch in the moving average.

    Source: Jacob et al. 2018, section 3.1; Esser et al. 2020 (LSQ).

    Example:
        >>> import numpy as np
        >>> from tinyml import Tensor
        >>> from tinyml.precision.training.quantizers import ActivationQuantizer
        >>> quantizer = ActivationQuantizer(-1.0, 1.55, learned=False)
        >>> quantizer(Tensor(np.array([0.123, 9.0], np.float32)), frozen=True).numpy().round(2).tolist()
        [0.11999999731779099, 1.5499999523162842]
    """

    def __init__(self, lo: float, hi: float, learned: bool, momentum: float = 0.05):
        self.momentum = momentum
        self.bounds = Tensor(np.array([lo, hi], np.float64))
        if learned:
            self.learn(self.codec().scale)

    @property
    def zero_point(self) -> int:
        """The zero point of the moving range, or of the range that a learned scale started from."""
        lo, hi = self.bounds.array
        return fixed_point.affine_parameters(lo, hi, "activation range")[1]

    def range(self) -> tuple[float, float]:
        """The (lo, hi) from which lowering computes the same scale and zero point."""
        if not self.learned:
            lo, hi = self.bounds.array
            return float(lo), float(hi)
        with no_grad():
            scale = float(self.scale().array)
        return scale * (fixed_point.QMIN - self.zero_point), scale * (fixed_point.QMAX - self.zero_point)

    def codec(self) -> Codec:
        """The scale and the zero point as they are now; equation (6)."""
        return Codec(*fixed_point.affine_parameters(*self.range(), "activation range"))

    def observe(self, x: np.ndarray) -> None:
        """Move the range towards that of x, unless the scale is learned."""
        if x.size and not self.learned and np.isfinite(x).all():
            self.bounds.array += self.momentum * (np.array([x.min(), x.max()], np.float64) - self.bounds.array)

    def forward(self, x: Tensor, frozen: bool) -> Tensor:
        """Fake-quantize x, of any shape; unless `frozen`, the range moves first."""
        if not frozen:
            self.observe(x.array)
        codec = self.codec()
        scale = self.scale() if self.learned and not frozen else codec.scale
        return apply(FakeQuantize, x, scale, zero_point=codec.zero_point, lo=fixed_point.QMIN, hi=fixed_point.QMAX)

    def describe(self) -> str:
        codec = self.codec()
        return f"scale={codec.scale:.4g}, zero_point={codec.zero_point}" + (", learned" if self.learned else "")


class WeightQuantizer(_LearnedScale):
    """Fake-quantizes the weight (N, ...) and the bias (N) of a layer; equations (2) and (3), or with learned scales.

    Args:
        per_channel: one weight scale per output channel, otherwise one for the layer.
    """

    def __init__(self, per_channel: bool):
        self.per_channel = per_channel

    def start(self, weight: np.ndarray) -> None:
        """Learn the scales from now on, starting from max|w| / 127."""
        self.learn(fixed_point.weight_scales(weight, 0 if self.per_channel else None))

    def chosen(self) -> np.ndarray | None:
        """The learned scales, (N) or one for all; None if scales follow the weights."""
        if not self.learned:
            return None
        with no_grad():
            return self.scale().array

    def forward(self, weight: Tensor, bias: Tensor | None, x_scale: np.float32, frozen: bool) -> tuple[Any, Any]:
        """Fake-quantize the weight and the bias, which may be None, of a layer that reads codes of scale `x_scale`."""
        chosen = self.chosen()
        s = fixed_point.layer_scales(weight.array, None if bias is None else bias.array, float(x_scale), self.per_channel,
                                     chosen)
        scale = s if self.per_channel else s[0]
        if self.learned and not frozen:     # a scale is not learned where the bias needs a larger one, or all weights are 0
            scale = F.where(scale == chosen, self.scale(), scale)
        w = apply(FakeQuantize, weight, scale, zero_point=0, lo=-127, hi=127)
        if bias is None:
            return w, None
        # in float64, as conversion rounds it: near a tie float32 would give another code
        unit = np.maximum(np.float64(x_scale) * s.astype(np.float64), np.finfo(np.float32).tiny)
        b = apply(FakeQuantize, bias.to("float64"), unit, zero_point=0, lo=-2**31, hi=2**31 - 1)
        return w, b.to(bias.dtype)

    def describe(self) -> str:
        return ("per channel" if self.per_channel else "per tensor") + (", learned" if self.learned else "")
