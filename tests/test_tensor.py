"""Tensor: the tape, dtypes, int8 codes, and everything that is NumPy's with gradients."""

from __future__ import annotations

import gc
import math
import operator
import threading
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tinyml import tape
from tinyml._kernels import memory
from tinyml.errors import DtypeError, GradError, QuantizationError, ShapeError
from tinyml.ops import Op
from tinyml.tape import no_grad, record, unbroadcast
from tinyml.tensor import OPS, Tensor, apply, call
from tinyml.testing import gradcheck


def leaf(*shape: int, seed: int = 0, dtype: type = np.float32) -> Tensor:
    return Tensor(np.random.default_rng(seed).standard_normal(shape).astype(dtype), requires_grad=True)


# ---- the tape


def test_a_chain_of_100000_ops():
    """Neither backward nor freeing the tape recurses."""
    x = Tensor([1.0, 2.0], requires_grad=True)
    y = first = x * 1
    inside = weakref.ref(first.node.context)
    del first
    for _ in range(100_000):
        y = y + x
    y.backward([1.0, 3.0], retain_graph=True)
    assert x.grad.numpy().tolist() == [100_001, 300_003]
    assert inside() is not None
    del y
    gc.collect()
    assert inside() is None


def test_backward_frees_the_tape_as_it_goes():
    x = leaf(3)
    y = x * 2
    z = y * y
    contexts = [weakref.ref(y.node.context), weakref.ref(z.node.context)]
    z.backward(np.ones(3), retain_graph=True)
    assert all(c() is not None for c in contexts)
    z.backward(np.ones(3))
    assert all(c() is None for c in contexts)


def test_gradients_add_up_over_backwards_and_uses():
    x = Tensor([2.0, 3.0], requires_grad=True)
    (x * x).sum().backward()
    assert x.grad.numpy().tolist() == [4, 6]
    (x * 10).sum().backward()
    assert x.grad.numpy().tolist() == [14, 16]
    x.grad = None
    (x + x + x * x).sum().backward()        # four uses of one leaf
    assert x.grad.numpy().tolist() == [6, 8]


def test_diamonds_and_ladders():
    """Each of n steps doubles the number of paths: they must be added, not walked."""
    x = Tensor([1.0], requires_grad=True)
    y = x
    for _ in range(60):
        y = y + y
    y.backward()
    assert x.grad.item() == 2.0**60

    def branches(t: Tensor) -> Tensor:
        """Paths of different length meet at u: its gradient is complete only after the longest."""
        u = t * 2
        return (u * (u.exp() * u).tanh() + u).sum() * u.sum()

    gradcheck(branches, [np.array([0.1, -0.4, 0.3])])


def test_reuse_needs_retain_graph():
    x = Tensor([1.0, 2.0], requires_grad=True)
    y = x * x
    z = y.sum()
    z.backward(retain_graph=True)
    z.backward()
    assert x.grad.numpy().tolist() == [4, 8]
    with pytest.raises(GradError, match=r"backward: the tape below sum was already used.*retain_graph=True"):
        z.backward()
    with pytest.raises(GradError, match="the tape below mul was already used"):
        (y + 1).sum().backward()


def test_cotangents():
    x = leaf(2, 3)
    y = x * 2
    for wrong in (np.ones(3), np.ones((2, 3, 1)), 1.0):
        with pytest.raises(ShapeError, match=r"expected a cotangent of shape \(2, 3\), got"):
            y.backward(wrong, retain_graph=True)
    with pytest.raises(GradError, match=r"a Tensor of shape \(2, 3\) needs a cotangent"):
        y.backward()
    g = np.arange(6.0).reshape(2, 3)
    y.backward(Tensor(g))
    assert (x.grad.numpy() == 2 * g).all() and x.grad.dtype == np.float32
    one = leaf(1, 1)
    one.backward()      # a leaf is its own gradient
    assert one.grad.numpy().tolist() == [[1]]
    with pytest.raises(GradError, match="does not depend on anything with requires_grad"):
        Tensor([1.0]).backward()


def test_no_grad_and_detach():
    x = leaf(3)
    with no_grad():
        assert not (x * 2).requires_grad
        with no_grad():
            pass
        assert not (x * 2).requires_grad
    assert (x * 2).requires_grad

    @no_grad()
    def double(t):
        return t * 2

    assert not double(x).requires_grad and not double(x).requires_grad
    with pytest.raises(KeyError), no_grad():
        raise KeyError
    assert (x * 2).requires_grad
    cut = (x * 2).detach()
    assert not cut.requires_grad and cut.node is None
    (x * cut).sum().backward()
    assert (x.grad.numpy() == cut.numpy()).all()
    assert not x.requires_grad_(False).requires_grad


def test_no_grad_holds_for_one_python_thread():
    x, seen = leaf(3), []
    with no_grad():
        other = threading.Thread(target=lambda: seen.append((x * 2).requires_grad))
        other.start()
        other.join()
        assert seen == [True] and not (x * 2).requires_grad


