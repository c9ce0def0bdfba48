"""Nets of every kind to lower, inputs for them, and what holds their plans to the equations."""

from __future__ import annotations

from pathlib import Path

import interpreter
import numpy as np
from hypothesis import strategies as st

import tinyml
from tinyml import Tensor, models, nn
from tinyml.nn import functional as F
from tinyml.precision import Plan
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
    z = m.b(y).mean((2, 3), keepdim=True)                          # (B, 4, 1, 1)
    row = m.c(x)[:, :1, :, :1] - z                                  # (B, 4, 5, 1)
    return F.relu((F.relu(y - z) + row) * z) - y[:, :, 2].unsqueeze(2) * y[:, 1:2]


def squeeze_and_excitation(m, x):
    """Hu et al. 2017."""
    y = F.relu(m.a(x))
    gate = F.sigmoid(m.c(F.relu(m.b(y.mean((2, 3))))))
    return m.d(y * gate.reshape(len(x), 8, 1, 1)) + y


def inception(m, x):
    """Branches of several windows, joined (Szegedy et al. 2014)."""
    y = F.cat([F.relu(m.a(x)), F.relu(m.b(x)), m.c(F.max_pool2d(x, 3, 1, 1)), F.avg_pool2d(x, 3, 1, 1)], dim=1)
    return m.d(F.cat([y, F.sigmoid(y)[:, :, :, 1:]], dim=-1))


def dense(m, x):
    """Every layer reads all earlier ones, batch norm first (Huang et al. 2016), so no norm folds into a convolution."""
    for layer in (m.a, m.b):
        x = F.cat([x, layer(x)], dim=1)
    return m.c(x)


def pre_activation(m, x):
    """He et al. 2016: the shortcut carries sums, which norms read."""
    y = m.a(x)
    y = y + m.b(y)
    return m.d(y + m.c(y))


def shared(m, x):
    """One convolution, norm and product at several places, of other ranges at each."""
    y = F.relu(m.a(m.a(x)))
    return m.b(m.b(m.a(y * 3.0) + y))


def functional(m, x):
    y = F.relu(F.conv2d(F.pad(x, (2, 0, 0, 1), value=-0.75), m.a.weight, stride=2, padding=1))
    y = F.pad(F.linear(y.flatten(2), m.b.weight, m.b.bias), (0, 2, 1, 0))
    return F.stack([F.relu6(y), F.tanh(y)], dim=2)


def embeddings(m, ids):
    """Rows by id, positions that are computed at conversion, a table read twice."""
    x = m.a(ids)
    y = F.gelu(m.c(x + m.b(np.arange(7))))                          # (B, 7, 4)
    return m.d(F.cat([y, m.c(x[:, ::-2])], dim=1)).transpose(1, 2)


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


# ---- inputs and trained values


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
            t.array[...] = rng.uniform(0.05, 3, t.shape)
        elif t.dtype == np.float32:
            t.array[...] += rng.uniform(-0.4, 0.4, t.shape)
            if t.ndim > 1:
                t.array[...] *= np.exp2(rng.uniform(-2, 1, (len(t), *[1] * (t.ndim - 1))))
    return model


# ---- what plans give


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
