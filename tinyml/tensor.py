"""Tensor, and `apply`, through which every op runs."""

from __future__ import annotations

import copyreg
import math
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np

from . import checks
from ._kernels import memory
from .engine import ApplyBase, Node, TensorBase, note_change, wrap
from .errors import DtypeError, GradError, ShapeError
from .quantized import Quantized, dequantize_codes, quantize_array
from .state import GradMode, state
from .tape import run_backward

OPS: dict[str, type] = {}       # name -> op class, filled by ops/

FLOATS = tuple(np.dtype(t) for t in (np.float16, np.float32, np.float64))
INTEGERS = tuple(np.dtype(t) for t in (np.int32, np.int64, np.uint8, np.bool_))
INT8 = np.dtype(np.int8)
_F16, _F32, _F64 = FLOATS
PLAIN_AXES = (type(None), int)      # which need no conversion: most calls
_NAMES = {str(d): d for d in (*FLOATS, *INTEGERS, INT8)}


def as_tensor(value: Any, dtype: np.dtype | None = None) -> Tensor:
    """`value` itself if it is a Tensor, else a Tensor of it; Python numbers take `dtype`."""
    if isinstance(value, Tensor):
        return value
    if dtype is not None and isinstance(value, (int, float)):
        try:
            return Tensor._of(np.asarray(value, dtype))
        except OverflowError:
            raise ShapeError(f"Tensor: expected a number that fits {dtype}, got {checks.described(value)}") from None
    return Tensor(value)


def _check_dtypes(op: type, arrays: list) -> None:
    for i, a in enumerate(arrays):
        if a is None:
            continue
        expected = INTEGERS if i in op.integer_operands else FLOATS
        if a.dtype not in expected:
            hint = "" if i in op.integer_operands else "; convert it with .to('float32')"
            raise DtypeError(f"{op.name}: operand {i + 1} is {a.dtype}, expected "
                             f"{' or '.join(str(d) for d in expected)}{hint}")


def call(name: str, *inputs: Any, **attrs: Any) -> Tensor:
    """`apply` by the op's name. Tensor's methods look ops up as this does: they are defined above this module."""
    return apply(OPS[name], *inputs, **attrs)


