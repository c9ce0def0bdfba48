"""Integer steps without weights: each over generated shapes, ranges and constants, and what files may not make of them."""

from __future__ import annotations

from types import SimpleNamespace

import interpreter
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import Then, assert_interpreted, images, off_by, randomise

import tinyml
from tinyml import Tensor, models, nn
from tinyml.errors import QuantizationError, ShapeError, TinymlError
from tinyml.graph import trace
from tinyml.nn import functional as F
from tinyml.plan.steps import STEPS
from tinyml.precision import calibrate, lower


def codec(lo: float, hi: float) -> SimpleNamespace:
    """Scale and zero point of a range; equation (6)."""
    lo, hi = min(float(lo), 0.0), max(float(hi), 0.0)
    scale = np.float32((hi - lo) / 255) if lo < hi else np.float32(1)
    return SimpleNamespace(scale=scale, zero=int(np.clip(np.rint(-128 - lo / float(scale)), -128, 127)) if lo < hi else 0)


def codes(x: np.ndarray, c: SimpleNamespace) -> np.ndarray:
    """Equation (7)."""
    return np.clip(np.rint(x / c.scale) + c.zero, -128, 127).astype(np.int8)


def rounded(x: np.ndarray, c: SimpleNamespace) -> np.ndarray:
    """What x becomes in codes, in float64."""
    return float(c.scale) * (codes(x, c).astype(np.float64) - c.zero)


def assert_close(y: np.ndarray, exact: np.ndarray, c: SimpleNamespace) -> None:
    """y is `exact` rounded to codes once, where these reach."""
    low, high = (float(c.scale) * (end - c.zero) for end in (-128, 127))
    assert y.shape == exact.shape
    assert np.abs(y - np.clip(exact, low, high)).max(initial=0) <= float(c.scale) * (0.5 + 2.0**-12)


@st.composite
def batches(draw, shape: tuple) -> np.ndarray:
    """Eleven normal arrays of some magnitude and offset, so that zero points are anywhere."""
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    x = rng.standard_normal((11, *shape)) + draw(st.sampled_from([0, 0.5, -1, 4, -9]))
    return (x * 2.0 ** draw(st.integers(-4, 4))).astype(np.float32)


# ---- arithmetic

BINARY = {"a + b": lambda a, b: a + b, "a - b": lambda a, b: a - b, "b - a": lambda a, b: b - a,
          "a * b": lambda a, b: a * b}
CLAMPS = {"none": lambda y: y, "relu": lambda y: y.clip(0.0, np.inf), "clip": lambda y: y.clip(-0.7, 0.4)}


@st.composite
def pairs(draw) -> tuple[np.ndarray, np.ndarray]:
    """Operands that broadcast either way, of up to five dimensions with the batch."""
    shape = draw(st.lists(st.integers(1, 5), max_size=4))
    a, b = (tuple(n if draw(st.booleans()) else 1 for n in shape) for _ in "ab")
    return draw(batches(a)), draw(batches(b))


@settings(max_examples=200)
@given(pairs(), st.sampled_from(list(BINARY)), st.sampled_from(list(CLAMPS)), st.sampled_from(["all", "row", "constant"]))
def test_arithmetic_of_two_operands(tmp_path_factory, operands, op, clamp, kind):
    """The second has the batch, is one row, or a constant; a sum stays float if an operand would vanish in its codes."""
    x, second, fixed = operands[0], operands[1], kind == "constant"
    second = second[0] if fixed else second
    xs, seen = ((x,), second) if fixed else ((x, second), second[:7])
    take = (lambda v: v[0]) if kind == "row" else (lambda v: v)
    given_y = (Tensor(second),) if fixed else ()
    model = Then(lambda m, *xs: CLAMPS[clamp](BINARY[op](xs[0], take([*xs, *given_y][1]))))
    plan = model.to_int8(calibration=[(tuple(v[:7] for v in xs), None)], observer="minmax")

    a, b = (codec(v.min(), v.max()) for v in (x[:7], seen))
    floats = CLAMPS[clamp](BINARY[op](x[:7], take(seen)))
    target = codec(floats.min(), floats.max())
    table = fixed and second.size == 1
    if op != "a * b" and not table and 255 * min(float(a.scale), float(b.scale)) < float(target.scale):
        assert plan.islands[0] in ("add", "sub")
        return
    assert plan.islands == []
    assert [s.kind for s in plan.steps if "quantize" not in s.kind and s.kind != "codes"] == [
        "table" if table else "mul" if op == "a * b" else "add"]
    for batch in (1, 11) if kind == "row" else (0, 1, 11):
        assert_interpreted(plan, tmp_path_factory.getbasetemp() / "pair.safetensors", *(v[:batch] for v in xs))
    exact = BINARY[op](rounded(x, a), take(second.astype(np.float64) if table else rounded(second, b)))
    assert_close(plan(*xs).numpy(), CLAMPS[clamp](exact), target)


