"""Fake quantization: the codes of Tensor.to_int8 and of lowered layers, exactly; and scales that are learned."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tinyml import Tensor, models, optim
from tinyml._kernels.products import fixed_point
from tinyml.errors import QuantizationError, ShapeError
from tinyml.ops import Codec
from tinyml.ops.fake_quantize import FakeQuantize
from tinyml.precision import prepare_qat
from tinyml.precision.training.quantizers import ActivationQuantizer, WeightQuantizer
from tinyml.tensors import apply

SCALES = st.floats(2.0**-120, 2.0**100, width=32)
ZEROS = st.integers(-128, 127)
SHAPES = st.lists(st.integers(1, 9), max_size=4).map(tuple)
SEEDS = st.integers(0, 2**32)
MEMORY = {      # the same elements in other places
    "C": lambda x: x, "Fortran": lambda x: np.asarray(x, order="F"),
    "backwards": lambda x: x[..., ::-1].copy()[..., ::-1] if x.ndim else x,
    "NHWC": lambda x: np.moveaxis(np.moveaxis(x, 1, -1).copy(), -1, 1) if x.ndim == 4 else x,
    "gaps": lambda x: np.repeat(x[..., None], 3, axis=-1)[..., 1],
}


def around(scale: np.ndarray, shape: tuple, seed: int) -> np.ndarray:
    """float32 values in and around the range of the codes; a third lie where two codes are equally near."""
    rng = np.random.default_rng(seed)
    codes = np.where(rng.random(shape) < 0.3, rng.integers(-300, 300, shape) + 0.5, rng.uniform(-300, 300, shape))
    codes[rng.random(shape) < 0.05] = np.inf
    return np.asarray(codes * scale.astype(np.float64), np.float32)


@given(scale=SCALES, zero=ZEROS, shape=SHAPES, memory=st.sampled_from([*MEMORY]), seed=SEEDS)
@example(scale=np.float32(0.1), zero=3, shape=(3, 20, 41, 33), memory="NHWC", seed=0)
@example(scale=np.float32(0.1), zero=-128, shape=(70_001,), memory="backwards", seed=1)
def test_codes_and_gradients_are_those_of_to_int8(scale, zero, shape, memory, seed):
    scale = np.float32(scale)
    x = Tensor(MEMORY[memory](around(scale, shape, seed)), requires_grad=True)
    y = apply(FakeQuantize, x, scale, zero_point=zero)
    expected = x.detach().to_int8(scale, zero)
    assert y.numpy().tobytes() == expected.dequantize().numpy().tobytes()

    grad = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    y.backward(grad)
    unclamped = np.rint(x.numpy() / scale) + zero
    assert np.array_equal(x.grad.numpy(), np.where((unclamped >= -128) & (unclamped <= 127), grad, 0))


@given(scales=st.lists(SCALES, min_size=1, max_size=5), shape=SHAPES, memory=st.sampled_from([*MEMORY]), seed=SEEDS)
@example(scales=[0.5, 0.1], shape=(5, 70, 61), memory="NHWC", seed=0)
def test_codes_of_rows_are_those_of_to_int8(scales, shape, memory, seed):
    scales = np.float32(scales)
    x = MEMORY[memory](around(scales.reshape(-1, *[1] * len(shape)), (len(scales), *shape), seed))
    y = apply(FakeQuantize, x, scales)
    assert y.numpy().tobytes() == Tensor(x).to_int8(scales, 0, axis=0).dequantize().numpy().tobytes()


def test_a_nan_stays_one_and_takes_no_gradient():
    x = Tensor(np.float32([0.3, np.nan, -7, 0.26]), requires_grad=True)
    y = apply(FakeQuantize, x, np.float32(0.05), zero_point=9)
    y.sum().backward()
    assert np.array_equal(y.numpy(), np.float32([6, np.nan, -137, 5]) * np.float32(0.05), equal_nan=True)
    assert x.grad.numpy().tolist() == [1, 0, 0, 1]


@pytest.mark.parametrize("shape, scale", [((0, 3), ()), ((3, 0), (3,)), ((0, 2, 3, 4), ()), ((2, 0, 3, 4), (2,))])
def test_nothing_to_quantize(shape, scale):
    x, s = (Tensor(np.ones(n, np.float32), requires_grad=True) for n in (shape, scale))
    y = apply(FakeQuantize, x, s)
    y.sum().backward()
    assert y.shape == x.grad.shape == shape and not s.grad.numpy().any()


def test_other_precisions():
    x = np.random.default_rng(0).standard_normal((7, 50))
    y = apply(FakeQuantize, x, np.array(0.013), zero_point=20).numpy()
    assert y.dtype == np.float64 and np.array_equal(y, 0.013 * (np.clip(np.rint(x / 0.013) + 20, -128, 127) - 20))
    half = Tensor(x.astype(np.float16))
    y = apply(FakeQuantize, half, np.float16(0.013), zero_point=20).numpy()
    expected = half.to_int8(np.float16(0.013), 20).dequantize().numpy()
    assert y.dtype == np.float16 and np.array_equal(y, expected.astype(np.float16))


@pytest.mark.parametrize("shape", [(4,), (3, 1), (1,)])
def test_scales_of_another_shape_are_refused(shape):
    with pytest.raises(ShapeError, match=r"fake_quantize: expected a scale \(\) or \(3,\) for input \(3, 4\), got "):
        apply(FakeQuantize, np.zeros((3, 4), np.float32), np.ones(shape, np.float32))


@pytest.mark.parametrize("bad", [0, -1, np.nan, np.inf, 1e-40])
def test_values_that_are_no_scale_are_refused(bad):
    with pytest.raises(QuantizationError, match="fake_quantize: expected a finite, positive, normal float32 scale, got "):
        apply(FakeQuantize, np.zeros((2, 4), np.float32), np.float32([1, bad]))


# ---- activations


def test_the_range_follows_the_batches():
    q = ActivationQuantizer(-1, 2, learned=False, momentum=0.25)
    lo, hi = -1.0, 2.0
    for x in (np.float32([-5, 0, 6]), np.float32([3, 4])):
        lo, hi = 0.75 * lo + 0.25 * x.min(), 0.75 * hi + 0.25 * x.max()
        y = q(Tensor(x), False)
        assert q.range() == pytest.approx((lo, hi), rel=1e-12)
        assert np.array_equal(y.numpy(), Tensor(x).to_int8(*fixed_point.affine_parameters(lo, hi)).dequantize().numpy())
    kept = q.bounds.numpy().copy()
    q(Tensor(x * 9), True)
    for useless in (np.float32([]), np.float32([np.nan, 8]), np.float32([np.inf])):
        q(Tensor(useless), False)
    assert np.array_equal(q.bounds.numpy(), kept)


@given(log2=st.floats(-50, 100, width=32), lo=st.floats(-9, 0, width=32), hi=st.floats(1, 9, width=32))
def test_the_range_of_a_learned_scale_gives_it_back(log2, lo, hi):
    q = ActivationQuantizer(lo, hi, learned=True)
    zero = q.zero_point
    assert q.scale().item() == pytest.approx((hi - lo) / 255, rel=1e-5)
    q.log2_scale.array[...] = log2
    scale = q.scale().numpy()
    assert q.codec() == Codec(scale[()], zero) and fixed_point.affine_parameters(*q.range()) == (scale, zero)
    assert scale >= 2.0**-30 and scale == pytest.approx(2.0 ** max(log2, -30.0), rel=1e-5)


# ---- weights


@example(n=3, k=5, per_channel=False, learned=False, x_log2=0, bias_log2=1, seed=206408540)      # a bias near a tie
@given(n=st.integers(1, 5), k=st.integers(1, 6), per_channel=st.booleans(), learned=st.booleans(),
       x_log2=st.integers(-110, 20), bias_log2=st.integers(-20, 45), seed=SEEDS)
def test_weights_and_biases_are_those_of_the_integers(n, k, per_channel, learned, x_log2, bias_log2, seed):
    """Equations (2) and (3): dead channels, biases of any size, learned scales."""
    rng = np.random.default_rng(seed)
    sizes = np.exp2(rng.integers(-20, 5, (n, 1))) * (rng.random((n, 1)) < 0.8)
    weight = (rng.standard_normal((n, k)) * sizes).astype(np.float32)
    x_scale = np.float32(2.0**x_log2 * 1.3)
    bias = (rng.standard_normal(n) * 2.0**bias_log2 * x_scale).astype(np.float32)
    q = WeightQuantizer(per_channel)
    if learned:
        q.start(weight * np.float32(0.7))
    codes, scale, q_bias, _ = fixed_point.quantize_layer(weight, bias, x_scale, 0, per_channel, q.chosen())
    for frozen in (False, True):
        w, b = q(Tensor(weight), Tensor(bias), x_scale, frozen)
        assert np.array_equal(w.numpy(), codes * scale[:, None])
        real = np.float64(x_scale) * scale.astype(np.float64)     # NumPy 1 takes float32 for a scalar by an array of it
        assert np.allclose(b.numpy(), q_bias * real, rtol=1e-6, atol=1e-37)


# ---- scales that are learned


def reconstruct(q, forward, target: np.ndarray, steps: int = 150) -> tuple[float, float]:
    """Mean squared error of the quantized values before and after training the scales alone."""
    optimizer = optim.Adam(q.parameters(), 0.05)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = ((forward() - target) ** 2).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses[0], losses[-1]


def test_an_activation_learns_its_scale():
    x = np.random.default_rng(0).standard_normal(4000).astype(np.float32)
    for lo, hi in ((-40, 60), (-0.5, 0.4)):       # steps too coarse, a range too narrow
        q = ActivationQuantizer(lo, hi, learned=True)
        zero = q.zero_point
        before, after = reconstruct(q, lambda q=q: q(Tensor(x), False), x)
        assert after < 0.05 * before and q.zero_point == zero and q.bounds.numpy().tolist() == [lo, hi]


@pytest.mark.parametrize("per_channel", [True, False])
def test_a_layer_learns_its_scales(per_channel):
    """Beside a channel without weights, and one whose bias needs a larger scale than the weights do."""
    weight = np.random.default_rng(1).standard_normal((5, 300)).astype(np.float32)
    weight[1] = 0
    bias = np.zeros(5, np.float32)
    bias[2] = 2.0**28 if per_channel else 0
    q = WeightQuantizer(per_channel)
    q.start(weight)
    q.log2_scale.array += 3
    start = q.chosen()
    before, after = reconstruct(q, lambda: q(Tensor(weight), Tensor(bias), np.float32(1), False)[0], weight)
    assert after < (0.4 if per_channel else 0.1) * before       # the bias's channel stays coarse
    assert (q.chosen() != start).tolist() == ([True, False, False, True, True] if per_channel else True)
    frozen, _ = q(Tensor(weight), None, np.float32(1), True)
    assert not frozen.requires_grad


def test_scales_stop_at_their_smallest_and_come_back():
    x = Tensor(np.float32([3, -2]))
    q = ActivationQuantizer(-1, 1, learned=True)
    q.log2_scale.array[...] = -100
    assert 2.0**-30 <= q.codec().scale < 1.0001 * 2.0**-30
    optimizer = optim.SGD(q.parameters(), 1e9)
    ((q(x, False) - x) ** 2).sum().backward()
    optimizer.step()
    assert q.codec().scale > 2.0**-29


@pytest.mark.parametrize("make", [optim.SGD, optim.Adam, optim.AdamW])
def test_weight_decay_spares_scales(make):
    x = np.random.default_rng(2).standard_normal((20, 6)).astype(np.float32)
    q = prepare_qat(models.MLP(6, 5, 3), x, learn_scales=True)
    scales = {name for name, _ in q.named_parameters() if name.endswith("log2_scale")}
    assert len(scales) == 3 + 2
    before = q.state_dict()
    for p in q.parameters():
        p.grad = Tensor(np.zeros(p.shape, np.float32))
    make(q.parameters(), 0.1, weight_decay=0.5).step()
    changed = {name for name, value in q.state_dict().items() if value.tobytes() != before[name].tobytes()}
    assert changed == {f"model.{i}.{kind}" for i in (1, 3) for kind in ("weight", "bias")}
