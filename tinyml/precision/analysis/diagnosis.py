"""diagnose(model, data): in which layers int8 loses most, why, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from tqdm import tqdm

from ... import checks
from ...batches import Arrays, keep_batches
from ...graph.passes import simplify
from ...nn.module import Module, is_inside
from ...options import OBSERVER, Options
from ...plan.lowering import Lowering
from ...tables import Shown, layout
from ..static import check_options, make_lowering
from .causes import Cause, decibels, find_cause
from .evidence import Layer, by_channel, gather
from .score import Score

SAMPLES = 512       # of the data, from which the signal-to-noise ratio of a layer is taken


@dataclass
class LayerDiagnosis:
    """What int8 costs in one layer; `Diagnosis.layers` holds one for each layer.

    Attributes:
        layer: the name of the layer.
        weight_snr: the signal-to-noise ratio of its weights, in decibels; larger is better.
        activation_snr: that of its result if it alone is in int8.
        only_drop: what the metric loses with only this layer in int8; in points for accuracy and agreement.
        without_drop: what it loses with all layers in int8 but this one.
        cause: what is wrong; "" if nothing stands out.
        evidence: the figures that show it.
        remedy: what to do about it.

    Example:
        >>> import numpy as np
        >>> from tinyml import models, precision
        >>> found = precision.diagnose(models.MLP(4, 3, 2), np.random.default_rng(0).standard_normal((64, 4)))
        >>> first = found.layers[0]
        >>> first.layer, first.weight_snr > 30, first.cause
        ('1', True, '')
    """

    layer: str
    weight_snr: float
    activation_snr: float
    only_drop: float
    without_drop: float
    cause: str = ""
    evidence: str = ""
    remedy: str = ""


@dataclass
class Diagnosis(Shown):
    """What int8 costs in each layer of a model, which `diagnose` returns. It prints as a table with the causes below it.

    Attributes:
        metric: "accuracy", "agreement" or "loss", which the values and drops are of; see `diagnose`.
        float_value: the metric of the float model.
        int8_value: the metric of the model with all layers in int8.
        drop: what that model loses; in points for accuracy and agreement.
        layers: a LayerDiagnosis for each layer that multiplies in integers, in order.

    Example:
        >>> import numpy as np
        >>> from tinyml import models, precision
        >>> found = precision.diagnose(models.MLP(4, 3, 2), np.random.default_rng(0).standard_normal((64, 4)))
        >>> found.metric, found.float_value, found.worst in found.layers
        ('agreement', 1.0, True)
    """

    metric: str
    float_value: float
    int8_value: float
    drop: float
    layers: list[LayerDiagnosis]

    def as_dict(self) -> dict[str, Any]:
        """The figures, for JSON."""
        return asdict(self)

    @property
    def worst(self) -> LayerDiagnosis | None:
        """The layer without which the model loses least: the first to look at."""
        return min(self.layers, key=lambda r: r.without_drop, default=None)

    def __str__(self) -> str:
        unit = "" if self.metric == "loss" else " points"
        shown = "{:.4f}" if self.metric == "loss" else "{:.2%}"
        head = ("layer", "weights dB", "result dB", "only it", "all but it", "cause")
        digits = 4 if self.metric == "loss" else 2
        rows = [(r.layer, f"{r.weight_snr:.1f}", f"{r.activation_snr:.1f}", f"{r.only_drop:.{digits}f}",
                 f"{r.without_drop:.{digits}f}", r.cause or "-") for r in self.layers]
        table = layout([head, *rows], left=(0, 5)).splitlines()
        lines = [f"{self.metric}: float32 {shown.format(self.float_value)}, int8 {shown.format(self.int8_value)}, "
                 f"lost {self.drop:.{digits}f}{unit}", *table]
        causes = [f"{r.layer}: {r.cause}: {r.evidence}. Remedy: {r.remedy}" for r in self.layers if r.cause]
        return "\n".join(lines + ([table[1], *causes] if causes else []))


def _error(lowering: Lowering, layer: Layer, batches: list[Arrays]) -> tuple[float, float]:
    """The signal-to-noise ratio of a layer's result if only it is in int8, and the share of the noise that shifts means."""
    only, value = lowering.keep_float(lambda module: not is_inside(module, layer.name)), layer.fused.output
    signal, noise, shift, count = 0.0, 0.0, np.zeros(1), 0
    for inputs in batches:
        exact, wrong = (by_channel(found.compute_values(inputs, [value])[0], layer.y.images).astype(np.float64)
                        for found in (lowering.exact, only))
        wrong -= exact
        signal, noise = signal + np.square(exact).sum(), noise + np.square(wrong).sum()
        shift, count = shift + wrong.sum(axis=0), count + len(wrong)
    share = float(np.square(shift).sum() / count / noise) if noise else 0.0
    return (decibels(signal / noise) if noise else np.inf), share


