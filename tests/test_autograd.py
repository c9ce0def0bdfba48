"""tinyml.autograd: gradients of chosen Tensors, hooks, functions with a backward of their own, modes of the tape."""

from __future__ import annotations

import gc
import math
import threading
import weakref

import numpy as np
import pytest
from values import leaf, normal

import tinyml
from tinyml import Tensor, autograd, nn
from tinyml.autograd import Function, once_differentiable
from tinyml.errors import DtypeError, GradError, ShapeError, TraceError
from tinyml.graph import trace
from tinyml.nn import functional as F


def values(*tensors) -> list:
    return [None if t is None else t.numpy().tolist() for t in tensors]


# ---- grad

def test_grad_returns_gradients_and_leaves_grad_alone():
    x, w = Tensor([1.0, 2.0], requires_grad=True), Tensor([3.0, 4.0], requires_grad=True)
    y = x * w
    z = (y * y).sum()
    gx, gy = autograd.grad(z, (x, y), retain_graph=True)
    assert values(gx, gy) == [[18, 64], [6, 16]]
    assert x.grad is w.grad is y.grad is None and not gx.requires_grad
    assert values(*autograd.grad(z, w)) == [[6, 32]]        # one Tensor gives a tuple, too
    with pytest.raises(GradError, match="already used and released"):
        autograd.grad(z, w)


def test_grad_of_several_outputs_with_cotangents():
    x = leaf(3)
    a, b = x * 2, x * x
    found = autograd.grad([a, b], x, [np.ones(3), Tensor([1.0, 0.0, 2.0])])
    assert np.allclose(found[0].numpy(), 2 + 2 * x.numpy() * [1, 0, 2])
    assert values(*autograd.grad([x.sum(), (x * 3).sum()], [x])) == [[4, 4, 4]]
    with pytest.raises(GradError, match="expected 2 cotangents, one for each of outputs, got 1"):
        autograd.grad([x * 1, x * 2], x, [np.ones(3)])
    with pytest.raises(GradError, match=r"a Tensor of shape \(3,\) needs a cotangent"):
        autograd.grad(x * 2, x)
    with pytest.raises(ShapeError, match=r"expected a cotangent of shape \(3,\), got \(2,\)"):
        autograd.grad(x * 2, x, np.ones(2))


def test_inputs_that_are_not_used():
    x, other = leaf(2), leaf(2)
    y = (x * x).sum()
    with pytest.raises(GradError, match=r"grad: the outputs do not depend on input 1, of shape \(2,\)"):
        autograd.grad(y, [x, other], retain_graph=True)
    assert autograd.grad(y, [other, x], retain_graph=True, allow_unused=True)[0] is None
    assert values(autograd.grad(y, [other], materialize_grads=True, retain_graph=True)[0]) == [[0, 0]]
    with pytest.raises(GradError, match=r"grad: inputs\[0\], of shape \(2,\), does not require a gradient"):
        autograd.grad(y, Tensor([1.0, 2.0]))
    for refused in ({"create_graph": True}, {"is_grads_batched": True}):
        with pytest.raises(GradError, match=next(iter(refused))):
            autograd.grad(y, x, **refused)


def test_only_what_leads_to_an_input_is_visited():
    """So the rest of the tape is neither computed nor released."""
    x, w = leaf(2), leaf(2, seed=1)
    seen = []
    y = x * 2
    side = w * 3
    side.register_hook(lambda g: seen.append("side"))
    z = (y * side).sum()
    autograd.grad(z, y)
    assert not seen
    side.sum().backward()
    assert seen == ["side"] and values(w.grad) == [[3, 3]]
    (y * 1).sum().backward()        # below the input nothing was released
    assert values(x.grad) == [[2, 2]]


def test_an_input_below_another_gets_all_of_its_gradient():
    x = Tensor([2.0], requires_grad=True)
    y = x * x
    z = y * x + y
    assert values(*autograd.grad(z, [y, x, z])) == [[3], [16], [1]]


def test_gradients_through_a_checkpoint():
    x, w = leaf(4), leaf(4, seed=1)
    plain = autograd.grad(((x * w).tanh() * w).sum(), [x, w])
    inside = tinyml.checkpoint(lambda t: (t * w).tanh() * w, x * 1)
    again = autograd.grad(inside.sum(), [x, w])
    assert values(*plain) == values(*again) and x.grad is w.grad is None


