"""The forms of a batch in conversion: calibration, plans, comparison, diagnosis, reports, training aware of int8."""

from __future__ import annotations

import json
from dataclasses import fields

import numpy as np
import pytest
from saved import opened, rewrite

import tinyml
from tinyml import nn, optim, precision
from tinyml.data import ArrayDataset, DataLoader
from tinyml.errors import FileError, ShapeError
from tinyml.evaluation import evaluate, predict
from tinyml.graph import trace
from tinyml.nn import functional as F
from tinyml.plan.info import PlanInfo
from tinyml.trainer import Trainer

RNG = np.random.default_rng(0)
X, G = RNG.standard_normal((40, 6)).astype(np.float32), RNG.random((40, 8)).astype(np.float32)
Y = RNG.integers(0, 4, 40)
BY_NAME = {"gate": G, "x": X}       # in another order than the arguments


class Gated(nn.Module):
    """Two inputs; a tuple, a dict or one Tensor out."""

    def __init__(self, kind="one"):
        self.first, self.second, self.kind = nn.Linear(6, 8), nn.Linear(8, 4), kind

    def forward(self, x, gate):
        hidden = F.relu(self.first(x)) * gate
        y = self.second(hidden)
        return {"one": y, "tuple": (y, hidden), "alone": (y,), "dict": {"logits": y, "hidden": hidden}}[self.kind]


class OnlyByName(Gated):
    def forward(self, *, x, gate):
        return super().forward(x, gate)


@pytest.fixture(scope="module")
def model():
    tinyml.manual_seed(0)
    return Gated().eval()


def bytes_of(tensor):
    return tensor.numpy().tobytes()


FORMS = {"tuple": [((X, G), Y)], "list": [[[X, G], Y]], "alone": [((X, G),)], "dict": [(BY_NAME, Y)],
         "dict alone": [BY_NAME], "one dict": BY_NAME,
         "parts": [{k: a[i : i + 20] for k, a in BY_NAME.items()} for i in (0, 20)]}


@pytest.mark.parametrize("form", FORMS)
def test_calibration_takes_every_form(model, form):
    plan, expected = model.to_int8(calibration=FORMS[form]), model.to_int8(calibration=FORMS["tuple"])
    assert bytes_of(plan(X, G)) == bytes_of(expected(X, G)) == bytes_of(plan(gate=G, x=X)) == bytes_of(plan(X, gate=G))
    assert plan.info["inputs"] == ["x", "gate"] and plan.info["calibration"]["samples"] == 40
    if form != "parts":     # the digest is that of the batches
        assert plan.info["calibration"] == expected.info["calibration"]
    prepared = precision.prepare_qat(model, FORMS[form])
    assert bytes_of(prepared.to_int8()(X, G)) == bytes_of(precision.prepare_qat(model, [((X, G),)]).to_int8()(X, G))


def test_what_has_inputs_by_name_runs_everywhere(model, tmp_path):
    data = [(BY_NAME, Y)]
    plan = model.to_int8(calibration=data)
    plan.save(tmp_path / "plan")
    for form in (plan, tinyml.load(tmp_path / "plan"), model.compile(BY_NAME), model.compile(X, G), model.to_int8()):
        assert evaluate(form, data, F.cross_entropy) == evaluate(form, [((X, G), Y)], F.cross_entropy)
        assert predict(form, [BY_NAME]).tobytes() == bytes_of(form(X, G))
        assert precision.compare(model, form, data, show=False, seconds=0).samples == 40
        report = form.report(data, seconds=0)
        assert report.layers and report.file_bytes == form.report([((X, G), Y)], seconds=0).file_bytes
    assert precision.diagnose(model, data).as_dict() == precision.diagnose(model, [((X, G), Y)]).as_dict()
    mixed = [model.to_int8(calibration=d, max_drop=50).info["frontier"][0]["metric"] for d in (data, [((X, G), Y)])]
    assert mixed[0] == mixed[1]
    prepared = precision.prepare_qat(model, data)
    loader = DataLoader(ArrayDataset(BY_NAME, Y), 20)
    Trainer(prepared, optim.SGD(prepared.parameters(), 0.1), progress=False).fit(loader, 1, validation=loader)


