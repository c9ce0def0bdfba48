"""Every registered op over its own samples: gradients, precisions, memory layouts, dtypes, and what it refuses.

A new op is tested here with no further line but one: its row among the wrong shapes, or in SHAPELESS if it takes any.
"""

from __future__ import annotations

import numpy as np
import pytest

import tinyml.ops
from tinyml.errors import DtypeError, GradError, QuantizationError, ShapeError
from tinyml.ops import Op
from tinyml.tape import no_grad
from tinyml.tensor import FLOATS, OPS, Tensor, apply
from tinyml.testing import check_op, gradcheck

NAMES = sorted(OPS)
every_op = pytest.mark.parametrize("name", NAMES)


def samples(name: str, dtype: type = np.float32, seed: int = 1):
    """(inputs, which are differentiated, attrs) of each sample; floats are float32 numbers, held as `dtype`."""
    for s in OPS[name].samples(np.random.default_rng(seed)):
        wanted = [isinstance(x, np.ndarray) and x.dtype == np.float64 for x in s.inputs]
        floats = [isinstance(x, np.ndarray) and x.dtype in FLOATS for x in s.inputs]
        inputs = [x.astype(np.float32).astype(dtype) if f else x for x, f in zip(s.inputs, floats, strict=True)]
        yield inputs, wanted, s.attrs


def run(name: str, inputs: list, wanted: list[bool], attrs: dict, seed: int = 0) -> list[np.ndarray]:
    """The result, then the gradients for a random cotangent."""
    operands = [None if x is None else Tensor(x, requires_grad=w) for x, w in zip(inputs, wanted, strict=True)]
    out = apply(OPS[name], *operands, **attrs)
    # numbers that every float dtype holds, so that float16 differs by its own rounding only
    out.backward(np.random.default_rng(seed).standard_normal(out.shape).astype(np.float16))
    for t, w in zip(operands, wanted, strict=True):
        assert not w or t.grad is not None, f"{name}: an operand got no gradient"
        assert not w or (t.grad.shape == t.shape and t.grad.dtype == t.dtype)
    return [out.numpy(), *(t.grad.numpy() for t, w in zip(operands, wanted, strict=True) if w)]


def assert_close(got: list, expected: list, tolerance: float, what: str) -> None:
    """Within `tolerance` of the value, or of 1, the size of the operands: differences of terms are off by that."""
    for i, (a, b) in enumerate(zip(got, expected, strict=True)):
        assert a.shape == b.shape, what
        close = np.isclose(a, b, tolerance, tolerance, equal_nan=True)
        assert close.all(), f"{what}, output {i} (0 the result): {a[~close][0]}, expected {b[~close][0]}"


# ---- gradients and precisions


@pytest.mark.parametrize("name", [n for n in NAMES if not OPS[n].surrogate])
def test_gradients_are_those_of_central_differences(name):
    assert check_op(name) >= 1


@every_op
def test_float32_agrees_with_float64(name):
    # float64 runs on reference/, float32 on the compiled kernels: forward and backward are checked at once
    for single, double in zip(samples(name), samples(name, np.float64), strict=True):
        got = run(name, *single)
        assert got[0].dtype == np.float32 or name == "cast"
        assert_close(got, run(name, *double), 1e-5, f"{name} {single[2]}")


@every_op
def test_float16_is_computed_in_float32(name):
    for halves, wanted, attrs in samples(name, np.float16):
        rounded = [x.astype(np.float32) if isinstance(x, np.ndarray) and x.dtype == np.float16 else x for x in halves]
        expected = run(name, rounded, wanted, attrs)
        got = run(name, halves, wanted, attrs)
        if name == "cast":
            assert got[0].dtype == attrs["dtype"]
        else:
            only_stored = all(i in OPS[name].stored for i, x in enumerate(halves) if x is not None and x.dtype in FLOATS)
            assert got[0].dtype == (np.float32 if only_stored else np.float16)     # a table of weights, and ids
        assert_close([a.astype(np.float32) for a in got], expected, 1e-3, f"{name} {attrs}")
        # one float32 operand among them makes it float32, one float64 makes it float64, or is refused by layers
        for wide in (np.float32, np.float64):
            positions = [i for i, x in enumerate(halves) if isinstance(x, np.ndarray) and x.dtype == np.float16]
            if len(positions) > 1:
                mixed = [x.astype(wide) if i == positions[-1] else x for i, x in enumerate(halves)]
                if wide is np.float64 and OPS[name].one_precision:
                    with pytest.raises(DtypeError, match=f"{name}: operands are float16 and float64"):
                        run(name, mixed, wanted, attrs)
                    continue
                got = run(name, mixed, wanted, attrs)
                assert got[0].dtype == wide
                assert_close([a.astype(np.float32) for a in got], expected, 1e-3, f"{name} {attrs} mixed")