def test_backward_of_several_and_into_some():
    x, w = Tensor([2.0], requires_grad=True), Tensor([3.0], requires_grad=True)
    autograd.backward([x * w, x * x])
    assert values(x.grad, w.grad) == [[7], [2]]
    y = x * w
    (y * y).backward(inputs=[w, y])
    assert values(x.grad, w.grad, y.grad) == [[7], [26], [12]]
    autograd.backward(x * w, [[10.0]], inputs=x)
    assert values(x.grad) == [[37]]
    with pytest.raises(GradError, match="create_graph=True asks for gradients of gradients"):
        (x * w).backward(create_graph=True)


def test_gradients_are_no_views_of_what_the_tape_goes_on_with():
    x = leaf(3)
    y = x * 1
    (gy, gx) = autograd.grad((y + 0).sum(), [y, x])
    gy += 1
    assert values(gx) == [[1, 1, 1]]


# ---- what a Tensor says of its place on the tape

def test_grad_fn_and_leaves():
    x = Tensor([1.0], requires_grad=True)
    y = x * x
    z = F.log_softmax(y + 1, 0)
    assert repr(y.grad_fn) == "<MulBackward>" and z.grad_fn.name() == "LogSoftmaxBackward" and x.grad_fn is None
    (first, number), second = y.grad_fn.next_functions
    assert repr(first) == "<AccumulateGrad>" and first.variable is x and number == second[1] == 0
    assert first.next_functions == () and first.name() == "AccumulateGrad"
    (added, _), = z.grad_fn.next_functions
    assert added.next_functions == ((y.grad_fn, 0), (None, 0))
    assert x.is_leaf and not y.is_leaf and Tensor([1.0]).is_leaf
    z.sum().backward()
    assert z.grad_fn.next_functions == ()       # released


def test_requires_grad_is_checked_where_it_is_assigned():
    x = Tensor([1, 2])
    for wrong in (lambda: setattr(x, "requires_grad", True), x.requires_grad_, lambda: Tensor([1], requires_grad=True)):
        with pytest.raises(GradError, match="requires_grad: expected a float dtype, got int64"):
            wrong()
    x.requires_grad = False
    y = leaf(2) * 2
    for wrong in (lambda: setattr(y, "requires_grad", False), lambda: y.requires_grad_(False)):
        with pytest.raises(GradError, match=r"the result of mul on the tape keeps its gradient; detach\(\) it"):
            wrong()
    y.requires_grad = True
    z = Tensor([1.0])
    z.requires_grad = True
    assert z.requires_grad and z.is_leaf


def test_grad_is_checked_where_it_is_assigned():
    x = leaf(2)
    x.grad = Tensor([1.0, 2.0])
    x.grad = None
    with pytest.raises(DtypeError, match="grad: expected a Tensor or None, got ndarray"):
        x.grad = np.ones(2, np.float32)
    with pytest.raises(ShapeError, match=r"grad: expected float32 of shape \(2,\), as the Tensor has, .* of shape \(3,\)"):
        x.grad = Tensor([1.0, 2.0, 3.0])
    with pytest.raises(DtypeError, match=r"grad: expected float32 .* got float64"):
        x.grad = Tensor(np.ones(2))
    assert x.grad is None


def test_detach_in_place():
    x = leaf(2)
    y = x * 2
    assert y.detach_() is y and y.is_leaf and not y.requires_grad
    with pytest.raises(GradError, match=r"detach_: this Tensor of shape \(1,\) is a view"):
        (x * 2)[:1].detach_()


@pytest.mark.parametrize("ask", [lambda v: v.requires_grad, lambda v: v.grad_fn is not None, lambda v: not v.is_leaf,
                                 lambda v: v.register_hook(lambda g: None) is not None])
def test_a_view_knows_that_its_root_changed(ask):
    x, w = Tensor(np.zeros(3, np.float32)), leaf(3)
    view = x[1:]
    x += w
    assert ask(view)
    view.backward([1.0, 2.0])
    assert values(w.grad) == [[0, 1, 2]]


def test_a_view_that_is_first_looked_at_off_the_tape_keeps_its_gradient():
    x, w = Tensor(np.zeros(3, np.float32)), leaf(3)
    view = x[1:]
    x *= w
    with tinyml.no_grad():
        assert not (view * 2).requires_grad and view.requires_grad
        assert not view.detach().requires_grad
    y = x * 1
    y += 1
    (view * 2).sum().backward()
    assert values(w.grad) == [[0, 0, 0]] and view.grad_fn is not None


