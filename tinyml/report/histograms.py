"""Histograms of weights and codes."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from .._kernels.rows.codes import quantize_rows, to_unsigned
from ..graph import Batch, check_inputs
from ..nn.module import Module
from ..plan.plan import Plan
from ..plan.program import observe
from .eager import is_dynamic, record_ops, rows_of
from .figures import Histogram
from .layers import name_step

BINS = 64       # of four codes each
PIECE = 64      # the samples that are observed at a time, because all values of all steps are in memory then


def count_codes(what: str, counts: np.ndarray) -> Histogram:
    """Counts of the codes -128 to 127 in bins."""
    return Histogram(what, "codes", -128.0, 128.0, counts.reshape(BINS, -1).sum(axis=1).astype(int).tolist())


def count_array(what: str, x: np.ndarray) -> Histogram | None:
    """The histogram of an array of int8 codes or floats; None if it has other values, or none that is finite."""
    if x.dtype == np.int8:
        return count_codes(what, np.bincount(to_unsigned(x).ravel(), minlength=256)) if x.size else None
    finite = x[np.isfinite(x)].astype(np.float64) if x.dtype.kind == "f" else x[:0]
    if not finite.size:
        return None
    lo, hi = float(finite.min()), float(finite.max())
    if lo == hi:
        lo, hi = lo - max(abs(lo), 1.0) / 2, hi + max(abs(hi), 1.0) / 2
    share = (finite / 2 - lo / 2) / (hi / 2 - lo / 2)       # halves, because the difference of two floats may overflow
    at = np.minimum((share * BINS).astype(np.intp), BINS - 1)
    return Histogram(what, str(x.dtype), lo, hi, np.bincount(at, minlength=BINS).tolist())


def weights(model: Module) -> dict[str, list[Histogram]]:
    """Histograms, by layer, of the weights of products and of tables; tied weights count once."""
    found: dict[str, list[Histogram]] = {}
    if isinstance(model, Plan):
        arrays = [(s.name, key, a) for s in model.steps if s.kind != "table" for key, a in s.arrays.items() if a.ndim >= 2]
    else:
        seen: dict[int, tuple[str, str, np.ndarray]] = {}
        for name, m in model.named_modules():
            for key in m.stored_weights:
                seen.setdefault(id(getattr(m, key)), (name, key, getattr(m, key).array))
        arrays = list(seen.values())
    for layer, key, a in arrays:
        h = count_array(key, a)
        if h is not None:
            found.setdefault(layer, []).append(h)
    return found


def activations(model: Module, batches: Iterable[tuple[np.ndarray, ...]]) -> dict[str, list[Histogram]]:
    """Histograms of codes by layer: those that the steps of a plan make, or those of the inputs of dynamic products.

    A step that passes codes through has no histogram.
    """
    counts: dict[tuple[int, str, str], np.ndarray] = {}

    def count(at: int, layer: str, what: str, u: np.ndarray) -> None:
        key = at, layer, what
        counts[key] = counts.get(key, 0) + np.bincount(u.ravel(order="K"), minlength=256)

    for inputs in batches:
        if isinstance(model, Plan):
            for piece in _pieces(model, inputs):
                _count_steps(model, piece, count)
            continue
        for at, (layer, r) in enumerate(record_ops(model, list(inputs))):
            if is_dynamic(r):
                count(at, layer, f"input of {r.op.name}", quantize_rows(rows_of(r))[0])
    found: dict[str, list[Histogram]] = {}
    for (_, layer, what), n in counts.items():
        found.setdefault(layer, []).append(count_codes(what, n))
    return found


def _pieces(plan: Plan, inputs: tuple[np.ndarray, ...]) -> list[tuple[np.ndarray, ...]]:
    """A batch in pieces of PIECE samples, if the batch is the first dimension of all inputs and no other."""
    if any(s.shape[:1] != (Batch(),) or any(isinstance(n, Batch) for n in s.shape[1:]) for s in plan.inputs):
        return [inputs]
    return [tuple(x[at : at + PIECE] for x in inputs) for at in range(0, len(inputs[0]), PIECE)]


def _count_steps(plan: Plan, inputs: tuple[np.ndarray, ...],
                 count: Callable[[int, str, str, np.ndarray], None]) -> None:
    values = {s.value: x for s, x in zip(plan.inputs, inputs)}
    outputs = tuple(s.output for s in plan.steps)
    batch = check_inputs([s.shape for s in plan.inputs], [x.shape for x in inputs])
    made, _ = observe(plan.steps, values, outputs, batch)
    for at, (step, y) in enumerate(zip(plan.steps, made)):
        if y.dtype == np.uint8 and step.kind not in ("codes", "island"):
            count(at, step.name, "input" if step.kind == "quantize" else name_step(step), y)
