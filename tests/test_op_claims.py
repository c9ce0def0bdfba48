"""The declarations of an op hold on its samples; an op without declarations runs alone, unfused and uncounted."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from nets import Then
from values import normal

import tinyml
from tinyml import nn
from tinyml.nn import functional as F
from tinyml.ops import Op
from tinyml.ops.op import in_memory
from tinyml.plan.arena import empty, standard
from tinyml.tape import Context, no_grad
from tinyml.tensors import FLOATS, OPS, Tensor, apply

NAMES = sorted(OPS)


def samples(name: str):
    """(arrays, attrs) of each sample of an op, floats as float32."""
    for s in OPS[name].samples(np.random.default_rng(1)):
        yield [x.astype(np.float32) if isinstance(x, np.ndarray) and x.dtype in FLOATS else x for x in s.inputs], s.attrs


def forward(name: str, arrays: list, attrs: dict) -> np.ndarray:
    with no_grad():
        return apply(OPS[name], *arrays, **attrs).numpy()


def having(rule: str) -> list[str]:
    """The ops that define a method of the base anew."""
    return [name for name in NAMES if getattr(OPS[name], rule) is not getattr(Op, rule)]


# ---- plans


@pytest.mark.parametrize("name", having("bind"))
def test_what_an_op_binds_is_its_forward_to_the_bit(name):
    bound = 0
    for arrays, attrs in samples(name):
        arrays = [standard(x) for x in arrays]
        expected = forward(name, arrays, attrs)
        out = empty(expected.shape, np.float32)
        call = OPS[name].bind(out, *arrays, **attrs)
        if call is None:
            continue
        for _ in range(2):
            in_memory(out)[...] = 7
            call()
            assert out.tobytes() == standard(expected).tobytes()
        for x in arrays:
            x *= 2      # the operands' memory is read at each call
        call()
        assert out.tobytes() == standard(forward(name, arrays, attrs)).tobytes()
        bound += 1
    assert bound or name == "div"       # whose forward also silences NumPy


@pytest.mark.parametrize("name", NAMES)
def test_samples_of_a_batch_are_apart_where_an_op_says_so(name):
    for arrays, attrs in samples(name):
        batched = [x for x in arrays if x is not None and x.ndim]
        if len(batched) != len(arrays) or len({len(x) for x in batched}) != 1:
            continue
        symbolic = {k: (tinyml.graph.Batch(), *v[1:]) if k == "shape" and v[:1] == (len(batched[0]),) else v
                    for k, v in attrs.items()}
        ndim = OPS[name].by_sample([x.ndim for x in arrays], [], **symbolic)
        if ndim is None:
            continue
        whole = forward(name, arrays, attrs)
        assert whole.ndim == ndim and len(whole) == len(batched[0])
        for i in range(len(whole)):
            own = {k: (1, *v[1:]) if k == "shape" else v for k, v in attrs.items()}
            assert np.array_equal(forward(name, [x[i : i + 1] for x in arrays], own), whole[i : i + 1], equal_nan=True)


def test_which_ops_work_sample_by_sample():
    x4, x2 = [4], [2, 2]
    assert OPS["add"].by_sample(x2, []) == 2 and OPS["add"].by_sample([2, 1], []) is None
    assert OPS["sub"].by_sample([2], [np.ones((3, 2))]) is None and OPS["sub"].by_sample([2], [np.ones((1, 2))]) == 2
    assert OPS["gelu"].by_sample(x4, [], approximate="none") == 4
    assert OPS["softmax"].by_sample(x2[:1], [], axis=0) is None and OPS["matmul"].by_sample(x2, []) is None
    for shape, ndim in (((tinyml.graph.Batch(), 3), 2), ((tinyml.graph.Batch(2), 3), None), ((6, 3), None), ((), None)):
        assert OPS["reshape"].by_sample([3], [], shape=shape) == ndim


@pytest.mark.parametrize("name", having("clamp"))
def test_a_clamp_is_nothing_else(name):
    for arrays, attrs in samples(name):
        lo, hi = np.float32(OPS[name].clamp(**attrs))
        assert np.array_equal(forward(name, arrays, attrs), np.clip(arrays[0], lo, hi))


@pytest.mark.parametrize("name", [name for name in NAMES if OPS[name].keeps_scaling])
def test_scalings_of_channels_pass_through(name):
    for arrays, attrs in samples(name):
        x, = arrays
        s = np.float32(2.0 ** np.arange(x.shape[1])).reshape(1, -1, *[1] * (x.ndim - 2))
        assert np.array_equal(forward(name, [x * s], attrs), forward(name, arrays, attrs) * s)


@pytest.mark.parametrize("name", [name for name in NAMES if OPS[name].has_gain])
def test_gains_scale_the_last_dimension(name):
    for (x, *rest), attrs in samples(name):
        s = np.float32(2.0 ** np.arange(x.shape[-1]))
        got = forward(name, [x, *(None if p is None else p / s for p in rest)], attrs)
        np.testing.assert_allclose(got, forward(name, [x, *rest], attrs) / s, rtol=1e-6)


# ---- costs


@pytest.mark.parametrize("name", NAMES)
def test_an_op_makes_no_more_elements_than_it_says(name):
    for arrays, attrs in samples(name):
        shapes = [x.shape for x in arrays if x is not None]
        assert forward(name, arrays, attrs).size <= OPS[name].elements(*shapes, **attrs)


@pytest.mark.parametrize("name", NAMES)
def test_operations_are_counted_of_products_only(name):
    for arrays, attrs in samples(name):
        y = forward(name, arrays, attrs)
        flops = OPS[name].flops(y, *arrays, **attrs)
        assert (flops is None) == (name not in ("attention", "conv2d", "linear", "linear_activation", "matmul"))
        assert flops is None or (flops >= 0 and OPS[name].backward_flops([True] * len(arrays)) >= 1)


# ---- ops of users


@pytest.fixture
def registry():
    """The registry as it was, whatever a test defines."""
    before = dict(OPS)
    yield OPS
    OPS.clear()
    OPS.update(before)


def define(**about) -> type[Op]:
    """A user's op y = |x| with the given declarations."""
    def backward(ctx, grad):
        return (grad * np.sign(ctx.x),)

    def forward(ctx, x):
        ctx.x = x
        return np.abs(x)

    body = {"name": "own", "forward": staticmethod(forward), "backward": staticmethod(backward), **about}
    return type("Own", (Op,), body)


