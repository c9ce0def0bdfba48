"""Elements taken and written by index, as PyTorch means it, against NumPy; what functions of shapes and indices refuse."""

from __future__ import annotations

import numpy as np
import pytest

import tinyml
from tinyml.errors import DtypeError, GradError, ShapeError
from tinyml.tensors import Tensor
from tinyml.testing import gradcheck

X = np.random.default_rng(0).standard_normal((3, 4, 5))
MASK = np.random.default_rng(1).random((3, 4)) > 0.5
AT, J = np.array([0, 2, 2]), np.array([[1, 0], [3, -1]])

# an index, and the same elements by NumPy, which takes integers beside arrays for arrays
INDICES = {
    "an integer": (1, lambda x: x[1]), "integers": ((1, -1, 2), lambda x: x[1, -1, 2]),
    "a slice": (slice(1, None), lambda x: x[1:]),
    "nothing": ((), lambda x: x), "an ellipsis": ((..., 0), lambda x: x[..., 0]),
    "new dimensions": ((None, slice(None), None, 1), lambda x: x[None, :, None, 1]),
    "steps": ((slice(None, None, 2), slice(3, None, -2)), lambda x: x[::2, 3::-2]),
    "an array": (AT, lambda x: x[AT]), "a list": ([0, 2, 2], lambda x: x[AT]),
    "lists": ([[1, 0], [2, -1]], lambda x: x[np.array([[1, 0], [2, -1]])]),
    "a Tensor": (Tensor(AT), lambda x: x[AT]), "a Tensor of no dimensions": (Tensor(2), lambda x: x[2]),
    "an array in the middle": ((slice(None), J), lambda x: x[:, J]),
    "arrays side by side": ((slice(None), AT, AT), lambda x: x[:, AT, AT]),
    "arrays apart": ((AT, slice(None), AT), lambda x: x[AT, :, AT]),
    "arrays that broadcast": ((AT[:, None], J[0]), lambda x: x[AT[:, None], J[0]]),
    "an integer before": ((1, slice(None), AT), lambda x: x[1][:, AT]),
    "an integer behind": ((slice(None), J, 1), lambda x: x[..., 1][:, J]),
    "an integer between": ((AT, 1, AT), lambda x: x[:, 1][AT, AT]),
    "an array and a slice": ((AT, slice(1, 3)), lambda x: x[AT, 1:3]),
    "an array and a new dimension": ((None, AT), lambda x: x[None, AT]),
    "a mask": (X > 0, lambda x: x[X > 0]), "a mask of some dimensions": (Tensor(MASK), lambda x: x[MASK]),
    "a mask and an integer": ((MASK, 2), lambda x: x[..., 2][MASK]),
    "an integer and a mask": ((1, slice(None), X[0, 0] > 0), lambda x: x[1][:, X[0, 0] > 0]),
    "a list of bools": ([True, False, True], lambda x: x[[0, 2]]),
    "a mask and an array": ((MASK, np.arange(MASK.sum()) % 5), lambda x: x[MASK, np.arange(MASK.sum()) % 5]),
    "True": (True, lambda x: x[None]), "False": (False, lambda x: x[None][:0]), "an empty list": ([], lambda x: x[:0]),
}
every_index = pytest.mark.parametrize("index, expected", INDICES.values(), ids=INDICES)
numbers = np.arange(X.size).reshape(X.shape)


@every_index
def test_elements_and_their_gradient(index, expected):
    x = Tensor(X, requires_grad=True)
    y = x[index]
    assert np.array_equal(y.numpy(), expected(X))
    cotangent = np.random.default_rng(2).standard_normal(y.shape)
    y.backward(cotangent)
    wanted = np.zeros(X.size)
    np.add.at(wanted, expected(numbers), cotangent)
    np.testing.assert_allclose(x.grad.numpy(), wanted.reshape(X.shape), rtol=1e-12)


@every_index
def test_elements_are_written(index, expected):
    value = np.random.default_rng(3).standard_normal(expected(X).shape)
    wanted = X.copy()
    wanted.reshape(-1)[expected(numbers)] = value
    x, noted = Tensor(X.copy()), Tensor(X, requires_grad=True)
    x[index] = Tensor(value)
    assert np.array_equal(x.numpy(), wanted)
    x[index] = 0.5
    assert (x[index].numpy() == 0.5).all()
    y, v = noted * 1, Tensor(value, requires_grad=True)
    y[index] = v
    assert np.array_equal(y.numpy(), wanted)
    cotangent = np.random.default_rng(4).standard_normal(X.shape)
    y.backward(cotangent)
    assert np.array_equal(v.grad.numpy(), expected(cotangent))
    cotangent.reshape(-1)[expected(numbers)] = 0
    assert np.array_equal(noted.grad.numpy(), cotangent)