# ---- memory layouts


def reversed_memory(x: np.ndarray) -> np.ndarray:
    return x[(slice(None, None, -1),) * x.ndim].copy()[(slice(None, None, -1),) * x.ndim]


def transposed_memory(x: np.ndarray) -> np.ndarray:
    return x.T.copy().T


def spread_memory(x: np.ndarray) -> np.ndarray:
    wide = np.zeros([2 * n + 1 for n in x.shape], x.dtype)
    view = wide[(slice(1, None, 2),) * x.ndim] if x.ndim else wide
    view[...] = x
    return view


def packed_memory(x: np.ndarray) -> np.ndarray:
    """A field of packed records: neither addresses nor strides are multiples of the element."""
    view = np.zeros(x.shape, [("before", np.uint8), ("x", x.dtype)])["x"]
    view[...] = x
    return view


@pytest.mark.parametrize("layout", [np.copy, reversed_memory, transposed_memory, spread_memory, packed_memory])
@every_op
def test_memory_layout_does_not_matter_and_is_not_written(name, layout):
    for inputs, wanted, attrs in samples(name):
        expected = run(name, inputs, wanted, attrs)
        moved = [layout(x) if isinstance(x, np.ndarray) else x for x in inputs]
        for x in moved:
            if isinstance(x, np.ndarray):
                x.flags.writeable = False
        before = [x.tobytes() if isinstance(x, np.ndarray) else None for x in moved]
        assert_close(run(name, moved, wanted, attrs), expected, 1e-6, f"{name} {attrs}")
        assert before == [x.tobytes() if isinstance(x, np.ndarray) else None for x in moved]


@every_op
def test_stretched_operands(name):
    """Memory with stride 0, as broadcast_to makes it, gives what a copy gives."""
    for inputs, wanted, attrs in samples(name):
        for axis in range(2):
            stretched = [np.broadcast_to(x.take([0], axis), x.shape)
                         if isinstance(x, np.ndarray) and x.ndim > axis and x.shape[axis] else x for x in inputs]
            copies = [x.copy() if isinstance(x, np.ndarray) else x for x in stretched]
            expected = run(name, copies, wanted, attrs)
            assert_close(run(name, stretched, wanted, attrs), expected, 1e-6, f"{name} {attrs}")


@every_op
def test_gradients_that_nobody_wants_are_not_needed(name):
    """Each operand alone on the tape gets the gradient it gets among the others."""
    for inputs, wanted, attrs in samples(name):
        together = run(name, inputs, wanted, attrs)
        which = [i for i, w in enumerate(wanted) if w]
        for nth, i in enumerate(which):
            alone = run(name, inputs, [j == i for j in range(len(inputs))], attrs)
            assert_close(alone, [together[0], together[1 + nth]], 1e-6, f"{name} {attrs}")
        with no_grad():
            off = apply(OPS[name], *(None if x is None else Tensor(x, requires_grad=w)
                                     for x, w in zip(inputs, wanted, strict=True)), **attrs)
        assert not off.requires_grad and (off.numpy() == together[0]).all()


# ---- dtypes


@every_op
def test_wrong_dtypes_are_refused_by_name(name):
    op = OPS[name]
    for inputs, _, attrs in samples(name):
        for i, x in enumerate(inputs):
            if x is None:
                continue
            if op.any_dtype:
                out = apply(op, *inputs[:i], Tensor(x.astype(np.int64)), **attrs)
                assert out.dtype == (attrs["dtype"] if name == "cast" else np.int64)
                continue
            wrong = x.astype(np.float32) if i in op.integer_operands else x.astype(np.int64)
            with pytest.raises(DtypeError, match=f"^{name}: operand {i + 1} is {wrong.dtype}, expected"):
                apply(op, *(wrong if j == i else v for j, v in enumerate(inputs)), **attrs)


