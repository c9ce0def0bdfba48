"""Reports: bytes add up to the file's, times and reasons come from what was measured, errors say what is wrong."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from saved import IDS, IMAGES, KINDS, ROWS, made
from values import normal

import tinyml
from tinyml import Tensor, get_num_threads, models, nn, precision
from tinyml.errors import DtypeError, FileError, ShapeError
from tinyml.io import serialize
from tinyml.nn import functional as F
from tinyml.plan.info import FrontierPoint
from tinyml.report import Layer, figures, ledger, planned, reasons, timing, twins
from tinyml.report.timing import Calls, StepTimes

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>$\\frac$\u202e\u2028&amp;" + "x" * 300
FRONTIER = [{"float_layers": [], "metric": 0.71, "drop": 2.1, "file_bytes": 80_000, "latency_ms": 0.11},
            {"float_layers": ["14", HOSTILE], "metric": 0.73, "drop": 0, "file_bytes": 130_000, "latency_ms": 0.16}]


def diagnosis(*names: str, metric: str = "accuracy") -> SimpleNamespace:
    """What precision.diagnose returns, as far as reports read it."""
    layers = [SimpleNamespace(layer=name, weight_snr=31.5, activation_snr=float("inf") if i else None,
                              only_drop=np.float32(0.3 * i - 0.2), without_drop=2.0 - 0.3 * i,
                              cause="outlier channel" if i else "", evidence=f"<b>{name}</b>", remedy="equalize")
              for i, name in enumerate(names)]
    return SimpleNamespace(metric=metric, float_value=0.731, int8_value=0.71, layers=layers)


# ---- bytes


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_add_up_to_the_file_and_are_those_of_the_loaded_model(kind, tmp_path):
    model, inputs = made(kind)
    r = model.report([(inputs, None)], batch=2, seconds=1e-9)
    model.save(tmp_path / "model")
    size = (tmp_path / "model").stat().st_size
    assert r.header_bytes + sum(layer.disk_bytes for layer in r.layers) == r.file_bytes == len(serialize(model)) == size
    assert sum(sum(layer.tensors.values()) for layer in r.layers) == size - r.header_bytes
    assert sum(layer.memory_bytes for layer in r.layers) == r.memory_bytes == model.nbytes
    loaded = tinyml.load(tmp_path / "model")
    again = loaded.report([(inputs, None)], batch=2, seconds=1e-9)
    same = ("name", "precision", "memory_bytes", "disk_bytes", "tensors", "observer", "lo", "hi", "margin", "floats",
            "weights", "activations")
    assert [[getattr(layer, k) for k in same] for layer in again.layers] == \
        [[getattr(layer, k) for k in same] for layer in r.layers]
    assert json.loads(json.dumps(r.as_dict(), allow_nan=False)) == r.as_dict()


def test_the_table_says_what_as_dict_says():
    r = made("static CifarCNN")[0].report(batch=3, seconds=1e-9)
    rows = r.rows()
    assert [row["layer"] for row in rows] == [*(layer.name for layer in r.layers), "(header and description)", "total"]
    assert rows[-1]["disk"] == f"{r.file_bytes:,}" and rows[-2]["disk"] == f"{r.header_bytes:,}"
    for row, layer in zip(rows, r.layers):
        assert row["disk"] == f"{layer.disk_bytes:,}" and row["total"] == figures.in_unit(layer.total_ms, r.unit)
        parts = [layer.quantize_ms, layer.multiply_ms, layer.requantize_ms or 0, layer.other_ms]
        assert sum(parts) == pytest.approx(layer.total_ms) and layer.total_ms >= 0
        assert (layer.speedup is None) or layer.speedup == layer.float32_ms / layer.total_ms
    text = str(r)
    assert all(f"{row['layer']}  " in text for row in rows) and "a batch of 3 takes" in text
    assert "bytes in memory" not in text and f"{r.memory_bytes:,} in memory" in text


def test_ranges_margins_and_observers_are_the_plans():
    model, _ = made("CifarCNN")
    plan = model.to_int8(calibration=IMAGES, observer={"": "mse", "3": "minmax"})
    layers = {layer.name: layer for layer in plan.report(seconds=0).layers}
    products = [s for s in plan.steps if s.kind == "product"]
    for step, headroom in zip(products, plan.certificate()):
        a, layer = step.attrs, layers[step.name]
        assert layer.margin == headroom.margin.min() and layer.observer == ("minmax" if step.name == "3" else "mse")
        assert (layer.lo, layer.hi) == pytest.approx([a["scale_out"] * (q - a["zero_point"]) for q in (-128, 127)])
    assert (layers["6"].lo, layers["6"].hi) == (layers["3"].lo, layers["3"].hi)     # max-pool passes codes through
    first = layers["0"].weights[0]
    assert first.what == "codes" and sum(first.counts) == products[0].arrays["weight"].size and max(first.counts) > 0


def test_activation_histograms_count_every_code_of_all_data():
    model, _ = made("static CifarCNN")
    images = normal(70, 3, 8, 8)        # more than are observed at a time
    r = model.report([images[:5], (images[5:], np.zeros(65))], seconds=0)
    by_layer = {layer.name: layer.activations for layer in r.layers}
    assert [(h.of, sum(h.counts)) for h in by_layer["0"]] == [("input", images.size), ("conv2d", 70 * 4 * 8 * 8)]
    codes = model.codes(images).array.astype(int) + 128
    assert by_layer["22"][0].counts == np.bincount(codes.ravel() // 4, minlength=64).tolist()
    dynamic, _ = made("dynamic TinyGPT")
    inputs = {layer.name: layer.activations for layer in dynamic.report([IDS, IDS[:1]], seconds=0).layers}
    assert [(h.of, sum(h.counts)) for h in inputs["blocks.0.up"]] == [("input of linear", 4 * 6 * 8)]
    assert not inputs["tokens"]


@given(st.lists(st.floats(width=32) | st.just(np.float32(3)), max_size=20))
def test_histograms_of_any_floats_count_what_is_finite(values):
    from tinyml.report.histograms import count_array

    x = np.array(values, np.float32)
    h = count_array("weight", x)
    assert (h is None) == (not np.isfinite(x).any())
    if h is not None:
        assert sum(h.counts) == np.isfinite(x).sum() and h.lo < h.hi and len(h.counts) == 64


# ---- times


def test_a_product_is_split_by_the_line_over_its_channels():
    assert timing.split(10.0, 6.0, 32, 16) == (8.0, 2.0)
    assert timing.split(6.0, 10.0, 16, 32) == (4.0, 2.0)        # with twice as many channels
    assert timing.split(6.0, 6.1, 32, 16) is None and timing.split(6.0, 2.9, 32, 16) is None


def test_functions_are_timed_in_turn_and_all_are_called():
    ran = []
    parts = [{name: lambda name=name: ran.append(name) for name in names} for names in ("ab", "", "c")]
    found, calls = timing.time_parts(parts, lambda: ran.append("whole"), lambda: ran.append("least"), 0.0)
    assert [set(times) for times in found] == [{"a", "b"}, set(), {"c"}]
    assert all(ms > 0 for times in (*found, vars(calls)) for ms in times.values())
    assert all(ran.count(name) >= 2 + timing.ROUNDS for name in ("a", "b", "c", "whole", "least"))


@pytest.mark.parametrize("kind", ["static CifarCNN", "static ResNet8", "static integers", "static everything",
                                  "static with layers in float"])
def test_twins_compute_the_integer_steps_in_float32(kind, monkeypatch):
    """A twin's result is what the codes of its step represent, within the errors of rounding and clamping."""
    plan, inputs = made(kind)
    made_by = []
    monkeypatch.setattr(twins, "empty", lambda *about: made_by.append(twins_empty(*about)) or made_by[-1])
    values = dict(zip((s.value for s in plan.inputs), map(np.asarray, inputs)))
    outputs = tuple(s.output for s in plan.steps)
    results, _ = planned.observe(plan.steps, values, outputs, len(inputs[0]))
    values |= dict(zip(outputs, map(planned.standard, results)))
    known, compared = twins.codecs(plan.steps), set()
    for step in plan.steps:
        if step.kind in (*planned.FLOAT_KINDS, "avg_pool", "mean") or any(values[i].dtype != np.uint8 for i in step.inputs):
            continue
        made_by.clear()
        call = twins.twin(step, [values[i] for i in step.inputs], values[step.output], len(inputs[0]), known)
        if call is None or step.kind in ("add", "mul", "concat", "pad"):     # constants and clamps of their own
            assert call is not None or step.kind == "table"
            continue
        call()
        if step.output not in known:        # only an average reads it, which does not tell the scale
            continue
        codec, u = known[step.output], values[step.output].astype(np.float64)
        inside = (u > 0) & (u < 255)
        real = (u - 128 - codec.zero_point) * codec.scale
        assert np.abs(made_by[0] - real)[inside].max(initial=0) <= 0.51 * codec.scale, step.kind
        compared.add(step.kind)
    assert "product" in compared or kind == "static with layers in float"


