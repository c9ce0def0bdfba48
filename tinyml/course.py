"""The names that courses on small models use, over the same machinery: quantize, calibrate, evaluate in a line each.

    model = tinyml.load_trained_model("cifar10_cnn.pt")
    int8_model = tinyml.quantize_model(model, calibration_loader)
    print(tinyml.evaluate(model, test_loader), tinyml.evaluate(int8_model, test_loader))

What each stands for is one call of tinyml; docs/course.md has them side by side.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from . import checks, precision, random
from ._kernels import fixed_point
from .batches import call, pair
from .errors import DtypeError, FileError, QuantizationError, ShapeError
from .evaluation import class_axis
from .graph import Graph, resolve, trace
from .io import load
from .io.modules import build
from .io.torch_files import without_prefix
from .models import CifarCNN
from .nn import Conv2d, Embedding
from .nn import functional as F
from .nn.mode import mode
from .nn.module import Module
from .options import OBSERVER
from .plan.plan import Plan
from .precision.analysis.comparison import LONGEST, Comparison, alternate
from .precision.ranges.calibration import again, inputs_of
from .precision.ranges.observers import observer_for
from .tape import no_grad
from .tensor import Tensor, as_tensor

FIRST, LAST = "0.weight", "22.weight"       # of CifarCNN: the first convolution and the linear layer at its end


def quantize_int8(model: Module) -> Module:
    """An int8 copy that needs no data: weights stored as int8, one scale an output channel, activations quantized per row
    as they come; equation (9). It is model.to_int8(), which raises what this does."""
    return _checked("quantize_int8", model).to_int8()


def quantize_model(model: Module, calibration_loader: Any) -> Module:
    """An int8 copy that runs on codes from end to end, with the ranges of the data; equations (4) to (8).

    It is model.to_int8(calibration=calibration_loader), which raises what this does.
    """
    return _checked("quantize_model", model).to_int8(calibration=calibration_loader)


def calibrate(model: Module, data: Any, observer: Any = OBSERVER) -> dict[str, float]:
    """The int8 scales of a model by name.

    "input" and each layer's name have the scale of activations, (hi - lo) / 255 of the range that the observer found in the
    data, equation (6); what a layer computes on the way is "layer.op". Each parameter's name has max|w| / 127, equation (2)
    with one scale a tensor: what (weights / scale).round() needs.

    Args:
        data: batches of arrays, Tensors or (input, target) pairs.
        observer: as of to_int8.

    Raises:
        QuantizationError: no data, NaN or infinity; TraceError: the forward cannot be recorded.
    """
    _checked("calibrate", model)
    batches = inputs_of("calibrate", data, model)
    first = next(batches, None)
    if first is None:
        raise QuantizationError("calibrate: expected at least one batch of data, got none")
    graph = trace(model, *first)
    ranges = precision.calibrate(graph, ((inputs,) for inputs in chain([first], batches)), observer_for(observer)).ranges
    scales = {name: float(fixed_point.affine_parameters(*ranges[value])[0])
              for value, name in _names(graph).items() if value in ranges}
    return scales | {name: float(fixed_point.weight_scales(p.data, None)) for name, p in model.named_parameters()}


def _names(graph: Graph) -> dict[int, str]:
    """What to call the values of a graph: a layer's last one by the layer, others by their op in it."""
    names = {value: f"input{i or ''}" for i, value in enumerate(graph.inputs)}
    last = {node.module: node.output for node in graph.nodes}
    taken = {"", *names.values()}
    for node in graph.nodes:
        own = node.module if last[node.module] == node.output else f"{node.module}.{node.op.name}".lstrip(".")
        name, n = own or node.op.name, 2
        while name in taken:
            name, n = f"{own or node.op.name}{n}", n + 1
        names[node.output] = name
        taken.add(name)
    return names


def quantized_forward(input: Any, quantized_weights: Any, scales: Any, bias: Any = None) -> Tensor:
    """y (..., N) = input (..., K) @ (scales * quantized_weights (N, K))^T + bias (N) in float32, multiplied as integers.

    Each row of the input is quantized by itself as it comes, equation (9).

    Args:
        quantized_weights: int8, or whole numbers in [-128, 127] of any dtype, as (weights / scales).round().clip(-128, 127)
            gives them.
        scales: one for all, or one for each of the N rows, as (N,) or (N, 1).

    Raises:
        QuantizationError: weights that are no codes, or scales that are not finite and positive; ShapeError, DtypeError:
        operands that do not fit together.
    """
    codes = checks.array("quantized_forward", "quantized_weights", quantized_weights)
    if codes.ndim != 2 or codes.dtype.kind not in "fiu":
        raise ShapeError(f"quantized_forward: expected weights (N, K), got {codes.dtype} of shape {codes.shape}")
    if codes.dtype != np.int8 and not ((codes == np.rint(codes)) & (codes >= -128) & (codes <= 127)).all():
        raise QuantizationError("quantized_forward: expected int8 codes, whole numbers in [-128, 127]; quantize weights by "
                                "(weights / scales).round().clip(-128, 127)")
    if isinstance(scales, dict):
        raise DtypeError("quantized_forward: expected the scales of these weights, got a dict; pass scales[name]")
    scale = checks.array("quantized_forward", "scales", scales).reshape(-1)
    one = scale.size == 1
    weight = Tensor(codes.astype(np.int8), scale=scale[0] if one else scale, axis=None if one else 0)
    return F.linear(as_tensor(input), weight, None if bias is None else as_tensor(bias))