NUMBERS = {**BINARY, "a / b": lambda a, b: a / b, "b / a": lambda a, b: b / a, "max": F.maximum, "min": F.minimum,
           "max of": lambda a, b: F.maximum(b, a), "min of": lambda a, b: F.minimum(b, a)}


@pytest.mark.parametrize("number", [0.75, Tensor([-1.5]), Tensor(np.full((1, 1), 2, np.float32)), 1e-30, -3])
@pytest.mark.parametrize("op", NUMBERS)
def test_a_number_makes_a_table_of_the_op(op, number):
    """All 256 codes against the op's own float32 results, whatever shape the number has and on either side."""
    model = Then(lambda m, x: NUMBERS[op](x, number))
    x = np.random.default_rng(0).uniform(0.25, 2, (40, 3, 2)).astype(np.float32)
    plan = model.to_int8(calibration=[x])
    assert [s.kind for s in plan.steps] == ["quantize", "table", "dequantize"]
    source, y = codec(0, x.max()), model(Tensor(x)).numpy()
    target = codec(y.min(), y.max())
    every = source.scale * np.arange(256, dtype=np.float32)
    every = np.stack([every] * 6, axis=1).reshape(256, 3, 2)
    with np.errstate(over="ignore", divide="ignore"):
        expected = rounded(model(Tensor(every)).numpy(), target)
    assert np.array_equal(plan(every).numpy(), expected.astype(np.float32))


def test_codes_outside_the_domain_of_a_function_become_zero():
    """Ranges that calibration did not take from the data may reach where the function has no value."""
    x = np.linspace(0, 4, 50, dtype=np.float32)[:, None]
    graph = trace(Then(lambda m, x: x.sqrt() + 0.0), x)
    plan = lower(graph, dict.fromkeys(graph.shapes, (-1.0, 4.0)))
    assert plan.islands == [] and np.abs(plan(x).numpy() - np.sqrt(x)).max() < 0.1
    assert not plan(-x / 4).numpy()[1:].any()


def test_a_number_that_adds_dimensions_is_a_constant_like_others(tmp_path):
    model = Then(lambda m, x: m.a(x) * Tensor(np.full((1, 1, 1, 1), 0.3, np.float32)), nn.Linear(4, 3))
    x = images((5, 4), 8, 0)
    plan = model.to_int8(calibration=[x])
    assert [s.kind for s in plan.steps] == ["quantize", "product", "mul", "dequantize"]
    assert plan(x).shape == (1, 8, 5, 3)
    assert_interpreted(plan, tmp_path / "plan.safetensors", x)


def test_constants_have_codes_of_their_own_range(tmp_path):
    """Equations (6) and (7) from the float constant, in the file; the constant is the second operand there."""
    constant = images((4, 1, 1), 1, 3)[0] * 5
    x = images((4, 3, 2), 9, 0)
    for function, signs in ((lambda m, x: x + Tensor(constant), [1, 1]), (lambda m, x: Tensor(constant) - x, [-1, 1]),
                            (lambda m, x: Tensor(constant) * x, None)):
        Then(function).to_int8(calibration=[x]).save(tmp_path / "plan.safetensors")
        file = interpreter.Plan(tmp_path / "plan.safetensors")
        attrs, own = codec(constant.min(), constant.max()), file.own(1)["constant"]
        assert own.dtype == np.int8 and np.array_equal(own, codes(constant, attrs))
        step = file.steps[1]["attrs"]
        assert (step["scales"][1], step["zero_points"][1]) == (attrs.scale, attrs.zero) and step.get("signs") == signs