@every_index
def test_elements_are_changed(index, expected):
    w = Tensor(X, requires_grad=True)
    x = w * 1
    x[index] += 1.0
    x[index] *= 2.0
    wanted, factor = X.copy(), np.ones(X.size)
    wanted.reshape(-1)[np.unique(expected(numbers))] += 1
    wanted.reshape(-1)[np.unique(expected(numbers))] *= 2
    factor[expected(numbers)] = 2
    np.testing.assert_allclose(x.numpy(), wanted)
    x.sum().backward()
    if np.unique(expected(numbers)).size == expected(numbers).size:
        assert np.array_equal(w.grad.numpy(), factor.reshape(X.shape))


# -- functions against NumPy ----------------------------------------------------------------------------------------------

ALONG = np.random.default_rng(5).integers(0, 4, (3, 6, 5))
FUNCTIONS = {
    "cat": (lambda x: tinyml.cat([x, x[:1], Tensor(np.zeros(0))], 0), lambda x: np.concatenate([x, x[:1]])),
    "stack": (lambda x: tinyml.stack([x, x * 2], 1), lambda x: np.stack([x, x * 2], 1)),
    "stack last": (lambda x: tinyml.stack((x, x), -1), lambda x: np.stack((x, x), -1)),
    "hstack": (lambda x: tinyml.hstack([x, x]), lambda x: np.hstack([x, x])),
    "vstack": (lambda x: tinyml.vstack([x[0, 0], x[0]]), lambda x: np.vstack([x[0, 0], x[0]])),
    "dstack": (lambda x: tinyml.dstack([x[0], x[1]]), lambda x: np.dstack([x[0], x[1]])),
    "column_stack": (lambda x: tinyml.column_stack([x[0, 0], x[0].T]), lambda x: np.column_stack([x[0, 0], x[0].T])),
    "repeat": (lambda x: x.repeat(2, 1, 2, 3), lambda x: np.tile(x, (2, 1, 2, 3))),
    "tile": (lambda x: x.tile(2), lambda x: np.tile(x, 2)),
    "repeat_interleave": (lambda x: x.repeat_interleave(2, 1), lambda x: np.repeat(x, 2, 1)),
    "repeat_interleave each": (lambda x: x.repeat_interleave(Tensor([2, 0, 1]), dim=0),
                               lambda x: np.repeat(x, [2, 0, 1], 0)),
    "flip": (lambda x: x.flip(0, -1), lambda x: np.flip(x, (0, -1))),
    "roll": (lambda x: x.roll((1, -2), (0, 2)), lambda x: np.roll(x, (1, -2), (0, 2))),
    "roll flat": (lambda x: x.roll(7), lambda x: np.roll(x, 7)),
    "rot90": (lambda x: x.rot90(3, (2, 0)), lambda x: np.rot90(x, 3, (2, 0))),
    "tril": (lambda x: x.tril(-1), lambda x: np.tril(x, -1)), "triu": (lambda x: x.triu(1), lambda x: np.triu(x, 1)),
    "diag": (lambda x: tinyml.diag(x[0], -1), lambda x: np.diag(x[0], -1)),
    "diag of a vector": (lambda x: x[0, 0].diag(2), lambda x: np.diag(x[0, 0], 2)),
    "diag_embed": (lambda x: x.diag_embed(1, 0, 2),
                   lambda x: np.stack([[np.diag(r, 1) for r in m] for m in x]).transpose(2, 0, 3, 1)),
    "diagonal": (lambda x: x.diagonal(1, 0, 2), lambda x: np.diagonal(x, 1, 0, 2)),
    "unfold": (lambda x: x.unfold(1, 3, 1), lambda x: np.lib.stride_tricks.sliding_window_view(x, 3, 1)),
    "gather": (lambda x: x.gather(1, Tensor(ALONG)), lambda x: np.take_along_axis(x, ALONG, 1)),
    "take_along_dim": (lambda x: x.take_along_dim(Tensor(ALONG[:1] - 4), 1),
                       lambda x: np.take_along_axis(x, ALONG[:1] - 4, 1)),
    "take": (lambda x: x.take(Tensor([[0, -1], [7, 7]])), lambda x: x.take([[0, -1], [7, 7]])),
    "index_select": (lambda x: x.index_select(1, Tensor([3, 0, 3])), lambda x: x[:, [3, 0, 3]]),
    "masked_select": (lambda x: x.masked_select(Tensor(MASK[..., None])), lambda x: x[MASK].reshape(-1)),
    "masked_fill": (lambda x: x.masked_fill(Tensor(MASK[..., None]), 2), lambda x: np.where(MASK[..., None], 2, x)),
    "masked_scatter": (lambda x: x.masked_scatter(Tensor(X > 0), x * 2), lambda x: masked(x, X > 0)),
    "index_fill": (lambda x: x.index_fill(0, Tensor([0, 0, 2]), x[0, 0, 0]),
                   lambda x: np.stack([x[1] * 0 + x[0, 0, 0], x[1], x[1] * 0 + x[0, 0, 0]])),
    "index_copy": (lambda x: x.index_copy(0, Tensor([2, 0]), x[:2] * 2), lambda x: np.stack([x[1] * 2, x[1], x[0] * 2])),
    "index_add": (lambda x: x.index_add(0, Tensor([2, 2]), x[:2], alpha=3),
                  lambda x: np.stack([x[0], x[1], x[2] + 3 * (x[0] + x[1])])),
    "scatter": (lambda x: x.scatter(0, Tensor([[[1, 0]]]), x[1:, :2] * 2), lambda x: put(x, 2 * x[1, 0])),
    "scatter_add": (lambda x: x.scatter(0, Tensor([[[1, 0]]]), x[1:, :2], reduce="add"),
                    lambda x: put(x, x[[1, 0], 0, [0, 1]] + x[1, 0, :2])),
    "index_put": (lambda x: x.index_put((Tensor([0, 2]), Tensor([1, 1])), x[1, :2]), lambda x: pairs(x, 0)),
    "index_put added": (lambda x: x.index_put((Tensor([0, 2, 0]), 1), x[1, 1], accumulate=True), lambda x: pairs(x, 1)),
}


