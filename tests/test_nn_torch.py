"""Layers, losses and a CNN against PyTorch's numbers, committed in parity/nn.npz: outputs, gradients, state dicts."""

from __future__ import annotations

import numpy as np
import pytest
from make_optim_parity import CONVS, FOLDER
from make_optim_parity import layers as torch_numbers
from values import close

from tinyml import nn
from tinyml.models import CifarCNN
from tinyml.nn import functional as F
from tinyml.tape import no_grad
from tinyml.tensors import Tensor

EXPECTED = dict(np.load(FOLDER / "nn.npz"))


def part(prefix):
    """The arrays below one name, by the rest of their names, in the order PyTorch gave them."""
    return {name[len(prefix) + 1 :]: array for name, array in EXPECTED.items() if name.startswith(prefix + "/")}


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
    "attention": lambda: nn.SelfAttention(8, 2),
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
