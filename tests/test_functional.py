"""nn.functional and the layers take PyTorch's arguments in PyTorch's order; calls and files of version 0.1."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nets import Then
from values import close, leaf, normal, softmax

import tinyml
from tinyml import Tensor, nn, testing
from tinyml.errors import DtypeError, FileError, ShapeError
from tinyml.io import old_names
from tinyml.io.container import pack, unpack
from tinyml.nn import functional as F

NUMPY = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}
X = normal(2, 3, 4, 5)


# ---- pad


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(-2, 3), st.integers(-2, 3)), min_size=1, max_size=4),
       st.integers(0, 4), st.sampled_from(["float32", "int64", "bool"]))
def test_pad_adds_and_crops_from_the_last_dimension_on(dimensions, named, dtype):
    x = (3 * normal(*(n for n, _, _ in dimensions))).astype(dtype)
    widths = [(b, a) if d >= len(dimensions) - named else (0, 0) for d, (_, b, a) in enumerate(dimensions)]
    flat = [w for pair in widths[::-1][:named] for w in pair]
    if any(n + min(b, 0) + min(a, 0) < 0 for n, (b, a) in zip(x.shape, widths, strict=True)):
        with pytest.raises(ShapeError, match=r"pad: .* crops more than there is"):
            F.pad(x, flat)
        return
    cropped = x[tuple(slice(max(-b, 0), n - max(-a, 0)) for n, (b, a) in zip(x.shape, widths, strict=True))]
    wanted = np.pad(cropped, [(max(b, 0), max(a, 0)) for b, a in widths], constant_values=1)
    got = F.pad(x, flat, value=1).numpy()
    assert got.dtype == x.dtype and np.array_equal(got, wanted)


@pytest.mark.parametrize("mode", NUMPY)
def test_pad_by_its_own_elements(mode):
    got = F.pad(X, (1, 2, 3, 0), mode).numpy()
    assert np.array_equal(got, np.pad(X, ((0, 0), (0, 0), (3, 0), (1, 2)), NUMPY[mode]))
    testing.gradcheck(lambda x: F.pad(x, (2, 1, -1, 2), mode), [normal(1, 4, 3, dtype=np.float64)])
    with pytest.raises(ShapeError, match=f"pad: {mode} can add 0 elements to {1 if mode == 'reflect' else 0}"):
        F.pad(np.zeros((2, 1 if mode == "reflect" else 0)), (1, 0), mode)


# ---- norms


@pytest.mark.parametrize("shape", [(5,), (4, 5), (3, 4, 5)])
def test_norms_over_the_last_dimensions(shape):
    axes, weight, bias = tuple(range(-len(shape), 0)), normal(*shape, seed=1), normal(*shape, seed=2)
    centred = X - X.mean(axes, keepdims=True)
    plain = centred / np.sqrt(X.var(axes, keepdims=True) + 0.1)
    close(F.layer_norm(X, shape, weight, bias, 0.1), plain * weight + bias)
    close(F.layer_norm(X, shape, eps=0.1), plain)
    close(F.layer_norm(X, shape, None, bias, 0.1), plain + bias)
    square = np.square(X).mean(axes, keepdims=True)
    close(F.rms_norm(X, shape, weight, 0.1), X / np.sqrt(square + 0.1) * weight)
    for dtype in (np.float32, np.float64):
        small = X.astype(dtype) * np.finfo(dtype).eps ** 0.5      # whose squares are about as large as eps
        wanted = small / np.sqrt(np.square(small).mean(axes, keepdims=True) + np.finfo(dtype).eps)
        close(F.rms_norm(small, shape), wanted)
    close(F.rms_norm(np.full((1, 4), 0.01, np.float16), 4), np.ones((1, 4)), 1e-3)     # it is computed in float32
    for function in (F.layer_norm, F.rms_norm):
        testing.gradcheck(lambda x, w, f=function: f(x, shape, w), [a.astype(np.float64) for a in (X, weight)])


def test_norm_layers_with_and_without_parameters(tmp_path):
    plain = nn.LayerNorm((4, 5), elementwise_affine=False)
    assert not plain.parameters() and "(4, 5), eps=1e-05, elementwise_affine=False" in repr(plain)
    assert [n for n, _ in nn.LayerNorm(5, bias=False).named_parameters()] == ["weight"]
    assert nn.RMSNorm((4, 5)).weight.shape == (4, 5) and not nn.RMSNorm(5, elementwise_affine=False).parameters()
    for layer in (plain, nn.LayerNorm((4, 5)), nn.RMSNorm(5, elementwise_affine=False), nn.RMSNorm((3, 4, 5), 0.1)):
        layer.save(tmp_path / "layer")
        assert np.array_equal(tinyml.load(tmp_path / "layer")(X).numpy(), layer(X).numpy())


# ---- attention


def attend(q, k, v, seen, scale):
    """By hand; a query that sees no key gives zeros."""
    scores = np.where(seen, q @ k.swapaxes(-1, -2) * scale, -1e30)
    return np.where(seen, softmax(scores), 0) @ v


@pytest.mark.parametrize(("t", "s"), [(5, 5), (3, 6), (6, 3), (1, 4)])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_causal_attention_aligns_at_the_top_left(t, s, scale):
    q, k, v = (normal(2, 3, n, 4, seed=i, dtype=np.float64) for i, n in enumerate((t, s, s)))
    def causal(*qkv):
        return F.scaled_dot_product_attention(*qkv, is_causal=True, scale=scale)
    close(causal(q, k, v), attend(q, k, v, np.tri(t, s, dtype=bool), scale or 0.5))
    close(F.scaled_dot_product_attention(q, k, v, scale=scale), attend(q, k, v, True, scale or 0.5))
    testing.gradcheck(causal, [q, k, v])


def test_masks_of_attention():
    q, k, v = (normal(2, 6, n, 4, seed=i, dtype=np.float64) for i, n in enumerate((3, 5, 5)))
    seen = np.random.default_rng(3).random((2, 1, 3, 5)) < 0.5
    seen[0, 0, 1] = False
    added = np.where(seen, normal(2, 1, 3, 5, dtype=np.float64), -np.inf)
    def masked(*qkv, mask=seen, **options):
        return F.scaled_dot_product_attention(*qkv, mask, **options)
    close(masked(q, k, v), attend(q, k, v, seen, 0.5))
    assert not masked(q, k, v).numpy()[0, :, 1].any()
    finite = np.where(seen, added, 0)
    scores = np.where(seen, q @ k.swapaxes(-1, -2) / 2 + finite, -1e30)
    close(masked(q, k, v, mask=added), np.where(seen, softmax(scores), 0) @ v)
    testing.gradcheck(masked, [q, k, v])
    testing.gradcheck(lambda q, k, v, m: masked(q, k, v, mask=m), [q, k, v, finite])
    few, each = (a[:, :2] for a in (k, v)), np.repeat([0, 1], 3)
    few_k, few_v = few
    close(masked(q, few_k, few_v, enable_gqa=True), attend(q, few_k[:, each], few_v[:, each], seen, 0.5))
    for options in ({"is_causal": True}, {"mask": seen.astype(int)}):
        with pytest.raises((ShapeError, DtypeError), match="scaled_dot_product_attention: expected attn_mask"):
            masked(q, k, v, **options)


def test_dropout_of_attention():
    q, k, v = normal(3, 2, 50, 8)
    assert not F.scaled_dot_product_attention(q, k, v, dropout_p=1.0).numpy().any()
    tinyml.manual_seed(0)
    mean = np.mean([F.scaled_dot_product_attention(q, k, v, dropout_p=0.5, is_causal=True).numpy() for _ in range(400)], 0)
    close(mean, F.scaled_dot_product_attention(q, k, v, is_causal=True).numpy(), 0.5)


@pytest.mark.parametrize("masked", [False, True])
def test_attention_is_recorded(masked):
    """Nothing that depends on the input is computed outside of ops: another input gives what the module gives."""
    def forward(m, x):
        mask = np.tri(5, dtype=bool) if masked else None
        return m.a(F.scaled_dot_product_attention(x, x, x, mask, is_causal=not masked, scale=0.4))

    model = Then(forward, nn.Linear(4, 4))
    plan = model.compile(normal(3, 5, 4))
    close(plan(normal(2, 5, 4, seed=1)), model(normal(2, 5, 4, seed=1)).numpy())


# ---- names


@pytest.mark.parametrize(("call", "message"), [
    (lambda: F.pad(X, ((0, 0), (0, 0), (1, 0), (2, 1))), r"expected numbers in a row, .* \(left, right, top, bottom\)"),
    (lambda: F.pad(X, (1, 2), 0.5), r"pad: expected mode .* got 0.5; name the constant: value="),
    (lambda: F.layer_norm(X, Tensor(X[0, 0, 0])), r"layer_norm\(input, normalized_shape, weight\)"),
    (lambda: F.rms_norm(X, X[0, 0, 0]), r"rms_norm\(input, normalized_shape, weight\)"),
    (lambda: F.softmax(X), "softmax: expected dim .* dim=-1"), (lambda: nn.Softmax()(X), "softmax: expected dim .* dim=-1"),
    (lambda: F.cross_entropy(X[0, 0], [0] * 4, -1), "ignore_index=..."),
    (lambda: nn.CrossEntropyLoss(-1), "ignore_index=..."),
    (lambda: F.binary_cross_entropy_with_logits(X, X, X), "pos_weight=..."),
    (lambda: F.mse_loss(X, X, reduction="sum"), "mse_loss: expected reduction 'mean'"),
    (lambda: F.mse_loss(X, X, False), "pass reduction"),
    (lambda: nn.MultiHeadAttention, "nn.MultiHeadAttention is called nn.SelfAttention"),
])
def test_calls_of_version_0_1_name_the_new_form(call, message):
    with pytest.raises((ShapeError, DtypeError, AttributeError), match=message):
        call()


@pytest.mark.parametrize(("old", "new"), [
    (lambda: F.softmax(X, axis=1), lambda: F.softmax(X, 1)), (lambda: F.concat([X, X], axis=1), lambda: F.cat((X, X), 1)),
    (lambda: F.stack([X, X], axis=1), lambda: F.stack((X, X), dim=1)),
    (lambda: F.max_pool2d(X, size=2), lambda: F.max_pool2d(X, kernel_size=2)),
    (lambda: F.avg_pool2d(X, size=2), lambda: F.avg_pool2d(X, kernel_size=2)),
    (lambda: F.adaptive_avg_pool2d(X, outputs=2), lambda: F.adaptive_avg_pool2d(X, output_size=2)),
    (lambda: nn.Softmax(axis=1)(X), lambda: nn.Softmax(dim=1)(X)),
    (lambda: nn.Flatten(start=2)(X), lambda: nn.Flatten(start_dim=2)(X)),
    (lambda: nn.AdaptiveAvgPool2d(outputs=1)(X), lambda: nn.AdaptiveAvgPool2d(output_size=1)(X)),
    (lambda: nn.LayerNorm(dim=5)(X), lambda: nn.LayerNorm(normalized_shape=5)(X)),
    (lambda: nn.RMSNorm(dim=5)(X), lambda: nn.RMSNorm(normalized_shape=5)(X))])
def test_old_keywords_are_aliases(old, new):
    assert np.array_equal(old().numpy(), new().numpy())


def test_softmax_in_another_dtype_and_flatten_between_dimensions():
    assert F.softmax([0, 1], 0, "float64").dtype == np.float64 and F.log_softmax([0, 1], dtype="float32").ndim == 1
    assert nn.Flatten(1, 2)(X).shape == (2, 12, 5)


# ---- files of version 0.1


class Old(nn.Module):
    """As in a file of a user, whose code builds layers by defaults."""

    def __init__(self):
        self.norm, self.softmax = nn.RMSNorm(5), nn.Softmax()

    def forward(self, x):
        return self.softmax(self.norm(x) * 1e-3)


def written(path, model, **changes):
    """The model in a file of names 1, its description changed."""
    about, arrays = unpack(path) if model is None else (model.save(path), unpack(path))[1]
    for key in ("digest", "version", "names"):
        about.pop(key, None)
    path.write_bytes(pack({**about, **changes}, arrays))


def test_defaults_of_old_files_stay(tmp_path):
    layout = [["", "Old()"], ["norm", "RMSNorm(5, eps=1e-05)"], ["softmax", "Softmax()"]]
    written(tmp_path / "old", Old(), layout=layout)
    small = X * 1e-3
    wanted = small / np.sqrt(np.square(small).mean(-1, keepdims=True) + 1e-5)
    for model in (tinyml.load(tmp_path / "old"), tinyml.load(tmp_path / "old", model=Old())):
        assert model.norm.eps == 1e-5
        close(model.norm(small), wanted)
        close(model(X), softmax(model.norm(X).numpy() * 1e-3))
        model.save(tmp_path / "new")
        close(tinyml.load(tmp_path / "new")(small), model(small).numpy())


def test_arguments_and_attributes_of_old_files_get_their_present_names(tmp_path):
    def recipe(name, *args, **kwargs):
        return {"module": {"class": f"tinyml.nn.{name}", "args": list(args), "kwargs": kwargs}}

    layers = [recipe("norms.LayerNorm", 5, 1e-3, False), recipe("losses.CrossEntropyLoss", 7, 0.25),
              recipe("attention.MultiHeadAttention", 8, 2), recipe("activations.Softmax"),
              recipe("activations.MaxPool2d", 3)]
    model = nn.Sequential(nn.LayerNorm(5, 1e-3, bias=False), nn.CrossEntropyLoss(ignore_index=7, label_smoothing=0.25),
                          nn.SelfAttention(8, 2), nn.Softmax(0), nn.MaxPool2d(2, 3))
    model.save(tmp_path / "old")
    layout = [[name, text.replace("SelfAttention", "MultiHeadAttention")] for name, text in
              unpack(tmp_path / "old")[0]["layout"]]
    written(tmp_path / "old", None, layout=layout, attributes={"3": {"axis": 0}, "4": {"size": {"tuple": [2, 2]}}},
            recipe={"class": "tinyml.nn.module.Sequential", "args": layers, "kwargs": {}})
    loaded = tinyml.load(tmp_path / "old")
    assert loaded[0].bias is None and loaded[0].eps == 1e-3 and loaded[0].elementwise_affine
    assert (loaded[1].ignore_index, loaded[1].label_smoothing) == (7, 0.25)
    assert isinstance(loaded[2], nn.SelfAttention) and loaded[3].dim == 0 and loaded[4].kernel_size == (2, 2)


@pytest.mark.parametrize("names", [0, old_names.NAMES + 1, "2", None])
def test_names_of_a_later_version_are_refused(tmp_path, names):
    written(tmp_path / "model", nn.ReLU(), names=names)
    with pytest.raises(FileError, match="a newer tinyml wrote it, upgrade"):
        tinyml.load(tmp_path / "model")


def test_gradients_reach_all_operands_of_cat():
    a, b = leaf(2, 3), leaf(2, 1, seed=1)
    F.cat([a, b], dim=-1).backward(np.ones((2, 4), np.float32))
    assert a.grad.numpy().all() and b.grad.shape == (2, 1)