twins_empty = twins.empty


def test_channels_are_left_out_or_doubled_but_not_of_groups():
    def layer(k: int, groups: int = 1):
        plan = nn.Sequential(nn.Conv2d(k, 8 * groups, 3, padding=1, groups=groups)).to_int8(calibration=normal(2, k, 5, 5))
        return next(s.layer for s in plan.steps if s.kind == "product")

    assert planned.resize_channels(layer(32)).k == 16 and planned.resize_channels(layer(3)).k == 6
    for k in range(1, 20):
        assert planned.slices(layer(k)) != planned.slices(planned.resize_channels(layer(k)))
    assert planned.why_together(layer(32)) == "" and planned.why_together(layer(4, 2)) == "its channels are in groups"
    assert "one input channel" in planned.why_together(layer_of_depthwise())


def layer_of_depthwise():
    plan = models.DepthwiseCNN(width=4).to_int8(calibration=IMAGES)
    return next(s.layer for s in plan.steps if s.kind == "product" and s.layer.depthwise)


@pytest.mark.parametrize("batch", [1, 2, 7, 33])
def test_odd_batches_are_timed_with_and_without_data(batch):
    for model, data in ((made("static CifarCNN")[0], None), (made("static CifarCNN")[0], IMAGES),
                        (made("static everything")[0], [((IMAGES, IDS), None)]), (made("dynamic TinyGPT")[0], [IDS]),
                        (made("CifarCNN")[0], Tensor(IMAGES)), (made("float16 TinyGPT")[0], IDS)):
        r = model.report(data, batch, seconds=1e-9)
        assert r.batch == batch and r.latency_ms > 0 and r.sum_ms > 0 and not r.timed.startswith("no times")
    large = models.CifarCNN(width=4).to_int8(calibration=IMAGES).report(batch=np.int64(batch), seconds=1e-9)
    assert type(large.batch) is int


