"""Modules, layers and models: against PyTorch's numbers and against NumPy by hand; states, modes, errors, training."""

from __future__ import annotations

import math

import numpy as np
import pytest
from make_optim_parity import CONVS, FOLDER
from make_optim_parity import layers as torch_numbers

import tinyml.random
from tinyml import nn, optim
from tinyml.errors import DtypeError, ShapeError
from tinyml.models import MLP, CifarCNN, ResNet8, TinyGPT
from tinyml.models.generation import Sampling
from tinyml.nn import functional as F
from tinyml.tape import no_grad, record
from tinyml.tensor import Tensor

EXPECTED = dict(np.load(FOLDER / "nn.npz"))


def part(prefix):
    """The arrays below one name, by the rest of their names, in the order PyTorch gave them."""
    return {name[len(prefix) + 1 :]: array for name, array in EXPECTED.items() if name.startswith(prefix + "/")}


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def close(got, expected, tolerance=1e-5):
    got = got.numpy() if isinstance(got, Tensor) else got
    np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)


# ---- PyTorch's state dicts and numbers


def cnn():
    model = CifarCNN(width=4)
    model.load_state_dict(part("cnn/state"))
    return model


def test_cifar_cnn_has_pytorchs_state_dict():
    expected, got = part("cnn/state"), CifarCNN(width=4).state_dict()
    assert list(got) == list(expected)
    assert {k: (a.shape, a.dtype) for k, a in got.items()} == {k: (a.shape, a.dtype) for k, a in expected.items()}
    assert {"0.weight", "1.running_mean", "1.num_batches_tracked", "22.bias"} <= set(got)


def test_cifar_cnn_with_pytorchs_weights_gives_pytorchs_logits_and_gradients():
    model = cnn()
    with no_grad():
        close(model.eval()(EXPECTED["cnn/x"]), EXPECTED["cnn/eval"])
    model.train()
    logits = model(EXPECTED["cnn/x"])
    close(logits, EXPECTED["cnn/train"])
    loss = F.cross_entropy(logits, EXPECTED["cnn/targets"])
    close(loss, EXPECTED["cnn/loss"])
    loss.backward()
    gradients = part("cnn/grad")
    assert [name for name, _ in model.named_parameters()] == list(gradients)
    for name, p in model.named_parameters():
        close(p.grad, gradients[name])
    for name, array in part("cnn/after").items():
        close(model.state_dict()[name], array)


LAYERS = {
    "linear": lambda: nn.Linear(6, 4),
    "linear_no_bias": lambda: nn.Linear(6, 4, bias=False),
    "layer_norm": lambda: nn.LayerNorm(5),
    "rms_norm": lambda: nn.RMSNorm(5),
    "attention": lambda: nn.MultiHeadAttention(8, 2),
    **{f"conv_{name}": lambda i=i, o=o, size=size, options=options: nn.Conv2d(i, o, size, **options)
       for name, (i, o, size, options) in CONVS.items()},
}
ATTENTION_NAMES = {"attention.in_proj_weight": "qkv.weight", "attention.in_proj_bias": "qkv.bias",
                   "attention.out_proj.weight": "proj.weight", "attention.out_proj.bias": "proj.bias"}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_give_pytorchs_outputs_and_gradients(name):
    layer = LAYERS[name]()
    layer.load_state_dict({ATTENTION_NAMES.get(key, key): array for key, array in part(f"{name}/state").items()})
    x = Tensor(EXPECTED[f"{name}/x"], requires_grad=True)
    y = layer(x)
    close(y, EXPECTED[f"{name}/y"])
    y.backward(EXPECTED[f"{name}/cotangent"])
    close(x.grad, EXPECTED[f"{name}/grad_x"])
    gradients = {ATTENTION_NAMES.get(key, key): array for key, array in part(f"{name}/grad").items()}
    assert {key for key, _ in layer.named_parameters()} == set(gradients)
    for key, p in layer.named_parameters():
        close(p.grad, gradients[key], 3e-5)


