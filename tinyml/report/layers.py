"""The layers of a report: the steps of a plan or the ops of a module, put together by layer."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from ..nn.module import Module, is_inside
from ..ops import Codec, conv, linear
from ..plan.plan import FLOAT_STEPS, Plan
from ..plan.product_steps import Product
from ..plan.steps import Island, Step
from ..tape import Record
from .eager import is_dynamic
from .figures import NO_LAYER, Histogram, Layer
from .reasons import hardly_smaller, no_gain
from .timing import Calls, StepTimes
from .twins import codecs

BY_DESIGN = "float by design: only the weights of linear, conv2d and embedding layers are stored as int8 or float16"
LEFT = "its weights stayed float32: left so on request (skip), or tied to one that was"
Histograms = dict[str, list[Histogram]]


def name_step(step: Step) -> str:
    """The name of the op that a step computes."""
    if isinstance(step, Product):
        return (conv.Conv2d if step.attrs["spatial"] else linear.Linear).name
    name: str = step.attrs.get("op", step.kind)
    return name


def plan_layers(plan: Plan, tensors: dict[str, dict[str, int]], memory: dict[str, int], took: list[StepTimes] | None,
                calls: Calls | None, weights: Histograms, activations: Histograms) -> list[Layer]:
    """The layers of a plan in the order in which they run; steps that belong to no layer come last."""
    known, names = codecs(plan.steps), list(dict.fromkeys(s.name for s in plan.steps))
    margins: dict[str, float] = {}
    for headroom in plan.certificate():
        margins[headroom.layer] = min(float(headroom.margin.min(initial=1)), margins.get(headroom.layer, 1.0))
    floats = _why_floats(plan)
    observer = plan.info.calibration.observer if plan.info.calibration else None
    layers = []
    for name in sorted(names, key=lambda name: not name):
        steps = [s for s in plan.steps if s.name == name]
        layer = Layer(name or NO_LAYER, [name_step(s) for s in steps], _precision(steps), memory.get(name, 0),
                      sum(tensors.get(name, {}).values()), tensors.get(name, {}), margin=margins.get(name),
                      floats=floats.get(name, []), weights=weights.get(name, []), activations=activations.get(name, []))
        codec = next((known[s.output] for s in reversed(steps) if s.output in known), None)
        if codec is not None:
            layer.observer, (layer.lo, layer.hi) = _observer_of(observer, name), _range(codec)
        mine = [] if took is None else [t for t, s in zip(took, plan.steps) if s.name == name]
        _fill_times(layer, mine, calls)
        codes = sum(s.layer.unpacked().size for s in steps if isinstance(s, Product))
        smaller = hardly_smaller(layer.tensors, codes)
        layer.notes += [smaller] if smaller else []
        layers.append(layer)
    return layers


def _precision(steps: list[Step]) -> str:
    """The precision in which the steps compute; "" if they only turn floats into codes or back."""
    kinds = {"float32" if isinstance(s, FLOAT_STEPS) else "int8" for s in steps if s.kind not in ("quantize", "dequantize")}
    return " + ".join(sorted(kinds, reverse=True))


def _range(codec: Codec) -> tuple[float, float]:
    """The numbers that the codes -128 and 127 represent, equation (1)."""
    lo, hi = (float(codec.scale) * (code - codec.zero_point) for code in (-128, 127))
    return lo, hi


def _observer_of(observer: str | None, layer: str) -> str | None:
    """The observer of a layer, from a plan's record: one name, or JSON of names by layer, of which the innermost counts."""
    if not observer or not observer.startswith("{"):
        return observer
    try:
        names = json.loads(observer)
    except (ValueError, RecursionError):        # the class of a user's observer
        return observer
    fitting = [name for name in names if is_inside(layer, name)] if isinstance(names, dict) else []
    return str(names[max(fitting, key=len)]) if fitting else "minmax"


