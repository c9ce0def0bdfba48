"""Static int8: every plan, saved, gives the bytes that an independent interpreter of its file computes."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import interpreter
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinyml
from tinyml import Tensor, models, nn, trace
from tinyml._kernels import dispatch
from tinyml.errors import DtypeError, QuantizationError, ShapeError
from tinyml.nn import functional as F
from tinyml.precision import Plan, calibrate, lower
from tinyml.precision.steps import STEPS
from tinyml.tape import no_grad


class Then(nn.Module):
    """Layers a, b, ..., and a function of x and them."""

    def __init__(self, function, *layers):
        self.function = function
        for name, layer in zip("abcdef"[: len(layers)], layers, strict=True):
            setattr(self, name, layer)

    def forward(self, *x):
        return self.function(self, *x)


def conv(i, o, *args, **kwargs):
    return [nn.Conv2d(i, o, *args, bias=False, **kwargs), nn.BatchNorm2d(o)]


def shapes_between(m, x):
    y = F.max_pool2d(m.a(x), 2)                                     # (B, 6, 4, 3)
    y = m.b(y.permute(0, 2, 3, 1))[:, ::2, :, 1:]                   # (B, 2, 3, 4)
    return m.c(y.reshape(len(x) * 2, 3, 4)).reshape(len(x), -1)


def pools(m, x):
    y = F.avg_pool2d(m.a(x), 3, 2, 1)
    y = F.adaptive_avg_pool2d(F.relu(m.b(y)), (3, 2))
    return F.avg_pool2d(y, (2, 1), 1)


def adds(m, x):
    y = m.a(x)
    y = F.relu6(y + m.b(x))
    y = F.relu(m.c(y) + y)
    return m.d(y + y) + x


def tables(m, x):
    y = F.tanh(m.b(F.sigmoid(m.a(F.relu(x)))))
    y = F.silu(m.d(F.gelu(F.gelu(m.c(y)), "tanh")))
    return (-y).abs() ** 1.5


def numbers(m, x):
    """Single numbers on either side of every op that takes two operands."""
    y = 2 / (1.5 + F.sigmoid(m.a(x) * 0.5))
    y = F.maximum(0.9 - y, Tensor([[-0.25]])) / 0.25
    y = F.minimum(1.5, m.b(y) - 0.1)
    return F.relu(-3.0 * (y + 1)) - 0.25


def constants(m, x):
    """Gains, offsets and positions: arrays of every rank that broadcasts, on either side."""
    gain, bias, row, last = (Tensor(images(shape, 1, i)[0]) for i, shape in enumerate(((4, 1, 1), (4, 5, 1), (4,), (1,))))
    y = F.relu(m.a(x) * gain + bias)
    y = F.relu6(bias - m.b(y)) * gain.reshape(1, 4, 1, 1)
    return last - row * (y - bias).permute(0, 2, 3, 1)


def broadcasts(m, x):
    y = m.a(x)                                                      # (B, 4, 5, 6)
    z = m.b(y).mean((2, 3), keepdims=True)                          # (B, 4, 1, 1)
    row = m.c(x)[:, :1, :, :1] - z                                  # (B, 4, 5, 1)
    return F.relu((F.relu(y - z) + row) * z) - y[:, :, 2].unsqueeze(2) * y[:, 1:2]


def squeeze_and_excitation(m, x):
    """Hu et al. 2017."""
    y = F.relu(m.a(x))
    gate = F.sigmoid(m.c(F.relu(m.b(y.mean((2, 3))))))
    return m.d(y * gate.reshape(len(x), 8, 1, 1)) + y


def inception(m, x):
    """Branches of several windows, joined (Szegedy et al. 2014)."""
    y = F.concat([F.relu(m.a(x)), F.relu(m.b(x)), m.c(F.max_pool2d(x, 3, 1, 1)), F.avg_pool2d(x, 3, 1, 1)], axis=1)
    return m.d(F.concat([y, F.sigmoid(y)[:, :, :, 1:]], axis=-1))


def dense(m, x):
    """Every layer reads all before it, batch norm and ReLU first (Huang et al. 2016): no convolution takes the norm in."""
    for layer in (m.a, m.b):
        x = F.concat([x, layer(x)], axis=1)
    return m.c(x)


def pre_activation(m, x):
    """He et al. 2016: the shortcut carries sums, norms read them."""
    y = m.a(x)
    y = y + m.b(y)
    return m.d(y + m.c(y))


def shared(m, x):
    """One convolution, norm and product at several places, of other ranges at each."""
    y = F.relu(m.a(m.a(x)))
    return m.b(m.b(m.a(y * 3.0) + y))


def functional(m, x):
    y = F.relu(F.conv2d(F.pad(x, [(0, 0), (0, 0), (0, 1), (2, 0)], value=-0.75), m.a.weight, stride=2, padding=1))
    y = F.pad(F.linear(y.flatten(2), m.b.weight, m.b.bias), [(0, 0), (1, 0), (0, 2)])
    return F.stack([F.relu6(y), F.tanh(y)], axis=2)


def embeddings(m, ids):
    """Rows by id, positions that are computed at conversion, a table read twice."""
    x = m.a(ids)
    y = F.gelu(m.c(x + m.b(np.arange(7))))                          # (B, 7, 4)
    return m.d(F.concat([y, m.c(x[:, ::-2])], axis=1)).transpose(1, 2)


def norm_first(i, o):
    return nn.Sequential(nn.BatchNorm2d(i), nn.ReLU(), nn.Conv2d(i, o, 3, padding=1))


NETS = {    # model, shape of one input
    "CifarCNN": (lambda: models.CifarCNN(width=4), (3, 8, 8)),
    "ResNet8": (lambda: models.ResNet8(width=4), (3, 8, 8)),
    "MLP": (lambda: models.MLP(12, 7, 17, 3), (3, 2, 2)),
    "odd channels": (lambda: nn.Sequential(*conv(1, 3, 3), nn.ReLU(), *conv(3, 5, 2), nn.ReLU6(),
                                           *conv(5, 17, 3, padding=1), nn.Conv2d(17, 1, 1)), (1, 7, 6)),
    "strided": (lambda: nn.Sequential(*conv(3, 5, 3, 2, 1), nn.ReLU(), nn.Conv2d(5, 6, (3, 2), (1, 2), (2, 0))),
                (3, 9, 8)),
    "dilated": (lambda: nn.Sequential(*conv(2, 7, 3, dilation=2, padding=(2, 1)), nn.ReLU(),
                                      nn.Conv2d(7, 3, (2, 3), dilation=(3, 1))), (2, 8, 7)),
    "grouped": (lambda: nn.Sequential(*conv(6, 9, 3, groups=3, padding=1), nn.ReLU6(),
                                      *conv(9, 9, 3, groups=9, padding=1), nn.ReLU6(), nn.Conv2d(9, 4, 1)), (6, 6, 5)),
    "pools": (lambda: Then(pools, nn.Conv2d(3, 5, 3), nn.Sequential(*conv(5, 5, 1))), (3, 9, 12)),
    "max pool": (lambda: nn.Sequential(nn.MaxPool2d(3, 2, 1), *conv(3, 6, 3), nn.ReLU(), nn.MaxPool2d((2, 1), 1)),
                 (3, 9, 9)),
    "adds": (lambda: Then(adds, *[nn.Conv2d(4, 4, 3, padding=1) for _ in "abcd"]), (4, 5, 6)),
    "tables": (lambda: Then(tables, *[nn.Linear(6, 6) for _ in "abcd"]), (6,)),
    "tables of images": (lambda: nn.Sequential(nn.Sigmoid(), nn.Conv2d(3, 5, 3), nn.SiLU(), nn.Conv2d(5, 4, 1),
                                               nn.Tanh()), (3, 5, 4)),
    "shapes between": (lambda: Then(shapes_between, nn.Conv2d(2, 6, 3), nn.Linear(6, 5), nn.Linear(4, 3)), (2, 10, 8)),
    "linear and batch norm": (lambda: nn.Sequential(nn.Linear(6, 17), nn.BatchNorm1d(17), nn.ReLU(),
                                                    nn.Linear(17, 4, bias=False), nn.BatchNorm1d(4)), (6,)),
    "sequences": (lambda: nn.Sequential(nn.Linear(5, 8), nn.GELU(), nn.Linear(8, 3, bias=False)), (4, 5)),
    "DepthwiseCNN": (lambda: models.DepthwiseCNN(width=4), (3, 8, 8)),
    "numbers": (lambda: Then(numbers, nn.Linear(5, 6), nn.Linear(6, 6)), (3, 5)),
    "constants": (lambda: Then(constants, *[nn.Conv2d(4, 4, 3, padding=1) for _ in "ab"]), (4, 5, 4)),
    "broadcasts": (lambda: Then(broadcasts, *[nn.Conv2d(4, 4, 3, padding=1) for _ in "abc"]), (4, 5, 6)),
    "squeeze and excitation": (lambda: Then(squeeze_and_excitation, nn.Conv2d(3, 8, 3), nn.Linear(8, 4), nn.Linear(4, 8),
                                            nn.Conv2d(8, 8, 1)), (3, 7, 6)),
    "inception": (lambda: Then(inception, nn.Conv2d(3, 4, 1), nn.Conv2d(3, 5, 3, padding=1), nn.Conv2d(3, 2, 1),
                               nn.Conv2d(14, 3, 2)), (3, 6, 5)),
    "dense": (lambda: Then(dense, norm_first(3, 5), norm_first(8, 4), norm_first(12, 3)), (3, 6, 5)),
    "pre-activation": (lambda: Then(pre_activation, nn.Conv2d(3, 4, 3), *[norm_first(4, 4) for _ in "ab"],
                                    nn.BatchNorm2d(4)), (3, 7, 6)),
    "shared": (lambda: Then(shared, nn.Sequential(*conv(4, 4, 3, padding=1)), nn.BatchNorm2d(4)), (4, 5, 6)),
    "functional": (lambda: Then(functional, nn.Conv2d(3, 4, 3), nn.Linear(12, 6)), (3, 5, 6)),
    "embeddings": (lambda: Then(embeddings, nn.Embedding(9, 6), nn.Embedding(7, 6), nn.Linear(6, 4), nn.Linear(4, 5)),
                   (7,)),
}


def images(shape: tuple, batch: int, seed: int) -> np.ndarray:
    """Normal values with an offset, so that zero points differ from 0."""
    return (np.random.default_rng(seed).standard_normal((batch, *shape)) + 0.4).astype(np.float32)


def inputs_of(name: str, batch: int, seed: int) -> np.ndarray:
    """What the net of that name reads: ids below 9, or floats."""
    shape = NETS[name][1]
    if name == "embeddings":
        return np.random.default_rng(seed).integers(0, 9, (batch, *shape))
    return images(shape, batch, seed)


def randomise(model: nn.Module, seed: int = 5) -> nn.Module:
    """Parameters and running moments as after training: channels of very different sizes, folding that matters."""
    rng = np.random.default_rng(seed)
    for name, t in model.named_tensors():
        if name.endswith("running_var"):
            t.data[...] = rng.uniform(0.05, 3, t.shape)
        elif t.dtype == np.float32:
            t.data[...] += rng.uniform(-0.4, 0.4, t.shape)
            if t.ndim > 1:
                t.data[...] *= np.exp2(rng.uniform(-2, 1, (len(t), *[1] * (t.ndim - 1))))
    return model


def assert_interpreted(plan: Plan, path: Path, *xs: np.ndarray) -> None:
    """The plan, the plan loaded from its file and the interpreter of the file give the same bytes."""
    plan.save(path)
    expected = interpreter.run(path, *xs)
    for p in (plan, tinyml.load(path)):
        got = p(*xs)
        for a, b in zip(got if isinstance(got, tuple) else (got,), expected, strict=True):
            a = a.numpy()
            assert a.dtype == b.dtype == np.float32 and a.shape == b.shape
            assert np.array_equal(a, b), f"{np.count_nonzero(a != b)} of {a.size} differ, by {np.abs(a - b).max()}"


def off_by(plan: Plan, model: nn.Module, *xs: np.ndarray) -> float:
    """Root mean square of plan - float model, relative to the float results'; the worst of several outputs."""
    with no_grad():
        outputs = [y if isinstance(y, tuple) else (y,) for y in (plan(*xs), model.eval()(*xs))]
    return max(float(np.sqrt(np.square(a.numpy() - b.numpy()).mean() / np.square(b.numpy()).mean()))
               for a, b in zip(*outputs, strict=True))


