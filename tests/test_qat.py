"""Quantization-aware training: what trains in floats is what the integers compute, layer by layer and byte by byte."""

from __future__ import annotations

import numpy as np
import pytest
from nets import NETS, Then, assert_interpreted, conv, images, inputs_of, randomise

import tinyml
from tinyml import Tensor, models, nn, optim
from tinyml.nn import functional as F
from tinyml.nn.norms import BatchNorm
from tinyml.precision import prepare_qat
from tinyml.precision.training.model import QATModel
from tinyml.precision.training.quantizers import ActivationQuantizer, WeightQuantizer
from tinyml.tape import no_grad


def arrays(out) -> list[np.ndarray]:
    """The results of a model as arrays."""
    return [t.numpy() for t in (out if isinstance(out, tuple) else (out,))]


def same(a, b) -> bool:
    """Whether two models' results have the same bytes."""
    return [x.tobytes() for x in arrays(a)] == [x.tobytes() for x in arrays(b)]


def loss_of(model: nn.Module, *xs: np.ndarray) -> Tensor:
    """Mean squared difference of the results from fixed values."""
    out = model(*xs)
    return sum(((y - np.random.default_rng(9).standard_normal(y.shape).astype(np.float32)) ** 2).mean()
               for y in (out if isinstance(out, tuple) else (out,)))


def train(model: nn.Module, *xs: np.ndarray, steps: int = 2) -> nn.Module:
    """The model after some steps, in training mode."""
    optimizer = optim.Adam(model.train().parameters(), 3e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(model, *xs).backward()
        optimizer.step()
    return model


def settled(model: nn.Module, *xs: np.ndarray) -> nn.Module:
    """The model, randomised, with the running moments of these inputs: evaluation then does what training does."""
    norms = [m for m in randomise(model).modules() if isinstance(m, BatchNorm)]
    for m in norms:
        m.momentum = 1.0
    with no_grad():
        model.train()(*xs)
    for m in norms:
        m.momentum = 0.1
    return model


# ---- models that QAT could get wrong


class Unused(nn.Module):
    """One layer used twice, one never."""

    def __init__(self):
        self.shared, self.norm, self.last = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, 3, 1)
        self.unused = nn.Linear(3, 3)

    def forward(self, x):
        return self.last(self.norm(self.shared(F.relu6(self.norm(self.shared(x))))))


def batch_constants(m, x):
    ones = Tensor(np.ones((len(x), 1, 4), np.float32))
    y = F.cat([ones, x, F.sigmoid(ones) * 0.5], dim=1)
    return m.b((m.a(y) + Tensor(np.ones((len(x), 1, 4), np.float32)))[:, 0])


def computed_weight(m, x):
    return F.linear(F.relu(m.a(x)), m.a.weight.T * 0.5, m.b.weight[0])


def two_of_each(m, x, y):
    z = m.a(x)
    return F.relu(z) + m.b(y), z


ODD = {     # model, shapes of one input each
    "gains of 0 and below": (lambda: nn.Sequential(*conv(3, 5, 3), nn.Conv2d(5, 2, 1)), [(3, 6, 6)]),
    "bias before batch norm": (lambda: nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU6(), nn.Conv2d(5, 2, 1)),
                               [(3, 6, 6)]),
    "shared and unused": (Unused, [(4, 6, 6)]),
    "batch norm alone": (lambda: nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4),
                                               nn.Conv2d(4, 2, 1)), [(3, 6, 6)]),
    "batch norm of steps": (lambda: nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(5, 2)),
                            [(3, 4)]),
    "batch norm of features": (lambda: nn.Sequential(nn.BatchNorm1d(4), nn.ReLU6(), nn.Linear(4, 3)), [(4,)]),
    "two inputs and outputs": (lambda: Then(two_of_each, nn.Linear(4, 3), nn.Linear(2, 3)), [(4,), (2,)]),
    "constants of the batch": (lambda: Then(batch_constants, nn.Linear(4, 4), nn.Linear(4, 3)), [(2, 4)]),
    "computed weight": (lambda: Then(computed_weight, nn.Linear(5, 4), nn.Linear(5, 2)), [(5,)]),
    "attention": (lambda: nn.Sequential(nn.Linear(3, 8), nn.SelfAttention(8, 2), nn.LayerNorm(8), nn.Linear(8, 3)),
                  [(5, 3)]),
}
EVERY = {**{name: (make, [shape]) for name, (make, shape) in NETS.items()}, **ODD}