@pytest.mark.parametrize(("name", "make"), [("batch_norm", nn.BatchNorm2d), ("batch_norm_rows", nn.BatchNorm1d),
                                            ("batch_norm_steps", nn.BatchNorm1d)])
def test_batch_norm_keeps_pytorchs_running_moments(name, make):
    layer = make(3, momentum=0.3)
    for x in EXPECTED[f"{name}/x"]:
        y = layer(x)
    close(y, EXPECTED[f"{name}/y"])
    for key, array in part(f"{name}/after").items():
        close(layer.state_dict()[key], array, 1e-6)
    before = layer.state_dict()
    assert list(before) == ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    close(layer.eval()(x), EXPECTED[f"{name}/eval"])
    assert all(np.array_equal(array, before[name]) for name, array in layer.state_dict().items())


@pytest.mark.parametrize(("name", "options"), [("plain", {}), ("smooth", {"label_smoothing": 0.1}),
                                               ("ignore", {"ignore_index": 2})])
def test_cross_entropy_is_pytorchs(name, options):
    logits = Tensor(EXPECTED["cross_entropy/logits"], requires_grad=True)
    targets = EXPECTED["cross_entropy/targets"]
    if name == "ignore":
        targets = np.where(targets == -100, 2, targets)
    loss = nn.CrossEntropyLoss(**options)(logits, targets)
    close(loss, EXPECTED[f"cross_entropy/{name}"])
    loss.backward()
    close(logits.grad, EXPECTED[f"cross_entropy/{name}_grad"])


@pytest.mark.parity
def test_committed_numbers_are_pytorchs():
    torch = pytest.importorskip("torch", reason="PyTorch (extra [parity]) is not installed")
    fresh = torch_numbers(torch)
    assert list(fresh) == list(EXPECTED)
    for name, array in fresh.items():
        np.testing.assert_allclose(EXPECTED[name], array, rtol=1e-5, atol=1e-5, err_msg=name)


# ---- by hand


def softmax(a):
    e = np.exp(a - a.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def test_linear_by_hand():
    layer, x = nn.Linear(5, 3), normal(2, 4, 5)
    close(layer(x), np.einsum("btk,nk->btn", x, layer.weight.numpy()) + layer.bias.numpy())


def test_conv2d_by_hand():
    layer, x = nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2), groups=2), normal(2, 4, 7, 6)
    w, padded = layer.weight.numpy(), np.pad(x, ((0, 0), (0, 0), (1, 1), (2, 2)))
    expected = np.zeros((2, 6, 4, 8), np.float32)
    for n, i, j in np.ndindex(6, 4, 8):
        window = padded[:, n // 3 * 2 : n // 3 * 2 + 2, 2 * i : 2 * i + 3, j : j + 3 : 2]
        expected[:, n, i, j] = (window * w[n]).sum((1, 2, 3)) + layer.bias.numpy()[n]
    close(layer(x), expected)


def test_layer_norm_and_batch_norm_by_hand():
    x = normal(3, 4, 5, 2) * 3 + 1
    layer = nn.LayerNorm(2, eps=0.1)
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    close(layer(x), (x - mean) / np.sqrt(variance + 0.1))
    layer = nn.BatchNorm2d(4, eps=0.1, momentum=0.25)
    mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3))
    close(layer(x), (x - mean[:, None, None]) / np.sqrt(variance + 0.1)[:, None, None])
    close(layer.running_mean, 0.25 * mean)
    close(layer.running_var, 0.75 + 0.25 * x.var((0, 2, 3), ddof=1))
    assert layer.num_batches_tracked.item() == 1


@pytest.mark.parametrize("causal", [True, False])
def test_attention_by_hand(causal):
    layer, x = nn.MultiHeadAttention(6, 3, causal=causal), normal(2, 4, 6)
    q, k, v = np.split(x @ layer.qkv.weight.numpy().T + layer.qkv.bias.numpy(), 3, axis=-1)
    heads = []
    for h in range(3):
        part_of = np.s_[..., 2 * h : 2 * h + 2]
        scores = q[part_of] @ k[part_of].swapaxes(1, 2) / math.sqrt(2)
        heads.append(softmax(np.where(np.tri(4, dtype=bool), scores, -np.inf) if causal else scores) @ v[part_of])
    close(layer(x), np.concatenate(heads, -1) @ layer.proj.weight.numpy().T + layer.proj.bias.numpy())


