"""Tensors in other dtypes, off the tape, or with other memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from .. import checks
from ..arguments import check_device, is_device
from ..dtypes import BOOL, FLOAT16, FLOAT32, FLOAT64, FLOATS, INT8, INT32, INT64, NAME_OF, UINT8, as_dtype
from ..engine import refreshed
from ..errors import DtypeError, GradError
from ..quantized import dequantize_codes, quantize_array
from ..state import state
from .types import OPS, Tensor, TensorLike, apply

TYPES = {f"tinyml.{name}Tensor": kind for name, kind in {
    "Half": FLOAT16, "Float": FLOAT32, "Double": FLOAT64, "Char": INT8, "Int": INT32, "Long": INT64, "Byte": UINT8,
    "Bool": BOOL}.items()}


def of(array: np.ndarray) -> Tensor:
    """A Tensor of an ndarray that nothing else sees, without the checks of the constructor."""
    return apply.tensor._of(array)     # type: ignore


def detach(input: Tensor) -> Tensor:
    """The same elements, sharing their memory, off the tape.

    Example:
        >>> Tensor([1.0], requires_grad=True).detach().requires_grad
        False
    """
    refreshed(input).shared = True
    t = of(input.array)
    t.shared, t.quantized = True, input.quantized
    return t


def detach_(input: Tensor) -> Tensor:
    """Take the Tensor itself off the tape: it becomes a leaf without a gradient.

    Returns:
        The Tensor itself.

    Raises:
        GradError: it is a view, which stays part of its root; use detach().

    Example:
        >>> x = Tensor([1.0, 2.0], requires_grad=True).exp()
        >>> x.detach_().is_leaf
        True
    """
    if input.of_view is not None:
        raise GradError(f"detach_: this Tensor of shape {input.shape} is a view of another, as part of which it is on the "
                        "tape; use detach()")
    input.place(None, False)
    return input


def clone(input: Tensor) -> Tensor:
    """A copy of the elements, in memory of its own, on the tape.

    Returns:
        A Tensor of the same shape and dtype; its gradient is that of `input`.

    Example:
        >>> x = Tensor([1.0, 2.0])
        >>> y = x.clone()
        >>> y += 1
        >>> x
        tensor([1., 2.])
    """
    return apply(OPS["clone"], input)


def contiguous(input: Tensor) -> Tensor:
    """The elements in row-major memory: the Tensor itself where they are, else a copy."""
    return input if input.array.flags.c_contiguous else apply(OPS["clone"], input, order="C")


def requires_grad_(input: Tensor, requires_grad: bool = True) -> Tensor:
    """Switch collecting a gradient on or off, in place.

    Args:
        requires_grad: whether `backward` collects a gradient here from now on.

    Returns:
        The Tensor itself.

    Raises:
        GradError: the dtype is no float, or it is switched off for the result of an op.
    """
    input.requires_grad = checks.flag("requires_grad_", "requires_grad", requires_grad)
    return input


def to(input: Tensor, *args: Any, dtype: Any = None, device: Any = None, non_blocking: bool = False,
       copy: bool = False) -> Tensor:
    """The elements in another dtype.

    Args:
        args: the dtype, or a Tensor of it; "cpu", the one device there is; or the device and the dtype.
        dtype: a dtype, or its name. "int8" quantizes by the range of the elements (see `to_int8`).
        device: "cpu".
        non_blocking: of no account on one device.
        copy: whether to copy where nothing is to be converted.

    Returns:
        A Tensor of that dtype, on the tape; the Tensor itself where it has the dtype already.

    Raises:
        DtypeError: a dtype that no Tensor has, or another device; QuantizationError: an element that the dtype cannot
            represent.

    Example:
        >>> Tensor([1.5, 2.5]).to("int64")
        tensor([1, 2])
        >>> Tensor([1.0]).to("cpu", tinyml.float64).dtype
        dtype('float64')
    """
    flags = []
    for value in args:
        if isinstance(value, Tensor):
            dtype = value.dtype
        elif isinstance(value, bool):       # non_blocking, copy
            flags.append(value)
        elif is_device(value):
            device = value
        elif value is not None:
            dtype = as_dtype(value)
    check_device("to", device)
    found = input.dtype if dtype is None else as_dtype(dtype)
    if found == INT8 and not input.quantized:
        return to_int8(input)
    if found == input.dtype:
        return clone(input) if copy or flags[1:] == [True] else input
    if input.quantized:
        return to(dequantize(input), found)
    return apply(OPS["cast"], input, dtype=NAME_OF[found])


def cpu(input: Tensor) -> Tensor:
    """The Tensor itself: all are in this machine's memory."""
    return input