def test_gradients_are_memory_of_their_own():
    """Not the cotangent's, not another leaf's, not an operand's: an optimizer writes into them."""
    x, y, g = leaf(3), leaf(3, seed=1), np.ones(3, np.float32)
    (x + y).backward(g)
    z = leaf(3)
    z.backward(g)
    arrays = [g, x.grad.numpy(), y.grad.numpy(), z.grad.numpy(), x.numpy(), y.numpy()]
    for i, a in enumerate(arrays):
        assert a.flags.writeable
        for b in arrays[i + 1 :]:
            assert not np.shares_memory(a, b)
    s = leaf(2, 3)
    s.sum().backward()      # a gradient of stride 0
    s.grad.numpy()[0, 0] = 5
    assert s.grad.numpy().tolist() == [[5, 1, 1], [1, 1, 1]]


class Sly(Op):
    """y = 2a + 3b, with gradients in memory that others see too, in the way `kind` says."""

    name = "sly_for_test"
    kept: list[np.ndarray] = []
    fresh: list[weakref.ref] = []

    @staticmethod
    def forward(ctx, a, b, *, kind):
        ctx.kind, ctx.two, ctx.three = kind, np.full(a.shape, 2, a.dtype), np.full(b.shape, 3, b.dtype)
        return 2 * a + 3 * b

    @staticmethod
    def backward(ctx, grad):
        da, db = 2 * grad, 3 * grad
        if ctx.kind == "fresh":
            Sly.fresh += [weakref.ref(da), weakref.ref(db)]
        elif ctx.kind == "saved":           # its own saved memory, which another backward reads
            ctx.two *= grad
            ctx.three *= grad
            da, db = ctx.two[...], ctx.three
        elif ctx.kind == "kept":            # a view; the array stays with the op
            Sly.kept += [da, db]
            da, db = da[::-1][::-1], db
        elif ctx.kind == "tuple":           # the op keeps the tuple itself
            ctx.tuple = da, db
            return ctx.tuple
        elif ctx.kind == "parts":           # two parts of one array
            both = np.stack([da, db])
            da, db = both
        elif ctx.kind == "stretched":
            da = np.broadcast_to(np.float32(2) * grad[:1], grad.shape) if (grad == grad[:1]).all() else da
        return da, db


Sly_kinds = ["fresh", "saved", "kept", "tuple", "parts", "stretched"]


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.sampled_from([*Sly_kinds, "add", "sub", "view", "neg"])),
                min_size=1, max_size=10), st.booleans())
def test_gradients_are_written_in_place_only_where_nothing_else_sees_them(steps, twice):
    """Tapes of ops that share memory in every way: gradients are those of a tape that always copies, and no array that
    an op kept has changed."""

    def gradients(sole) -> list[np.ndarray]:
        Sly.kept.clear()
        with pytest.MonkeyPatch.context() as patch:
            if sole is not None:
                patch.setattr(memory, "sole", sole)
            values = leaves = [leaf(3), leaf(3, seed=1)]
            for i, j, kind in steps:
                a, b = values[i % len(values)], values[j % len(values)]
                y = (a + b if kind == "add" else a - b if kind == "sub" else -a if kind == "neg" else
                     a.reshape(3, 1).reshape(3) if kind == "view" else apply(Sly, a, b, kind=kind))
                values = [*values, y]
            total = values[2]
            for v in values[3:]:
                total = total + v
            seed = np.array([1, -2, 0.5], np.float32)
            total.backward(seed)
            if twice:
                (leaves[0] + leaves[1]).backward(seed)
            assert seed.tolist() == [1, -2, 0.5]
            grads = [t.grad.numpy() if t.grad is not None else np.zeros(3) for t in leaves]
            for a in (*grads, *(t.numpy() for t in leaves)):
                assert sum(np.shares_memory(a, b) for b in (*grads, *Sly.kept, seed, *(t.numpy() for t in leaves))) == 1
            return [*grads, *Sly.kept]

    plain = [a.copy() for a in gradients(lambda holder, key: False)]
    assert all((a == b).all() for a, b in zip(gradients(None), plain, strict=True))


del OPS["sly_for_test"]     # tests that go through all ops would ask for its samples


def test_a_fresh_gradient_becomes_the_leafs():
    """No copy where nothing else sees it; a sum is made in one of its terms."""
    x, w, h = leaf(3), leaf(3, seed=1), leaf(3) * 1
    Sly.fresh.clear()
    apply(Sly, x, w, kind="fresh").backward(np.ones(3))
    assert Sly.fresh[0]() is x.grad.numpy() and Sly.fresh[1]() is w.grad.numpy() and x.grad.numpy().tolist() == [2, 2, 2]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tape, "elementwise", None)        # which would make a third array
        apply(Sly, apply(Sly, h, h, kind="fresh"), h, kind="fresh").backward(np.ones(3))
    first = x.grad.numpy()
    apply(Sly, x, w, kind="fresh").backward(np.ones(3))
    assert x.grad.numpy() is first and first.tolist() == [4, 4, 4]


def test_what_no_op_saves_dies_in_the_forward_pass():
    x = leaf(3)
    y = x + 1
    data = weakref.ref(y.numpy())
    z = y.sum()
    del y
    assert data() is None
    z.backward()
    assert x.grad.numpy().tolist() == [1, 1, 1]


