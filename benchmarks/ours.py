"""tinyml's side of the benchmarks: each function prepares what a user's model runs, weights packed where tinyml packs them.

Call what they prepare without gradients. Float weights are packed in every call today; a float layer that keeps them
packed takes its place in `linear_f32` and `conv_f32`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinyml import Tensor, nn
from tinyml._kernels import floats, integers
from tinyml.tape import record

from .layers import Layer
from .peers import Prepared


def _linear(layer: Layer) -> tuple[nn.Module, Tensor]:
    module = nn.Linear(layer.w.shape[1], layer.w.shape[0], bias=False)
    module.load_state_dict({"weight": layer.w[:, :, 0, 0]})
    return module.eval(), Tensor(np.ascontiguousarray(layer.x[:, :, 0, 0]))


def _rows(y: Tensor) -> np.ndarray:
    return y.numpy()[:, :, None, None]


def linear_f32(layer: Layer) -> Prepared:
    """nn.Linear in evaluation mode."""
    module, x = _linear(layer)
    return Prepared(lambda: module(x), _rows)


def linear_f16(layer: Layer) -> Prepared:
    """nn.Linear with weights stored as float16."""
    module, x = _linear(layer)
    half = module.to_fp16()
    return Prepared(lambda: half(x), _rows)


def conv_f32(layer: Layer) -> Prepared:
    """nn.Conv2d in evaluation mode, on channels-last memory, which is what the layer before it leaves."""
    n, k, *size = layer.w.shape
    w = layer.window
    module = nn.Conv2d(k * w.groups, n, tuple(size), w.stride, w.padding, w.dilation, w.groups)
    module.load_state_dict({"weight": layer.w, "bias": layer.b})
    module.eval()
    x = Tensor(layer.x)
    return Prepared(lambda: module(x), lambda y: y.numpy())


def layer_int8(layer: Layer) -> Prepared:
    """The step of a plan: codes to codes by weights packed once, requantized in the product."""
    real = np.float64(layer.x_scale) * layer.w_scale.astype(np.float64) / np.float64(layer.y_scale)
    packed = integers.IntegerLayer(layer.w_codes, layer.b_codes, layer.x_zero, layer.window,
                                   integers.Requant(real, layer.y_zero))
    x = floats.nhwc(layer.x_codes)
    return Prepared(lambda: packed.codes(x), lambda u: layer.real(floats.nchw(u)))


def model(module: nn.Module, x: np.ndarray) -> Prepared:
    """A model or plan in evaluation mode, from float32 to logits."""
    module.eval()
    return Prepared(lambda: module(x), lambda y: y.numpy())


def operations(module: nn.Module, x: np.ndarray) -> int:
    """Of all linear layers and convolutions in one forward, two a multiply-add."""
    with record() as ops:
        module(x)
    products: list[Any] = [r for r in ops if r.op.name in ("linear", "conv2d")]
    return sum(2 * r.output.data.size * r.inputs[1].data[0].size for r in products)