def as_float(input: Tensor) -> Tensor:
    """The elements as float32."""
    return to(input, FLOAT32)


def as_half(input: Tensor) -> Tensor:
    """The elements as float16."""
    return to(input, FLOAT16)


def as_double(input: Tensor) -> Tensor:
    """The elements as float64."""
    return to(input, FLOAT64)


def as_int(input: Tensor) -> Tensor:
    """The elements as int32, cut toward zero."""
    return to(input, INT32)


def as_long(input: Tensor) -> Tensor:
    """The elements as int64, cut toward zero."""
    return to(input, INT64)


def as_bool(input: Tensor) -> Tensor:
    """Whether each element differs from zero."""
    return to(input, BOOL)


def as_type(input: Tensor, dtype: DTypeLike | None = None, non_blocking: bool = False) -> Any:
    """The elements in another dtype, as `to` gives them; or, without one, the name of the Tensor's type.

    Args:
        dtype: a dtype, its name, or the name of a type, such as "tinyml.FloatTensor".
        non_blocking: of no account on one device.

    Returns:
        A Tensor of that dtype; or a string.

    Raises:
        DtypeError: a dtype that no Tensor has.

    Example:
        >>> Tensor([1.0, 2.0]).type()
        'tinyml.FloatTensor'
        >>> Tensor([1.0, 2.0]).type(tinyml.long)
        tensor([1, 2])
    """
    if dtype is None:
        return next(name for name, kind in TYPES.items() if kind == input.dtype)
    return to(input, dtype=TYPES.get(dtype, dtype) if isinstance(dtype, str) else dtype)


def type_as(input: Tensor, other: Tensor) -> Tensor:
    """The elements in the dtype of `other`.

    Args:
        other: a Tensor.

    Returns:
        A Tensor of that dtype.

    Raises:
        DtypeError: `other` is no Tensor.

    Example:
        >>> Tensor([1, 2]).type_as(Tensor([0.5]))
        tensor([1., 2.])
    """
    return to(input, checks.instance("type_as", "other", other, Tensor))


def to_fp16(input: Tensor) -> Tensor:
    """The elements as IEEE half precision, equation (12).

    Raises:
        QuantizationError: a finite element above 65504.
    """
    return to(input, FLOAT16)


def to_int8(input: Tensor, scale: TensorLike | None = None, zero_point: TensorLike | None = None,
            axis: int | None = None, group: int | None = None) -> Tensor:
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
        tensor([-1.0000,  0.0000,  0.5000])
    """
    if input.requires_grad and state.grad:
        raise GradError("to_int8: gradients do not flow through int8; use detach() or no_grad(), or train with "
                        "fake-quantization")
    if input.quantized:
        return to_int8(dequantize(input), scale, zero_point, axis, group)
    if input.dtype not in FLOATS:
        raise DtypeError(f"to_int8: expected a float dtype, got {input.dtype}")
    codes, quantized = quantize_array(input.array, scale, zero_point, axis, group)
    t = of(codes)
    t.quantized = quantized
    return t


def dequantize(input: Tensor) -> Tensor:
    """What int8 codes stand for: scale * (code - zero_point) in float32, equation (1). Floats come back as they are."""
    if input.quantized is None:
        return input
    return of(dequantize_codes(input.array, input.quantized))
