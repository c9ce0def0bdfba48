"""Products of vectors, matrices and batches of them, einsum, and distances, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from values import close, leaf, normal

import tinyml
from tinyml import Tensor, nn
from tinyml.errors import DtypeError, ShapeError
from tinyml.graph import trace
from tinyml.testing import gradcheck


def wide(*shape: int, seed: int = 0) -> np.ndarray:
    return normal(*shape, seed=seed, dtype=np.float64)


SHAPES = {"mm": [(3, 4), (4, 2)], "bmm": [(2, 3, 4), (2, 4, 2)], "mv": [(3, 4), (4,)], "dot": [(4,), (4,)],
          "outer": [(3,), (2,)], "inner": [(2, 3, 4), (5, 4)], "matmul": [(2, 1, 3, 4), (5, 4, 2)],
          "addmm": [(2,), (3, 4), (4, 2)], "addmv": [(3,), (3, 4), (4,)], "addr": [(3, 1), (3,), (2,)],
          "baddbmm": [(2, 1, 1), (2, 3, 4), (2, 4, 2)], "addbmm": [(3, 2), (2, 3, 4), (2, 4, 2)],
          "trace": [(3, 4)], "dist": [(3, 1), (4,)], "cdist": [(2, 3, 4), (5, 4)]}
EXPECTED = {"mm": np.matmul, "bmm": np.matmul, "mv": np.matmul, "dot": np.dot, "outer": np.outer, "inner": np.inner,
            "matmul": np.matmul, "trace": np.trace, "addmm": lambda c, a, b: c + a @ b, "addmv": lambda c, a, b: c + a @ b,
            "addr": lambda c, a, b: c + np.outer(a, b), "baddbmm": lambda c, a, b: c + a @ b,
            "addbmm": lambda c, a, b: c + (a @ b).sum(0), "dist": lambda a, b: np.sqrt(((a - b) ** 2).sum()),
            "cdist": lambda a, b: np.sqrt(((a[..., :, None, :] - b[..., None, :, :]) ** 2).sum(-1))}


@pytest.mark.parametrize("name", SHAPES)
def test_products_are_numpys_and_gradients_are_right(name):
    function, arrays = getattr(tinyml, name), [wide(*s, seed=i) for i, s in enumerate(SHAPES[name])]
    close(function(*map(Tensor, arrays)), EXPECTED[name](*arrays))
    gradcheck(function, arrays)
    if name != "cdist":
        close(getattr(Tensor(arrays[0]), name)(*map(Tensor, arrays[1:])), EXPECTED[name](*arrays))


@pytest.mark.parametrize("name", ["addmm", "addmv", "addr", "baddbmm", "addbmm"])
def test_factors_and_in_place(name):
    c, a, b = (wide(*s, seed=i) for i, s in enumerate(SHAPES[name]))
    product = EXPECTED[name](0 * c, a, b)
    function = getattr(tinyml, name)
    close(function(*map(Tensor, (c, a, b)), beta=0.5, alpha=-2), 0.5 * c - 2 * product)
    unread = function(Tensor(c * np.nan), Tensor(a), Tensor(b), beta=0)
    close(unread, product)
    t = Tensor(np.broadcast_to(c, product.shape).copy())
    assert getattr(t, f"{name}_")(Tensor(a), Tensor(b), alpha=3) is t
    close(t, c + 3 * product)


@pytest.mark.parametrize(("name", "shapes", "message"), [
    ("mm", [(2, 3, 4), (4, 5)], r"mm: expected a matrix and a matrix that fit, got \(2, 3, 4\) and \(4, 5\)"),
    ("mm", [(2, 3), (4, 5)], r"cannot multiply \(2, 3\) by \(4, 5\)"),
    ("bmm", [(1, 3, 4), (2, 4, 5)], r"bmm: expected a batch .* got \(1, 3, 4\) and \(2, 4, 5\)"),
    ("mv", [(3, 4), (4, 1)], "mv: expected a matrix and a vector"),
    ("dot", [(3,), (4,)], r"cannot multiply \(3,\) by \(4,\)"),
    ("outer", [(3, 1), (4,)], "outer: expected a vector and a vector"),
    ("addmm", [(4, 2), (3, 4), (4, 2)], r"addmm: input of shape \(4, 2\) does not broadcast to .* \(3, 2\)"),
    ("addmm", [(1, 3, 2), (3, 4), (4, 2)], r"addmm: input of shape \(1, 3, 2\) does not broadcast to"),
    ("trace", [(3,)], r"trace: expected a matrix, got shape \(3,\)"),
    ("cdist", [(3, 4), (3, 5)], r"cdist: expected \(..., P, M\) and \(..., R, M\), got \(3, 4\) and \(3, 5\)"),
])
def test_shapes_that_do_not_fit(name, shapes, message):
    with pytest.raises(ShapeError, match=message):
        getattr(tinyml, name)(*(Tensor(normal(*s)) for s in shapes))


def test_integers_are_multiplied_and_bools_are_not():
    a, b = Tensor([[2**40, 1], [3, 4]]), Tensor([[3], [5]])
    assert (a @ b).numpy().tolist() == [[3 * 2**40 + 5], [29]] and (a @ b).dtype == np.int64
    assert tinyml.dot(Tensor([1, 2]), Tensor([3, 4])).item() == 11
    assert tinyml.outer(Tensor([1]), Tensor([2])).dtype == np.int64
    added = tinyml.addmm(Tensor([1]), a, b, beta=2, alpha=3)
    assert added.dtype == np.int64 and added.numpy()[1].tolist() == [89]
    with pytest.raises(DtypeError, match=r"addmm: alpha=0.5 of integers; convert them"):
        tinyml.addmm(Tensor([1]), a, b, alpha=0.5)
    with pytest.raises(DtypeError, match="matmul: expected floats or integers, got bools"):
        Tensor([True, False]) @ Tensor([True, True])
    with pytest.raises(DtypeError, match=r"matmul: operands are float32 and float64; .* convert it"):
        Tensor(normal(2, 2)) @ Tensor(wide(2, 2))
    mixed = Tensor([[1, 2]]) @ leaf(2, 1)
    assert mixed.dtype == np.float32 and mixed.requires_grad


@pytest.mark.parametrize(("count", "m", "k", "n"), [
    (6, 1, 5, 3), (6, 4, 5, 3), (6, 5, 5, 3), (3, 16, 7, 40), (2, 5, 150, 150), (1, 5, 5, 3), (3, 2, 0, 4), (0, 2, 3, 4)])
def test_batches_of_any_layout(count, m, k, n):
    """Which kernel runs depends on the rows, on how many matrices there are, and on their layout."""
    a, b = normal(count, m, k), normal(count, k, n, seed=1)
    for left in (a, a.swapaxes(1, 2).copy().swapaxes(1, 2)):
        for right in (b, b.swapaxes(1, 2).copy().swapaxes(1, 2)):
            close(Tensor(left) @ Tensor(right), a.astype(np.float64) @ b.astype(np.float64), 1e-4)


@pytest.mark.parametrize("dims", [0, 1, 2, ([1, -1], [1, 0]), ([], []), Tensor([[0], [2]])])
def test_tensordot(dims):
    shapes = {0: [(2, 3), (4,)], 1: [(2, 3), (3, 4)], 2: [(5, 2, 3), (2, 3, 4)]}
    left, right = shapes[dims] if isinstance(dims, int) else [(2, 3, 4), (4, 3, 2)]
    a, b, lists = wide(*left), wide(*right, seed=1), dims.tolist() if isinstance(dims, Tensor) else dims
    close(tinyml.tensordot(Tensor(a), Tensor(b), dims), np.tensordot(a, b, lists))
    gradcheck(lambda a, b: tinyml.tensordot(a, b, dims), [a, b])


def test_tensordot_says_what_does_not_fit():
    a, b = Tensor(normal(2, 3)), Tensor(normal(2, 3))
    with pytest.raises(ShapeError, match=r"dimensions \[1\] of \(2, 3\) do not match dimensions \[0\] of \(2, 3\)"):
        tinyml.tensordot(a, b, 1)
    with pytest.raises(ShapeError, match="tensordot: dimension 2 of 2"):
        tinyml.tensordot(a, b, ([2], [0]))
    with pytest.raises(ShapeError, match="do not match"):
        tinyml.tensordot(a, b, ([0, 0], [0, 0]))


# ---- einsum

EQUATIONS = {"ij,jk->ik": [(2, 3), (3, 4)], "ij,jk": [(2, 3), (3, 4)], "bhqd,bhkd->bhqk": [(2, 3, 4, 5), (2, 3, 6, 5)],
             "bhqk,bhkd->bqhd": [(2, 3, 4, 5), (2, 3, 5, 6)], "ii": [(3, 3)], "ii->i": [(3, 3)], "ij->ji": [(2, 3)],
             "ij->": [(2, 3)], "iji->j": [(2, 3, 2)], "i,j->ij": [(2,), (3,)], "i,i": [(4,), (4,)], "i,i->i": [(4,), (4,)],
             "bn,anm,bm->ba": [(2, 3), (5, 3, 4), (2, 4)], "...ij,...jk->...ik": [(2, 1, 3, 4), (5, 4, 2)],
             "i...->...": [(2, 3, 4)], "...,...": [(3, 1), (4,)], ",i": [(), (3,)],
             "ab,cd,ef->ace": [(2, 3), (3, 2), (2, 2)],
             "ijk,jil->kl": [(2, 3, 4), (3, 2, 5)], "aabb,bc->ac": [(2, 2, 3, 3), (3, 4)], "ij->ij": [(2, 3)],
             "i j , j k -> k i": [(2, 3), (3, 4)], "bij,bij->b": [(2, 3, 4), (2, 3, 4)], "zA->Az": [(2, 3)]}


@pytest.mark.parametrize("equation", EQUATIONS)
def test_einsum_is_numpys_and_its_gradients_are_right(equation):
    arrays = [wide(*s, seed=i) for i, s in enumerate(EQUATIONS[equation])]
    expected = np.einsum(equation, *arrays)
    found = tinyml.einsum(equation, *map(Tensor, arrays))
    close(found, expected, 1e-12)
    assert np.array_equal(tinyml.einsum(equation, list(map(Tensor, arrays))).numpy(), found.numpy())
    gradcheck(lambda *xs: tinyml.einsum(equation, *xs), arrays)


@st.composite
def sums(draw):
    """An equation with its operands, of which any dimension but those of a diagonal may be 1."""
    parts = draw(st.lists(st.text("abcde", max_size=4), min_size=1, max_size=4))
    known = sorted(set("".join(parts)))
    output = draw(st.permutations(known))[: draw(st.integers(0, len(known)))] if known else []
    arrays = []
    for i, part in enumerate(parts):
        size = {c: draw(st.sampled_from([1, "abcde".index(c) + 1])) for c in set(part)}
        arrays.append(wide(*(size[c] for c in part), seed=i))
    return ",".join(parts) + "->" + "".join(output), arrays


def in_full(equation: str, arrays: list[np.ndarray]) -> np.ndarray:
    """The definition: one array of all products, summed. NumPy's einsum refuses some sizes of 1 in the implicit form."""
    inputs, output = equation.split("->")
    names = sorted(set(inputs) - {","})
    total = np.ones([max([a.shape[p.index(c)] for p, a in zip(inputs.split(","), arrays) if c in p]) for c in names])
    for part, a in zip(inputs.split(","), arrays):
        at = np.indices(total.shape)
        total = total * a[tuple(at[names.index(c)] % a.shape[i] for i, c in enumerate(part))]
    total = total.sum(tuple(i for i, c in enumerate(names) if c not in output))
    kept = [c for c in names if c in output]
    return total.transpose([kept.index(c) for c in output])


