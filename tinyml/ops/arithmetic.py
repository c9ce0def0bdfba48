"""Elementwise arithmetic with broadcasting."""

from __future__ import annotations

import numpy as np

from .._kernels.rows.elementwise import elementwise
from ..errors import ShapeError
from ..tensor import apply
from .codes import constant_codes, drowns, tabulate
from .op import IntegerStep, Op, broadcasting, normal, sample


def _pairs(rng):
    """Operand pairs that every binary op is tried on: equal, broadcast both ways, scalars, empty."""
    yield sample(normal(rng, 3, 4), normal(rng, 3, 4))
    yield sample(normal(rng, 2, 1, 4), normal(rng, 3, 1))
    yield sample(normal(rng, 4), normal(rng, 2, 3, 4))
    yield sample(normal(rng), normal(rng, 3))
    yield sample(normal(rng, 0, 3), normal(rng, 1, 3))


class _Binary(Op):
    """Base in integers: with a single number it is a table; subclasses with a `lowered` take two operands."""

    int8 = "lower"

    @classmethod
    def lower(cls, operands, target, attrs):
        x, number = operands if operands[0].codec is not None else operands[::-1]
        if x.codec is None or number.value is None or number.value.size != 1 or x.shape != target.shape:
            return cls.lowered(operands, target)
        c = number.value.reshape(())
        table = tabulate(x.codec, target.codec, lambda v: apply(cls, *((v, c) if x is operands[0] else (c, v))).data,
                         target.lo, target.hi)
        return IntegerStep("table", {"op": cls.name}, {"table": table})

    @classmethod
    def lowered(cls, operands, target):
        """The step for two operands of any shape; a float island where there is none."""
        return None


def _step(kind, operands, target, signs=None):
    """A step of two activations, or of one and a constant that gets codes of its own: [activation, constant].

    None for a sum in which an operand drowns, as scores do beside the -1e9 of a mask: in float it survives.
    """
    codecs, arrays = [o.codec for o in operands], {}
    for i, o in enumerate(operands):
        if o.value is not None:
            found = constant_codes(o.value)
            if found is None:
                return None
            arrays["constant"], codecs[i] = found
    attrs = {"scales": [float(c.scale) for c in codecs], "zero_points": [c.zero_point for c in codecs]}
    if signs is not None:
        if any(drowns(c, target.codec) for c in codecs):
            return None
        attrs["signs"] = signs
    if operands[0].value is not None:
        attrs = {k: v[::-1] for k, v in attrs.items()}
    return IntegerStep(kind, {**attrs, "scale_out": float(target.codec.scale), "zero_point": target.codec.zero_point,
                              "lo": target.lo, "hi": target.hi}, arrays)


class Add(_Binary):
    """y = a + b."""

    name = "add"

    @staticmethod
    def forward(ctx, a, b):
        return broadcasting("add", np.add, a, b)

    @staticmethod
    def backward(ctx, grad):
        return grad, grad

    @classmethod
    def lowered(cls, operands, target):
        return _step("add", operands, target, signs=[1, 1])

    samples = staticmethod(_pairs)

    @staticmethod
    def parity(torch, a, b):
        return a + b


class Sub(_Binary):
    """y = a - b."""

    name = "sub"

    @staticmethod
    def forward(ctx, a, b):
        return broadcasting("sub", np.subtract, a, b)

    @staticmethod
    def backward(ctx, grad):
        return grad, elementwise(np.negative, grad) if ctx.needs[1] else None

    @classmethod
    def lowered(cls, operands, target):
        return _step("add", operands, target, signs=[1, -1])

    samples = staticmethod(_pairs)

    @staticmethod
    def parity(torch, a, b):
        return a - b


class Mul(_Binary):
    """y = a * b."""

    name = "mul"

    @staticmethod
    def forward(ctx, a, b):
        ctx.a, ctx.b = a, b
        return broadcasting("mul", np.multiply, a, b)

    @staticmethod
    def backward(ctx, grad):
        return (elementwise(np.multiply, grad, ctx.b) if ctx.needs[0] else None,
                elementwise(np.multiply, grad, ctx.a) if ctx.needs[1] else None)

    @classmethod
    def lowered(cls, operands, target):
        return _step("mul", operands, target)

    samples = staticmethod(_pairs)

    @staticmethod
    def parity(torch, a, b):
        return a * b


class Div(_Binary):
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
            return (elementwise(np.divide, grad, ctx.b) if ctx.needs[0] else None,
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
        return elementwise(np.negative, x)

    @staticmethod
    def backward(ctx, grad):
        return (elementwise(np.negative, grad),)

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
            return elementwise(np.multiply, x, x)
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


class Power(Op):
    """y = a ** b, both of them Tensors. Where the result does not depend on a small change (0 ** b to b, a ** 0 to a) the
    gradient is 0, as in PyTorch."""

    name = "power"

    @staticmethod
    def forward(ctx, a, b):
        ctx.a, ctx.b = a, b
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            ctx.y = broadcasting("power", np.power, a, b)
        return ctx.y

    @staticmethod
    def backward(ctx, grad):
        a, b, da, db = ctx.a, ctx.b, None, None
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            if ctx.needs[0]:
                da = np.where(b == 0, 0, grad * b * np.power(a, b - 1))
            if ctx.needs[1]:
                db = np.where((a == 0) & (b >= 0), 0, grad * ctx.y * np.log(a))
        return da, db

    @staticmethod
    def samples(rng):
        for s in _pairs(rng):
            yield sample(np.asarray(np.abs(s.inputs[0]) + 0.3), s.inputs[1])

    @staticmethod
    def parity(torch, a, b):
        return a ** b


class _Pick(_Binary):
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
