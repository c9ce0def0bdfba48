"""The times of a module's ops, each timed alone, on the operands that it had in one forward of the batch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .._kernels.layout import nhwc
from .._kernels.products import integer_layer
from .._kernels.products.dynamic_linear import dynamic_linear
from .._kernels.rows.codes import quantize_rows
from ..nn.module import Module
from ..tape import Record, no_grad, record
from ..tensors import INT8, Tensor, apply
from .planned import resize_channels, split_product, why_together
from .timing import CROWD, FEW_ROWS, Calls, Functions, StepTimes, time_parts


def record_ops(model: Module, inputs: list[np.ndarray]) -> list[tuple[str, Record]]:
    """The ops of one forward, each with the name of its layer."""
    names: dict[int, str] = {}
    for name, m in model.named_modules():
        names.setdefault(id(m), name)
    with no_grad(), record() as ran:
        model(*inputs)
    return [(names.get(id(r.module), ""), r) for r in ran]


def time_module(model: Module, ran: list[tuple[str, Record]], inputs: list[np.ndarray],
                seconds: float) -> tuple[list[StepTimes], Calls]:
    """The times of each op, and of a whole call."""
    with no_grad():
        took, calls = time_parts([_parts(r) for _, r in ran], lambda: model(*inputs), _least_call(), seconds)
    return [_collect_times(r, ms) for (_, r), ms in zip(ran, took)], calls


def _least_call() -> Callable[[], object]:
    """The smallest product there is: one row of four floats by one channel."""
    layer = integer_layer.IntegerLayer(np.ones((1, 4, 1, 1), np.int8), None, 0)
    x, scale = np.zeros((1, 1, 1, 4), np.float32), np.ones(1, np.float32)
    return lambda: layer.floats(*quantize_rows(x), scale, None)


def is_dynamic(r: Record) -> bool:
    """Whether the op quantizes floats and multiplies them by int8 weights, equation (9)."""
    return bool(r.op.has_weights and r.inputs[0].quantized is None and r.inputs[1].quantized is not None
                and r.inputs[0].numel() > 0)


def rows_of(r: Record) -> np.ndarray:
    """The floats that a dynamic product quantizes, one row per index of the first dimension."""
    x = r.inputs[0].array.astype(np.float32, copy=False)
    return x.reshape(-1, 1, 1, x.shape[-1]) if is_linear(r) else nhwc(x)


def is_linear(r: Record) -> bool:
    """Whether the weights of a product are those of a linear layer (N, K), rather than of a convolution."""
    return bool(r.inputs[1].ndim == 2)


def _parts(r: Record) -> Functions:
    """The functions that are timed for an op: the op, its parts, and the op with float32 weights."""
    found: Functions = {"full": lambda: apply(r.op, *r.inputs, **r.attrs)}
    stored = [t is not None and t.dtype in (INT8, np.float16) and i in r.op.stored for i, t in enumerate(r.inputs)]
    if any(stored):
        plain = [Tensor(t.dequantize().array.astype(np.float32)) if is_stored else t
                 for t, is_stored in zip(r.inputs, stored)]
        found["float32"] = lambda: apply(r.op, *plain, **r.attrs)
    if is_dynamic(r):
        w, bias = r.inputs[1], None if r.inputs[2] is None else r.inputs[2].array.astype(np.float32)
        if is_linear(r):
            found.update(_linear_parts(r, bias))
            return found
        if w.quantized.packed is None:      # a user's op, which multiplies in its own way
            return found
        layer, scale = w.quantized.packed[1], np.broadcast_to(w.scale, (w.shape[0],)).astype(np.float32)
        x = rows_of(r)
        u, rows = quantize_rows(x)
        found["quantize"] = lambda: quantize_rows(x)
        found["product"] = lambda: layer.floats(u, rows, scale, bias)
        if not why_together(layer):
            other = resize_channels(layer)
            resized = np.take(u, np.arange(other.k) % layer.k, -1)
            found["otherwise"] = lambda: other.floats(resized, rows, scale, bias)
        if r.output.numel() // w.shape[0] <= FEW_ROWS:
            many, scales = np.concatenate([u] * CROWD), np.concatenate([rows] * CROWD)
            found["crowd"] = lambda: layer.floats(many, scales, scale, bias)
    return found


def _linear_parts(r: Record, bias: np.ndarray | None) -> Functions:
    """The parts of a linear layer, whose kernel reads the weights unpacked and quantizes x itself."""
    w = r.inputs[1]
    x = rows_of(r).reshape(-1, w.shape[1])
    group = w.group or w.shape[1]
    scale = w.scale if w.group else np.broadcast_to(w.scale, (w.shape[0],))
    parts = np.pad(x, ((0, 0), (0, -x.shape[1] % group))).reshape(-1, group) if w.group else x
    found: Functions = {"quantize": lambda: quantize_rows(parts),
                        "product": lambda: dynamic_linear(x, w.array, scale, bias, w.group)}
    if len(x) <= FEW_ROWS:
        many = np.concatenate([x] * CROWD)
        found["crowd"] = lambda: dynamic_linear(many, w.array, scale, bias, w.group)
    return found


def _collect_times(r: Record, ms: dict[str, float]) -> StepTimes:
    """The figures of one op, from the times of its functions."""
    full, float32 = ms["full"], ms.get("float32", ms["full"])
    if "product" not in ms:
        product = r.op.multiplies
        return StepTimes(multiply=full if product else 0.0, other=0.0 if product else full, float32=float32,
                         narrow="float32" in ms)
    w = r.inputs[1]
    if is_linear(r):        # the time to quantize is in that of the kernel
        ms |= {name: max(ms[name] - ms["quantize"], 0.0) for name in ("product", "crowd") if name in ms}
    found = StepTimes(quantize=ms["quantize"], multiply=ms["product"], float32=float32, rows=r.output.numel() // w.shape[0],
                      crowd=ms.get("crowd"), terms=w.numel() // w.shape[0], narrow=True)
    if is_linear(r):
        found.together = "sums are scaled to floats as they are made"
    else:
        found = split_product(found, w.quantized.packed[1], ms.get("otherwise"))
    found.other = max(full - ms["quantize"] - ms["product"], 0.0)
    return found