@settings(max_examples=150, deadline=None)
@given(sums())
def test_einsum_of_any_equation(case):
    equation, arrays = case
    close(tinyml.einsum(equation, *map(Tensor, arrays)), in_full(equation, arrays), 1e-10)


def test_einsum_by_lists_of_numbers():
    a, b = wide(2, 3, 4), wide(2, 4, 5, seed=1)
    x, y = Tensor(a), Tensor(b)
    close(tinyml.einsum(x, [0, 1, 2], y, [0, 2, 3], [0, 1, 3]), a @ b)
    close(tinyml.einsum(x, [0, 51, 30], y, [0, 30, 29]), np.einsum("Aze,Aed", a, b))
    close(tinyml.einsum(x, [Ellipsis, 0, 1], y, [..., 1, 2], [..., 0, 2]), a @ b)


@pytest.mark.parametrize(("equation", "shapes", "message"), [
    ("ij,jk", [(2, 3)], "names 2 operands, got 1"),
    ("ij->ij", [(2, 3, 4)], r"'ij' in 'ij->ij' does not fit the shape \(2, 3, 4\)"),
    ("i...j->", [(2,)], r"'i...j' in 'i...j->' does not fit the shape \(2,\)"),
    ("ij,jk->ik", [(2, 3), (4, 5)], "'j' in .* is of size 3 and of size 4"),
    ("ii->i", [(2, 3)], r"asks for a diagonal, which the shape \(2, 3\) does not have"),
    ("ij->ik", [(2, 3)], "names a dimension twice, or one that no operand has"),
    ("ij->ii", [(2, 3)], "names a dimension twice"),
    ("i1->i", [(2, 3)], "expected letters in 'i1->i', got '1'"),
    ("i!->i", [(2, 3)], "expected letters in 'i!->i', got '!'"),
    ("i..j->i", [(2, 3, 4, 5)], r"expected letters|does not fit")])