@pytest.mark.parametrize("rounding", ["single", "double"])
@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("name", NETS)
def test_plans_equal_the_interpreter_of_their_file(name, per_channel, rounding, tmp_path):
    model = randomise(NETS[name][0]())
    x = inputs_of(name, 16, 0)
    plan = model.to_int8(calibration=[x[:9], x[9:]], per_channel=per_channel, rounding=rounding)
    assert plan.islands == []
    for batch in (1, 5):
        x_test = inputs_of(name, batch, batch)
        assert_interpreted(plan, tmp_path / "plan.safetensors", x_test if name == "embeddings" else 2 * x_test)
    assert off_by(plan, model, x) < 0.05


# ---- generated nets


@st.composite
def nets(draw) -> tuple[nn.Module, tuple]:
    """Up to four layers of any window, group count and activation, then flatten and linear."""
    c, h, w = draw(st.integers(1, 6)), draw(st.integers(3, 8)), draw(st.integers(3, 8))
    shape, layers = (c, h, w), []
    pick = st.integers(1, 3)
    for _ in range(draw(st.integers(0, 3))):
        size, stride, dilation = draw(st.tuples(pick, pick)), draw(st.tuples(pick, pick)), draw(st.tuples(pick, pick))
        padding = draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
        groups = draw(st.sampled_from([g for g in range(1, c + 1) if c % g == 0]))
        o = groups * draw(st.integers(1, 7))
        h, w = ((n + 2 * padding[i] - dilation[i] * (size[i] - 1) - 1) // stride[i] + 1 for i, n in enumerate((h, w)))
        if min(h, w) < 1:
            return draw(nets())
        layers.append(nn.Conv2d(c, o, size, stride, padding, dilation, groups, bias=draw(st.booleans())))
        layers += [nn.BatchNorm2d(o)] * draw(st.integers(0, 1))
        layers += [draw(st.sampled_from([nn.ReLU, nn.ReLU6, nn.Sigmoid, nn.GELU, nn.Tanh]))()] * draw(st.integers(0, 1))
        c = o
    layers += [nn.Flatten(), nn.Linear(c * h * w, draw(st.integers(1, 5)), bias=draw(st.booleans()))]
    return nn.Sequential(*layers), shape


@settings(max_examples=100)
@given(nets(), st.integers(0, 2**31), st.sampled_from(["single", "double"]), st.booleans(), st.integers(-12, 12))
def test_generated_nets_equal_the_interpreter(tmp_path_factory, net, seed, rounding, per_channel, magnitude):
    model, shape = net
    randomise(model, seed)
    x = images(shape, 7, seed) * np.float32(2.0**magnitude)
    plan = model.to_int8(calibration=[x[:4]], per_channel=per_channel, rounding=rounding)
    assert_interpreted(plan, tmp_path_factory.getbasetemp() / "generated.safetensors", x)


@pytest.mark.parametrize("per_channel", [True, False])
def test_weights_scales_and_biases_are_those_of_the_equations(per_channel, tmp_path):
    """Equations (2), (3) and (6), the batch norm folded in float64, computed here from the float model."""
    model = randomise(nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU()))
    x = images((3, 6, 6), 8, 0)
    model.to_int8(calibration=[x[:5], x[5:]], per_channel=per_channel).save(tmp_path / "plan.safetensors")
    plan = interpreter.Plan(tmp_path / "plan.safetensors")
    with no_grad():
        y = model.eval()(x).numpy()
    assert [s["kind"] for s in plan.steps] == ["quantize", "product", "dequantize"]
    first, product = plan.steps[0]["attrs"], plan.steps[1]["attrs"]
    for attrs, name, data in ((first, "scale", x), (product, "scale_out", y)):
        lo, hi = min(float(data.min()), 0), max(float(data.max()), 0)
        assert attrs[name] == np.float32((hi - lo) / 255)
        assert attrs["zero_point"] == np.rint(-128 - lo / attrs[name])
    assert product["lo"] == product["zero_point"] == -128 and product["hi"] == 127      # ReLU

    own, (layer, norm) = plan.own(1), (dict(m.named_tensors()) for m in list(model)[:2])
    layer, norm = ({k: t.numpy().astype(np.float64) for k, t in named.items()} for named in (layer, norm))
    g = norm["weight"] / np.sqrt(norm["running_var"] + 1e-5)
    weight = (layer["weight"] * g[:, None, None, None]).astype(np.float32)
    bias = ((layer["bias"] - norm["running_mean"]) * g + norm["bias"]).astype(np.float32)
    largest = np.abs(weight).max(axis=(1, 2, 3)) if per_channel else np.full(5, np.abs(weight).max())
    scale = (largest.astype(np.float64) / 127).astype(np.float32)
    assert np.array_equal(own["scale"], scale)
    assert np.array_equal(own["weight"], np.rint(weight / scale[:, None, None, None]))
    assert np.array_equal(own["bias"], np.rint(bias / (first["scale"] * scale.astype(np.float64))))


