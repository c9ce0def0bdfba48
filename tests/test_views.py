"""Views share the memory of what they are views of, on the tape and off it, however they are changed in place."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

import tinyml
from tinyml.errors import DtypeError, GradError, ShapeError
from tinyml.tape import no_grad
from tinyml.tensors import Tensor

# Each function that gives a view of a Tensor (2, 3, 4).
VIEWS = {
    "reshape": lambda x: x.reshape(6, -1), "view": lambda x: x.view(4, 6),
    "view_as": lambda x: x.view_as(Tensor(np.ones((3, 8)))),
    "reshape_as": lambda x: x.reshape_as(Tensor(np.ones(24))), "flatten": lambda x: x.flatten(1),
    "ravel": lambda x: x.ravel(),
    "unflatten": lambda x: x.unflatten(2, (2, -1)), "permute": lambda x: x.permute(2, 0, 1),
    "transpose": lambda x: x.transpose(0, -1), "swapaxes": lambda x: x.swapaxes(0, 1), "t": lambda x: x[0].t(),
    "T": lambda x: x[1].T, "mT": lambda x: x.mT, "movedim": lambda x: x.movedim((0, 1), (-1, 0)),
    "squeeze": lambda x: x[:, :1].squeeze(1), "unsqueeze": lambda x: x.unsqueeze(-1), "select": lambda x: x.select(1, -1),
    "narrow": lambda x: x.narrow(2, 1, 2), "split": lambda x: x.split(2, 1)[1], "chunk": lambda x: x.chunk(2, -1)[0],
    "split_with_sizes": lambda x: x.split_with_sizes([1, 3], 2)[1], "tensor_split": lambda x: x.tensor_split(3, 2)[0],
    "unbind": lambda x: x.unbind(2)[3], "diagonal": lambda x: x.diagonal(1, 1, 2), "unfold": lambda x: x.unfold(2, 2, 2),
    "expand": lambda x: x.expand(1, -1, -1, 4), "broadcast_to": lambda x: x.broadcast_to(2, 3, 4),
    "expand_as": lambda x: x.expand_as(x), "atleast_3d": lambda x: tinyml.atleast_3d(x[0]),
    "getitem": lambda x: x[..., None, 1:, ::2], "an element": lambda x: x[1, 2, 3], "backwards": lambda x: x[::-1, 1],
    "of a view": lambda x: x.permute(1, 2, 0)[1:].transpose(0, 1).unsqueeze(0)[..., 1],
}
every_view = pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
X = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
C = np.random.default_rng(1).standard_normal((2, 3, 4)).astype(np.float32)


def places(view) -> np.ndarray:
    """The numbers of the elements that a view has."""
    return view(Tensor(np.arange(24).reshape(2, 3, 4))).numpy()


@every_view
def test_memory_is_shared_both_ways(view):
    x = Tensor(X.copy())
    v, sibling = view(x), view(x)
    assert np.shares_memory(v.numpy(), x.numpy()) and np.array_equal(v.numpy(), X.reshape(-1)[places(view)])
    x += 1
    assert np.array_equal(v.numpy(), (X + 1).reshape(-1)[places(view)])
    v[...] = 7.0
    assert (sibling.numpy() == 7).all()
    expected = X + 1
    expected.reshape(-1)[places(view)] = 7
    assert np.array_equal(x.numpy(), expected)


@every_view
def test_the_tape_follows_a_change_of_a_view(view):
    w = Tensor(X.copy(), requires_grad=True)
    x = w * 1
    v, sibling = view(x), view(x)
    v *= 3
    factor = np.ones((2, 3, 4), np.float32)
    factor.reshape(-1)[places(view)] = 3
    np.testing.assert_allclose(x.numpy(), X * factor, rtol=1e-6)
    np.testing.assert_allclose((sibling * 1).numpy(), (X * factor).reshape(-1)[places(view)], rtol=1e-6)
    (x * C).sum().backward()
    np.testing.assert_allclose(w.grad.numpy(), C * factor, rtol=1e-6)


@every_view
def test_the_tape_follows_a_change_of_the_root(view):
    w = Tensor(X.copy(), requires_grad=True)
    x = w * 1
    v = view(x)
    x *= 3
    cotangent = np.random.default_rng(2).standard_normal(v.shape).astype(np.float32)
    (v * cotangent).sum().backward()
    expected = np.zeros(24, np.float32)
    np.add.at(expected, places(view), 3 * cotangent)
    np.testing.assert_allclose(w.grad.numpy(), expected.reshape(2, 3, 4), rtol=1e-6)


@every_view
def test_codes_pass_through_views(view):
    x = Tensor(X).to_int8()
    assert np.array_equal(view(x).dequantize().numpy(), view(x.dequantize()).numpy()) and view(x).scale == x.scale


@pytest.mark.parametrize("view", [lambda x: x.expand(2, 2, 3, 4), lambda x: x[:, :1].expand(-1, 3, -1),
                                  lambda x: x.unfold(2, 3, 1)])
def test_elements_that_a_view_repeats_are_not_written(view):
    w = Tensor(X.copy(), requires_grad=True)
    for x in (Tensor(X.copy()), w * 1):
        v = view(x)
        assert np.shares_memory(v.numpy(), x.numpy())
        with pytest.raises(ShapeError, match="read-only"):
            v += 1
        with pytest.raises(ShapeError, match="read-only"):
            v[0] = 1
    assert np.array_equal(x.numpy(), X)


def test_view_does_not_copy():
    x = Tensor(X)
    for v in (x.mT, x[:, :, 1:], x.permute(1, 0, 2)):
        with pytest.raises(ShapeError, match=r"view: .* cannot become \(.*\) without a copy; use reshape\(\)"):
            v.view(-1)
        assert v.reshape(-1).shape == (v.numel(),)
    assert x[:, 1:].view(2, 8).shape == (2, 8)
    with pytest.raises(DtypeError, match=r"view: expected a shape, .* to\(dtype\)"):
        x.view(np.float32)
    with pytest.raises(ShapeError, match="24 elements"):
        x.view(5, -1)
    # images are channels-last here, which is not the caller's doing: PyTorch's idiom works
    images = tinyml.nn.Conv2d(3, 4, 3)(Tensor(np.ones((2, 3, 5, 5), np.float32)))
    assert images.view(images.size(0), -1).shape == (2, 36)


# -- in place: the shape -------------------------------------------------------------------------------------------------


IN_PLACE = {"t_": lambda x: x.t_(), "transpose_": lambda x: x.transpose_(0, 1), "squeeze_": lambda x: x.squeeze_(),
            "unsqueeze_": lambda x: x.unsqueeze_(0), "swapaxes_": lambda x: x.swapaxes_(-1, 0)}


@pytest.mark.parametrize("noted", [False, True])
@pytest.mark.parametrize("name", IN_PLACE)
def test_shapes_change_in_place(name, noted):
    w = Tensor(X[0], requires_grad=noted)
    x = w * 1
    row = x[1]
    y = IN_PLACE[name](x)
    dims = {"transpose_": (0, 1), "swapaxes_": (-1, 0), "unsqueeze_": (0,)}
    expected = getattr(Tensor(X[0]), name[:-1])(*dims.get(name, ()))
    assert y is x and np.array_equal(x.numpy(), expected.numpy())
    x *= 2      # and an earlier view still shares the memory
    assert np.array_equal((row * 1).numpy(), 2 * X[0, 1])
    row += 1
    assert np.isclose((x * 1).numpy().sum(), 2 * X[0].sum() + 4, rtol=1e-4)
    if noted:
        (row.sum() + x.sum()).backward()
        assert np.array_equal(w.grad.numpy(), [[2] * 4, [4] * 4, [2] * 4])


def test_the_shape_of_a_leaf_stays():
    w = Tensor(X[0], requires_grad=True)
    with pytest.raises(GradError, match="t_: a leaf that requires a gradient"):
        w.t_()
    with no_grad(), pytest.raises(GradError, match="t_: a leaf that requires a gradient"):
        w.t_()
    assert w.shape == (3, 4)


# -- programs of changes against compositions without any ----------------------------------------------------------------

STEPS = ("scale", "fill", "square", "add", "masked_fill", "index_add", "index_copy", "index_fill", "scatter", "scatter_add",
         "setitem", "setmask", "tanh")
NAMES = sorted(VIEWS)


class Plain:
    """A Tensor's elements as one vector that is replaced where they change; a view is a table of their numbers."""

    def __init__(self, w: Tensor):
        self.elements = (w * 1).flatten()

    def read(self, at: np.ndarray) -> Tensor:
        return self.elements.take(Tensor(at))

    def write(self, at: np.ndarray, value: Tensor) -> None:
        self.elements = self.elements.scatter(0, Tensor(at.reshape(-1)), value.flatten())


