"""What an op is: one class that holds all that the rest of tinyml needs to know of it.

Defining the class registers it. Gradient checks, comparisons with PyTorch, dtypes, empty and non-contiguous inputs then run
over its samples, and plans, repairs, profiles and reports ask the class for its rules: no other file has its name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import prod
from typing import Any, ClassVar, TypeAlias

import numpy as np

from .._kernels.products.windows import Window
from .._kernels.rows.elementwise import elementwise
from ..apply import OPS, apply
from ..errors import DtypeError, ShapeError
from ..options import Options
from ..tape import Context
from ..tensors import Tensor

RULES = (None, "codes", "table", "lower")       # what `Op.int8` may be

Gradients: TypeAlias = tuple[np.ndarray | None, ...]    # one for each operand; None where there is none
Shape: TypeAlias = tuple[Any, ...]      # of a traced value: numbers, and Batch for those that follow the batch


@dataclass(frozen=True)
class Batch:
    """A multiple of the batch size: a symbolic number in the shapes and attributes of a traced op.

    Args:
        factor: how many times the batch size.

    Example:
        >>> tinyml.graph.resolve((tinyml.graph.Batch(2), 10), batch=4)
        (8, 10)
    """

    factor: int = 1


@dataclass
class Sample:
    """Operands and attributes to try an op on.

    Attributes:
        inputs: arrays, of which float64 ones are differentiated, or None for an operand that is absent.
        attrs: keyword arguments of forward.
    """

    inputs: tuple[Any, ...]
    attrs: dict[str, Any] = field(default_factory=dict)


def sample(*inputs: Any, **attrs: Any) -> Sample:
    """Make a Sample of these operands and attributes."""
    return Sample(inputs, attrs)


@dataclass(frozen=True)
class Codec:
    """What the int8 codes of an activation stand for: real = scale * (code - zero_point); equation (1)."""

    scale: np.float32
    zero_point: int

    def code(self, value: float) -> int:
        """The code of a real value, clamped to int8; equation (7)."""
        return int(np.clip(np.rint(np.float32(value) / self.scale) + self.zero_point, -128, 127))


@dataclass
class Operand:
    """An operand of a traced op: an activation has a codec, a constant has a value, integer ids have neither."""

    shape: Shape
    codec: Codec | None = None
    value: np.ndarray | None = None


@dataclass
class Target:
    """What an op is lowered to: its output's shape and codec, the codes [lo, hi] that a fused activation clamps it to, and
    the options; `weight_scale` has the weight's scales where training or a repair chose them."""

    shape: Shape
    codec: Codec
    options: Options
    lo: int = -128
    hi: int = 127
    weight_scale: np.ndarray | None = None


@dataclass
class IntegerStep:
    """One integer step of a plan: its kind (that of a class of steps), its plain attributes and its arrays."""

    kind: str
    attrs: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)


