"""Optimizers: updates are PyTorch's, wherever parameters lie, of any size and dtype."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from make_optim_parity import OPTIMIZERS, SHAPES, STEPS, gradient, initial
from make_optim_parity import optim as torch_numbers
from optimizers import EXPECTED, make, parameters, run, values, with_gradients

from tinyml import nn, optim
from tinyml._kernels import dispatch
from tinyml.tensors import Tensor


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_updates_are_pytorchs(name):
    optimizer = make(name, parameters(*initial()))
    arrays = [p.array for p in optimizer.parameters]
    for step in range(STEPS):
        if step == 6:
            optimizer.lr *= 0.5
        run(optimizer, [step])
        for i in range(len(SHAPES)):
            if step in (0, STEPS - 1):
                np.testing.assert_allclose(arrays[i], EXPECTED[f"{name}/{step}/{i}"], rtol=2e-6, atol=2e-6)
    assert all(p.array is a and a.dtype == np.float32 for p, a in zip(optimizer.parameters, arrays, strict=True))


@pytest.mark.parity
def test_committed_numbers_are_pytorchs():
    torch = pytest.importorskip("torch", reason="PyTorch (extra [parity]) is not installed")
    fresh = torch_numbers(torch)
    assert fresh.keys() == EXPECTED.keys()
    for name, array in fresh.items():
        np.testing.assert_allclose(EXPECTED[name], array, rtol=1e-6, atol=1e-7, err_msg=name)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_large_and_strided_parameters_are_updated_as_small_ones(name):
    size = 2 * 4096 + 3
    rng = np.random.default_rng(0)
    start, grads = rng.standard_normal((2, 3, size), dtype=np.float32)
    strided = nn.Parameter(start.T.copy().T)
    assert not strided.array.flags.c_contiguous
    rows = parameters(*start)
    optimizers = [make(name, parameters(start)), make(name, [strided]), make(name, rows)]
    for _ in range(3):
        with_gradients(optimizers[0].parameters, [grads])
        with_gradients(optimizers[1].parameters, [grads])
        with_gradients(rows, grads)
        for optimizer in optimizers:
            optimizer.step()
    # rows end in other pieces than the whole: each element's arithmetic is its own, so nothing may differ
    np.testing.assert_array_equal(optimizers[0].parameters[0].numpy(), np.stack([p.numpy() for p in rows]))
    np.testing.assert_array_equal(strided.numpy(), np.stack([p.numpy() for p in rows]))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_parameters_may_lie_anywhere_and_move(name):
    """One optimizer over separate arrays, and one over memory of every kind that a user may put in their place."""
    rng = np.random.default_rng(0)
    shapes = [(4, 5), (300, 300), (7,), (6, 2), (3, 3), (2, 8)]
    start = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    usual = make(name, parameters(*start))
    moved = make(name, parameters(*start))
    record = np.zeros(6, [("a", "u1"), ("b", "<f4", 2)])
    for step in range(6):
        a, b, *rest = moved.parameters
        if step == 1:
            a.array = a.array.copy()                                  # rebound
            b.array = np.ascontiguousarray(b.array[::-1])[::-1]       # reversed
            room = np.empty(7 + 4, np.float32)[2:9]
            room[...] = rest[0].array
            rest[0].array = room                                     # part of another array
            record["b"] = rest[1].array
            rest[1].array = record["b"]                              # strides that are no whole elements
            rest[2].array = np.asfortranarray(rest[2].array)
        if step == 2:
            moved = copy.deepcopy(moved)
        if step == 3:
            moved = pickle.loads(pickle.dumps(moved))
        if step == 4:
            moved.parameters[5].array = moved.parameters[5].array.astype(np.float64)
        if step == 5:       # another optimizer over the same parameters
            state, moved = moved.state_dict(), make(name, moved.parameters)
            moved.parameters[5].array = moved.parameters[5].array.astype(np.float32)
            moved = make(name, moved.parameters)
            moved.load_state_dict(state)
        grads = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
        with_gradients(usual.parameters, grads)
        with_gradients(moved.parameters, [np.asfortranarray(g) for g in grads])
        held = [p.array for p in moved.parameters]
        usual.step()
        moved.step()
        for x, y, array in zip(usual.parameters, moved.parameters, held, strict=True):
            assert y.array is array
            np.testing.assert_array_equal(x.numpy(), array)


def test_parameters_over_one_array_are_updated_one_after_the_other():
    values, ends = np.random.default_rng(0).standard_normal((2, 200_000)).astype(np.float32), []
    for threads in (1, 2, 3):
        dispatch.set_num_threads(threads)
        array = values[0].copy()
        tied = [nn.Parameter(array), nn.Parameter(array[1000:])]
        optimizer = optim.SGD(with_gradients(tied, [values[1], values[1][1000:]]), lr=0.5)
        for _ in range(3):
            optimizer.step()
        ends.append(array)
    expected = values[0]
    for _ in range(3):
        expected = expected - values[1] * np.float32(0.5)
        expected[1000:] -= values[1][1000:] * np.float32(0.5)
    for array in ends:
        np.testing.assert_array_equal(array, expected)


def test_a_parameter_and_its_transpose_are_both_updated():
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    tied = [nn.Parameter(array.T), nn.Parameter(array)]
    optim.SGD(with_gradients(tied, [np.ones((3, 2), np.float32), np.ones((2, 3), np.float32)]), lr=0.5).step()
    np.testing.assert_array_equal(array, np.arange(6).reshape(2, 3) - 1)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_scale_is_that_of_all_gradients(name, dtype):
    (a, b), scale = ([make(name, [nn.Parameter(x.astype(dtype)) for x in initial()]) for _ in range(2)]), 0.37
    for step in range(3):
        grads = [None if g is None else g.astype(dtype) for g in gradient(step)]
        with_gradients(a.parameters, grads)
        with_gradients(b.parameters, [None if g is None else g * dtype(scale) for g in grads])
        a.step(scale)
        b.step()
    for x, y in zip(values(a), values(b), strict=True):
        assert x.dtype == dtype
        np.testing.assert_array_equal(x, y)


def test_parameters_of_two_dtypes_are_updated_by_the_same_formulas():
    def train(dtypes):
        ps = [nn.Parameter(x.astype(d)) for x, d in zip(initial(), dtypes, strict=True)]
        optimizer = optim.AdamW(ps, lr=0.1)
        for step in range(5):
            with_gradients(ps, [None if g is None else g.astype(d) for g, d in zip(gradient(step), dtypes, strict=True)])
            optimizer.step()
        return ps, optimizer

    mixed, optimizer = train([np.float32, np.float64, np.float32])
    for p, q in zip(mixed, train([np.float32] * 3)[0], strict=True):
        np.testing.assert_allclose(p.numpy(), q.numpy(), rtol=1e-5)
    continued = optim.AdamW(mixed)
    continued.load_state_dict(optimizer.state_dict())
    state = continued.state_dict()
    assert {k: np.asarray(v).tobytes() for k, v in state.items()} == {
        k: np.asarray(v).tobytes() for k, v in optimizer.state_dict().items()}


def test_an_optimizer_of_ones_own():
    class Sign(optim.Optimizer):
        """p -= lr sign(sum of the gradients)."""
        slots = ("total",)

        def update(self, step):
            for p, g, at in zip(step.p, step.g, step.at, strict=True):
                total = step.slots[0][at : at + p.size]
                total += step.scale * g
                p -= self.lr * np.sign(total)

    ps = parameters([[1.0, 2.0]], [3.0])
    optimizer = Sign(ps, lr=0.5)
    for g in (1, -3):
        with_gradients(ps, [np.full((1, 2), g, np.float32), np.float32([-g])])
        optimizer.step()
    assert ps[0].numpy().tolist() == [[1, 2]] and ps[1].numpy().tolist() == [3]
    np.testing.assert_array_equal(optimizer.state_dict()["total.0"], [[-2, -2]])


def test_a_parameter_without_gradient_is_left_alone():
    for name in OPTIMIZERS:
        used, unused = parameters([1.0, 2.0], [3.0])
        optimizer = make(name, [used, unused])
        with_gradients([used, unused], [np.ones(2, np.float32), None])
        optimizer.step()
        assert unused.numpy() == 3 and (used.numpy() != [1, 2]).all()
        assert not any(key.endswith(".1") for key in optimizer.state_dict())


def test_float64_parameters_stay_float64_and_scalars_and_empty_ones_work():
    ps = [nn.Parameter(np.full((2,), 0.1)), nn.Parameter(np.float64(2.0)), nn.Parameter(np.zeros((0, 3)))]
    optimizer = optim.AdamW(ps)
    for p in ps:
        p.grad = Tensor(np.ones(p.shape))
    optimizer.step()
    assert [p.dtype for p in ps] == [np.float64] * 3
    assert ps[1].numpy() == pytest.approx(2 * (1 - 1e-5) - 1e-3 / (1 + 1e-8), abs=1e-15)


def test_zero_grad_and_backward_through_a_layer():
    layer = nn.Linear(3, 2)
    optimizer = optim.SGD(layer.parameters(), lr=0.5)
    before = layer.weight.numpy().copy()
    x = np.ones((1, 3), np.float32)
    layer(x).sum().backward()
    optimizer.step()
    np.testing.assert_allclose(layer.weight.numpy(), before - 0.5, rtol=1e-6)
    optimizer.zero_grad()
    assert layer.weight.grad is None and layer.bias.grad is None
