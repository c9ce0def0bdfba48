"""Files whose digest is right and whose content is not: what checks alone must catch, before anything is allocated."""

from __future__ import annotations

import ast
import copy
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mutations import other_arrays, other_description
from saved import IMAGES, KINDS, ROWS, made, memory_below, opened, refused, rewrite
from values import normal

import tinyml
from tinyml import models, nn, no_grad
from tinyml.errors import FileError, TinymlError
from tinyml.io import trial
from tinyml.nn import functional as F
from tinyml.precision import Plan


def test_arrays_must_be_those_of_the_model(tmp_path):
    path = tmp_path / "model"
    models.MLP(6, 5).save(path)
    weight, bias = normal(5, 6), normal(5)
    for arrays, message in (
        ({"1.weight": weight}, r"expected tensor 1.bias \(5,\), got none"),
        ({"1.weight": weight.T.copy(), "1.bias": bias}, r"expected tensor 1.weight \(5, 6\), got \(6, 5\)"),
        ({"1.weight": weight.astype(int), "1.bias": bias}, "expected float32 for 1.weight, got int64"),
        ({"1.weight": weight, "1.bias": bias, "2.bias": bias}, "tensors that no layer has: 2.bias"),
    ):
        rewrite(path, arrays=arrays)
        refused(path, message)

    models.MLP(6, 5).to_int8().save(path)
    codes, scale = np.ones((5, 6), np.int8), np.ones(5, np.float32)
    for arrays, message in (
        ({"1.weight": codes, "1.bias": bias}, "expected int8 codes and a scale for 1.weight"),
        ({"1.weight": weight, "1.bias": bias, "1.weight.scale": scale}, "expected int8 codes .*got float32"),
        ({"1.weight": codes, "1.bias": bias, "1.weight.scale": 0 * scale}, "positive, normal float32 scale, got 0"),
        ({"1.weight": codes, "1.bias": bias, "1.weight.scale": scale[:4]}, r"scale: expected shape \(5,\)"),
    ):
        rewrite(path, arrays=arrays)
        refused(path, message)
    models.MLP(6, 6).to_int8().save(path)
    about, _ = opened(path)
    for axis in (1, True, "0"):
        rewrite(path, {**about, "axes": {"1.weight": axis}})
        refused(path, f"expected one scale, or scales along axis 0, for 1.weight, got axis {axis!r}")


def test_classes_are_looked_up_never_imported(tmp_path):
    path = tmp_path / "model"
    models.MLP(6, 5).save(path)
    for name in ("os.system", "antigravity.fly", "tinyml.nn.module.Module", "subprocess.Popen"):
        about, _ = opened(path)
        about["recipe"]["class"] = name
        rewrite(path, about)
        refused(path, f"class {re.escape(name)} is not known here")


def test_nothing_unpickles():
    """No unpickler is imported, nothing evaluates text, and NumPy may not load objects."""
    for source in Path(tinyml.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(source.read_text())):
            names = {a.name for a in node.names} if isinstance(node, ast.Import) else set()
            names |= {node.module} if isinstance(node, ast.ImportFrom) else set()
            names |= {node.func.id} if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else set()
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                assert getattr(node.value, "value", True) is False, f"{source}: allow_pickle"
            forbidden = {"pickle", "marshal", "shelve", "dill", "eval", "exec", "compile", "__import__"}
            assert not names & forbidden, f"{source}:{getattr(node, 'lineno', '?')}: {names & forbidden}"


POINT = {"float_layers": ["a"], "metric": 0.9, "drop": 0.1, "file_bytes": 100, "latency_ms": 0.5}


