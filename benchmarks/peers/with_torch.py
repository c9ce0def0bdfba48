"""PyTorch: eager, in channels-last memory, with weights packed by oneDNN, and quantized for x86 CPUs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.ao.quantization import get_default_qconfig_mapping, quantize_dynamic
from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx
from torch.nn import functional as F

from ..layers import Layer
from ..prepared import Decoder, Prepared
from ..steps import Step, outcome
from .peer import Peer
from .twins import twin


def _real(y: torch.Tensor) -> np.ndarray:
    return (y.dequantize() if y.is_quantized else y).numpy()


def _rows(y: torch.Tensor) -> np.ndarray:
    return _real(y)[:, :, None, None]


@contextmanager
def _ignore_warnings() -> Iterator[None]:
    """Hide the many warnings that quantization will move to another package."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _make_codes(layer: Layer) -> tuple[torch.Tensor, torch.Tensor]:
    """Quantized tensors with the codes of layer.x (quint8) and layer.w (qint8, one scale per output channel)."""
    codes, scale, w_scale = torch.from_numpy(layer.x_codes), float(layer.x_scale), torch.from_numpy(layer.w_scale).double()
    zeros = torch.zeros(len(w_scale), dtype=torch.long)
    with _ignore_warnings():
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
        x, w = _make_codes(layer)
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
        x, w = _make_codes(layer)
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
        with _ignore_warnings():
            observed = prepare_fx(twin(model), get_default_qconfig_mapping("x86"), (given,))
            observed(given)
            quantized = convert_fx(observed)
            quantized(given)
        return {"torch": Prepared(lambda: quantized(given), _real)}

    def decoder_f32(self, model: Any) -> dict[str, Decoder]:
        return {"torch": _decoder(twin(model))}

    def decoder_int8(self, model: Any) -> dict[str, Decoder]:
        with _ignore_warnings():
            return {"torch": _decoder(quantize_dynamic(twin(model), {torch.nn.Linear}, dtype=torch.qint8, inplace=True))}

    def training(self, step: Step) -> dict[str, Callable[[], Prepared]]:
        layouts = {"torch": torch.contiguous_format}
        if len(step.sample) == 3:
            layouts["torch channels_last"] = torch.channels_last
        return {form: partial(_training, step, layout) for form, layout in layouts.items()}

    def elementwise(self, name: str, make: Callable[[Any, int], Callable[..., Any]], ours: Any, arrays: list[np.ndarray],
                    cotangent: np.ndarray | None) -> dict[str, Prepared]:
        function, given, leaves = make(torch.nn, arrays[0].shape[1]), [torch.from_numpy(a) for a in arrays], []
        if isinstance(function, torch.nn.Module):
            function.load_state_dict({key: torch.from_numpy(value) for key, value in ours.state_dict().items()})
            leaves += function.parameters()
        if cotangent is None:
            return {"torch": Prepared(lambda: function(*given), _real)}
        floats, seed = [t.requires_grad_() for t in given if t.is_floating_point()], torch.from_numpy(cotangent)
        leaves += floats

        def call() -> None:
            for t in leaves:
                t.grad = None
            with torch.enable_grad():
                function(*given).backward(seed)
        return {"torch": Prepared(call, lambda _: np.stack([t.grad.numpy() for t in floats]))}

    def arrays(self, *values: np.ndarray) -> dict[str, list[Any]]:
        return {"torch": [torch.from_numpy(v) for v in values]}


def _decoder(model: torch.nn.Module) -> Decoder:
    """The Decoder of a twin of TinyGPT."""
    def logits(ids: np.ndarray) -> np.ndarray:
        return model(torch.from_numpy(ids)).numpy()

    def stream(ids: np.ndarray, n: int) -> Iterator[torch.Tensor]:
        past, new = model.past(), torch.from_numpy(ids)
        for _ in range(n):
            new = model(new, past)[:, -1].argmax(1, keepdim=True)
            yield new

    def last(ids: np.ndarray) -> np.ndarray:
        past, given = model.past(), torch.from_numpy(ids)
        model(given[:, :-1], past)
        return model(given[:, -1:], past)[:, -1].numpy()

    return Decoder(logits, stream, last)


def _training(step: Step, layout: torch.memory_format) -> Prepared:
    """The training step with the fused AdamW, the fastest that torch has for each of the models."""
    model, (inputs, targets) = twin(step.make()).to(memory_format=layout).train(), map(torch.from_numpy, step.data())
    inputs = inputs.contiguous(memory_format=layout)
    parameters = list(model.parameters())
    kept = [] if step.vectors_decay else [p for p in parameters if p.ndim < 2]
    groups = [{"params": [p for p in parameters if not any(p is k for k in kept)]}, {"params": kept, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW([g for g in groups if g["params"]], betas=step.betas, weight_decay=step.weight_decay,
                                  fused=True)

    def call() -> torch.Tensor:
        with torch.enable_grad():
            optimizer.zero_grad()
            logits = model(inputs)
            loss = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1))
            loss.backward()
        if step.clip is not None:
            torch.nn.utils.clip_grad_norm_(parameters, step.clip)
        optimizer.step()
        return loss

    return Prepared(call, lambda loss: outcome(loss.item(), parameters[0].grad.numpy()))


make = Torch