PRODUCTS = ("linear", "matmul", "conv2d", "embedding")      # have integer forms of their own: test_tensor_int8_products.py


@every_op
def test_int8_passes_through_or_is_refused_by_name(name):
    op = OPS[name]
    assert op.int8 in ("codes", "table", "lower", None)
    if name in PRODUCTS:
        return
    for inputs, wanted, attrs in samples(name):
        first = next(i for i, w in enumerate(wanted) if w)
        x = Tensor(inputs[first]).to_int8()
        operands = [x if i == first else v for i, v in enumerate(inputs)]
        if op.int8 != "codes":
            with pytest.raises(DtypeError, match=rf"^{name}: not defined on int8; call dequantize\(\)"):
                apply(op, *operands, **attrs)
            continue
        out = apply(op, *operands, **attrs)
        assert (out.dtype, out.scale, out.zero_point, out.axis) == (np.int8, x.scale, x.zero_point, None)
        expected = apply(op, *(x.dequantize() if i == first else v for i, v in enumerate(inputs)), **attrs)
        assert (out.dequantize().numpy() == expected.numpy()).all()
        per_axis = Tensor(inputs[first]).to_int8(axis=0) if inputs[first].ndim else None
        if per_axis is not None:
            with pytest.raises(DtypeError, match=rf"^{name}: int8 with a scale per index of axis 0 .*dequantize\(\)"):
                apply(op, *(per_axis if i == first else v for i, v in enumerate(inputs)), **attrs)


@pytest.mark.parametrize("name", PRODUCTS)
def test_gradients_through_int8_are_refused(name):
    inputs, _, attrs = next(samples(name))
    weight = Tensor(inputs[1]).to_int8(axis=1 if name == "matmul" else 0)
    x = Tensor(inputs[0]) if name == "embedding" else Tensor(inputs[0], requires_grad=True)
    if name == "embedding":
        assert not apply(OPS[name], x, weight).requires_grad
        return
    with pytest.raises(GradError, match=f"^{name}: gradients do not flow through int8"):
        apply(OPS[name], x, weight, *([None] if len(inputs) > 2 else []), **attrs)


# ---- shapes and values


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def codes(*shape: int, axis: int | None = None) -> Tensor:
    return Tensor(ones(*shape)).to_int8(axis=axis)


CONV = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1}
POOL = {"size": (2, 2), "stride": (2, 2), "padding": (0, 0)}
POOLS = ("max_pool2d", "avg_pool2d")
REDUCTIONS = ("sum", "mean", "max", "min")
ALL = {"axis": None, "keepdims": False}
OUTSIDE = {"axis": 2, "keepdims": False}
TWICE = {"axis": (0, -2), "keepdims": False}

