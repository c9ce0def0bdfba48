"""Tensor, and `apply`, through which every op runs."""

from __future__ import annotations

import copyreg
import math
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from . import checks
from ._kernels import memory
from .apply import Apply
from .arguments import PLAIN_AXES, dimension, index_of, number, shape_of
from .dtypes import FLOAT16, FLOAT32, FLOATS, INT8, INTEGERS, NAMES, as_dtype
from .engine import TensorBase, wrap
from .errors import DtypeError, GradError, ShapeError
from .in_place import assign, check_changeable
from .quantized import Quantized, dequantize_codes, quantize_array
from .state import state
from .tape import run_backward

__all__ = ["FLOATS", "INT8", "INTEGERS", "OPS", "Axes", "Tensor", "TensorLike", "apply", "as_dtype", "as_tensor", "call",
           "change"]

TensorLike: TypeAlias = "Tensor | ArrayLike"        # what becomes a Tensor: an array, a number, nested lists of them
Axes: TypeAlias = "int | tuple[int, ...] | None"    # dimensions, from the end where negative; None: all of them

OPS: dict[str, type[Any]] = {}      # name -> op class, filled by ops/


def as_tensor(value: TensorLike, dtype: np.dtype[Any] | None = None) -> Tensor:
    """`value` itself if it is a Tensor, else a Tensor of it; Python numbers take `dtype`."""
    if isinstance(value, Tensor):
        return value
    if dtype is not None and isinstance(value, (int, float)):
        try:
            return Tensor._of(np.asarray(value, dtype))
        except OverflowError:
            raise ShapeError(f"Tensor: expected a number that fits {dtype}, got {checks.described(value)}") from None
    return Tensor(value)


def call(name: str, *inputs: Any, **attrs: Any) -> Tensor:
    """`apply` by the op's name. Tensor's methods look ops up as this does: they are defined above this module."""
    return apply(OPS[name], *inputs, **attrs)


