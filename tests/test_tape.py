"""The tape: what backward adds up, in which order, what it refuses, and what keeps ops off it."""

from __future__ import annotations

import gc
import threading
import weakref

import numpy as np
import pytest
from values import leaf

from tinyml.errors import DtypeError, GradError, ShapeError
from tinyml.tape import no_grad, record
from tinyml.tensors import Tensor, call
from tinyml.testing import gradcheck


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


def test_gradients_cross_precisions():
    """float16 and float32 parts of one model meet float64: each part's gradient is computed in its own dtype."""
    a, b, c = leaf(2, 3, dtype=np.float16), leaf(3, seed=1), leaf(3, seed=2, dtype=np.float64)
    y = call("layer_norm", call("gelu", a, approximate="none").to("float32") + b, b, b, eps=1e-5).softmax() * c
    assert y.dtype == np.float64
    y.backward(np.ones((2, 3)))
    wide = [Tensor(t.numpy().astype(np.float64), requires_grad=True) for t in (a, b, c)]
    z = call("layer_norm", call("gelu", wide[0], approximate="none") + wide[1], wide[1], wide[1], eps=1e-5).softmax()
    (z * wide[2]).backward(np.ones((2, 3)))
    for t, w in zip((a, b, c), wide, strict=True):
        assert t.grad.dtype == t.dtype and np.allclose(t.grad.numpy(), w.grad.numpy(), 2e-2, 2e-3)


def test_record_notes_every_op():
    x = leaf(2, 3)
    with record() as ops, no_grad():
        y = (x * 2).sum(dim=1)
    assert [r.op.name for r in ops] == ["mul", "sum"]
    assert ops[0].inputs[0] is x and ops[1].output is y and ops[1].attrs == {"axis": 1, "keepdims": False}
    _ = x + 1
    assert len(ops) == 2


def test_no_grad_decorates_functions_and_generators():
    def tracked():
        return (leaf(1) * 2.0).requires_grad

    @no_grad()
    def plain(x, *, y):
        return tracked(), x, y

    @no_grad
    def bare():
        return tracked()

    @no_grad()
    def generated():
        """Its doc."""
        try:
            got = yield tracked()
            yield got, tracked()
        except KeyError:
            yield "caught", tracked()
        return "end"

    assert plain(1, y=2) == (False, 1, 2) and bare() is False and generated.__doc__ == "Its doc."
    items = generated()
    assert next(items) is False and tracked()       # between two items it is the caller's mode
    assert items.send("sent") == ("sent", False) and tracked()
    with pytest.raises(StopIteration) as end:
        next(items)
    assert end.value.value == "end"
    items = generated()
    next(items)
    assert items.throw(KeyError("k")) == ("caught", False)
    items.close()
    with pytest.raises(ValueError, match="from inside"):
        next(no_grad()(lambda: (_ for _ in ()).throw(ValueError("from inside")))())
    with pytest.raises(DtypeError, match="no_grad: expected a function to decorate, got int"):
        no_grad(3)
