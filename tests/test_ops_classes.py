"""Classes of ops that someone gets wrong, and the checks that see a wrong gradient."""

from __future__ import annotations

import numpy as np
import pytest

from tinyml.errors import GradError
from tinyml.ops import Op, sample
from tinyml.tensors import OPS, Tensor, apply
from tinyml.testing import check_op, gradcheck


@pytest.fixture
def registry():
    """The registry as it was, whatever a test defines."""
    before = dict(OPS)
    yield OPS
    OPS.clear()
    OPS.update(before)


def test_gradcheck_sees_a_wrong_gradient(registry):
    """A backward of zeros, which sum().backward() would pass for a softmax, and a result that depends on no input."""
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
            yield sample(rng.standard_normal(4))

    assert registry["wrong"] is Wrong
    with pytest.raises(AssertionError, match="gradient of input 0 differs from central differences"):
        check_op("wrong")
    with pytest.raises(AssertionError, match="depends on none"):
        gradcheck(lambda x: Tensor(x.numpy()), [np.ones(2)])


# ---- ops that a student gets wrong


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
