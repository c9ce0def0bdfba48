"""Optimizers, schedules and clipping: against PyTorch's numbers, states saved and loaded, wrong arguments."""

from __future__ import annotations

import copy
import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from make_optim_parity import FOLDER, ONE_CYCLES, OPTIMIZERS, SHAPES, STEPS, gradient, initial
from make_optim_parity import optim as torch_numbers

from tinyml import nn, optim
from tinyml._kernels import dispatch
from tinyml.errors import DtypeError, NonFiniteError, ShapeError
from tinyml.tensor import Tensor

EXPECTED = dict(np.load(FOLDER / "optim.npz"))


def parameters(*arrays):
    return [nn.Parameter(np.array(a, np.float32)) for a in arrays]


def with_gradients(ps, grads):
    for p, g in zip(ps, grads, strict=True):
        p.grad = None if g is None else Tensor(np.array(g))
    return ps


def make(name, ps):
    kind, options = OPTIMIZERS[name]
    return getattr(optim, kind)(ps, **options)


def run(optimizer, steps):
    for step in steps:
        with_gradients(optimizer.parameters, gradient(step))
        optimizer.step()


def values(optimizer):
    return [p.numpy().copy() for p in optimizer.parameters]


# ---- optimizers


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_updates_are_pytorchs(name):
    optimizer = make(name, parameters(*initial()))
    arrays = [p.data for p in optimizer.parameters]
    for step in range(STEPS):
        if step == 6:
            optimizer.lr *= 0.5
        run(optimizer, [step])
        for i in range(len(SHAPES)):
            if step in (0, STEPS - 1):
                np.testing.assert_allclose(arrays[i], EXPECTED[f"{name}/{step}/{i}"], rtol=2e-6, atol=2e-6)
    assert all(p.data is a and a.dtype == np.float32 for p, a in zip(optimizer.parameters, arrays, strict=True))


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
    assert not strided.data.flags.c_contiguous
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
            a.data = a.data.copy()                                  # rebound
            b.data = np.ascontiguousarray(b.data[::-1])[::-1]       # reversed
            room = np.empty(7 + 4, np.float32)[2:9]
            room[...] = rest[0].data
            rest[0].data = room                                     # part of another array
            record["b"] = rest[1].data
            rest[1].data = record["b"]                              # strides that are no whole elements
            rest[2].data = np.asfortranarray(rest[2].data)
        if step == 2:
            moved = copy.deepcopy(moved)
        if step == 3:
            moved = pickle.loads(pickle.dumps(moved))
        if step == 4:
            moved.parameters[5].data = moved.parameters[5].data.astype(np.float64)
        if step == 5:       # another optimizer over the same parameters
            state, moved = moved.state_dict(), make(name, moved.parameters)
            moved.parameters[5].data = moved.parameters[5].data.astype(np.float32)
            moved = make(name, moved.parameters)
            moved.load_state_dict(state)
        grads = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
        with_gradients(usual.parameters, grads)
        with_gradients(moved.parameters, [np.asfortranarray(g) for g in grads])
        held = [p.data for p in moved.parameters]
        usual.step()
        moved.step()
        for x, y, array in zip(usual.parameters, moved.parameters, held, strict=True):
            assert y.data is array
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


def test_a_parameter_of_another_size_is_an_error():
    (p,) = parameters([1.0, 2.0])
    optimizer = optim.SGD([p], lr=0.1)
    p.data = np.ones(3, np.float32)
    with_gradients([p], [np.ones(3, np.float32)])
    with pytest.raises(ShapeError, match=r"expected parameter 0 to keep its 2 elements, got shape \(3,\)"):
        optimizer.step()


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


