"""Plans in files: steps, inputs and outputs as JSON; codes, scales and tables as arrays."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .._kernels.products import fixed_point
from ..errors import FileError
from ..graph import Batch
from ..ops import Codec
from ..plan.info import PlanInfo
from ..plan.plan import FLOAT_STEPS, Plan, Slot
from ..plan.steps import STEPS, Step
from ..tensors import OPS
from . import trial
from .encoding import decode, encode

WITH_OP = ("codes", *(s.kind for s in FLOAT_STEPS))      # the kinds of steps that compute an op
LARGEST = 2**28     # elements per sample of an input or output: a gigabyte of float32


def describe_plan(plan: Plan) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """A description as plain data, and the arrays, named by the number of their step: "3.weight"."""
    arrays: dict[str, np.ndarray] = {}
    steps = []
    for at, step in enumerate(plan.steps):
        own = dict(step.arrays)
        attrs = {k: encode(v, own) for k, v in step.attrs.items() if k != "attrs"}
        if "attrs" in step.attrs:
            attrs["attrs"] = {k: encode(v, own) for k, v in step.attrs["attrs"].items()}
        steps.append({"kind": step.kind, "inputs": step.inputs, "output": step.output, "name": step.name, "attrs": attrs})
        arrays.update({f"{at}.{name}": a for name, a in own.items()})
    results = trial.run(plan, trial.SEED)
    check = None if results is None else {"seed": trial.SEED, "digest": trial.digest(plan, results)}
    inputs, outputs = ([_describe_slot(s) for s in slots] for slots in (plan.inputs, plan.outputs))
    return {"kind": "plan", "info": plan.info.to_json(), "check": check, "inputs": inputs, "outputs": outputs,
            "steps": steps}, arrays


def _describe_slot(slot: Slot) -> dict[str, Any]:
    codec = None if slot.codec is None else [float(slot.codec.scale), slot.codec.zero_point]
    return {"value": slot.value, "shape": encode(tuple(slot.shape), {}), "codec": codec, "floats": slot.floats}


def load_plan(about: dict[str, Any], arrays: dict[str, np.ndarray]) -> Plan:
    """The plan that `describe_plan` described.

    Raises:
        FileError: a step or an op is unknown, a value is read before it is made, steps do not fit each other, or kernels
            compute other numbers than on the machine that wrote the file.
    """
    inputs, outputs = ([_load_slot(s) for s in about[k]] for k in ("inputs", "outputs"))
    if not inputs or not outputs:
        raise FileError(f"expected inputs and outputs, got {len(inputs)} and {len(outputs)}")
    info = PlanInfo.from_json(about["info"], len(inputs), len(outputs))
    own: dict[str, dict[str, np.ndarray]] = {str(at): {} for at in range(len(about["steps"]))}
    for name, a in arrays.items():
        number, _, key = name.partition(".")
        if number not in own:
            raise FileError(f"tensor {name} belongs to no step")
        own[number][key] = a
    made = {s.value for s in inputs}
    steps = []
    for at, step in enumerate(about["steps"]):
        if type(step["output"]) is not int or not made.issuperset(step["inputs"]) or step["output"] in made:
            raise FileError(f"step {at} reads values that no step makes before it, or makes one again")
        made.add(step["output"])
        steps.append(_load_step(at, step, own[str(at)]))
    if len(made) != len(inputs) + len(steps) or not made.issuperset(o.value for o in outputs):
        raise FileError("two inputs are one value, or an output is made by no step")
    _check_codecs(inputs, outputs, steps)
    plan = Plan(inputs, outputs, steps, info)
    _check_numbers(plan, about["check"])
    return plan


def _check_numbers(plan: Plan, check: dict[str, Any] | None) -> None:
    """Run the plan, and raise FileError unless it gives what it gave when it was saved. Too large a plan is not run."""
    outputs = trial.run(plan, trial.SEED if check is None else check["seed"])
    if check is None:
        return      # it was too large to be run when it was saved
    if outputs is None:
        raise FileError(f"a value of the plan has more than {trial.LARGEST} elements, which none had when it was saved")
    found = trial.digest(plan, outputs)
    if found != check["digest"]:
        raise FileError("this machine computes other numbers than the one that wrote the file, which no supported machine "
                        f"does: for the input of seed {check['seed']!r:.80} the output's digest is {found}, expected "
                        f"{check['digest']!r:.80}. Please report it, with the output of tinyml.show_config()")


def _load_slot(about: dict[str, Any]) -> Slot:
    value, shape, codec, floats = (about[k] for k in ("value", "shape", "codec", "floats"))
    if type(value) is not int or type(floats) is not bool:
        raise FileError(f"expected the number of a value and whether it is floats, got {value!r:.80} and {floats!r:.80}")
    shape = decode(shape, {})
    sizes = [n.factor if isinstance(n, Batch) else n for n in shape] if isinstance(shape, tuple) else [None]
    if not all(type(n) is int and n >= 0 for n in sizes):
        raise FileError(f"expected the shape of an input or output, got {shape!r:.80}")
    if math.prod(n or 1 for n in sizes) > LARGEST:
        raise FileError(f"expected inputs and outputs of at most {LARGEST:,} elements per sample, got shape {shape!r:.80}")
    if codec is not None:
        scale, zero_point = codec
        if type(zero_point) is not int or not -128 <= zero_point <= 127:
            raise FileError(f"expected a zero point in int8, got {zero_point!r:.80}")
        codec = Codec(np.float32(fixed_point.check_scale(scale, "codec")), zero_point)
    return Slot(value, shape, codec, floats)


def _load_step(at: int, about: dict[str, Any], own: dict[str, np.ndarray]) -> Step:
    if about["kind"] not in STEPS:
        raise FileError(f"step {at} is of unknown kind {about['kind']!r:.80}")
    attrs = {k: decode(v, own) for k, v in about["attrs"].items() if k != "attrs"}
    if "attrs" in about["attrs"]:
        attrs["attrs"] = {k: decode(v, own) for k, v in about["attrs"]["attrs"].items()}
    if "op" in attrs or about["kind"] in WITH_OP:
        if attrs["op"] not in OPS:
            raise FileError(f"step {at} uses the op {attrs['op']!r:.80}, which is not known here; import its definition "
                            "first")
        if about["kind"] == "codes" and OPS[attrs["op"]].int8 != "codes":
            raise FileError(f"step {at} runs {attrs['op']} on codes, but this op has no rule for that")
    return STEPS[about["kind"]](list(about["inputs"]), about["output"], str(about["name"]), attrs, own)


def _check_codecs(inputs: list[Slot], outputs: list[Slot], steps: list[Step]) -> None:
    """Raise FileError if a step has another scale or zero point for an input or output than the plan has."""
    entered = {s.inputs[0]: s for s in steps if s.kind == "quantize"}
    left = {s.output: s for s in steps if s.kind == "dequantize"}
    for slot, step in [(s, entered.get(s.value)) for s in inputs] + [(s, left.get(s.value)) for s in outputs]:
        if step is not None and slot.codec != Codec(np.float32(step.attrs["scale"]), step.attrs["zero_point"]):
            raise FileError(f"expected value {slot.value} in {slot.codec}, its step has {step.attrs}")