def test_saved_arrays_and_gradients_die_as_soon_as_they_are_used():
    """When an op's backward runs, everything of the ops after it is gone, though Tensors still hold the nodes."""
    alive: list[tuple] = []
    refs: list[weakref.ref] = []

    class Watch(Op):
        name = "watch_for_test"

        @staticmethod
        def forward(ctx, x):
            ctx.saved = x + 0
            refs.append(weakref.ref(ctx.saved))
            return x + 0

        @staticmethod
        def backward(ctx, grad):
            alive.append(tuple(r() is not None for r in refs))
            refs.append(weakref.ref(grad))
            return (grad * 1,)

    del OPS["watch_for_test"]
    x = leaf(3)
    a = apply(Watch, x)
    b = apply(Watch, a)
    c = apply(Watch, b)
    c.backward(np.ones(3))
    # saved by a, b, c; then the gradients that c and b got
    assert alive == [(True, True, True), (True, True, False, False), (True, False, False, False, False)]
    assert not any(r() is not None for r in refs) and all(t.node.context is None for t in (a, b, c))


def test_record_notes_every_op():
    x = leaf(2, 3)
    with record() as ops, no_grad():
        y = (x * 2).sum(axis=1)
    assert [r.op.name for r in ops] == ["mul", "sum"]
    assert ops[0].inputs[0] is x and ops[1].output is y and ops[1].attrs == {"axis": 1, "keepdims": False}
    _ = x + 1
    assert len(ops) == 2


def broadcastable(max_dims: int = 3):
    return hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=max_dims, max_side=3, min_side=0)


@given(broadcastable(), st.sampled_from(["add", "sub", "mul", "truediv"]))
def test_arithmetic_broadcasts_as_numpy_and_gradients_come_back(shapes, name):
    rng, operation = np.random.default_rng(0), getattr(operator, name)
    a, b = rng.standard_normal(shapes.input_shapes[0]), rng.uniform(0.5, 2, shapes.input_shapes[1])
    out = operation(Tensor(a), Tensor(b))
    assert out.shape == shapes.result_shape and (out.numpy() == operation(a, b)).all()
    gradcheck(operation, [a, b])


@given(st.data())
def test_unbroadcast_sums_what_was_stretched(data):
    shapes = data.draw(broadcastable(4))
    shape, wide = shapes.input_shapes[0], shapes.result_shape
    grad = np.random.default_rng(0).standard_normal(wide)
    # the transpose of broadcasting: <broadcast(v), grad> = <v, unbroadcast(grad)>
    v = np.random.default_rng(1).standard_normal(shape)
    got = unbroadcast(grad, shape)
    assert got.shape == shape
    assert np.isclose((np.broadcast_to(v, wide) * grad).sum(), (v * got).sum())


def test_operators_with_numbers_and_arrays_on_either_side():
    x = leaf(2, 2, dtype=np.float64)
    a, v = x.numpy(), np.array([[1.5, 2.5]])
    pairs = [(x + 2, a + 2), (2 + x, 2 + a), (x - 2, a - 2), (2 - x, 2 - a), (x * 3, a * 3), (3 * x, 3 * a),
             (x / 4, a / 4), (4 / x, 4 / a), (-x, -a), (x**3, a**3), (v + x, v + a),
             (v - x, v - a), (v * x, v * a), (v / x, v / a), (x @ a, a @ a), (a @ x, a @ a), (x.T @ v.T, a.T @ v.T),
             (2 * x.abs(), 2 * np.abs(a)), (x.exp().log(), a), (x.abs().sqrt(), np.sqrt(np.abs(a)))]
    for got, expected in pairs:
        assert isinstance(got, Tensor) and got.dtype == np.float64 and np.allclose(got.numpy(), expected, 1e-12)
    # a Python number takes the Tensor's dtype, whichever
    for dtype in ("float16", "float32", "float64"):
        t = Tensor([1.0], dtype=dtype)
        assert (t + 1).dtype == (2.5 * t).dtype == (1 / t).dtype == np.dtype(dtype)


# ---- what it is made of


def test_constructor_dtypes():
    assert Tensor([1.0, 2.0]).dtype == Tensor(3.0).dtype == Tensor([]).dtype == np.float32
    assert Tensor(np.zeros(2)).dtype == np.float64 and Tensor([1, 2]).dtype == np.int64
    assert Tensor([1, 2], dtype="float16").dtype == np.float16 and Tensor([True]).dtype == np.bool_
    array = np.zeros(3, np.float32)
    assert Tensor(array).numpy() is array and Tensor(Tensor(array)).numpy() is array      # no copy
    for bad in (np.zeros(2, complex), np.zeros(2, np.int16), np.array([object()]), "text", [[1.0], ["a"]]):
        with pytest.raises(DtypeError, match="Tensor: expected one of float16, float32"):
            Tensor(bad)
    for bad in ("float8", "complex64", object, 7):
        with pytest.raises(DtypeError, match="dtype: expected one of"):
            Tensor([1.0], dtype=bad)
    with pytest.raises(DtypeError, match=r"Tensor: int8 codes need a scale .* use Tensor\(x\).to_int8\(\)"):
        Tensor(np.zeros(2, np.int8))
    with pytest.raises(DtypeError, match="a scale goes with int8 codes, got dtype float32"):
        Tensor([1.0], scale=0.5)
    with pytest.raises(GradError, match="requires_grad: expected a float dtype, got int64"):
        Tensor([1, 2], requires_grad=True)


CODES = np.array([[1, -128, 127], [0, 5, -6]], np.int8)