def test_einsum_says_what_does_not_fit(equation, shapes, message):
    with pytest.raises(ShapeError, match=f"einsum: .*({message})"):
        tinyml.einsum(equation, *(Tensor(normal(*s)) for s in shapes))


def test_einsum_says_what_it_takes():
    for wrong in ((), ("ij",), ("ij", [1.0]), (Tensor([1.0]),)):
        with pytest.raises(DtypeError, match="einsum: expected an equation and Tensors"):
            tinyml.einsum(*wrong)
    with pytest.raises(ShapeError, match="einsum: expected a dimension to be a whole number from 0 to 51, got 52"):
        tinyml.einsum(Tensor([1.0]), [52])


def test_einsum_of_no_work_shares_memory():
    x = Tensor(normal(2, 3))
    for equation in ("ij->ij", "ij->ji"):
        y = tinyml.einsum(equation, x)
        assert y is not x and np.shares_memory(y.numpy(), x.numpy())


def test_einsum_of_integers():
    found = tinyml.einsum("ij,j->i", Tensor([[1, 2], [3, 4]]), Tensor([5, 6]))
    assert found.numpy().tolist() == [17, 39] and found.dtype == np.int64


def test_attention_by_einsum_becomes_a_program():
    class Attention(nn.Module):
        def forward(self, q, k, v):
            weights = tinyml.einsum("bqhd,bkhd->bhqk", q, k).softmax()
            return tinyml.einsum("bhqk,bkhd->bqhd", weights, v)

    model, (q, k, v) = Attention(), (normal(2, 5, 3, 4, seed=i) for i in range(3))
    assert "matmul" in str(trace(model, q, k, v))
    assert np.array_equal(model.compile(q, k, v)(q, k, v).numpy(), model(*map(Tensor, (q, k, v))).numpy())