def take_samples(score: Score) -> list[Arrays]:
    """Batches of the first SAMPLES samples of the data."""
    batches, count = [], 0
    for inputs in score.inputs:
        if count >= SAMPLES:
            break
        batches.append(tuple(x[: SAMPLES - count] for x in inputs))
        count += len(inputs[0])
    return batches


def find_layer_causes(lowering: Lowering, batches: list[Arrays],
                      names: Sequence[str]) -> dict[str, tuple[Layer, float, Cause | None]]:
    """The evidence, the signal-to-noise ratio and the cause for each of the layers `names`."""
    unfolded, lowering = lowering.fused, replace(lowering, graph=simplify(lowering.graph))
    found = {}
    for layer in gather(lowering, unfolded, batches):
        if layer.name in names and layer.name not in found:
            snr, share = _error(lowering, layer, batches)
            found[layer.name] = layer, snr, find_cause(layer, snr, share)
    return found


def _all_but(layer: str) -> Callable[[str], bool]:
    """Whether a layer is another one than this, or than those inside it."""
    return lambda name: not is_inside(name, layer)


def diagnose(model: Module, data: Any, calibration: Any = None, observer: Any = OBSERVER, per_channel: bool = True,
             rounding: str = "single", weights: str = "max", skip: Sequence[str] = (), repairs: Sequence[str] = (),
             progress: bool = False) -> Diagnosis:
    """Measure what int8 costs in each layer on `data`, and find out why, for the model that `to_int8` would make.

    Each layer is put in int8 by itself, and left in float by itself. The change of the metric and the signal-to-noise ratio
    of the layer are measured, and its weights, ranges and codes are searched for known causes.

    Args:
        model: a float model.
        data: batches of inputs, or of (inputs, targets) as `compare` takes them. They decide the metric: "accuracy" if they
            have a class for each sample; "loss" if they have a class for each position of a sequence, or float targets;
            "agreement" with the float model if they have no targets. They are gone over once and kept in memory.
        calibration: the data that ranges come from; None for those of `data`.
        observer: how ranges come from the data, as in `to_int8`.
        per_channel: one weight scale per output channel, otherwise one per layer.
        rounding: "single" or "double", as in `to_int8`.
        weights: "max" or "mse", as in `to_int8`.
        skip: names of the layers that stay float, with all layers inside them.
        repairs: names of the repairs that are done first, as in `to_int8`.
        progress: whether to show a bar on stderr.

    Returns:
        A Diagnosis, which prints as a table.

    Raises:
        ShapeError: there are no data, or targets do not fit.
        TraceError, QuantizationError, DtypeError: as `to_int8`.

    Example:
        >>> import numpy as np
        >>> from tinyml import models
        >>> found = diagnose(models.MLP(4, 3, 2), np.random.default_rng(0).standard_normal((64, 4)))
        >>> found.metric, [layer.layer for layer in found.layers]
        ('agreement', ['1', '3'])
    """
    options = check_options("diagnose", model, Options(observer, per_channel, rounding, weights, skip, repairs))
    progress = checks.flag("diagnose", "progress", progress)
    data = keep_batches("diagnose", data)
    lowering = make_lowering(model, data if calibration is None else calibration, options, progress)
    score = Score(model.copy().eval(), data)
    names, rows = lowering.layer_names(), []
    causes = find_layer_causes(lowering, take_samples(score), names)
    int8_value = score.value(lowering.plan)
    for name in tqdm(names, desc="diagnosing", unit="layer", disable=not progress):
        layer, snr, cause = causes[name]
        only = lowering.keep_float(_all_but(name)).plan
        without = lowering.keep_float([*options.skipped, name]).plan
        exact = layer.weight.astype(np.float64)
        rows.append(LayerDiagnosis(
            name, decibels(np.square(exact).sum() / max(np.square(layer.quantized - exact).sum(), 1e-300)), snr,
            score.drop(score.value(only)), score.drop(score.value(without)),
            *((cause.name, cause.evidence, cause.remedy) if cause else ())))
    return Diagnosis(score.metric, score.float_value, int8_value, score.drop(int8_value), rows)