@pytest.mark.parametrize("causal", [True, False])
def test_attention_is_what_plain_ops_compute(causal):
    """Value and gradients, of separate operands and of one that holds all three, over several blocks of scores."""
    qkv, cotangent = normal(3, 2, 3, 150, 20), normal(2, 3, 150, 20, seed=1)
    qkv = np.ascontiguousarray(qkv.transpose(1, 3, 0, 2, 4)).transpose(2, 0, 3, 1, 4)      # as MultiHeadAttention has it

    def plain(x):
        scores = x[0] @ x[1].transpose() * (1 / math.sqrt(20))
        return F.softmax(F.where(np.tri(150, dtype=bool), scores, np.float32(-np.inf)) if causal else scores) @ x[2]

    results = []
    for function in (plain, lambda x: F.attention(x[0], x[1], x[2], causal), lambda x: F.self_attention(x, causal)):
        x = Tensor(qkv, requires_grad=True)
        y = function(x)
        y.backward(cotangent)
        results.append((y.numpy(), x.grad.numpy()))
    for y, dx in results[1:]:
        close(y, results[0][0])
        close(dx, results[0][1])


def test_embedding_and_losses_by_hand():
    layer, ids = nn.Embedding(5, 3), np.array([[4, 0], [1, 4]])
    np.testing.assert_array_equal(layer(ids).numpy(), layer.weight.numpy()[ids])
    x, y = normal(3, 4), normal(3, 4, seed=1)
    close(nn.MSELoss()(x, y), ((x - y) ** 2).mean())
    targets = np.array([0, 3, 2])
    t, w, p = np.random.default_rng(2).random((3, 4)).astype(np.float32), np.float32([1, 2, 0, 5]), 1 / (1 + np.exp(-x))
    for weight in (None, w):
        loss = -((1 if weight is None else w) * t * np.log(p) + (1 - t) * np.log(1 - p)).mean()
        close(nn.BCEWithLogitsLoss(weight)(x, t), loss)
        close(F.binary_cross_entropy_with_logits(x, t, weight), loss)
    close(nn.CrossEntropyLoss()(x, targets), -np.log(softmax(x)[np.arange(3), targets]).mean())


@pytest.mark.parametrize(("layer", "function"), [
    (nn.ReLU(), lambda x: np.maximum(x, 0)), (nn.ReLU6(), lambda x: np.clip(x, 0, 6)), (nn.Tanh(), np.tanh),
    (nn.Sigmoid(), lambda x: 1 / (1 + np.exp(-x))), (nn.SiLU(), lambda x: x / (1 + np.exp(-x))),
    (nn.Softmax(), softmax),
    (nn.GELU(), lambda x: x * np.vectorize(lambda v: 0.5 * (1 + math.erf(v / math.sqrt(2))))(x)),
    (nn.GELU("tanh"), lambda x: x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))),
    (nn.Softmax(axis=1), lambda x: softmax(x.swapaxes(1, 3)).swapaxes(1, 3)),
    (nn.MaxPool2d(2), lambda x: x.reshape(2, 3, 2, 2, 3, 2).max((3, 5))),
    (nn.AvgPool2d((2, 3)), lambda x: x.reshape(2, 3, 2, 2, 2, 3).mean((3, 5))),
    (nn.AdaptiveAvgPool2d(1), lambda x: x.mean((2, 3), keepdims=True)),
    (nn.Flatten(), lambda x: x.reshape(2, -1)), (nn.Flatten(2), lambda x: x.reshape(2, 3, -1)),
], ids=repr)
def test_layers_without_parameters_by_hand(layer, function):
    x = normal(2, 3, 4, 6) * 4
    close(layer(x), function(x))
    assert not layer.parameters() and not layer.state_dict()


