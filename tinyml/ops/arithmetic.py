"""Elementwise arithmetic with broadcasting."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, ClassVar

import numpy as np

from .._kernels.rows.elementwise import choose, elementwise
from ..errors import ShapeError
from ..tape import Context
from ..tensors import apply
from .codes import encode_constant, is_below_one_code, tabulate
from .op import Codec, Gradients, IntegerStep, Op, Operand, Sample, Target, broadcast, in_memory, normal, sample


def _pairs(rng: np.random.Generator) -> Iterator[Sample]:
    """Operand pairs that every binary op is tried on: equal, broadcast both ways, scalars, empty."""
    yield sample(normal(rng, 3, 4), normal(rng, 3, 4))
    yield sample(normal(rng, 2, 1, 4), normal(rng, 3, 1))
    yield sample(normal(rng, 4), normal(rng, 2, 3, 4))
    yield sample(normal(rng), normal(rng, 3))
    yield sample(normal(rng, 0, 3), normal(rng, 1, 3))


def count_dims_by_sample(ndims: list[int], constants: list[np.ndarray]) -> int | None:
    """What `Op.by_sample` says of operands that broadcast: samples stay apart where all have the batch as their first
    dimension, and no constant differs along it."""
    rows = [c.ndim < ndims[0] or (c.ndim == ndims[0] and len(c) == 1) for c in constants]
    return ndims[0] if len(set(ndims)) == 1 and all(rows) else None


class Binary(Op):
    """Base of ops of two operands that broadcast.

    In integers, an op of an activation and a single number is a table.

    Attributes:
        ufunc: NumPy's function that computes the op, where it writes what forward gives; None: nothing does.
        step: the kind of integer step for two operands of any shapes; None: there is none, and the op stays in float32.
        signs: of the operands of a sum; None for a product.
    """

    int8: ClassVar[str | None] = "lower"
    promotes = "numbers"
    ufunc: ClassVar[np.ufunc | None] = None
    step: ClassVar[str | None] = None
    signs: ClassVar[list[int] | None] = None
    samples = staticmethod(_pairs)

    @classmethod
    def lower(cls, operands: list[Operand], target: Target, attrs: dict[str, Any]) -> IntegerStep | None:
        x, number = operands if operands[0].codec is not None else operands[::-1]
        if x.codec is None or number.value is None or number.value.size != 1 or x.shape != target.shape:
            return None if cls.step is None else _lower_to(cls.step, operands, target, cls.signs)
        c = number.value.reshape(())
        table = tabulate(x.codec, target.codec, lambda v: apply(cls, *((v, c) if x is operands[0] else (c, v))).array,
                         target.lo, target.hi)
        return IntegerStep("table", {"op": cls.name}, {"table": table})

    @classmethod
    def by_sample(cls, ndims: list[int], constants: list[np.ndarray], **attrs: Any) -> int | None:
        return count_dims_by_sample(ndims, constants)

    @classmethod
    def bind(cls, out: np.ndarray, a: np.ndarray, b: np.ndarray) -> Callable[[], object] | None:
        if cls.ufunc is None:
            return None
        if a.shape == b.shape:
            a, b, out = map(in_memory, (a, b, out))     # contiguous, for which NumPy takes half of the time
        return partial(cls.ufunc, a, b, out=out)


def _lower_to(kind: str, operands: list[Operand], target: Target,
              signs: list[int] | None) -> IntegerStep | None:
    """A step of two activations, or of one and a constant that gets codes of its own.

    None where the constant is not finite. None for a sum, too, in which an operand is below one code of the result, as
    scores are beside the -1e9 of a mask: the integers would lose it, and floats keep it.
    """
    codecs: list[Codec] = []
    arrays = {}
    for o in operands:
        codec = o.codec
        if o.value is not None:
            encoded = encode_constant(o.value)
            if encoded is None:
                return None
            arrays["constant"], codec = encoded
        if codec is None:       # integers, which have no codes
            return None
        codecs.append(codec)
    attrs: dict[str, list[Any]] = {"scales": [float(c.scale) for c in codecs],
                                   "zero_points": [c.zero_point for c in codecs]}
    if signs is not None:
        if any(is_below_one_code(c, target.codec) for c in codecs):
            return None
        attrs["signs"] = signs
    if operands[0].value is not None:       # a step has the activation first
        attrs = {k: v[::-1] for k, v in attrs.items()}
    return IntegerStep(kind, {**attrs, "scale_out": float(target.codec.scale), "zero_point": target.codec.zero_point,
                              "lo": target.lo, "hi": target.hi}, arrays)


class Add(Binary):
    """Sum: y = a + b; operands a, b of any shapes that broadcast."""

    name = "add"
    takes_clamp = True
    ufunc, step, signs = np.add, "add", [1, 1]

    @staticmethod
    def forward(ctx: Context, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return broadcast("add", np.add, a, b)

    @staticmethod
    def backward(ctx: Context, grad: np.ndarray) -> Gradients:
        return grad, grad


class Sub(Binary):
    """Difference: y = a - b; operands a, b of any shapes that broadcast."""

    name = "sub"
    bools = False
    takes_clamp = True
    ufunc, step, signs = np.subtract, "add", [1, -1]

    @staticmethod
    def forward(ctx: Context, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return broadcast("sub", np.subtract, a, b)

    @staticmethod
    def backward(ctx: Context, grad: np.ndarray) -> Gradients:
        return grad, elementwise(np.negative, grad) if ctx.needs[1] else None


class Mul(Binary):
    """Elementwise product: y = a * b; operands a, b of any shapes that broadcast."""

    name = "mul"
    takes_clamp = True
    ufunc, step = np.multiply, "mul"

    @staticmethod
    def forward(ctx: Context, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        ctx.a, ctx.b = a if ctx.needs[1] else None, b if ctx.needs[0] else None
        return broadcast("mul", np.multiply, a, b)

    @staticmethod
    def backward(ctx: Context, grad: np.ndarray) -> Gradients:
        return (elementwise(np.multiply, grad, ctx.b) if ctx.needs[0] else None,
                elementwise(np.multiply, grad, ctx.a) if ctx.needs[1] else None)


class Div(Binary):
    """Quotient: y = a / b; operands a, b of any shapes that broadcast. Dividing by zero gives infinities (IEEE 754)."""

    name = "div"
    promotes = "floats"

    @staticmethod
    def forward(ctx: Context, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        ctx.a, ctx.b = a, b
        with np.errstate(divide="ignore", invalid="ignore"):
            return broadcast("div", np.divide, a, b)

    @staticmethod
    def backward(ctx: Context, grad: np.ndarray) -> Gradients:
        with np.errstate(divide="ignore", invalid="ignore"):
            return (elementwise(np.divide, grad, ctx.b) if ctx.needs[0] else None,
                    -grad * ctx.a / (ctx.b * ctx.b) if ctx.needs[1] else None)

    @staticmethod
    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        for s in _pairs(rng):
            yield sample(s.inputs[0], np.abs(s.inputs[1]) + 0.5)


class Neg(Op):
    """Negation: y = -x; x of any shape."""

    name = "neg"
    bools = False
    promotes = "numbers"
    int8 = "table"

    @staticmethod
    def forward(ctx: Context, x: np.ndarray) -> np.ndarray:
        return elementwise(np.negative, x)

    @staticmethod
    def backward(ctx: Context, grad: np.ndarray) -> Gradients:
        return (elementwise(np.negative, grad),)

    @staticmethod
    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        yield sample(normal(rng, 2, 3))


def _cube(x: np.ndarray, out: np.ndarray | None = None) -> Any:
    return np.multiply(x * x, x, out=out)


# which np.power takes many times as long for
_POWERS: dict[float, Callable[..., Any]] = {1: np.positive, 2: np.square, 3: _cube, 0.5: np.sqrt, -1: np.reciprocal}


def _power(x: np.ndarray, exponent: float) -> np.ndarray:
    function = _POWERS.get(exponent)
    with np.errstate(all="ignore"):
        return np.power(x, x.dtype.type(exponent)) if function is None else elementwise(function, x)


class Pow(Op):
    """Power: y = x ** exponent; x of any shape, `exponent` a number."""

    name = "pow"
    int8 = "table"

    @staticmethod
    def forward(ctx: Context, x: np.ndarray, *, exponent: float) -> np.ndarray:
        ctx.x, ctx.exponent = x, exponent
        return _power(x, exponent)

    @staticmethod
    def backward(ctx: Context, grad: np.ndarray) -> Gradients:
        if ctx.exponent == 0:
            return (np.zeros_like(grad),)
        with np.errstate(all="ignore"):
            return (elementwise(np.multiply, grad, _power(ctx.x, ctx.exponent - 1) * ctx.x.dtype.type(ctx.exponent)),)

    @staticmethod
    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        for exponent in (2.0, 3.0, 0.5, -1.5, 1.0, 0.0):
            yield sample(np.abs(normal(rng, 2, 3)) + 0.3, exponent=exponent)
        yield sample(normal(rng, 2, 3), exponent=3.0)


def _integer_power(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a ** b of integers, cut toward zero where b is negative: 0, but for a = 1 and a = -1."""
    found: np.ndarray = np.power(a, np.maximum(b, 0))
    return np.where(b < 0, np.where(a == 1, 1, np.where(a == -1, 1 - 2 * (b % 2), 0)), found).astype(found.dtype)