@pytest.mark.parametrize("error, message, arguments", [
    (QuantizationError, "finite, positive, normal float32 scale, got 0.0", {"scale": 0.0}),
    (QuantizationError, "finite, positive, normal float32 scale, got nan", {"scale": np.nan}),
    (QuantizationError, "finite, positive, normal float32 scale, got -1.0", {"scale": [1.0, -1.0], "axis": 0}),
    (QuantizationError, r"zero_point: expected values in \[-128, 127\], got 128", {"scale": 1.0, "zero_point": 128}),
    (DtypeError, "zero_point: expected integers, got float64", {"scale": 1.0, "zero_point": 0.5}),
    (ShapeError, r"axis: expected a dimension of shape \(2, 3\), got 2", {"scale": [1.0, 2.0], "axis": 2}),
    (ShapeError, r"scale: expected shape \(3,\) .* axis 1, got \(2,\)", {"scale": [1.0, 2.0], "axis": 1}),
    (ShapeError, r"scale: expected shape \(\)", {"scale": [1.0, 2.0]}),
    (ShapeError, r"zero_point: expected shape \(2,\), got \(3,\)", {"scale": 1.0, "zero_point": [1, 2, 3], "axis": 0}),
])
def test_constructor_refuses_bad_codecs(error, message, arguments):
    with pytest.raises(error, match=message):
        Tensor(CODES, **arguments)


def test_results_are_arrays_even_without_dimensions():
    x = Tensor(3.0, requires_grad=True)
    pair, codes = Tensor([1.0, 2.0]), x.detach().to_int8()
    for t in (x * 2, x.exp(), x.sum(), pair[0], pair.max(), pair @ pair, pair.argmax(), x == 3.0, x.to("float64"),
              codes, codes.dequantize()):
        assert type(t.numpy()) is np.ndarray and t.shape == ()
    (x * x).backward()
    assert x.grad.shape == () and x.grad.item() == 6


def test_to_changes_dtype_and_keeps_gradients():
    for start in ("float16", "float32", "float64"):
        for end in ("float16", "float32", "float64"):
            x = Tensor([1.5, -2.0], dtype=start, requires_grad=True)
            y = x.to(end)
            assert y.dtype == np.dtype(end) and y.numpy().tolist() == [1.5, -2.0]
            (y * 2).sum().backward()
            assert x.grad.dtype == np.dtype(start) and x.grad.numpy().tolist() == [2, 2]
    assert Tensor([1.9, -1.9]).to("int64").numpy().tolist() == [1, -1]
    x = Tensor([1.0])
    assert x.to("float32") is x
    assert x.to_fp16().dtype == np.float16 and x.to("int8").dtype == np.int8
    assert x.to("int8").to("float16").dtype == np.float16


def test_gradients_cross_precisions():
    """float16 and float32 parts of one model meet float64: each part's gradient is computed in its own dtype."""
    a, b, c = leaf(2, 3, dtype=np.float16), leaf(3, seed=1), leaf(3, seed=2, dtype=np.float64)
    y = call("layer_norm", call("gelu", a, approximate="none").to("float32") + b, b, b, eps=1e-5).softmax() * c
    assert y.dtype == np.float64
    y.backward(np.ones((2, 3)))
    wide = [Tensor(t.numpy().astype(np.float64), requires_grad=True) for t in (a, b, c)]
    call("layer_norm", call("gelu", wide[0], approximate="none") + wide[1], wide[1], wide[1], eps=1e-5).softmax()
    z = call("layer_norm", call("gelu", wide[0], approximate="none") + wide[1], wide[1], wide[1], eps=1e-5).softmax()
    (z * wide[2]).backward(np.ones((2, 3)))
    for t, w in zip((a, b, c), wide, strict=True):
        assert t.grad.dtype == t.dtype and np.allclose(t.grad.numpy(), w.grad.numpy(), 2e-2, 2e-3)


# ---- Python's protocols


def test_len_iteration_item_bool():
    x = leaf(3, 2)
    assert len(x) == 3 and [r.shape for r in x] == [(2,)] * 3
    assert all((r.numpy() == x.numpy()[i]).all() for i, r in enumerate(x))
    sum(r.sum() for r in x).backward()
    assert (x.grad.numpy() == 1).all()
    for ask in (len, iter):
        with pytest.raises(ShapeError, match="0-dimensional Tensor has no length"):
            ask(Tensor(1.0))
    assert Tensor([[2.5]]).item() == 2.5 == float(Tensor(2.5)) and int(Tensor(2.5)) == 2 and math.sqrt(Tensor(4.0)) == 2
    assert isinstance(Tensor(1.0).item(), float) and isinstance(Tensor(1).item(), int) and Tensor(True).item() is True
    assert bool(Tensor([1.0])) and not bool(Tensor([0.0])) and (Tensor(1.0) < 2)
    for ask in (Tensor.item, bool, float, int):
        for many in (Tensor([1.0, 2.0]), Tensor([])):
            with pytest.raises(ShapeError, match=r"item\(\): expected one element, got shape"):
                ask(many)
    assert Tensor([3.0]).to_int8().item() == pytest.approx(3.0, abs=0.01)