class Tensor(TensorBase):
    """An array of n dimensions with a dtype, and, for floats, a place on the tape.

    `grad` is the gradient that `backward` collected here, a Tensor, or None; `requires_grad` says whether it collects one,
    or whether the Tensor depends on another that does.

    Args:
        data: anything that NumPy makes an array of. Python floats become float32; an array keeps its dtype and memory.
        requires_grad: whether `backward` collects a gradient here (floats only).
        dtype: "float32", "float16", "float64" or another dtype of tinyml, to convert `data` to.
        scale: for int8 codes, what they stand for: scale * (code - zero_point), equation (1). One number, one number per
            index of `axis`, or one per `group`.
        zero_point: the code of 0, shaped as `scale`.
        axis: the dimension that has one scale per index; None for one scale per tensor.
        group: 32 or 64: how many codes along K of a matrix (N, K) share a scale, which then has shape (N, K / group).

    Raises:
        DtypeError: a dtype that has no meaning here (complex, object, int8 without a scale, ...).
        ShapeError: nested lists of different lengths, or a scale that does not fit.

    Example:
        >>> x = Tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
        >>> (x * x).sum().backward()
        >>> x.grad
        Tensor([[2., 4.],
         [6., 8.]], shape=(2, 2))
    """

    __slots__ = ("__weakref__",)
    __array_ufunc__ = None      # NumPy leaves `array + tensor` to us
    stored: ClassVar[bool] = False      # whether int8 codes are a layer's weight, which ops without integers read as floats
    grad: Tensor | None
    quantized: Quantized | None

    def __init__(self, data: TensorLike, requires_grad: bool = False, dtype: DTypeLike | None = None,
                 scale: TensorLike | None = None, zero_point: TensorLike = 0, axis: int | None = None,
                 group: int | None = None):
        if isinstance(data, Tensor):
            data = data.data
        try:
            array = np.asarray(data)
        except ValueError:
            raise ShapeError("Tensor: expected nested lists of equal lengths, got lists of different ones") from None
        if dtype is not None:
            array = checks.array("Tensor", "data", array, "biufc").astype(as_dtype(dtype), copy=False)
        elif not isinstance(data, (np.ndarray, np.generic)):
            array = array.astype(FLOAT32) if array.dtype.kind == "f" or array.size == 0 else array
        self.quantized = None
        if array.dtype == INT8:
            if scale is None:
                raise DtypeError("Tensor: int8 codes need a scale (and zero_point, axis); "
                                 "to quantize floats use Tensor(x).to_int8(), for ids or counts array.astype('int64')")
            self.quantized = Quantized(scale, zero_point, axis, array.shape, group)
        elif scale is not None:
            raise DtypeError(f"Tensor: a scale goes with int8 codes, got dtype {array.dtype}")
        elif array.dtype.kind in "iu":
            array = checks.ids(array)       # int16 and unsigned ones are no dtypes of ours; int64 holds them
        elif array.dtype not in NAMES.values():
            raise DtypeError(f"Tensor: expected one of {', '.join(NAMES)}, got {array.dtype}")
        self.data = array
        self.grad = self.node = None
        self.requires_grad = False
        if requires_grad is not False:
            self.requires_grad_(requires_grad)

    @staticmethod
    def _of(array: np.ndarray) -> Tensor:
        """Wrap an op's result without the checks of the constructor."""
        return wrap(Tensor, array)

    def _as_data(self, value: Any) -> np.ndarray:
        """What an assignment to `data` puts there: an ndarray, or the elements of a Tensor."""
        if isinstance(value, Tensor):
            if value.quantized is not None:
                raise DtypeError("data: int8 codes mean nothing without their scale; dequantize() them first")
            value = value.data
        if not isinstance(value, np.ndarray) or value.dtype not in NAMES.values():
            kind = f"an array of {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__
            raise DtypeError(f"data: expected an ndarray or a Tensor of one of {', '.join(NAMES)}, got {kind}")
        return value

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        # how copies are made, and pickles
        if self.node is not None:
            raise GradError(f"copy: expected a Tensor of its own, got the result of {self.node.op.name} on the tape; "
                            "detach() it first")
        names = ("data", "grad", "quantized", "requires_grad", *self.__slots__)
        values = {name: getattr(self, name) for name in names if name != "__weakref__"}
        return copyreg.__newobj__, (type(self),), values | getattr(self, "__dict__", {})     # type: ignore[attr-defined]

    def __setstate__(self, values: dict[str, Any]) -> None:
        for name, value in values.items():
            setattr(self, name, value)

    # -- what it is ---------------------------------------------------------------------------------------------------
    @property
    def nbytes(self) -> int:
        """Bytes of the elements, and of scales and zero points where there are any."""
        return self.data.nbytes + (self.quantized.nbytes if self.quantized else 0)

    @property
    def scale(self) -> np.ndarray | None:
        """Scale of int8 codes: 0-d, one per index of `axis`, or one per row and group; None for floats."""
        return self.quantized.scale if self.quantized else None

    @property
    def zero_point(self) -> np.ndarray | None:
        """Zero point of int8 codes, shaped as `scale`; None for floats."""
        return self.quantized.zero_point if self.quantized else None

    @property
    def axis(self) -> int | None:
        """The dimension that has one scale per index; None where there is one scale for all, or none."""
        return self.quantized.axis if self.quantized else None

    @property
    def group(self) -> int | None:
        """How many int8 codes along the last dimension share a scale; None where none do, or there is no scale."""
        return self.quantized.group if self.quantized else None

    @property
    def T(self) -> Tensor:
        """The last two dimensions swapped."""
        return self.transpose(-1, -2)

    def __len__(self) -> int:
        if not self.shape:
            raise ShapeError("len(): a 0-dimensional Tensor has no length")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        body = np.array2string(self.data, threshold=20, precision=4, separator=", ")
        kind = f", dtype={self.dtype}" if self.dtype != FLOAT32 else ""
        codes = f", {self.quantized}" if self.quantized else ""
        tape = f", op={self.node.op.name}" if self.node else ", requires_grad=True" if self.requires_grad else ""
        return f"Tensor({body}, shape={self.shape}{kind}{codes}{tape})"

    # -- values -------------------------------------------------------------------------------------------------------
    def numpy(self) -> np.ndarray:
        """The elements as an ndarray that shares their memory; for int8, the codes."""
        return self.data

    def item(self) -> float | int | bool:
        """The only element as a Python number.

        Raises:
            ShapeError: there is not exactly one element.
        """
        if self.size != 1:
            raise ShapeError(f"item(): expected one element, got shape {self.shape}")
        if state.recorder is not None:
            state.recorder.escaped(self)
        array = self.data if self.quantized is None else self.dequantize().data
        found: float | int | bool = array.item()
        return found

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __bool__(self) -> bool:
        if self.size != 1:
            raise ShapeError(f"bool(): the truth of a Tensor of shape {self.shape} is ambiguous; compare it, or reduce it "
                             "to one element, first")
        return bool(self.item())

    def __index__(self) -> int:
        if self.dtype.kind not in "iu" or self.quantized:
            raise DtypeError(f"index: expected a Tensor of integers, got {self.dtype}")
        return int(self.item())

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec else str(self)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """What NumPy makes of it: the elements, as `numpy()` gives them."""
        array = self.numpy()
        if copy or (dtype is not None and np.dtype(dtype) != array.dtype):
            if copy is False:
                raise ShapeError(f"np.asarray: a Tensor of {array.dtype} cannot become {dtype} without a copy")
            return np.array(array, dtype)
        return array

    def __array_function__(self, function: Callable[..., Any], types: Any, args: tuple[Any, ...],
                           kwargs: dict[str, Any]) -> Any:
        """NumPy's functions take Tensors as arrays, off the tape, and return arrays."""
        return function(*_as_arrays(args), **_as_arrays(kwargs))

    def detach(self) -> Tensor:
        """The same elements, sharing their memory, off the tape."""
        t = Tensor._of(self.data)
        t.quantized = self.quantized
        return t

    # -- gradients ----------------------------------------------------------------------------------------------------
    def requires_grad_(self, on: bool = True) -> Tensor:
        """Switch collecting a gradient on or off, in place.

        Args:
            on: whether `backward` collects a gradient here from now on.

        Returns:
            The Tensor itself.

        Raises:
            GradError: the dtype is no float.
        """
        on = checks.flag("requires_grad", "its argument", on)
        if on and self.dtype not in FLOATS:
            hint = "; int8 is trained through fake-quantization of floats" if self.quantized else ""
            raise GradError(f"requires_grad: expected a float dtype, got {self.dtype}{hint}")
        self.requires_grad = on
        return self

    def _accumulate(self, grads: list[np.ndarray], i: int) -> None:
        """Add grads[i] to `grad`, which becomes that array itself where nothing else sees its memory."""
        if self.grad is not None:
            np.add(self.grad.data, grads[i].astype(self.grad.dtype, copy=False), out=self.grad.data)
        elif grads[i].dtype == self.dtype and memory.sole(grads, i) and grads[i].flags.c_contiguous:
            self.grad = Tensor._of(grads[i])
        else:
            copy = memory.empty(self.shape, self.dtype)
            copy[...] = grads[i]
            self.grad = Tensor._of(copy)

    def backward(self, grad: TensorLike | None = None, retain_graph: bool = False) -> None:
        """Add d(self)/d(leaf), contracted with `grad`, to the `grad` of every leaf that requires one.

        Args:
            grad: cotangent, of the shape of the Tensor; may be left out for a single element (then it is 1).
            retain_graph: keep the tape for another backward.

        Raises:
            GradError: nothing requires a gradient, `grad` is missing, or the tape was already used.
            ShapeError: `grad` has another shape.

        Example:
            >>> w = Tensor([2.0, 3.0], requires_grad=True)
            >>> (w * w).backward([1.0, 10.0])
            >>> w.grad
            Tensor([ 4., 60.], shape=(2,))
        """
        if not self.requires_grad:
            raise GradError("backward: this Tensor does not depend on anything with requires_grad=True "
                            "(or was computed within no_grad())")
        retain_graph = checks.flag("backward", "retain_graph", retain_graph)
        run_backward(self, self._cotangent(grad), retain_graph)     # no name here keeps it alive

    def _cotangent(self, grad: Any) -> np.ndarray:
        if grad is None:
            if self.size != 1:
                raise GradError(f"backward: a Tensor of shape {self.shape} needs a cotangent, backward(grad); "
                                "only a single element has the default 1")
            return np.ones(self.shape, self.dtype)
        seed = checks.array("backward", "grad", grad).astype(self.dtype, copy=False)
        if seed.shape != self.shape:
            raise ShapeError(f"backward: expected a cotangent of shape {self.shape}, got {seed.shape}")
        return seed

    # -- precision ----------------------------------------------------------------------------------------------------
    def to(self, dtype: DTypeLike) -> Tensor:
        """The elements in another dtype.

        Args:
            dtype: the name of a dtype, or a NumPy dtype. "int8" quantizes by the range of the elements (see `to_int8`).

        Returns:
            A Tensor of that dtype, on the tape; the Tensor itself where it has the dtype already.

        Raises:
            DtypeError: a dtype that no Tensor has; QuantizationError: an element that the dtype cannot represent.

        Example:
            >>> Tensor([1.5, 2.5]).to("int64")
            Tensor([1, 2], shape=(2,), dtype=int64)
        """
        found = as_dtype(dtype)
        if found == INT8:
            return self.to_int8()
        if self.quantized:
            return self.dequantize().to(found)
        return self if found == self.dtype else apply(OPS["cast"], self, dtype=str(found))

    def to_fp16(self) -> Tensor:
        """The elements as IEEE half precision, equation (12).

        Raises:
            QuantizationError: a finite element above 65504.
        """
        return self.to(FLOAT16)

    def to_int8(self, scale: TensorLike | None = None, zero_point: TensorLike | None = None, axis: int | None = None,
                group: int | None = None) -> Tensor:
        """int8 codes: clamp(rint(x / scale) + zero_point) to [-128, 127]; equations (6) and (7).

        Args:
            scale: what one step of the codes is worth. None takes it from the elements: affine over their range for one
                scale per tensor, symmetric for one per index of `axis` or one per `group`.
            zero_point: the code of 0, shaped as `scale`; None is 0, where a scale is given.
            axis: the dimension that has one scale per index; None for one scale per tensor.
            group: 32 or 64: one scale for each so many elements along the last dimension of a matrix.

        Returns:
            An int8 Tensor, off the tape, which carries scale, zero point and axis.

        Raises:
            QuantizationError: NaN or infinite elements with no scale given, NaN with one, or a scale that is not
                positive and normal.
            GradError: the Tensor is on the tape.
            DtypeError, ShapeError: elements that are no floats; a scale, an axis or a group that does not fit.

        Example:
            >>> q = Tensor([-1.0, 0.0, 0.5]).to_int8(scale=0.01)
            >>> q.numpy()
            array([-100,    0,   50], dtype=int8)
            >>> q.dequantize()
            Tensor([-1. ,  0. ,  0.5], shape=(3,))
        """
        if self.requires_grad and state.grad:
            raise GradError("to_int8: gradients do not flow through int8; use detach() or no_grad(), or train with "
                            "fake-quantization")
        if self.quantized:
            return self.dequantize().to_int8(scale, zero_point, axis, group)
        if self.dtype not in FLOATS:
            raise DtypeError(f"to_int8: expected a float dtype, got {self.dtype}")
        codes, quantized = quantize_array(self.data, scale, zero_point, axis, group)
        t = Tensor._of(codes)
        t.quantized = quantized
        return t

    def dequantize(self) -> Tensor:
        """What int8 codes stand for: scale * (code - zero_point) in float32, equation (1). Floats come back as they are."""
        if self.quantized is None:
            return self
        return Tensor._of(dequantize_codes(self.data, self.quantized))

    # -- arithmetic ---------------------------------------------------------------------------------------------------
    def __add__(self, other: TensorLike) -> Tensor: return apply(OPS["add"], self, other)
    def __radd__(self, other: TensorLike) -> Tensor: return apply(OPS["add"], other, self)
    def __sub__(self, other: TensorLike) -> Tensor: return apply(OPS["sub"], self, other)
    def __rsub__(self, other: TensorLike) -> Tensor: return apply(OPS["sub"], other, self)
    def __mul__(self, other: TensorLike) -> Tensor: return apply(OPS["mul"], self, other)
    def __rmul__(self, other: TensorLike) -> Tensor: return apply(OPS["mul"], other, self)
    def __truediv__(self, other: TensorLike) -> Tensor: return apply(OPS["div"], self, other)
    def __rtruediv__(self, other: TensorLike) -> Tensor: return apply(OPS["div"], other, self)
    def __matmul__(self, other: TensorLike) -> Tensor: return apply(OPS["matmul"], self, other)
    def __rmatmul__(self, other: TensorLike) -> Tensor: return apply(OPS["matmul"], other, self)
    def __rpow__(self, other: TensorLike) -> Tensor: return apply(OPS["power"], other, self)
    def __neg__(self) -> Tensor: return apply(OPS["neg"], self)
    def __getitem__(self, index: Any) -> Tensor: return apply(OPS["getitem"], self, index=index_of(index))

    def __pow__(self, other: TensorLike) -> Tensor:
        if isinstance(other, (Tensor, np.ndarray)):
            return apply(OPS["power"], self, other)
        return apply(OPS["pow"], self, exponent=number("pow", "exponent", other))

    def __eq__(self, other: object) -> Tensor: return _compare(np.equal, self, other)          # type: ignore[override]
    def __ne__(self, other: object) -> Tensor: return _compare(np.not_equal, self, other)      # type: ignore[override]
    def __lt__(self, other: TensorLike) -> Tensor: return _compare(np.less, self, other)
    def __le__(self, other: TensorLike) -> Tensor: return _compare(np.less_equal, self, other)
    def __gt__(self, other: TensorLike) -> Tensor: return _compare(np.greater, self, other)
    def __ge__(self, other: TensorLike) -> Tensor: return _compare(np.greater_equal, self, other)
    __hash__ = object.__hash__

    # -- in place: the Tensor stays the same object, and so does its memory unless it is on the tape -------------------
    def __iadd__(self, other: TensorLike) -> Tensor: return change(self, "add", other)
    def __isub__(self, other: TensorLike) -> Tensor: return change(self, "sub", other)
    def __imul__(self, other: TensorLike) -> Tensor: return change(self, "mul", other)
    def __itruediv__(self, other: TensorLike) -> Tensor: return change(self, "div", other)
    def __imatmul__(self, other: TensorLike) -> Tensor: return change(self, "matmul", other)

    def __ipow__(self, other: TensorLike) -> Tensor:
        if isinstance(other, (Tensor, np.ndarray)):
            return change(self, "power", other)
        return change(self, "pow", exponent=number("pow", "exponent", other))

    # -- elementwise --------------------------------------------------------------------------------------------------
    def exp(self) -> Tensor:
        """e^x of each element x."""
        return apply(OPS["exp"], self)

    def log(self) -> Tensor:
        """Natural logarithm of each element."""
        return apply(OPS["log"], self)

    def sqrt(self) -> Tensor:
        """Square root of each element."""
        return apply(OPS["sqrt"], self)

    def abs(self) -> Tensor:
        """Absolute value of each element."""
        return apply(OPS["abs"], self)

    def round(self) -> Tensor:
        """The nearest whole number to each element, ties to even."""
        return apply(OPS["round"], self)

    def relu(self) -> Tensor:
        """max(x, 0) of each element x."""
        return apply(OPS["relu"], self)

    def sigmoid(self) -> Tensor:
        """1 / (1 + e^-x) of each element x."""
        return apply(OPS["sigmoid"], self)

    def tanh(self) -> Tensor:
        """Hyperbolic tangent of each element."""
        return apply(OPS["tanh"], self)

    def clip(self, lo: float = -math.inf, hi: float = math.inf) -> Tensor:
        """min(max(x, lo), hi) of each element x.

        Args:
            lo: what smaller elements become.
            hi: what larger elements become.

        Returns:
            A Tensor of the same shape.

        Raises:
            DtypeError: `lo` or `hi` is no number; ShapeError: it is NaN.

        Example:
            >>> Tensor([-2.0, 0.5, 9.0]).clip(0, 6)
            Tensor([0. , 0.5, 6. ], shape=(3,))
        """
        return apply(OPS["clip"], self, lo=number("clip", "lo", lo), hi=number("clip", "hi", hi))

    def softmax(self, axis: int = -1) -> Tensor:
        """exp(x) / sum of exp(x) over the dimension `axis`.

        Args:
            axis: the dimension whose elements sum to 1 afterwards.

        Returns:
            A Tensor of the same shape.

        Raises:
            ShapeError: a dimension that there is not.

        Example:
            >>> Tensor([0.0, 0.0]).softmax()
            Tensor([0.5, 0.5], shape=(2,))
        """
        return apply(OPS["softmax"], self, axis=checks.axis("softmax", axis))

    # -- reductions ---------------------------------------------------------------------------------------------------
    def sum(self, axis: Axes = None, keepdims: bool = False) -> Tensor:
        """Sum of the elements over the dimensions `axis`.

        Args:
            axis: one dimension or several; None for all.
            keepdims: whether the result keeps these dimensions, with size 1.

        Returns:
            A Tensor without the dimensions `axis` (or with size 1 there).

        Raises:
            ShapeError: a dimension that there is not, or one that is named twice.

        Example:
            >>> Tensor([[1.0, 2.0], [3.0, 4.0]]).sum(axis=0)
            Tensor([4., 6.], shape=(2,))
        """
        return _reduced("sum", self, axis, keepdims)

    def mean(self, axis: Axes = None, keepdims: bool = False) -> Tensor:
        """Mean of the elements over the dimensions `axis`.

        Args:
            axis: one dimension or several; None for all.
            keepdims: whether the result keeps these dimensions, with size 1.

        Returns:
            A Tensor without the dimensions `axis` (or with size 1 there).

        Raises:
            ShapeError: a dimension that there is not, one that is named twice, or no elements.

        Example:
            >>> Tensor([[1.0, 2.0], [3.0, 4.0]]).mean(axis=1, keepdims=True).shape
            (2, 1)
        """
        return _reduced("mean", self, axis, keepdims)

    def max(self, axis: Axes = None, keepdims: bool = False) -> Tensor:
        """Largest element over the dimensions `axis`; where several are, they share the gradient.

        Args:
            axis: one dimension or several; None for all.
            keepdims: whether the result keeps these dimensions, with size 1.

        Returns:
            A Tensor without the dimensions `axis` (or with size 1 there).

        Raises:
            ShapeError: a dimension that there is not, one that is named twice, or no elements.

        Example:
            >>> Tensor([[1.0, 2.0], [3.0, 4.0]]).max(axis=0)
            Tensor([3., 4.], shape=(2,))
        """
        return _reduced("max", self, axis, keepdims)

    def min(self, axis: Axes = None, keepdims: bool = False) -> Tensor:
        """Smallest element over the dimensions `axis`; where several are, they share the gradient.

        Args:
            axis: one dimension or several; None for all.
            keepdims: whether the result keeps these dimensions, with size 1.

        Returns:
            A Tensor without the dimensions `axis` (or with size 1 there).

        Raises:
            ShapeError: a dimension that there is not, one that is named twice, or no elements.

        Example:
            >>> Tensor([[1.0, 2.0], [3.0, 4.0]]).min()
            Tensor(1., shape=())
        """
        return _reduced("min", self, axis, keepdims)

    def var(self, axis: Axes = None, keepdims: bool = False, correction: float = 1) -> Tensor:
        """Variance over the dimensions `axis`: sum of (x - mean)^2 / (n - correction), of n elements.

        Args:
            axis: one dimension or several; None for all.
            keepdims: whether the result keeps these dimensions, with size 1.
            correction: 1 for the unbiased estimate of a sample's variance, 0 for the variance of the elements.

        Returns:
            A Tensor without the dimensions `axis` (or with size 1 there).

        Raises:
            ShapeError: a dimension that there is not, one that is named twice, or no elements.

        Example:
            >>> Tensor([1.0, 2.0, 3.0]).var()
            Tensor(1., shape=())
        """
        correction, mean = checks.number("var", "correction", correction), self.mean(axis, keepdims=True)
        n = self.size // max(mean.size, 1)
        return ((self - mean) ** 2).sum(axis, keepdims) / (n - correction)

    def argmax(self, axis: int | None = None) -> Tensor:
        """Index of the largest element, without a gradient; of several, the first.

        Args:
            axis: the dimension to search along; None for the index in the flattened Tensor.

        Returns:
            An int64 Tensor without the dimension `axis`.

        Raises:
            ShapeError: a dimension that there is not, or no elements.

        Example:
            >>> Tensor([[1.0, 5.0], [7.0, 2.0]]).argmax(axis=1)
            Tensor([1, 0], shape=(2,), dtype=int64)
        """
        if not (self.size if axis is None else self.shape[dimension("argmax", axis, self.ndim)]):
            raise ShapeError(f"argmax: no elements along axis {axis} of a Tensor of shape {self.shape}")
        return _off_tape(Tensor._of(np.asarray(self.dequantize().data.argmax(axis))), self)

    # -- shapes -------------------------------------------------------------------------------------------------------
    def reshape(self, *shape: Any) -> Tensor:
        """The same elements, in the same order, in another shape.

        Args:
            shape: the size of each dimension, as numbers or as one tuple. One may be -1: what the others leave for it.

        Returns:
            A Tensor that shares the memory where its layout allows it.

        Raises:
            ShapeError: sizes that do not fit the number of elements.

        Example:
            >>> Tensor([1.0, 2.0, 3.0, 4.0]).reshape(2, -1).shape
            (2, 2)
        """
        return apply(OPS["reshape"], self, shape=shape_of("reshape", shape))

    view = reshape

    def flatten(self, start: int = 0, end: int = -1) -> Tensor:
        """The dimensions from `start` to `end` as one.

        Args:
            start: the first of these dimensions.
            end: the last of them.

        Returns:
            A Tensor that shares the memory where its layout allows it.

        Raises:
            ShapeError: a dimension that there is not.

        Example:
            >>> Tensor(np.zeros((2, 3, 4))).flatten(1).shape
            (2, 12)
        """
        first, last = (dimension("flatten", d, max(self.ndim, 1)) for d in (start, end))
        merged = math.prod(self.shape[first : last + 1])
        return self.reshape(*self.shape[:first], merged, *self.shape[last + 1 :])

    def transpose(self, a: int = -2, b: int = -1) -> Tensor:
        """The dimensions `a` and `b` swapped.

        Args:
            a: one dimension.
            b: the other.

        Returns:
            A Tensor that shares the memory.

        Raises:
            ShapeError: a dimension that there is not.

        Example:
            >>> Tensor(np.zeros((2, 3, 4))).transpose(0, 2).shape
            (4, 3, 2)
        """
        order, a, b = list(range(self.ndim)), checks.axis("transpose", a), checks.axis("transpose", b)
        try:
            order[a], order[b] = order[b], order[a]
        except IndexError:
            raise ShapeError(f"transpose: dimensions {a} and {b} of a Tensor of shape {self.shape}") from None
        return self.permute(*order)

    def permute(self, *order: Any) -> Tensor:
        """The dimensions in another order.

        Args:
            order: all dimensions, as numbers or as one tuple: the first is that of the result's first dimension.

        Returns:
            A Tensor that shares the memory.

        Raises:
            ShapeError: not every dimension is named once.

        Example:
            >>> Tensor(np.zeros((2, 3, 4))).permute(2, 0, 1).shape
            (4, 2, 3)
        """
        return apply(OPS["permute"], self, order=shape_of("permute", order))

    def broadcast_to(self, *shape: Any) -> Tensor:
        """The elements repeated along dimensions of size 1, and along new ones in front.

        Args:
            shape: the size of each dimension, as numbers or as one tuple.

        Returns:
            A Tensor of this shape; its gradient is summed over what was repeated.

        Raises:
            ShapeError: the shape of the Tensor does not broadcast to it.

        Example:
            >>> Tensor([1.0, 2.0]).broadcast_to(2, 2)
            Tensor([[1., 2.],
             [1., 2.]], shape=(2, 2))
        """
        return apply(OPS["broadcast_to"], self, shape=shape_of("broadcast_to", shape))

    def squeeze(self, axis: int) -> Tensor:
        """Without the dimension `axis`, which must be of size 1.

        Args:
            axis: the dimension to drop.

        Returns:
            A Tensor that shares the memory where its layout allows it.

        Raises:
            ShapeError: the dimension is not of size 1, or there is no such dimension.

        Example:
            >>> Tensor([[1.0, 2.0]]).squeeze(0).shape
            (2,)
        """
        axis = checks.axis("squeeze", axis)
        if not -self.ndim <= axis < self.ndim or self.shape[axis] != 1:
            raise ShapeError(f"squeeze: expected dimension {axis} to be 1, got shape {self.shape}")
        axis %= self.ndim
        return self.reshape(*self.shape[:axis], *self.shape[axis + 1 :])

    def unsqueeze(self, axis: int) -> Tensor:
        """With a new dimension of size 1 before the dimension `axis`.

        Args:
            axis: where the new dimension is in the result.

        Returns:
            A Tensor that shares the memory where its layout allows it.

        Raises:
            ShapeError: the result has no such dimension.

        Example:
            >>> Tensor([1.0, 2.0]).unsqueeze(0).shape
            (1, 2)
        """
        at = dimension("unsqueeze", axis, self.ndim + 1)
        return self.reshape(*self.shape[:at], 1, *self.shape[at:])