class Tensor(TensorBase):
    """An n-dimensional array with a dtype, and, for floats, a place on the tape.

    Args:
        data: anything NumPy makes an array of; Python floats become float32, arrays keep their dtype and memory.
        requires_grad: whether `backward` collects a gradient here (floats only).
        dtype: "float32", "float16", "float64" or a NumPy dtype to convert to.
        scale, zero_point, axis, group: for int8 codes, the numbers they stand for: scale * (code - zero_point), per
            tensor, one scale per index of `axis`, or for codes (N, K) one for each `group` (32 or 64) of them along K.

    Raises:
        DtypeError: a dtype that has no meaning here (complex, object, int8 without a scale, ...).
        ShapeError: nested lists of different lengths.
    """

    __slots__ = ("__weakref__",)
    __array_ufunc__ = None      # NumPy leaves `array + tensor` to us
    stored: ClassVar[bool] = False      # whether int8 codes are a layer's weight, which ops without integers read as floats

    def __init__(self, data: Any, requires_grad: bool = False, dtype: Any = None, scale: Any = None,
                 zero_point: Any = 0, axis: int | None = None, group: int | None = None):
        if isinstance(data, Tensor):
            data = data.data
        try:
            array = np.asarray(data)
        except ValueError:
            raise ShapeError("Tensor: expected nested lists of equal lengths, got lists of different ones") from None
        if dtype is not None:
            dtype = as_dtype(dtype)
            array = checks.array("Tensor", "data", array, "biufc").astype(dtype, copy=False)
        elif not isinstance(data, (np.ndarray, np.generic)):
            array = array.astype(_F32) if array.dtype.kind == "f" or array.size == 0 else array
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
        elif array.dtype not in _NAMES.values():
            raise DtypeError(f"Tensor: expected one of {', '.join(_NAMES)}, got {array.dtype}")
        self.data: np.ndarray = array
        self.grad: Tensor | None = None
        self.node: Node | None = None
        self.requires_grad: bool = False
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
        if not isinstance(value, np.ndarray) or value.dtype not in _NAMES.values():
            kind = f"an array of {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__
            raise DtypeError(f"data: expected an ndarray or a Tensor of one of {', '.join(_NAMES)}, got {kind}")
        return value

    def __reduce_ex__(self, protocol: Any) -> tuple:
        # how copies are made, and pickles
        if self.node is not None:
            raise GradError(f"copy: expected a Tensor of its own, got the result of {self.node.op.name} on the tape; "
                            "detach() it first")
        names = ("data", "grad", "quantized", "requires_grad", *self.__slots__)
        values = {name: getattr(self, name) for name in names if name != "__weakref__"}
        return copyreg.__newobj__, (type(self),), values | getattr(self, "__dict__", {})

    def __setstate__(self, values: dict[str, Any]) -> None:
        for name, value in values.items():
            setattr(self, name, value)

    # -- what it is ---------------------------------------------------------------------------------------------------
    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def ndim(self) -> int:
        return self.data.ndim

    @property
    def size(self) -> int:
        """Number of elements."""
        return self.data.size

    @property
    def dtype(self) -> np.dtype:
        return self.data.dtype

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
        """The dimension that has a scale per index; None: one scale for all (or not int8)."""
        return self.quantized.axis if self.quantized else None

    @property
    def group(self) -> int | None:
        """How many int8 codes along the last dimension share a scale; None where none do so (or not int8)."""
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
        marks = "".join([
            f", dtype={self.dtype}" if self.dtype != _F32 else "",
            f", {self.quantized}" if self.quantized else "",
            f", op={self.node.op.name}" if self.node else ", requires_grad=True" if self.requires_grad else "",
        ])
        return f"Tensor({body}, shape={self.shape}{marks})"

    # -- values -------------------------------------------------------------------------------------------------------
    def numpy(self) -> np.ndarray:
        """The elements as an ndarray (codes for int8), sharing memory."""
        return self.data

    def item(self) -> float | int | bool:
        """The only element as a Python number."""
        if self.size != 1:
            raise ShapeError(f"item(): expected one element, got shape {self.shape}")
        if state.recorder is not None:
            state.recorder.escaped(self)
        return self.dequantize().data.item() if self.quantized else self.data.item()

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

    def __array_function__(self, function: Callable, types: Any, args: tuple, kwargs: dict) -> Any:
        """NumPy's functions take Tensors as arrays, off the tape, and return arrays."""
        return function(*_as_arrays(args), **_as_arrays(kwargs))

    def detach(self) -> Tensor:
        """The same elements off the tape."""
        t = Tensor._of(self.data)
        t.quantized = self.quantized
        return t

    # -- gradients ----------------------------------------------------------------------------------------------------
    def requires_grad_(self, on: bool = True) -> Tensor:
        """Switch collecting a gradient on or off, in place."""
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

    def backward(self, grad: Any = None, retain_graph: bool = False) -> None:
        """Add d(self)/d(leaf), contracted with `grad`, to every leaf's `grad`.

        Args:
            grad: cotangent of self's shape; may be left out for one element (then 1).
            retain_graph: keep the tape for another backward.

        Raises:
            GradError: nothing requires a gradient, `grad` is missing, or the tape was already used.
            ShapeError: `grad` has another shape.
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
    def to(self, dtype: Any) -> Tensor:
        """The elements in another dtype; "int8" quantizes with the range of the elements."""
        dtype = as_dtype(dtype)
        if dtype == INT8:
            return self.to_int8()
        if self.quantized:
            return self.dequantize().to(dtype)
        return self if dtype == self.dtype else apply(OPS["cast"], self, dtype=str(dtype))

    def to_fp16(self) -> Tensor:
        """The elements as IEEE half precision; a finite element above 65504 is an error (design (12))."""
        return self.to(_F16)

    def to_int8(self, scale: Any = None, zero_point: Any = None, axis: int | None = None,
                group: int | None = None) -> Tensor:
        """int8 codes rint(x / scale) + zero_point, clamped to [-128, 127]; equations (6) and (7).

        Without a scale it comes from the elements: affine over their range per tensor, symmetric per index of `axis`, or
        symmetric for each `group` (32 or 64) elements along the last dimension of a matrix.

        Raises:
            QuantizationError: NaN or infinite elements with no scale given, NaN with one, or a scale that is not
            positive and normal; GradError: self is on the tape.
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
        """scale * (code - zero_point) in float32, equation (1); floats come back as they are."""
        if self.quantized is None:
            return self
        return Tensor._of(dequantize_codes(self.data, self.quantized))

    # -- arithmetic ---------------------------------------------------------------------------------------------------
    def __add__(self, other): return apply(OPS["add"], self, other)
    def __radd__(self, other): return apply(OPS["add"], other, self)
    def __sub__(self, other): return apply(OPS["sub"], self, other)
    def __rsub__(self, other): return apply(OPS["sub"], other, self)
    def __mul__(self, other): return apply(OPS["mul"], self, other)
    def __rmul__(self, other): return apply(OPS["mul"], other, self)
    def __truediv__(self, other): return apply(OPS["div"], self, other)
    def __rtruediv__(self, other): return apply(OPS["div"], other, self)
    def __matmul__(self, other): return apply(OPS["matmul"], self, other)
    def __rmatmul__(self, other): return apply(OPS["matmul"], other, self)
    def __pow__(self, other):
        if isinstance(other, (Tensor, np.ndarray)):
            return apply(OPS["power"], self, other)
        return apply(OPS["pow"], self, exponent=plain_number("pow", "exponent", other))

    def __rpow__(self, other): return apply(OPS["power"], other, self)
    def __neg__(self): return apply(OPS["neg"], self)
    def __getitem__(self, index): return apply(OPS["getitem"], self, index=plain_index(index))

    def __eq__(self, other): return compare(np.equal, self, other)
    def __ne__(self, other): return compare(np.not_equal, self, other)
    def __lt__(self, other): return compare(np.less, self, other)
    def __le__(self, other): return compare(np.less_equal, self, other)
    def __gt__(self, other): return compare(np.greater, self, other)
    def __ge__(self, other): return compare(np.greater_equal, self, other)
    __hash__ = object.__hash__

    # -- in place: the Tensor stays the same object, and so does its memory unless it is on the tape -------------------
    def __iadd__(self, other): return change(self, "add", other)
    def __isub__(self, other): return change(self, "sub", other)
    def __imul__(self, other): return change(self, "mul", other)
    def __itruediv__(self, other): return change(self, "div", other)
    def __imatmul__(self, other): return change(self, "matmul", other)

    def __ipow__(self, other):
        if isinstance(other, (Tensor, np.ndarray)):
            return change(self, "power", other)
        return change(self, "pow", exponent=plain_number("pow", "exponent", other))

    def exp(self): return apply(OPS["exp"], self)
    def log(self): return apply(OPS["log"], self)
    def sqrt(self): return apply(OPS["sqrt"], self)
    def abs(self): return apply(OPS["abs"], self)
    def round(self): return apply(OPS["round"], self)
    def clip(self, lo: float = -math.inf, hi: float = math.inf):
        """Elements below lo become lo, above hi become hi."""
        return apply(OPS["clip"], self, lo=plain_number("clip", "lo", lo), hi=plain_number("clip", "hi", hi))

    def relu(self): return apply(OPS["relu"], self)
    def sigmoid(self): return apply(OPS["sigmoid"], self)
    def tanh(self): return apply(OPS["tanh"], self)
    def softmax(self, axis: int = -1): return apply(OPS["softmax"], self, axis=checks.axis("softmax", axis))

    # -- reductions: axis None is all of them -------------------------------------------------------------------------
    def sum(self, axis=None, keepdims=False): return _reduced("sum", self, axis, keepdims)
    def mean(self, axis=None, keepdims=False): return _reduced("mean", self, axis, keepdims)
    def max(self, axis=None, keepdims=False): return _reduced("max", self, axis, keepdims)
    def min(self, axis=None, keepdims=False): return _reduced("min", self, axis, keepdims)

    def var(self, axis=None, keepdims=False, correction: int = 1):
        """Variance with n - correction in the denominator."""
        correction, mean = checks.number("var", "correction", correction), self.mean(axis, keepdims=True)
        n = self.size // max(mean.size, 1)
        return ((self - mean) ** 2).sum(axis, keepdims) / (n - correction)

    def argmax(self, axis: int | None = None) -> Tensor:
        """Index of the largest element (no gradient)."""
        if not (self.size if axis is None else self.shape[dimension("argmax", axis, self.ndim)]):
            raise ShapeError(f"argmax: no elements along axis {axis} of a Tensor of shape {self.shape}")
        return _off_tape(Tensor._of(np.asarray(self.dequantize().data.argmax(axis))), self)

    # -- shapes -------------------------------------------------------------------------------------------------------
    def reshape(self, *shape):
        return apply(OPS["reshape"], self, shape=plain_shape("reshape", shape))

    view = reshape

    def flatten(self, start: int = 0, end: int = -1):
        """Dimensions start..end as one."""
        first, last = (dimension("flatten", d, max(self.ndim, 1)) for d in (start, end))
        merged = math.prod(self.shape[first : last + 1])
        return self.reshape(*self.shape[:first], merged, *self.shape[last + 1 :])

    def transpose(self, a: int = -2, b: int = -1):
        """Dimensions a and b swapped."""
        order, a, b = list(range(self.ndim)), checks.axis("transpose", a), checks.axis("transpose", b)
        try:
            order[a], order[b] = order[b], order[a]
        except IndexError:
            raise ShapeError(f"transpose: dimensions {a} and {b} of a Tensor of shape {self.shape}") from None
        return self.permute(*order)

    def permute(self, *order):
        """Dimensions in a new order."""
        return apply(OPS["permute"], self, order=plain_shape("permute", order))

    def broadcast_to(self, *shape): return apply(OPS["broadcast_to"], self, shape=plain_shape("broadcast_to", shape))

    def squeeze(self, axis: int):
        """Without dimension `axis`, which must be 1."""
        axis = checks.axis("squeeze", axis)
        if not -self.ndim <= axis < self.ndim or self.shape[axis] != 1:
            raise ShapeError(f"squeeze: expected dimension {axis} to be 1, got shape {self.shape}")
        axis %= self.ndim
        return self.reshape(*self.shape[:axis], *self.shape[axis + 1 :])

    def unsqueeze(self, axis: int):
        """With a new dimension of 1 before `axis`."""
        at = dimension("unsqueeze", axis, self.ndim + 1)
        return self.reshape(*self.shape[:at], 1, *self.shape[at:])