def test_comparisons():
    a, b = np.array([1.0, 2.0, 3.0]), np.array([3.0, 2.0, 1.0])
    for name in ("eq", "ne", "lt", "le", "gt", "ge"):
        compare = getattr(operator, name)
        for left, right in ((Tensor(a), Tensor(b)), (Tensor(a), b), (a, Tensor(b)), (Tensor(a), 2.0), (2.0, Tensor(a))):
            got = compare(left, right)
            plain = [v.numpy() if isinstance(v, Tensor) else v for v in (left, right)]
            assert got.dtype == np.bool_ and not got.requires_grad and (got.numpy() == compare(*plain)).all()
    codes = Tensor([1.0, 2.0]).to_int8()
    assert (codes > 1.5).numpy().tolist() == [False, True]      # values are compared, not codes
    with pytest.raises(ShapeError, match=r"less: shapes \(3,\) and \(2,\) do not broadcast"):
        _ = Tensor(a) < [1, 2]
    x, y = Tensor(a), Tensor(a)
    assert x in {x: 1} and y not in {x: 1}     # hashed by identity


def test_repr():
    assert repr(Tensor([1.0, 2.5])) == "Tensor([1. , 2.5], shape=(2,))"
    assert repr(Tensor([1, 2])) == "Tensor([1, 2], shape=(2,), dtype=int64)"
    x = leaf(2)
    assert repr(x).endswith("shape=(2,), requires_grad=True)") and repr(x * 2).endswith("shape=(2,), op=mul)")
    assert "dtype=int8, scale=0.5, zero_point=3" in repr(Tensor(CODES, scale=0.5, zero_point=3))
    assert "scale=0.25..0.5 along axis 0" in repr(Tensor(CODES, scale=[0.5, 0.25], axis=0))
    assert len(repr(Tensor(np.zeros((1000, 1000))))) < 2000


# ---- indexing and shapes, against NumPy


@given(st.data())
def test_basic_indexing(data):
    shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
    index = data.draw(hnp.basic_indices(shape, allow_newaxis=True))
    a = np.arange(math.prod(shape), dtype=np.float64).reshape(shape)
    x = Tensor(a, requires_grad=True)
    y = x[index]
    assert y.shape == a[index].shape and (y.numpy() == a[index]).all()
    y.backward(np.full(y.shape, 2.0))
    expected = np.zeros(shape)
    expected[index] = 2
    assert (x.grad.numpy() == expected).all()


@given(st.data())
def test_integer_array_indexing_adds_up_repeats(data):
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=3, max_side=4))
    index = data.draw(hnp.integer_array_indices(shape, result_shape=hnp.array_shapes(max_dims=2, max_side=5)))
    a = np.arange(math.prod(shape), dtype=np.float64).reshape(shape)
    x = Tensor(a, requires_grad=True)
    y = x[tuple(Tensor(i) for i in index)] if data.draw(st.booleans()) else x[index]
    assert (y.numpy() == a[index]).all()
    g = np.arange(1.0, y.size + 1).reshape(y.shape)
    y.backward(g)
    expected = np.zeros(shape)
    np.add.at(expected, index, g)
    assert (x.grad.numpy() == expected).all()


def test_masks_and_lists_as_indices():
    x = leaf(4, 3, dtype=np.float64)
    a = x.numpy()
    for index in ([0, 2], a[:, 0] > 0, a > 0, (slice(None), [2, 0]), Tensor([3, 1]), x > 0, np.int64(1),
                  (..., None, -1)):
        plain = index.numpy() if isinstance(index, Tensor) else index
        assert (x[index].numpy() == a[plain]).all() and x[index].shape == a[plain].shape
    for index in (4, (0, 3), [7], 1.5):
        with pytest.raises(ShapeError, match="getitem: "):
            x[index]


@given(st.data())
def test_reductions_agree_with_numpy(data):
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=3, max_side=4))
    axes = st.none() | st.integers(-len(shape), len(shape) - 1) | hnp.valid_tuple_axes(len(shape), min_size=1)
    axis, keepdims = data.draw(axes), data.draw(st.booleans())
    a = np.random.default_rng(0).standard_normal(shape)
    for name in ("sum", "mean", "max", "min"):
        got = getattr(Tensor(a), name)(axis, keepdims)
        expected = getattr(a, name)(axis=axis, keepdims=keepdims)
        assert got.shape == expected.shape and np.allclose(got.numpy(), expected, 1e-12, 1e-12)
        gradcheck(lambda t, name=name: getattr(t, name)(axis, keepdims), [a])
    if not isinstance(axis, tuple):
        assert (Tensor(a).argmax(axis).numpy() == a.argmax(axis)).all()
    n = a.size if axis is None else np.prod([shape[i] for i in np.atleast_1d(axis)])
    if n > 1:
        assert np.allclose(Tensor(a).var(axis, keepdims).numpy(), a.var(axis, ddof=1, keepdims=keepdims), 1e-10)