# ---- hooks

def test_hooks_see_the_whole_gradient_once_and_may_replace_it():
    x = Tensor([1.0, 2.0], requires_grad=True)
    seen = []
    y = x * x
    handles = [y.register_hook(lambda g: seen.append(("y", *values(g)))), y.register_hook(lambda g: g * 10),
               x.register_hook(lambda g: seen.append(("x", *values(g)))), x.register_hook(lambda g: g + 1)]
    ((y * 3).sum() + y.sum() + x.sum()).backward(retain_graph=True)
    assert seen == [("y", [4, 4]), ("x", [81, 161])] and values(x.grad) == [[82, 162]]
    for h in handles:
        h.remove()
        h.remove()
    y.sum().backward()
    assert len(seen) == 2 and values(x.grad) == [[84, 166]]


def test_hooks_run_off_the_tape_and_are_checked():
    x = leaf(2)
    modes = []
    x.register_hook(lambda g: modes.append(tinyml.is_grad_enabled()))
    (x * 2).sum().backward()
    assert modes == [False] and tinyml.is_grad_enabled()
    x.register_hook(lambda g: g.sum())
    with pytest.raises(GradError, match=r"register_hook: expected .* None or a Tensor of shape \(2,\), got shape \(\)"):
        (x * 2).sum().backward()
    with pytest.raises(GradError, match="register_hook: this Tensor does not depend on anything"):
        Tensor([1.0]).register_hook(print)
    with pytest.raises(DtypeError, match="register_hook: expected hook to be a function"):
        x.register_hook(3)


def test_hooks_change_what_grad_returns():
    x = leaf(2)
    y = x * 3
    y.register_hook(lambda g: g * 2)
    x.register_hook(lambda g: g * 5)
    gy, gx = autograd.grad(y.sum(), [y, x])
    assert values(gy, gx) == [[2, 2], [30, 30]]


def test_retained_gradients():
    x = leaf(2)
    y = x * 2
    y.register_hook(lambda g: g * 3)
    y.retain_grad()
    assert y.retains_grad and not x.retains_grad
    z = (y * y).sum()
    z.backward(retain_graph=True)
    assert np.allclose(y.grad.numpy(), 6 * y.numpy()) and np.allclose(x.grad.numpy(), 12 * y.numpy())
    z.backward()
    assert np.allclose(y.grad.numpy(), 12 * y.numpy())      # it adds up, as a leaf's
    x.retain_grad()     # a leaf's is kept anyway
    with pytest.raises(GradError, match="retain_grad: this Tensor does not depend"):
        Tensor([1.0]).retain_grad()
    u = x * 2
    u.retain_grad()
    u *= 5      # the gradient kept is that of the elements as they are now
    (u * 7).sum().backward()
    assert values(u.grad) == [[7, 7]]


def test_what_is_hooked_is_released():
    x = leaf(2)
    y = x * 2
    y.retain_grad()
    gone = weakref.ref(y)
    z = y.sum()
    del y
    gc.collect()
    assert gone() is None
    z.backward()
    assert values(x.grad) == [[2, 2]]


def test_hooks_in_a_checkpoint_run_once():
    x = leaf(3)
    seen = []

    def forward(t):
        y = t * 2
        y.register_hook(lambda g: seen.append(values(g)))
        return y * 3

    tinyml.checkpoint(forward, x).sum().backward()
    assert seen == [[[3, 3, 3]]] and values(x.grad) == [[6, 6, 6]]


# ---- Function

class Scaled(Function):
    """Two results, of Tensors and a number."""

    @staticmethod
    def forward(ctx, a, b, k):
        ctx.save_for_backward(a, b)
        ctx.k = k
        return a * b * k, a + b

    @staticmethod
    @once_differentiable
    def backward(ctx, product, total):
        a, b = ctx.saved_tensors
        assert not tinyml.is_grad_enabled()
        return (product * b * ctx.k + total if ctx.needs_input_grad[0] else None,
                product * a * ctx.k + total if ctx.needs_input_grad[1] else None, None)