def _reduced(name: str, t: Tensor, axis: Any, keepdims: Any) -> Tensor:
    """The reduction `name` of t, whose arguments are mostly as the op takes them."""
    if type(axis) not in PLAIN_AXES or type(keepdims) is not bool:
        axis, keepdims = checks.axes(name, axis), checks.flag(name, "keepdims", keepdims)
    return apply(OPS[name], t, axis=axis, keepdims=keepdims)


def as_dtype(dtype: Any) -> np.dtype:
    """A NumPy dtype from a name or dtype.

    Raises:
        DtypeError: not one that a Tensor can have.
    """
    try:
        found = np.dtype(dtype)
    except (TypeError, ValueError):
        found = None
    if found is None or found not in _NAMES.values():
        raise DtypeError(f"dtype: expected one of {', '.join(_NAMES)}, got {checks.described(dtype)}")
    return found


def dimension(name: str, axis: int, ndim: int) -> int:
    """`axis` counted from the front.

    Raises:
        ShapeError: naming the method, where there is no such dimension.
    """
    axis = checks.axis(name, axis)
    if not -ndim <= axis < ndim:
        raise ShapeError(f"{name}: dimension {axis} of {ndim}")
    return axis % ndim


def plain_shape(name: str, shape: tuple) -> tuple[int, ...]:
    """(2, 3) from reshape(2, 3) as from reshape((2, 3))."""
    if len(shape) == 1:
        if type(shape[0]) is int:
            return shape        # a third of the time that reshape takes
        if isinstance(shape[0], (tuple, list)):
            shape = shape[0]
    for n in shape:
        if type(n) is not int:
            break
    else:
        return tuple(shape)
    return checks.several(name, "dimensions", shape)