def test_shape_methods():
    x = leaf(2, 3, 4)
    a = x.numpy()
    for got, expected in [
        (x.reshape(6, -1), a.reshape(6, 4)), (x.reshape((4, 6)), a.reshape(4, 6)), (x.view(24), a.ravel()),
        (x.flatten(), a.ravel()), (x.flatten(1), a.reshape(2, 12)), (x.flatten(0, 1), a.reshape(6, 4)),
        (x.T, a.swapaxes(1, 2)), (x.transpose(0, -1), a.swapaxes(0, 2)), (x.permute(2, 0, 1), a.transpose(2, 0, 1)),
        (x.permute((1, 0, 2)), a.transpose(1, 0, 2)), (x.unsqueeze(0), a[None]), (x.unsqueeze(-1), a[..., None]),
        (x[:1].squeeze(0), a[0]), (x[:, :1].squeeze(-2), a[:, 0]), (Tensor(1.0).flatten(), np.ones(1)),
        (x.broadcast_to(5, 2, 3, 4), np.broadcast_to(a, (5, 2, 3, 4))),
        (x.clip(0), a.clip(0)), (x.clip(hi=0.5), a.clip(None, 0.5)), (x.round(), a.round()),
    ]:
        assert got.shape == expected.shape and (got.numpy() == expected).all()
    for name, arguments in (("squeeze", (1,)), ("squeeze", (3,)), ("transpose", (0, 3)), ("reshape", (5, 5)),
                            ("unsqueeze", (4,)), ("flatten", (3,)), ("flatten", (0, -4)), ("argmax", (3,))):
        with pytest.raises(ShapeError, match=f"^{name}: "):
            getattr(x, name)(*arguments)
    with pytest.raises(ShapeError, match=r"argmax: no elements along axis 0 of a Tensor of shape \(0, 2\)"):
        Tensor(np.zeros((0, 2))).argmax(0)
    assert np.shares_memory(x.T.numpy(), a) and np.shares_memory(x.reshape(24).numpy(), a)      # views, no copies


# ---- int8: codes and what they stand for


finite = st.floats(-1000, 1000, width=32)


@given(hnp.arrays(np.float32, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5), elements=finite))
def test_to_int8_is_within_half_a_scale(a):
    q = Tensor(a).to_int8()
    assert q.dtype == np.int8 and q.shape == a.shape and q.axis is None
    assert q.scale.dtype == np.float32 and q.zero_point.dtype == np.int8 and q.scale.shape == q.zero_point.shape == ()
    assert q.nbytes == a.size + 5
    back = q.dequantize()
    assert back.dtype == np.float32 and back.shape == a.shape
    assert (np.abs(back.numpy() - a) <= 0.5001 * q.scale).all()
    assert (back.numpy()[a == 0] == 0).all()
    assert (back.to_int8(q.scale, int(q.zero_point)).numpy() == q.numpy()).all()      # codes survive the round trip
    # the formula, equation (7)
    with np.errstate(over="ignore"):
        expected = np.clip(np.rint(a / q.scale) + q.zero_point, -128, 127)
    assert (q.numpy() == expected).all()


@given(hnp.arrays(np.float32, hnp.array_shapes(min_dims=1, max_dims=3, max_side=5), elements=finite), st.data())
def test_to_int8_per_axis(a, data):
    axis = data.draw(st.integers(-a.ndim, a.ndim - 1))
    q = Tensor(a).to_int8(axis=axis)
    n = a.shape[axis]
    assert q.axis == axis % a.ndim and q.scale.shape == q.zero_point.shape == (n,) and not q.zero_point.any()
    assert q.nbytes == a.size + 5 * n
    spread = q.scale.reshape([-1 if i == q.axis else 1 for i in range(a.ndim)])
    assert (np.abs(q.dequantize().numpy() - a) <= 0.5001 * spread).all() and q.numpy().min() >= -127
    given_scale = Tensor(a).to_int8(scale=np.full(n, 0.5), zero_point=np.full(n, 3), axis=axis)
    assert (given_scale.numpy() == np.clip(np.rint(a / np.float32(0.5)) + 3, -128, 127)).all()


def test_to_int8_refuses():
    x = Tensor([1.0, np.nan, np.inf])
    with pytest.raises(QuantizationError, match=r"expected finite values .* got 2 NaN or infinite of 3"):
        x.to_int8()
    for arguments in ({"scale": 0.1}, {"scale": [0.1, 0.1, 0.1], "axis": 0}):
        with pytest.raises(QuantizationError, match="expected no NaN, got 1 of 3"):
            x.to_int8(**arguments)
        # with a scale given, infinity and what overflows float32 are clamped
        assert Tensor([np.inf, -np.inf, 3e38]).to_int8(**arguments).numpy().tolist() == [127, -128, 127]
    with pytest.raises(QuantizationError, match="a zero_point needs a scale"):
        Tensor([1.0]).to_int8(zero_point=3)
    with pytest.raises(ShapeError, match="axis 1"):
        Tensor([1.0]).to_int8(axis=1)
    with pytest.raises(DtypeError, match="to_int8: expected a float dtype, got int64"):
        Tensor([1]).to_int8()
    with pytest.raises(GradError, match=r"to_int8: gradients do not flow through int8.*detach"):
        leaf(2).to_int8()
    with no_grad():
        assert leaf(2).to_int8().dtype == np.int8
    with pytest.raises(ValueError, match="read-only"):
        Tensor([1.0]).to_int8().numpy()[0] = 1      # packed weights are made from codes once


