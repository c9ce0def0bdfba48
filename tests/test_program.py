"""Programs: what a plan computes from memory planned once is what its steps give one by one, however it is called."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import NETS, Then, images, inputs_of, nets, randomise
from saved import KINDS

import tinyml
from tinyml import Tensor, models, nn
from tinyml.errors import ShapeError
from tinyml.nn import functional as F
from tinyml.plan import plan as plans
from tinyml.plan.arena import LINE, Life, most_alive, place
from tinyml.plan.program import Programs, observe
from tinyml.precision import Plan


def by_steps(plan: Plan, *xs: np.ndarray) -> list[bytes]:
    """The outputs of all steps run one by one on the whole batch, each in memory of its own."""
    given_values = {s.value: x for s, x in zip(plan.inputs, xs)}
    results, _ = observe(plan.steps, given_values, tuple(o.value for o in plan.outputs), len(xs[0]))
    return [y.tobytes() for y in results]


def whole(plan: Plan, *xs: np.ndarray) -> list[bytes]:
    """The plan's outputs."""
    y = plan(*xs)
    return [t.numpy().tobytes() for t in (y if isinstance(y, tuple) else (y,))]


def check(plan: Plan, xs_of, monkeypatch) -> None:
    """Same bytes in every call, whatever was called before: one sample, many, in one piece and in several."""
    for piece in (plans.PIECE, 3 * plan.memory().nbytes, 1):
        monkeypatch.setattr(plans, "PIECE", piece)
        for call, batch in enumerate((1, 7, 7, 4, 1, 7, 4)):
            xs = xs_of(batch, call)
            assert whole(plan, *xs) == by_steps(plan, *xs), f"batch {batch}, call {call}, pieces of {piece} bytes"


@pytest.mark.parametrize("name", NETS)
def test_all_nets(name, monkeypatch):
    x = inputs_of(name, 6, 0)
    check(randomise(NETS[name][0]()).to_int8(calibration=[x]), lambda n, seed: (inputs_of(name, n, seed),), monkeypatch)


@settings(max_examples=60)
@given(nets(), st.integers(0, 2**31))
def test_generated_nets(net, seed):
    model, shape = net
    randomise(model, seed)
    plan = model.to_int8(calibration=[images(shape, 5, seed)], observer="minmax")
    with pytest.MonkeyPatch.context() as patch:
        check(plan, lambda n, call: (images(shape, n, call),), patch)
    memory = plan.memory()
    assert memory.least <= memory.nbytes < memory.least + 4 * LINE      # a chain: two values at a time


def branches(m, x):
    """Values that outlive others by far, views of views, a value that is read as a view after its own last step."""
    a = F.relu(m.a(x))
    b = a.reshape(len(x), 2, 32).softmax(-1)
    c = F.cat([b.reshape(len(x), 64), a.flatten(1)], dim=1)
    d = m.b(c) * m.c(b.permute(0, 2, 1).reshape(len(x), 64))
    return d + c[:, :5], b.reshape(len(x), 4, 16)[:, 1:3]


@pytest.mark.parametrize("skip", [[], ["a"], ["b", "c"], ["a", "b", "c"]])
def test_views_and_islands(skip, monkeypatch):
    model = randomise(Then(branches, nn.Conv2d(3, 4, 3, padding=1), nn.Linear(128, 5), nn.Linear(64, 5)))
    plan = model.to_int8(calibration=[images((3, 4, 4), 5, 0)], skip=skip)
    check(plan, lambda n, seed: (images((3, 4, 4), n, seed),), monkeypatch)


def test_inputs_of_several_kinds(monkeypatch):
    """Floats of other dtypes and orders, ids of several dtypes, constants that follow the batch."""
    plan = KINDS["static everything"][0]()
    rng = np.random.default_rng(0)

    def xs_of(batch, call):
        ids = rng.integers(0, 11, (batch, 6)).astype(("int64", "int32", "uint8")[call % 3])
        x = rng.standard_normal((batch, 8, 8, 3)).astype(np.float32).transpose(0, 3, 1, 2)
        return x if call % 2 else np.ascontiguousarray(x), ids

    check(plan, xs_of, monkeypatch)
    x, ids = xs_of(3, 0)
    assert whole(plan, x.astype(np.float64), ids) == whole(plan, np.asfortranarray(x), ids[:, ::-1][:, ::-1])