def net(op: type[Op]) -> tuple[nn.Module, np.ndarray]:
    """Two linear layers with the op and a ReLU between them, and data."""
    model = Then(lambda m, x: m.b(F.relu(apply(op, m.a(x)))), nn.Linear(4, 6), nn.Linear(6, 3)).eval()
    return model, normal(50, 4)


def steps(plan) -> list[str]:
    return [s.attrs.get("op", s.kind) for s in plan.steps]


def test_an_op_that_says_nothing_is_an_island_on_the_whole_batch(registry):
    op = define()
    model, x = net(op)
    compiled, int8 = model.compile(x), model.to_int8(calibration=[x])
    assert steps(compiled) == ["linear", "own", "relu", "linear"]
    assert steps(int8) == ["quantize", "product", "dequantize", "own", "quantize", "relu", "product", "dequantize"]
    for plan in (compiled, int8):
        assert plan.memory(100_000).batch == 100_000
        for _ in range(2):
            np.testing.assert_allclose(plan(x).numpy(), model(x).numpy(), atol=0.05)
        assert "own" in plan.report([x], seconds=1e-9).layers[-1].ops
    with tinyml.profile() as profile:
        model(x)
    assert next(row for row in profile.rows if row.op == "own").flops is None
    with pytest.warns(UserWarning, match="the repair equalize had nothing to do"):
        model.to_int8(calibration=[x], repairs=["equalize"])
    assert op.bind(np.empty(3), np.ones(3)) is None and op.elements((2, 3)) == 6 and op.clamp() is None