@pytest.mark.parametrize("kind", ["static CifarCNN", "dynamic CifarCNN"])
def test_on_a_busy_machine_one_thread_is_timed(kind, monkeypatch):
    """Threads that wait for a core would be in the times of some layers: all are timed again, and the report says so."""
    model, threads = made(kind)[0], []
    monkeypatch.setattr(timing, "threads_for", lambda work: threads.append(get_num_threads()) or threads[-1])
    monkeypatch.setattr(ledger, "BUSY", 0.0)
    tinyml.set_num_threads(2)
    r = model.report(IMAGES, seconds=1e-9)
    assert threads == [2, 1] and r.threads == 1 and get_num_threads() == 2
    assert re.search("^something else kept a core busy: .* so all was timed on one thread$", r.timed) and r.timed in str(r)
    tinyml.set_num_threads(1)
    assert model.report(IMAGES, seconds=1e-9).timed == ""


def test_a_report_leaves_the_model_as_it_is():
    model = models.CifarCNN(width=4)
    model.children()
    layers = list(model.modules())
    layers[1].training = False
    modes, before = [m.training for m in layers], model.state_dict()
    model.report(IMAGES, seconds=1e-9)
    assert [m.training for m in layers] == modes
    assert all(np.array_equal(a, before[k]) for k, a in model.state_dict().items())


# ---- why


