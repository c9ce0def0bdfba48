"""The road from a float model and data to a draft of its integer plan; conversion, diagnosis and the search for a mixture
of precisions take it."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from .. import checks
from ..batches import Arrays, keep_batches, read_inputs
from ..errors import DtypeError, QuantizationError
from ..graph import Graph, trace
from ..graph.passes import fold_constants
from ..nn.module import Module
from ..plan.lowering import WEIGHTS
from ..plan.plan import Plan
from ..plan.steps import ROUNDINGS
from ..tensor import INT8
from .draft import Draft, batch_norm_folded, same_numbers
from .ranges.calibration import Calibration, calibrate
from .ranges.observers import observer_for, observer_name, unmatched
from .repairs import REPAIRS, correct_bias, equalize, learn_rounding, migrate_scales

OBSERVER = "mse"     # the default: docs/accuracy.md has the table that chose it
# Why a repair finds nothing to do
IDLE = {"equalize": "no two layers have only ReLU, pooling or flattening between them",
        "migrate_scales": "no layer norm or RMS norm is read by linear layers alone",
        "learn_rounding": "no weight rounds better the other way, or no layer computes in integers",
        "correct_bias": "no layer computes in integers"}


@dataclass(frozen=True)
class Options:
    """How a model becomes integers; `to_int8` documents them."""

    observer: Any = OBSERVER
    per_channel: bool = True
    rounding: str = "single"
    weights: str = "max"
    skip: Sequence[str] = ()
    repairs: Sequence[str] = ()

    def checked(self, what: str, model: Module) -> Options:
        """These options for `model`.

        Raises:
            DtypeError: the model is int8 already, a layer is none of its, or an option is unknown; naming `what`.
        """
        checks.instance(what, "model", model, Module)
        if isinstance(model, Plan) or any(t.dtype == INT8 for _, t in model.named_tensors()):
            raise DtypeError(f"{what}: {type(model).__name__} is already int8, or a plan: convert the float model")
        for name, value, known in (("weights", self.weights, WEIGHTS), ("rounding", self.rounding, ROUNDINGS)):
            if not isinstance(value, str) or value not in known:
                raise DtypeError(f"{what}: expected {name} {' or '.join(known)}, got {checks.described(value)}")
        per_channel = checks.flag(what, "per_channel", self.per_channel)
        repairs = checks.names(what, "repairs", self.repairs)
        observer_for(self.observer)
        for name in repairs:
            if name not in REPAIRS:
                raise DtypeError(f"{what}: expected repairs among {', '.join(REPAIRS)}, got {name!r}")
        skip = checked_layers(f"{what}: skip", model, self.skip)
        checked_layers(f"{what}: observer", model, unmatched(self.observer, [name for name, _ in model.named_modules()]))
        return Options(self.observer, per_channel, self.rounding, self.weights, skip, repairs)


def checked_layers(what: str, model: Module, names: Sequence[str]) -> list[str]:
    """`names`, each of which is a layer of `model`.

    Raises:
        DtypeError: one is not; names the layers there are.
    """
    known = [name for name, _ in model.named_modules() if name]
    names = checks.names(*what.split(": ")[:2], names)
    for name in names:
        if name not in known:
            raise DtypeError(f"{what}: {type(model).__name__} has no layer {name!r}; its layers are {', '.join(known)}")
    return names


def started(data: Any, model: Module) -> tuple[Arrays, Iterator[Arrays]]:
    """The first batch of calibration data, and all of them, that one included.

    Raises:
        QuantizationError: there is none, or it is not finite.
    """
    batches = read_inputs("calibration", data, model)
    first = next(batches, None)
    if first is None:
        raise QuantizationError("calibration: expected at least one batch of data, got none")
    if any(x.dtype.kind == "f" and not np.isfinite(x).all() for x in first):
        raise QuantizationError("calibration: NaN or infinite values in the input, batch 0; expected finite data")
    return first, chain([first], batches)


def _pairs(batches: Iterable[Arrays]) -> Iterator[tuple[Arrays]]:
    return ((inputs,) for inputs in batches)


def drafted(model: Module, calibration: Any, options: Options, progress: bool = False) -> tuple[Draft, Calibration]:
    """The model traced, its ranges taken, its repairs done; and what calibration found.

    Raises:
        As `to_int8`.
    """
    first, batches = started(keep_batches("calibration", calibration) if options.repairs else calibration, model)
    choose = observer_for(options.observer)
    graph = trace(model, *first)
    fold_constants(graph)
    how = {"per_channel": options.per_channel, "rounding": options.rounding, "weights": options.weights}
    if not options.repairs:
        found = calibrate(graph, _pairs(batches), choose, progress)
        return Draft(graph, found.ranges, how, options.skip), found
    kept = list(batches)        # repairs go over them again
    graph, done = batch_norm_folded(graph), []

    def repaired(name: str, before: Graph, after: Graph) -> None:
        if same_numbers(before, after):
            warnings.warn(f"the repair {name} had nothing to do: {IDLE[name]}", stacklevel=4)
        else:
            done.append(name)

    for name, repair in (("equalize", equalize), ("migrate_scales", lambda g: migrate_scales(g, kept))):
        if name in options.repairs:
            before, graph = graph, repair(graph)
            repaired(name, before, graph)
    found = calibrate(graph, _pairs(kept), choose, progress)
    draft = Draft(graph, found.ranges, how, options.skip, repairs=done)
    for name, fit in (("learn_rounding", learn_rounding), ("correct_bias", correct_bias)):
        if name in options.repairs:
            before, draft = draft.graph, fit(draft, kept)
            repaired(name, before, draft.graph)
    return draft, found


def planned(draft: Draft, found: Calibration, options: Options, skip: Any = None) -> Plan:
    """The draft's plan, which says what it was calibrated and repaired by."""
    plan, name = draft.lowered(skip).plan, observer_name(options.observer)
    plan.info["calibration"] = {"observer": name, "samples": found.samples, "digest": found.digest}
    plan.info["repairs"] = list(draft.repairs)
    return plan