WRONG = [
    ("fake_quantize", (ones(2, 3), ones(3)), {}, r"expected a scale \(\) or \(2,\) for input \(2, 3\), got \(3,\)"),
    ("fake_quantize", (ones(), ones(1)), {}, r"expected a scale \(\) or \(\) for input \(\), got \(1,\)"),
    *((n, (ones(2, 3), ones(4)), {}, r"shapes \(2, 3\) and \(4,\) do not broadcast")
      for n in ("add", "sub", "mul", "div", "maximum", "minimum")),
    ("where", (np.ones(2, bool), ones(3), ones(1)), {}, r"shapes \(2,\), \(3,\) and \(1,\) do not broadcast"),
    ("matmul", (ones(2, 3), ones(4, 5)), {}, r"cannot multiply \(2, 3\) by \(4, 5\)"),
    ("matmul", (ones(3), ones(4)), {}, r"cannot multiply \(3,\) by \(4,\)"),
    ("matmul", (ones(), ones(4)), {}, r"cannot multiply \(\) by \(4,\)"),
    ("matmul", (ones(2, 3, 4), ones(3, 4, 5)), {}, r"leading dimensions of \(2, 3, 4\) and \(3, 4, 5\)"),
    ("matmul", (codes(2, 3), codes(4, 5)), {}, r"int8 expects .* got \(2, 3\) and \(4, 5\)"),
    ("matmul", (codes(3), codes(3, 5)), {}, r"int8 expects .* got \(3,\) and \(3, 5\)"),
    ("attention", (ones(3), ones(3), ones(3)), {}, r"expected q \(\.\.\., T, D\).* got q \(3,\), k \(3,\), v \(3,\)"),
    ("attention", (ones(2, 3), ones(2, 4), ones(2, 3)), {}, r"got q \(2, 3\), k \(2, 4\)"),
    ("attention", (ones(2, 3), ones(4, 3), ones(5, 3)), {}, r"k \(4, 3\), v \(5, 3\)"),
    ("attention", (ones(4, 3), ones(2, 3), ones(2, 3)), {"causal": True}, "at least as many keys as queries"),
    ("attention", (ones(2, 2, 3), ones(3, 2, 3), ones(2, 3)), {}, r"dimensions do not broadcast, got q \(2, 2, 3\)"),
    ("attention", (ones(2, 4, 3),), {}, r"expected \(3, \.\.\., T, D\) or three operands, got \(2, 4, 3\)"),
    ("attention", (ones(3, 4),), {}, r"got q \(4,\)"),
    ("attention", (ones(3, 2, 4), ones(2, 2, 4), ones(2, 2, 4)), {"kv_heads": 2}, r"with 2 heads.*got q \(3, 2, 4\)"),
    ("attention", (ones(4, 2, 4), ones(2, 2, 4), ones(1, 2, 4)), {"kv_heads": 2}, r"with 2 heads.*v \(1, 2, 4\)"),
    ("attention", (ones(0, 2, 4), ones(1, 2, 4), ones(1, 2, 4)), {"kv_heads": 1}, r"with 1 heads.*got q \(0, 2, 4\)"),
    ("attention", (ones(3, 4), ones(3, 4), ones(3, 4)), {"kv_heads": 3}, r"with 3 heads.*got q \(3, 4\)"),
    ("attention", (ones(2, 4, 2, 3), ones(3, 2, 2, 3), ones(2, 2, 3)), {"kv_heads": 2}, "dimensions do not broadcast"),
    ("attention", (ones(7, 2, 4),), {"kv_heads": 2}, r"multiple of them, got q \(3, 2, 4\)"),
    ("attention", (ones(5, 2, 4),), {"kv_heads": 2}, r"H \+ 2 kv_heads.* or three operands, got \(5, 2, 4\)"),
    ("rotary", (ones(4), ones(2), ones(2)), {}, r"x \(\.\.\., T, D\) with D even.* got x \(4,\), cos \(2,\)"),
    ("rotary", (ones(2, 3), ones(2, 1), ones(2, 1)), {}, r"D even.*got x \(2, 3\)"),
    ("rotary", (ones(2, 4), ones(1, 2), ones(1, 2)), {}, r"cos \(1, 2\)"),
    ("rotary", (ones(2, 4), ones(2, 2), ones(2, 1)), {}, r"sin \(2, 1\)"),
    ("rotary", (ones(2, 2, 4), ones(3, 2, 2), ones(3, 2, 2)), {}, r"got x \(2, 2, 4\), cos \(3, 2, 2\)"),
    ("rotary", (ones(2, 4), ones(1, 2, 2), ones(1, 2, 2)), {}, r"cos \(1, 2, 2\)"),
    ("rotary", (ones(2, 2, 4), ones(2, 2), ones(2, 2)), {"heads": 3}, "at least 3 heads"),
    ("rotary", (ones(2, 4), ones(2, 2), ones(2, 2)), {"heads": 0}, r"expected x \(\.\.\., H, T, D\)"),
    ("linear", (ones(2, 3), ones(5, 4), None), {}, r"expected input \(\.\.\., 4\).* got input \(2, 3\), bias None"),
    ("linear", (ones(2, 4), ones(5, 4), ones(4)), {}, r"bias \(5,\) for weight \(5, 4\), got .*bias \(4,\)"),
    ("linear", (ones(), ones(5, 4), None), {}, r"got input \(\)"),
    ("linear", (ones(2, 4), ones(), None), {}, r"weight \(\)"),
    ("linear_activation", (ones(2, 3), ones(5, 4), ones(5)), {"activation": "relu"}, r"got input \(2, 3\), bias \(5,\)"),
    ("linear", (ones(2, 3), codes(5, 4, axis=0), None), {}, r"expected input \(\.\.\., 4\)"),
    ("linear", (ones(2, 4), codes(5, 4, axis=0), ones(4)), {}, r"expected bias \(5,\), got \(4,\)"),
    ("conv2d", (ones(1, 2, 5, 5), ones(4, 3, 3, 3), None), CONV, r"input \(B, 3, H, W\).*got input \(1, 2, 5, 5\)"),
    ("conv2d", (ones(2, 5, 5), ones(4, 2, 3, 3), None), CONV, r"got input \(2, 5, 5\)"),
    ("conv2d", (ones(1, 2, 5, 5), ones(4, 2), None), CONV, r"weight \(4, 2\)"),
    ("conv2d", (ones(1, 2, 5, 5), ones(), None), CONV, r"weight \(\)"),
    ("conv2d", (ones(1, 2, 5, 5), ones(4, 2, 3, 3), ones(3)), CONV, r"bias \(3,\)"),
    ("conv2d", (ones(1, 4, 5, 5), ones(3, 2, 3, 3), None), {**CONV, "groups": 2}, "2 groups"),
    ("conv2d", (ones(1, 0, 5, 5), ones(3, 2, 3, 3), None), {**CONV, "groups": 0}, "groups"),
    ("conv2d", (ones(1, 2, 5, 5), ones(4, 2, 3, 3), None), {**CONV, "stride": (0, 1)}, "stride"),
    ("conv2d", (ones(1, 2, 5, 5), ones(4, 2, 3, 3), None), {**CONV, "dilation": (1, 0)}, "dilation"),
    ("conv2d", (ones(1, 2, 5, 5), ones(4, 2, 3, 3), None), {**CONV, "padding": (-1, 0)}, "padding"),
    ("conv2d", (ones(1, 2, 2, 5), ones(4, 2, 3, 3), None), CONV, r"window of \(3, 3\).* not fit input \(1, 2, 2, 5\)"),
    ("conv2d", (ones(1, 3, 5, 5), codes(4, 2, 3, 3, axis=0), None), CONV, r"2 input channels.*got \(1, 3, 5, 5\)"),
    ("conv2d", (ones(1, 2, 2, 5), codes(4, 2, 3, 3, axis=0), None), CONV, "does not fit input"),
    ("conv2d", (ones(1, 2, 5, 5), codes(4, 2), None), CONV, r"got \(4, 2\)"),
    ("conv2d", (ones(1, 2, 5, 5), codes(4, 2, 3, 3, axis=0), None), {**CONV, "stride": (0, 1)}, "stride"),
    *((n, (ones(2, 5, 5),), POOL, r"expected input \(B, C, H, W\), got \(2, 5, 5\)") for n in POOLS),
    *((n, (ones(1, 2, 1, 5),), POOL, "does not fit input") for n in POOLS),
    *((n, (ones(1, 2, 5, 5),), {**POOL, "stride": (0, 1)}, "stride 0") for n in POOLS),
    *((n, (ones(1, 2, 5, 5),), {**POOL, "padding": (2, 0)}, "padding 2") for n in POOLS),
    ("max_pool2d", (codes(1, 2, 1, 5),), POOL, "does not fit input"),
    ("adaptive_avg_pool2d", (ones(2, 5, 5),), {"outputs": (1, 1)}, r"got \(2, 5, 5\)"),
    ("adaptive_avg_pool2d", (ones(1, 2, 5, 5),), {"outputs": (0, 1)}, r"\(0, 1\)"),
    ("adaptive_avg_pool2d", (ones(1, 2, 0, 5),), {"outputs": (1, 1)}, r"got \(1, 2, 0, 5\)"),
    ("reshape", (ones(2, 3),), {"shape": (4, 2)}, r"6 elements of shape \(2, 3\) do not fit shape \(4, 2\)"),
    ("reshape", (ones(2, 3),), {"shape": (-1, -1)}, "do not fit"),
    ("reshape", (ones(2, 3),), {"shape": (-2, -3)}, "do not fit"),
    ("reshape", (ones(0, 3),), {"shape": (0, -1)}, "do not fit"),
    ("permute", (ones(2, 3),), {"order": (0, 0)}, r"each of 2 dimensions once, got \(0, 0\)"),
    ("permute", (ones(2, 3),), {"order": (0,)}, "each of 2 dimensions once"),
    ("permute", (ones(2, 3),), {"order": (0, 3)}, "each of 2 dimensions once"),
    ("broadcast_to", (ones(2, 3),), {"shape": (2, 4)}, r"\(2, 3\) does not broadcast to \(2, 4\)"),
    ("getitem", (ones(2, 3),), {"index": (2,)}, "out of bounds"),
    ("getitem", (ones(2, 3),), {"index": (0, 0, 0)}, "too many indices"),
    ("getitem", (ones(2, 3),), {"index": (np.array([0, 5]),)}, "out of bounds"),
    ("concat", (), {"axis": 0}, "at least one"),
    ("concat", (ones(2, 3), ones(2, 3)), {"axis": 2}, "axis 2"),
    ("concat", (ones(2, 3), ones(3, 3)), {"axis": 1}, r"\(2, 3\), \(3, 3\) differ in more than dimension 1"),
    ("concat", (ones(2, 3), ones(2)), {"axis": 1}, r"\(2, 3\), \(2,\)"),
    ("pad", (ones(2, 3),), {"widths": ((1, 1),), "value": 0.0}, "for each of 2 dimensions"),
    ("pad", (ones(2),), {"widths": ((-1, 1),), "value": 0.0}, ">= 0"),
    *((n, (ones(2, 3),), OUTSIDE, "axis 2 does not fit a Tensor of 2 dimensions") for n in REDUCTIONS),
    *((n, (ones(2, 3),), TWICE, r"axis \(0, -2\)") for n in REDUCTIONS),
    *((n, (ones(0, 3),), ALL, r"no elements along axis None .*\(0, 3\)") for n in ("mean", "max", "min")),
    *((n, (ones(2, 3),), {"axis": -3}, "axis -3") for n in ("softmax", "log_softmax")),
    ("layer_norm", (ones(), ones(1), ones(1)), {"eps": 1e-5}, "0-dimensional"),
    ("layer_norm", (ones(2, 3), ones(2), ones(3)), {"eps": 1e-5}, r"\(3,\) for input \(2, 3\), got \(2,\), \(3,\)"),
    ("rms_norm", (ones(), ones(1)), {"eps": 1e-5}, "0-dimensional"),
    ("rms_norm", (ones(2, 3), ones(2)), {"eps": 1e-5}, r"\(3,\) for input \(2, 3\), got \(2,\)"),
    ("batch_norm", (ones(3), ones(3), ones(3), None, None), {"eps": 1e-5}, r"or \(B, C, H, W\), got \(3,\)"),
    ("batch_norm", (ones(2, 3, 2, 2), ones(2), ones(3), None, None), {"eps": 1e-5}, r"of shape \(3,\)"),
    ("batch_norm", (ones(1, 3, 1, 1), ones(3), ones(3), None, None), {"eps": 1e-5}, "more than one value a channel"),
    ("batch_norm_relu", (ones(1, 3), ones(3), ones(3), None, None), {"eps": 1e-5}, "more than one value a channel"),
    ("batch_norm_eval", (ones(2, 3, 2, 2), ones(3), ones(3), ones(2), ones(3)), {"eps": 1e-5}, r"of shape \(3,\)"),
    ("embedding", (np.array([0, 4]), ones(4, 2)), {}, r"ids in \[0, 4\), got 0 to 4"),
    ("embedding", (np.array([-1]), ones(4, 2)), {}, "got -1 to -1"),
    ("embedding", (np.array([0]), ones(4)), {}, r"weight \(rows, dim\), got \(4,\)"),
    ("embedding", (np.array([9]), codes(4, 2)), {}, r"ids in \[0, 4\)"),
    ("cross_entropy", (ones(2, 3), np.array([0])), {}, r"targets of shape \(2,\) for logits \(2, 3\)"),
    ("cross_entropy", (ones(3), np.array(0)), {}, r"logits \(3,\)"),
    ("cross_entropy", (ones(2, 3), np.array([0, 3])), {}, r"targets in \[0, 3\).* got 3 at position 1"),
    ("cross_entropy", (ones(2, 0), np.array([0, 0])), {}, r"targets in \[0, 0\)"),
    ("bce_with_logits", (ones(2, 3), ones(3), None), {}, r"got \(2, 3\) and \(3,\)"),
    ("bce_with_logits", (ones(0), ones(0), None), {}, "non-empty"),
    ("bce_with_logits", (ones(2, 3), ones(2, 3), ones(2)), {}, r"shapes \(2,\) and \(2, 3\) do not broadcast"),
    ("bce_with_logits", (ones(3), ones(3), ones(2, 1)), {}, r"pos_weight to broadcast to \(3,\), got \(2, 1\)"),
    ("mse_loss", (ones(2, 3), ones(3)), {}, r"got \(2, 3\) and \(3,\)"),
    ("mse_loss", (ones(0), ones(0)), {}, "non-empty"),
]
# ops that take an operand of any shape
SHAPELESS = {"abs", "cast", "clip", "dropout", "exp", "gelu", "log", "neg", "pow", "relu", "round", "sigmoid", "silu",
             "sqrt", "tanh"}


