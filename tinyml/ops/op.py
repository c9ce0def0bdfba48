"""What an op is: one class with its forward, its backward, its rule in integers and the samples that test it.

Defining the class registers it: gradient checks, PyTorch parity, dtypes, empty and non-contiguous inputs then run over it
with no further line.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from .. import tensor
from .._kernels.rows.elementwise import elementwise
from ..errors import DtypeError, ShapeError
from ..options import Options
from ..tape import Context
from ..tensor import Tensor


@dataclass
class Sample:
    """Operands and attributes to try an op on. Float operands are differentiated; None is an absent operand."""

    inputs: tuple
    attrs: dict = field(default_factory=dict)


def sample(*inputs: Any, **attrs: Any) -> Sample:
    """Shorthand for Sample((...), {...})."""
    return Sample(inputs, attrs)


@dataclass(frozen=True)
class Codec:
    """What per-tensor int8 codes of an activation stand for: scale * (code - zero_point)."""

    scale: np.float32
    zero_point: int

    def code(self, value: float) -> int:
        """The code of a real value, clamped to int8; equation (7)."""
        return int(np.clip(np.rint(np.float32(value) / self.scale) + self.zero_point, -128, 127))


@dataclass
class Operand:
    """An operand of a traced op: an activation (shape and codec), a constant (value), or integer ids (neither)."""

    shape: tuple
    codec: Codec | None = None
    value: np.ndarray | None = None


@dataclass
class Target:
    """What an op is lowered to: its output's shape and codec, the codes [lo, hi] that a fused activation clamps it to, and
    the options; `weight_scale` has the weight's scales where training or a repair chose them."""

    shape: tuple
    codec: Codec
    options: Options
    lo: int = -128
    hi: int = 127
    weight_scale: np.ndarray | None = None


@dataclass
class IntegerStep:
    """One integer step of a plan: its kind (that of a class of steps), its plain attributes and its arrays."""

    kind: str
    attrs: dict = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)


class Op:
    """Base of all ops. Forward and backward see ndarrays; a subclass with a `name` is registered under it.

    Class attributes:
        any_dtype: takes any dtype and keeps it (shape ops).
        integer_operands: positions of operands that are integers (ids, targets, masks).
        optional: positions of operands that may be None, which is an absent one.
        one_precision: refuses float64 beside another float dtype.
        surrogate: its backward is no derivative, on purpose; gradient checks leave it out.
        stored: positions of operands that may be weights stored as float16: they do not make the result float16.
        reads_half: those of them that forward takes as float16, without a float32 copy.
        int8: the rule in integer plans: "codes" (works on codes as they are: shape ops, max-pool), "table" (pointwise: a
            256-entry table derived from forward), "lower" (has a `lower`), or None (a float island).
    """

    name: ClassVar[str] = ""
    any_dtype: ClassVar[bool] = False
    integer_operands: ClassVar[tuple[int, ...]] = ()
    optional: ClassVar[tuple[int, ...]] = ()
    one_precision: ClassVar[bool] = False
    surrogate: ClassVar[bool] = False
    stored: ClassVar[tuple[int, ...]] = ()
    reads_half: ClassVar[tuple[int, ...]] = ()
    int8: ClassVar[str | None] = None

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "name" not in cls.__dict__:
            return
        needed = ("forward", "backward", "lower") if cls.int8 == "lower" else ("forward", "backward")
        defined = {part for base in cls.__mro__[: cls.__mro__.index(Op)] for part in vars(base)}
        missing = [part for part in needed if part not in defined]
        if missing or cls.int8 not in (None, "codes", "table", "lower"):
            what = f"it defines no {' and no '.join(missing)}" if missing else f"int8 = {cls.int8!r} is no rule"
            raise TypeError(f"op {cls.name!r} ({cls.__qualname__}): {what}; see tinyml.ops.Op")
        known = tensor.OPS.setdefault(cls.name, cls)
        if (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise TypeError(f"op {cls.name!r}: {known.__module__}.{known.__qualname__} has this name already; choose "
                            "another")
        tensor.OPS[cls.name] = cls      # defined again, as when a notebook's cell runs twice

    @staticmethod
    def forward(ctx: Context, *arrays: np.ndarray, **attrs: Any) -> np.ndarray:
        """Result of the op; what backward needs is left on `ctx`."""
        raise NotImplementedError

    @staticmethod
    def backward(ctx: Context, grad: np.ndarray) -> tuple:
        """Gradient to each operand (None where there is none); the engine undoes broadcasting."""
        raise NotImplementedError

    @staticmethod
    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        """Inputs that tests and gradient checks run the op on; none by default."""
        return iter(())

    @staticmethod
    def parity(torch: Any, *operands: Any, **attrs: Any) -> Any:
        """The same op in PyTorch."""
        raise NotImplementedError

    @classmethod
    def codes(cls, u: np.ndarray, **attrs: Any) -> np.ndarray:
        """The op on codes, for the rule "codes": by default its forward."""
        return cls.forward(Context((False,)), u, **attrs)

    @classmethod
    def lower(cls, operands: list[Operand], target: Target, attrs: dict) -> IntegerStep | None:
        """The op as an integer step, for the rule "lower"; None where these operands have none (a float island)."""
        raise NotImplementedError

    @classmethod
    def quantized(cls, *operands: Tensor, **attrs: Any) -> Tensor:
        """The op on int8 Tensors: codes pass through where the rule says so; else an error that names dequantize()."""
        x = operands[0]
        if cls.int8 != "codes" or x.quantized is None:
            raise DtypeError(f"{cls.name}: not defined on int8; call dequantize() first, or quantize the model, which "
                             "lowers whole graphs to integers")
        if x.axis is not None:
            raise DtypeError(f"{cls.name}: int8 with a scale per index of axis {x.axis} cannot pass through; "
                             "call dequantize() first")
        return Tensor(cls.codes(x.data, **attrs), scale=x.scale, zero_point=x.zero_point)


def broadcasting(name: str, function: Any, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """function(a, b), naming the op and both shapes where they do not broadcast."""
    try:
        return elementwise(function, a, b)
    except ValueError:
        raise ShapeError(f"{name}: shapes {a.shape} and {b.shape} do not broadcast") from None


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Standard normal float64 values for samples."""
    return rng.standard_normal(shape)

