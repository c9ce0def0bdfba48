"""A Plan in a file: its steps, inputs and outputs as JSON, its codes, scales and tables as arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._kernels import fixed_point
from ..errors import FileError
from ..graph import Batch, resolve
from ..ops import Codec
from ..precision.encoding import decode, encode
from ..precision.plan import Plan, Slot
from ..precision.steps import STEPS
from ..tensor import OPS


def describe_plan(plan: Plan) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Description and arrays, each array named after its step: "3.weight"."""
    arrays: dict[str, np.ndarray] = {}
    steps = []
    for at, step in enumerate(plan.steps):
        own = dict(step.arrays)
        attrs = {k: encode(v, own) for k, v in step.attrs.items() if k != "attrs"}
        if "attrs" in step.attrs:
            attrs["attrs"] = {k: encode(v, own) for k, v in step.attrs["attrs"].items()}
        steps.append({"kind": step.kind, "inputs": step.inputs, "output": step.output, "name": step.name, "attrs": attrs})
        arrays.update({f"{at}.{name}": a for name, a in own.items()})
    about = {"kind": "plan", "steps": steps, "info": plan.info, "inputs": [_slot(s) for s in plan.inputs],
             "outputs": [_slot(s) for s in plan.outputs]}
    return about, arrays


def _slot(slot: Slot) -> dict[str, Any]:
    codec = None if slot.codec is None else [float(slot.codec.scale), slot.codec.zero_point]
    return {"value": slot.value, "shape": encode(tuple(slot.shape), {}), "codec": codec, "floats": slot.floats}


def _load_slot(about: dict[str, Any]) -> Slot:
    codec = None
    if about["codec"] is not None:
        scale, zero_point = about["codec"]
        codec = Codec(fixed_point.check_scale(scale, "codec")[()], int(np.int8(zero_point)))
    shape = decode(about["shape"], {})
    if not isinstance(shape, tuple) or not all(isinstance(n, (int, Batch)) for n in shape):
        raise FileError(f"expected the shape of an input or output, got {shape!r}")
    return Slot(int(about["value"]), shape, codec, bool(about["floats"]))


def load_plan(about: dict[str, Any], arrays: dict[str, np.ndarray]) -> Plan:
    """The plan that `describe_plan` described.

    Raises:
        FileError: unknown steps or ops, values read before they are made, steps that do not fit each other.
    """
    inputs, outputs = ([_load_slot(s) for s in about[k]] for k in ("inputs", "outputs"))
    if not inputs or not outputs or about["info"]["single_output"] is not (len(outputs) == 1):
        raise FileError(f"expected inputs and outputs, got {len(inputs)} and {len(outputs)}")
    made = {s.value for s in inputs}
    steps = []
    for at, s in enumerate(about["steps"]):
        if s["kind"] not in STEPS:
            raise FileError(f"step {at} is of unknown kind {s['kind']!r}")
        own = {name.split(".", 1)[1]: a for name, a in arrays.items() if name.split(".", 1)[0] == str(at)}
        attrs = {k: decode(v, own) for k, v in s["attrs"].items() if k != "attrs"}
        if "attrs" in s["attrs"]:
            attrs["attrs"] = {k: decode(v, own) for k, v in s["attrs"]["attrs"].items()}
        if s["kind"] in ("codes", "island") and attrs["op"] not in OPS:
            raise FileError(f"step {at} uses the op {attrs['op']!r}, which is not known here; import its definition first")
        if s["kind"] == "codes" and OPS[attrs["op"]].int8 != "codes":
            raise FileError(f"step {at} runs {attrs['op']} on codes, which has no such rule")
        if not made.issuperset(s["inputs"]) or s["output"] in made:
            raise FileError(f"step {at} reads values that no step makes before it, or makes one again")
        made.add(s["output"])
        steps.append(STEPS[s["kind"]](list(s["inputs"]), s["output"], str(s["name"]), attrs, own))
    if not made.issuperset(o.value for o in outputs):
        raise FileError("an output is made by no step")
    _check_flow(inputs, outputs, steps)
    return Plan(inputs, outputs, steps, about["info"])


def _check_flow(inputs: list[Slot], outputs: list[Slot], steps: list) -> None:
    """Run every step once on zeros of the shapes before it: what does not fit is found here and not in use."""
    batch = 2
    values = {s.value: np.zeros(resolve(s.shape, batch), np.float32 if s.floats else np.int64) for s in inputs}
    for step in steps:
        values[step.output] = np.zeros_like(step.run([values[i] for i in step.inputs], batch))
    for slot in outputs:
        if values[slot.value].shape != resolve(slot.shape, batch):
            raise FileError(f"expected an output of shape {resolve(slot.shape, batch)}, got {values[slot.value].shape}")