# ---- same bytes everywhere


def test_threads_do_not_change_a_byte(tmp_path):
    model = randomise(nn.Sequential(*conv(8, 33, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), *conv(33, 32, 3),
                                    nn.Sigmoid(), nn.AdaptiveAvgPool2d(3)))
    x = images((8, 24, 22), 6, 0)
    plan = model.to_int8(calibration=[x])
    outputs = []
    for threads in (1, 2, 3):
        tinyml.set_num_threads(threads)
        outputs.append(plan(x).numpy().tobytes())
    assert outputs[0] == outputs[1] == outputs[2]
    assert_interpreted(plan, tmp_path / "plan.safetensors", x)


def test_instruction_sets_give_the_same_bytes(tmp_path):
    """All nets, which between them have every kind of integer step."""
    kinds, expected = set(), {}
    for at, (name, (make, _)) in enumerate(NETS.items()):
        x = inputs_of(name, 6, 0)
        plan = randomise(make()).to_int8(calibration=[x])
        plan.save(tmp_path / f"{at}.safetensors")
        np.save(tmp_path / f"{at}.npy", x)
        expected[str(at)] = hashlib.sha256(plan(x).numpy().tobytes()).hexdigest()
        kinds.update(s.kind for s in plan.steps)
    assert kinds == STEPS.keys() - {"island", "float_product"}
    code = textwrap.dedent("""
        import hashlib, pathlib, sys, numpy, tinyml
        print(tinyml.config()["isa"])
        for path in pathlib.Path(sys.argv[1]).glob("*.safetensors"):
            y = tinyml.load(path)(numpy.load(path.with_suffix(".npy"))).numpy()
            print(path.stem, hashlib.sha256(y.tobytes()).hexdigest())
    """)
    paths = os.pathsep.join(p or os.getcwd() for p in sys.path)
    for isa in dispatch.available():
        environment = {**os.environ, "PYTHONPATH": paths, "TINYML_ISA": isa}
        done = subprocess.run([sys.executable, "-c", code, tmp_path], env=environment, capture_output=True, text=True,
                              timeout=300, check=False)
        assert not done.returncode, done.stderr
        first, *lines = done.stdout.splitlines()
        assert first == isa and dict(line.split() for line in lines) == expected