def _why_floats(plan: Plan) -> dict[str, list[str]]:
    """Why the float steps of a plan are float, by layer; empty if all steps are float."""
    if all(isinstance(s, FLOAT_STEPS) for s in plan.steps):
        return {}
    noted = plan.info.floats
    found: dict[str, list[str]] = {}
    for step, label in zip([s for s in plan.steps if isinstance(s, FLOAT_STEPS)], plan.islands):
        keys = [label, *sorted((k for k in noted if step.name and k and is_inside(step.name, k)), key=len, reverse=True)]
        why = next((noted[k] for k in keys if k in noted), None)
        text = f"{name_step(step)} stayed float32" + (f": {why}" if why else "")
        mine = found.setdefault(step.name, [])
        # a clamp that could not be fused into the layer has no reason of its own
        clamp = isinstance(step, Island) and step.op.clamp(**step.attrs["attrs"]) is not None
        mine += [] if text in mine or (why is None and clamp and mine) else [text]
    return found


def module_layers(model: Module, tensors: dict[str, dict[str, int]], memory: dict[str, int],
                  took: list[tuple[str, Record, StepTimes]] | None, calls: Calls | None, weights: Histograms,
                  activations: Histograms) -> list[Layer]:
    """The layers of a module that have tensors or run ops, in the order of its attributes; the model itself comes last."""
    stored = {getattr(m, key).dtype for m in model.modules() for key in m.stored_weights}
    converted = bool(stored & {np.dtype(np.int8), np.dtype(np.float16)})
    ties, layers = _ties(model), []
    for name, m in sorted(dict(model.named_modules()).items(), key=lambda item: not item[0]):
        ran = [(r, t) for layer, r, t in took or [] if layer == name]
        if not (ran or memory.get(name) or tensors.get(name) or not name or m.stored_weights):
            continue
        kinds = [getattr(m, key).dtype.name for key in m.stored_weights]
        computes = {"float32"} if ran or memory.get(name) else set()
        layer = Layer(name or NO_LAYER, [r.op.name for r, _ in ran] or [type(m).__name__],
                      " + ".join(sorted(set(kinds) or computes, reverse=True)), memory.get(name, 0),
                      sum(tensors.get(name, {}).values()), tensors.get(name, {}), weights=weights.get(name, []),
                      activations=activations.get(name, []))
        if any(is_dynamic(r) for r, _ in ran):
            layer.observer = "row by row"
        if converted:
            layer.floats += [LEFT] if "float32" in kinds else [BY_DESIGN] if computes and not kinds else []
        _fill_times(layer, [t for _, t in ran] if took is not None else [], calls)
        layer.notes += [f"its {key} is that of {origin}, and counts there" for key, origin in ties.get(name, [])]
        smaller = hardly_smaller(layer.tensors, sum(getattr(m, key).numel() for key in m.stored_weights
                                                    if getattr(m, key).dtype == np.int8 and key in layer.tensors))
        layer.notes += [smaller] if smaller else []
        if took is not None and not ran:
            _fill_times(layer, [StepTimes()], calls)
        layers.append(layer)
    return layers


def _ties(model: Module) -> dict[str, list[tuple[str, str]]]:
    """The tensors of each layer that an earlier layer has too: the name, and the earlier layer."""
    first: dict[int, str] = {}
    found: dict[str, list[tuple[str, str]]] = {}
    for prefix, m in model.named_modules():
        for key, t in m.own_tensors():
            if id(t) in first:
                found.setdefault(prefix, []).append((key, first[id(t)]))
            first.setdefault(id(t), prefix)
    return found


def _fill_times(layer: Layer, parts: list[StepTimes], calls: Calls | None) -> None:
    """Fill in the times of a layer, which are the sums over its parts, and what follows from them."""
    if calls is None or not parts:
        return
    sums: dict[str, Any] = {name: sum(getattr(p, name) for p in parts)
                            for name in ("quantize", "multiply", "requantize", "other", "total")}
    layer.quantize_ms, layer.multiply_ms, layer.requantize_ms, layer.other_ms, layer.total_ms = sums.values()
    layer.together = next((p.together for p in parts if p.together), "")
    if layer.together:      # otherwise the parts of one product and the whole of another would be added
        layer.multiply_ms, layer.requantize_ms = sums["multiply"] + sums["requantize"], None
    known = [p.float32 for p in parts if p.float32 is not None]
    layer.float32_ms = sum(known) if len(known) == len(parts) else None
    if layer.float32_ms and layer.total_ms and any(p.narrow and p.total for p in parts):
        layer.speedup = layer.float32_ms / layer.total_ms
    reason = no_gain(layer, parts, calls)
    layer.notes += [reason] if reason else []
    if layer.together:
        layer.notes.append(f"multiplying and requantizing are not told apart: {layer.together}")