def test_what_stayed_float_says_why():
    plan, inputs = made("static with layers in float")
    r = plan.report([(inputs, None)], seconds=0)
    floats = {layer.name: layer.floats for layer in r.layers}
    assert floats["integers.a"] == ["conv2d stayed float32: left in float on request"]
    assert floats["norm"] == ["layer_norm stayed float32: layer_norm has no integer rule"]
    assert "matmul stayed float32: matmul has no integer rule" in floats["(no layer)"]
    assert any(why.startswith("concat stayed float32: an operand is as large as the batch") for why in floats["(no layer)"])
    assert set(plan.info["floats"]) >= set(plan.islands) - {"clip"}
    plan.info = replace(plan.info, floats={"integers": "int8 would cost 1.2 points"})       # as max_drop notes layers
    kept = {layer.name: layer.floats for layer in plan.report(seconds=0).layers}
    assert kept["integers.a"] == ["conv2d stayed float32: int8 would cost 1.2 points"]
    assert kept["norm"] == ["layer_norm stayed float32"]
    assert not any(layer.floats for layer in made("compiled ResNet8")[0].report(seconds=0).layers)


class Masked(nn.Module):
    def __init__(self):
        self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x):
        y = F.gelu(self.a(x) + np.array([0, 0, 0, 0, 0, -np.inf], np.float32))
        return self.b(F.softmax(y)) + F.gelu(F.softmax(x))


def test_every_reason_of_lowering_reaches_the_plan():
    plan = Masked().to_int8(calibration=np.abs(ROWS), observer="minmax")
    assert plan.info["floats"]["add"].startswith("its values may be infinite")
    assert plan.info["floats"]["softmax"] == "softmax has no integer rule"


def test_floats_and_frontier_outlive_the_file(tmp_path):
    plan, _ = made("static with layers in float")
    plan.info = replace(plan.info, frontier=[FrontierPoint(**point) for point in FRONTIER])
    plan.save(tmp_path / "plan")
    loaded = tinyml.load(tmp_path / "plan")
    assert loaded.info == plan.info and loaded.report(seconds=0).frontier == FRONTIER


def test_dynamic_models_say_what_is_float_by_design_and_what_is_shared():
    layers = {layer.name: layer for layer in models.TinyGPT(11, 6, 1, 2, 8).to_int8(skip=["blocks.0.up"]).report().layers}
    assert layers["norm"].floats[0].startswith("float by design") and layers["norm"].precision == "float32"
    assert "left so on request" in layers["blocks.0.up"].floats[0] and layers["blocks.0.up"].precision == "float32"
    assert layers["head"].notes[0] == "its weight is that of tokens, and counts there"
    assert layers["head"].disk_bytes == 0 and layers["tokens"].precision == layers["head"].precision == "int8"


def layer_with(parts: list[StepTimes]) -> Layer:
    from tinyml.report.layers import _fill_times

    layer = Layer("a", [], "int8", 0, 0, {})
    _fill_times(layer, parts, Calls(1.0, 0.001, 0.002))
    return layer


@pytest.mark.parametrize(("parts", "said"), [
    ([StepTimes(multiply=1, float32=2, terms=9, narrow=True)], None),
    ([StepTimes(multiply=1, float32=None, terms=9, narrow=True)], None),
    ([StepTimes(multiply=1, float32=1)], None),
    ([StepTimes(quantize=1.5), StepTimes(multiply=0.5, float32=1, terms=9, narrow=True)],
     r"quantizing and dequantizing at its edges take 1.50 ms of its 2.00 ms; what is between is 2.00x as fast as float32"),
    ([StepTimes(quantize=0.1, multiply=0.2, other=0.9, float32=0.2, terms=9, narrow=True)],
     "what Python does around the product takes 900 µs of its 1.20 ms"),
    ([StepTimes(multiply=0.0015, float32=0.0015, terms=9, narrow=True)],
     "it is too small: calling 1 kernel takes 1.00 µs of its 1.50 µs"),
    ([StepTimes(multiply=1, requantize=2, float32=3, terms=27, narrow=True)],
     "requantizing takes 2.00 ms, multiplying 1.00 ms: its sums have only 27 products"),
    ([StepTimes(multiply=1, requantize=0.5, float32=1, terms=27, rows=1, crowd=3.0, narrow=True)],
     "only 1 row reads its weights: 8 times as many would take 2.0 times as long"),
    ([StepTimes(other=1, float32=1, copy=0.6, narrow=True)],
     "it is bound by memory: copying as many bytes takes 600 µs of its 1.00 ms"),
    ([StepTimes(multiply=2, requantize=1, float32=3, terms=27, narrow=True)],
     "float32 takes 3.00 ms, int8 3.00 ms: 2.00 ms multiplying, 1.00 ms requantizing"),
], ids=str)
def test_reasons_follow_from_what_was_measured(parts, said):
    notes = layer_with(parts).notes
    if said is None:
        assert notes == []
    else:
        assert len(notes) == 1 and re.search(f"^no gain in time, because {said}", notes[0]), notes