# ---- plans


def test_no_batch_norm_or_activation_is_left_as_a_step():
    plan = randomise(models.CifarCNN(width=4)).to_int8(calibration=[images((3, 8, 8), 4, 0)])
    kinds = [s.attrs["op"] if s.kind == "codes" else s.kind for s in plan.steps]
    assert kinds == ["quantize", "product", "product", "max_pool2d", "product", "product", "max_pool2d", "product",
                     "product", "avg_pool", "reshape", "product", "dequantize"]


def test_depthwise_cnn_is_products_only():
    """As many multiplications as its docstring says, for both sizes of image, and none of them in float."""
    flops = {}
    for shape in ((3, 32, 32), (1, 28, 28)):
        model, x = models.DepthwiseCNN(shape[0]), images(shape, 2, 0)
        graph = trace(model, x)
        weights = {n.output: graph.shapes[n.inputs[1]] for n in graph.nodes if n.op.name in ("conv2d", "linear")}
        flops[shape] = sum(2 * np.prod(w) * np.prod(graph.shapes[y][2:]) for y, w in weights.items())
        plan = model.to_int8(calibration=[x])
        assert plan(x).shape == (2, 10)
        assert [s.kind for s in plan.steps] == ["quantize", *["product"] * 11, "avg_pool", "codes", "product", "dequantize"]
    assert round(flops[3, 32, 32] / 1e6) == 33 and "33 MFLOP" in models.DepthwiseCNN.__doc__