def test_codes_pass_through_what_moves_them():
    a = np.random.default_rng(0).standard_normal((2, 3, 4, 4)).astype(np.float32)
    q = Tensor(a).to_int8()
    real = q.dequantize()
    for step in (lambda t: t.reshape(6, 16), lambda t: t[1, ..., ::-2], lambda t: t[[1, 0, 1]], lambda t: t.T,
                 lambda t: t.permute(0, 2, 3, 1), lambda t: t.unsqueeze(0), lambda t: t[:1].broadcast_to(3, 3, 4, 4),
                 lambda t: call("max_pool2d", t, size=(3, 3), stride=(2, 2), padding=(1, 1))):
        out = step(q)
        assert (out.dtype, out.scale, out.zero_point) == (np.int8, q.scale, q.zero_point)
        assert (out.dequantize().numpy() == step(real).numpy()).all()
    for name, refused in {"add": lambda: q + 1, "mul": lambda: 2 * q, "sum": lambda: q.sum(), "relu": lambda: q.relu(),
                          "concat": lambda: call("concat", q, q, axis=0), "softmax": lambda: q.softmax()}.items():
        with pytest.raises(DtypeError, match=rf"^{name}: not defined on int8; call dequantize\(\) first"):
            refused()
    with pytest.raises(DtypeError, match=r"^reshape: int8 with a scale per index of axis 0 .*dequantize\(\)"):
        Tensor(a).to_int8(axis=0).reshape(-1)


# ---- int8: products


def affine(*shape: int, seed: int = 0) -> Tensor:
    """int8 whose zero point is far from 0."""
    return Tensor(np.random.default_rng(seed).uniform(-1, 3, shape).astype(np.float32)).to_int8()


def symmetric(*shape: int, axis: int | None = 0, seed: int = 1) -> Tensor:
    w = Tensor(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))
    if axis is None:
        return w.to_int8(scale=float(np.abs(w.numpy()).max() / 127), zero_point=0)
    return w.to_int8(axis=axis)


CONV = {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 2), "groups": 2}
BIAS = np.random.default_rng(2).standard_normal(6).astype(np.float32)


def product(name: str, x: Tensor, w: Tensor, bias: bool, **output) -> Tensor:
    if name == "matmul":
        return call("matmul", x, w, **output)
    b = Tensor(BIAS.astype(np.float64 if np.float64 in (x.dtype, w.dtype) else np.float32)) if bias else None
    return call(name, x, w, b, **(CONV if name == "conv2d" else {}), **output)


PRODUCTS = [("linear", (2, 5, 9), (6, 9), 0), ("linear", (9,), (6, 9), 0), ("linear", (4, 9), (6, 9), None),
            ("linear", (0, 9), (6, 9), 0), ("conv2d", (3, 4, 7, 8), (6, 2, 3, 3), 0),
            ("conv2d", (1, 4, 7, 8), (6, 2, 3, 3), None), ("matmul", (2, 5, 9), (9, 6), 1),
            ("matmul", (5, 9), (9, 6), None)]


@pytest.mark.parametrize("name, x_shape, w_shape, axis", PRODUCTS)
@pytest.mark.parametrize("bias", [True, False])
def test_int8_products_are_those_of_the_numbers_they_stand_for(name, x_shape, w_shape, axis, bias):
    x, w = affine(*x_shape), symmetric(*w_shape, axis=axis)
    exact = product(name, x.dequantize().to("float64"), w.dequantize().to("float64"), bias).numpy()
    got = product(name, x, w, bias)
    assert got.dtype == np.float32 and got.quantized is None and got.shape == exact.shape
    # integer sums are exact: all that is left are some float32 roundings of the result
    assert np.allclose(got.numpy(), exact, 1e-6, 1e-6 * np.abs(exact).max(initial=0))
    # int8 out: the code nearest to the exact result, or its neighbour where bias and multiplier round
    lo, hi = float(exact.min(initial=0)) * 0.8, float(exact.max(initial=0)) * 0.8     # some clip
    codec = Tensor(np.array([lo, hi], np.float32)).to_int8()
    out = product(name, x, w, bias, scale=codec.scale, zero_point=int(codec.zero_point))
    assert (out.dtype, out.scale, out.zero_point, out.shape) == (np.int8, codec.scale, codec.zero_point, exact.shape)
    wanted = np.clip(exact / codec.scale + codec.zero_point, -128, 127)
    assert (np.abs(out.numpy() - wanted) <= 0.502).all()