def test_function():
    a, b = (Tensor(normal(3, seed=s).astype(np.float64), requires_grad=True) for s in (0, 1))
    p, q = Scaled.apply(a, b, 2.0)
    assert repr(p.grad_fn) == "<ScaledBackward>" and p.requires_grad and q.requires_grad
    assert autograd.gradcheck(lambda a, b: Scaled.apply(a, b, 2.0), (a, b))
    p.sum().backward()          # nothing uses q: its gradient is zeros
    assert np.allclose(a.grad.numpy(), 2 * b.numpy())
    with tinyml.no_grad():
        assert not Scaled.apply(a, b, 2.0)[0].requires_grad
    plain = Scaled.apply(a.detach(), b, 1.0)
    sum(t.sum() for t in plain).backward()
    assert np.allclose(b.grad.numpy(), 2 * a.numpy() + a.numpy() + 1)
    with pytest.raises(GradError, match="the tape below Scaled was already used"):
        plain[0].sum().backward()


def test_straight_through():
    class Binarize(Function):
        @staticmethod
        def forward(x):
            return Tensor(np.sign(x.numpy()))

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(*inputs, None)

        @staticmethod
        def backward(ctx, grad):
            x, nothing = ctx.saved_tensors
            assert nothing is None
            return grad * (x.abs().clip(0, 1).eq(x.abs())).to("float32")

    x = Tensor([-2.0, -0.5, 0.5], requires_grad=True)
    Binarize.apply(x).backward([1.0, 2.0, 3.0])
    assert values(x.grad) == [[0, 2, 3]]


def test_results_without_a_gradient_and_arguments_that_come_back():
    class Largest(Function):
        @staticmethod
        def forward(ctx, x):
            value, place = x.max(), x.argmax()
            twice = value * 2
            ctx.mark_non_differentiable(twice)
            ctx.set_materialize_grads(False)
            return value, place, twice, "words", x

        @staticmethod
        def backward(ctx, *grads):
            assert grads[0] is grads[1] is grads[2] is grads[3] is None
            return grads[4] * 3

    x = leaf(3)
    value, place, twice, words, same = Largest.apply(x)
    assert value.requires_grad and not twice.requires_grad and not place.requires_grad and words == "words"
    assert same is not x and x.is_leaf and np.shares_memory(same.numpy(), x.numpy())
    same.sum().backward()
    assert values(x.grad) == [[3, 3, 3]]


def returning(found):
    class Wrong(Function):
        @staticmethod
        def forward(ctx, x, y):
            ctx.save_for_backward(x)
            return x * 2

        @staticmethod
        def backward(ctx, grad):
            return found(ctx, grad)
    return Wrong


def test_wrong_functions_say_what_is_wrong():
    x = leaf(2)
    for found, message in ((lambda ctx, g: g, "Wrong: backward returned 1 gradients, expected 2"),
                           (lambda ctx, g: (g, None, g), "returned 3 gradients, expected 2"),
                           (lambda ctx, g: (1.0, None), "returned a float, expected Tensors and None"),
                           (lambda ctx, g: (Tensor(normal(3)), None), r"Wrong: got a gradient of shape \(3,\)")):
        with pytest.raises(GradError, match=message):
            returning(found).apply(x, None).backward([1.0, 1.0])
    fine = returning(lambda ctx, g: (g, None))
    y = fine.apply(x, None)
    with tinyml.no_grad():
        x += 1
    with pytest.raises(GradError, match="Wrong: float32 values of shape"):
        y.sum().backward()
    with pytest.raises(DtypeError, match="save_for_backward: expected Tensors, got int"):
        type("Saves", (Function,), {"forward": staticmethod(lambda ctx, x: ctx.save_for_backward(3))}).apply(x)


def test_a_function_releases_what_it_kept():
    class Keeps(Function):
        @staticmethod
        def forward(ctx, x):
            y = x.exp()
            ctx.save_for_backward(y)
            kept.append(weakref.ref(ctx))
            return y

        @staticmethod
        def backward(ctx, grad):
            return grad * ctx.saved_tensors[0]

    kept = []
    gc.collect()
    gc.disable()
    try:
        y = Keeps.apply(leaf(2))
        y.sum().backward()
        assert kept[0]() is None        # with the tape, though y is alive
        del y
        Keeps.apply(leaf(2))
        assert kept[1]() is None        # and without a cycle through the result that it kept
    finally:
        gc.enable()