def masked(x: np.ndarray, mask: np.ndarray) -> np.ndarray:
    y = x.copy()
    y[mask] = 2 * x.reshape(-1)[: mask.sum()]
    return y


def put(x: np.ndarray, values: np.ndarray) -> np.ndarray:
    y = x.copy()
    y[1, 0, 0], y[0, 0, 1] = values[:2]
    return y


def pairs(x: np.ndarray, added: int) -> np.ndarray:
    y = x.copy()
    if added:
        np.add.at(y[:, 1], [0, 2, 0], x[1, 1])
    else:
        y[[0, 2], 1] = x[1, :2]
    return y


@pytest.mark.parametrize("function, expected", FUNCTIONS.values(), ids=FUNCTIONS)
def test_functions_agree_with_numpy_and_their_gradient_with_differences(function, expected):
    np.testing.assert_allclose(function(Tensor(X)).numpy(), expected(X), rtol=1e-12)
    gradcheck(function, [X])
    whole = np.arange(60).reshape(X.shape)      # the dtype of integers stays
    y = function(Tensor(whole))
    assert np.array_equal(y.numpy(), expected(whole)) and y.dtype == np.int64


def test_parts_and_the_whole():
    x = Tensor(X)
    for parts in (x.split(2, 1), x.split([1, 3], 1), x.chunk(3, 1), x.tensor_split(3, 1), x.tensor_split((1, -1), 1)):
        assert isinstance(parts, tuple) and np.array_equal(tinyml.cat(parts, 1).numpy(), X)
    assert [p.shape[2] for p in x.chunk(4, -1)] == [2, 2, 1] and [p.shape[2] for p in x.tensor_split(4, -1)] == [2, 1, 1, 1]
    assert np.array_equal(tinyml.stack(x.unbind(1), 1).numpy(), X)
    assert [t.shape for t in tinyml.broadcast_tensors(x, Tensor([[1.0]]))] == [(3, 4, 5)] * 2
    assert [f(Tensor(1.0)).ndim for f in (tinyml.atleast_1d, tinyml.atleast_2d, tinyml.atleast_3d)] == [1, 2, 3]