def evaluate(model: Module, loader: Iterable) -> float:
    """Percentage (0 to 100) of the targets that the model predicts, over batches (input, target); -100 does not count.

    Raises:
        ShapeError: no target that counts, batches that are no pairs, or targets that are no classes of the outputs.
    """
    right = count = 0
    with mode(_checked("evaluate", model), training=False), no_grad():
        for batch in checks.rows("evaluate", "loader", loader, "batches"):
            x, y = pair("evaluate", batch)
            outputs = call(model, x)
            if not isinstance(outputs, Tensor) or not isinstance(y, Tensor):
                raise ShapeError("evaluate: expected one output and one array of targets, got a "
                                 f"{type(outputs).__name__} and a {type(y).__name__}")
            outputs = outputs.dequantize().data
            axis = class_axis(model.default_loss, outputs.shape, y.shape)
            if axis is None or y.dtype.kind not in "iu":
                raise ShapeError("evaluate: expected integer targets (B,) or (B, ...) for outputs (B, C) or (B, C, ...), "
                                 f"got {y.dtype} of shape {y.shape} for outputs {outputs.shape}")
            counted = y.data != -100
            right += int((outputs.argmax(axis) == y.data)[counted].sum())
            count += int(counted.sum())
    if not count:
        raise ShapeError("evaluate: expected at least one target that counts, got none")
    return 100 * right / count


def benchmark(model: Module, example: Any = None, batch: int = 32, seconds: float = 1.0,
              show: bool = True) -> dict[str, float]:
    """{"ms": of a batch (median), "samples_per_second", "bytes": of the model in memory}; prints them unless `show` is off.

    Args:
        example: a batch of inputs (a tuple for several); by default `batch` random ones of the shape that the model's first
            layer reads, images being 32 x 32.

    Raises:
        ShapeError: the model does not take such inputs.
    """
    _checked("benchmark", model)
    batch = checks.whole("benchmark", "batch", batch, 1)
    seconds = checks.number("benchmark", "seconds", seconds, 0, LONGEST)
    show = checks.flag("benchmark", "show", show)
    inputs = _example(model, batch) if example is None else example if isinstance(example, tuple) else (example,)
    inputs = tuple(as_tensor(x) for x in inputs)
    with mode(model, training=False), no_grad():
        try:
            ms = alternate([lambda: model(*inputs)], seconds)[0]
        except ShapeError as error:
            hint = "; pass an input that the model takes: benchmark(model, x)" if example is None else ""
            raise ShapeError(f"benchmark: {error}{hint}") from error
    samples = len(inputs[0])
    found = {"ms": ms, "samples_per_second": 1000 * samples / ms, "bytes": model.nbytes}
    if show:
        print(f"{type(model).__name__}: {ms:.2f} ms a batch of {samples}, {found['samples_per_second']:,.0f} samples/s, "
              f"{model.nbytes:,} bytes")
    return found


