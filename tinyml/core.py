"""What a Tensor is: how it is made, what Python and NumPy see of it, and its part in `backward`.

Its methods are the functions of `functions/`, which `tensors.py` adds.
"""

from __future__ import annotations

import copyreg
import weakref
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from . import checks, printing
from ._kernels import memory
from .apply import apply
from .arguments import Device, dimension
from .dtypes import FLOAT32, INT8, NAMES, as_dtype
from .engine import RECOMPUTED, TensorBase, refreshed, wrap
from .errors import DtypeError, GradError, ShapeError
from .gradients import add_gradients, cotangent
from .hooks import Handle, Hooks
from .quantized import Quantized
from .state import state
from .tape import place_of

CPU = Device("cpu")

# NumPy's functions of elements that PyTorch, whose names the methods have, knows by none of NumPy's names.
UFUNCS = {"arccosh": "acosh", "arcsinh": "asinh", "arctanh": "atanh", "degrees": "rad2deg", "equal": "eq", "fabs": "abs",
          "invert": "bitwise_not", "left_shift": "bitwise_left_shift", "power": "pow", "radians": "deg2rad",
          "right_shift": "bitwise_right_shift", "rint": "round"}


class TensorCore(TensorBase):
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
        tensor([[2., 4.],
                [6., 8.]])
    """

    __slots__ = ("__weakref__",)
    stored: ClassVar[bool] = False      # whether int8 codes are a layer's weight, which ops without integers read as floats
    grad: Any
    quantized: Quantized | None

    def __init__(self, data: ArrayLike | TensorBase, requires_grad: bool = False, dtype: DTypeLike | None = None,
                 scale: ArrayLike | TensorBase | None = None, zero_point: ArrayLike | TensorBase = 0,
                 axis: int | None = None, group: int | None = None):
        if isinstance(data, TensorBase):
            data.shared = True
            data = data.array
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
        self.array = array
        self.shared = True
        self.grad = None
        self.place(None, False)
        if requires_grad is not False:
            self.requires_grad = checks.flag("Tensor", "requires_grad", requires_grad)

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        # how copies are made, and pickles
        if self.node is not None:
            raise GradError(f"copy: expected a Tensor of its own, got the result of {self.node.op.name} on the tape; "
                            "detach() it first")
        names = ("array", "grad", "quantized", "requires_grad", *self.__slots__)
        values = {name: getattr(self, name) for name in names if name != "__weakref__"}
        return copyreg.__newobj__, (type(self),), values | getattr(self, "__dict__", {})     # type: ignore[attr-defined]

    def __setstate__(self, values: dict[str, Any]) -> None:
        for name, value in values.items():
            setattr(self, name, value)

    # -- what it is ---------------------------------------------------------------------------------------------------
    @property
    def nbytes(self) -> int:
        """Bytes of the elements, and of scales and zero points where there are any."""
        return self.array.nbytes + (self.quantized.nbytes if self.quantized else 0)

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
    def device(self) -> Device:
        """Where the elements are: "cpu", the one device there is."""
        return CPU

    @property
    def is_leaf(self) -> bool:
        """Whether no op on the tape made it."""
        return self.node is None

    @property
    def grad_fn(self) -> Any:
        """What the tape has of the op that made it, such as <MulBackward>; None for a leaf."""
        return self.node

    def numel(self) -> int:
        """Number of elements."""
        return self.array.size

    def dim(self) -> int:
        """Number of dimensions."""
        return self.array.ndim

    def size(self, dim: int | None = None) -> Any:
        """Size of each dimension, or of one.

        Args:
            dim: the dimension; None for all.

        Returns:
            A tuple of ints, or an int.

        Raises:
            ShapeError: there is no such dimension.

        Example:
            >>> Tensor([[1.0, 2.0]]).size(), Tensor([[1.0, 2.0]]).size(-1)
            ((1, 2), 2)
        """
        return self.shape if dim is None else self.shape[dimension("size", dim, self.ndim)]

    def __len__(self) -> int:
        if not self.shape:
            raise ShapeError("len(): a 0-dimensional Tensor has no length")
        return self.shape[0]

    def __repr__(self) -> str:
        return printing.text(self)

    # -- values -------------------------------------------------------------------------------------------------------
    def numpy(self) -> np.ndarray:
        """The elements as an ndarray that shares their memory; for int8, the codes."""
        refreshed(self).shared = True
        return self.array

    def tolist(self) -> Any:
        """The elements (of int8, what the codes stand for) as nested lists of numbers; of no dimensions, the number."""
        if state.recorder is not None:
            state.recorder.note_escape(self)
        return apply.tensor.dequantize(self).array.tolist()

    @property
    def data(self) -> Any:
        """The elements as a Tensor that shares their memory, off the tape. An ndarray or a Tensor may be assigned, whose
        memory is shared then."""
        refreshed(self).shared = True
        t = wrap(apply.tensor, self.array)
        t.shared, t.quantized = True, self.quantized
        return t

    @data.setter
    def data(self, value: Any) -> None:
        if isinstance(value, TensorBase):
            if value.quantized is not None and value.quantized is not self.quantized:
                raise DtypeError("data: int8 codes mean nothing without their scale; dequantize() them first")
            value.shared = True
            value = value.array
        if not isinstance(value, np.ndarray) or value.dtype not in NAMES.values():
            kind = f"an array of {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__
            raise DtypeError(f"data: expected an ndarray or a Tensor of one of {', '.join(NAMES)}, got {kind}")
        self.array, self.shared, self.of_view = value, True, None

    def item(self) -> float | int | bool:
        """The only element as a Python number.

        Raises:
            ShapeError: there is not exactly one element.
        """
        if self.numel() != 1:
            raise ShapeError(f"item(): expected one element, got shape {self.shape}")
        if state.recorder is not None:
            state.recorder.note_escape(self)
        array = self.array if self.quantized is None else apply.tensor.dequantize(self).array
        found: float | int | bool = array.item()
        return found

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __bool__(self) -> bool:
        if self.numel() != 1:
            raise ShapeError(f"bool(): the truth of a Tensor of shape {self.shape} is ambiguous; compare it, or reduce it "
                             "to one element, first")
        return bool(self.item())

    def __index__(self) -> int:
        if self.dtype.kind not in "iu" or self.quantized:
            raise DtypeError(f"index: expected a Tensor of integers, got {self.dtype}")
        return int(self.item())

    def __format__(self, spec: str) -> str:
        single = not self.ndim and type(self) is apply.tensor       # f"{loss}" is that of the number
        return format(self.item(), spec) if spec or single else str(self)

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

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        """NumPy's functions of elements, np.exp(t) or np.add(array, t), are the methods, on the tape: exp, add.

        Raises:
            DtypeError: Tensors have no such function, or it is to be used in another way.
        """
        own = getattr(apply.tensor, UFUNCS.get(ufunc.__name__, ufunc.__name__), None)
        if method == "__call__" and not options and own is not None:
            return own(*inputs)
        name = f"np.{ufunc.__name__}" + (f".{method}" if method != "__call__" else "")
        if options.keys() == {"out"} and not any(isinstance(out, TensorBase) for out in options["out"]) and not any(
                isinstance(t, TensorBase) and (t.requires_grad or t.quantized is not None) for t in inputs):
            return getattr(ufunc, method)(*_as_arrays(inputs), **options)       # array += t
        how = f" with {', '.join(options)}" if options else ""
        raise DtypeError(f"{name}{how} is no function of Tensors; give it arrays, t.numpy(), which are off the tape")

    # -- gradients ----------------------------------------------------------------------------------------------------
    def _accumulate(self, grads: list[np.ndarray], i: int) -> None:
        """Add grads[i] to `grad`, which becomes that array itself where nothing else sees its memory."""
        if self.grad is not None:
            np.add(self.grad.array, grads[i].astype(self.grad.dtype, copy=False), out=self.grad.array)
        elif grads[i].dtype == self.dtype and memory.sole(grads, i) and grads[i].flags.c_contiguous:
            self.grad = wrap(apply.tensor, grads[i])
        else:
            copy = memory.empty(self.shape, self.dtype)
            copy[...] = grads[i]
            self.grad = wrap(apply.tensor, copy)

    def backward(self, gradient: ArrayLike | TensorBase | None = None, retain_graph: bool | None = None,
                 create_graph: bool = False, inputs: Any = None, *, grad: ArrayLike | TensorBase | None = None) -> None:
        """Add d(self)/d(leaf), contracted with `gradient`, to the `grad` of every leaf that requires one.

        Args:
            gradient: cotangent, of the shape of the Tensor; may be left out for a single element (then it is 1).
            retain_graph: keep the tape for another backward.
            create_graph: gradients of gradients, which tinyml does not have: False.
            inputs: the Tensors whose `grad` is added to; None for all leaves.
            grad: another name of `gradient`.

        Raises:
            GradError: nothing requires a gradient, `gradient` is missing, or the tape was already used.
            ShapeError: `gradient` has another shape.

        Example:
            >>> w = Tensor([2.0, 3.0], requires_grad=True)
            >>> (w * w).backward([1.0, 10.0])
            >>> w.grad
            tensor([ 4., 60.])
        """
        seeds = [cotangent("backward", self, grad if gradient is None else gradient)]
        add_gradients([self], seeds, retain_graph, create_graph, inputs)     # no name here keeps it alive

    def register_hook(self, hook: Callable[[Any], Any]) -> Handle:
        """Call `hook` with the gradient to the Tensor whenever `backward` has completed one.

        Args:
            hook: of the gradient, a Tensor; it returns None, or a Tensor that takes the gradient's place.

        Returns:
            A Handle, whose `remove()` ends that.

        Raises:
            GradError: the Tensor depends on nothing that requires a gradient; DtypeError: `hook` is no function.

        Example:
            >>> x = Tensor([1.0, 2.0], requires_grad=True)
            >>> y = x * x
            >>> handle = y.register_hook(lambda g: g * 10)
            >>> y.sum().backward()
            >>> x.grad
            tensor([20., 40.])
        """
        return Handle(self._hooks("register_hook"), checks.function("register_hook", "hook", hook))

    def retain_grad(self) -> None:
        """Let `backward` collect the gradient in `grad` though the Tensor is the result of an op; a leaf's is anyway.

        Raises:
            GradError: the Tensor depends on nothing that requires a gradient.

        Example:
            >>> x = Tensor([1.0, 2.0], requires_grad=True)
            >>> y = x * x
            >>> y.retain_grad()
            >>> y.sum().backward()
            >>> y.grad
            tensor([1., 1.])
        """
        if not self.is_leaf:
            self._hooks("retain_grad").retained = weakref.ref(self)
        elif not self.requires_grad:
            self._hooks("retain_grad")

    @property
    def retains_grad(self) -> bool:
        """Whether `retain_grad` was called on this result of an op."""
        return self.node is not None and self.node.hooks is not None and self.node.hooks.retained is not None

    def _hooks(self, who: str) -> Hooks:
        if not self.requires_grad:
            raise GradError(f"{who}: this Tensor does not depend on anything with requires_grad=True")
        place = place_of(self)
        if place is RECOMPUTED:     # inside a checkpoint, whose second run registers it where it counts
            return Hooks()
        if place.hooks is None:
            place.hooks = Hooks()
        found: Hooks = place.hooks
        return found


def _as_arrays(value: Any) -> Any:
    """`value` with the arrays of all Tensors in its tuples, lists and dicts."""
    if isinstance(value, TensorBase):
        return value.array
    if type(value) in (tuple, list):
        return type(value)(_as_arrays(v) for v in value)
    return {k: _as_arrays(v) for k, v in value.items()} if type(value) is dict else value
