"""Elementwise arithmetic with broadcasting."""

from __future__ import annotations

import numpy as np

from .._kernels import fixed_point
from ..errors import ShapeError
from .op import Lowered, Op, broadcasting, normal, sample


def _pairs(rng):
    """Operand pairs that every binary op is tried on: equal, broadcast both ways, scalars, empty."""
    yield sample(normal(rng, 3, 4), normal(rng, 3, 4))
    yield sample(normal(rng, 2, 1, 4), normal(rng, 3, 1))
    yield sample(normal(rng, 4), normal(rng, 2, 3, 4))
    yield sample(normal(rng), normal(rng, 3))
    yield sample(normal(rng, 0, 3), normal(rng, 1, 3))


class Add(Op):
    """y = a + b."""

    name = "add"
    int8 = "lower"

    @staticmethod
    def forward(ctx, a, b):
        return broadcasting("add", np.add, a, b)

    @staticmethod
    def backward(ctx, grad):
        return grad, grad

    @classmethod
    def lower(cls, operands, target, attrs):
        """Both operands at one shift, one rounding; equation (8)."""
        a, b = operands
        if a.codec is None or b.codec is None or a.shape != b.shape:
            return None
        reals = [np.float64(o.codec.scale) / np.float64(target.codec.scale) for o in operands]
        multipliers, shift = fixed_point.shared_multipliers(reals)
        return Lowered("add", {"zero_points": [a.codec.zero_point, b.codec.zero_point], "multipliers": multipliers,
                               "shift": shift, "zero_point": target.codec.zero_point, "lo": target.lo, "hi": target.hi})

    samples = staticmethod(_pairs)

    @staticmethod
    def parity(torch, a, b):
        return a + b


class Sub(Op):
    """y = a - b."""

    name = "sub"

    @staticmethod
    def forward(ctx, a, b):
        return broadcasting("sub", np.subtract, a, b)

    @staticmethod
    def backward(ctx, grad):
        return grad, -grad

    samples = staticmethod(_pairs)

    @staticmethod
    def parity(torch, a, b):
        return a - b


class Mul(Op):
    """y = a * b."""

    name = "mul"

    @staticmethod
    def forward(ctx, a, b):
        ctx.a, ctx.b = a, b
        return broadcasting("mul", np.multiply, a, b)

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.b if ctx.needs[0] else None, grad * ctx.a if ctx.needs[1] else None

    samples = staticmethod(_pairs)

    @staticmethod
    def parity(torch, a, b):
        return a * b


class Div(Op):
    """y = a / b; dividing by zero gives infinities, as IEEE says."""

    name = "div"

    @staticmethod
    def forward(ctx, a, b):
        ctx.a, ctx.b = a, b
        with np.errstate(divide="ignore", invalid="ignore"):
            return broadcasting("div", np.divide, a, b)

    @staticmethod
    def backward(ctx, grad):
        with np.errstate(divide="ignore", invalid="ignore"):
            return (grad / ctx.b if ctx.needs[0] else None,
                    -grad * ctx.a / (ctx.b * ctx.b) if ctx.needs[1] else None)

    @staticmethod
    def samples(rng):
        for s in _pairs(rng):
            yield sample(s.inputs[0], np.abs(s.inputs[1]) + 0.5)

    @staticmethod
    def parity(torch, a, b):
        return a / b


class Neg(Op):
    """y = -x."""

    name = "neg"
    int8 = "table"

    @staticmethod
    def forward(ctx, x):
        return -x

    @staticmethod
    def backward(ctx, grad):
        return (-grad,)

    @staticmethod
    def samples(rng):
        yield sample(normal(rng, 2, 3))

    @staticmethod
    def parity(torch, x):
        return -x


class Pow(Op):
    """y = x ** exponent, a constant exponent."""

    name = "pow"
    int8 = "table"

    @staticmethod
    def forward(ctx, x, *, exponent):
        ctx.x, ctx.exponent = x, exponent
        if exponent == 2:
            return x * x
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.power(x, x.dtype.type(exponent))

    @staticmethod
    def backward(ctx, grad):
        if ctx.exponent == 0:
            return (np.zeros_like(grad),)
        with np.errstate(divide="ignore", invalid="ignore"):
            return (grad * (ctx.exponent * np.power(ctx.x, ctx.x.dtype.type(ctx.exponent - 1))),)

    @staticmethod
    def samples(rng):
        for exponent in (2.0, 3.0, 0.5, -1.5, 1.0, 0.0):
            yield sample(np.abs(normal(rng, 2, 3)) + 0.3, exponent=exponent)
        yield sample(normal(rng, 2, 3), exponent=3.0)

    @staticmethod
    def parity(torch, x, exponent):
        return x ** exponent


class _Pick(Op):
    """Shared by maximum and minimum: the gradient goes to the operand picked, half to each of equals."""

    @staticmethod
    def backward(ctx, grad):
        first = ctx.first + 0.5 * ctx.equal
        return grad * first.astype(grad.dtype), grad * (1 - first).astype(grad.dtype)

    samples = staticmethod(_pairs)


class Maximum(_Pick):
    """y = max(a, b) elementwise."""

    name = "maximum"

    @staticmethod
    def forward(ctx, a, b):
        y = broadcasting("maximum", np.maximum, a, b)
        ctx.first, ctx.equal = a > b, a == b
        return y

    @staticmethod
    def parity(torch, a, b):
        return torch.maximum(a, b)


class Minimum(_Pick):
    """y = min(a, b) elementwise."""

    name = "minimum"

    @staticmethod
    def forward(ctx, a, b):
        y = broadcasting("minimum", np.minimum, a, b)
        ctx.first, ctx.equal = a < b, a == b
        return y

    @staticmethod
    def parity(torch, a, b):
        return torch.minimum(a, b)


class Where(Op):
    """y = a where the condition holds, else b."""

    name = "where"
    integer_operands = (0,)

    @staticmethod
    def forward(ctx, condition, a, b):
        ctx.condition = condition = condition.astype(bool)
        try:
            return np.where(condition, a, b)
        except ValueError:
            raise ShapeError(f"where: shapes {condition.shape}, {a.shape} and {b.shape} do not broadcast") from None

    @staticmethod
    def backward(ctx, grad):
        return None, grad * ctx.condition, grad * ~ctx.condition

    @staticmethod
    def samples(rng):
        yield sample(rng.random((3, 4)) > 0.5, normal(rng, 3, 4), normal(rng, 4))
        yield sample(rng.random((3, 1)) > 0.5, normal(rng), normal(rng, 2, 3, 4))

    @staticmethod
    def parity(torch, condition, a, b):
        return torch.where(condition, a, b)
