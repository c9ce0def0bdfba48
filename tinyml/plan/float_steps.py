"""Products by packed weights in float32, in plans of floats and in float islands."""

from __future__ import annotations

import numpy as np

from .._kernels.products import convolution
from .steps import Kernel, _check, bind_layer, is_plain, window_of


class FloatProduct(Kernel):
    """A linear layer or convolution in float32, clamped to lo .. hi. Weights live packed, and are unpacked to be saved."""

    kind = "float_product"
    dtype = np.float32
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
    def arrays(self):
        weight = self.layer.unpacked()
        return {"weight": weight if self.attrs["spatial"] else weight[:, :, 0, 0], **self._arrays}

    @property
    def nbytes(self):
        return self.layer.nbytes

    def shape(self, values, batch):
        x, window = values[0], self.layer.window
        if self.attrs["spatial"]:
            _check(self, input=x.ndim == 4 and x.dtype == np.float32 and x.shape[1] == self.channels
                   and min(window.output(*x.shape[2:])) > 0)
            return (len(x), self.filters, *window.output(*x.shape[2:]))
        _check(self, input=x.ndim > 0 and x.dtype == np.float32 and x.shape[-1] == self.channels)
        return (*x.shape[:-1], self.filters)

    def bind(self, values, batch, out):
        return bind_layer(self.layer, self.attrs["spatial"], values[0], out)

    def by_sample(self, ndims):
        return ndims[0] if ndims[0] > 1 else None