@pytest.mark.parametrize("name, inputs, attrs, message", WRONG, ids=[f"{w[0]}-{i}" for i, w in enumerate(WRONG)])
def test_wrong_shapes_are_refused_by_name(name, inputs, attrs, message):
    with pytest.raises(ShapeError, match=message) as raised:
        apply(OPS[name], *inputs, **attrs)
    assert str(raised.value).startswith(f"{name.removesuffix('_eval')}: ")


def test_every_op_has_wrong_shapes_or_takes_any():
    assert set(OPS) == SHAPELESS | {name for name, *_ in WRONG}
    assert not SHAPELESS & {name for name, *_ in WRONG}


def test_values_that_ops_refuse():
    with pytest.raises(QuantizationError, match=r"cast: 1e\+06 does not fit float16"):
        Tensor([1e6]).to_fp16()
    assert np.isinf(Tensor([np.inf]).to_fp16().numpy()).all()
    with pytest.raises(DtypeError, match="cast: NaN or infinity cannot become int64"):
        Tensor([np.nan]).to("int64")
    for op, x, w, b in (("linear", ones(1, 2), ones(3, 2), None), ("conv2d", ones(1, 1, 1, 1), ones(1, 1, 1, 1), None)):
        with pytest.raises(DtypeError, match=f"^{op}: an output scale goes with int8"):
            apply(OPS[op], x, w, b, scale=1.0, **(CONV if op == "conv2d" else {}))
    with pytest.raises(DtypeError, match=r"^matmul: an output scale goes with int8"):
        apply(OPS["matmul"], ones(1, 2), ones(2, 1), scale=1.0)