class Power(Op):
    """Power of two operands: y = a ** b; a, b of any shapes that broadcast.

    Where the result does not depend on a small change (0 ** b on b, a ** 0 on a) the gradient is 0, as in PyTorch.
    """

    name = "power"
    bools = False
    promotes = "numbers"

    @staticmethod
    def forward(ctx: Context, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        ctx.a, ctx.b = a, b
        if a.dtype.kind == "i":
            return broadcast("power", _integer_power, a, b)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            ctx.y = y = broadcast("power", np.power, a, b)
        return y

    @staticmethod
    def backward(ctx: Context, grad: np.ndarray) -> Gradients:
        a, b, da, db = ctx.a, ctx.b, None, None
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            if ctx.needs[0]:
                da = np.where(b == 0, 0, grad * b * np.power(a, b - 1))
            if ctx.needs[1]:
                db = np.where((a == 0) & (b >= 0), 0, grad * ctx.y * np.log(a))
        return da, db

    @staticmethod
    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        for s in _pairs(rng):
            yield sample(np.asarray(np.abs(s.inputs[0]) + 0.3), s.inputs[1])

    @staticmethod
    def parity(torch: Any, a: Any, b: Any) -> Any:
        return a ** b


class _Pick(Binary):
    """Base of maximum and minimum: the gradient goes to the operand that was picked, half to each where they are equal.

    Attributes:
        rejects: NumPy's comparison of an operand with the other, which holds where it is not picked.
    """

    rejects: ClassVar[np.ufunc]

    @classmethod
    def forward(cls, ctx: Context, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        ctx.a, ctx.b = a, b
        return broadcast(cls.name, cls.ufunc, a, b)

    @classmethod
    def backward(cls, ctx: Context, grad: np.ndarray) -> Gradients:
        a, b = ctx.a, ctx.b
        equal = a == b
        half = grad * equal * grad.dtype.type(0.5) if equal.any() else None
        found = [elementwise(np.multiply, grad, ~cls.rejects(x, y)) if need else None
                 for (x, y), need in zip(((a, b), (b, a)), ctx.needs)]
        return tuple(g if g is None or half is None else g - half for g in found)


class _Slopes(Binary):
    """Base of functions of two numbers that NumPy computes; in integers they stay float.

    Attributes:
        function: what forward computes.
        slopes: the derivatives by a and by b, of a, b and the result.
    """

    int8: ClassVar[str | None] = None
    promotes = "floats"
    function: ClassVar[Any]
    slopes: ClassVar[tuple[Callable[..., Any], Callable[..., Any]]]

    @classmethod
    def forward(cls, ctx: Context, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            y = np.asarray(broadcast(cls.name, cls.function, a, b))
        ctx.kept = a, b, y
        return y

    bind = staticmethod(Op.bind)

    @classmethod
    def backward(cls, ctx: Context, grad: np.ndarray) -> Gradients:
        with np.errstate(all="ignore"):
            return tuple(grad * np.asarray(slope(*ctx.kept), grad.dtype) if need else None
                         for slope, need in zip(cls.slopes, ctx.needs))


def _square_sum(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a^2 + b^2, and 1 for that of zeros, whose gradient is 0 then."""
    found: np.ndarray = a * a + b * b
    return np.where(found == 0, found.dtype.type(1), found)


class Atan2(_Slopes):
    """The angle of the point (b, a) from the first axis, in radians: y = atan(a / b), in the quadrant of the point."""

    name, function = "atan2", np.arctan2
    slopes = (lambda a, b, y: b / _square_sum(a, b), lambda a, b, y: -a / _square_sum(a, b))


class Hypot(_Slopes):
    """y = sqrt(a^2 + b^2), without overflow."""

    name, function = "hypot", np.hypot
    slopes = (lambda a, b, y: a / y, lambda a, b, y: b / y)

    @classmethod
    def parity(cls, torch: Any, a: Any, b: Any) -> Any:
        return torch.hypot(a, b)


class LogAddExp(_Slopes):
    """y = ln(e^a + e^b), without overflow."""

    name, function = "logaddexp", np.logaddexp
    slopes = (lambda a, b, y: 1 / (1 + np.exp(b - a)), lambda a, b, y: 1 / (1 + np.exp(a - b)))


def _xlogy(a: np.ndarray, b: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    y = np.where((a == 0) & ~np.isnan(b), 0, a * np.log(b)).astype(a.dtype)
    if out is None:
        return y
    out[...] = y
    return out


class XLogY(_Slopes):
    """y = a ln b, which is 0 where a is 0."""

    name, function = "xlogy", staticmethod(_xlogy)
    slopes = (lambda a, b, y: np.where((a == 0) & (b <= 0), 0, np.log(b)), lambda a, b, y: np.where(a == 0, 0, a / b))

    @staticmethod
    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        for s in _pairs(rng):
            yield sample(s.inputs[0], np.asarray(np.abs(s.inputs[1]) + 0.3))


class Remainder(_Slopes):
    """What is left of a divided by b, with the sign of b: y = a - b floor(a / b)."""

    name, promotes = "remainder", "numbers"
    function: ClassVar[Any] = np.remainder
    slopes = (lambda a, b, y: np.ones_like(a), lambda a, b, y: -np.floor(a / b))

    @classmethod
    def forward(cls, ctx: Context, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        if a.dtype.kind != "f" and not b.all():
            raise ShapeError(f"{cls.name}: whole numbers cannot be divided by 0; convert with float() for infinities")
        return super().forward(ctx, a, b)

    @staticmethod
    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        for s in _pairs(rng):
            yield sample(s.inputs[0], np.asarray(np.abs(s.inputs[1]) + 0.7))


class Fmod(Remainder):
    """What is left of a divided by b, with the sign of a: y = a - b trunc(a / b)."""

    name, function = "fmod", np.fmod
    slopes = (lambda a, b, y: np.ones_like(a), lambda a, b, y: -np.trunc(a / b))


class FloorDivide(Remainder):
    """The whole part of a / b, rounded down; its gradient is 0."""

    name, function = "floor_divide", np.floor_divide
    slopes = (lambda a, b, y: np.zeros_like(a), lambda a, b, y: np.zeros_like(b))

    @classmethod
    def parity(cls, torch: Any, a: Any, b: Any) -> Any:
        return torch.div(a, b, rounding_mode="floor")


class Maximum(_Pick):
    """Larger of two: y = max(a, b) elementwise; operands a, b of any shapes that broadcast."""

    name, ufunc, rejects = "maximum", np.maximum, np.less


class Minimum(_Pick):
    """Smaller of two: y = min(a, b) elementwise; operands a, b of any shapes that broadcast."""

    name, ufunc, rejects = "minimum", np.minimum, np.greater


class Where(Op):
    """Choice: y = a where the condition holds, else b; operands condition (a mask), a, b of any shapes that broadcast."""

    name = "where"
    promotes = "numbers"
    integer_operands = (0,)

    @staticmethod
    def forward(ctx: Context, condition: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        ctx.condition = condition = condition.astype(bool, copy=False)
        try:
            return choose(condition, a, b)
        except ValueError:
            raise ShapeError(f"where: shapes {condition.shape}, {a.shape} and {b.shape} do not broadcast") from None

    @staticmethod
    def backward(ctx: Context, grad: np.ndarray) -> Gradients:
        zero = np.zeros((), grad.dtype)
        return (None, choose(ctx.condition, grad, zero) if ctx.needs[1] else None,
                choose(ctx.condition, zero, grad) if ctx.needs[2] else None)

    @staticmethod
    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        yield sample(rng.random((3, 4)) > 0.5, normal(rng, 3, 4), normal(rng, 4))
        yield sample(rng.random((3, 1)) > 0.5, normal(rng), normal(rng, 2, 3, 4))
