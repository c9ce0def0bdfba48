"""From a float model and data to its lowering: tracing, repairs, calibration. Conversion, diagnosis and the search for a
mixture of precisions begin with it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np

from .. import checks
from ..batches import Arrays, keep_batches, read_inputs
from ..errors import DtypeError, QuantizationError
from ..graph import Graph, trace
from ..graph.operands import have_same_constants
from ..graph.passes import fold_constants, simplify
from ..nn.module import Module
from ..options import Options, Skip
from ..plan.info import CalibrationInfo
from ..plan.lowering import Lowering
from ..plan.plan import Plan
from ..tensors import INT8
from .ranges.calibration import calibrate
from .ranges.observers import find_unmatched, observer_for, observer_name
from .repairs import correct_bias, equalize, learn_rounding, migrate_scales

# The reasons why a repair finds nothing to do
IDLE = {"equalize": "no two layers have only ReLU, pooling or flattening between them",
        "migrate_scales": "no layer norm or RMS norm is read by linear layers alone",
        "learn_rounding": "no weight rounds better the other way, or no layer computes in integers",
        "correct_bias": "no layer computes in integers"}


def check_options(what: str, model: Module, options: Options) -> Options:
    """Check the options for `model`, and return them in plain Python types.

    Args:
        what: the function that the user called; errors begin with its name.
        model: the model that is converted.
        options: the options as the user gave them.

    Raises:
        DtypeError: the model is int8 already, it has no layer of a given name, or an option is unknown.
    """
    checks.instance(what, "model", model, Module)
    if isinstance(model, Plan) or any(t.dtype == INT8 for _, t in model.named_tensors()):
        raise DtypeError(f"{what}: {type(model).__name__} is already int8, or a plan: convert the float model")
    options = options.check(what)
    observer_for(options.observer)
    check_layers(f"{what}: skip", model, options.skip)
    check_layers(f"{what}: observer", model, find_unmatched(options.observer, [name for name, _ in model.named_modules()]))
    return options


def check_layers(what: str, model: Module, names: Skip) -> list[str]:
    """Check that each of `names` is a layer of `model`, and return them.

    Raises:
        DtypeError: one is not; the message names the layers of the model.
    """
    known = [name for name, _ in model.named_modules() if name]
    who, option = what.split(": ")
    found = checks.names(who, option, names)
    for name in found:
        if name not in known:
            raise DtypeError(f"{what}: {type(model).__name__} has no layer {name!r}; its layers are {', '.join(known)}")
    return found


def read_first(data: Any, model: Module) -> tuple[Arrays, Iterator[Arrays]]:
    """The first batch of calibration data, and an iterator over all batches, which begins with the first.

    Raises:
        QuantizationError: there is no batch, or the first is not finite.
    """
    batches = read_inputs("calibration", data, model)
    first = next(batches, None)
    if first is None:
        raise QuantizationError("calibration: expected at least one batch of data, got none")
    if any(x.dtype.kind == "f" and not np.isfinite(x).all() for x in first):
        raise QuantizationError("calibration: NaN or infinite values in the input, batch 0; expected finite data")
    return first, chain([first], batches)


def make_lowering(model: Module, calibration: Any, options: Options, progress: bool = False) -> Lowering:
    """Trace a model, do its repairs, take its ranges from the data, and lower it.

    Args:
        model: the float model.
        calibration: batches, as `to_int8` takes them. They are read once, and kept in memory if there are repairs.
        options: the options that `check_options` returned.
        progress: whether to show a bar.

    Raises:
        TraceError, QuantizationError, DtypeError: as `to_int8`.
    """
    first, stream = read_first(keep_batches("calibration", calibration) if options.repairs else calibration, model)
    batches = list(stream) if options.repairs else []       # repairs go over the batches again
    graph = trace(model, *first)
    done: list[str] = []
    fold_constants(graph)

    def note(name: str, before: Graph, after: Graph) -> None:
        if have_same_constants(before, after):
            warnings.warn(f"the repair {name} had nothing to do: {IDLE[name]}", stacklevel=4)
        else:
            done.append(name)

    if options.repairs:
        graph = simplify(graph)
    for name, repair in (("equalize", equalize), ("migrate_scales", lambda g: migrate_scales(g, batches))):
        if name in options.repairs:
            before, graph = graph, repair(graph)
            note(name, before, graph)
    found = calibrate(graph, ((inputs,) for inputs in batches or stream), observer_for(options.observer), progress)
    source = CalibrationInfo(observer_name(options.observer), found.samples, found.digest)
    lowering = Lowering(graph, found.ranges, options, calibration=source)
    for name, fit in (("learn_rounding", learn_rounding), ("correct_bias", correct_bias)):
        if name in options.repairs:
            before, lowering = lowering.graph, fit(lowering, batches)
            note(name, before, lowering.graph)
    return replace(lowering, repairs=done) if done else lowering