# ---- distances

NORMS = {0: lambda d: (d != 0).sum(-1), np.inf: lambda d: d.max(-1)}


@pytest.mark.parametrize("p", [0, 0.5, 1, 1.5, 2, 3, np.inf])
def test_cdist(p):
    a, b = wide(2, 6, 4), wide(1, 5, 4, seed=1)
    differences = np.abs(a[:, :, None] - b[:, None])
    expected = NORMS.get(p, lambda d: (d ** p).sum(-1) ** (1 / p))(differences)
    close(tinyml.cdist(Tensor(a), Tensor(b), p), expected, 1e-10)
    close(tinyml.dist(Tensor(a[0]), Tensor(b[0, :1]), p),
          NORMS.get(p, lambda d: (d ** p).sum(-1) ** (1 / p))(np.abs(a[0] - b[0, :1]).reshape(-1)), 1e-10)
    if p:
        gradcheck(lambda a, b: tinyml.cdist(a, b, p), [a, b])


def test_a_matrix_product_gives_the_same_distances():
    a, b = wide(30, 4), wide(5, 4, seed=1)
    exact = tinyml.cdist(Tensor(a), Tensor(b), compute_mode="donot_use_mm_for_euclid_dist").numpy()
    for mode in ("use_mm_for_euclid_dist_if_necessary", "use_mm_for_euclid_dist"):
        close(tinyml.cdist(Tensor(a), Tensor(b), compute_mode=mode), exact, 1e-10)
    gradcheck(lambda a, b: tinyml.cdist(a, b, compute_mode="use_mm_for_euclid_dist"), [a[:3], b])
    same = leaf(40, 3)
    distances = tinyml.cdist(same, same)
    assert np.isfinite(distances.numpy()).all() and distances.numpy().diagonal().max() < 1e-2