def test_codes_in_and_out_in_pieces(monkeypatch):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5))
    x = images((3, 6, 6), 9, 0)
    plan = randomise(model).to_int8(calibration=[x])
    codec = plan.inputs[0].codec
    q = Tensor(x).to_int8(scale=codec.scale, zero_point=codec.zero_point)
    expected = plan(x).numpy()
    for piece in (plans.PIECE, 1):
        monkeypatch.setattr(plans, "PIECE", piece)
        for _ in range(2):
            assert np.array_equal(plan(q).numpy(), expected)
            for given_x in (x, q):
                assert np.array_equal(plan.codes(given_x).dequantize().numpy(), expected)


# ---- what goes in pieces


def mixes(name):
    return {"rows of the batch": lambda m, x: m.a(x) + m.a(x)[0],
            "the batch last": lambda m, x: F.relu(m.a(x)).permute(1, 0),
            "all in one": lambda m, x: m.a(x).reshape(-1, 2),
            "two rows a sample": lambda m, x: m.a(x).reshape(len(x) * 2, 2)}[name]


def test_only_plans_that_work_sample_by_sample_go_in_pieces(monkeypatch):
    monkeypatch.setattr(plans, "PIECE", 1)
    x = images((4,), 6, 0)
    for name in ("rows of the batch", "the batch last", "all in one", "two rows a sample"):
        plan = Then(mixes(name), nn.Linear(4, 4)).to_int8(calibration=[x])
        assert plan.memory(6).batch == 6, name
        assert whole(plan, x) == whole(plan, x) == by_steps(plan, x), name
    for name in ("CifarCNN", "ResNet8", "DepthwiseCNN", "dense", "squeeze and excitation"):
        plan = NETS[name][0]().to_int8(calibration=[inputs_of(name, 6, 0)])
        assert plan.memory(6).batch == 1, name


def test_an_error_speaks_of_the_whole_batch_and_leaves_the_plan_as_it_was(monkeypatch):
    plan = randomise(NETS["CifarCNN"][0]()).to_int8(calibration=[inputs_of("CifarCNN", 6, 0)])
    monkeypatch.setattr(plans, "PIECE", 1)
    x = inputs_of("CifarCNN", 6, 1)
    bad = x.copy()
    bad[4, 1, 2, 3], bad[5, 0] = np.nan, np.nan
    for _ in range(3):      # the first call steps through a sample, the others do not
        with pytest.raises(ShapeError, match="plan: 65 of 1152 values to quantize in 0 are NaN"):
            plan(bad)
        with pytest.raises(ShapeError, match="plan: 1 of 192 values to quantize in 0 are NaN"):
            plan(bad[4:5])
        with pytest.raises(ShapeError, match=r"expected input \(B, 3, 8, 8\), got \(6, 3, 8, 4\)"):
            plan(x[..., :4])
        assert whole(plan, x) == by_steps(plan, x)
        with pytest.raises(ShapeError, match=r"plan: expected 1 input\(s\), got 2"):
            plan(x, x)


# ---- whose memory results are


def test_results_stay_when_the_plan_runs_again():
    identity = Then(lambda m, x: x.reshape(len(x), 12), nn.Linear(1, 1)).to_int8(calibration=[images((3, 4), 5, 0)])
    net = randomise(NETS["ResNet8"][0]()).to_int8(calibration=[images((3, 8, 8), 5, 0)])
    for plan, shape in ((identity, (3, 4)), (net, (3, 8, 8))):
        kept = []
        for call in range(4):
            x = images(shape, 5, call)
            y = plan(x).numpy()
            assert not np.shares_memory(y, x) and y.flags.writeable
            kept.append((y, y.copy()))
            x.fill(7)
        assert all(np.array_equal(y, copy) for y, copy in kept)


def test_a_plan_is_copied_without_its_programs():
    x = images((3, 8, 8), 5, 0)
    plan = randomise(NETS["CifarCNN"][0]()).to_int8(calibration=[x])
    expected = by_steps(plan, x)
    assert whole(plan, x) == whole(plan, x) == expected
    copy = plan.copy()
    assert whole(copy, -x) != expected == whole(copy, x) == whole(plan, x)


def test_few_shapes_are_kept():
    """Calls of ever more batch sizes do not pile up memory."""
    plan = randomise(Then(mixes("rows of the batch"), nn.Linear(4, 4))).to_int8(calibration=[images((4,), 5, 0)])
    for batch in (*range(1, 40), *range(1, 40)):
        for _ in range(3):
            x = images((4,), batch, batch)
            assert whole(plan, x) == by_steps(plan, x)
    programs = vars(plan)["_programs"]
    assert len(programs.layouts) == len(programs._idle) == Programs.SHAPES


