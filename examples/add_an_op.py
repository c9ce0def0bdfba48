"""Add an op of your own: one class, then check its gradient, train with it and quantize a model that uses it.

    python examples/add_an_op.py
"""

from __future__ import annotations

import numpy as np

import tinyml
from tinyml import nn, optim
from tinyml.nn import functional as F
from tinyml.ops import Op, sample
from tinyml.tensor import apply
from tinyml.testing import check_op


class Softplus(Op):
    """y = ln(1 + e^x), a smooth ReLU (Dugas et al. 2000); its derivative is the sigmoid."""

    name = "softplus"
    int8 = "table"      # a pointwise function of one code: in integer plans it becomes 256 codes

    @staticmethod
    def forward(ctx, x):
        ctx.x = x
        return np.logaddexp(x, 0)       # no overflow for large x

    @staticmethod
    def backward(ctx, grad):
        return (grad * (0.5 + 0.5 * np.tanh(0.5 * ctx.x)),)

    @staticmethod
    def samples(rng):
        yield sample(rng.standard_normal((3, 4)))
        yield sample(50 * rng.standard_normal((2, 3)))

    @staticmethod
    def parity(torch, x):
        return torch.nn.functional.softplus(x)


class Net(nn.Module):
    """Two linear layers with the new op between them."""

    def __init__(self):
        self.inner, self.outer = nn.Linear(2, 32), nn.Linear(32, 2)

    def forward(self, x):
        return self.outer(apply(Softplus, self.inner(x)))


def main() -> None:
    """Check, train on two rings, quantize."""
    print(f"gradient of softplus: right for all {check_op('softplus')} samples")
    tinyml.manual_seed(0)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((512, 2)).astype(np.float32)
    y = (np.hypot(x[:, 0], x[:, 1]) > 1.2).astype(np.int64)
    model = Net()
    optimizer = optim.Adam(model.parameters(), lr=0.02)
    for _ in range(300):
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    int8 = model.to_int8(calibration=[x])
    print(int8)
    tinyml.precision.compare(model, int8, [(x, y)])


if __name__ == "__main__":
    main()