def plain_number(name: str, argument: str, value: Any) -> float:
    """A Python float, which may be infinite, from a number or a Tensor or array of one element."""
    one = isinstance(value, (Tensor, np.ndarray)) and value.size == 1 and value.dtype.kind in "fiu"
    return checks.number(name, argument, value.item() if one else value, infinite=True)


def plain_index(index: Any) -> tuple:
    """An index as a tuple of ints, slices, None, Ellipsis and integer or boolean arrays."""
    if type(index) is int:
        return (index,)

    def one(i):
        i = i.data if isinstance(i, Tensor) else i
        if isinstance(i, list):
            found = checks.array("getitem", "an index", i, "biu")
            return found if found.size else found.astype(np.int64)
        return i

    return tuple(one(i) for i in index) if isinstance(index, tuple) else (one(index),)


def _as_arrays(value: Any) -> Any:
    """`value` with the arrays of all Tensors in its tuples, lists and dicts."""
    if isinstance(value, Tensor):
        return value.numpy()
    if type(value) in (tuple, list):
        return type(value)(_as_arrays(v) for v in value)
    return {k: _as_arrays(v) for k, v in value.items()} if type(value) is dict else value


def change(t: Tensor, name: str, *others: Any, **attrs: Any) -> Tensor:
    """`t` itself, its elements replaced by those of the op `name` on it: t += 1.

    Off the tape they are written where they are, which all views see. With a gradient `t` becomes the op's result: what
    the tape kept of it before stays as it was.

    Raises:
        GradError: a leaf that requires a gradient, outside no_grad(); ShapeError, DtypeError: results that do not fit.
    """
    what = f"{name} in place"
    if t.quantized is not None:
        raise DtypeError(f"{what}: expected floats or integers, got int8 codes; dequantize() them first")
    if t.requires_grad and t.node is None and state.grad:
        raise GradError(f"{what}: a leaf that requires a gradient cannot change on the tape; change it within no_grad(), "
                        "or write x = x + y for a new Tensor")
    result = apply(OPS[name], t, *others, **attrs)
    if result.shape != t.shape:
        raise ShapeError(f"{what}: expected a result of shape {t.shape}, got {result.shape}")
    if not np.can_cast(result.dtype, t.dtype, "same_kind"):
        raise DtypeError(f"{what}: a result of {result.dtype} does not fit in a Tensor of {t.dtype}")
    recorder = state.recorder
    if recorder is None and t.node is None and not result.requires_grad:
        if not t.data.flags.writeable:
            raise ShapeError(f"{what}: the memory of this Tensor of shape {t.shape} is read-only; make it of a copy")
        np.copyto(t.data, result.data, casting="same_kind")
        note_change(t.data, what)
        return t
    if recorder is not None:
        recorder.changed(t, result)
    if state.grad:
        t.node, t.requires_grad = result.node, result.requires_grad
    t.data = result.data.astype(t.dtype, copy=False)
    return t