def changed(step: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
    """A product's step with another value, or without where that is None; all others as they are."""
    if step["kind"] != "product":
        return step
    attrs = {k: v for k, v in step["attrs"].items() if k != name} | ({} if value is None else {name: value})
    return {**step, "attrs": attrs}


def test_a_plan_says_what_is_wrong_with_it(tmp_path):
    path = tmp_path / "model"
    made("static integers")[0].save(path)
    good, arrays = opened(path)
    step, slot, info = good["steps"], good["inputs"][0], good["info"]
    check, digest = good["check"], "0" * 64
    for about, message in (
        ({**good, "check": {**check, "digest": digest}}, f"this machine computes other numbers .* expected '{digest}'"),
        ({**good, "check": {**check, "seed": 1}}, "for the input of seed 1 the output's digest is"),
        ({**good, "inputs": []}, "expected inputs and outputs, got 0 and 1"),
        ({**good, "inputs": [slot, slot], "info": {**info, "inputs": []}}, "two inputs are one value"),
        ({**good, "inputs": [{**slot, "codec": [slot["codec"][0] * 2, 0]}]}, "expected value 0 in Codec"),
        ({**good, "inputs": [{**slot, "codec": [1.0, 300]}]}, "expected a zero point in int8, got 300"),
        ({**good, "inputs": [{**slot, "shape": {"tuple": [True, -1]}}]}, "expected the shape of an input or output"),
        ({**good, "inputs": [{**slot, "shape": {"tuple": [2**64]}}]}, "inputs and outputs of at most 268,435,456 elements"),
        ({**good, "inputs": [{**slot, "floats": 1}]}, "expected the number of a value and whether it is floats"),
        ({**good, "info": {**info, "rounding": "triple"}}, "expected how the plan was rounded and calibrated"),
        ({**good, "info": {**info, "calibration": {"samples": "3"}}}, "expected how the plan was rounded and calibrated"),
        ({**good, "info": {**info, "calibration": {**info["calibration"], "samples": -1}}}, "how the plan was"),
        ({**good, "info": {**info, "calibration": None}}, "expected how the plan was rounded and calibrated"),
        ({**good, "info": {**info, "single_output": 1}}, "whether the plan has a single output, got 1 and 1 outputs"),
        ({**good, "info": {**info, "inputs": ["x", "y"]}}, "expected inputs to be a name for each of 1, or none"),
        ({**good, "info": {**info, "outputs": [3]}}, "expected outputs to be a name for each of 1, or none"),
        ({**good, "info": {**info, "inputs": "x"}}, "expected inputs to be a name for each of 1, or none"),
        ({**good, "info": {**info, "floats": {"gelu": 3}}}, "expected why layers stayed float"),
        ({**good, "info": {**info, "repairs": ["all"]}}, "expected repairs among equalize"),
        ({**good, "info": {**info, "frontier": [{"drop": 0.5}]}}, "expected points of accuracy, size and latency"),
        ({**good, "info": {**info, "frontier": [{**POINT, "latency_ms": "1"}]}}, "expected points of accuracy"),
        ({**good, "info": {**info, "frontier": [{**POINT, "latency_ms": -0.5}]}}, "expected points of accuracy"),
        ({**good, "info": {**info, "frontier": [{**POINT, "file_bytes": 0.5}]}}, "expected points of accuracy"),
        *[({**good, "steps": [changed(s, name, value) for s in step]}, message) for name, value, message in (
            ("doubled", "x", "doubled out of range"), ("doubled", None, "damaged description"),
            ("scale_out", 1e300, "expected a finite, positive, normal float32 scale"))],
        ({**good, "steps": [{**step[0], "kind": "run"}, *step[1:]]}, "step 0 is of unknown kind 'run'"),
        ({**good, "steps": step[1:]}, "step 0 reads values that no step makes"),
        ({**good, "steps": [step[0], *step]}, "step 1 reads values that no step makes before it, or makes one again"),
    ):
        rewrite(path, about, arrays)
        refused(path, message)
    rewrite(path, good, {**arrays, "99.weight": ROWS})
    refused(path, "tensor 99.weight belongs to no step")


# ---- sizes that a file only claims


class Wide(nn.Module):
    """A user's model whose layers are as wide as its argument says."""

    def __init__(self, width: int, layer: str = "LayerNorm"):
        self.inner = getattr(nn, layer)(width)


HUGE = [
    ("tinyml.nn.layers.Linear", [10**9, 10**9]), ("tinyml.nn.layers.Linear", [1, 10**7]),
    ("tinyml.nn.layers.Embedding", [60_000, 60_000]), ("tinyml.nn.layers.Conv2d", [1, 1, 10**5]),
    ("tinyml.nn.norms.LayerNorm", [10**10]), ("tinyml.nn.norms.BatchNorm2d", [10**10]),
    ("tinyml.models.cnn.MLP", [10**4, 10**5, 10**4]), ("tinyml.models.cnn.CifarCNN", [3, 10, 10**6]),
    ("tinyml.models.gpt.model.TinyGPT", [11, 6, 10**9, 2, 8]), ("tinyml.models.gpt.model.TinyGPT", [11, 6, 1, 1, 10**5]),
    ("tinyml.nn.attention.SelfAttention", [2**20, 2]), (f"{Wide.__module__}.Wide", [10**10]),
    (f"{Wide.__module__}.Wide", [10**10, "BatchNorm2d"]),
]


@pytest.mark.parametrize(("name", "arguments"), HUGE, ids=lambda v: str(v))
def test_constructors_allocate_no_more_than_the_file_accounts_for(name, arguments, tmp_path):
    path = tmp_path / "model"
    models.MLP(6, 5).save(path)
    about, _ = opened(path)
    about["recipe"] = {"class": name, "args": arguments, "kwargs": {}}
    rewrite(path, about)
    with memory_below(3e6):
        refused(path, r"expected a size of at most \d+ here, got \d+; the file holds 35 elements. .* load\(path, model=")


def test_a_model_may_drop_most_of_what_its_constructor_makes(tmp_path):
    """Four layers that share one weight; more of them are loaded into an instance."""
    def shared(n: int) -> nn.Module:
        model = nn.Sequential(*[nn.Linear(200, 200) for _ in range(n)])
        for layer in model:
            layer.weight = model[0].weight
        return model

    x = normal(2, 200)
    for n in (4, 9):
        model = shared(n)
        model.save(tmp_path / "model")
        if n == 9:
            refused(tmp_path / "model", "expected a size of at most")
        loaded = tinyml.load(tmp_path / "model", model=shared(n) if n == 9 else None)
        assert np.array_equal(loaded(x).numpy(), model(x).numpy())


class Grows(nn.Module):
    """Layers and a function of their result, whose attributes can make a large result from a small file."""

    def __init__(self, function):
        self.conv, self.float_conv = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 1)
        self.pool, self.function = nn.AdaptiveAvgPool2d(8), function

    def forward(self, x):
        return self.function(self.pool(self.float_conv(self.conv(x))))