def test_indices_of_what_is_not_zero():
    x = Tensor(MASK)
    for found in (x.nonzero(), x.argwhere()):
        assert np.array_equal(found.numpy(), np.argwhere(MASK))
    assert np.array_equal(Tensor(X)[x.nonzero(as_tuple=True)].numpy(), X[MASK])
    assert Tensor(2.0).nonzero().shape == (1, 0) and Tensor(2.0).nonzero(as_tuple=True)[0].shape == (1,)


def test_dtypes():
    assert tinyml.cat([Tensor([1]), Tensor([1.5])]).dtype == np.float32
    x = Tensor([1, 2])
    assert x.scatter(0, Tensor([0]), 2.5).tolist() == [2, 2]        # PyTorch cuts a number
    x[0] = 2.5
    assert x.tolist() == [2, 2]
    half = Tensor(X.astype(np.float16)).gather(1, Tensor(ALONG))
    assert half.dtype == np.float16


def test_codes():
    x = Tensor(X.astype(np.float32)).to_int8()
    for function in (lambda x: tinyml.cat([x, x]), lambda x: tinyml.stack([x, x]), lambda x: x.flip(0),
                     lambda x: x.roll(1, 0),
                     lambda x: x.repeat(1, 2, 1), lambda x: x[[0, 2], :, 1], lambda x: x[Tensor(MASK)], lambda x: x.rot90(),
                     lambda x: x.index_select(1, Tensor([3, 0])), lambda x: x.gather(1, Tensor(ALONG)),
                     lambda x: x.take(Tensor([7]))):
        assert np.array_equal(function(x).dequantize().numpy(), function(x.dequantize()).numpy())
    for function in (lambda x: x.masked_fill(Tensor(MASK[..., None]), 0.0), lambda x: x.scatter_add(0, Tensor([[[0]]]), x),
                     lambda x: x.triu(), lambda x: x.diag_embed(),
                     lambda x: tinyml.cat([x, x.dequantize().to_int8(scale=2.0)])):
        with pytest.raises(DtypeError, match=r"dequantize\(\)"):
            function(x)
    with pytest.raises(DtypeError, match=r"setitem: .* dequantize\(\)"):
        x[0] = 1.0


# -- what is refused -------------------------------------------------------------------------------------------------------

REFUSED = [
    (lambda x: x[3], r"getitem: index 3 is out of bounds .*shape \(3, 4, 5\)"),
    (lambda x: x[0, 0, 0, 0], "too many indices"),
    (lambda x: x[[0, 5]], "out of bounds"), (lambda x: x["a"], "getitem"), (lambda x: x[1.5], "getitem"),
    (lambda x: x[Tensor([True, False])], r"getitem: .*\(3, 4, 5\)"),
    (lambda x: x.narrow(0, 2, 2), r"narrow: dimension 0 of shape \(3, 4, 5\) has no 2 slices from 2 on"),
    (lambda x: x.select(3, 0), "select: dimension 3 of 3"),
    (lambda x: x.split([1, 1]), r"split: parts of \(1, 1\) do not fill dimension 0"),
    (lambda x: x.split(0), "split"), (lambda x: x.chunk(0), "chunk"), (lambda x: x.tensor_split(0), "tensor_split"),
    (lambda x: x.unflatten(1, (3, 2)), r"unflatten: dimension 1 .* cannot become \(3, 2\)"),
    (lambda x: x.flatten(2, 1), "flatten"),
    (lambda x: x.t(), "t: expected a matrix"), (lambda x: x.movedim((0, 1), 0), "movedim"),
    (lambda x: x.expand(2, 4, 5), "broadcast"),
    (lambda x: x.repeat(2), "repeat: expected a number for each dimension"), (lambda x: x.flip(0, 0), "flip"),
    (lambda x: x.roll((1, 2), 0), "roll: expected a shift for each"),
    (lambda x: x.roll((1, 2)), "roll: expected one shift"),
    (lambda x: x.rot90(1, (0, 0)), "rot90"), (lambda x: x.rot90(1, (0, 1, 2)), "rot90"),
    (lambda x: x[0, 0].tril(), "tril: expected a matrix"),
    (lambda x: tinyml.diag(x), "diag: expected a vector or a matrix"), (lambda x: x.diag_embed(0, 1, 1), "diag_embed"),
    (lambda x: x.diagonal(0, 1, 1), "diagonal"),
    (lambda x: x.unfold(1, 5, 1), r"unfold: windows of 5 .* dimension 1 of shape"),
    (lambda x: tinyml.cat([]), "cat: expected at least one"),
    (lambda x: tinyml.stack([x, x[0]]), r"stack: .* \(3, 4, 5\), \(4, 5\)"),
    (lambda x: tinyml.cat([x, x[0]]), r"concat: shapes"),
    (lambda x: tinyml.broadcast_tensors(x, x[:2]), "broadcast_tensors: shapes"),
    (lambda x: x.gather(0, Tensor([0])), r"gather: an index of shape \(1,\) does not fit"),
    (lambda x: x.gather(0, Tensor([[[3]]])), "from 0 to 2, got 3"),
    (lambda x: x.gather(0, Tensor([[[-1]]])), "from 0 to 2, got -1"),
    (lambda x: x.index_select(0, Tensor([[0]])), "one dimension"),
    (lambda x: x.index_select(0, Tensor([3])), "index_select: expected indices"),
    (lambda x: x.take(Tensor([60])), "to 59, got 60"),
    (lambda x: x.take_along_dim(Tensor([0]), 0), "take_along_dim"),
    (lambda x: x.masked_fill(Tensor(MASK), 0), r"where: shapes \(3, 4\)"),
    (lambda x: x.masked_fill(Tensor(X > 0), x), "masked_fill: expected one value"),
    (lambda x: x.scatter(0, Tensor([[[0, 0]]]), x[:1, :1, :1]), "scatter: an index .* source"),
    (lambda x: x.index_add(0, Tensor([0]), x), r"index_add: expected a source of shape \(1, 4, 5\)"),
    (lambda x: x.masked_scatter(Tensor(X > 9) == Tensor(False), x[0]), "masked_scatter: expected at least 60"),
    (lambda x: x.index_fill(0, Tensor([4]), 0.0), "expected indices"),
    (lambda x: x.repeat_interleave(Tensor([1, 2]), 0), "repeat_interleave"),
    (lambda x: x.scatter(0, Tensor([[[0]]]), 1.0, reduce="multiply"), "reduce"),
]