# ---- Module


class Twice(nn.Module):
    """One layer under two names, and a parameter tied to another layer's."""

    def __init__(self):
        self.first = nn.Linear(3, 3)
        self.again = self.first
        self.other = nn.Linear(3, 3, bias=False)
        self.other.weight = self.first.weight
        self.steps = Tensor(np.array(0, np.int64))


def test_tied_parameters_come_once_and_stay_tied():
    model = Twice()
    assert [name for name, _ in model.named_parameters()] == ["first.weight", "first.bias"]
    assert [p.shape for p in model.parameters()] == [(3, 3), (3,)]
    assert set(model.state_dict()) == {"first.weight", "first.bias", "again.weight", "again.bias", "other.weight",
                                       "steps"}
    assert len(list(model.modules())) == 3 and model.nbytes == 4 * 9 + 4 * 3 + 8
    copy = model.copy()
    assert copy.other.weight is copy.first.weight is copy.again.weight is not model.first.weight
    optim.SGD(model.parameters(), lr=0.1)       # would refuse repeated ones


def test_state_dict_is_a_copy():
    layer = nn.Linear(2, 2)
    state = layer.state_dict()
    state["weight"][:] = 7
    assert not (layer.weight.numpy() == 7).any()
    layer.load_state_dict(state)
    state["weight"][:] = 8
    assert (layer.weight.numpy() == 7).all()


def test_load_state_dict_names_all_problems_and_loads_nothing():
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm2d(3))
    before, state = model.state_dict(), {k: a + 1 for k, a in model.state_dict().items()}
    state["0.weight"] = state["0.weight"].T
    del state["1.running_var"], state["0.bias"]
    state["2.weight"] = np.zeros(4)
    with pytest.raises(ShapeError, match="load_state_dict of Sequential: 4 problems") as caught:
        model.load_state_dict(state)
    for problem in ("missing 0.bias (3,)", "missing 1.running_var (3,)", "unexpected 2.weight (4,)",
                    "0.weight has shape (2, 3), expected (3, 2)"):
        assert problem in str(caught.value)
    with pytest.raises(ShapeError, match="1 problems"):     # shapes are never optional
        model.load_state_dict(state, strict=False)
    for wrong in (before["0.weight"].astype(np.int64), before["0.weight"].astype(str)):
        with pytest.raises(DtypeError, match=r"0\.weight is .*, expected float32"):
            model.load_state_dict(before | {"0.bias": before["0.bias"] + 1, "0.weight": wrong})
    assert all(np.array_equal(array, before[name]) for name, array in model.state_dict().items())


def test_load_state_dict_that_is_not_strict_takes_what_fits():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    kept, weight = model[1].weight, model[0].weight
    before = kept.numpy().copy()
    model.load_state_dict({"0.weight": Tensor(np.full((3, 2), 5.0)), "9.weight": np.zeros(1)}, strict=False)
    assert (weight.numpy() == 5).all() and weight is model[0].weight and weight.dtype == np.float32
    np.testing.assert_array_equal(kept.numpy(), before)


def test_train_and_eval_reach_every_layer():
    model = TinyGPT(5, 4, 2, 1, 4)
    assert all(m.training for m in model.modules())
    assert model.eval() is model and not any(m.training for m in model.modules())
    model.blocks[1].train()
    assert [m.training for m in model.blocks] == [False, True] and not model.training
    assert model.train() is model and all(m.training for m in model.modules())


def test_zero_grad():
    layer = nn.Linear(2, 2)
    layer(normal(1, 2)).sum().backward()
    assert all(p.grad is not None for p in layer.parameters())
    layer.zero_grad()
    assert all(p.grad is None for p in layer.parameters())


