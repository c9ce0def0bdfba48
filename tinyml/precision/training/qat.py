"""prepare_qat(model, example): prepare a float model for quantization-aware training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ... import checks
from ...batches import Arrays, keep_batches, read_inputs
from ...errors import DtypeError, ShapeError
from ...graph import trace
from ...nn import norms as norm_layers
from ...nn.module import Module
from ...options import Options
from ...plan.plan import Plan
from ...tape import no_grad
from ...tensors import INT8
from ..ranges.calibration import calibrate
from ..static import check_layers
from .model import QATModel


def _copy_with_moments(model: Module, batches: list[Arrays]) -> Module:
    """A copy whose batch norms have the moments of these batches, from which the running moments may differ much."""
    copy = model.copy().eval()
    norms = [m for m in copy.modules() if isinstance(m, norm_layers.BatchNorm)]
    with no_grad():
        for i, batch in enumerate(batches if norms else []):
            for m in norms:
                m.training, m.momentum = True, 1 / (i + 1)
            copy(*batch)
    return copy


def prepare_qat(model: Module, example: Any, learn_scales: bool = False, freeze_after: int | None = None,
                per_channel: bool = True, skip: Sequence[str] = ()) -> QATModel:
    """A copy of a model that trains as its int8 form will compute. A Trainer trains it, and its `to_int8()` converts it.

    Values are quantized and dequantized on the tape, scale * (q(x) - zero_point), and gradients pass rounding as if it were
    not there (the straight-through estimator).

    Args:
        model: a float32 model, which itself stays as it is.
        example: typical inputs: an array, a batch as a tuple (input, target), or a list of either. For a model of several
            inputs, `input` is a tuple of them. The first ranges are those of their activations, with batch norm as in
            training.
        learn_scales: whether scales are learned by gradient (LSQ) rather than from the ranges of the data. Zero points are
            not learned.
        freeze_after: the number of training forwards after which the running moments of batch norm, ranges and scales
            freeze; None if they freeze only when `freeze()` is called.
        per_channel: one weight scale per output channel, otherwise one per layer.
        skip: names of the layers that stay float, with all layers inside them.

    Returns:
        A QATModel.

    Raises:
        DtypeError: the model is prepared, int8 or float16 already, no layer of it runs in integers, or it has no layer of a
            name in `skip`.
        ShapeError: freeze_after is not a number of steps, or the example has no batch, or one in which batch norm sees a
            single value per channel.
        TraceError, QuantizationError: as `to_int8`.

    Source: Jacob et al. 2018, section 3; Esser et al. 2020 (LSQ).

    Example:
        >>> import numpy as np
        >>> from tinyml import nn, optim, precision
        >>> x, y = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4), np.array([0, 1, 1])
        >>> prepared = precision.prepare_qat(nn.Sequential(nn.Linear(4, 2)), x)
        >>> optimizer = optim.SGD(prepared.parameters(), 0.1)
        >>> nn.functional.cross_entropy(prepared.train()(x), y).backward()
        >>> optimizer.step()
        >>> prepared.to_int8().info.calibration.observer
        'qat'
    """
    checks.instance("prepare_qat", "model", model, Module)
    learn_scales = checks.flag("prepare_qat", "learn_scales", learn_scales)
    stored = any(t.dtype in (INT8, np.float16) for _, t in model.named_tensors())     # which nothing trains
    if stored or isinstance(model, (Plan, QATModel)):
        raise DtypeError(f"prepare_qat: expected a float32 model, got {type(model).__name__}: prepared or converted")
    freeze_after = None if freeze_after is None else checks.whole("prepare_qat", "freeze_after", freeze_after)
    options = Options(per_channel=per_channel, skip=skip).check("prepare_qat")
    check_layers("prepare_qat: skip", model, options.skip)
    copy = model.copy()
    data = [example] if isinstance(example, tuple) else example
    batches = list(read_inputs("prepare_qat", keep_batches("prepare_qat", data), model))
    if not batches:
        raise ShapeError("prepare_qat: expected at least one batch as example, got none")
    graph = trace(copy, *batches[0])
    found = calibrate(trace(_copy_with_moments(copy, batches), *batches[0]), [(b,) for b in batches])
    prepared = QATModel(copy, graph, found, options, learn_scales, freeze_after)
    if not prepared.weights:
        raise DtypeError(f"prepare_qat: {type(model).__name__} has no layer that runs in integers"
                         + (f" outside {', '.join(options.skipped)}" if options.skipped else ""))
    return prepared