def test_a_gradient_of_another_shape_is_an_error():
    (p,) = with_gradients(parameters([1.0, 2.0]), [np.ones(3, np.float32)])
    with pytest.raises(ShapeError, match=r"SGD: expected a gradient of shape \(2,\) for parameter 0, got \(3,\)"):
        optim.SGD([p], lr=0.1).step()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_loaded_state_continues_to_the_bit(name):
    whole = make(name, parameters(*initial()))
    run(whole, range(4))
    whole.lr = 0.007
    state, middle = whole.state_dict(), values(whole)
    run(whole, range(4, 9))
    continued = make(name, parameters(*middle))
    continued.load_state_dict(state)
    run(continued, range(4, 9))
    assert continued.lr == 0.007
    for a, b in zip(values(whole), values(continued), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_state_is_a_copy_in_both_directions():
    a, b = (make("adam", parameters(*initial())) for _ in range(2))
    run(a, range(2))
    state = a.state_dict()
    kept = {key: np.array(value) for key, value in state.items()}
    b.load_state_dict(state)
    run(a, [2])
    run(b, [2])
    for key, value in state.items():
        np.testing.assert_array_equal(value, kept[key])


def test_a_wrong_state_is_named_entry_by_entry_and_not_loaded():
    source = make("adam", parameters(*initial()))
    run(source, range(3))
    target = make("adam", parameters(*initial()))
    run(target, range(1))
    before = target.state_dict()
    wrong = source.state_dict()
    wrong["exp_avg.0"] = np.zeros((4, 3), np.float32)
    del wrong["exp_avg_sq.1"]
    wrong["momentum_buffer.2"] = np.zeros(1)
    with pytest.raises(ShapeError, match=r"load_state_dict of Adam: 3 problems") as caught:
        target.load_state_dict(wrong)
    for part in ("missing exp_avg_sq.1", "unexpected momentum_buffer.2", "exp_avg.0 has shape (4, 3), expected (3, 4)"):
        assert part in str(caught.value)
    after = target.state_dict()
    assert all(np.array_equal(after[key], before[key]) for key in before) and after.keys() == before.keys()
    with pytest.raises(ShapeError, match="expected the state of 3 parameters, got 1"):
        target.load_state_dict(optim.Adam(parameters([1.0])).state_dict())
    with pytest.raises(ShapeError, match=r"unexpected exp_avg\.0"):
        make("sgd_momentum", parameters(*initial())).load_state_dict(source.state_dict())


def test_wrong_parameters_are_errors():
    p = nn.Parameter(np.ones(2, np.float32))
    int8 = Tensor(np.ones(2, np.float32)).to_int8()
    for wrong, error, message in [
        ([], ShapeError, "at least one Parameter, got an empty list"),
        ([np.ones(2)], DtypeError, "got ndarray at position 0"),
        ([p, nn.ReLU()], DtypeError, r"got ReLU at position 1; pass model\.parameters\(\)"),
        (nn.Linear(2, 2), DtypeError, r"got Linear; pass model\.parameters\(\)"),
        (p, DtypeError, "expected a list of Parameters, got Parameter"),
        ([int8], DtypeError, r"expected float32 Parameters, got int8 at position 0 \(shape \(2,\)\)"),
        ([nn.Parameter(np.ones(2, np.float16))], DtypeError, "got float16 at position 0"),
        ([p, nn.Parameter(np.ones(3, np.float32)), p], ShapeError, "the same one at positions 0 and 2"),
        ([p * 2], ShapeError, "got the result of mul at position 0"),
    ]:
        for make_one in (lambda ps: optim.SGD(ps, lr=0.1), optim.Adam, optim.AdamW):
            with pytest.raises(error, match=message):
                make_one(wrong)


@pytest.mark.parametrize(("kind", "options"), [
    ("SGD", {"lr": -0.1}), ("SGD", {"lr": math.nan}), ("SGD", {"lr": math.inf}), ("SGD", {"lr": 0.1, "momentum": -1}),
    ("SGD", {"lr": 0.1, "weight_decay": -1}), ("SGD", {"lr": 0.1, "nesterov": True}),
    *[(kind, options) for kind in ("Adam", "AdamW") for options in (
        {"lr": -1}, {"betas": (0.9, 1.0)}, {"betas": (-0.1, 0.9)}, {"eps": -1e-8}, {"weight_decay": -0.1})]])
def test_hyperparameters_out_of_range_are_errors(kind, options):
    with pytest.raises(ShapeError, match=kind):
        getattr(optim, kind)(parameters([1.0]), **options)


@pytest.mark.parametrize(("kind", "options"), [
    ("SGD", {"lr": "0.1"}), ("Adam", {"betas": 0.9}), ("AdamW", {"eps": None})])
def test_hyperparameters_that_are_no_numbers_are_errors(kind, options):
    with pytest.raises(DtypeError, match=kind):
        getattr(optim, kind)(parameters([1.0]), **options)


# ---- schedules


def optimizer(lr=0.25):
    return optim.SGD(parameters([1.0]), lr)


def rates(make_schedule, steps):
    opt = optimizer()
    schedule = make_schedule(opt)
    found = [opt.lr]
    for _ in range(steps):
        schedule.step()
        found.append(opt.lr)
    return found


@pytest.mark.parametrize("name", ONE_CYCLES)
def test_one_cycle_is_pytorchs(name):
    options = ONE_CYCLES[name]
    found = rates(lambda o: optim.OneCycleLR(o, **options), options["total_steps"])
    np.testing.assert_allclose(found, EXPECTED[f"one_cycle/{name}"], rtol=1e-12, atol=1e-15)


def test_cosine_and_warmup_are_pytorchs():
    cosine = rates(lambda o: optim.CosineAnnealingLR(o, 20, 0.01), 20)
    warmup = rates(lambda o: optim.LinearWarmup(o, 5), 8)
    np.testing.assert_allclose(cosine, EXPECTED["cosine"], rtol=1e-12)
    np.testing.assert_allclose(warmup, EXPECTED["warmup"], rtol=1e-12)


def test_cosine_after_warmup():
    found = rates(lambda o: optim.CosineAnnealingLR(o, 14, min_lr=0.05, warmup_steps=4), 20)
    np.testing.assert_allclose(found[:5], [0.0625, 0.125, 0.1875, 0.25, 0.25])
    assert found[9] == pytest.approx(0.15) and found[14:] == [0.05] * 7
    assert found[4:] == sorted(found[4:], reverse=True)


def test_one_cycle_of_a_one_step_rise_starts_at_the_peak():
    found = rates(lambda o: optim.OneCycleLR(o, 1.0, 10, pct_start=0.1), 10)     # PyTorch divides by zero here
    assert found[0] == 1.0 and found[9] == pytest.approx(1 / 25 / 1e4)


def test_one_cycle_ends_with_an_error_and_changes_nothing():
    opt = optimizer()
    schedule = optim.OneCycleLR(opt, 1.0, 3)
    for _ in range(3):
        schedule.step()
    last = opt.lr
    with pytest.raises(ShapeError, match="at most total_steps = 3 steps, got step 4"):
        schedule.step()
    assert opt.lr == last and schedule.state_dict() == {"steps": 3, "base_lr": 1.0}


@pytest.mark.parametrize("make_schedule", [
    lambda o: optim.CosineAnnealingLR(o, 9, 0.01, warmup_steps=3), lambda o: optim.OneCycleLR(o, 0.5, 9),
    lambda o: optim.LinearWarmup(o, 6)])
def test_a_loaded_schedule_continues(make_schedule):
    opt, other = optimizer(), optimizer()
    whole = make_schedule(opt)
    for _ in range(4):
        whole.step()
    other.lr = 0.17     # as a resumed run has it: the optimizer's lr is not where the schedule began
    continued = make_schedule(other)
    continued.load_state_dict(whole.state_dict())
    assert other.lr == opt.lr
    for _ in range(4):
        whole.step()
        continued.step()
        assert other.lr == opt.lr


def test_wrong_schedules_are_errors():
    opt = optimizer()
    for make_one, error, message in [
        (lambda: optim.LinearWarmup(opt, 0), ShapeError, "LinearWarmup steps: .* at least 1, got 0"),
        (lambda: optim.LinearWarmup(opt, 2.5), DtypeError, "expected a whole number, got float"),
        (lambda: optim.LinearWarmup([], 2), DtypeError, "LinearWarmup: expected an Optimizer, got list"),
        (lambda: optim.CosineAnnealingLR(None, 2), DtypeError, "expected an Optimizer, got NoneType"),
        (lambda: optim.CosineAnnealingLR(opt, 5, warmup_steps=5), ShapeError, "below total_steps, got 5 and 5"),
        (lambda: optim.CosineAnnealingLR(opt, 5, min_lr=0.3), ShapeError, "at most the optimizer's lr 0.25, got 0.3"),
        (lambda: optim.CosineAnnealingLR(opt, 5, warmup_steps=-1), ShapeError, "at least 0, got -1"),
        (lambda: optim.OneCycleLR(opt, -1, 5), ShapeError, "OneCycleLR max_lr"),
        (lambda: optim.OneCycleLR(opt, 1, 0), ShapeError, "OneCycleLR total_steps"),
        (lambda: optim.OneCycleLR(opt, 1, 5, pct_start=1.0), ShapeError, "OneCycleLR pct_start"),
        (lambda: optim.OneCycleLR(opt, 1, 5, div_factor=0), ShapeError, "div_factor and final_div_factor above 0"),
        (lambda: optim.OneCycleLR(opt, 1, 5).load_state_dict({"steps": 6, "base_lr": 1.0}), ShapeError, "got step 6"),
        (lambda: optim.LinearWarmup(opt, 5).load_state_dict({"steps": 1}), ShapeError, "steps and base_lr, got steps"),
    ]:
        with pytest.raises(error, match=message):
            make_one()


# ---- clipping


def test_clipping_is_pytorchs():
    ps = with_gradients(parameters(*initial()), gradient(0))
    assert optim.clip_grad_norm_(ps, 1.5) == pytest.approx(float(EXPECTED["clip/norm"]), rel=1e-6)
    for i, p in enumerate(ps):
        np.testing.assert_allclose(p.grad.numpy(), EXPECTED[f"clip/{i}"], rtol=1e-6)


@settings(max_examples=40)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=4), st.floats(1e-3, 1e3), st.integers(0, 2**32 - 1))
def test_the_norm_after_clipping_is_at_most_max_norm(sizes, max_norm, seed):
    rng = np.random.default_rng(seed)
    grads = [rng.standard_normal(n).astype(np.float32) * 10 for n in sizes]
    ps = with_gradients([nn.Parameter(np.zeros(n, np.float32)) for n in sizes], grads)
    before = float(np.linalg.norm(np.concatenate(grads).astype(np.float64)))
    assert optim.clip_grad_norm_(ps, max_norm) == pytest.approx(before, rel=1e-12)
    after = np.concatenate([p.grad.numpy() for p in ps])
    assert np.linalg.norm(after) <= max_norm * (1 + 1e-5)
    if before < max_norm - 1e-5:
        np.testing.assert_array_equal(after, np.concatenate(grads))


