"""Tensors changed in place: which object and which memory changes, and gradients through what was changed."""

from __future__ import annotations

import operator

import numpy as np
import pytest
from values import leaf, normal

from tinyml import nn, no_grad, optim
from tinyml.checkpointing import checkpoint
from tinyml.errors import DtypeError, GradError, ShapeError, TraceError
from tinyml.graph import trace
from tinyml.nn import functional as F
from tinyml.tensors import OPS, Tensor, apply, change

# ---- in place

IN_PLACE = {"add": operator.iadd, "sub": operator.isub, "mul": operator.imul, "div": operator.itruediv,
            "pow": operator.ipow, "matmul": operator.imatmul}
OUT_OF_PLACE = {"add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": operator.truediv,
                "pow": operator.pow, "matmul": operator.matmul}


@pytest.mark.parametrize("name", IN_PLACE)
@pytest.mark.parametrize("other", [2.0, np.full((3, 3), 1.5, np.float32), Tensor(np.full((3, 3), 1.5, np.float32))],
                         ids=["number", "array", "Tensor"])
def test_memory_changes_and_the_tensor_stays(name, other):
    if name == "matmul" and isinstance(other, float):
        return
    values = np.abs(normal(3, 3)) + 0.5
    p = nn.Parameter(values.copy())
    memory, view = p.array, p.detach()[0]
    with no_grad():
        expected = OUT_OF_PLACE[name](Tensor(values), other).numpy()
        q = IN_PLACE[name](p, other)
    assert q is p and type(p) is nn.Parameter and p.array is memory
    assert np.array_equal(p.numpy(), expected) and np.array_equal(view.numpy(), expected[0])


@pytest.mark.parametrize("name", IN_PLACE)
def test_on_the_tape_gradients_are_those_of_new_tensors(name):
    found = []
    for operations in (IN_PLACE, OUT_OF_PLACE):
        x, w = leaf(3, 3), Tensor(np.abs(normal(3, 3, seed=1)) + 0.5, requires_grad=True)
        y = (x * x) + 1.0
        kept = y * y        # mul saves y as it is now
        other = 2.0 if name == "pow" else w
        y = operations[name](y, other)
        (y * kept).sum().backward()
        found.append([x.grad.numpy(), None if w.grad is None else w.grad.numpy(), y.numpy()])
    for a, b in zip(*found):
        assert np.array_equal(a, b)


def test_what_cannot_change_in_place_says_so():
    with pytest.raises(GradError, match="add in place: a leaf that requires a gradient"):
        operator.iadd(leaf(2), 1.0)
    with pytest.raises(ShapeError, match=r"add in place: expected a result of shape \(1, 2\), got \(3, 2\)"):
        operator.iadd(Tensor(normal(1, 2)), normal(3, 2))
    with pytest.raises(DtypeError, match=r"add in place: .* int8 codes"):
        operator.iadd(Tensor(normal(2)).to_int8(), 1.0)
    frozen = normal(2)
    frozen.flags.writeable = False
    with pytest.raises(ShapeError, match=r"add in place: .* read-only"):
        operator.iadd(Tensor(frozen), 1.0)
    half = Tensor(np.ones(2, np.float16))
    half += np.ones(2, np.float32)
    assert half.dtype == np.float16 and (half.numpy() == 2).all()


class InPlace(nn.Module):
    """A residual block as PyTorch's users write it."""

    def __init__(self):
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        y = F.relu(self.first(x))
        y += x
        y *= 2.0
        z = self.second(y)
        z -= y
        return z


class NewTensors(InPlace):
    def forward(self, x):
        y = (F.relu(self.first(x)) + x) * 2.0
        return self.second(y) - y


def test_a_trace_follows_changes_in_place():
    model, plain, x = InPlace().eval(), NewTensors().eval(), normal(5, 4)
    plain.load_state_dict(model.state_dict())
    assert str(trace(model, x)) == str(trace(plain, x))
    assert np.array_equal(model.to_int8(calibration=[x])(x).numpy(), plain.to_int8(calibration=[x])(x).numpy())

    class Counts(nn.Module):
        def __init__(self):
            self.calls = Tensor(np.zeros(1, np.float32))

        def forward(self, x):
            self.calls += 1.0
            return x * self.calls

    with pytest.raises(TraceError, match="that does not come from the input is changed in place by add"):
        trace(Counts(), x)


# ---- gradients through what was changed

def kept_or_right(op, sample, i: int, through) -> None:
    """Operand i changes between forward and backward: an error that names the op, or the gradients of no change."""
    def run(change_it: bool) -> list:
        tensors = [None if a is None else Tensor(np.array(a), requires_grad=np.asarray(a).dtype.kind == "f")
                   for a in sample.inputs]
        y = apply(op, *tensors, **sample.attrs)
        if not y.requires_grad:
            return []
        if change_it:
            through(tensors[i])
        y.backward(np.ones(y.shape))
        return [None if t is None or t.grad is None else t.grad.numpy() for t in tensors]

    try:
        changed = run(True)
    except GradError as error:
        assert str(error).startswith(f"{op.name}: float64 values of shape"), error
        return
    for a, b in zip(changed, run(False), strict=True):
        assert (a is None and b is None) or np.array_equal(a, b, equal_nan=True), op.name