@pytest.mark.parametrize("name, x_shape, w_shape, axis", [p for p in PRODUCTS if p[0] != "matmul"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_dynamic_products_quantize_their_rows(name, x_shape, w_shape, axis, dtype):
    """Float activations by int8 weights: equation (9), a conv's row being one sample."""
    x, w = Tensor(np.random.default_rng(5).standard_normal(x_shape).astype(dtype)), symmetric(*w_shape, axis=axis)
    got = product(name, x, w, True)
    assert got.dtype == np.float32
    a = x.numpy().astype(np.float32)
    rows = tuple(range(1, a.ndim)) if name == "conv2d" else -1
    s = np.abs(a).max(axis=rows, keepdims=True) / np.float32(127)
    rounded = Tensor(np.rint(a / s) * s.astype(np.float64))
    exact = product(name, rounded, w.dequantize().to("float64"), True).numpy()
    assert np.allclose(got.numpy(), exact, 1e-5, 1e-5)
    if x.size:
        # a row that is not finite is NaN, and no other
        spoiled = a.copy().reshape(x_shape)
        spoiled[(0,) * (x.ndim if name == "conv2d" else x.ndim - 1)] = np.inf
        bad = product(name, Tensor(spoiled), w, True).numpy()
        first = bad[0] if name == "conv2d" else bad[(0,) * (x.ndim - 1)]
        assert np.isnan(first).all() and np.isnan(bad).sum() == first.size


def test_matmul_of_two_affine_operands():
    a, b = affine(2, 5, 9), affine(9, 6, seed=3)
    assert a.zero_point != 0 and b.zero_point != 0
    exact = a.dequantize().numpy().astype(np.float64) @ b.dequantize().numpy().astype(np.float64)
    assert np.allclose((a @ b).numpy(), exact, 1e-6, 1e-6)
    out = call("matmul", a, b, scale=0.2, zero_point=-100)
    assert out.dtype == np.int8 and (np.abs(out.numpy() - np.clip(exact / 0.2 - 100, -128, 127)) <= 0.502).all()
    per_column = Tensor(b.dequantize()).to_int8(scale=np.full(6, 0.03), zero_point=np.arange(6), axis=1)
    exact = a.dequantize().numpy().astype(np.float64) @ per_column.dequantize().numpy().astype(np.float64)
    assert np.allclose((a @ per_column).numpy(), exact, 1e-6, 1e-6)


def test_int8_embedding():
    table, ids = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32), np.array([[4, 0], [4, 2]])
    for axis in (None, 0):
        w = Tensor(table).to_int8(axis=axis)
        got = call("embedding", ids, w)
        assert got.dtype == np.float32 and (got.numpy() == w.dequantize().numpy()[ids]).all()
    with pytest.raises(DtypeError, match=r"per tensor or per row \(axis 0\), got axis 1"):
        call("embedding", ids, Tensor(table).to_int8(axis=1))
    with pytest.raises(DtypeError, match="embedding: expected integer ids"):
        call("embedding", ids.astype(np.float32), Tensor(table).to_int8())
    with pytest.raises(DtypeError, match="embedding: expected integer ids"):
        call("embedding", affine(2), Tensor(table))


X, W = affine(2, 4), symmetric(6, 4)


@pytest.mark.parametrize("name, operands, output, message", [
    ("linear", (X, W.dequantize(), None), {}, r"need int8 weights, got weights of float32; .*dequantize\(\)"),
    ("linear", (Tensor([[1, 2, 3, 4]]), W, None), {}, "expected float or int8 activations, got int64"),
    ("linear", (X.dequantize(), W, None), {"scale": 0.1}, "an output scale goes with int8 activations, got float32"),
    ("linear", (X.dequantize().to_int8(axis=0), W, None), {}, "one scale per tensor, got one per index of axis 0"),
    ("linear", (X, symmetric(6, 4, axis=1), None), {}, "per tensor or along axis 0 .*got axis 1"),
    ("linear", (X, affine(6, 4), None), {}, "expected weights with zero point 0"),
    ("linear", (X, W, affine(6)), {}, "expected a float bias, got int8"),
    ("matmul", (X, Tensor(np.ones((4, 2)))), {}, "expected both operands int8, got float64 on the right"),
    ("matmul", (Tensor(np.ones((2, 4))), affine(4, 2)), {}, "expected both operands int8, got float64 on the left"),
    ("matmul", (X, symmetric(4, 6, axis=0)), {}, "one a column, on the right; got axis None and 0"),
    ("matmul", (symmetric(2, 4, axis=0), symmetric(4, 6, axis=1)), {}, "one scale on the left"),
])
def test_int8_products_refuse(name, operands, output, message):
    with pytest.raises(DtypeError, match=f"^{name}: .*{message}"):
        apply(OPS[name], *operands, **output)


def test_sums_past_int32_are_refused_not_wrapped():
    k = 70_000      # 70,000 * 127 * 255 > 2^31
    w = Tensor(np.full((1, k), 127, np.int8), scale=1.0)
    x = Tensor(np.full((1, k), 127, np.int8), scale=1.0, zero_point=-128)
    for arguments in ({}, {"scale": 1e6, "zero_point": 0}):
        with pytest.raises(QuantizationError, match=r"^linear: .*can reach 2266950000, past int32"):
            call("linear", x, w, None, **arguments)
    for zero in (0, 1):     # the affine right operand takes a path of its own
        right = Tensor(np.full((k, 1), 127, np.int8), scale=1.0, zero_point=zero)
        with pytest.raises(QuantizationError, match=r"^matmul: .*past int32"):
            x @ right
    for huge in (1e30, -1e15):
        with pytest.raises(QuantizationError, match=r"^linear: .*past int32"):
            call("linear", X, W, Tensor(np.full(6, huge)), scale=0.1)
    with pytest.raises(QuantizationError, match=r"^linear: bias"):
        call("linear", X, W, Tensor(np.array([0, 0, np.nan, 0, 0, 0])), scale=0.1)
    for scale in (0.0, np.nan, -1.0):
        with pytest.raises(QuantizationError, match="linear: output scale"):
            call("linear", X, W, None, scale=scale)
    with pytest.raises(QuantizationError, match=r"multiplier: .*output scale is far too small"):
        call("linear", X, W, None, scale=1e-37)


def test_weights_are_packed_once_and_again_for_another_zero_point():
    w = symmetric(6, 4)
    call("linear", X, w, None)
    packed = w.quantized.packed
    call("linear", X[:1], w, None)
    assert w.quantized.packed is packed
    other = Tensor(CODES[:, [0, 1, 2, 0]], scale=0.1, zero_point=77)
    exact = other.dequantize().numpy().astype(np.float64) @ w.dequantize().numpy().astype(np.float64).T
    assert np.allclose(call("linear", other, w, None).numpy(), exact, 1e-6, 1e-6)
    assert w.detach().quantized is w.quantized      # shared with detached views