def test_codes_in_and_out(tmp_path):
    for model in (randomise(models.CifarCNN(width=4)), models.MLP(192, 7, 3)):
        x = images((3, 8, 8), 6, 0)
        plan = model.to_int8(calibration=[x])
        y = plan.codes(x)
        assert y.dtype == np.int8 and y.dequantize().numpy().tobytes() == plan(x).numpy().tobytes()

        codec = plan.inputs[0].codec
        entered = Tensor(x).to_int8(codec.scale, codec.zero_point)
        assert plan.codes(entered).numpy().tobytes() == y.numpy().tobytes()
        assert plan(entered).numpy().tobytes() == plan(x).numpy().tobytes()
        for scale, zero in ((codec.scale * 2, codec.zero_point), (codec.scale, codec.zero_point + 1)):
            with pytest.raises(DtypeError, match=r"expected int8 input with Codec\(scale=.*, got scale="):
                plan.codes(Tensor(x).to_int8(scale, zero))


def test_int8_input_reaches_float_steps_too():
    model = Then(lambda m, x: m.a(x) * x, nn.Linear(4, 4))
    x = images((4,), 3, 0)
    plan = model.to_int8(calibration=[x])
    codec = plan.inputs[0].codec
    q = Tensor(x).to_int8(codec.scale, codec.zero_point)
    assert np.array_equal(plan(q).numpy(), plan(q.dequantize()).numpy())


def test_what_plans_refuse():
    model = randomise(models.CifarCNN(width=4))
    x = images((3, 8, 8), 3, 0)
    plan = model.to_int8(calibration=[x])
    bad = x.copy()
    bad[1, 0, 2, 3] = bad[0, 0, 0, 0] = np.nan
    with pytest.raises(ShapeError, match="2 of 576 values to quantize in 0 are NaN"):
        plan(bad)
    with pytest.raises(DtypeError, match=r"expected float32 \(or int8\) input, got int64"):
        plan(np.zeros((1, 3, 8, 8), np.int64))
    with pytest.raises(ShapeError, match=r"expected input \(B, 3, 8, 8\), got \(1, 3, 8, 7\)"):
        plan(x[:1, :, :, 1:])
    with pytest.raises(ShapeError):
        plan(x, x)
    bad[np.isnan(bad)] = np.inf     # beyond the range: the largest code
    top = x.copy()
    top[1, 0, 2, 3] = top[0, 0, 0, 0] = 1e9
    assert np.array_equal(plan(bad).numpy(), plan(top).numpy())


@pytest.mark.parametrize("name", NETS)
def test_an_empty_batch_gives_an_empty_result(name):
    model, x = NETS[name][0](), inputs_of(name, 2, 0)
    with no_grad():
        expected = model.eval()(x).shape[1:]
    plan = model.to_int8(calibration=[x])
    if name != "shapes between":        # reshape(0, -1) has no answer, in NumPy as in the float model
        assert plan(x[:0]).shape == (0, *expected)


def several(m, x, y):
    z = F.relu6(m.a(x) * m.b(y))
    both = F.concat([z, m.a(x)], axis=1)
    return both, z, m.c(both - m.b(y)[:, :1]) + y[:, :1], z


