"""Layers against NumPy by hand, their initial weights, and what they refuse."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from values import close, normal, softmax

from tinyml import nn
from tinyml.errors import DtypeError, ShapeError
from tinyml.metrics import class_axis
from tinyml.models import next_token_loss
from tinyml.nn import functional as F
from tinyml.tensors import Tensor


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
    layer, x = nn.SelfAttention(6, 3, causal=causal), normal(2, 4, 6)
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
    qkv = np.ascontiguousarray(qkv.transpose(1, 3, 0, 2, 4)).transpose(2, 0, 3, 1, 4)      # as SelfAttention has it

    def plain(x):
        scores = x[0] @ x[1].transpose() * (1 / math.sqrt(20))
        return F.softmax(F.where(np.tri(150, dtype=bool), scores, np.float32(-np.inf)) if causal else scores, -1) @ x[2]

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
        close(nn.BCEWithLogitsLoss(pos_weight=weight)(x, t), loss)
        close(F.binary_cross_entropy_with_logits(x, t, pos_weight=weight), loss)
    close(nn.CrossEntropyLoss()(x, targets), -np.log(softmax(x)[np.arange(3), targets]).mean())


@pytest.mark.parametrize(("layer", "function"), [
    (nn.ReLU(), lambda x: np.maximum(x, 0)), (nn.ReLU6(), lambda x: np.clip(x, 0, 6)), (nn.Tanh(), np.tanh),
    (nn.Sigmoid(), lambda x: 1 / (1 + np.exp(-x))), (nn.SiLU(), lambda x: x / (1 + np.exp(-x))),
    (nn.Softmax(-1), softmax),
    (nn.GELU(), lambda x: x * np.vectorize(lambda v: 0.5 * (1 + math.erf(v / math.sqrt(2))))(x)),
    (nn.GELU("tanh"), lambda x: x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))),
    (nn.Softmax(dim=1), lambda x: softmax(x.swapaxes(1, 3)).swapaxes(1, 3)),
    (nn.MaxPool2d(2), lambda x: x.reshape(2, 3, 2, 2, 3, 2).max((3, 5))),
    (nn.AvgPool2d((2, 3)), lambda x: x.reshape(2, 3, 2, 2, 2, 3).mean((3, 5))),
    (nn.AdaptiveAvgPool2d(1), lambda x: x.mean((2, 3), keepdims=True)),
    (nn.Flatten(), lambda x: x.reshape(2, -1)), (nn.Flatten(2), lambda x: x.reshape(2, 3, -1)),
], ids=lambda part: repr(part) if isinstance(part, nn.Module) else "numpy")
def test_layers_without_parameters_by_hand(layer, function):
    x = normal(2, 3, 4, 6) * 4
    close(layer(x), function(x))
    assert not layer.parameters() and not layer.state_dict()


@pytest.mark.parametrize("make", [
    lambda: nn.Linear(0, 1), lambda: nn.Linear(2, 1.5),
    lambda: nn.Conv2d(3, 4, 3, groups=2), lambda: nn.Conv2d(3, 4, 0),
    lambda: nn.Conv2d(3, 4, (3, 3, 3)), lambda: nn.Conv2d(3, 4, 3, stride=0), lambda: nn.Conv2d(3, 4, 3, padding=-1),
    lambda: nn.Embedding(0, 3), lambda: nn.LayerNorm(0), lambda: nn.RMSNorm(1.5), lambda: nn.BatchNorm2d(-1),
    lambda: nn.BatchNorm1d(2)(normal(3, 2, 1, 1)), lambda: nn.BatchNorm2d(2)(normal(3, 2)),
    lambda: nn.BatchNorm1d(2).eval()(normal(2)), lambda: nn.Dropout(1.5),
    lambda: nn.SelfAttention(6, 4), lambda: nn.GELU("sigmoid"), lambda: nn.MaxPool2d(0),
    lambda: F.cross_entropy(normal(2, 3), np.array([0, 1]), label_smoothing=2), lambda: F.dropout(normal(2), -0.1),
    lambda: nn.BatchNorm2d(2)(normal(1, 2, 1, 1)), lambda: nn.CrossEntropyLoss()(normal(2, 3), np.array([0, 3]))])
def test_wrong_arguments_are_errors(make):
    with pytest.raises((ShapeError, DtypeError), match=r"expected|must divide|needs"):
        make()


def test_initial_weights_have_pytorchs_bounds():
    for layer, fan_in in ((nn.Linear(400, 300), 400), (nn.Conv2d(32, 64, 3), 32 * 9)):
        for p in layer.parameters():
            bound = fan_in**-0.5
            assert abs(p.numpy()).max() <= bound and p.numpy().std() == pytest.approx(bound / math.sqrt(3), rel=0.15)
    assert nn.Embedding(300, 40).weight.numpy().std() == pytest.approx(1, rel=0.05)


# ---- dropout


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


@given(st.lists(st.integers(1, 4), min_size=0, max_size=2), st.integers(1, 4), st.integers(1, 4))
def test_the_classes_of_cross_entropy_are_dimension_1(sizes, batch, classes):
    """Where a size is that of the classes, too."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((batch, classes, *sizes))
    targets = rng.integers(0, classes, (batch, *sizes))
    counted = rng.random(targets.shape) < 0.8
    counted.flat[0] = True
    p = np.log(softmax(np.moveaxis(x, 1, -1)))
    expected = -np.take_along_axis(p, targets[..., None], -1)[..., 0][counted].mean()
    found = F.cross_entropy(Tensor(x), np.where(counted, targets, -100)).item()
    assert found == pytest.approx(expected, rel=1e-6)
    rows = np.moveaxis(x, 1, -1)
    assert next_token_loss(rows, np.where(counted, targets, -100)).item() == pytest.approx(found, rel=1e-6)
    assert class_axis(F.cross_entropy, x.shape, targets.shape) == 1


def test_accuracy_is_of_the_dimension_that_the_loss_says():
    outputs, targets = (2, 3, 3), (2, 3)
    assert class_axis(None, outputs, targets) == class_axis(F.cross_entropy, outputs, targets) == 1
    assert class_axis(next_token_loss, outputs, targets) == 2 and class_axis(None, (2, 3, 5), targets) == 2
    assert class_axis(F.cross_entropy, (2, 3, 5), targets) is None and class_axis(None, (2,), ()) is None
