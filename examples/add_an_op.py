"""Add an op of your own: one class, with all that tinyml needs to know about it. Its gradient is checked; it is trained,
fused with a clamp, run on pieces of a batch, profiled, quantized and reported like the ops of tinyml.

    python examples/add_an_op.py
"""

from __future__ import annotations

from functools import partial

import numpy as np

import tinyml
from tinyml import nn, optim
from tinyml.nn import functional as F
from tinyml.ops import Op, sample
from tinyml.tape import record
from tinyml.tensors import apply
from tinyml.testing import check_op


class Softplus(Op):
    """A smooth ReLU: y = ln(1 + e^x) for x of any shape (Dugas et al. 2000); its derivative is the sigmoid."""

    name = "softplus"

    @staticmethod
    def forward(ctx, x):
        ctx.x = x
        return np.logaddexp(x, x.dtype.type(0))     # no overflow for large x

    @staticmethod
    def backward(ctx, grad):
        return (grad * (0.5 + 0.5 * np.tanh(0.5 * ctx.x)),)

    @staticmethod
    def samples(rng):
        yield sample(rng.standard_normal((3, 4)))
        yield sample(50 * rng.standard_normal((2, 3)))

    # The rest is optional: without it the op runs in float32 only, and is slower
    int8 = "table"          # a function of one number, which integer plans run as a table of 256 codes
    takes_clamp = True      # a clip after it becomes part of that table

    @staticmethod
    def bind(out, x):       # in plans it writes its result to the given memory
        return partial(np.logaddexp, x, np.float32(0), out=out)

    @staticmethod
    def flops(y, x):        # for the profiler: e^x, the addition and ln
        return 3.0 * x.size


class Net(nn.Module):
    """Two linear layers with the new op, limited to 0 .. 6, between them."""

    def __init__(self):
        self.inner, self.outer = nn.Linear(2, 32), nn.Linear(32, 2)

    def forward(self, x):
        return self.outer(apply(Softplus, self.inner(x)).clip(0.0, 6.0))


def main() -> None:
    """Check the gradient, train on two rings, profile, compile, quantize, and report."""
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

    print("\nOne step of training, profiled: the operations of softplus are counted both ways.")
    with tinyml.profile() as profile:
        F.cross_entropy(model(x), y).backward()
    counted = {row.phase: row.flops for row in profile.rows if row.op == Softplus.name}
    assert counted == {"forward": 3.0 * 512 * 32, "backward": 3.0 * 512 * 32}

    compiled, int8 = model.compile(x), model.to_int8(calibration=[x])
    print(f"\n{compiled}\n{int8}")
    for plan in (compiled, int8):
        at_once = plan.memory(100_000).batch
        print(f"{describe(plan)}; of a batch of 100,000 samples {at_once:,} run at a time")
        assert at_once < 100_000
    assert describe(int8) == "quantize, product, softplus, product, dequantize", "the clip is part of the table"
    compiled(x)
    with record() as ran:       # the first call runs op after op; later calls run the functions that the ops bound
        compiled(x)
    print(f"ops that the second call of the compiled model runs by themselves: {len(ran)}")
    assert not ran

    print()
    tinyml.precision.compare(model, int8, [(x, y)])
    for plan in (compiled, int8):
        report = plan.report([x], batch=512, seconds=0.1)
        print(f"\n{report}")
        assert any(Softplus.name in layer.ops and layer.total_ms > 0 for layer in report.layers)


def describe(plan: tinyml.precision.Plan) -> str:
    """The steps of a plan in one line: the op of each, or its kind."""
    return ", ".join(step.attrs.get("op", step.kind) for step in plan.steps)


if __name__ == "__main__":
    main()
