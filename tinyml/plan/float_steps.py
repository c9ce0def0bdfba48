"""Products by packed weights in float32, in plans of floats and in float islands."""

from __future__ import annotations

import numpy as np

from .._kernels import convolution
from .steps import PackedProduct, _check, is_plain, window_of


class FloatProduct(PackedProduct):
    """A linear layer or convolution in float32, clamped to lo .. hi."""

    kind = "float_product"
    reads = dtype = np.float32
    any_memory = True

    def prepare(self):
        a, own = self.attrs, self._arrays
        weight, bias = own.pop("weight"), own.get("bias")
        _check(self, weight=weight.dtype == np.float32 and weight.ndim == (4 if a["spatial"] else 2) and weight.size > 0,
               bias=bias is None or (bias.dtype == np.float32 and bias.shape == weight.shape[:1]))
        window = window_of(self, weight.shape[2:] or (1, 1))
        _check(self, groups=len(weight) % window.groups == 0, linear=a["spatial"] or is_plain(window),
               clamp=a["lo"] <= a["hi"], op=isinstance(a["op"], str), spatial=type(a["spatial"]) is bool)
        filters = weight if a["spatial"] else weight[:, :, None, None]
        self.layer = convolution.FloatLayer(filters, bias, window, a["lo"], a["hi"])
        self.channels, self.filters = weight.shape[1] * window.groups, len(weight)

    @property
    def nbytes(self):
        return self.layer.nbytes