def test_a_loss_without_targets_is_nan_and_has_no_gradient():
    logits = Tensor(ones(2, 3), requires_grad=True)
    loss = apply(OPS["cross_entropy"], logits, np.array([-100, -100]))
    loss.backward()
    assert np.isnan(loss.item()) and not logits.grad.numpy().any()


@pytest.mark.parametrize("name, attrs", [
    ("sigmoid", {}), ("tanh", {}), ("silu", {}), ("relu", {}), ("gelu", {"approximate": "none"}),
    ("gelu", {"approximate": "tanh"}), ("softmax", {"axis": 0}), ("log_softmax", {"axis": 0}), ("cross_entropy", {}),
    ("bce_with_logits", {}),
])
def test_large_values_do_not_overflow(name, attrs):
    x = np.array([-1e4, -100, -88, 0, 88, 100, 1e4], np.float32)
    inputs, wanted = ([x[None], np.array([2])], [True, False]) if name == "cross_entropy" else ([x], [True])
    if name == "bce_with_logits":
        inputs, wanted = [x, np.float32([0, 1, 0, 1, 0, 1, 0.5]), None], [True, True, False]
    got = run(name, inputs, wanted, attrs)
    assert all(np.isfinite(a).all() for a in got)
    assert_close(got, run(name, [inputs[0].astype(np.float64), *inputs[1:]], wanted, attrs), 1e-6, name)