def test_a_function_is_not_traced():
    class Model(nn.Module):
        def forward(self, x):
            return returning(None).apply(x, None)

    with pytest.raises(TraceError, match="Wrong: a Function of one's own has no place in a program"):
        trace(Model(), np.ones((1, 2), np.float32))


def test_a_function_in_a_checkpoint():
    a, b = leaf(3), leaf(3, seed=1)
    tinyml.checkpoint(lambda a: Scaled.apply(a, b, 3.0)[0], a).sum().backward()
    assert np.allclose(a.grad.numpy(), 3 * b.numpy()) and np.allclose(b.grad.numpy(), 3 * a.numpy())


# ---- gradcheck

def test_gradcheck():
    x, y = (Tensor(np.abs(normal(2, 3, seed=s).astype(np.float64)) + 0.5, requires_grad=True) for s in (0, 1))
    assert autograd.gradcheck(lambda a, b, k: (a * b ** k, a.argmax(), a.log() @ b.mT), [x, y, 3])
    wrong = returning(lambda ctx, g: (g * 2.001, None))
    with pytest.raises(GradError, match="gradient of input 0 differs from central differences by up to"):
        autograd.gradcheck(lambda a: wrong.apply(a, None) * 1.0, x, rtol=1e-5)
    assert not autograd.gradcheck(lambda a: wrong.apply(a, None), x, rtol=1e-5, raise_exception=False)
    assert autograd.gradcheck(lambda a: wrong.apply(a, None), x, rtol=1e-2)
    with pytest.raises(DtypeError, match="float64"):
        autograd.gradcheck(lambda a: a * 2, leaf(2))
    with pytest.raises(GradError, match="no input requires a gradient"):
        autograd.gradcheck(lambda a: a * 2, Tensor(np.ones(2)))


# ---- modes

def on() -> bool:
    return tinyml.is_grad_enabled() and (Tensor([1.0], requires_grad=True) * 2).requires_grad


def test_modes_as_context_managers():
    with tinyml.no_grad():
        assert not on()
        with tinyml.enable_grad():
            assert on()
        with tinyml.inference_mode(False):
            assert on()
        assert not on()
    with tinyml.inference_mode():
        assert not on()
    with tinyml.set_grad_enabled(False):
        assert not on()
        with tinyml.set_grad_enabled(True):
            assert on()
        assert not on()
    assert on()


def test_set_grad_enabled_as_a_call():
    tinyml.set_grad_enabled(False)
    try:
        assert not on()
        other = []
        thread = threading.Thread(target=lambda: other.append(on()))
        thread.start()
        thread.join()
        assert other == [True]
    finally:
        tinyml.set_grad_enabled(True)
    assert on()
    with pytest.raises(DtypeError, match="set_grad_enabled: expected mode to be True or False"):
        tinyml.set_grad_enabled("no")


@pytest.mark.parametrize(("decorator", "inside"), [
    (tinyml.no_grad, False), (tinyml.no_grad(), False), (tinyml.inference_mode, False), (tinyml.inference_mode(), False),
    (tinyml.inference_mode(False), True), (tinyml.enable_grad, True), (tinyml.enable_grad(), True)])
def test_modes_as_decorators(decorator, inside):
    @decorator
    def asked(again=True):
        return on(), asked(False) if again else None

    @decorator
    def generated():
        yield on()
        yield on()

    for outside in (True, False):
        with tinyml.set_grad_enabled(outside):
            assert asked() == (inside, (inside, None))
            for found in generated():
                assert found is inside and on() is outside
            assert on() is outside


def test_set_grad_enabled_as_a_decorator_holds_in_the_function_only():
    @tinyml.set_grad_enabled(False)
    def asked():
        return on()

    assert on() and not asked() and on()


def test_enable_grad_in_a_checkpoint_keeps_nothing_in_the_first_run():
    x = leaf(2)

    @tinyml.enable_grad()
    def forward(t):
        return t * t

    tinyml.checkpoint(forward, x).sum().backward()
    assert np.allclose(x.grad.numpy(), 2 * x.numpy())


# ---- training by hand, as courses do it