def test_an_op_of_a_user_is_treated_as_it_says(registry):
    def bind(out, x):
        return lambda: np.abs(x, out=out)

    op = define(int8="table", takes_clamp=True, keeps_scaling=True, bind=staticmethod(bind),
                flops=staticmethod(lambda y, x: 1.0 * x.size))
    model, x = net(op)
    compiled, int8 = model.compile(x), model.to_int8(calibration=[x])
    assert steps(compiled) == ["linear", "own", "clip", "linear"]
    assert steps(int8) == ["quantize", "product", "own", "product", "dequantize"]
    for plan in (compiled, int8):
        assert plan.memory(100_000).batch < 100_000
        first = plan(x).numpy()
        assert np.array_equal(plan(x).numpy(), first) and plan.report([x], seconds=1e-9).sum_ms > 0
    with tinyml.profile() as profile:
        model(Tensor(x)).sum().backward()
    assert {row.flops for row in profile.rows if row.op == "own"} == {50.0 * 6}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.to_int8(calibration=[x], repairs=["equalize"])


def test_a_table_is_clamped_where_its_op_takes_a_clamp(registry):
    """A range wider than the clamp must not undo it."""
    op = define(int8="table", takes_clamp=True)
    model = Then(lambda m, x: apply(op, m.a(x)).clip(0.5, 2.0), nn.Linear(4, 6)).eval()
    x = 3 * normal(50, 4)
    graph = tinyml.graph.trace(model, x)
    plan = tinyml.precision.lower(graph, dict.fromkeys(graph.shapes, (-12.0, 16.0)))
    assert steps(plan) == ["quantize", "product", "own", "dequantize"]
    y, step = plan(x).numpy(), 28 / 255
    assert abs(y.min() - 0.5) <= step and abs(y.max() - 2.0) <= step


def test_a_clamp_of_a_user_becomes_part_of_a_layer(registry):
    class Ramp(Op):
        name = "ramp"

        @staticmethod
        def clamp(*, top):
            return 0.0, top

        @staticmethod
        def forward(ctx, x, *, top):
            return np.clip(x, np.float32(0), np.float32(top))

        @staticmethod
        def backward(ctx, grad):
            raise NotImplementedError

    model = Then(lambda m, x: m.b(apply(Ramp, m.a(x), top=1.5)), nn.Linear(4, 6), nn.Linear(6, 3)).eval()
    x = normal(50, 4)
    assert steps(model.compile(x)) == ["linear", "linear"]
    assert steps(model.to_int8(calibration=[x])) == ["quantize", "product", "product", "dequantize"]
    np.testing.assert_allclose(model.compile(x)(x).numpy(), model(x).numpy(), rtol=1e-5, atol=1e-6)


def test_an_op_that_moves_elements_passes_codes_on_and_is_not_named(registry):
    def forward(ctx, x):
        return x[:, ::-1]

    op = define(int8="codes", passes_on=True, forward=staticmethod(forward))
    model = Then(lambda m, x: m.b(apply(op, m.a(x))), nn.Linear(4, 6), nn.Linear(6, 3)).eval()
    x = normal(50, 4)
    plan = model.to_int8(calibration=[x])
    assert steps(plan) == ["quantize", "product", "own", "product", "dequantize"] and plan.islands == []
    rows = plan.report([x], seconds=0).rows()
    assert [row["ops"] for row in rows if row["layer"] in ("a", "b")] == ["linear", "linear"]
    assert np.array_equal(op.codes(np.arange(4, dtype=np.uint8)[None]), [[3, 2, 1, 0]])
    assert op.forward(Context((False,)), x).base is not None
    with pytest.raises(TypeError, match="takes_clamp does not go with int8 = 'codes'"):
        define(int8="codes", takes_clamp=True)
