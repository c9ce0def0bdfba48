"""tinyml's side of the benchmarks: each function prepares what a compiled model or a plan runs, with packed weights.

The prepared calls must run without gradients.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinyml import Tensor, nn
from tinyml._kernels.layout import nchw, nhwc
from tinyml._kernels.products import convolution, integer_layer
from tinyml.tape import record

from .layers import Layer
from .prepared import Prepared


def layer_f32(layer: Layer) -> Prepared:
    """The step of a compiled model: channels-last floats by packed weights."""
    packed = convolution.FloatLayer(layer.w, layer.b if layer.b.any() else None, layer.window)
    x = nhwc(layer.x)
    return Prepared(lambda: packed.run(x), nchw)


def linear_f16(layer: Layer) -> Prepared:
    """nn.Linear in evaluation mode with weights stored as float16."""
    module = nn.Linear(layer.w.shape[1], layer.w.shape[0], bias=False)
    module.load_state_dict({"weight": layer.w[:, :, 0, 0]})
    half, x = module.eval().to_fp16(), Tensor(np.ascontiguousarray(layer.x[:, :, 0, 0]))
    return Prepared(lambda: half(x), lambda y: y.numpy()[:, :, None, None])


def layer_int8(layer: Layer) -> Prepared:
    """The step of a plan: from codes to codes by packed weights, requantized in the product."""
    real = np.float64(layer.x_scale) * layer.w_scale.astype(np.float64) / np.float64(layer.y_scale)
    packed = integer_layer.IntegerLayer(layer.w_codes, layer.b_codes, layer.x_zero, layer.window,
                                       integer_layer.Requant(real, layer.y_zero))
    x = nhwc(layer.x_codes)
    return Prepared(lambda: packed.codes(x), lambda u: layer.real(nchw(u)))


def model(module: nn.Module, x: np.ndarray) -> Prepared:
    """A model or plan in evaluation mode, from float32 to logits."""
    module.eval()
    return Prepared(lambda: module(x), lambda y: y.numpy())


def operations(module: nn.Module, x: np.ndarray) -> int:
    """The operations of all linear layers and convolutions in one forward, two per multiply-add."""
    with record() as ops:
        module(x)
    products: list[Any] = [r for r in ops if r.op.name in ("linear", "conv2d")]
    return sum(2 * r.output.array.size * r.inputs[1].array[0].size for r in products)