def test_several_inputs_and_outputs(tmp_path):
    """An output may be read further on, and be given twice."""
    model = randomise(Then(several, nn.Linear(4, 3), nn.Linear(2, 3), nn.Linear(6, 2)))
    x, y = images((4,), 40, 0), images((2,), 40, 1)
    plan = model.to_int8(calibration=[((x[:15], y[:15]), np.zeros(15)), ((x[15:], y[15:]), np.zeros(25))])
    assert plan.islands == [] and plan.info["calibration"]["samples"] == 40
    assert len(plan(x, y)) == 4 and off_by(plan, model, x, y) < 0.05
    for batch in (0, 1, 7):
        assert_interpreted(plan, tmp_path / "plan.safetensors", x[:batch], y[:batch])
    with pytest.raises(ShapeError):
        plan(x, y[:3])
    with pytest.raises(DtypeError, match="a plan with one output"):
        plan.codes(x)


def test_fused_activations_clamp_where_the_range_does_not(tmp_path):
    """Ranges from calibration end where the activation ends; a wider one must not undo it."""
    def forward(m, x):
        y = F.relu6(m.a(x))
        return F.relu(m.b(y).clip(-1.0, 2.5)), F.relu6(F.relu(y + y)), (m.b(x).clip(-9.0, 2.0)).clip(-1.5, 7.0)

    model = randomise(Then(forward, nn.Linear(6, 6), nn.Linear(6, 6)))
    x = images((6,), 40, 0) * 3
    graph = trace(model, x)
    plan = lower(graph, dict.fromkeys(graph.shapes, (-12.0, 16.0)))
    kinds = [s.kind for s in plan.steps if "quantize" not in s.kind]
    assert kinds == ["product", "product", "add", "product"]
    for got, (lo, hi) in zip(plan(x), ((0, 2.5), (0, 6), (-1.5, 2)), strict=True):
        assert np.abs([got.numpy().min() - lo, got.numpy().max() - hi]).max() < 28 / 255     # a code
    for got, expected in zip(plan(x), model(x), strict=True):
        assert np.abs(got.numpy() - expected.numpy()).mean() < 0.15
    assert_interpreted(plan, tmp_path / "plan.safetensors", x)


def test_the_memory_of_the_input_may_be_of_any_order():
    for name in ("CifarCNN", "sequences"):
        make, shape = NETS[name]
        x = images(shape, 6, 0)
        plan = make().to_int8(calibration=[x])
        expected = plan(x).numpy().tobytes()
        gaps = np.zeros((12, *shape, 2), np.float32)
        gaps[::2, ..., 1] = x
        for other in (np.asfortranarray(x), x[::-1].copy()[::-1], gaps[::2, ..., 1], x.astype(np.float64), Tensor(x)):
            assert plan(other).numpy().tobytes() == expected


# ---- float islands


def test_ops_without_a_rule_run_in_float_between_the_codes(tmp_path):
    def forward(m, x):
        y = m.a(x)
        y = F.softmax(m.c(y) * F.sigmoid(y)) @ m.d(y).transpose(-1, -2)
        return m.b(y.transpose(-1, -2))

    model = randomise(Then(forward, nn.Linear(5, 8), nn.Linear(4, 3), nn.LayerNorm(8), nn.Linear(8, 8)))
    x = images((4, 5), 6, 0)
    plan = model.to_int8(calibration=[x])
    assert plan.islands == ["layer_norm in c", "softmax", "matmul"]
    assert "island softmax" in repr(plan) and "product in a" in repr(plan) and "table sigmoid" in repr(plan)
    assert off_by(plan, model, x) < 0.05
    plan.save(tmp_path / "plan.safetensors")
    assert tinyml.load(tmp_path / "plan.safetensors")(x).numpy().tobytes() == plan(x).numpy().tobytes()


def test_a_result_in_float_has_no_codes():
    plan = nn.Sequential(nn.Linear(5, 4), nn.Softmax()).to_int8(calibration=[images((5,), 3, 0)])
    assert plan.islands == ["softmax in 1"] and np.allclose(plan(images((5,), 2, 1)).numpy().sum(axis=1), 1)
    with pytest.raises(DtypeError, match="a plan with one output in codes; this one ends in float32"):
        plan.codes(images((5,), 2, 1))


def test_attention_stays_float():
    model = randomise(nn.Sequential(nn.Linear(3, 8), nn.MultiHeadAttention(8, 2), nn.Linear(8, 3)))
    x = images((5, 3), 6, 0)
    plan = model.to_int8(calibration=[x])
    assert plan.islands == ["attention in 1"]
    assert off_by(plan, model, x) < 0.05


def masked_attention(m, x, mask=None):
    scores = m.a(x) @ m.b(x).transpose(-1, -2)
    return m.c(F.softmax(scores + (m.mask if mask is None else mask)) @ x)