def _example(model: Module, batch: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(0)
    if isinstance(model, Plan):
        shapes = [(resolve(slot.shape, batch), slot.floats) for slot in model.inputs]
    else:
        first = next((m for m in model.modules() if m.stored_weights), None)
        if first is None:
            raise ShapeError(f"benchmark: {type(model).__name__} has no layer that tells what it reads; pass an input: "
                             "benchmark(model, x)")
        read = (32, 32) if isinstance(first, Conv2d) else ()
        inner = getattr(model, "context", 16) if isinstance(first, Embedding) else first.weight.shape[1]
        shapes = [((batch, inner * getattr(first, "groups", 1), *read), not isinstance(first, Embedding))]
    for shape, _ in shapes:
        checks.room("benchmark", "an input", shape, 8)
    return tuple(rng.standard_normal(shape, np.float32) if floats else np.zeros(shape, np.int64)
                 for shape, floats in shapes)


def load_trained_model(path: Any) -> Module:
    """The model of a file, in evaluation mode: a state dict of CifarCNN as PyTorch writes it (.pt, .pth), whose width,
    channels and classes are those of its tensors; or any model that save() wrote.

    Raises:
        FileError: missing or damaged, or the state dict of another model.
    """
    found = load(path)
    if isinstance(found, Module):
        return found
    arrays = without_prefix(found)
    if [arrays[name].ndim if name in arrays else 0 for name in (FIRST, LAST)] != [4, 2]:
        raise FileError(f"{Path(path)}: expected the state dict of a CifarCNN, from {FIRST} to {LAST}, got "
                        f"{', '.join(list(arrays)[:4])}, ...; build your model and use tinyml.load(path, model=model)")
    width, channels = arrays[FIRST].shape[:2]
    state = random.get_state()
    try:
        model = build({"class": f"{CifarCNN.__module__}.CifarCNN", "kwargs": {},
                       "args": [channels, len(arrays[LAST]), width]}, arrays)
    except FileError as error:
        raise FileError(f"{Path(path)}: {error}") from error
    finally:
        random.set_state(state)
    return load(path, model=model)


class Codes(NamedTuple):
    """int8 codes and what they count: one scale, or one per index of the quantizer's axis."""

    codes: np.ndarray
    scale: np.ndarray


class Int8Quantizer:
    """Symmetric int8 for arrays, codes rint(x / scale) with scale max|x| / 127, equation (2); or for a model.

    axis: the dimension with a scale per index; None: one scale for all.
    """

    def __init__(self, model: Module | None = None, axis: int | None = None):
        self.model = model if model is None else _checked("Int8Quantizer", model)
        self.axis = None if axis is None else checks.axis("Int8Quantizer", axis)

    def quantize(self, x: Any = None) -> Any:
        """codes, scale of an array or Tensor; of a model, given first, its int8 copy, static where `x` has batches.

        Raises:
            QuantizationError: NaN or infinity; ShapeError: no such axis; DtypeError: neither a model nor an array.
        """
        if self.model is not None:
            return quantize_int8(self.model) if x is None else quantize_model(self.model, x)
        if x is None:
            raise DtypeError("Int8Quantizer: expected an array, quantize(x), or a model, Int8Quantizer(model).quantize()")
        t = as_tensor(x).detach().dequantize()
        if self.axis is not None and not -t.ndim <= self.axis < t.ndim:
            raise ShapeError(f"Int8Quantizer: axis {self.axis} of an array of shape {t.shape}")
        axis = None if self.axis is None else self.axis % t.ndim
        q = t.to_int8(fixed_point.weight_scales(t.data, axis), 0, axis)
        return Codes(q.data, q.scale)

    def dequantize(self, codes: Any, scale: Any = None) -> np.ndarray:
        """scale * codes in float32: dequantize(codes, scale), or dequantize(quantize(x))."""
        if scale is None:
            if not isinstance(codes, tuple) or len(codes) != 2:
                raise DtypeError("Int8Quantizer: expected dequantize(codes, scale), or what quantize gave, got "
                                 f"{checks.described(codes)}")
            codes, scale = codes
        codes = checks.array("Int8Quantizer", "codes", codes, "iu")
        if codes.size and (codes.min() < -128 or codes.max() > 127):
            raise QuantizationError(f"Int8Quantizer: expected codes in [-128, 127], got {codes.min()} to {codes.max()}")
        return Tensor(codes.astype(np.int8), scale=scale, axis=self.axis).dequantize().data


class Calibrator:
    """Collects batches, which it keeps, and gives the scales of a model for them."""

    def __init__(self, model: Module, observer: Any = OBSERVER):
        self.model, self.observer = _checked("Calibrator", model), observer
        self.batches: list[Any] = []

    def collect(self, batch: Any) -> Calibrator:
        """Add a batch: an array, a Tensor, or a pair (input, target)."""
        self.batches += again("Calibrator", iter([batch]))       # a copy: a loader may fill the same arrays again
        return self

    def scales(self) -> dict[str, float]:
        """What `calibrate` gives for the batches so far."""
        return calibrate(self.model, self.batches, self.observer)

    def quantize(self) -> Module:
        """The static int8 model with the ranges of the batches so far."""
        return self.model.to_int8(calibration=self.batches, observer=self.observer)


class AccuracyValidator:
    """Whether an int8 model is as good as its float model, to `tolerance` points of accuracy."""

    def __init__(self, model: Module, int8_model: Module, tolerance: float = 0.5):
        self.model, self.int8_model = (_checked("AccuracyValidator", m) for m in (model, int8_model))
        self.tolerance = checks.number("AccuracyValidator", "tolerance", tolerance, 0)

    def validate(self, loader: Iterable) -> Comparison:
        """precision.compare over batches (input, target): prints as a table; `verdict` is "no worse", "worse" or
        "inconclusive"."""
        return precision.compare(self.model, self.int8_model, loader, show=False, tolerance=self.tolerance)


def _checked(what: str, model: Any) -> Module:
    if not isinstance(model, Module):
        hint = "; for arrays use Int8Quantizer().quantize(x)" if isinstance(model, (Tensor, np.ndarray)) else ""
        raise DtypeError(f"{what}: expected a tinyml model, got {type(model).__name__}{hint}")
    return model