def test_an_operand_that_would_be_lost_keeps_a_sum_in_float():
    """The whole range of the small operand is one step of the sum."""
    x = images((6,), 30, 0)
    for factor, islands in ((100.0, []), (1000.0, ["add"])):
        large = Tensor(np.float32(factor) * images((6,), 1, 1)[0])
        plan = Then(lambda m, x, large=large: m.a(x) + large, nn.Linear(6, 6)).to_int8(calibration=[x])
        assert plan.islands == islands


# ---- joining


@st.composite
def joins(draw) -> tuple[list[np.ndarray], int]:
    """Two or three batches that differ in one dimension, and that dimension."""
    shape = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    axis = draw(st.integers(0, len(shape) - 1))
    sizes = [(*shape[:axis], n, *shape[axis + 1 :]) for n in draw(st.lists(st.integers(1, 4), min_size=2, max_size=3))]
    return [draw(batches(size)) for size in sizes], axis


@settings(max_examples=100)
@given(joins(), st.booleans(), st.data())
def test_concat_brings_all_to_the_codes_of_the_result(tmp_path_factory, parts, negative, data):
    """Codes that differ are requantized with one rounding; those that do not are not touched."""
    xs, axis = parts
    at = axis - (xs[0].ndim - 1) if negative else axis + 1
    model = Then(lambda m, *xs: F.cat([*xs, xs[0]], dim=at))
    plan = model.to_int8(calibration=[(tuple(v[:7] for v in xs), None)], observer="minmax")
    assert plan.islands == []
    sources = [codec(v[:7].min(initial=0), v[:7].max(initial=0)) for v in [*xs, xs[0]]]
    joined = np.concatenate([*xs, xs[0]], axis=at)[:7]
    target = codec(joined.min(), joined.max())
    step = next(s for s in plan.steps if s.kind == "concat")
    assert [t is None for t in step.tables] == [s == target for s in sources]
    for batch in (0, 1, 11):
        assert_interpreted(plan, tmp_path_factory.getbasetemp() / "concat.safetensors", *(v[:batch] for v in xs))
    exact = np.concatenate([rounded(v, c) for v, c in zip([*xs, xs[0]], sources, strict=True)], axis=at)
    assert_close(plan(*xs).numpy(), exact, target)


def test_constants_are_joined_in_the_codes_of_the_result(tmp_path):
    constant = images((2, 4), 1, 3)[0] * 3

    def forward(m, x):
        return m.a(x)[:, None] + F.cat([x[0, None], Tensor(constant), x[-1:]], dim=0)

    model, x = randomise(Then(forward, nn.Linear(4, 4))), images((4,), 12, 0)
    plan = model.to_int8(calibration=[x])
    assert plan.islands == []
    assert_interpreted(plan, tmp_path / "plan.safetensors", x)
    file = interpreter.Plan(tmp_path / "plan.safetensors")
    at, step = next((i, s["attrs"]) for i, s in enumerate(file.steps) if s["kind"] == "concat")
    assert step["operands"] == ["value", "operand1", "value"]
    target = SimpleNamespace(scale=np.float32(step["scale_out"]), zero=step["zero_point"])
    assert np.array_equal(file.own(at)["operand1"], codes(constant, target))


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=4),
       st.sampled_from([0.0, -0.5, 3.0, 40.0]), st.data())
def test_pad_of_codes(tmp_path_factory, dimensions, value, data):
    x = data.draw(batches(tuple(n for n, _, _ in dimensions)))
    widths = [(0, 0), *((before, after) for _, before, after in dimensions)]
    flat = [n for pair in reversed(widths) for n in pair]
    plan = Then(lambda m, x: F.pad(x, flat, value=value)).to_int8(calibration=[x[:7]], observer="minmax")
    padded = np.pad(x[:7], widths, constant_values=value)
    source, target = codec(x[:7].min(), x[:7].max()), codec(padded.min(), padded.max())
    if 255 * source.scale < target.scale:
        assert plan.islands == ["pad"]
        return
    assert plan.islands == []
    for batch in (0, 1, 11):
        assert_interpreted(plan, tmp_path_factory.getbasetemp() / "pad.safetensors", x[:batch])
    assert_close(plan(x).numpy(), np.pad(rounded(x, source), widths, constant_values=value), target)


# ---- embedding