@pytest.mark.parametrize("least", [-np.inf, -1e9, np.finfo(np.float32).min])
def test_masks_may_be_added(least):
    """Scores have no codes beside -inf and drown in those of -1e9: the sum is an island, as softmax is."""
    model = randomise(Then(masked_attention, *[nn.Linear(3, 4) for _ in "ab"], nn.Linear(3, 2)))
    model.mask = Tensor(np.triu(np.full((5, 5), least, np.float32), 1))
    x = images((5, 3), 6, 0)
    plan = model.to_int8(calibration=[x])
    assert plan.islands == ["matmul", "add", "softmax", "matmul"]
    assert off_by(plan, model, x) < 0.05


def test_a_mask_may_be_an_input():
    model = randomise(Then(masked_attention, *[nn.Linear(3, 4) for _ in "ab"], nn.Linear(3, 2)))
    x, mask = images((5, 3), 6, 0), np.float32([0, 0, -1e9])[np.random.default_rng(0).integers(0, 3, (6, 5, 5))]
    plan = model.to_int8(calibration=[((x, mask), None)])
    assert plan.islands == ["matmul", "add", "softmax", "matmul"]
    assert off_by(plan, model, x, mask) < 0.05


def test_constants_made_for_the_batch_follow_it(tmp_path):
    def forward(m, x):
        ones = Tensor(np.ones((len(x), 1, 4), np.float32))
        y = F.concat([ones, x, F.sigmoid(ones) * 0.5], axis=1)
        y = m.a(y) + Tensor(np.ones((len(x), 1, 4), np.float32)).reshape(len(x), 4)[:, None]
        return m.b(y[:, 0])

    model = Then(forward, nn.Linear(4, 4), nn.Linear(4, 3))
    x = images((2, 4), 6, 0)
    plan = model.to_int8(calibration=[x])
    plan.save(tmp_path / "plan.safetensors")
    for batch in (1, 2, 5):
        assert off_by(plan, model, x[:batch]) < 0.05
        assert np.array_equal(tinyml.load(tmp_path / "plan.safetensors")(x[:batch]).numpy(), plan(x[:batch]).numpy())


def test_values_read_twice_keep_their_batch_norm_and_activation():
    """Nothing is folded or fused into a layer whose own result is read elsewhere."""
    def forward(m, x):
        y = m.a(x)
        return m.b(y) + F.relu(y) + y

    model = randomise(Then(forward, nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))
    x = images((3, 6, 6), 8, 0)
    plan = model.to_int8(calibration=[x])
    assert [s.kind for s in plan.steps] == ["quantize", "product", "product", "table", "add", "add", "dequantize"]
    assert off_by(plan, model, x) < 0.05


def test_integers_inside_a_plan():
    """An index computed from the input is an island of its own."""
    def forward(m, x):
        ids = m.a(x).clip(0.0, 3.0).to("int64").reshape(len(x), 2, 2)
        return m.b(F.embedding(ids, m.c.weight))

    model = Then(forward, nn.Linear(3, 4), nn.Linear(5, 2), nn.Embedding(4, 5))
    x = images((3,), 6, 0)
    plan = model.to_int8(calibration=[x])
    assert plan.islands == ["cast", "reshape"] and "embedding" in [s.kind for s in plan.steps]
    assert off_by(plan, model, x) < 0.1


# ---- layers that are skipped


@pytest.mark.parametrize("skip", [["0"], "1", ["1.1"], ["0", "1.1"], ["2"], ["0", "1", "2", "3"]])
def test_skipped_layers_are_islands_between_layers_that_are_not(skip):
    """The same bytes as the layers one by one, each a plan of its own or, where it is skipped, the float layer."""
    layers = {"0": nn.Linear(6, 8), "1.0": nn.Linear(8, 8), "1.1": nn.GELU(),
              "2": nn.Sequential(nn.Linear(8, 7), nn.ReLU()), "3": nn.Linear(7, 4)}
    ops = {"0": ["linear in 0"], "1.0": ["linear in 1.0"], "1.1": ["gelu in 1.1"], "2": ["linear in 2.0"],
           "3": ["linear in 3"]}
    model = randomise(nn.Sequential(layers["0"], nn.Sequential(layers["1.0"], layers["1.1"]), layers["2"], layers["3"]))
    x = images((6,), 20, 0)
    plan = model.to_int8(calibration=[x[:9], x[9:]], skip=skip)
    y, batches, islands = x, [x[:9], x[9:]], []
    for name, layer in layers.items():
        if any(name == s or name.startswith(f"{s}.") for s in skip):
            with no_grad():
                y = layer(y).numpy()
            islands += ops[name]
        else:
            y = layer.to_int8(calibration=batches)(y).numpy()
        with no_grad():
            batches = [layer(b).numpy() for b in batches]
    assert plan.islands == islands
    assert np.array_equal(plan(x).numpy(), y)