def prepared(name: str, batch: int = 8, **options) -> tuple[nn.Module, QATModel, list[np.ndarray]]:
    """A float model, prepared, and inputs."""
    make, shapes = EVERY[name]
    xs = [inputs_of(name, batch, i) if name == "embeddings" else images(shape, batch, i) for i, shape in enumerate(shapes)]
    model = settled(make(), *xs)
    if name == "gains of 0 and below":
        model[1].weight.array[1:3] = 0, -0.7
    return model, prepare_qat(model, (tuple(xs), None), **options), xs


# ---- one arithmetic


@pytest.mark.parametrize("learn_scales, per_channel", [(False, True), (True, True), (False, False), (True, False)])
@pytest.mark.parametrize("name", EVERY)
def test_evaluation_is_the_integers(name, learn_scales, per_channel, tmp_path):
    """Untrained, without batch norm, it is to_int8 by smallest and largest. Its plan, file and interpreter agree always."""
    model, qat, xs = prepared(name, learn_scales=learn_scales, per_channel=per_channel)
    plan = model.to_int8(calibration=[(tuple(xs), None)], per_channel=per_channel, observer="minmax")
    assert [s.kind for s in plan.steps] == [s.kind for s in qat.to_int8().steps]
    norms = any(isinstance(m, BatchNorm) for m in model.modules())     # whose moments differ in the last bits
    assert learn_scales or norms or same(plan(*xs), qat.eval()(*xs))
    for steps, freeze in ((0, False), (2, False), (1, True)):
        before = qat.eval()(*xs)
        if freeze:
            qat.freeze()
        train(qat, *xs, steps=steps)
        int8 = qat.to_int8()
        assert same(qat.eval()(*xs), int8(*xs))
        if name != "numbers":       # whose result is clipped to one value
            assert same(before, int8(*xs)) == (not steps)
        if int8.islands:        # of which the interpreter knows nothing
            int8.save(tmp_path / "plan.safetensors")
            assert same(tinyml.load(tmp_path / "plan.safetensors")(*xs), int8(*xs))
        else:
            assert_interpreted(int8, tmp_path / "plan.safetensors", *xs)
    assert int8.info["calibration"]["observer"] == "qat" and int8.info["calibration"]["samples"] == 8 + 2 * 8


LARGE = {**NETS, "CifarCNN": (lambda: models.CifarCNN(width=8), (3, 12, 12)),
         "ResNet8": (lambda: models.ResNet8(width=8), (3, 12, 12)), "MLP": (lambda: models.MLP(48, 96, 64, 10), (3, 4, 4))}