@pytest.mark.parametrize("p", [0.5, 1, 1.5, 2, 3, np.inf])
def test_the_gradient_of_no_distance_is_zero(p):
    x = leaf(3, 2)
    d = tinyml.cdist(x, x.detach().clone(), p)
    assert (d.numpy().diagonal() == 0).all()
    d[np.arange(3), np.arange(3)].sum().backward()
    assert (x.grad.numpy() == 0).all()
    y = leaf(4)
    tinyml.dist(y, y.detach().clone(), p).backward()
    assert (y.grad.numpy() == 0).all()


def test_distances_of_integers_and_modes_that_are_none():
    for call in (lambda: tinyml.cdist(Tensor([[1]]), Tensor([[2]])), lambda: tinyml.dist(Tensor([1]), Tensor([2.0]))):
        with pytest.raises(DtypeError, match="expected floats, got int64"):
            call()
    with pytest.raises(ShapeError, match="compute_mode"):
        tinyml.cdist(leaf(2, 2), leaf(2, 2), compute_mode="fast")
    with pytest.raises(ShapeError, match="cdist: expected p"):
        tinyml.cdist(leaf(2, 2), leaf(2, 2), -1)


# ---- against PyTorch

@pytest.mark.parity
@settings(max_examples=150, deadline=None)
@given(sums())
def test_einsum_equals_torchs(case):
    torch = pytest.importorskip("torch", reason="compares live with PyTorch: pip install '.[parity]'")
    equation, arrays = case
    theirs = [torch.from_numpy(a.copy()).requires_grad_() for a in arrays]
    ours = [Tensor(a.copy(), requires_grad=True) for a in arrays]
    expected, found = torch.einsum(equation, *theirs), tinyml.einsum(equation, *ours)
    close(found, expected.detach().numpy(), 1e-10)
    seed = wide(*found.shape)
    expected.backward(torch.from_numpy(seed))
    found.backward(seed)
    for a, b in zip(theirs, ours, strict=True):
        close(b.grad, a.grad.numpy(), 1e-10)


@pytest.mark.parity
@pytest.mark.parametrize("p", [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, np.inf])
@pytest.mark.parametrize("rows", [3, 30])
def test_distances_equal_torchs(p, rows):
    torch = pytest.importorskip("torch", reason="compares live with PyTorch: pip install '.[parity]'")
    a, b = wide(2, rows, 4), wide(4, 4, seed=1)
    b[0] = a[0, 1]      # a distance of 0, whose gradient is 0
    theirs = [torch.from_numpy(x).requires_grad_() for x in (a, b)]
    ours = [Tensor(x, requires_grad=True) for x in (a, b)]
    expected, found = torch.cdist(*theirs, p=p), tinyml.cdist(*ours, p=p)
    close(found, expected.detach().numpy(), 1e-6)
    seed = wide(*found.shape)
    expected.backward(torch.from_numpy(seed))
    found.backward(seed)
    for x, y in zip(theirs, ours, strict=True):
        close(y.grad, x.grad.numpy(), 1e-6)
