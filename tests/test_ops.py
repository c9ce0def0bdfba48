"""Every registered op over its own samples: gradients, precisions, memory layouts, dtypes; and values at their ends.

A new op is tested here with no further line; its wrong shapes need a row in test_ops_shapes.py.
"""

from __future__ import annotations

import numpy as np
import pytest

from tinyml.errors import DtypeError, GradError
from tinyml.tape import no_grad
from tinyml.tensors import FLOATS, OPS, Tensor, apply
from tinyml.testing import check_op

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
    if not OPS[name].differentiable:
        assert not out.requires_grad
        return [out.numpy()]
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


@pytest.mark.parametrize("name", [n for n in NAMES if OPS[n].differentiable and not OPS[n].surrogate])
def test_gradients_are_those_of_central_differences(name):
    assert check_op(name) >= 1


@every_op
def test_float32_agrees_with_float64(name):
    # float64 runs on reference/, float32 on the compiled kernels: forward and backward are checked at once
    for single, double in zip(samples(name), samples(name, np.float64), strict=True):
        got = run(name, *single)
        assert got[0].dtype == np.float32 or name == "cast" or not OPS[name].differentiable
        assert_close(got, run(name, *double), 1e-5, f"{name} {single[2]}")


@every_op
def test_float16_is_computed_in_float32(name):
    for halves, wanted, attrs in samples(name, np.float16):
        rounded = [x.astype(np.float32) if isinstance(x, np.ndarray) and x.dtype == np.float16 else x for x in halves]
        expected = run(name, rounded, wanted, attrs)
        got = run(name, halves, wanted, attrs)
        if name == "cast":
            assert got[0].dtype == attrs["dtype"]
        elif not OPS[name].differentiable:
            assert got[0].dtype == expected[0].dtype
            continue
        else:
            only_stored = all(i in OPS[name].stored for i, x in enumerate(halves) if x is not None and x.dtype in FLOATS)
            assert got[0].dtype == (np.float32 if only_stored else np.float16)     # a table of weights, and ids
        assert_close([a.astype(np.float32) for a in got], expected, 1e-3, f"{name} {attrs}")
        # one float32 operand among them makes it float32, one float64 makes it float64, or is refused by layers
        for wide in (np.float32, np.float64):
            positions = [i for i, x in enumerate(halves) if isinstance(x, np.ndarray) and x.dtype == np.float16 and x.ndim]
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


@pytest.mark.parametrize("name", [n for n in NAMES if OPS[n].differentiable])
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
            if op.any_dtype and i not in op.integer_operands:
                whole = np.nan_to_num(x, posinf=9, neginf=-9).astype(np.int64)
                operands = [whole if j == i else v for j, v in enumerate(inputs)]
                out = apply(op, *(None if v is None else Tensor(v) for v in operands), **attrs)
                assert out.dtype == (attrs["dtype"] if name == "cast" else np.int64) or not op.differentiable
                continue
            if op.promotes and i not in op.integer_operands:
                operands = [np.abs(np.nan_to_num(v, posinf=9, neginf=-9)).astype(np.int64) + 1 if v.dtype.kind == "f" else v
                            for v in inputs]
                out = apply(op, *map(Tensor, operands), **attrs)
                assert out.dtype == {"numbers": np.int64, "floats": np.float32}[op.promotes] or not op.differentiable
                continue
            wrong = x.astype(np.float32) if i in op.integer_operands else x.astype(np.int64)
            with pytest.raises(DtypeError, match=f"^{name}: operand {i + 1} is {wrong.dtype}, expected"):
                apply(op, *(wrong if j == i else v for j, v in enumerate(inputs)), **attrs)


TAKING = ("gather", "index_select")       # take codes by an index, which is an operand
PRODUCTS = ("linear", "matmul", "conv2d", "embedding")      # have integer forms of their own: test_tensor_int8_products.py


@pytest.mark.parametrize("name", [n for n in NAMES if n not in PRODUCTS])
def test_int8_passes_through_or_is_refused_by_name(name):
    op = OPS[name]
    for inputs, wanted, attrs in samples(name):
        first = next((i for i, w in enumerate(wanted) if w), None)
        if first is None or not np.isfinite(inputs[first]).all():
            continue
        x = Tensor(inputs[first]).to_int8()
        operands = [x if i == first else v for i, v in enumerate(inputs)]
        if not op.differentiable:
            expected = apply(op, *(x.dequantize() if i == first else v for i, v in enumerate(inputs)), **attrs)
            assert np.array_equal(apply(op, *operands, **attrs).numpy(), expected.numpy())
            continue
        if name in TAKING:
            expected = apply(op, *(x.dequantize() if i == first else v for i, v in enumerate(inputs)), **attrs)
            assert np.array_equal(apply(op, *operands, **attrs).dequantize().numpy(), expected.numpy())
            continue
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


# ---- values


def test_a_loss_without_targets_is_nan_and_has_no_gradient():
    logits = Tensor(np.ones((2, 3), np.float32), requires_grad=True)
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


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_bounds_beyond_a_dtype_are_infinite_in_it(dtype):
    """Without a warning of NumPy's, which the suite would raise."""
    x = Tensor(np.array([-2.0, 0.0, 3.0], dtype), requires_grad=True)
    y = x.clip(-1e300, 1e300)
    y.sum().backward()
    assert np.array_equal(y.numpy(), x.numpy()) and (x.grad.numpy() == 1).all()