@pytest.mark.parametrize("learn_scales, per_channel", [(False, True), (True, False)])
# the results of "numbers" are clipped to few values, "embeddings" reads ids
@pytest.mark.parametrize("name", [name for name in LARGE if name not in ("numbers", "embeddings")])
def test_each_layer_trains_on_the_codes_that_its_kernel_makes(name, learn_scales, per_channel, monkeypatch):
    """Fed the same codes, a frozen training forward and the integer kernel differ by one code in at most 0.1% of them."""
    make, shape = LARGE[name]
    x = images(shape, 500, 0)
    qat = prepare_qat(settled(make(), x), x[:50], learn_scales, per_channel=per_channel)
    train(train(qat, x[:50]).freeze(), x[:50])
    seen: dict[int, np.ndarray] = {}
    quantize = QATModel.quantize

    def watched(self, value, t):
        y = quantize(self, value, t)
        codec = self.activations[self._activation[value]].codec()
        seen[value] = (np.rint(y.numpy() / codec.scale) + codec.zero_point + 128).astype(np.uint8)
        return y

    monkeypatch.setattr(QATModel, "quantize", watched)
    with no_grad():
        qat(x)
    plan = qat.to_int8()
    assert not plan.islands
    integers = iter([n for n in qat._fused.nodes if qat._rules[n.output] == "integers"])
    codes, layers = {}, 0
    for step in plan.steps:
        if step.kind == "dequantize":
            continue
        if step.kind == "quantize":
            codes[step.output] = seen[step.inputs[0]]
            assert np.array_equal(step.run([x], len(x)), codes[step.output])
            continue
        made = step.run([codes[i] for i in step.inputs], len(x))
        codes[step.output] = made
        if step.kind == "codes":
            continue
        node = next(integers)
        expected = codes[step.output] = seen[node.output]
        off = np.abs(made.astype(int) - expected)
        assert off.max() <= 1 and off.sum() <= 0.001 * off.size, f"{node}: {off.sum()} of {off.size}, by up to {off.max()}"
        assert off.size >= 1000 and np.ptp(expected) > 20, f"{node}: too little to tell"
        layers += 1
    assert layers and next(integers, None) is None


# ---- training


def identity(monkeypatch):
    monkeypatch.setattr(ActivationQuantizer, "forward", lambda self, x, frozen: x)
    monkeypatch.setattr(WeightQuantizer, "forward", lambda self, weight, bias, x_scale, frozen: (weight, bias))


@pytest.mark.parametrize("name", EVERY)
def test_without_rounding_it_is_the_float_model(name, monkeypatch):
    """Results, gradients and running moments, while batch norm learns; and, frozen, those of evaluation."""
    identity(monkeypatch)
    model, qat, xs = prepared(name, 16)
    for step in range(4):
        if step == 3:
            model.eval()
            qat.freeze()
        model.zero_grad()
        qat.zero_grad()
        a, b = loss_of(model, *xs), loss_of(qat, *xs)
        assert a.item() == pytest.approx(b.item(), rel=1e-4)
        a.backward()
        b.backward()
        for (what, p), (_, q) in zip(model.named_tensors(), qat.model.named_tensors(), strict=True):
            assert np.allclose(p.numpy(), q.numpy(), rtol=1e-4, atol=1e-5), what
            assert (p.grad is None) == (q.grad is None)
            if p.grad is not None:
                size = max(np.abs(p.grad.numpy()).max(), 1e-2)
                assert np.abs(p.grad.numpy() - q.grad.numpy()).max() < 1e-3 * size, what


@pytest.mark.parametrize("learn_scales", [False, True])
@pytest.mark.parametrize("name", [name for name in EVERY if name != "numbers"])      # whose result is clipped to one value
def test_gradients_reach_every_parameter_and_point_the_right_way(name, learn_scales):
    model, qat, xs = prepared(name, 32, learn_scales=learn_scales)
    loss_of(model, *xs).backward()
    loss_of(qat, *xs).backward()
    pairs = []
    for (what, p), (_, q) in zip(model.named_parameters(), qat.model.named_parameters(), strict=True):
        assert (p.grad is None) == (q.grad is None), what
        if p.grad is not None:
            assert q.grad.numpy().any() or np.abs(p.grad.numpy()).max() < 1e-6, what
            pairs.append((p.grad.numpy().ravel(), q.grad.numpy().ravel()))
    a, b = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    least = 0.7 if name == "DepthwiseCNN" else 0.9      # through eleven layers that round
    assert a @ b > least * np.linalg.norm(a) * np.linalg.norm(b)
    assert all(np.isfinite(q.grad.numpy()).all() for q in [*qat.activations.parameters(), *qat.weights.parameters()])