def grows(function) -> nn.Module:
    return Grows(function).to_int8(calibration=IMAGES, skip=["float_conv", "pool"])


GROWING = {     # function behind the layers, the kind or op of the step to change, its attribute, what to
    "padding": (lambda y: y, "product", "padding", [3000, 3000]),
    "padding past all memory": (lambda y: y, "product", "padding", [10**9, 10**9]),
    "padding of an island": (lambda y: y, "conv2d", "padding", {"tuple": [1000, 1000]}),
    "pooling": (lambda y: y, "adaptive_avg_pool2d", "outputs", {"tuple": [2000, 2000]}),
    "pad": (lambda y: F.pad(y, (1, 1, 1, 1)), "pad", "widths",
            {"tuple": [{"tuple": [0, 0]}, {"tuple": [0, 0]}, {"tuple": [2000, 0]}, {"tuple": [2000, 0]}]}),
    "broadcast": (lambda y: y[:, :1].broadcast_to(2, *y[:, :1].shape) + 1.0, "broadcast_to", "shape",
                  {"tuple": [10**5 * 2, {"batch": 1}, 1, 8, 8]}),
    "index": (lambda y: y[:, [0, 1]], "getitem", "index",
              {"tuple": [{"slice": [None, None, None]}, [[0] * 2000], [[0]] * 2000]}),
}


@pytest.mark.parametrize("what", GROWING)
def test_plans_are_not_run_where_little_becomes_much(what, tmp_path):
    """Such a plan is refused, or, if it says that it was never run, loaded: then all is made only when somebody runs it."""
    function, step, attribute, value = GROWING[what]
    path = tmp_path / "model"
    grows(function).save(path)
    about, _ = opened(path)
    attrs = next(s["attrs"] for s in about["steps"] if step in (s["kind"], s["attrs"].get("op")))
    attrs.get("attrs", attrs)[attribute] = value
    rewrite(path, about)
    with memory_below(4e6):
        refused(path, "a value of the plan has more than 16777216 elements")
    rewrite(path, {**about, "check": None})
    with memory_below(4e6):
        tinyml.load(path)