def test_rows_of_an_embedding_are_codes_of_its_result(tmp_path):
    """int8 in the file, in the result's scale and zero point; rows that calibration never saw are clamped."""
    model = nn.Sequential(nn.Embedding(9, 4))
    model[0].weight.array[8] = 50
    ids = np.random.default_rng(0).integers(0, 8, (6, 5))
    plan = model.to_int8(calibration=[ids])
    assert [s.kind for s in plan.steps] == ["embedding", "dequantize"]
    rows = model[0].weight.numpy()[np.unique(ids)]
    c = codec(rows.min(), rows.max())
    plan.save(tmp_path / "plan.safetensors")
    table = interpreter.Plan(tmp_path / "plan.safetensors").own(0)["table"]
    assert table.dtype == np.int8 and np.array_equal(table, codes(model[0].weight.numpy(), c)) and (table[8] == 127).all()
    for dtype in (np.int64, np.int32, np.uint8):
        for shape in ((3, 5), (0, 5)):
            assert_interpreted(plan, tmp_path / "plan.safetensors", np.full(shape, 7, dtype))


def test_ids_that_are_no_rows_are_named():
    model = models.TinyGPT(20, 6, 1, 2, 8, tied=False)
    plan = model.to_int8(calibration=[np.arange(18).reshape(3, 6)])
    for bad in (20, -1):
        with pytest.raises(ShapeError, match=rf"embedding: expected ids in \[0, 20\), got .*{bad}.*\(in layer .*tokens\)"):
            plan(np.full((2, 6), bad))
    model.tokens.weight.array[19] = np.nan
    with pytest.raises(QuantizationError, match=r"expected a table of finite values.*\(in layer embedding in tokens\)"):
        model.to_int8(calibration=[np.arange(18).reshape(3, 6)])


# ---- language models


def block_islands(name: str) -> list[str]:
    return [f"layer_norm in {name}norm1", f"attention in {name}attention", f"layer_norm in {name}norm2"]


def test_a_transformer_block_on_floats(tmp_path):
    model = randomise(models.gpt.network.Block(models.TinyGPTConfig(1, 5, layers=1, heads=2, dim=8, dropout=0.1)))
    x = images((5, 8), 12, 0)
    plan = model.to_int8(calibration=[x[:8], x[8:]])
    assert plan.islands == block_islands("")
    assert off_by(plan, model, x) < 0.05
    assert [s.kind for s in plan.steps].count("product") == 4 and [s.kind for s in plan.steps].count("add") == 2
    plan.save(tmp_path / "plan.safetensors")
    for batch in (0, 1, 12):
        assert np.array_equal(tinyml.load(tmp_path / "plan.safetensors")(x[:batch]).numpy(), plan(x[:batch]).numpy())


@pytest.mark.parametrize("tied", [True, False])
def test_tinygpt_from_ids_to_logits(tied, tmp_path):
    model = models.TinyGPT(40, 12, 2, 2, 32, tied=tied)
    ids = np.random.default_rng(0).integers(0, 40, (24, 12))
    plan = model.to_int8(calibration=[ids[:12], ids[12:]])
    assert plan.islands == [*block_islands("blocks.0."), *block_islands("blocks.1."), "layer_norm in norm"]
    assert off_by(plan, model, ids) < 0.05
    assert [s.kind for s in plan.steps][:2] == ["embedding", "add"]
    plan.save(tmp_path / "plan.safetensors")
    for batch in (0, 1, 24):
        assert np.array_equal(tinyml.load(tmp_path / "plan.safetensors")(ids[:batch]).numpy(), plan(ids[:batch]).numpy())
    with pytest.raises(ShapeError, match=r"expected input \(B, 12\), got \(1, 11\)"):
        plan(ids[:1, :11])


# ---- what is a step and what is not


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize(("axis", "lowered"), [((2, 3), True), ((3, 2), True), ((-1, 2), True), ((1, 2), False), (2, False),
                                               ((1, 2, 3), False)])
def test_means_of_images(axis, lowered, keepdims, tmp_path):
    model = randomise(Then(lambda m, x: F.relu(m.a(x).mean(axis, keepdims)), nn.Conv2d(3, 4, 3)))
    x = images((3, 8, 7), 9, 0)
    plan = model.to_int8(calibration=[x])
    assert plan.islands == ([] if lowered else ["mean", "relu"])     # a table between floats saves nothing
    assert off_by(plan, model, x) < 0.05
    if lowered:
        assert_interpreted(plan, tmp_path / "plan.safetensors", x)