def test_what_is_not_smaller_says_why():
    assert reasons.hardly_smaller({"weight": 1000, "scale": 40}, 1000) is None and reasons.hardly_smaller({}, 0) is None
    said = reasons.hardly_smaller({"weight": 9, "scale": 4, "bias": 8}, 9)
    assert said.startswith("no gain in size, because scales, biases and the like take 12 bytes beside 9 of codes: 58%")


def test_together_is_said_where_products_cannot_be_told_apart():
    r = models.DepthwiseCNN(width=4).to_int8(calibration=IMAGES).report(seconds=1e-9)
    depthwise = next(layer for layer in r.layers if layer.together == "every output has one input channel")
    assert depthwise.requantize_ms is None and depthwise.multiply_ms > 0
    row = next(row for row in r.rows() if row["layer"] == depthwise.name)
    assert row["requantize"] == "together" and any("not told apart" in note for note in depthwise.notes)


# ---- anything a user may give


class Nothing(nn.Module):
    def forward(self, x):
        return x


def test_an_empty_model_and_one_that_is_all_float():
    for model in (nn.Sequential(), Nothing()):
        r = model.report(ROWS, seconds=1e-9)
        assert [layer.name for layer in r.layers] == ["(no layer)"] and r.memory_bytes == 0
        assert r.header_bytes == r.file_bytes == len(serialize(model)) and "total" in str(r)
    assert made("CifarCNN")[0].report().timed.startswith("no times: only a plan knows the shape of its inputs")
    assert made("static CifarCNN")[0].report(seconds=0).timed == "no times: none were asked for (seconds=0)"


def hostile() -> precision.Plan:
    plan, _ = made("static CifarCNN")
    for step in plan.steps:
        if step.name == "3":
            step.name = HOSTILE
    plan.info = replace(plan.info, floats={HOSTILE: HOSTILE}, frontier=[FrontierPoint(**point) for point in FRONTIER])
    return plan


