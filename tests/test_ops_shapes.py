"""Shapes, attributes and values that ops refuse, each error by the name of its op.

A new op needs a row in WRONG, or its name in SHAPELESS if it takes any shape.
"""

from __future__ import annotations

import numpy as np
import pytest

from tinyml.errors import DtypeError, QuantizationError, ShapeError
from tinyml.tensors import OPS, Tensor, apply


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
    ("conv2d", (ones(1, 2, 5, 5), codes(4, 2), None), CONV, r"weight \(4, 2\)"),
    ("conv2d", (ones(1, 2, 5, 5), codes(4, 2, 3, 3, axis=0), None), {**CONV, "stride": (0, 1)}, "stride"),
    *((n, (ones(2, 5, 5),), POOL, r"expected input \(B, C, H, W\), got \(2, 5, 5\)") for n in POOLS),
    *((n, (ones(1, 2, 1, 5),), POOL, "does not fit input") for n in POOLS),
    *((n, (ones(1, 2, 5, 5),), {**POOL, "stride": (0, 1)}, r"stride .*got \(0, 1\)") for n in POOLS),
    *((n, (ones(1, 2, 5, 5),), {**POOL, "padding": (2, 0)}, r"padding \(2, 0\)") for n in POOLS),
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
    ("diagonal", (ones(2, 3),), {"offset": 0, "dim1": 0, "dim2": -2}, r"axis \(0, -2\)"),
    ("unfold", (ones(2, 3),), {"axis": 1, "size": 4, "step": 1}, r"windows of 4 elements.* dimension 1 of shape \(2, 3\)"),
    ("put", (ones(2, 3), ones(2)), {"path": (), "index": (0,)}, r"put: .*a value of shape \(2,\)"),
    *((n, (ones(2, 3), np.array([[2]])), {"axis": 0}, f"{n}: expected indices from .* to 1, got 2")
      for n in ("gather", "index_select")),
    *((n, (ones(2, 3), np.array([0]), ones()), {"axis": 0}, f"{n}: an index of shape") for n in ("scatter", "scatter_add")),
    *((n, (ones(2, 3), np.array([[0, 0]]), ones(1, 1)), {"axis": 0}, "needs a source") for n in ("scatter", "scatter_add")),
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
    ("power", (ones(2), ones(3)), {}, r"power: shapes \(2,\) and \(3,\) do not broadcast"),
    ("embedding", (np.array([0, 4]), ones(4, 2)), {}, r"ids in \[0, 4\), got 0 to 4"),
    ("embedding", (np.array([-1]), ones(4, 2)), {}, "got -1 to -1"),
    ("embedding", (np.array([0]), ones(4)), {}, r"weight \(rows, dim\), got \(4,\)"),
    ("embedding", (np.array([9]), codes(4, 2)), {}, r"ids in \[0, 4\)"),
    ("cross_entropy", (ones(2, 3), np.array([0])), {}, r"targets of shape \(2,\) for logits \(2, 3\)"),
    ("cross_entropy", (ones(3), np.array([0])), {}, r"targets of shape \(\) for logits \(3,\)"),
    ("cross_entropy", (ones(), np.array(0)), {}, "got a single number"),
    ("cross_entropy", (ones(2, 3, 5), np.zeros((2, 3), int)), {}, r"dimension 1: if they are last here, pass "
     r"logits.permute\(0, 2, 1\), or all positions as rows, logits.reshape\(-1, 5\) and targets.reshape\(-1\)"),
    ("cross_entropy", (ones(2, 3, 4, 5), np.zeros((2, 3, 4), int)), {}, r"logits.permute\(0, 3, 1, 2\)"),
    ("cross_entropy", (ones(2, 3), np.array([0, 3])), {}, r"targets in \[0, 3\).* got 3 at position 1"),
    ("cross_entropy", (ones(2, 0), np.array([0, 0])), {}, r"targets in \[0, 0\)"),
    ("bce_with_logits", (ones(2, 3), ones(3), None), {}, r"got \(2, 3\) and \(3,\)"),
    ("bce_with_logits", (ones(0), ones(0), None), {}, "non-empty"),
    ("bce_with_logits", (ones(2, 3), ones(2, 3), ones(2)), {}, r"shapes \(2,\) and \(2, 3\) do not broadcast"),
    ("bce_with_logits", (ones(3), ones(3), ones(2, 1)), {}, r"pos_weight to broadcast to \(3,\), got \(2, 1\)"),
    ("mse_loss", (ones(2, 3), ones(3)), {}, r"got \(2, 3\) and \(3,\)"),
    ("mse_loss", (ones(0), ones(0)), {}, "non-empty"),
    ("svdvals", (ones(3),), {}, r"a matrix or a batch of them, got shape \(3,\)"),
    ("searchsorted", (ones(2, 3), ones(3, 2)), {"right": False}, r"got shapes \(2, 3\) and \(3, 2\)"),
    ("bincount", (np.zeros((2, 2), int), None), {"least": 0}, r"got .*\(2, 2\)"),
    *((name, (ones(2, 3),), {"axis": 2, "keepdims": False}, "axis 2 does not fit a Tensor of 2 dimensions")
      for name in ("all", "any", "argmax", "argmin", "prod", "logsumexp")),
    *((name, (ones(2, 3),), {"axis": 2}, "axis 2 does not fit a Tensor of 2 dimensions")
      for name in ("cumsum", "cumprod", "argcummax", "argcummin", "argmode")),
    ("argkth", (ones(2, 3),), {"axis": 2, "k": 1}, "axis 2 does not fit a Tensor of 2 dimensions"),
    ("argsort", (ones(2, 3),), {"axis": 2, "descending": False, "k": None}, "axis 2 does not fit"),
    ("vector_norm", (ones(2, 3),), {"axis": 2, "keepdims": False, "ord": 2.0}, "axis 2 does not fit"),
    *((name, (ones(2), ones(3)), {}, r"shapes \(2,\) and \(3,\) do not broadcast")
      for name in ("atan2", "eq", "floor_divide", "fmod", "ge", "gt", "hypot", "le", "logaddexp", "logical_and",
                   "logical_or", "logical_xor", "lt", "ne", "remainder", "xlogy")),
    *((name, (np.ones(2, int), np.ones(3, int)), {}, r"shapes \(2,\) and \(3,\) do not broadcast")
      for name in ("bitwise_and", "bitwise_left_shift", "bitwise_or", "bitwise_right_shift", "bitwise_xor")),
    ("isclose", (ones(2), ones(3)), {"rtol": 0.0, "atol": 0.0}, r"shapes \(2,\) and \(3,\) do not broadcast"),
]
# ops that take an operand of any shape
SHAPELESS = {"abs", "acos", "acosh", "asin", "asinh", "atan", "atanh", "cast", "ceil", "clip", "clone", "cos", "cosh",
             "dropout", "erf", "exp", "exp2", "expm1", "floor", "gelu", "histc", "isfinite", "isin", "isinf", "isnan",
             "log", "log10", "log1p", "log2", "logical_not", "logit", "nan_to_num", "neg", "nonzero", "pow", "relu",
             "round", "sigmoid", "sign", "silu", "sin", "sinh", "sqrt", "tan", "tanh", "trunc"}


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