def test_what_has_no_step_is_an_island():
    row = Tensor(images((4,), 1, 1)[0])

    def forward(m, x):
        y = m.a(x)
        y = F.maximum(y, m.b(y)) / (row + 5.0)
        y = y + Tensor(np.ones((len(x), 1), np.float32)) * F.minimum(row, y)
        return m.b(F.cat([y, np.zeros((len(x), 2), np.float32)], dim=1)[:, 1:5])

    model = randomise(Then(forward, nn.Linear(3, 4), nn.Linear(4, 4)))
    x = images((3,), 30, 0)
    plan = model.to_int8(calibration=[x])
    assert plan.islands == ["maximum", "div", "minimum", "mul", "concat"]
    for batch in (1, 30):
        assert off_by(plan, model, x[:batch]) < 0.05


def test_ranges_too_far_apart_are_named():
    """A multiplier of 2^30 or more, which equation (5) does not have; the op is named."""
    x = images((4,), 9, 0)
    for function, name in {lambda m, x: x + x[:, ::-1]: "add", lambda m, x: x * x[:, ::-1]: "mul",
                           lambda m, x: F.cat([x, x], dim=1): "concat",
                           lambda m, x: F.pad(x, (1, 1)): "pad"}.items():
        graph = trace(Then(function), x)
        ranges = {**calibrate(graph, [x]).ranges, graph.nodes[-1].output: (0.0, 1e-12)}
        with pytest.raises(QuantizationError, match=rf"output scale is far too small.*in layer {name}"):
            lower(graph, ranges)


# ---- what a file may hold

TABLE = np.arange(256, dtype=np.uint8)
PAIR = {"scales": [0.1, 0.2], "zero_points": [3, -128], "scale_out": 0.3, "zero_point": 5, "lo": -128, "hi": 127}
ONE = {"scales": [0.1], "zero_points": [3], "scale_out": 0.3, "zero_point": 5}
POOL = {"rows": np.array([[0, 2]]), "columns": np.array([[0, 3]]), "multiplier": np.array([[2**30]]),
        "shift": np.array([[33]])}
GOOD = {    # kind: attributes, arrays, shapes of its operands
    "add": ({**PAIR, "signs": [1, -1]}, {}, [(2, 3), (1, 3)]),
    "add of a constant": ({**PAIR, "signs": [1, -1]}, {"constant": np.zeros((3,), np.int8)}, [(2, 3)]),
    "mul": (PAIR, {}, [(2, 3, 2, 2), (3, 1, 1)]),
    "concat": ({**PAIR, "operands": ["value", "operand1"], "axis": 1}, {"operand1": np.zeros((2, 1), np.int8)}, [(2, 3)]),
    "pad": ({**ONE, "widths": [[0, 0], [1, 2]], "code": 9}, {}, [(2, 3)]),
    "embedding": ({"scale": 0.1, "zero_point": 3}, {"table": np.zeros((5, 4), np.int8)}, [(2, 3)]),
    "table": ({"op": "tanh"}, {"table": TABLE}, [(2, 3)]),
    "avg_pool": ({"zero_in": 0, "zero_point": 3}, POOL, [(2, 3, 4, 4)]),
    "mean": ({"zero_in": 0, "zero_point": 3}, POOL, [(2, 3, 4, 4)]),
}
BAD = {
    "add": [{"scales": [0.1]}, {"scales": [0.1, 0.2, 0.3]}, {"scales": [0.1, np.nan]}, {"scales": [0.1, -0.2]},
            {"scale_out": 0.0}, {"scale_out": 1e-20}, {"scales": [0.1, np.inf]}, {"zero_points": [3]},
            {"zero_points": [3, 128]}, {"zero_points": [3, 1.5]}, {"zero_point": -129}, {"lo": -129}, {"hi": 2**40},
            {"lo": 3, "hi": 2}, {"signs": [1]}, {"signs": [1, 0]}, {"signs": [1, 2]}, {"constant": np.zeros(3, np.int8)}],
    "add of a constant": [{"constant": np.zeros(3)}, {"constant": np.zeros(4, np.int8)}],
    "mul": [{"scale_out": 1e-20}, {"scales": [1e20, 1e20]}, {"scales": [0.1]}, {"zero_points": [3, 900]}],
    "concat": [{"operands": ["value"]}, {"operands": ["value", "value"]}, {"operands": ["value", "operand2"]},
               {"axis": 2}, {"axis": -3}, {"axis": 1.0}, {"axis": 10**30}, {"operand1": np.zeros((2, 1))},
               {"operand1": np.zeros((1, 1), np.int8)}, {"operand1": np.zeros(2, np.int8)},
               {"operand2": TABLE.view(np.int8)}, {"scales": [0.1]}, {"zero_points": [0, 128]}, {"scale_out": 1e-20}],
    "pad": [{"widths": [[0, 0]]}, {"widths": [[0, 0], [1, -2]]}, {"widths": [[0, 0], [1, 2, 3]]},
            {"widths": [[0, 0], [1, 0.5]]}, {"widths": [[0, 0], [0, 10**9]]}, {"widths": [[10**5, 0], [0, 10**5]]},
            {"widths": [[0, 0], [0, 10**30]]}, {"code": 128}, {"scales": [0.1, 0.2]}, {"zero_points": [-200]},
            {"scale_out": 1e-38}],
    "embedding": [{"scale": 0.0}, {"zero_point": 128}, {"table": np.zeros((5, 4))}, {"table": np.zeros(5, np.int8)},
                  {"table": np.zeros((0, 4), np.int8)}],
    "table": [{"table": TABLE[:255]}, {"table": TABLE.view(np.int8)}, {"table": TABLE.reshape(16, 16)}],
    "avg_pool": [{"rows": np.array([[0, 5]])}, {"columns": np.array([[-1, 3]])}, {"columns": np.array([[3, 2]])},
                 {"shift": np.array([[0]])}, {"shift": np.array([[56]])}, {"multiplier": np.array([[2**31]])},
                 {"multiplier": np.array([[2**30] * 2])}, {"zero_in": 128}],
    "mean": [{"rows": np.array([[0, 2], [2, 4]]), "multiplier": np.array([[1], [1]]), "shift": np.array([[1], [1]])}],
}