def test_skipping_what_is_not_there():
    model = nn.Sequential(nn.Linear(4, 3), nn.Sequential(nn.Linear(3, 2)))
    for skip in (["head"], ["0", "1.1"], "10", [""]):
        for calibration in (None, images((4,), 3, 0)):
            with pytest.raises(DtypeError, match=r"to_int8: skip: Sequential has no layer '.*'; its layers are 0, 1, 1\.0"):
                model.to_int8(calibration=calibration, skip=skip)


# ---- the certificate


def wide_layer(k: int, bias: float) -> tuple[nn.Module, np.ndarray]:
    """A linear layer of k weights of +-1, and inputs in [0, 1] that drive its sums to both ends and between."""
    model = nn.Linear(k, 2)
    signs = np.where(np.random.default_rng(0).random(k) < 0.9, 1, -1)
    model.weight.data[...] = np.stack([signs, np.ones(k)])
    model.bias.data[...] = bias, -bias
    x = np.stack([signs > 0, signs < 0, np.ones(k), np.arange(k) % 2, np.arange(k) % 3 == 0]).astype(np.float32)
    return model, x


@pytest.mark.parametrize("rounding", ["single", "double"])
@pytest.mark.parametrize(("k", "bias", "doubled"), [(60_000, 0, 0), (70_000, 0, 1), (35_000, 33_156, 1), (100, 1e9, 0)])
def test_sums_never_leave_int32(tmp_path, k, bias, doubled, rounding):
    """Equation (4): the weight scale is doubled where 8 bits a weight would be too many."""
    model, x = wide_layer(k, bias)
    plan = model.to_int8(calibration=[x], rounding=rounding)
    path = tmp_path / "plan.safetensors"
    assert_interpreted(plan, path, x)       # which checks every accumulator
    own = interpreter.Plan(path).own(1)
    least = max(1 / 127, bias / (2**30 / 255))
    assert np.allclose(own["scale"], least * 2**doubled, rtol=1e-6)
    reach = np.abs(own["weight"].astype(np.int64)).sum(axis=1) * 255 + np.abs(own["bias"].astype(np.int64))
    assert (reach <= 2**31 - 1).all() and (reach > 2**29).all()
    assert off_by(plan, model, x) < 0.02


def test_dead_and_huge_channels(tmp_path):
    """A channel of zeros, one of 1e-30 and one of 1e6 beside normal ones, and a dead layer."""
    model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Conv2d(5, 2, 1), nn.ReLU(), nn.Conv2d(2, 2, 1))
    first = model[0]
    first.weight.data[...] *= np.float32([0, 1e-30, 1e6, 1, 1])[:, None, None, None]
    first.bias.data[0] = 0
    model[2].bias.data[...] = -1e9      # its ReLU never fires: a range of nothing
    x = images((3, 6, 6), 4, 0)
    plan = model.to_int8(calibration=[x])
    assert_interpreted(plan, tmp_path / "plan.safetensors", x)
    assert np.array_equal(plan(x).numpy()[0, :, 0, 0], plan(x).numpy()[3, :, 2, 2])


@pytest.mark.parametrize("rounding", ["single", "double"])
def test_multipliers_from_tiny_to_huge(tmp_path, rounding):
    """Output ranges far wider and far narrower than the results: equation (5) with s from 3 to 55, left shifts too."""
    model = randomise(nn.Sequential(nn.Linear(6, 5), nn.ReLU6(), nn.Linear(5, 4)))
    x = images((6,), 9, 0)
    graph = trace(model, x)
    ranges, last = calibrate(graph, [x]).ranges, graph.nodes[-1].output
    shifts = set()
    for exponent in range(-34, 60, 3):
        lo, hi = (v * 2.0**exponent for v in ranges[last])
        plan = lower(graph, {**ranges, last: (lo, hi)}, rounding=rounding)
        assert_interpreted(plan, tmp_path / "plan.safetensors", x)
        shifts.update(plan.steps[-2].layer.s)
    assert min(shifts) < 8 and max(shifts) == 55


# ---- what lower refuses


def test_ranges_that_int8_cannot_represent_are_named():
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    x = images((4,), 5, 0)
    graph = trace(model, x)
    ranges = calibrate(graph, [x]).ranges
    first, last = graph.nodes[1].output, graph.nodes[2].output
    for bad in ((0.0, np.nan), (-np.inf, 1.0)):
        with pytest.raises(QuantizationError, match=r"expected finite bounds.*\(in layer linear in 2\)"):
            lower(graph, {**ranges, last: bad})
    with pytest.raises(QuantizationError, match=r"the output scale is far too small for its input.*linear in 2"):
        lower(graph, {**ranges, last: (0.0, 1e-20)})
    missing = {k: v for k, v in ranges.items() if k != first}
    with pytest.raises(QuantizationError, match="expected a range for the result of linear in 0, got none"):
        lower(graph, missing)
    with pytest.raises(DtypeError, match="expected rounding single or double, got 'up'"):
        lower(graph, ranges, rounding="up")