def test_a_norm_just_at_max_norm_is_scaled_as_pytorch_does():
    (p,) = with_gradients(parameters([0.0]), [np.array([1e-4], np.float32)])
    optim.clip_grad_norm_([p], 1e-4)
    assert p.grad.item() == pytest.approx(1e-4 * 1e-4 / (1e-4 + 1e-6), rel=1e-5)


def test_clipping_in_the_step_is_clipping_before_it():
    ends = []
    for inside in (True, False):
        ps = with_gradients(parameters(*initial()), gradient(0))
        optimizer = optim.AdamW(ps, lr=0.1)
        if inside:
            optimizer.step(min(1, 0.5 / (optim.grad_norm(ps) + 1e-6)))
        else:
            optim.clip_grad_norm_(ps, 0.5)
            optimizer.step()
        ends.append([p.numpy().tobytes() for p in ps])
    assert ends[0] == ends[1]


def test_clipping_measures_what_float32_squares_cannot_hold():
    (p,) = with_gradients(parameters([0.0, 0.0]), [np.array([3e30, 4e30], np.float32)])
    assert optim.clip_grad_norm_([p], math.inf) == pytest.approx(5e30)
    np.testing.assert_array_equal(p.grad.numpy(), np.array([3e30, 4e30], np.float32))
    optim.clip_grad_norm_([p], 10.0)
    np.testing.assert_allclose(p.grad.numpy(), [6, 8], rtol=1e-6)


