"""New Tensors: of data, sizes, ranges and random numbers, like others, and other elements in a Tensor's place."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinyml
from tinyml import Tensor, nn
from tinyml.dtypes import FLOATS, NAMES
from tinyml.errors import DtypeError, GradError, OutOfMemoryError, ShapeError, TraceError

DTYPES = [d for d in NAMES.values() if d != np.int8]
SIZED = {"zeros": np.zeros, "ones": np.ones, "empty": np.empty}
LIKE = ["zeros_like", "ones_like", "empty_like", "rand_like", "randn_like"]


def same(x: Tensor, expected: np.ndarray) -> None:
    assert x.dtype == expected.dtype and x.shape == expected.shape
    np.testing.assert_array_equal(x.numpy(), expected)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_values_are_those_of_numpy(dtype):
    for name, numpy in SIZED.items():
        x = getattr(tinyml, name)(2, 3, dtype=dtype)
        same(x, x.numpy() if name == "empty" else numpy((2, 3), dtype))
    same(tinyml.full((2, 0), 1, dtype=dtype), np.ones((2, 0), dtype))
    same(tinyml.full((), Tensor([1]), dtype=str(dtype)), np.ones((), dtype))
    for n, m in ((3, None), (2, 4), (4, 2), (0, 3)):
        same(tinyml.eye(n, m, dtype=dtype), np.eye(n, m, dtype=dtype))


def test_dtypes_are_chosen_as_pytorch_does():
    assert all(getattr(tinyml, name)(1).dtype == tinyml.float32 for name in [*SIZED, "rand", "randn"])
    for value, dtype in ((True, "bool"), (2, "int64"), (2.0, "float32"), (np.float64(2), "float32"), (np.int8(2), "int64")):
        assert tinyml.full((2,), value).dtype == dtype
    assert tinyml.tensor([1, 2]).dtype == tinyml.int64 and tinyml.tensor([True]).dtype == tinyml.bool
    assert tinyml.tensor([0.1]).dtype == tinyml.float and tinyml.tensor(np.zeros(1)).dtype == tinyml.double
    assert tinyml.tensor(0.1, dtype=tinyml.float64).item() == 0.1 == tinyml.as_tensor(0.1, tinyml.float64).item()
    assert tinyml.arange(3).dtype == tinyml.int64
    assert tinyml.arange(3.0).dtype == tinyml.linspace(0, 1, 2).dtype == tinyml.float32
    assert tinyml.randint(3, (1,)).dtype == tinyml.randperm(3).dtype == tinyml.tril_indices(2, 2).dtype == tinyml.long
    assert tinyml.normal(tinyml.zeros(2, dtype="float64"), 1).dtype == tinyml.normal(0, 1, (2,), dtype=float).dtype == float


def test_sizes_are_numbers_or_one_tuple():
    for name in [*SIZED, "rand", "randn"]:
        make = getattr(tinyml, name)
        sizes = [make(2, 3), make((2, 3)), make([2, 3]), make(size=(2, 3)), make(Tensor(2), np.int32(3))]
        assert {x.shape for x in sizes} == {(2, 3)} and make(()).shape == make().shape == () and make(0).shape == (0,)
        with pytest.raises(ShapeError, match=f"{name}: expected size .* at least 0, got -1"):
            make(2, -1)
        with pytest.raises(DtypeError, match=f"{name}: expected .* whole number"):
            make(2.5)
        with pytest.raises(OutOfMemoryError):
            make(2**30, 2**30)
        with pytest.raises(DtypeError, match=f"{name}: tinyml computes on one device, 'cpu', got 'cuda:0'"):
            make(2, device="cuda:0")
        x = make(2, device=tinyml.device("cpu"), requires_grad=True)
        x.sum().backward()
        assert x.grad.tolist() == [1, 1]
    x = tinyml.zeros(2, dtype=tinyml.int32)
    assert x.new_ones(2, 3).shape == x.new_zeros((2, 3)).shape == x.new_empty([2, 3]).shape == (2, 3)


def test_tensor_copies_and_the_others_share():
    array = np.arange(3, dtype=np.float32)
    x, y, z = tinyml.from_numpy(array), tinyml.as_tensor(array), tinyml.tensor(array)
    x += 1
    assert array.tolist() == y.tolist() == [1, 2, 3] and z.tolist() == [0, 1, 2]
    leaf = Tensor(array, requires_grad=True)
    assert tinyml.as_tensor(leaf) is leaf and tinyml.as_tensor(leaf, tinyml.double).requires_grad
    copy = tinyml.tensor(leaf * 2, requires_grad=True)
    assert copy.is_leaf and copy.requires_grad and tinyml.tensor(leaf).requires_grad is False
    assert not np.shares_memory(tinyml.tensor(leaf).numpy(), array)
    same(leaf.new_tensor([[1, 2]]), np.array([[1, 2]], np.float32))
    with pytest.raises(DtypeError, match=r"from_numpy: no Tensor can have the dtype uint16; tinyml.tensor\(array\)"):
        tinyml.from_numpy(np.zeros(2, np.uint16))
    with pytest.raises(DtypeError, match="expected array to be a ndarray, got"):
        tinyml.from_numpy([1.0])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_like_another(dtype):
    x = Tensor(np.ones((3, 2)).T.astype(dtype))
    for name in LIKE:
        if dtype not in FLOATS and name.startswith("rand"):
            with pytest.raises(DtypeError, match="expected dtype to be a float, got"):
                getattr(tinyml, name)(x)
            continue
        y, z = getattr(tinyml, name)(x), getattr(tinyml, name)(x, dtype=tinyml.float64)
        assert (y.dtype, y.shape, z.dtype, z.shape) == (dtype, (2, 3), np.float64, (2, 3))
    same(tinyml.zeros_like(x), np.zeros((2, 3), dtype))
    same(x.new_ones(2), np.ones(2, dtype))
    same(x.new_zeros(2, dtype="int32"), np.zeros(2, np.int32))
    same(tinyml.full_like(x, 1), np.ones((2, 3), dtype))
    same(x.new_full((2,), 1), np.ones(2, dtype))
    same(tinyml.randint_like(x, 1, 2), np.ones((2, 3), dtype))


def test_int8_needs_a_scale():
    q = Tensor([1.0, 2.0]).to_int8()
    for call in (lambda: tinyml.zeros(2, dtype=tinyml.int8), lambda: tinyml.ones_like(q), lambda: q.new_full((2,), 1),
                 lambda: tinyml.arange(3, dtype="int8"), lambda: q.clone().normal_(), lambda: q.clone().bernoulli_()):
        with pytest.raises(DtypeError, match=r"int8 codes need a scale; make floats, and quantize them by to_int8\(\)"):
            call()
    for change in (lambda: q.fill_(1), lambda: q.zero_(), lambda: q.copy_(q), lambda: tinyml.fill(q, 1)):
        with pytest.raises(DtypeError, match=r"got int8 codes; dequantize\(\) them first"):
            change()
    assert tinyml.normal(q, 0).tolist() == tinyml.zeros(2).copy_(q).tolist() == q.tolist()
    assert tinyml.zeros_like(q, dtype=tinyml.float32).tolist() == [0, 0]


whole = st.integers(-50, 50)
real = st.floats(-50, 50, allow_nan=False).filter(lambda v: abs(v) > 0.1)


@given(whole, whole, whole.filter(bool))
def test_arange_of_integers(start, end, step):
    if (end - start) * step < 0:
        with pytest.raises(ShapeError, match="arange: expected a step from"):
            tinyml.arange(start, end, step)
    else:
        same(tinyml.arange(start, end, step), np.arange(start, end, step, dtype=np.int64))


@given(real, real, st.floats(0.5, 9))
def test_arange_of_floats(start, end, step):
    step = step if end > start else -step
    x = tinyml.arange(start, end, step)
    assert x.numel() == np.ceil((end - start) / step) and x.dtype == tinyml.float32
    np.testing.assert_allclose(x.numpy(), start + step * np.arange(x.numel()), rtol=1e-6)


@given(real, real, st.integers(0, 40))
def test_linspace(start, end, steps):
    x = tinyml.linspace(start, end, steps)
    np.testing.assert_allclose(x.numpy(), np.linspace(start, end, steps), rtol=1e-5, atol=1e-5)
    assert steps < 2 or (x[0].item(), x[-1].item()) == (np.float32(start), np.float32(end))


@given(st.integers(0, 6), st.integers(0, 6), st.integers(-7, 7))
def test_triangles(rows, columns, offset):
    same(tinyml.tril_indices(rows, columns, offset), np.stack(np.tril_indices(rows, offset, columns)))
    same(tinyml.triu_indices(rows, columns, offset), np.stack(np.triu_indices(rows, offset, columns)))


@given(st.lists(st.integers(0, 4), min_size=1, max_size=4), st.sampled_from(["ij", "xy"]))
@settings(max_examples=50)
def test_meshgrid_is_made_of_views(sizes, indexing):
    xs = [Tensor(np.arange(n, dtype=np.float32), requires_grad=True) for n in sizes]
    for found in (tinyml.meshgrid(*xs, indexing=indexing), tinyml.meshgrid(xs, indexing=indexing)):
        for x, y, expected in zip(xs, found, np.meshgrid(*(x.numpy() for x in xs), indexing=indexing), strict=True):
            same(y.detach(), expected)
            assert not x.numel() or not y.numel() or np.shares_memory(x.numpy(), y.numpy())
            x.grad = None
            y.sum().backward()
            assert x.grad.tolist() == [y.numel() / max(x.numel(), 1)] * x.numel()


DRAWN = {
    "rand": lambda: tinyml.rand(1000), "randn": lambda: tinyml.randn(1000), "randint": lambda: tinyml.randint(5, (1000,)),
    "randperm": lambda: tinyml.randperm(1000), "normal": lambda: tinyml.normal(0, 1, (1000,)),
    "bernoulli": lambda: tinyml.bernoulli(tinyml.full((1000,), 0.5)), "normal_": lambda: tinyml.zeros(1000).normal_(),
    "multinomial": lambda: tinyml.ones(1000).multinomial(50), "uniform_": lambda: tinyml.zeros(1000).uniform_(),
    "bernoulli_": lambda: tinyml.zeros(1000).bernoulli_(), "half": lambda: tinyml.rand(1000, dtype=tinyml.half)}


@pytest.mark.parametrize("name", DRAWN)
def test_one_seed_repeats_every_draw(name):
    tinyml.manual_seed(3)
    first, second = DRAWN[name]().numpy(), DRAWN[name]().numpy()
    tinyml.manual_seed(3)
    assert np.array_equal(first, DRAWN[name]().numpy()) and not np.array_equal(first, second)


def test_draws_have_the_distribution_that_they_say():
    """Means of 40,000 draws, each within five of its standard deviations, and ranges."""
    tinyml.manual_seed(0)
    n = 40_000
    for dtype in FLOATS:
        for x, mean, deviation in (
                (tinyml.rand(n, dtype=dtype), 0.5, 12**-0.5), (tinyml.randn(n, dtype=dtype), 0, 1),
                (tinyml.normal(3, 2, (n,), dtype=dtype), 3, 2), (tinyml.zeros(n, dtype=dtype).normal_(-1, 0.5), -1, 0.5),
                (tinyml.zeros(n, dtype=dtype).uniform_(-1, 3), 1, 4 * 12**-0.5),
                (tinyml.randint(2, 7, (n,), dtype=dtype), 4, 2**0.5),
                (tinyml.bernoulli(tinyml.full((n,), 0.25, dtype=dtype)), 0.25, 0.1875**0.5)):
            values = x.numpy().astype(np.float64)
            assert x.dtype == dtype and abs(values.mean() - mean) < 5 * deviation / n**0.5
            assert abs(values.std() - deviation) < 0.03 * deviation
        assert 0 <= tinyml.rand(n, dtype=dtype).numpy().min() <= tinyml.rand(n, dtype=dtype).numpy().max() < 1
    assert set(tinyml.randint(2, 5, (n,)).tolist()) == {2, 3, 4}
    assert sorted(tinyml.randperm(50).tolist()) == list(range(50))
    means, deviations = tinyml.arange(3.0).reshape(3, 1), tinyml.tensor([0.0, 1.0])
    x = tinyml.normal(means, deviations)
    assert x.shape == (3, 2) and x[:, 0].tolist() == [0, 1, 2] and x[:, 1].tolist() != [0, 1, 2]


def test_multinomial_draws_by_weight():
    tinyml.manual_seed(0)
    weights = tinyml.tensor([[1.0, 0.0, 3.0], [2.0, 2.0, 0.0]])
    x = weights.multinomial(20_000, replacement=True)
    assert x.shape == (2, 20_000) and x.dtype == tinyml.int64
    for row, odds in zip(x.numpy(), ([0.25, 0, 0.75], [0.5, 0.5, 0]), strict=True):
        np.testing.assert_allclose(np.bincount(row, minlength=3) / 20_000, odds, atol=5 * 0.5 / 20_000**0.5)
    assert all(sorted(row) in ([0, 2], [0, 1]) for row in weights.multinomial(2).tolist())
    first = [weights[0].multinomial(2)[0].item() for _ in range(400)]       # of the first draw the weights say the odds
    assert abs(first.count(2) / 400 - 0.75) < 5 * 0.75**0.5 * 0.25**0.5 / 20


def test_functions_take_what_becomes_a_tensor():
    assert tinyml.sum([1.0, 2.0]).item() == tinyml.sum(input=(1, 2)).item() == tinyml.numel(np.zeros(3)) == 3
    assert tinyml.unsqueeze(np.ones(2, np.float32), 0).shape == tinyml.zeros_like([[1, 2]]).shape == (1, 2)
    array = np.ones(2, np.float32)
    assert tinyml.zero_(array).numpy() is array and array.tolist() == [0, 0]
    for call in (lambda: tinyml.zeros_like(object()), lambda: tinyml.clone(input="x"), lambda: tinyml.exp(np.array([None])),
                 lambda: tinyml.ones(2) + np.array([None])):
        with pytest.raises(DtypeError, match=r"expected (one of float16, float32|a Tensor, an array or a number)"):
            call()


BAD = {
    "multinomial: 3 cannot be drawn of a row with 2 weights above 0; replacement=True":
        (ShapeError, lambda: tinyml.tensor([1.0, 0.0, 3.0]).multinomial(3)),
    "multinomial: expected a row or a matrix of finite weights": (ShapeError, lambda: tinyml.tensor([-1.0]).multinomial(1)),
    "bernoulli: expected probabilities from 0 to 1, got 0 to 2": (ShapeError, lambda: tinyml.tensor([0.0, 2]).bernoulli()),
    "bernoulli: expected input to be an array of floats": (DtypeError, lambda: tinyml.tensor([1]).bernoulli()),
    "normal: expected std to be at least 0, got -1": (ShapeError, lambda: tinyml.normal(0, -1, (2,))),
    r"normal: shapes \(2,\) of mean and \(3,\) of std do not": (ShapeError, lambda: tinyml.normal(np.ones(2), np.ones(3))),
    "randint: expected high to be a whole number": (ShapeError, lambda: tinyml.randint(5, 5, (2,))),
    "randint: expected high to be .* to 256, got 300": (ShapeError, lambda: tinyml.randint(300, (2,), dtype="uint8")),
    "randint: expected size to be a whole number of at least 0, got None": (DtypeError, lambda: tinyml.randint(5)),
    "uniform_: expected high to be": (ShapeError, lambda: tinyml.zeros(2).uniform_(1, 0)),
    "full: expected fill_value to be a number, got 'one'": (DtypeError, lambda: tinyml.full((2,), "one")),
    "expected a number that fits int64, got nan": (ShapeError, lambda: tinyml.full((2,), float("nan"), dtype="int64")),
    "expected a number that fits int64, got 1e": (ShapeError, lambda: tinyml.full_like(tinyml.arange(2), 10.0**30)),
    r"item\(\): expected one element": (ShapeError, lambda: tinyml.full((2,), tinyml.ones(2))),
    "arange: expected a step from 0 toward 3, got 0": (ShapeError, lambda: tinyml.arange(0, 3, 0)),
    "arange: expected end to be": (DtypeError, lambda: tinyml.arange(0, "3")),
    "linspace: expected steps to be": (ShapeError, lambda: tinyml.linspace(0, 1, -1)),
    "tril_indices: expected row to be": (ShapeError, lambda: tinyml.tril_indices(-1, 2)),
    r"meshgrid: expected Tensors of at most one dimension, got \[\]": (ShapeError, tinyml.meshgrid),
    "meshgrid: expected indexing to be one of 'ij', 'xy'": (ShapeError, lambda: tinyml.meshgrid([1], indexing="ji")),
    "fill: expected a number, or a Tensor without dimensions": (ShapeError, lambda: tinyml.zeros(2).fill_(tinyml.ones(2))),
    "copy_: could not broadcast": (ShapeError, lambda: tinyml.zeros(2).copy_(tinyml.ones(3))),
    "requires_grad: expected a float dtype, got int64": (GradError, lambda: tinyml.arange(3, requires_grad=True)),
    "computes on one device, 'cpu', got 'cuda'": (DtypeError, lambda: tinyml.zeros_like(tinyml.ones(1), device="cuda")),
}


@pytest.mark.parametrize("message", BAD)
def test_errors_say_what_was_expected(message):
    error, call = BAD[message]
    with pytest.raises(error, match=message):
        call()


FILLS = [("fill_", (2,), 2), ("zero_", (), 0), ("copy_", (tinyml.full((2,), 2.0),), 2), ("normal_", (2, 0), 2),
         ("uniform_", (2, 2), 2), ("bernoulli_", (1,), 1), ("bernoulli_", (tinyml.ones(2),), 1)]


@pytest.mark.parametrize(("name", "args", "value"), FILLS)
def test_fills_write_where_the_elements_are(name, args, value):
    base = tinyml.full((3, 2), 7.0)
    row = base[1]
    assert getattr(row, name)(*args) is row
    assert base.tolist() == [[7, 7], [value, value], [7, 7]]
    leaf = tinyml.ones(2, requires_grad=True)
    with pytest.raises(GradError, match=f"{name}: a leaf that requires a gradient cannot change on the tape"):
        getattr(leaf, name)(*args)
    with tinyml.no_grad():
        assert getattr(leaf, name)(*args).tolist() == [value, value] and leaf.requires_grad
    y = leaf * 3
    getattr(y, name)(*args)
    (y * y).sum().backward()
    assert leaf.grad.tolist() == [0, 0]


def test_gradients_flow_to_what_is_written():
    x, value = tinyml.ones(2, 2, requires_grad=True), tinyml.tensor(3.0, requires_grad=True)
    src = tinyml.ones(2, requires_grad=True)
    (tinyml.fill(x, value).sum() + (x * 1).fill_(value).sum() + (x * 1).copy_(src).sum()).backward()
    assert value.grad.item() == 8 and src.grad.tolist() == [2, 2] and x.grad.tolist() == [[0, 0], [0, 0]]
    assert tinyml.tensor([1, 2]).copy_(Tensor([1.7, -1.7])).tolist() == [1, -1]


class Grid(nn.Module):
    """A forward that makes Tensors by the shape and dtype of its input."""

    def forward(self, x):
        rows, columns = tinyml.meshgrid(tinyml.arange(2.0), tinyml.linspace(0, 1, 3), indexing="ij")
        grid = (rows * columns + tinyml.eye(2, 3)).reshape(6)
        return x * grid + tinyml.zeros_like(x) + tinyml.full_like(x, 2) + x.new_ones(x.shape[0], 6) + tinyml.fill(x, 1.0)


def test_traced_models_make_tensors():
    model = Grid()
    x = np.linspace(-1, 1, 30, dtype=np.float32).reshape(5, 6)
    plan = model.compile(x[:2])
    for rows in (x, x[:1]):
        np.testing.assert_allclose(plan(rows).numpy(), model(Tensor(rows)).numpy(), rtol=1e-6)

    class Noise(nn.Module):
        def forward(self, x):
            return x + tinyml.randn_like(x)

    with pytest.raises(TraceError, match="constant whose values differ between two runs"):
        Noise().compile(x)


def test_views_of_like_tensors_are_their_own():
    x = tinyml.ones(2, 3)
    for name, t in itertools.product(LIKE, (x, x.T)):
        assert not np.shares_memory(getattr(tinyml, name)(t).numpy(), x.numpy())
