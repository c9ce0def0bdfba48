"""The profiler: figures that add up, every op both ways, traces that nest."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest

import tinyml
from tinyml import Tensor, models
from tinyml.errors import ShapeError, TinymlError
from tinyml.nn import functional as F
from tinyml.tape import record, state


def step(model, x, y) -> None:
    (model.default_loss or F.cross_entropy)(model(x), y).backward()


@pytest.fixture(params=["cnn", "gpt"])
def training(request):
    rng = np.random.default_rng(0)
    if request.param == "cnn":
        return models.ResNet8(width=4), rng.standard_normal((4, 3, 16, 16), np.float32), np.arange(4)
    return models.TinyGPT(11, 6, 2, 2, 8, dropout=0.1), rng.integers(0, 11, (3, 6)), rng.integers(0, 11, (3, 6))


def test_every_op_forward_and_backward_and_the_sums(training, capsys):
    with record() as ops:
        step(*training)
    with tinyml.profile() as p:
        step(*training)
        step(*training)
    calls = {name: 2 * [r.op.name for r in ops].count(name) for name in {r.op.name for r in ops}}
    if "gelu" in calls:     # recorded apart, trained as one op with the linear layer before it
        calls["linear_activation"] = calls.pop("gelu")
        calls["linear"] -= calls["linear_activation"]
    assert {r.op: r.calls for r in p.rows if r.phase == "forward"} == calls
    backward = {r.op: r.calls for r in p.rows if r.phase == "backward"}
    assert backward.keys() == calls.keys() and all(backward[name] <= n for name, n in calls.items())
    seconds = [r.seconds for r in p.rows]
    assert seconds == sorted(seconds, reverse=True) and min(seconds) > 0 and p.outside > 0
    assert sum(seconds) + p.outside == pytest.approx(p.seconds)
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == len(p.rows) + 3 and [line.split()[0] for line in printed[1:-2]] == [r.op for r in p.rows]
    assert printed[-2].startswith("outside ops") and printed[-1].startswith("total")


def test_bytes_and_operations():
    x, w, b = (Tensor(np.ones(s, np.float32), requires_grad=True) for s in ((5, 4), (3, 4), (3,)))
    image, kernel = Tensor(np.ones((2, 4, 6, 6), np.float32)), Tensor(np.ones((8, 2, 3, 3), np.float32), requires_grad=True)
    qkv = Tensor(np.ones((3, 2, 7, 4), np.float32), requires_grad=True)
    with tinyml.profile() as p:
        F.linear(x, w, b).backward(np.ones((5, 3)))
        (Tensor(np.ones((2, 5, 4), np.float32)) @ w.T.detach()).sum()
        F.conv2d(image, kernel, padding=1, groups=2).sum().backward()
        tinyml.tensors.call("attention", qkv, causal=True).sum().backward()
    rows = {(r.op, r.phase): r for r in p.rows}
    assert rows["linear", "forward"].bytes == 4 * (20 + 12 + 3 + 15)
    assert rows["linear", "forward"].flops == 2 * 5 * 4 * 3 and rows["linear", "backward"].flops == 4 * 5 * 4 * 3
    assert rows["matmul", "forward"].flops == 2 * 2 * 5 * 4 * 3 and ("matmul", "backward") not in rows
    conv = 2 * (2 * 8 * 6 * 6) * 2 * 3 * 3
    assert rows["conv2d", "forward"].flops == rows["conv2d", "backward"].flops == conv      # no gradient to the image
    pairs = 2 * 7 * 8 // 2
    assert rows["attention", "forward"].flops == 4 * pairs * 4 and rows["attention", "backward"].flops == 10 * pairs * 4
    assert rows["sum", "forward"].flops is rows["sum", "forward"].share is None
    for row in p.rows:
        if row.flops:
            assert row.gflops * row.seconds * 1e9 == pytest.approx(row.flops) and 0 < row.share < 1.5


def test_traces_are_json_whose_events_nest(training, tmp_path):
    with tinyml.profile(trace=tmp_path / "trace.json") as p:
        step(*training)
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert sum(e["cat"] in ("forward", "backward") for e in events) == sum(r.calls for r in p.rows)
    spans = sorted(((e["ts"], e["ts"] + e["dur"], e) for e in events), key=lambda s: (s[0], -s[1]))
    assert spans[0][2]["name"] == "profile"
    open_spans, depth = [], {}
    for start, end, e in spans:
        while open_spans and open_spans[-1] <= start:
            open_spans.pop()
        assert all(end <= outer + 1e-3 for outer in open_spans)     # within every one that is still open
        depth.setdefault(e["cat"], set()).add(len(open_spans))
        open_spans.append(end)
    assert max(depth["forward"]) >= 3 and max(depth["layer"]) >= 2      # an op in a layer in a model in the profile
    names = {e["name"] for e in events}
    assert {type(training[0]).__name__, "cross_entropy", "cross_entropy backward"} <= names


def test_integer_rules_are_rows_of_their_own(tmp_path):
    model, ids = models.TinyGPT(11, 6, 2, 2, 8).to_int8(), np.zeros((3, 6), int)
    with tinyml.no_grad(), tinyml.profile(trace=tmp_path / "trace.json") as p:
        model(ids)
    rows = {(r.op, r.phase): r for r in p.rows}
    assert rows["linear", "int8"].calls == 2 * 3 + 1 and rows["linear_activation", "int8"].calls == 2
    assert rows["embedding", "int8"].calls == 2
    table = model.tokens.weight.nbytes + model.positions.weight.nbytes + ids.nbytes + 6 * 8
    assert rows["embedding", "int8"].bytes == table + 4 * 8 * (3 * 6 + 6)
    names = {event["name"] for event in json.loads((tmp_path / "trace.json").read_text())["traceEvents"]}
    assert {"linear", "embedding"} < names and "linear backward" not in names


def test_a_checkpoint_counts_its_ops_once_each():
    x = Tensor(np.ones(3, np.float32), requires_grad=True)
    with tinyml.profile() as p:
        tinyml.checkpoint(lambda a: a.tanh() * 2, x).sum().backward()
    calls = {(r.op, r.phase): r.calls for r in p.rows}
    assert calls["tanh", "forward"] == 2 and calls["tanh", "backward"] == 1
    assert sum(r.seconds for r in p.rows) + p.outside == pytest.approx(p.seconds) and p.outside > 0


def test_errors_pass_and_state_is_restored(capsys):
    x = Tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(ShapeError), tinyml.profile() as p:
        (x * 2).reshape(3)
    assert [r.op for r in p.rows] == ["mul"] and not capsys.readouterr().out
    assert state.profiler is None and type(state.modules) is list
    with tinyml.profile() as p:
        with pytest.raises(TinymlError, match="profile: this thread is being profiled already"), tinyml.profile():
            pass
        other = threading.Thread(target=lambda: x * 3)
        other.start()
        other.join()
        _ = x + 1
    assert [r.op for r in p.rows] == ["add"]        # the other thread's ops are not this one's
    with pytest.raises(TinymlError, match="used already"), p:
        pass
