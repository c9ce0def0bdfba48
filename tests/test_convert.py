"""model.to_int8(): what calibration may be, what dynamic int8 computes to the bit, and what both leave alone."""

from __future__ import annotations

import interpreter
import numpy as np
import pytest

from tinyml import Tensor, data, models, nn
from tinyml.errors import DtypeError, GradError, QuantizationError, ShapeError, TraceError
from tinyml.nn import functional as F
from tinyml.precision import Plan
from tinyml.tape import no_grad


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5), nn.Dropout())


X = normal(10, 3, 6, 6)


def same_state(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


def off_by(got: Tensor, expected: Tensor) -> float:
    """Root mean square of the difference, relative to the expected values'."""
    a, b = got.numpy(), expected.numpy()
    return float(np.sqrt(np.square(a - b).mean() / np.square(b).mean()))


# ---- calibration data


CALIBRATIONS = {
    "arrays": lambda: [X[:4], X[4:]],
    "Tensors": lambda: (Tensor(X[:4]), Tensor(X[4:])),
    "pairs": lambda: [(X[:4], np.zeros(4, int)), [Tensor(X[4:]), Tensor(np.zeros(6, int))]],
    "one array": lambda: X,
    "one Tensor": lambda: Tensor(X),
    "a generator": lambda: (X[i : i + 3] for i in range(0, 10, 3)),
    "a loader": lambda: data.DataLoader(data.ArrayDataset(X, np.zeros(10, np.int64)), 3),
    "float64": lambda: X.astype(np.float64),
    "memory of another order": lambda: np.asfortranarray(X),
    "an empty batch among others": lambda: [X, X[:0]],
}


@pytest.mark.parametrize("kind", CALIBRATIONS)
def test_calibration_takes_batches_of_many_kinds(kind):
    model = net()
    expected = model.to_int8(calibration=[X])
    plan = model.to_int8(calibration=CALIBRATIONS[kind]())
    assert isinstance(plan, Plan)
    assert plan(X).numpy().tobytes() == expected(X).numpy().tobytes()


def with_value(value: float) -> np.ndarray:
    x = X.copy()
    x[1, 2, 3, 4] = value
    return x


WRONG = {
    "nothing": ([], QuantizationError, "expected at least one batch of data, got none"),
    "a spent generator": (iter(()), QuantizationError, "expected at least one batch of data, got none"),
    "an empty array": (X[:0], TraceError, "expected non-empty examples"),
    "NaN": ([with_value(np.nan)], QuantizationError, "NaN or infinite values in the input, batch 0"),
    "infinity": ([with_value(-np.inf)], QuantizationError, "NaN or infinite values in the input, batch 0"),
    "NaN later": ([X, with_value(np.nan)], QuantizationError, "1 NaN or infinite values in the input, batch 1"),
    "other channels": ([X[:, :2]], ShapeError, r"expected input \(B, 3, H, W\).*got input \(2, 2, 6, 6\)"),
    "another size later": ([X, X[:, :, 1:]], ShapeError, r"expected input \(B, 3, 6, 6\), got \(10, 3, 5, 6\)"),
    "integers": ([(X * 9).astype(np.uint8)], DtypeError, "conv2d: operand 1 is uint8, expected float"),
    "a number": (5, ShapeError, "expected an iterable of batches.*; got int"),
    "a data set": (data.ArrayDataset(X, np.zeros(10)), ShapeError, "an iterable of batches.* got ArrayDataset"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_calibration_data_is_named_and_the_model_left_alone(kind):
    given, error, message = WRONG[kind]
    model = net()
    before = model.state_dict()
    with pytest.raises(error, match=message):
        model.to_int8(calibration=given)
    assert same_state(model.state_dict(), before) and all(m.training for m in model.modules())


def test_values_that_overflow_inside_the_model_are_named():
    model = net()
    model[4].weight.array[...] = 1e38
    with pytest.raises(QuantizationError, match="NaN or infinite values in the result of linear in 4, batch 0"):
        model.to_int8(calibration=[100 * abs(X)])


@pytest.mark.parametrize("calibration", [None, X])
def test_conversion_copies_and_leaves_the_model_as_it_was(calibration):
    model = net()
    model[1].training = False
    before, modes = model.state_dict(), [m.training for m in model.modules()]
    int8 = model.to_int8(calibration=calibration)
    assert same_state(model.state_dict(), before) and [m.training for m in model.modules()] == modes
    assert all(p.requires_grad for p in model.parameters())
    assert not any(m.training for m in int8.modules())

    expected = int8(X).numpy().copy()
    for _, t in model.named_tensors():
        t.array[...] = 3     # training goes on
    assert np.array_equal(int8(X).numpy(), expected)


# ---- dynamic int8


def codes_of(w: np.ndarray, per_channel: bool) -> tuple[np.ndarray, np.ndarray]:
    """Equation (2): codes of a weight and their scales (N)."""
    largest = np.abs(w).max(axis=tuple(range(1, w.ndim))) if per_channel else np.full(len(w), np.abs(w).max())
    scale = (largest.astype(np.float64) / 127).astype(np.float32)
    return np.rint(w / scale.reshape(-1, *[1] * (w.ndim - 1))).astype(np.int64), scale


def dynamic(x: np.ndarray, layer: nn.Module, per_channel: bool) -> np.ndarray:
    """Equation (9) in NumPy, each step in float32; x (B, C, H, W)."""
    w = layer.weight.numpy()
    codes, s_w = codes_of(w.reshape(*w.shape[:2], *(w.shape[2:] or (1, 1))), per_channel)
    s_x = np.abs(x).max(axis=(1, 2, 3)) / np.float32(127)
    q = np.rint(x / s_x[:, None, None, None]).astype(np.int64)
    window = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1}
    window = {k: getattr(layer, k, v) for k, v in window.items()}
    acc = interpreter.convolve(q, codes, {**window, "size": list(codes.shape[2:])})
    y = acc.astype(np.float32) * (s_x[:, None] * s_w)[:, :, None, None]
    return y if layer.bias is None else y + layer.bias.numpy()[:, None, None]


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("layer", [nn.Conv2d(3, 5, 3, padding=1), nn.Conv2d(5, 17, 1, bias=False),
                                   nn.Conv2d(4, 6, (2, 3), (2, 1), (0, 2), (1, 2), groups=2),
                                   nn.Linear(7, 5), nn.Linear(130, 33, bias=False)], ids=str)
def test_dynamic_layers_compute_equation_9_exactly(layer, per_channel):
    int8 = layer.to_int8(per_channel=per_channel)
    if isinstance(layer, nn.Linear):
        x = normal(4, layer.weight.shape[1])
        expected = dynamic(x[:, :, None, None], layer, per_channel)[:, :, 0, 0]
    else:
        x = normal(4, layer.weight.shape[1] * layer.groups, 6, 5)
        expected = dynamic(x, layer, per_channel)
    assert np.array_equal(int8(x).numpy(), expected)


def test_weights_are_stored_as_codes_of_a_quarter_of_the_bytes():
    model = nn.Sequential(nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 256))
    int8 = model.to_int8()
    for i in (0, 2):
        w, q = model[i].weight, int8[i].weight
        codes, scale = codes_of(w.numpy(), True)
        assert q.dtype == np.int8 and q.axis == 0 and not q.zero_point.any() and not q.requires_grad
        assert np.array_equal(q.numpy(), codes) and np.array_equal(q.scale, scale)
        assert 4 * q.numpy().nbytes == w.nbytes
        assert int8[i].bias.dtype == np.float32
    assert int8.nbytes < 0.3 * model.nbytes
    assert "int8" in repr(int8) and "int8" not in repr(model)
    assert model.to_int8(calibration=normal(5, 256)).nbytes < 0.3 * model.nbytes


MODELS = {
    "MLP": (lambda: models.MLP(12, 16, 5), normal(6, 12)),
    "CifarCNN": (lambda: models.CifarCNN(width=4), normal(3, 3, 8, 8)),
    "ResNet8": (lambda: models.ResNet8(width=4), normal(3, 3, 8, 8)),
    "TinyGPT": (lambda: models.TinyGPT(11, 6, 2, 2, 8), np.random.default_rng(0).integers(0, 11, (3, 6))),
}


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_dynamic_models_are_close_to_float(name, per_channel):
    make, x = MODELS[name]
    model = make()
    int8 = model.to_int8(per_channel=per_channel)
    with no_grad():
        assert 0 < off_by(int8(x), model.eval()(x)) < 0.03


def test_tied_weights_stay_tied_and_are_counted_once():
    model = models.TinyGPT(50, 6, 1, 2, 16)
    int8 = model.to_int8()
    assert int8.head.weight is int8.tokens.weight and int8.head.weight.dtype == np.int8
    untied = models.TinyGPT(50, 6, 1, 2, 16, tied=False).to_int8()
    assert untied.head.weight is not untied.tokens.weight
    assert untied.nbytes - int8.nbytes == 50 * 16 + 50 * 5      # codes, and a scale and a zero point per row


LAYERS = {"linear": (nn.Linear(8, 5), (4, 8)), "linear of a sequence": (nn.Linear(8, 5), (4, 3, 8)),
          "conv2d": (nn.Conv2d(3, 4, 3, padding=1), (4, 3, 5, 5))}


@pytest.mark.parametrize("name", LAYERS)
def test_a_row_is_quantized_by_itself(name):
    """Rows of linear, samples of conv2d: neither what else is in the batch nor how large it is changes a row's bits."""
    layer, shape = LAYERS[name]
    int8, x = layer.to_int8(), normal(*shape)
    y = int8(x).numpy()
    for i in range(len(x)):
        assert int8(x[i : i + 1]).numpy().tobytes() == y[i].tobytes()
    louder = np.concatenate([x, 1e6 * x[:1]])
    assert np.array_equal(int8(louder).numpy()[:-1], y)
    assert not np.array_equal(int8(louder * np.float32([[1.0], *[[1e-3]] * 4]).reshape(-1, *[1] * (len(shape) - 1)))
                              .numpy()[1:-1], y[1:])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", LAYERS)
def test_a_non_finite_row_gives_nan_there_and_nowhere_else(name, bad):
    layer, shape = LAYERS[name]
    int8, x = layer.to_int8(), normal(*shape)
    y = int8(x).numpy()
    x[(2, *[1] * (len(shape) - 1))] = bad
    got = int8(x).numpy()
    at = (2, 1) if name == "linear of a sequence" else (2,)
    hit = np.zeros(y.shape, bool)
    hit[at] = True
    assert np.isnan(got[hit]).all() and np.array_equal(got[~hit], y[~hit])


def test_rows_of_zeros_give_the_bias():
    layer = nn.Linear(6, 3)
    assert np.array_equal(layer.to_int8()(np.zeros((2, 6), np.float32)).numpy(), np.stack([layer.bias.numpy()] * 2))


def test_tinygpt_generates_in_int8():
    model = models.TinyGPT(23, 8, 2, 2, 16)
    int8 = model.to_int8()
    ids = np.array([[1, 2, 3], [7, 0, 22]])
    out = int8.generate(ids, 12, temperature=0)
    assert out.shape == (2, 15) and np.array_equal(out[:, :3], ids) and 0 <= out.min() <= out.max() < 23
    for t in range(3, 15):
        logits = int8(out[:, max(0, t - 8) : t]).numpy()[:, -1]
        assert np.array_equal(logits.argmax(axis=1), out[:, t])
    assert np.array_equal(int8.generate(ids, 9, top_k=5, seed=3), int8.generate(ids, 9, top_k=5, seed=3))


def test_gradients_are_refused():
    model = models.MLP(6, 5, 3)
    x = Tensor(normal(2, 6), requires_grad=True)
    int8 = model.to_int8()
    with pytest.raises(GradError, match=r"gradients do not flow through int8; .*fake-quantization"):
        int8(x)
    with no_grad():
        assert int8(x).shape == (2, 3)
    loss = F.cross_entropy(int8(x.numpy()), np.array([0, 1]))
    with pytest.raises(GradError, match="does not depend on anything with requires_grad"):
        loss.backward()
    with pytest.raises(GradError):
        F.cross_entropy(model.to_int8(calibration=x.numpy())(x), np.array([0, 1])).backward()


# ---- what is refused


class Own(nn.Module):
    """A user's layer that declares no weight for int8."""

    def __init__(self):
        self.weight = nn.Parameter(normal(3, 4))

    def forward(self, x):
        return F.linear(x, self.weight)


def test_models_that_cannot_become_int8_are_refused():
    with pytest.raises(DtypeError, match=r"Own has no layer with weights to store \(linear, conv2d, embedding\)"):
        Own().to_int8()
    model = models.MLP(4, 3)
    for int8 in (model.to_int8(), model.to_int8(calibration=normal(2, 4))):
        for calibration in (None, normal(2, 4)):
            with pytest.raises(DtypeError, match="is already int8"):
                int8.to_int8(calibration=calibration)
    with pytest.raises(DtypeError, match="observer, rounding, repairs and max_drop are options of static int8"):
        model.to_int8(rounding="double")
    with pytest.raises(DtypeError, match="expected rounding single or double, got 'nearest'"):
        model.to_int8(calibration=normal(2, 4), rounding="nearest")


def test_a_users_layer_is_quantized_statically_all_the_same():
    """Lowering follows ops, not layer classes."""
    plan = Own().to_int8(calibration=normal(9, 4))
    assert plan.islands == [] and [s.kind for s in plan.steps] == ["quantize", "product", "dequantize"]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_non_finite_weights_are_named(bad):
    model = models.MLP(4, 3, 2)
    model[3].weight.array[1, 1] = bad
    with pytest.raises(QuantizationError, match=r"expected finite values, got NaN or infinity \(in layer 3.weight\)"):
        model.to_int8()
    with pytest.raises(QuantizationError, match="NaN or infinite values in the result of linear in 3, batch 0"):
        model.to_int8(calibration=normal(2, 4))


# ---- options


def test_sums_that_may_leave_int32_are_refused_when_converting():
    """The error comes at conversion, not at the first call; with groups each group has its own sum."""
    k = 140_000
    model = nn.Sequential(nn.Linear(k, 2, bias=False))
    model[0].weight.array[...] = 0.5
    with pytest.raises(QuantizationError, match=r"to_int8: sums of 140000 products .* to_int8\(group=32\).*layer 0"):
        model.to_int8()
    x = np.full((1, k), 0.25, np.float32)
    np.testing.assert_allclose(model.to_int8(group=32)(x).numpy(), k / 8, rtol=1e-5)
    model[0].weight.array[:, ::2] = 0        # half as many reach half as far
    np.testing.assert_allclose(model.to_int8()(x).numpy(), k / 16, rtol=1e-5)


def test_layers_that_are_skipped_stay_float():
    model = net()
    int8 = model.to_int8(skip=["0"])
    assert int8[0].weight.dtype == np.float32 and int8[4].weight.dtype == np.int8
    gpt = models.TinyGPT(11, 6, 2, 2, 8)
    assert gpt.to_int8(skip=["head"]).tokens.weight.dtype == np.float32     # tied: what one layer keeps, both keep
    part = gpt.to_int8(skip=["blocks.1", "positions"])
    assert {n for n, t in part.named_tensors() if t.dtype == np.int8} == {
        "tokens.weight", "head.weight",
        *(f"blocks.0.{n}.weight" for n in ("attention.qkv", "attention.proj", "up", "down"))}
    plan = model.to_int8(calibration=X, skip="4")
    assert plan.islands == ["linear in 4"]
    for options in ({}, {"calibration": X}):
        with pytest.raises(DtypeError, match=r"to_int8: skip: Sequential has no layer '9'; its layers are 0, 1, 2"):
            model.to_int8(skip=["9"], **options)
        with pytest.raises(DtypeError, match="expected weights max or mse, got 'min'"):
            model.to_int8(weights="min", **options)
    with pytest.raises(DtypeError, match=r"no layer with weights to store .* outside 0, 4"):
        model.to_int8(skip=["0", "4"])


@pytest.mark.parametrize("static", [False, True], ids=["dynamic", "static"])
def test_clipped_weights_have_the_smaller_squared_error(static):
    """One weight far out among N: the best clip is at 1 / (1 + N / (12 127^2)) of it, and leaves that much of the error."""
    layer = nn.Linear(60_000, 2)
    layer.weight.array[...] = np.random.default_rng(1).uniform(-0.1, 0.1, layer.weight.shape)
    layer.weight.array[:, 7] = 1
    errors, x = {}, normal(2, 60_000)
    for weights in ("max", "mse"):
        int8 = layer.to_int8(calibration=x if static else None, weights=weights)
        own = int8.steps[1].arrays if static else {"weight": int8.weight.numpy(), "scale": int8.weight.scale}
        w = own["weight"] * own["scale"][:, None]
        errors[weights] = np.square(w - layer.weight.numpy()).sum(axis=1, dtype=np.float64)
    share = 1 / (1 + 60_000 / (12 * 127**2))
    assert np.allclose(errors["mse"] / errors["max"], share, rtol=0.05)


def test_observers_are_chosen_layer_by_layer():
    class Fixed:
        def observe(self, x):
            pass

        def range(self):
            return -7.0, 7.0

    plan = net().to_int8(calibration=X, observer={"4": Fixed, "": "minmax"})
    ends = {s.name: s.attrs["scale_out"] for s in plan.steps if s.kind == "product"}
    assert ends["4"] == np.float32(14 / 255) and ends["0"] != ends["4"]
    assert plan.info["calibration"]["observer"] == '{"4": "Fixed", "": "minmax"}'
    with pytest.raises(DtypeError, match="to_int8: observer: Sequential has no layer 'head'"):
        net().to_int8(calibration=X, observer={"head": "mse"})


def test_the_data_of_calibration_is_recorded():
    model = net()
    info = [model.to_int8(calibration=c, observer="percentile").info["calibration"]
            for c in (X, [X[:4], X[4:]], [(X[:4], 0), (X[4:], 0)], X + 1)]
    assert [i["samples"] for i in info] == [10] * 4 and info[0]["observer"] == "percentile"
    assert info[1] == info[2] and len({i["digest"] for i in info}) == 3 and len(info[0]["digest"]) == 64


def test_padding_with_infinity_before_a_max_pool_stays_float():
    """The result of the padding has no range; what comes of it has one."""
    class Padded(nn.Module):
        def __init__(self):
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            return self.conv(F.max_pool2d(F.pad(x, (0, 1, 1, 0), value=-np.inf), 2))

    model = Padded().eval()
    plan = model.to_int8(calibration=X, observer="minmax")
    assert plan.islands[0] == "pad" and "conv2d in conv" not in plan.islands
    with no_grad():
        assert off_by(plan(X), model(X)) < 0.03


def test_codes_of_a_plan_that_ends_in_a_float_island():
    """The result has codes too, for the branch that reads it, but they are not what the plan ends in."""
    class Branch(nn.Module):
        def __init__(self):
            self.norm, self.branch = nn.LayerNorm(6), nn.Linear(6, 6)

        def forward(self, x):
            y = self.norm(x)
            return y, self.branch(y)

    for model in (Branch(), nn.LayerNorm(6)):
        with pytest.raises(DtypeError, match="expected a plan with one output in codes; this one ends in float32"):
            model.to_int8(calibration=normal(4, 6)).codes(normal(4, 6))


class Reads(nn.Module):
    """Weights read other than through their layers: sliced, transposed, added up."""

    def __init__(self):
        self.words, self.positions, self.conv = nn.Embedding(20, 8), nn.Embedding(16, 8), nn.Conv2d(1, 2, 3)

    def forward(self, ids):
        x = self.words(ids) + self.positions.weight[: ids.shape[1]]
        scale = (self.conv.weight * self.conv.weight).sum() + self.positions.weight.abs().max()
        return x @ self.words.weight.T * scale + self.words.weight.mean()


@pytest.mark.parametrize("options", [{}, {"group": 32}, {"per_channel": False}])
def test_dynamic_int8_of_weights_that_are_read_elsewhere(options):
    """Their values are those that the codes represent."""
    model, ids = Reads().eval(), np.arange(10).reshape(2, 5)
    int8 = model.to_int8(**options)
    float32 = model.copy()
    for name, t in int8.named_tensors():
        if t.quantized is not None:
            dict(float32.named_tensors())[name].array[...] = t.dequantize().array
    assert np.abs(int8(ids).numpy() - float32(ids).numpy()).max() <= 1e-4 * np.abs(float32(ids).numpy()).max()