def test_a_neuron_as_micrograd_has_it():
    x, w = [Tensor(v, requires_grad=True) for v in (2.0, 0.0)], [Tensor(v, requires_grad=True) for v in (-3.0, 1.0)]
    b = Tensor(6.8813735870195432, requires_grad=True)
    n = x[0] * w[0] + x[1] * w[1] + b
    n.retain_grad()
    o = n.tanh()
    o.backward()
    assert abs(o.item() - 1 / math.sqrt(2)) < 1e-6 and abs(n.grad.item() - 0.5) < 1e-6
    assert np.allclose([t.grad.item() for t in (*x, *w)], [-1.5, 0.5, 1.0, 0.0], atol=1e-6)


def test_a_multilayer_perceptron_trained_by_autograd_grad():
    rng = np.random.default_rng(0)
    inputs = Tensor(rng.standard_normal((64, 2)).astype(np.float32))
    targets = Tensor((inputs.numpy()[:, :1] * inputs.numpy()[:, 1:] > 0).astype(np.float32) * 2 - 1)
    parameters = [Tensor(rng.standard_normal(s).astype(np.float32) * k, requires_grad=True)
                  for s, k in (((2, 16), 0.7), ((16,), 0.0), ((16, 1), 0.25), ((1,), 0.0))]

    def loss() -> Tensor:
        w1, b1, w2, b2 = parameters
        return ((((inputs @ w1 + b1).tanh() @ w2 + b2) - targets) ** 2).mean()

    first = loss().item()
    for _ in range(300):
        for p, g in zip(parameters, autograd.grad(loss(), parameters), strict=True):
            with tinyml.no_grad():
                p -= 0.3 * g
            assert p.is_leaf and p.grad is None
    assert first > 0.8 and loss().item() < 0.2


def test_a_bigram_model_as_makemore_has_it():
    """The gradient of the loss by the logits, by hand: softmax minus one, over the number of examples."""
    xs, ys = np.array([0, 5, 13, 13, 1]), np.array([5, 13, 13, 1, 0])
    W = Tensor(normal(27, 27), requires_grad=True)
    losses = []
    for _ in range(100):
        logits = Tensor(np.eye(27, dtype=np.float32)[xs]) @ W
        logits.retain_grad()
        counts = logits.exp()
        probs = counts / counts.sum(1, keepdim=True)
        loss = -probs[np.arange(5), ys].log().mean()
        W.grad = None
        loss.backward()
        expected = probs.detach().clone()
        expected[np.arange(5), ys] -= 1
        assert np.allclose(logits.grad.numpy(), expected.numpy() / 5, atol=1e-6)
        W.data += -5 * W.grad
        losses.append(loss.item())
    assert losses[-1] < 0.4 < 2 < losses[0]


# ---- against PyTorch

def program(lib, autograd, tensor):
    """The same lines for both: hooks, retained gradients, changes in place, a Function, grad and backward."""
    class Twice(autograd.Function):
        @staticmethod
        def forward(ctx, a, b):
            ctx.save_for_backward(a, b)
            return a * b, a - b

        @staticmethod
        def backward(ctx, p, q):
            a, b = ctx.saved_tensors
            return p * b + q, p * a - q

    x, w = tensor([1.0, -2.0, 3.0]), tensor([0.5, 1.5, -1.0])
    found = []
    y = x * w
    y.register_hook(lambda g: found.append(g) or g * 2)
    y.retain_grad()
    handle = w.register_hook(lambda g: g * 100)
    handle.remove()
    w.register_hook(lambda g: found.append(g))
    p, q = Twice.apply(y, w)
    view = q[1:]
    q *= x
    with lib.no_grad():
        assert not (p * 2).requires_grad
    z = (p * p).sum() + view.exp().sum()
    found += [*autograd.grad(z, y, retain_graph=True), *autograd.grad(z, [x, q], retain_graph=True)]
    z.backward(retain_graph=True)
    z.backward(inputs=[x], retain_graph=True)
    autograd.backward([y.sum(), (y * y).sum()])
    assert view.grad_fn is not None and not view.is_leaf
    return [*found, x.grad, w.grad, y.grad]


@pytest.mark.parity
def test_the_same_program_gives_torchs_gradients():
    torch = pytest.importorskip("torch", reason="compares live with PyTorch: pip install '.[parity]'")
    expected = program(torch, torch.autograd, lambda v: torch.tensor(v, requires_grad=True))
    found = program(tinyml, autograd, lambda v: Tensor(v, requires_grad=True))
    assert len(found) == len(expected) > 8
    for a, b in zip(found, expected, strict=True):
        assert np.allclose(a.numpy(), b.detach().numpy(), rtol=1e-5)
