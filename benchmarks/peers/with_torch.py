"""PyTorch: eager, in channels-last memory, with weights packed by oneDNN, and quantized for x86."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.ao.quantization import get_default_qconfig_mapping
from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx
from torch.nn import functional as F

from ..layers import Layer
from . import Peer, Prepared
from .twins import twin


def _real(y: torch.Tensor) -> np.ndarray:
    return (y.dequantize() if y.is_quantized else y).numpy()


def _rows(y: torch.Tensor) -> np.ndarray:
    return _real(y)[:, :, None, None]


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the dozen announcements that quantization will move to another package."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _quantized(layer: Layer) -> tuple[torch.Tensor, torch.Tensor]:
    """The codes of layer.x (quint8) and layer.w (qint8, a scale an output channel) as they are."""
    codes, scale, w_scale = torch.from_numpy(layer.x_codes), float(layer.x_scale), torch.from_numpy(layer.w_scale).double()
    zeros = torch.zeros(len(w_scale), dtype=torch.long)
    with _quiet():
        return (torch._make_per_tensor_quantized_tensor(codes, scale, layer.x_zero + 128),
                torch._make_per_channel_quantized_tensor(torch.from_numpy(layer.w_codes), w_scale, zeros, 0))


class Torch(Peer):
    """torch.nn.functional, oneDNN's packed weights, and the quantized operators of the x86 backend."""

    distributions = ("torch",)

    def __init__(self, threads: int):
        super().__init__(threads)
        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)

    def linear_f32(self, layer: Layer) -> dict[str, Prepared]:
        x, w = torch.from_numpy(layer.x[:, :, 0, 0]), torch.from_numpy(layer.w[:, :, 0, 0])
        packed = torch.ops.mkldnn._reorder_linear_weight(w, len(x))
        return {"torch": Prepared(lambda: F.linear(x, w), _rows),
                "torch packed": Prepared(
                    lambda: torch.ops.mkldnn._linear_pointwise(x, packed, None, "none", [], ""), _rows)}

    def linear_int8(self, layer: Layer) -> dict[str, Prepared]:
        x, w = _quantized(layer)
        packed = torch.ops.quantized.linear_prepack(w[:, :, 0, 0].contiguous(), None)
        x, scale, zero = x[:, :, 0, 0].contiguous(), float(layer.y_scale), layer.y_zero + 128
        return {"torch": Prepared(lambda: torch.ops.quantized.linear(x, packed, scale, zero), _rows)}

    def conv_f32(self, layer: Layer) -> dict[str, Prepared]:
        window = layer.window
        shape = {"stride": window.stride, "padding": window.padding, "dilation": window.dilation, "groups": window.groups}
        b, last = torch.from_numpy(layer.b), torch.channels_last
        x, w = torch.from_numpy(layer.x).contiguous(), torch.from_numpy(layer.w)
        xl, wl = x.contiguous(memory_format=last), w.contiguous(memory_format=last)
        packed = torch.ops.mkldnn._reorder_convolution_weight(w, window.padding, window.stride, window.dilation,
                                                              window.groups, list(x.shape))
        rest = (window.padding, window.stride, window.dilation, window.groups, "none", [], "")
        return {"torch": Prepared(lambda: F.conv2d(x, w, b, **shape), _real),
                "torch channels_last": Prepared(lambda: F.conv2d(xl, wl, b, **shape), _real),
                "torch packed": Prepared(lambda: torch.ops.mkldnn._convolution_pointwise(xl, packed, b, *rest), _real)}

    def conv_int8(self, layer: Layer) -> dict[str, Prepared]:
        window = layer.window
        x, w = _quantized(layer)
        packed = torch.ops.quantized.conv2d_prepack(w, torch.from_numpy(layer.b), window.stride, window.padding,
                                                    window.dilation, window.groups)
        x, scale, zero = x.contiguous(memory_format=torch.channels_last), float(layer.y_scale), layer.y_zero + 128
        return {"torch": Prepared(lambda: torch.ops.quantized.conv2d(x, packed, scale, zero), _real)}

    def model_f32(self, model: Any, x: np.ndarray) -> dict[str, Prepared]:
        eager, last = twin(model), twin(model).to(memory_format=torch.channels_last)
        given = torch.from_numpy(x)
        channels_last = given.contiguous(memory_format=torch.channels_last)
        return {"torch": Prepared(lambda: eager(given), _real),
                "torch channels_last": Prepared(lambda: last(channels_last), _real)}

    def model_int8(self, model: Any, x: np.ndarray) -> dict[str, Prepared]:
        given = torch.from_numpy(x)
        with _quiet():
            observed = prepare_fx(twin(model), get_default_qconfig_mapping("x86"), (given,))
            observed(given)
            quantized = convert_fx(observed)
            quantized(given)
        return {"torch": Prepared(lambda: quantized(given), _real)}

    def arrays(self, *values: np.ndarray) -> dict[str, list[Any]]:
        return {"torch": [torch.from_numpy(v) for v in values]}


make = Torch