# ---- at the same time


def test_threads_share_a_plan(monkeypatch):
    """Each of eight gets what it would alone, and all pieces of all run at the same time."""
    plan = randomise(models.CifarCNN(width=8)).to_int8(calibration=[images((3, 16, 16), 5, 0)])
    monkeypatch.setattr(plans, "PIECE", 3 * plan.memory().nbytes)
    xs = [images((3, 16, 16), 1 + i % 5, i) for i in range(8)]
    expected, found = [by_steps(plan, x) for x in xs], {}
    barrier = threading.Barrier(len(xs))

    def call(i: int) -> None:
        barrier.wait()
        found[i] = [whole(plan, xs[(i + j) % 8]) == expected[(i + j) % 8] for j in range(24)]

    threads = [threading.Thread(target=call, args=(i,)) for i in range(len(xs))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(found) == 8 and all(all(same) for same in found.values())


def test_a_forked_child_runs_the_programs_of_its_parent():
    # OpenMP's threads do not survive the fork: a child that used them would hang
    code = textwrap.dedent("""
        import os, signal, sys, warnings
        import numpy as np
        import tinyml
        from tinyml import models
        warnings.simplefilter("ignore")
        tinyml.set_num_threads(2)
        x = np.random.default_rng(0).standard_normal((4, 3, 32, 32)).astype(np.float32)
        plan = models.CifarCNN(width=16).to_int8(calibration=[x])
        expected = [plan(x).numpy().tobytes() for _ in range(3)][0]
        child = os.fork()
        if not child:
            signal.alarm(60)
            os._exit(0 if plan(x).numpy().tobytes() == expected else 3)
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert not done.returncode, done.stderr


# ---- the arena


@settings(max_examples=300)
@given(st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 12), st.integers(0, 6)), max_size=14))
def test_blocks_that_live_at_the_same_time_lie_apart(drawn):
    lives = {i: Life(nbytes, first, first + more) for i, (nbytes, first, more) in enumerate(drawn)}
    begins, nbytes = place(lives)
    assert begins.keys() == lives.keys() and all(b % LINE == 0 for b in begins.values())
    for i, a in lives.items():
        assert begins[i] + a.nbytes <= nbytes
        for j, b in lives.items():
            apart = begins[i] + a.nbytes <= begins[j] or begins[j] + b.nbytes <= begins[i]
            assert i == j or apart or a.last < b.first or b.last < a.first or not a.nbytes * b.nbytes
    at = [sum(life.nbytes for life in lives.values() if life.first <= step <= life.last) for step in range(20)]
    assert most_alive(lives) == max(at) <= nbytes <= sum(-(-life.nbytes // LINE) * LINE for life in lives.values())


def test_memory_is_that_of_the_largest_step():
    """CifarCNN at width 32: two images of 32 channels, 32 x 32 codes each, at the second convolution."""
    plan = models.CifarCNN().to_int8(calibration=[images((3, 32, 32), 2, 0)])
    memory = plan.memory()
    assert memory.nbytes == memory.least == 2 * 32 * 32 * 32
    assert str(memory) == ("batch 1: values share 65,536 bytes, of which 65,536 are needed at one time and "
                           f"{memory.total:,} would be without sharing")
    for threads in (1, 3):
        tinyml.set_num_threads(threads)
        assert plan.memory(500).batch == threads * plans.PIECE // memory.nbytes
    with pytest.raises(ShapeError, match="memory: expected a batch of at least 1, got 0"):
        plan.memory(0)


def test_training_makes_a_plan_cheaply():
    """A plan that runs once runs each step once: a model in training is lowered again after every change."""
    x = images((3, 8, 8), 6, 0)
    plan = randomise(NETS["CifarCNN"][0]()).to_int8(calibration=[x])
    ran: list[int] = []
    for at, step in enumerate(plan.steps):
        step.run = lambda values, batch, at=at, run=step.run: (ran.append(at), run(values, batch))[1]
    plan(x[:1])
    assert ran == list(range(len(plan.steps)))
    plan(x)
    views = [at for at, s in enumerate(plan.steps) if s.kind == "codes" and s.attrs["op"] == "reshape"]
    assert set(ran[len(plan.steps):]) == set(views)