class Op:
    """Base of all ops. A subclass with a `name` is registered under it, wherever it is defined.

    A subclass has a `forward` and a `backward` of ndarrays, and `samples` to test them on. All else has a default that is
    safe for any op: it runs in float32, on the whole batch at once, in memory of its own, and nothing is fused into it.
    What is true of the op beyond that, its attributes and methods say.

    Attributes, of operands:
        any_dtype: it takes any dtype and keeps it, as ops do that move elements.
        promotes: "numbers": it takes any dtypes, and computes in the common one of its operands. "floats": the same, and
            integers become float32. None: it takes floats only, or any dtype.
        bools: False where it refuses bools alone, as PyTorch's subtraction does; for those that promote.
        views: its result may share the memory of its first operand, so that a change in place of one shows in the other.
        integer_operands: positions of the operands that are integers (ids, targets, masks).
        optional: positions of the operands that may be None, which is an absent operand.
        one_precision: it refuses float64 beside another float dtype.
        stored: positions of the operands that may be weights stored as float16. They do not make the result float16.
        reads_half: those of `stored` that forward takes as float16, without a float32 copy.
        has_weights: it is a product with weights, as linear and conv2d: its operands are x, weight (N, ...) and bias (N)
            or None, and its result is linear in each. Repairs fit such weights.
        has_gain: its operands after the first are a gain and, possibly, a shift (C) of the last dimension of the result,
            as in layer_norm. Dividing them by numbers (C) divides the result.
    Attributes, of int8 and plans:
        int8: how the op runs in integer plans. "codes": it moves or picks elements, so it runs on int8 codes as they are.
            "table": it is a function of one number, so a table of its results for all 256 codes takes its place. "lower":
            its `lower` makes an integer step. None: it stays in float32, and its plan names it as an island.
        takes_clamp: a ReLU or clip that alone reads its result becomes part of it. Its `lower` keeps to target.lo and hi;
            for "table" nothing more is needed.
        keeps_scaling: f(s x) = s f(x) for any s > 0 per channel, each channel of the result being made of the same channel
            of x, its only operand. Cross-layer equalization passes through it.
        batch_norm: it is a batch norm by moments that it is given: its operands are x, gamma, beta, mean and variance, and
            it has an attribute eps. A layer before it whose op says so in `takes_norm` takes it in.
        own_codes: its `lower` chooses the codes of its constants, as of weights, or stores them in the codes of its result.
            Constants of other ops have codes of their own range.
    Attributes, of tests and reports:
        differentiable: False where no gradient flows through it (comparisons, indices): it has no backward.
        surrogate: its backward is on purpose not the derivative, so gradient checks leave it out.
        multiplies: a report counts its time as that of multiplying.
        passes_on: it computes nothing: a report names it only in layers that do nothing else.
    """

    name: ClassVar[str] = ""
    any_dtype: ClassVar[bool] = False
    promotes: ClassVar[str | None] = None
    bools: ClassVar[bool] = True
    views: ClassVar[bool] = False
    integer_operands: ClassVar[tuple[int, ...]] = ()
    optional: ClassVar[tuple[int, ...]] = ()
    one_precision: ClassVar[bool] = False
    stored: ClassVar[tuple[int, ...]] = ()
    reads_half: ClassVar[tuple[int, ...]] = ()
    has_weights: ClassVar[bool] = False
    has_gain: ClassVar[bool] = False
    int8: ClassVar[str | None] = None
    takes_clamp: ClassVar[bool] = False
    keeps_scaling: ClassVar[bool] = False
    batch_norm: ClassVar[bool] = False
    own_codes: ClassVar[bool] = False
    differentiable: ClassVar[bool] = True
    surrogate: ClassVar[bool] = False
    multiplies: ClassVar[bool] = False
    passes_on: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "name" not in cls.__dict__:
            return
        needed = ["forward"] + ["backward"] * cls.differentiable + ["lower"] * (cls.int8 == "lower")
        defined = {part for base in cls.__mro__[: cls.__mro__.index(Op)] for part in vars(base)}
        missing = [part for part in needed if part not in defined]
        wrong = ""
        if missing or cls.int8 not in RULES:
            wrong = f"it defines no {' and no '.join(missing)}" if missing else f"int8 = {cls.int8!r} is no rule"
        elif cls.takes_clamp and cls.int8 == "codes":
            wrong = "takes_clamp does not go with int8 = 'codes': codes that pass through cannot be clamped"
        if wrong:
            raise TypeError(f"op {cls.name!r} ({cls.__qualname__}): {wrong}; see tinyml.ops.Op")
        known = OPS.setdefault(cls.name, cls)
        if (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise TypeError(f"op {cls.name!r}: {known.__module__}.{known.__qualname__} has this name already; choose "
                            "another")
        OPS[cls.name] = cls      # defined again, as when a notebook's cell runs twice

    # Below operands are Any: an op names its own, some of which may be None, and how many there are.
    # -- what it computes ---------------------------------------------------------------------------------------------
    @staticmethod
    def forward(ctx: Context, *arrays: Any, **attrs: Any) -> np.ndarray:
        """The result of the op. What backward needs is left on `ctx`."""
        raise NotImplementedError

    @staticmethod
    def backward(ctx: Context, grad: np.ndarray) -> Gradients:
        """The gradient to each operand, None where there is none; the engine undoes broadcasting."""
        return (None,) * len(ctx.needs)

    @staticmethod
    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        """Operands and attributes that tests and gradient checks run the op on; none by default."""
        return iter(())

    @classmethod
    def parity(cls, torch: Any, *operands: Any, **attrs: Any) -> Any:
        """The same op in PyTorch; by default the function of its name in torch.nn.functional or torch."""
        function = getattr(torch.nn.functional, cls.name, None) or getattr(torch, cls.name)
        return function(*operands, **attrs)

    # -- how it runs in int8 ------------------------------------------------------------------------------------------
    @classmethod
    def codes(cls, u: np.ndarray, **attrs: Any) -> np.ndarray:
        """The op on codes, for the rule "codes"; by default its forward."""
        return cls.forward(Context((False,)), u, **attrs)

    @classmethod
    def lower(cls, operands: list[Any], target: Target, attrs: dict[str, Any]) -> IntegerStep | None:
        """The op as an integer step, for the rule "lower"; None where there is none for these operands.

        Args:
            operands: an Operand each, None for one that is absent.
            target: what the result is.
            attrs: those of forward.
        """
        raise NotImplementedError

    @classmethod
    def run_int8(cls, *operands: Any, **attrs: Any) -> Tensor:
        """The op on int8 Tensors outside plans; by default only the rule "codes" runs, and what has no gradient reads the
        numbers that the codes stand for.

        Raises:
            DtypeError: the op is not defined on these; the message names dequantize().
        """
        if not cls.differentiable:
            found: Tensor = apply(cls, *(t if t is None else t.dequantize() for t in operands), **attrs)
            return found
        x: Tensor = operands[0]
        if cls.int8 != "codes" or x.quantized is None:
            raise DtypeError(f"{cls.name}: not defined on int8; call dequantize() first, or quantize the model, which "
                             "lowers whole graphs to integers")
        if x.axis is not None:
            raise DtypeError(f"{cls.name}: int8 with a scale per index of axis {x.axis} cannot pass through; "
                             "call dequantize() first")
        return Tensor(cls.codes(x.array, **attrs), scale=x.quantized.scale, zero_point=x.quantized.zero_point)

    # -- how it runs in plans -----------------------------------------------------------------------------------------
    @classmethod
    def takes_norm(cls, ndim: int) -> bool:
        """Whether a batch norm of its result, of ndim dimensions, can be multiplied into its weights."""
        return False

    @classmethod
    def as_product(cls, ndim: int, parameters: list[np.ndarray | None],
                   attrs: dict[str, Any]) -> tuple[np.ndarray, np.ndarray | None, Window] | None:
        """The op as a linear layer or convolution of an x of ndim dimensions: weight, bias and window; None if it is none.

        Args:
            ndim: the number of dimensions of the first operand.
            parameters: the other operands, constants, None for an absent one.
            attrs: those of forward.
        """
        return None

    @staticmethod
    def clamp(**attrs: Any) -> tuple[float, float] | None:
        """(lo, hi) where the op is nothing but a clamp of its operand, which the op before it may take; else None."""
        return None

    @classmethod
    def by_sample(cls, ndims: list[int], constants: list[np.ndarray], **attrs: Any) -> int | None:
        """How many dimensions the result has, if each sample of it is made of the same sample of the operands alone, so
        that a batch may run in pieces; None if that is not so, or not known.

        Args:
            ndims: the number of dimensions of each operand that has the batch as its first.
            constants: the other operands.
            attrs: those of forward; Batch stands for the batch size.
        """
        return ndims[0] if cls.int8 == "table" else None

    @staticmethod
    def bind(out: np.ndarray, *arrays: Any, **attrs: Any) -> Callable[[], object] | None:
        """A function that writes the result to `out` each time it is called, to the bit what forward gives, without
        allocating; None where there is none, and the result is copied to `out`.

        Args:
            out, arrays: the memory of the result and of the operands, float32, or unsigned codes for the rule "codes".
                Arrays of four dimensions (B, C, H, W) are channels-last in memory, others row-major.
        """
        return None

    # -- what it costs ------------------------------------------------------------------------------------------------
    @staticmethod
    def flops(y: np.ndarray, *arrays: Any, **attrs: Any) -> float | None:
        """Operations of a forward that made y, two per multiply-add; None: `profile` does not count them."""
        return None

    @staticmethod
    def backward_flops(needs: list[bool]) -> float:
        """Operations of a backward as a multiple of those of the forward; `needs` tells which operands want a gradient."""
        return float(sum(needs))

    @staticmethod
    def elements(*shapes: Any, **attrs: Any) -> int:
        """At least as many elements as the result of operands of these shapes has.

        A loader asks before it runs a file's plan, in which a few numbers may ask for very much memory. By default it is
        the number that the operands have once they are broadcast or one after the other, whichever is more.
        """
        try:
            stretched = prod(np.broadcast_shapes(*shapes))
        except ValueError:
            stretched = 0
        return max(stretched, sum(map(prod, shapes)))


def broadcast(name: str, function: Any, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Compute function(a, b) with broadcasting.

    Raises:
        ShapeError: the shapes do not broadcast; it names the op and both.
    """
    try:
        return elementwise(function, a, b)
    except ValueError:
        raise misfit(name, a, b) from None


def misfit(name: str, a: np.ndarray, b: np.ndarray) -> ShapeError:
    """The error of two operands that do not broadcast."""
    return ShapeError(f"{name}: shapes {a.shape} and {b.shape} do not broadcast")


def in_memory(x: np.ndarray) -> np.ndarray:
    """`x` with its dimensions in the order in which plans hold them in memory: channels-last where there are four."""
    return x.transpose(0, 2, 3, 1) if x.ndim == 4 else x


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Draw standard normal float64 values for samples."""
    return rng.standard_normal(shape)
