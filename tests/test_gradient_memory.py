"""The memory of gradients and of what ops save: who owns it, when it is written in place, when it is freed."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from values import leaf

from tinyml import tape
from tinyml._kernels import memory
from tinyml.ops import Op
from tinyml.tensors import OPS, apply


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


del OPS["sly_for_test"]     # tests that go through all ops would ask for its samples
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


# ---- when it is freed


def test_backward_frees_the_tape_as_it_goes():
    x = leaf(3)
    y = x * 2
    z = y * y
    contexts = [weakref.ref(y.node.context), weakref.ref(z.node.context)]
    z.backward(np.ones(3), retain_graph=True)
    assert all(c() is not None for c in contexts)
    z.backward(np.ones(3))
    assert all(c() is None for c in contexts)


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
    c.sum().backward()
    # saved by a, b, c; then the gradients that c and b got
    assert alive == [(True, True, True), (True, True, False, False), (True, False, False, False, False)]
    assert not any(r() is not None for r in refs) and all(t.node.context is None for t in (a, b, c))