def test_sequential_and_module_list():
    relu, linear = nn.ReLU(), nn.Linear(3, 2)
    model = nn.Sequential(relu, linear)
    assert len(model) == 2 and list(model) == [relu, linear] and model[-1] is linear
    x = normal(4, 3)
    np.testing.assert_array_equal(model(x).numpy(), linear(relu(x)).numpy())
    layers = nn.ModuleList(nn.Linear(2, 2) for _ in range(2)).append(relu)
    assert len(layers) == 3 and layers[2] is relu and [name for name, _ in layers.children()] == ["0", "1", "2"]
    assert list(layers.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    for kind, wrong in ((nn.Sequential, (relu, np.tanh)), (nn.ModuleList, ([relu, np.tanh],))):
        with pytest.raises(DtypeError, match=f"{kind.__name__}: expected Modules, got ufunc"):
            kind(*wrong)


class Halve(nn.Module):
    """A layer that has a function for itself and a ReLU behind it, which gives away that it ran."""

    def forward(self, x):
        return x * 0.5

    def fused_with(self, following):
        return (lambda x: F.relu(x * 0.5) + 1) if type(following) is nn.ReLU else None


def test_sequential_runs_two_layers_as_one_only_to_train():
    x = Tensor(normal(4, 3))
    apart = np.maximum(x.numpy() * 0.5, 0)
    model = nn.Sequential(Halve(), nn.ReLU(), nn.ReLU(), Halve())
    y = model(x)
    close(y, (apart + 1) * 0.5)
    with no_grad():
        close(model(x), apart * 0.5)
    with record() as ops:
        close(model(x), apart * 0.5)
    assert [r.op.name for r in ops] == ["mul", "relu", "relu", "mul"]
    close(model.eval()(x), apart * 0.5)
    with pytest.raises(DtypeError, match=r"\(in layer Sequential\.0: Halve\)"):
        nn.Sequential(Halve(), nn.ReLU())(Tensor(np.ones(2, np.int8), scale=1.0))


@pytest.mark.parametrize("make", [lambda: (nn.BatchNorm2d(5), normal(4, 5, 9, 7)),
                                  lambda: (nn.BatchNorm1d(5), normal(300, 5)),
                                  lambda: (nn.BatchNorm1d(3), normal(6, 3, 40))])
def test_batch_norm_and_relu_as_one_op_are_the_two_bit_by_bit(make):
    norm, x = make()
    norm.weight.data[...], norm.bias.data[...] = normal(2, len(norm.weight), seed=1)
    apart, cotangent, results = norm.copy(), normal(*x.shape, seed=2), []
    for model in (nn.Sequential(norm, nn.ReLU()), lambda x: F.relu(apart(x))):
        given = Tensor(x, requires_grad=True)
        y = model(given)
        y.backward(cotangent)
        results.append([y, given.grad])
    one, two = results
    assert one[0].numpy().any() and not one[0].numpy().all()
    for a, b in zip([*one, norm.weight.grad, norm.bias.grad], [*two, apart.weight.grad, apart.bias.grad], strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    for name, array in norm.state_dict().items():
        np.testing.assert_array_equal(array, apart.state_dict()[name])


def test_what_runs_batch_norm_and_relu_as_one_op():
    def op(*layers):
        y = nn.Sequential(*layers)(normal(4, 3, 5, 5))
        return y.node.op.name

    class OwnNorm(nn.BatchNorm2d):
        def forward(self, x):
            return super().forward(x) * 2

    class OwnReLU(nn.ReLU):
        def forward(self, x):
            return super().forward(x) * 2

    assert op(nn.BatchNorm2d(3), nn.ReLU()) == "batch_norm_relu"
    assert op(nn.BatchNorm2d(3).eval(), nn.ReLU()) == "relu"
    assert op(OwnNorm(3), nn.ReLU()) == "relu"
    assert op(nn.BatchNorm2d(3), OwnReLU()) == "mul"


def test_repr_shows_the_tree():
    text = repr(nn.Sequential(nn.Conv2d(3, 4, 3, groups=1), nn.Sequential(nn.Dropout(0.25))))
    assert text == ("Sequential(\n"
                    "  (0): Conv2d(3, 4, kernel_size=(3, 3), stride=(1, 1), padding=(0, 0), bias=True, float32)\n"
                    "  (1): Sequential(\n    (0): Dropout(p=0.25)\n  )\n)")


def test_errors_name_the_layer():
    with pytest.raises(ShapeError, match=r"\(in layer CifarCNN\.0: Conv2d\)"):
        CifarCNN(width=2)(normal(1, 4, 8, 8))
    with pytest.raises(ShapeError, match=r"\(in layer ResNet8\.block2: Residual\.conv1: Conv2d\)"):
        model = ResNet8(width=2)
        model.block2.conv1 = nn.Conv2d(3, 4, 3)
        model(normal(1, 3, 8, 8))
    with pytest.raises(TypeError, match="Module defines no forward"):
        nn.Module()(1)


@pytest.mark.parametrize("make", [
    lambda: nn.Linear(0, 1), lambda: nn.Linear(2, 1.5),
    lambda: nn.Conv2d(3, 4, 3, groups=2), lambda: nn.Conv2d(3, 4, 0),
    lambda: nn.Conv2d(3, 4, (3, 3, 3)), lambda: nn.Conv2d(3, 4, 3, stride=0), lambda: nn.Conv2d(3, 4, 3, padding=-1),
    lambda: nn.Embedding(0, 3), lambda: nn.LayerNorm(0), lambda: nn.RMSNorm(1.5), lambda: nn.BatchNorm2d(-1),
    lambda: nn.BatchNorm1d(2)(normal(3, 2, 1, 1)), lambda: nn.BatchNorm2d(2)(normal(3, 2)),
    lambda: nn.BatchNorm1d(2).eval()(normal(2)), lambda: nn.Dropout(1.5),
    lambda: nn.MultiHeadAttention(6, 4), lambda: nn.GELU("sigmoid"), lambda: nn.MaxPool2d(0),
    lambda: F.cross_entropy(normal(2, 3), np.array([0, 1]), label_smoothing=2), lambda: F.dropout(normal(2), -0.1),
    lambda: nn.BatchNorm2d(2)(normal(1, 2, 1, 1)), lambda: nn.CrossEntropyLoss()(normal(2, 3), np.array([0, 3]))])
def test_wrong_arguments_are_errors(make):
    with pytest.raises(ShapeError, match=r"expected|must divide|needs"):
        make()


def test_manual_seed_repeats_weights_dropout_and_samples():
    def run():
        tinyml.random.manual_seed(7)
        model = TinyGPT(9, 6, 1, 2, 8, dropout=0.5)
        return [*model.state_dict().values(), model(np.array([[1, 2, 3]])).numpy(), model.generate([1, 2], 5)]

    for a, b in zip(run(), run(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(nn.Linear(3, 3).weight.numpy(), nn.Linear(3, 3).weight.numpy())


def test_initial_weights_have_pytorchs_bounds():
    for layer, fan_in in ((nn.Linear(400, 300), 400), (nn.Conv2d(32, 64, 3), 32 * 9)):
        for p in layer.parameters():
            bound = fan_in**-0.5
            assert abs(p.numpy()).max() <= bound and p.numpy().std() == pytest.approx(bound / math.sqrt(3), rel=0.15)
    assert nn.Embedding(300, 40).weight.numpy().std() == pytest.approx(1, rel=0.05)


def test_dropout_drops_a_share_and_keeps_the_mean():
    layer, x = nn.Dropout(0.3), np.ones((100, 1000), np.float32)
    y = layer(x).numpy()
    assert set(np.unique(y)) == {np.float32(0), np.float32(1) / np.float32(0.7)}
    assert (y == 0).mean() == pytest.approx(0.3, abs=4 * math.sqrt(0.21 / x.size))     # 4 standard deviations
    assert not np.array_equal(y, layer(x).numpy())
    np.testing.assert_array_equal(layer.eval()(x).numpy(), x)
    np.testing.assert_array_equal(nn.Dropout(0)(x).numpy(), x)
    assert not nn.Dropout(1.0)(x).numpy().any()


def test_dropout_passes_gradients_where_it_kept():
    x = Tensor(np.ones(1000, np.float32), requires_grad=True)
    y = nn.Dropout(0.5)(x)
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), y.numpy())


# ---- models

LLAMA = {"kv_heads": 2, "norm": "rms", "positions": "rotary", "activation": "swiglu", "bias": False}


@pytest.mark.parametrize(("make", "x", "shape"), [
    (lambda: CifarCNN(1, 7, 2), normal(3, 1, 9, 6), (3, 7)), (lambda: ResNet8(1, 7, 4), normal(3, 1, 9, 6), (3, 7)),
    (lambda: MLP(6, 5, 4, 7), normal(3, 6), (3, 7)), (lambda: MLP(24, 7), normal(3, 1, 4, 6), (3, 7)),
    (lambda: TinyGPT(7, 5, 2, 2, 4), np.array([[1, 2, 6]]), (1, 3, 7)),
    (lambda: TinyGPT(7, 5, 2, 4, 8, **LLAMA), np.array([[1, 2, 6]]), (1, 3, 7))])
def test_a_small_step_lowers_the_loss_as_much_as_the_gradient_says(make, x, shape):
    model, targets = make(), np.random.default_rng(3).integers(0, 7, shape[:-1])
    logits = model(x)
    assert logits.shape == shape and logits.dtype == np.float32
    loss = F.cross_entropy(logits, targets)
    loss.backward()
    squared = sum(float(np.square(p.grad.numpy(), dtype=np.float64).sum()) for p in model.parameters())
    lr = 2e-3 / squared
    optim.SGD(model.parameters(), lr).step()
    after = F.cross_entropy(model(x), targets)
    assert loss.item() - after.item() == pytest.approx(lr * squared, rel=0.1)


def fit(model, x, targets, steps, lr):
    optimizer = optim.AdamW(model.parameters(), lr)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), targets)
        loss.backward()
        optimizer.step()
    return loss.item()