@pytest.mark.parametrize("kind", ["tuple", "alone", "dict"])
def test_several_outputs_of_plans(kind, tmp_path):
    model = Gated(kind).eval()
    expected = predict(model, [((X, G), Y)])
    for plan in (model.compile(X, G), model.to_int8(calibration=[((X, G), Y)])):
        plan.save(tmp_path / "plan")
        loaded = tinyml.load(tmp_path / "plan")
        for p in (plan, loaded):
            found = predict(p, [(BY_NAME, Y)])
            assert type(found) is type(expected) and len(found) == len(expected)
            assert not isinstance(found, dict) or list(found) == list(expected) == p.info["outputs"]
            values = [list(v.values()) if isinstance(v, dict) else v for v in (found, expected)]
            assert all(np.abs(a - b).max() < 0.1 for a, b in zip(*values, strict=True))
        assert loaded.info == plan.info
    graph = trace(model, X, G)
    assert graph.input_names == ["x", "gate"] and type(graph(X, G)) is type(expected)


INFO = {"inputs", "outputs", "single_output", "rounding", "calibration", "floats", "repairs", "frontier"}


def test_a_plan_always_says_how_it_was_made(model, tmp_path):
    data = [((X, G), Y)]
    prepared = precision.prepare_qat(model, data)
    for plan, empty in ((model.compile(X, G), {"calibration", "repairs", "frontier", "outputs"}),
                        (model.to_int8(calibration=data), {"repairs", "frontier", "outputs"}),
                        (model.to_int8(calibration=data, repairs=["correct_bias"]), {"frontier", "outputs"}),
                        (model.to_int8(calibration=data, max_drop=90), {"repairs", "outputs"}),
                        (prepared.to_int8(), {"repairs", "frontier", "outputs"})):
        assert {f.name for f in fields(plan.info)} == INFO
        assert {name for name in INFO - {"floats"} if plan.info[name] in (None, {}, [])} == empty
        plan.save(tmp_path / "plan")
        assert tinyml.load(tmp_path / "plan").info == plan.info
        read = json.loads(json.dumps(plan.info.to_json()))
        assert PlanInfo.from_json(read, len(plan.inputs), len(plan.outputs)) == plan.info
        about, arrays = opened(tmp_path / "plan")
        old = {k: about["info"][k] for k in ("single_output", "rounding")}      # as the first version had it
        rewrite(tmp_path / "plan", about | {"info": old}, arrays)
        loaded = tinyml.load(tmp_path / "plan")
        assert {f.name for f in fields(loaded.info)} == INFO and repr(loaded) == repr(plan)
        assert bytes_of(loaded(X, G)) == bytes_of(plan(X, G))
        with pytest.raises(ShapeError, match="expected the inputs in order, without names"):
            loaded(x=X, gate=G)
        rewrite(tmp_path / "plan", about | {"info": {"rounding": "single"} | {"single_output": "yes"}}, arrays)
        with pytest.raises(FileError, match="whether the plan has a single output, got 'yes'"):
            tinyml.load(tmp_path / "plan")


def test_what_does_not_fit_says_which_forms_there_are(model):
    linear = nn.Linear(6, 4)
    assert linear.to_int8(calibration=[{"x": X}]).info["inputs"] == ["x"]
    plan = model.to_int8(calibration=[((X, G), Y)])
    for data, message in (
        ([{"x": X}], "calibration: expected inputs that Gated takes in order, x, gate, none left out .* dict of x"),
        ([{"x": X, "gates": G}], "got a dict of x, gates"), ([(X, G, Y)], r"\(\(x1, x2\), targets\); got a tuple of 3"),
        ("data", "an iterable of batches, each .* got str"),
        (["data"], "inputs, which are an array, .* or a dict .* got a str"),
        ([((X, (G, G)), Y)], "an array for each input of the model, got a tuple"),
        ([((X, None), Y)], "an array for each input of the model, got a NoneType"),
        ([None], "got None; inputs are an array"),
    ):
        with pytest.raises(ShapeError, match=message):
            model.to_int8(calibration=data)
    for call, message in (
        (lambda: OnlyByName().to_int8(calibration=[BY_NAME]), r"OnlyByName takes in order, x, gate, none left out"),
        (lambda: model.compile({"x": X}), "trace: expected inputs that Gated takes in order"),
        (lambda: plan(X, x=X), "plan: expected the inputs x, gate: multiple values for argument 'x'"),
        (lambda: plan(x=X), "plan: expected the inputs x, gate: missing a required argument"),
        (lambda: predict(plan, [{"x": X, "y": G}]), "Plan takes x, gate, got x, y"),
        (lambda: precision.diagnose(model, [(BY_NAME, {"y": Y})]), "score: expected one array of targets, got a dict"),
        (lambda: precision.compare(model, plan, [((X, G), (Y, Y))], show=False), "one array of targets, got a tuple"),
        (lambda: plan.report([{"y": X}]), "report: expected inputs that Plan takes in order, x, gate"),
    ):
        with pytest.raises(ShapeError, match=message):
            call()
