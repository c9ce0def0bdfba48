"""Checkpoints: gradients, random numbers, buffers to the bit, with less memory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinyml
from tinyml import Tensor, checkpoint, models, nn, precision
from tinyml._kernels import memory
from tinyml.errors import DtypeError, GradError, ShapeError
from tinyml.nn import functional as F
from tinyml.tape import record


def plain(fn, *inputs):
    return fn(*inputs)


def results(model: nn.Module, forward, retain: bool = False) -> list[np.ndarray]:
    """Output, gradients, buffers, and what the generator gives next, after one backward (or two of one tape)."""
    tinyml.manual_seed(7)
    out = forward(model)
    cotangent = np.random.default_rng(3).standard_normal(out.shape).astype(out.dtype)
    drawn = tinyml.random.generator().random()      # between the passes
    out.backward(cotangent, retain_graph=retain)
    if retain:
        out.backward(cotangent)
    return [out.numpy(), *(np.array(0) if p.grad is None else p.grad.numpy() for p in model.parameters()),
            *model.state_dict().values(), np.array([drawn, tinyml.random.generator().random()])]


def same(found: list[np.ndarray], expected: list[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("retain", [False, True])
def test_networks_with_dropout_and_batch_norm(retain):
    rng = np.random.default_rng(0)
    ids, images = rng.integers(0, 20, (3, 8)), rng.standard_normal((6, 3, 8, 8), np.float32)

    def gpt(run):
        def forward(model):
            x = model.dropout(model.tokens(ids) + model.positions(np.arange(8)))
            for block in model.blocks:
                x = run(block, x)
            return model.head(model.norm(x))
        return forward

    def cnn(run):
        def halves(x):
            for layer in list(model_layers)[8:]:
                x = layer(x)
            return x

        def forward(model):
            nonlocal model_layers
            model_layers = list(model)
            x = Tensor(images)
            for layer in model_layers[:8]:
                x = run(layer, x)
            return run(halves, x)
        model_layers: list = []
        return forward

    for make, forward in ((lambda: models.TinyGPT(20, 8, 2, 2, 8, dropout=0.3), gpt),
                          (lambda: models.CifarCNN(width=4), cnn)):
        tinyml.manual_seed(0)
        model = make()
        assert same(results(model.copy(), forward(checkpoint), retain), results(model.copy(), forward(plain), retain))


def test_quantizers_that_move_meet_their_ranges_as_they_were():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((8, 1, 8, 8), np.float32)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3))
    prepared = precision.prepare_qat(model, [x])
    batch = Tensor(2 * x)
    assert same(results(prepared.copy(), lambda m: checkpoint(m, batch)), results(prepared.copy(), lambda m: m(batch)))


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.sampled_from(
    ["add", "mul", "drop", "weight", "two", "nested", "same", "detached"])), min_size=1, max_size=8), st.data())
def test_random_tapes(steps, draw):
    """Checkpoints with several outputs, nested, of inputs used inside and outside, with parameters used many times."""
    checkpointed = [draw.draw(st.booleans()) for _ in steps]

    def forward(on: list[bool]):
        def run(model):
            weight = model.weight
            values = [weight * 0.5, Tensor(np.full((3, 3), 0.7, np.float32), requires_grad=True)]
            starts = values[1]
            for (i, j, kind), checkpointing in zip(steps, on):
                call = checkpoint if checkpointing else plain

                def step(a, b, kind=kind, call=call):
                    if kind == "two":
                        c = a * b
                        return c, c.tanh() + weight
                    if kind == "nested":
                        return call(lambda a: call(lambda a: F.dropout(a * weight, 0.5), a) + a * b, a)
                    if kind == "same":
                        c = a.sigmoid()
                        return c, c, a
                    return {"add": lambda: a + b, "mul": lambda: (a * b).tanh() * a, "drop": lambda: F.dropout(a, 0.3),
                            "weight": lambda: a * weight + weight, "detached": lambda: a.detach() * b}[kind]()

                found = call(step, values[i % len(values)], values[j % len(values)])
                values += found if isinstance(found, tuple) else [found]
            total = values[0]
            for v in values[1:]:
                total = total + v
            kept.append(starts)
            return total
        return run

    kept: list[Tensor] = []
    tinyml.manual_seed(0)
    model = nn.Linear(3, 3)
    expected = results(model.copy(), forward([False] * len(steps)))
    found = results(model.copy(), forward(checkpointed))
    assert same(found, expected)
    assert np.array_equal(kept[0].grad.numpy(), kept[1].grad.numpy())


def test_less_is_kept():
    x = Tensor(np.ones((64, 1024), np.float32), requires_grad=True)

    def deep(x):
        for _ in range(10):
            x = x.sigmoid()
        return x

    def used(run) -> int:
        tinyml.empty_cache()        # larger blocks that earlier tests left would be taken
        before = memory.usage()["in_use"]
        y = run(deep, x)
        kept = memory.usage()["in_use"] - before
        y.backward(np.ones(y.shape, np.float32))
        return kept

    assert used(checkpoint) == x.array.nbytes and used(plain) == 10 * x.array.nbytes


def test_where_no_gradient_is_wanted_nothing_is_noted():
    x = Tensor([1.0, 2.0])
    y = checkpoint(lambda a: a * 2, x)
    assert not y.requires_grad and y.node is None
    x.requires_grad_()
    with tinyml.no_grad(), record() as ops:
        assert not checkpoint(lambda a: a * 2, x).requires_grad
    assert [r.op.name for r in ops] == ["mul"]
    y, ids, same_x = checkpoint(lambda a: (a * 2, Tensor([1, 2]), a), x)
    assert y.requires_grad and not ids.requires_grad and same_x is x
    (y + same_x).backward([1.0, 1.0])
    assert x.grad.numpy().tolist() == [3, 3]


def test_errors():
    x = Tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(DtypeError, match=r"checkpoint: expected .* a Tensor or a tuple of Tensors, got a list"):
        checkpoint(lambda a: [a * 2], x)
    with pytest.raises(DtypeError, match="got a tuple with a float"):
        checkpoint(lambda a: (a * 2, 1.0), x)
    with pytest.raises(GradError, match="a Tensor from inside a checkpoint has no tape"):
        checkpoint(lambda a: (a * 2).sum().backward(), x)
    sizes = iter([2, 1])

    def changing(a):
        return a[: next(sizes)] * 2

    with pytest.raises(GradError, match=r"run of changing to give what the first gave, \(2,\) of float32, got \(1,\)"):
        checkpoint(changing, x).backward([1.0, 1.0])
    ones = iter([1, 0])

    def failing(a):
        return a * 2 if next(ones) else a @ Tensor(np.ones((3, 3)))

    tinyml.random.generator().random()
    before = tinyml.random.get_state()
    with pytest.raises((ShapeError, DtypeError)):
        checkpoint(failing, x).backward([1.0, 1.0])
    assert tinyml.random.get_state() == before and (x * 2).requires_grad
    y = checkpoint(lambda a: a * 2, x)
    y.backward([1.0, 1.0])
    with pytest.raises(GradError, match="the tape below checkpoint was already used"):
        y.backward([1.0, 1.0])