@pytest.mark.parametrize("make", [lambda: CifarCNN(width=4), lambda: ResNet8(width=4), lambda: MLP(192, 32, 10)])
def test_image_models_learn_a_tiny_batch_by_heart(make):
    model, x, targets = make(), normal(8, 3, 8, 8), np.arange(8)
    assert fit(model, x, targets, 60, 0.01) < 0.2
    assert (model(x).numpy().argmax(1) == targets).all()


@pytest.mark.parametrize("parts", [{}, LLAMA], ids=["GPT-2", "Llama"])
def test_tiny_gpt_learns_a_text_by_heart_and_recites_it(parts):
    text = np.random.default_rng(0).permutation(12)
    model = TinyGPT(12, 12, 2, 4, 16, **parts)
    assert fit(model, text[None, :-1], text[None, 1:], 80, 0.01) < 0.1
    np.testing.assert_array_equal(model.generate(text[:1], 11, temperature=0), text)


def gpt(**options):
    tinyml.random.manual_seed(3)
    return TinyGPT(**{"vocab_size": 11, "context": 6, "layers": 2, "heads": 2, "dim": 8} | options)


def test_gpt_is_causal():
    model, ids = gpt().eval(), np.array([[1, 2, 3, 4, 5, 6]])
    logits = model(ids).numpy()
    for t in range(1, 6):
        changed = ids.copy()
        changed[0, t] = 9
        other = model(changed).numpy()
        np.testing.assert_array_equal(other[:, :t], logits[:, :t])
        assert not np.allclose(other[:, t], logits[:, t])
        close(model(ids[:, :t]), logits[:, :t])