def by_optimizer(t: Tensor) -> None:
    before, t.grad = t.grad, Tensor(np.ones(t.shape, t.dtype))
    optim.SGD([t], lr=1.0).step()
    t.grad = before


def by_arithmetic(t: Tensor) -> None:
    with no_grad():
        t += 1.0


def through_a_view(t: Tensor) -> None:
    view = t.detach()[...]
    view *= 3.0


def through_data(t: Tensor) -> None:
    t.data += 1.0


@pytest.mark.parametrize("through", [by_optimizer, by_arithmetic, through_a_view, through_data])
@pytest.mark.parametrize("name", sorted(n for n in OPS if OPS[n].differentiable and not OPS[n].surrogate))
def test_no_op_gives_a_gradient_of_what_was_changed(name, through):
    op = OPS[name]
    for sample in op.samples(np.random.default_rng(0)):
        for i, a in enumerate(sample.inputs):
            if a is not None and np.asarray(a).dtype.kind == "f" and np.size(a):
                kept_or_right(op, sample, i, through)


def step(p):
    by_optimizer(p)


def load(p):
    layer = nn.Linear(1, 1, bias=False)
    layer.weight = p
    layer.load_state_dict({"weight": np.full((1, 1), 5.0)})


@pytest.mark.parametrize(("way", "said"), [(step, "SGD.step, parameter 0"), (load, "load_state_dict of weight")])
def test_the_error_says_what_changed_it(way, said):
    v, w = nn.Parameter(normal(1, 1)), nn.Parameter(normal(1, 1))
    y = F.linear(F.linear(np.ones((1, 1), np.float32), v), w).sum()
    way(w)
    with pytest.raises(GradError, match=rf"linear: float32 values of shape \(1, 1\), .* were changed by {said}"):
        y.backward()


def test_a_new_array_as_data_changes_no_gradient():
    """The tape keeps the array from before."""
    w = nn.Parameter(np.full((1, 1), 2.0, np.float32))
    x = leaf(1, 1)
    y = F.linear(x, w).sum()
    w.data = np.full((1, 1), 7.0, np.float32)
    y.backward()
    assert x.grad.item() == 2
    with pytest.raises(DtypeError, match=r"data: expected an ndarray or a Tensor .* got list"):
        w.data = [1.0]
    w.data = Tensor(np.full((1, 1), 3.0, np.float32))
    assert type(w.data) is Tensor and F.linear(np.ones((1, 1), np.float32), w).item() == 3


def test_changes_of_what_nothing_keeps_are_right():
    """A sum saves no operand, and a step between the backwards of two tapes is normal training."""
    b = nn.Parameter(normal(3))
    y = (b + 1.0).sum()
    by_arithmetic(b)
    y.backward()
    assert (b.grad.numpy() == 1).all()


def test_checkpoints_notice_changes_too():
    """The second run of a checkpoint would read other values than the first."""
    layer = nn.Linear(3, 3)
    for outer in (layer, lambda x: checkpoint(layer, x * 1.0)):
        y = checkpoint(outer, leaf(2, 3) * 2.0)
        with no_grad():
            layer.weight *= 2.0
        with pytest.raises(GradError, match="linear: float32 values"):
            y.sum().backward()
    x, y = leaf(2, 3), leaf(2, 3)

    def block(h):
        h += 1.0
        return h * h

    checkpoint(block, x * 2.0).sum().backward()
    block(y * 2.0).sum().backward()
    assert np.array_equal(x.grad.numpy(), y.grad.numpy())


def test_a_training_loop_of_steps_in_place_goes_on():
    layer, x = nn.Linear(3, 1), Tensor(normal(64, 3))
    y, losses = Tensor((x.numpy() @ [[1.0], [2.0], [3.0]]).astype(np.float32)), []
    for _ in range(5):
        loss = ((layer(x) - y) ** 2).mean()
        layer.zero_grad()
        loss.backward()
        losses.append(loss.item())
        with no_grad():
            for p in layer.parameters():
                p -= 0.1 * p.grad
    assert losses == sorted(losses, reverse=True) and losses[-1] < losses[0] / 4
    assert [name for name, _ in layer.named_parameters()] == ["weight", "bias"]


def test_copies_and_pickles_are_leaves():
    import copy
    import pickle

    p = nn.Parameter(normal(2), decay=False)
    for q in (copy.deepcopy(p), pickle.loads(pickle.dumps(p))):
        assert type(q) is nn.Parameter and q.requires_grad and not q.decay and np.array_equal(q.numpy(), p.numpy())
        assert not np.shares_memory(q.numpy(), p.numpy())
    with pytest.raises(GradError, match="copy: expected a Tensor of its own, got the result of mul"):
        copy.copy(p * 2.0)
    int8 = Tensor(normal(3, 2)).to_int8(axis=0)
    assert np.array_equal(copy.deepcopy(int8).dequantize().numpy(), int8.dequantize().numpy())


def test_change_takes_any_op_of_the_same_shape():
    x = Tensor(normal(3))
    expected = np.maximum(x.numpy(), 0)
    assert change(x, "relu") is x and np.array_equal(x.numpy(), expected)
