"""The scales that int8 gives a model: of its activations on data, and of its parameters."""

from __future__ import annotations

from itertools import chain
from typing import Any

from .. import precision
from .._kernels.products import fixed_point
from ..batches import keep_batches, read_inputs
from ..errors import QuantizationError
from ..graph import Graph, trace
from ..nn.module import Module
from ..options import OBSERVER
from ..precision.ranges.observers import observer_for
from .models import check_model


def calibrate(model: Module, data: Any, observer: Any = OBSERVER) -> dict[str, float]:
    """The int8 scales of a model by name.

    An activation's scale is (hi - lo) / 255 of the range that the observer found in the data, equation (6). A parameter's
    scale is max|w| / 127, equation (2) with one scale per tensor: what (weights / scale).round() needs.

    Args:
        model: the float model.
        data: batches of inputs or of (inputs, targets), as `to_int8` takes them.
        observer: how ranges come from the data, as in `to_int8`.

    Returns:
        Scales under "input", under the name of each layer for its output, under "layer.op" for what a layer computes on the
        way, and under the name of each parameter.

    Raises:
        QuantizationError: there are no data, or they have a NaN or an infinity.
        TraceError: the forward cannot be recorded.

    Example:
        >>> import numpy as np
        >>> from tinyml import nn
        >>> scales = calibrate(nn.Sequential(nn.ReLU()), np.float32([[-1.0, 1.55]]), observer="minmax")
        >>> {name: round(scale, 4) for name, scale in scales.items()}
        {'input': 0.01, '0': 0.0061}
    """
    check_model("calibrate", model)
    batches = read_inputs("calibrate", data, model)
    first = next(batches, None)
    if first is None:
        raise QuantizationError("calibrate: expected at least one batch of data, got none")
    graph = trace(model, *first)
    ranges = precision.calibrate(graph, ((inputs,) for inputs in chain([first], batches)), observer_for(observer)).ranges
    scales = {name: float(fixed_point.affine_parameters(*ranges[value])[0])
              for value, name in name_values(graph).items() if value in ranges}
    return scales | {name: float(fixed_point.weight_scales(p.array, None)) for name, p in model.named_parameters()}


def name_values(graph: Graph) -> dict[int, str]:
    """A name of its own for each value of a graph: that of the layer for a layer's last value, else its op in the layer."""
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


class Calibrator:
    """Collects batches, which it keeps in memory, and gives the scales and the int8 form of a model for them.

    Args:
        model: the float model.
        observer: how ranges come from the data, as in `to_int8`.

    Raises:
        DtypeError: `model` is not a tinyml model.

    Example:
        >>> import numpy as np
        >>> from tinyml import models
        >>> calibrator = Calibrator(models.MLP(2, 2), observer="minmax")
        >>> int8_model = calibrator.collect(np.float32([[0.0, 2.55]])).quantize()
        >>> round(calibrator.scales()["input"], 4)
        0.01
    """

    def __init__(self, model: Module, observer: Any = OBSERVER):
        self.model, self.observer = check_model("Calibrator", model), observer
        self.batches: list[Any] = []

    def collect(self, batch: Any) -> Calibrator:
        """Add a copy of a batch to the data.

        Args:
            batch: inputs, or (inputs, targets).

        Returns:
            The Calibrator itself, so that calls can be chained.
        """
        self.batches += keep_batches("Calibrator", iter([batch]))       # a loader may fill the same arrays again
        return self

    def scales(self) -> dict[str, float]:
        """The scales that `calibrate` finds in the batches so far; it raises the same errors."""
        return calibrate(self.model, self.batches, self.observer)

    def quantize(self) -> Module:
        """The static int8 model with the ranges of the batches so far; it raises the same errors as `to_int8`."""
        return self.model.to_int8(calibration=self.batches, observer=self.observer)