def compare(function, a: Any, b: Any) -> Tensor:
    """Elementwise comparison as a boolean Tensor (no gradient)."""
    name = function.__name__
    if not isinstance(b, (Tensor, np.ndarray, np.generic, int, float, tuple, list)):
        if name in ("equal", "not_equal"):
            return NotImplemented       # to Python: they are not equal
        raise DtypeError(f"{name}: expected a Tensor, an array or a number, got {checks.described(b)}")
    left, right = (v.dequantize().data if isinstance(v, Tensor) else v if isinstance(v, (int, float)) else checks.array(
        name, "an operand", v) for v in (a, b))
    try:
        result = np.asarray(function(left, right))
    except OverflowError:
        raise ShapeError(f"{name}: expected a number that fits {left.dtype}, got {checks.described(right)}") from None
    except ValueError:
        raise ShapeError(f"{function.__name__}: shapes {np.shape(left)} and {np.shape(right)} do not broadcast") from None
    return _off_tape(Tensor._of(result), a, b)


def _off_tape(result: Tensor, *sources: Any) -> Tensor:
    """`result`, which no op made: a trace is told what it was computed from, to notice when Python branches on it."""
    if state.recorder is not None:
        state.recorder.derived(result, sources)
    return result


class Apply(ApplyBase):
    """`apply(op, *inputs, **attrs)`: run an op on Tensors, and note it on the tape.

    Operands that are no Tensors become some; None stands for an absent operand. float16 operands are computed in float32,
    and the result is float16 only if all float operands are and one is no weight (equation (12): weights may be stored as
    float16, activations are float32). float32 meeting float64 becomes float64, except in layers (`one_precision`), where
    it is an error: there it is always a mistake. int8 operands run the op's integer rule.

    Raises:
        DtypeError, ShapeError: from the op, naming it; GradError: a gradient through int8 is asked for.
    """

    def as_tensors(self, op: type, inputs: tuple) -> list[Tensor | None]:
        """`inputs` as Tensors; Python numbers take the dtype of the first that has floats. What the op reads as integers
        may be an array of any of them, int8 too, which are no codes then."""
        like = _F32
        for t in inputs:
            if isinstance(t, Tensor) and t.data.dtype in FLOATS:
                like = t.data.dtype
                break
        return [t if t is None or isinstance(t, Tensor) else as_tensor(
            checks.ids(t) if isinstance(t, np.ndarray) and i in op.integer_operands else t, like)
            for i, t in enumerate(inputs)]

    def convert(self, op: type, arrays: list) -> tuple[list, bool]:
        """The operands in the dtypes the op computes in, and whether its result is rounded to float16."""
        if not op.any_dtype:
            _check_dtypes(op, arrays)
        floats = {a.dtype for a in arrays if a is not None and a.dtype in FLOATS}
        half = floats == {_F16} and not op.any_dtype and any(
            a is not None and a.dtype == _F16 for i, a in enumerate(arrays) if i not in op.stored)
        if len(floats) > 1 or half:
            if op.one_precision and _F64 in floats:
                raise DtypeError(f"{op.name}: operands are {' and '.join(sorted(str(d) for d in floats))}; float64 would "
                                 "take a slow road through the layer: convert it with .to('float32') (or astype in NumPy)")
            wide = _F64 if _F64 in floats else _F32
            arrays = [a.astype(wide) if a is not None and a.dtype in FLOATS and a.dtype != wide and not (
                a.dtype == _F16 and i in op.reads_half) else a for i, a in enumerate(arrays)]
        return arrays, half

    def run_integers(self, op: type, inputs: tuple, attrs: dict, grad: GradMode) -> Tensor:
        """The op's integer rule; a layer's int8 weight that the op does not read as one is what its codes stand for."""
        read = [t.dequantize() if t is not None and t.stored and t.quantized is not None and i not in op.stored else t
                for i, t in enumerate(inputs)]
        if any(a is not b for a, b in zip(read, inputs)):
            return self(op, *read, **attrs)
        if grad:
            raise GradError(f"{op.name}: gradients do not flow through int8; use no_grad() to run the model, or train "
                            "the float model with fake-quantization and convert it afterwards")
        profiler = state.profiler
        output = op.quantized(*inputs, **attrs) if profiler is None else profiler.quantized(op, inputs, attrs)
        if state.recorder is not None:
            state.recorder.note(op, inputs, attrs, output)
        return output


apply = Apply(Tensor)