def test_hostile_names_stay_text(tmp_path):
    r = hostile().report(diagnosis=diagnosis(HOSTILE, "0"), seconds=1e-9)
    assert HOSTILE in str(r) and r.as_dict()["layers"][1]["name"] == HOSTILE
    r.to_html(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count("<script") == 1 and page.count("</script>") == 1 and "<img" not in page and "<b>" not in page


def elements(path: Path, kind: str) -> list[ElementTree.Element]:
    """Those of a picture, which must be well-formed and need nothing else."""
    root = ElementTree.fromstring(path.read_bytes())
    for e in root.iter():
        assert e.tag.removeprefix(SVG) in ("svg", "title", "desc", "style", "g", "text", "rect", "path", "circle")
        assert set(e.attrib) <= {"class", "width", "height", "viewBox", "x", "y", "d", "cx", "cy", "r", "rx", "fill",
                                 "role", "aria-labelledby", "id"}
    assert "var(" not in path.read_text() and "url(" not in path.read_text()
    return list(root.iter(SVG + kind))


def test_pictures_are_drawn_of_any_names(tmp_path):
    r = hostile().report(diagnosis=diagnosis(HOSTILE, "0"), seconds=1e-9)
    r.layers[0].name = "null \0, and half a character \ud800"
    r.plot(tmp_path / "picture.svg")
    headings = [e.text for e in elements(tmp_path / "picture.svg", "text") if e.get("class") == "heading"]
    assert headings == ["Bytes on disk", "Bytes in memory", "Time", "Lost with only this layer in int8",
                        "Lost with all but this layer in int8", "Drop against latency", "Drop against size"]
    titles = {e.text for e in elements(tmp_path / "picture.svg", "title")}
    for layer in r.layers:
        shown = layer.name.replace("\0", "\ufffd").replace("\ud800", "\ufffd")
        assert not layer.disk_bytes or f"{shown}: {layer.disk_bytes:,}" in titles
    assert any(f"float: 14, {HOSTILE}; metric 0.73" in title for title in titles)
    with pytest.raises(FileError, match="cannot write"):
        r.plot(tmp_path / "missing" / "file.svg")
    models.MLP(3, 2).report().plot(tmp_path / "few.svg")
    assert elements(tmp_path / "few.svg", "text")[0].text == "MLP, float32"


def test_errors_say_what_was_expected(tmp_path):
    plan, _ = made("static CifarCNN")
    for options, error, message in (
        ({"batch": 0}, ShapeError, "report: expected a batch of at least 1, got 0"),
        ({"batch": True}, ShapeError, "expected a batch of at least 1, got True"),
        ({"batch": 1.5}, ShapeError, "expected a batch of at least 1, got 1.5"),
        ({"seconds": -1}, ShapeError, "expected seconds of at least 0, got -1"),
        ({"seconds": float("nan")}, ShapeError, "expected seconds of at least 0, got nan"),
        ({"data": []}, ShapeError, "expected data of at least one sample, got none"),
        ({"data": IMAGES[:0]}, ShapeError, "expected data of at least one sample, got none"),
        ({"data": 3}, ShapeError, "expected an iterable of batches"),
        ({"data": ROWS}, ShapeError, "expected input"),
        ({"data": [((IMAGES, IDS), None)]}, ShapeError, r"expected batches of 1 input\(s\), got 2"),
        ({"data": Tensor(IMAGES).to_int8(), "seconds": 0}, DtypeError, "expected floats as input, got int8"),
        ({"data": [IMAGES, IMAGES[:, :1]]}, ShapeError, "expected input"),
        ({"data": IMAGES * np.nan}, ShapeError, "NaN"),
        ({"diagnosis": 3}, DtypeError, "expected what precision.diagnose returns as diagnosis, got a int"),
    ):
        with pytest.raises(error, match=message):
            plan.report(**{"seconds": 1e-9, **options})
    prepared = precision.prepare_qat(models.MLP(6, 5, 3), ROWS)
    with pytest.raises(DtypeError, match=r"report: .* quantization-aware training .* report its to_int8"):
        prepared.report()
    r = plan.report(seconds=0)
    with pytest.raises(FileError, match="cannot write"):
        r.to_html(tmp_path / "missing" / "file.html")
    for name, got in (("picture.png", r"\.png"), ("picture", "no ending")):
        with pytest.raises(DtypeError, match=rf"plot: expected a file that ends in \.svg, .* got {got}; .* \.html"):
            r.plot(tmp_path / name)
    assert not list(tmp_path.iterdir())


class Root(nn.Module):
    def forward(self, x):
        return (x - 0.5).sqrt()


def test_a_plan_that_made_up_inputs_break_asks_for_data():
    data = np.abs(ROWS) + 3     # of the negative numbers that a report makes up there is no root, and of that no code
    plan = nn.Sequential(Root(), nn.Linear(6, 6)).to_int8(calibration=data, skip=["0"])
    assert plan.report(data, seconds=1e-9).latency_ms > 0
    with pytest.raises(ShapeError, match=r"report: the plan fails on made-up inputs; give it some as data=.*NaN"):
        plan.report(seconds=1e-9)


def test_a_model_that_is_slower_than_float32_is_said_to_be():
    model, x = models.MLP(6, 9, 4), normal(8, 6)
    found = model.to_int8().report(x, batch=8, seconds=0.01)
    for took, said in ((1.2, True), (1.0, False)):
        for layer in found.layers:
            layer.total_ms, layer.float32_ms = took, 1.0
        found.latency_ms = 1.0
        assert any("it is slower than float32, whose layers take" in line for line in found.summary()) is said