def run_step(name: str, **changes) -> np.ndarray:
    attrs, arrays, shapes = GOOD[name]
    arrays = {**arrays, **{k: v for k, v in changes.items() if isinstance(v, np.ndarray)}}
    attrs = {**attrs, **{k: v for k, v in changes.items() if k not in arrays}}
    step = STEPS[name.split()[0]](list(range(len(shapes))), 9, "layer", attrs, arrays)
    dtype = np.int64 if name == "embedding" else np.uint8
    return step.run([np.zeros(s, dtype) for s in shapes], 2)


@pytest.mark.parametrize("name", GOOD)
def test_steps_refuse_what_does_not_fit(name):
    """Whatever a file says, a step is right or an error of ours: kernels trust sizes, and memory is finite."""
    assert run_step(name).size
    for changes in BAD[name]:
        with pytest.raises(TinymlError):
            run_step(name, **changes)


def test_steps_refuse_results_that_no_layer_has():
    """Shapes that multiply: each step makes at most 2^28 codes per sample, and raises an error before it allocates more."""
    long = np.broadcast_to(np.uint8(0), (1, 2**15, 1))
    steps = {
        "add": ({**PAIR, "signs": [1, 1]}, {}, [long, long.transpose(0, 2, 1)]),
        "mul": (PAIR, {}, [long, long.transpose(0, 2, 1)]),
        "concat": ({**ONE, "scales": [0.3] * 3, "zero_points": [5] * 3, "operands": ["value"] * 3, "axis": 0}, {},
                   [np.broadcast_to(np.uint8(0), (2**27,))] * 3),
        "embedding": ({"scale": 0.1, "zero_point": 3}, {"table": np.zeros((1, 2**15), np.int8)}, [long.astype(np.int64)]),
    }
    for kind, (attrs, arrays, values) in steps.items():
        step = STEPS[kind](list(range(len(values))), 9, "layer", attrs, arrays)
        with pytest.raises(ShapeError, match=f"{kind} in layer: output out of range"):
            step.run(values, 1)


def test_all_kinds_of_steps_are_tried():
    made_elsewhere = {"quantize", "dequantize", "product", "float_product", "codes", "island"}
    assert {name.split()[0] for name in GOOD} == STEPS.keys() - made_elsewhere