def test_masked_logits():
    """Minus infinity, as attention masks with: no weight, no gradient, and no warning."""
    x = Tensor([[0.0, -np.inf, 1.0], [-np.inf, -np.inf, 3.0]], requires_grad=True)
    y = x.softmax()
    assert (y.numpy()[:, 1] == 0).all() and y.numpy()[1].tolist() == [0, 0, 1]
    y.backward(np.float32([[1, 2, 3], [4, 5, 6]]))
    assert np.isfinite(x.grad.numpy()).all() and (x.grad.numpy()[:, 1] == 0).all()


@pytest.mark.parametrize("name", ["max", "min", "maximum", "minimum"])
def test_equals_share_the_gradient(name):
    x, y = Tensor([2.0, 2.0, 2.0], requires_grad=True), Tensor([2.0, 2.0, 2.0], requires_grad=True)
    if name in ("max", "min"):
        apply(OPS[name], x, axis=None, keepdims=False).backward(6.0)
        assert x.grad.numpy().tolist() == [2, 2, 2]
    else:
        apply(OPS[name], x, y).backward([6, 6, 6])
        assert x.grad.numpy().tolist() == y.grad.numpy().tolist() == [3, 3, 3]


# ---- the checks themselves


def test_gradcheck_sees_a_wrong_gradient():
    """A backward of zeros, which sum().backward() would pass for a softmax, and one of the wrong shape."""
    before = dict(OPS)
    try:
        class Wrong(Op):
            name = "wrong"

            @staticmethod
            def forward(ctx, x):
                e = np.exp(x)
                return e / e.sum()

            @staticmethod
            def backward(ctx, grad):
                return (np.zeros_like(grad),)

            @staticmethod
            def samples(rng):
                yield tinyml.ops.sample(rng.standard_normal(4))

        assert OPS["wrong"] is Wrong
        with pytest.raises(AssertionError, match="gradient of input 0 differs from central differences"):
            check_op("wrong")
        with pytest.raises(AssertionError, match="depends on none"):
            gradcheck(lambda x: Tensor(x.numpy()), [np.ones(2)])
    finally:
        OPS.clear()
        OPS.update(before)