def test_gpt_output_projection_is_the_token_embedding_or_its_own():
    tied, untied = gpt(), gpt(tied=False)
    assert tied.head.weight is tied.tokens.weight and untied.head.weight is not untied.tokens.weight
    assert len(untied.parameters()) == len(tied.parameters()) + 1
    np.testing.assert_array_equal(tied.state_dict()["head.weight"], tied.state_dict()["tokens.weight"])
    ids = np.array([[1, 2]])
    F.cross_entropy(tied(ids), ids).backward()
    grad = tied.tokens.weight.grad.numpy()
    assert (grad[[1, 2]] != 0).any() and (grad[[0, 3, 10]] != 0).any()     # from the embedding and from the projection


def test_gpt_greedy_generation_takes_the_likeliest_and_slides_over_the_context():
    model = gpt()
    out = model.generate(np.array([3, 1], np.int32), 9, temperature=0)
    assert out.shape == (11,) and list(out[:2]) == [3, 1] and model.training
    model.eval()
    for t in range(2, 11):
        window = out[max(0, t - 6) : t]
        assert out[t] == model(window[None]).numpy()[0, -1].argmax()
    batch = model.generate([[3, 1], [5, 5]], 4, temperature=0)
    assert batch.shape == (2, 6)
    np.testing.assert_array_equal(batch[0], out[:6])
    np.testing.assert_array_equal(model.generate([3, 1], 0), [3, 1])
    with pytest.raises(ShapeError, match=r"a prompt of 9 ids is longer than the context of 6; pass its end, ids\[-6:\]"):
        model.generate(range(9), 1)