def step(draw, kind: str, v: Tensor, plain: Plain, at: np.ndarray) -> None:
    """Change the view v in place, and the plain elements by the same function that returns a new Tensor."""
    old, number = plain.read(at), draw(st.sampled_from([0.0, -1.5, 2.0]))
    dim = draw(st.integers(0, v.ndim - 1)) if v.ndim else 0
    n = v.shape[dim] if v.ndim else 1
    index = np.asarray(draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=n, unique=True)))
    mask = (np.arange(v.numel()) % draw(st.integers(1, 3)) == 0).reshape(v.shape)
    source = old.index_select(dim, index) * 0.5
    full = np.broadcast_to(index.reshape([-1 if d == dim else 1 for d in range(v.ndim)]), source.shape)
    if kind == "scale":
        v *= number
        new = old * number
    elif kind == "fill":
        v[...] = number
        new = old * 0 + number
    elif kind == "square":
        v *= v
        new = old * old
    elif kind == "add":
        v += v[...].clone() * 2
        new = old + old * 2
    elif kind == "tanh":
        v[...] = v.tanh()
        new = old.tanh()
    elif kind == "masked_fill":
        v.masked_fill_(Tensor(mask), number)
        new = old.masked_fill(Tensor(mask), number)
    elif kind == "setmask":
        v[Tensor(mask)] *= number
        new = old.masked_scatter(Tensor(mask), old.masked_select(Tensor(mask)) * number)
    elif kind == "setitem" and v.ndim:
        v[(slice(None),) * dim + (index,)] = v.index_select(dim, index) * number
        new = old.index_copy(dim, index, source * 2 * number)
    elif kind in ("index_add", "index_copy"):
        getattr(v, kind + "_")(dim, index, v.index_select(dim, index) * 0.5)
        new = getattr(old, kind)(dim, index, source)
    elif kind == "index_fill":
        v.index_fill_(dim, index, number)
        new = old.index_fill(dim, index, number)
    elif kind in ("scatter", "scatter_add"):
        getattr(v, kind + "_")(dim, full, v.index_select(dim, index) * 0.5)
        new = getattr(old, kind)(dim, full, source)
    else:
        return
    plain.write(at, new)


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_changes_of_views_have_the_gradient_of_a_composition(data):
    draw = data.draw
    w, reference = Tensor(X.copy(), requires_grad=True), Tensor(X.copy(), requires_grad=True)
    x, plain = w * 1, Plain(reference)
    chosen = draw(st.lists(st.sampled_from([n for n in NAMES if n != "expand"]), min_size=1, max_size=3)) + ["reshape"]
    tables = [places(VIEWS[name]) for name in chosen]
    views = [VIEWS[name](x) for name in chosen]
    total = None
    try:
        for kind in draw(st.lists(st.sampled_from(STEPS), min_size=1, max_size=5)):
            i = draw(st.integers(0, len(views) - 1))
            step(draw, kind, views[i], plain, tables[i])
            read = draw(st.sampled_from(["nothing", "sum", "sum", "squares"]))      # what is read in between counts, too
            if read != "nothing":
                a, b = views[0], plain.read(tables[0])
                part = (a * a).sum() - (b * b).sum() if read == "squares" else a.sum() - b.sum()
                total = part if total is None else total + part
        c = Tensor(C)
        for v, at in zip(views, tables, strict=True):
            np.testing.assert_allclose((v * 1).numpy(), plain.read(at).numpy(), rtol=1e-4, atol=1e-5)
        part = (x * c).sum() - (plain.elements * c.flatten()).sum()
        total = part if total is None else total + part
        total.backward()
    except GradError as error:      # never a wrong gradient: what backward needs was overwritten, and is named
        assert "were changed by" in str(error) and "of shape" in str(error)
        return
    np.testing.assert_allclose(w.grad.numpy(), -reference.grad.numpy(), rtol=1e-3, atol=1e-4)