def test_the_norm_depends_on_no_number_of_threads():
    grads = [np.random.default_rng(n).standard_normal(n).astype(np.float32) for n in (200_000, 3, 70_000)]
    ps = with_gradients(parameters(*grads), grads)
    norms = []
    for threads in (1, 2, 3):
        dispatch.set_num_threads(threads)
        norms.append(optim.grad_norm(ps))
    assert norms[0] == norms[1] == norms[2] == pytest.approx(math.sqrt(sum((g.astype(float) ** 2).sum() for g in grads)))


def test_clipping_without_gradients_is_zero():
    assert optim.clip_grad_norm_(parameters([1.0]), 1.0) == 0.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_gradient_that_is_not_finite_is_an_error_and_nothing_is_scaled(bad):
    ps = with_gradients(parameters([0.0, 0.0], [0.0]), [np.array([30, 40], np.float32), np.array([bad], np.float32)])
    with pytest.raises(NonFiniteError, match=r"expected finite gradients, .* for parameter 1 of shape \(1,\)"):
        optim.clip_grad_norm_(ps, 1.0)
    np.testing.assert_array_equal(ps[0].grad.numpy(), [30, 40])


@pytest.mark.parametrize("max_norm", [0, -1, math.nan])
def test_a_max_norm_that_is_not_positive_is_an_error(max_norm):
    with pytest.raises(ShapeError, match="expected max_norm above 0"):
        optim.clip_grad_norm_(parameters([1.0]), max_norm)