def test_gpt_sampling_follows_the_seed_and_the_distribution():
    model = gpt(dropout=0.5)        # generation is in evaluation mode: no dropout
    a, b, c = (model.generate([1], 20, seed=seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)
    model.head.weight.data *= 100   # a distribution that is not flat
    p = softmax(model.eval()(np.array([[1]])).numpy()[0, -1].astype(np.float64))
    drawn = model.generate(np.ones((4000, 1), np.int64), 1, seed=0)[:, 1]
    share = np.bincount(drawn, minlength=11) / 4000
    assert (abs(share - p) <= 5 * np.sqrt(p * (1 - p) / 4000) + 1e-3).all()


def test_gpt_top_k_samples_among_the_likeliest():
    model = gpt()
    order = model.eval()(np.array([[1]])).numpy()[0, -1].argsort()[::-1]
    drawn = model.generate(np.ones((300, 1), np.int64), 1, temperature=100.0, top_k=3, seed=0)[:, 1]
    assert set(drawn) == set(order[:3])
    every = model.generate(np.ones((300, 1), np.int64), 1, temperature=100.0, top_k=99, seed=0)[:, 1]
    assert set(every) == set(range(11))
    np.testing.assert_array_equal(model.generate([1], 5, top_k=1, seed=1), model.generate([1], 5, temperature=0))


def test_gpt_samples_only_what_has_a_probability():
    class Ends:
        """Draws the two ends of [0, 1)."""

        def random(self, shape):
            return np.array([[0.0], [np.nextafter(1.0, 0)]]).reshape(shape)

    logits = np.log(np.array([[0.1, 0.2, 0.7, 0.6, 0.1]] * 2))
    assert list(Sampling(top_k=2).draw(logits, logits.argmax(axis=1), None, Ends())) == [2, 3]


@pytest.mark.parametrize(("prompt", "error", "message"), [
    ([], ShapeError, "at least one id"), (np.zeros((2, 0), np.int64), ShapeError, r"one id.*got \(0,\), \(0,\)"),
    (3, ShapeError, r"got shape \(\)"), ([[[1]]], ShapeError, r"got shape \(1, 1, 1\)"),
    ([1.0, 2.0], DtypeError, "expected integer ids, got float"), ([True], DtypeError, "got bool"),
    ([1, 11], ShapeError, r"ids in \[0, 11\), got 1 to 11"), ([-1], ShapeError, "-1")])
def test_gpt_refuses_wrong_prompts(prompt, error, message):
    model = gpt()
    with pytest.raises(error, match=message):
        model.generate(prompt, 2)
    assert model.training       # also after an error


def test_gpt_refuses_ids_that_do_not_fit():
    for ids in (np.zeros(3, np.int64), np.zeros((1, 7), np.int64), np.zeros((1, 0), np.int64)):
        with pytest.raises(ShapeError, match=r"expected ids \(B, T\) with T from 1 to 6"):
            gpt()(ids)
    with pytest.raises(DtypeError, match="embedding"):
        gpt()(np.zeros((1, 2), np.float32))