# ---- ops that a student gets wrong


@pytest.fixture
def registry():
    """The registry as it was, whatever a test defines."""
    before = dict(OPS)
    yield OPS
    OPS.clear()
    OPS.update(before)


def same(ctx, x):
    return x


@pytest.mark.parametrize("body, message", [
    ({"name": "half", "forward": staticmethod(same)}, "'half' .*: it defines no backward"),
    ({"name": "half"}, "it defines no forward and no backward"),
    ({"name": "half", "forward": same, "backward": same, "int8": "lower"}, "it defines no lower"),
    ({"name": "half", "forward": same, "backward": same, "int8": "tables"}, "int8 = 'tables' is no rule"),
    ({"name": "relu", "forward": same, "backward": same}, r"'relu': tinyml\.ops\.pointwise\.ReLU has this name already"),
])
def test_a_class_that_is_no_op_is_refused(registry, body, message):
    before = dict(registry)
    with pytest.raises(TypeError, match=message):
        type("Half", (Op,), body)
    assert registry == before


def test_an_op_may_be_defined_again(registry):
    for factor in (2, 3):
        class Times(Op):
            name = "times"
            factor = 0

            @staticmethod
            def forward(ctx, x):
                return x * Times.factor

            @staticmethod
            def backward(ctx, grad):
                return (grad * Times.factor,)

        Times.factor = factor
        assert apply(registry["times"], Tensor([1.0])).item() == factor
    with pytest.raises(AssertionError, match="times has no samples"):
        check_op("times")


@pytest.mark.parametrize("backward, message", [
    (lambda ctx, g: g, "half: backward returned a ndarray, expected a tuple of 1"),
    (lambda ctx, g: (g, None), "half: backward returned a tuple of 2, expected a tuple of 1"),
    (lambda ctx, g: (g.sum(axis=0),), r"half: got a gradient of shape \(2,\) for an operand of shape \(2, 2\)"),
    (lambda ctx, g: (g.reshape(4),), r"half: got a gradient of shape \(4,\) for an operand of shape \(2, 2\)"),
    (lambda ctx, g: (g[None, :, :1],), r"half: got a gradient of shape \(1, 2, 1\) for an operand of shape \(2, 2\)"),
])
def test_a_backward_that_returns_something_else_is_named(registry, backward, message):
    half = type("Half", (Op,), {"name": "half", "forward": staticmethod(same), "backward": staticmethod(backward)})
    y = apply(half, Tensor(np.ones((2, 2)), requires_grad=True))
    with pytest.raises(GradError, match=message):
        y.backward(np.ones((2, 2)))