CONV, POOL = ["stride", "padding", "dilation", "groups"], ["size", "stride", "padding"]
WINDOWS = {     # kind or op of a step: the layers that make one, those that stay float, its numbers
    "product": ([nn.Conv2d(3, 4, 3)], [], ["size", *CONV]), "float_product": ([nn.Conv2d(3, 4, 3)], None, CONV),
    "conv2d": ([nn.Conv2d(3, 4, 3)], ["0"], CONV), "codes": ([nn.Conv2d(3, 4, 3), nn.MaxPool2d(2)], [], POOL),
    "max_pool2d": ([nn.Conv2d(3, 4, 3), nn.MaxPool2d(2)], ["0", "1"], POOL),
    "avg_pool2d": ([nn.Conv2d(3, 4, 3), nn.AvgPool2d(2)], ["0", "1"], POOL),
}
NO_PAIRS = ([2**60, 0, 0], [1, 0, 0], [1], [], [1, 1.0], [True, 1], ["1", 1], [1, None], [-1, 1], [2**31, 1], [10**30, 1],
            1, "ab")
NO_GROUPS = (0, -1, True, 1.0, "1", None, 2**31, 10**30, [1, 1])


@pytest.mark.parametrize("step", WINDOWS)
def test_windows_of_plans_are_pairs_of_whole_numbers(step, tmp_path):
    """More numbers would shift all that kernels read behind them."""
    path, (layers, skip, names) = tmp_path / "model", WINDOWS[step]
    model = nn.Sequential(*layers)
    (model.compile(IMAGES) if skip is None else model.to_int8(calibration=IMAGES, skip=skip)).save(path)
    about, arrays = opened(path)
    attrs = next(s["attrs"] for s in about["steps"] if step in (s["kind"], s["attrs"].get("op")))
    attrs = attrs.get("attrs", attrs)
    for name in names:
        good = attrs[name]
        for value in NO_GROUPS if name == "groups" else NO_PAIRS:
            for wrong in (value, {"tuple": value}) if isinstance(value, list) else (value,):
                attrs[name] = wrong
                rewrite(path, about, arrays)
                refused(path, f"expected {name} to be . whole number")
        attrs[name] = good
    rewrite(path, about, arrays)
    tinyml.load(path)


def test_what_a_loaded_plan_prints_is_there(tmp_path):
    """repr, certificate and report read attributes that no kernel does."""
    path = tmp_path / "model"
    made("static integers")[0].save(path)
    about, arrays = opened(path)
    attrs = next(s["attrs"] for s in about["steps"] if s["kind"] == "product")
    for name, values in (("doubled", (None, "1", 1.0, True, -1, 10**9)), ("spatial", (None, 1, "yes", []))):
        good = attrs.pop(name)
        rewrite(path, about, arrays)
        refused(path, name)
        for attrs[name] in values:
            rewrite(path, about, arrays)
            refused(path, f"{name} out of range")
        attrs[name] = good
    rewrite(path, about, arrays)
    assert "sums reach" in repr(tinyml.load(path))


def test_a_plan_that_was_never_run_says_which_step_does_not(tmp_path):
    """One that is too large to be run when it is loaded, if its file says that it never was."""
    path = tmp_path / "model"
    grows(lambda y: y[:, [0, 1]].reshape(-1, 128)).save(path)
    good, arrays = opened(path)
    for op, attribute, value, message in (
            ("adaptive_avg_pool2d", "outputs", {"tuple": [2**20, 2**20]}, "adaptive_avg_pool2d: the result .* would take"),
            ("reshape", "shape", {"tuple": [{"batch": 1}, 12.5]}, "plan: (codes|island).* does not run on .*TypeError")):
        about = copy.deepcopy(good)
        product = next(s["attrs"] for s in about["steps"] if s["kind"] == "product")
        product["padding"] = [730, 730]         # so that loading does not run it
        attrs = next(s["attrs"] for s in about["steps"] if s["attrs"].get("op") == op)
        attrs.get("attrs", attrs)[attribute] = value
        rewrite(path, {**about, "check": None}, arrays)
        plan = tinyml.load(path)
        with pytest.raises(TinymlError, match=message):
            plan(IMAGES[:1])