@pytest.mark.parametrize("call, message", REFUSED)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ShapeError, match=message):
        call(Tensor(X))


@pytest.mark.parametrize("call, message", [
    (lambda x: x.gather(0, Tensor([[[0.0]]])), "gather: expected an index of integers, got float32"),
    (lambda x: x.masked_fill(Tensor(AT), 0), "masked_fill: expected a mask of bools, got int64; compare it"),
    (lambda x: Tensor(AT).masked_fill(Tensor([True, False, True]), 0.5),
     r"masked_fill: values of float32 do not fit .* to\(\)"),
    (lambda x: tinyml.cat(x), "cat: expected tensors to be a list"), (lambda x: x.reshape("a"), "reshape"),
])
def test_wrong_dtypes_are_refused(call, message):
    with pytest.raises(DtypeError, match=message):
        call(Tensor(X))


def test_leaves_are_not_written():
    w = Tensor(X, requires_grad=True)
    for change in (lambda: w.masked_fill_(Tensor(X > 0), 0), lambda: w.index_fill_(0, Tensor([0]), 0), lambda: w[0].tril_(),
                   lambda: w.__setitem__(0, 1.0)):
        with pytest.raises(GradError, match="a leaf that requires a gradient"):
            change()
    with pytest.raises(ShapeError, match=r"setitem: .*value of shape \(3,\)"):
        (w * 1)[0] = Tensor(AT)


class Moves(tinyml.nn.Module):
    """Views, joins, indices and changes in place, as one forward."""

    def forward(self, x: Tensor) -> Tensor:
        a, b = (x * 2).chunk(2, 1)
        y = tinyml.stack([tinyml.cat([b, a.flip(1)], 1).roll(1, 1), x], 1).flatten(1).index_select(1, Tensor([0, 3, 5, 8]))
        y = y * 1
        y.unsqueeze_(1).squeeze_(1)
        y[:, 0] = 0.5
        y[:, 1:3] *= 2.0
        y.masked_fill_(y > 1, -1.0)
        return y.gather(1, Tensor([[1, 0]]).expand(len(y), -1)) + y.repeat(1, 2).unfold(1, 2, 2).select(2, 1)[:, :2]


def test_a_program_has_these_functions_for_any_batch():
    x = np.random.default_rng(6).standard_normal((5, 8)).astype(np.float32)
    program = Moves().compile(x[:2])
    assert np.array_equal(program(Tensor(x)).numpy(), Moves()(Tensor(x)).numpy())