def _reduced(name: str, t: Tensor, axis: Axes, keepdims: bool) -> Tensor:
    """The reduction `name` of t, whose arguments are mostly as the op takes them."""
    if type(axis) not in PLAIN_AXES or type(keepdims) is not bool:
        axis, keepdims = checks.axes(name, axis), checks.flag(name, "keepdims", keepdims)
    return apply(OPS[name], t, axis=axis, keepdims=keepdims)


def _as_arrays(value: Any) -> Any:
    """`value` with the arrays of all Tensors in its tuples, lists and dicts."""
    if isinstance(value, Tensor):
        return value.numpy()
    if type(value) in (tuple, list):
        return type(value)(_as_arrays(v) for v in value)
    return {k: _as_arrays(v) for k, v in value.items()} if type(value) is dict else value


def change(t: Tensor, name: str, *others: Any, **attrs: Any) -> Tensor:
    """`t` itself, its elements replaced by those of the op `name` on it."""
    what = f"{name} in place"
    check_changeable(t, what)
    assign(t, apply(OPS[name], t, *others, **attrs), what)
    return t


def _compare(function: np.ufunc, a: Tensor, b: Any) -> Tensor:
    """Elementwise comparison as a boolean Tensor (no gradient)."""
    name = function.__name__
    if not isinstance(b, (Tensor, np.ndarray, np.generic, int, float, tuple, list)):
        if name in ("equal", "not_equal"):
            return NotImplemented       # type: ignore[no-any-return]   # to Python: they are not equal
        raise DtypeError(f"{name}: expected a Tensor, an array or a number, got {checks.described(b)}")
    left, right = (v.dequantize().data if isinstance(v, Tensor) else v if isinstance(v, (int, float)) else checks.array(
        name, "an operand", v) for v in (a, b))
    try:
        result = np.asarray(function(left, right))
    except OverflowError:
        raise ShapeError(f"{name}: expected a number that fits {a.dtype}, got {checks.described(right)}") from None
    except ValueError:
        raise ShapeError(f"{name}: shapes {np.shape(left)} and {np.shape(right)} do not broadcast") from None
    return _off_tape(Tensor._of(result), a, b)


def _off_tape(result: Tensor, *sources: Any) -> Tensor:
    """`result`, which no op made: a trace is told what it was computed from, to notice when Python branches on it."""
    if state.recorder is not None:
        state.recorder.derived(result, sources)
    return result


apply: Callable[..., Tensor] = Apply(Tensor, as_tensor)