def test_padding_and_dilation_that_lead_to_zeros_take_no_memory(tmp_path):
    """Scratch once had the whole padded input, 60,000 x 60,000 values here."""
    path = tmp_path / "model"
    nn.Sequential(nn.Conv2d(3, 4, 3, padding=1)).to_int8(calibration=IMAGES).save(path)
    about, arrays = opened(path)
    attrs = next(s["attrs"] for s in about["steps"] if s["kind"] == "product")
    attrs["padding"] = attrs["dilation"] = [30_000, 30_000]
    rewrite(path, about, arrays)
    with memory_below(4e6):
        refused(path, "this machine computes other numbers")
    rewrite(path, {**about, "check": None}, arrays)
    with memory_below(4e6):
        assert tinyml.load(path)(IMAGES).shape == (len(IMAGES), 4, *IMAGES.shape[2:])


def test_inputs_and_chains_that_grow_are_not_run(tmp_path):
    path = tmp_path / "model"
    grows(lambda y: F.cat([y, y], dim=1)).save(path)
    good, arrays = opened(path)
    slot = good["inputs"][0]
    at = next(i for i, s in enumerate(good["steps"]) if "concat" in (s["kind"], s["attrs"].get("op")))
    *before, concat = good["steps"][: at + 1]
    doubling = [{**concat, "inputs": [concat["output"] + i] * 2, "output": concat["output"] + i + 1} for i in range(60)]
    grown = {**good, "steps": [*before, concat, *doubling],
             "outputs": [{**good["outputs"][0], "value": doubling[-1]["output"]}]}
    for about in ({**good, "inputs": [{**slot, "shape": {"tuple": [{"batch": 10**12}, 3, 8, 8]}}]},
                  {**good, "inputs": [{**slot, "shape": {"tuple": [{"batch": 1}, 3, 10**9, 10**9]}}]}, grown):
        rewrite(path, about, arrays)
        with memory_below(3 * 4 * trial.LARGEST):
            refused(path, "more than 16777216 elements|inputs and outputs of at most 268,435,456 elements")


# ---- fuzzed files


def used(plan: Plan, path: Path) -> None:
    """Call everything that reads the attributes of a plan."""
    assert repr(plan) and isinstance(plan.memory(2).nbytes, int)
    assert all(str(headroom) for headroom in plan.certificate())
    plan.report(seconds=0).to_html(path)


@pytest.mark.parametrize("kind", KINDS)
def test_what_fits_its_digest_is_refused_or_works(kind, tmp_path, monkeypatch):
    """Valid JSON and arrays that say something else: FileError, or a model with finite outputs of the same shape.

    One that only takes other inputs, of a fixed batch or fewer ids, says so when it is used. Memory stays in proportion to
    the file, and to the limit of the trial run.
    """
    monkeypatch.setattr(trial, "LARGEST", 2**16)
    model, inputs = made(kind)
    path = tmp_path / "model"
    model.save(path)
    about, arrays = opened(path)
    with no_grad():
        expected = model.eval()(*inputs).shape
    rng, accepted = np.random.default_rng(2), 0
    number = 300 if kind in ("TinyGPT", "dynamic TinyGPT", "static integers", "static everything") else 60
    for i in range(number):
        said, held = (about, other_arrays(arrays, rng)) if i % 3 == 0 else (other_description(about, rng), arrays)
        if "check" in said and i % 2:
            said = {**said, "check": None}      # what a plan computes is then not compared
        rewrite(path, said, held)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                with memory_below(16 * trial.LARGEST + 100 * path.stat().st_size):
                    loaded = tinyml.load(path)
            except FileError as error:
                assert str(path) in str(error) and "Warning" not in str(error)
                continue
            if isinstance(loaded, Plan) and trial.run(loaded, 0) is None:
                continue        # larger than before, and not compared: loaded without a run
            try:
                with no_grad():
                    y = loaded(*inputs)
                if isinstance(loaded, Plan):
                    used(loaded, tmp_path / "page.html")
            except TinymlError:
                continue
        assert y.shape == expected and np.isfinite(y.numpy()).all()
        accepted += 1
    assert 0 < accepted < number / 2
