"""Equations (2) to (6) of the design, against Python's unbounded integers and exact fractions."""

from __future__ import annotations

from fractions import Fraction
from math import frexp

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyml._kernels import dispatch
from tinyml._kernels.products import fixed_point, integer_layer
from tinyml._kernels.products.windows import Window
from tinyml._kernels.rows.codes import dequantize, quantize, to_signed, to_unsigned
from tinyml.errors import QuantizationError

KERNELS = {isa: dispatch.load(isa) for isa in dispatch.available()}
TOP = 2**31 - 1
REALS = [2.0**-40, 2.0**-25, 0.49, 0.5, 0.999999999, 1.0, 3.0, 2.0**20]


# ---- equation (5), written once more in exact arithmetic


def exact_multiplier(real: float) -> tuple[int, int]:
    """m and s by the text: s = min(31 - e, 55), m = rint(M 2^s), ties to even as Python's round does them."""
    s = min(31 - frexp(real)[1], 55)
    m = round(Fraction(real) * 2**s)
    return (2**30, s - 1) if m == 2**31 else (m, s)


def single(acc: int, real: float, zero: int, lo: int, hi: int) -> int:
    m, s = exact_multiplier(real)
    return min(max(zero + ((acc * m + 2 ** (s - 1)) >> s), lo), hi)


def clamp32(v: int) -> int:
    return min(max(v, -(2**31)), TOP)


def double(acc: int, real: float, zero: int, lo: int, hi: int) -> int:
    """gemmlowp, line by line: fixedpoint.h's two functions around a left shift that saturates."""
    m, s = exact_multiplier(real)
    a = clamp32(acc << max(31 - s, 0))
    product = a * m
    nudge = 1 << 30 if product >= 0 else 1 - (1 << 30)
    total = product + nudge
    high = abs(total) // 2**31 * (1 if total >= 0 else -1)      # C's division truncates
    exponent = max(s - 31, 0)
    mask = (1 << exponent) - 1
    threshold = (mask >> 1) + (1 if high < 0 else 0)
    rounded = (high >> exponent) + (1 if high & mask > threshold else 0)
    return min(max(clamp32(rounded + zero), lo), hi)


def accumulators_for(rng: np.random.Generator, real: float) -> list[int]:
    """Both ends of int32, every magnitude, and for this multiplier: ties, their neighbours, and the ends of int8."""
    around = [0, TOP, -TOP, -TOP - 1]
    around += [int(v) for v in np.exp2(rng.uniform(0, 31, 30)) * rng.choice([-1, 1], 30)]
    halves = [Fraction(2 * code + 1, 2) for code in (-1, 0, 1, -2, 40, -77, 127, -128, 254, -256)]
    around += [int(half / Fraction(real)) for half in halves]
    return sorted({clamp32(a + step) for a in around for step in (-1, 0, 1)})


def layer_of(accumulators: list[int], reals: np.ndarray, zero: int, lo: int, hi: int, rounding: str, kernels):
    """A layer whose accumulators are whatever we want: one input of weight 0, and the bias."""
    n = len(accumulators)
    requant = integer_layer.Requant(reals, zero, lo, hi, rounding)
    codes, bias = np.zeros((n, 1, 1, 1), np.int8), np.array(accumulators, np.int64)
    return integer_layer.IntegerLayer(codes, bias, 0, Window(), requant, kernels)


ONE_PIXEL = np.full((1, 1, 1, 1), 200, np.uint8)
CLAMPS = [(-128, 127), (0, 127), (-128, 90), (-10, 10)]


@pytest.mark.parametrize("isa", KERNELS)
@pytest.mark.parametrize("rounding", ["single", "double"])
def test_requantization_is_equation_5(rounding, isa):
    rng = np.random.default_rng(5)
    by_hand = single if rounding == "single" else double
    saturated = []
    for real in [*REALS, *np.exp2(rng.uniform(-45, 29, 30))]:
        accs = accumulators_for(rng, real)
        for zero in (-128, 0, 3, 127):
            lo, hi = CLAMPS[rng.integers(len(CLAMPS))]
            layer = layer_of(accs, np.full(len(accs), real), zero, lo, hi, rounding, KERNELS[isa])
            got = to_signed(layer.codes(ONE_PIXEL)).ravel().tolist()
            expected = [by_hand(a, real, zero, lo, hi) for a in accs]
            differ = [row for row in zip(accs, got, expected, strict=True) if row[1] != row[2]]
            assert not differ, f"(acc, got, expected) {differ[0]} with M={real}, z_y={zero}, clamp {lo}, {hi}"
            saturated.append(layer.saturate)
            if rounding == "single":
                layer.saturate = True       # never wrong, only slower
                assert to_signed(layer.codes(ONE_PIXEL)).ravel().tolist() == expected
    assert {True, False} == set(saturated)


@pytest.mark.parametrize("isa", KERNELS)
def test_each_channel_has_its_own_multiplier(isa):
    rng = np.random.default_rng(6)
    reals = np.exp2(rng.uniform(-40, 20, 150))
    reals[::7] = 0      # a dead channel
    accs = [int(v) for v in rng.integers(-TOP, TOP, 150)]
    layer = layer_of(accs, reals, 11, -128, 127, "single", KERNELS[isa])
    expected = [single(a, r, 11, -128, 127) for a, r in zip(accs, reals, strict=True)]
    assert to_signed(layer.codes(ONE_PIXEL)).ravel().tolist() == expected


def test_the_two_roundings_break_ties_differently():
    def codes(real, rounding):
        layer = layer_of([6, -6], np.full(2, real), 0, -128, 127, rounding, dispatch.active)
        return to_signed(layer.codes(ONE_PIXEL)).ravel().tolist()

    # 1.5 and -1.5: halves up against gemmlowp's halves away from zero
    assert codes(0.25, "single") == [2, -1]
    assert codes(0.25, "double") == [2, -2]


# ---- multipliers


@given(st.floats(0, 2.0**30, exclude_max=True) | st.sampled_from(REALS))
def test_multiplier_is_the_text(real):
    try:
        m, s = (int(v) for v in fixed_point.multiplier(np.float64(real)))
    except QuantizationError:
        assert round(Fraction(real) * 2) == 2**31       # rounds up to 2^30
        return
    assert (m, s) == (exact_multiplier(real) if real else (0, 31))
    assert 0 <= m < 2**31 and 1 <= s <= 55
    error = abs(Fraction(m, 2**s) - Fraction(real))
    assert error <= (Fraction(real) / 2**31 if s < 55 else Fraction(1, 2**56))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1.0, -1e-300, 2.0**30, 1e300])
def test_multiplier_refuses(bad):
    with pytest.raises(QuantizationError, match="multiplier"):
        fixed_point.multiplier(np.array([0.5, bad]))


@given(st.lists(st.floats(1e-9, 1e6), min_size=2, max_size=4))
def test_shared_multipliers_have_one_shift(reals):
    m, s = fixed_point.shared_multipliers(reals)
    assert max(m) < 2**31 and s == exact_multiplier(max(reals))[1]
    for a, real in zip(m, reals, strict=True):
        assert abs(Fraction(a, 2**s) - Fraction(real)) <= Fraction(1, 2 ** (s + 1))


# ---- ranges


bounds = st.floats(-(2.0**124), 2.0**124, width=32) | st.sampled_from([0.0, -0.0, 1e-38, -1e-38, 1e-45, 6.0, -1.0])


@given(bounds, bounds)
def test_affine_parameters_cover_the_range_and_hold_zero(a, b):
    lo, hi = min(a, b), max(a, b)
    scale, zero = fixed_point.affine_parameters(lo, hi)
    assert scale.dtype == np.float32 and scale >= np.finfo(np.float32).tiny and -128 <= zero <= 127
    lo, hi = min(lo, 0.0), max(hi, 0.0)
    if lo == hi:
        assert (scale, zero) == (1, 0)
    # a half code of rounding at most, at either end
    assert (-128 - zero - 0.50001) * float(scale) <= lo and hi <= (127 - zero + 0.50001) * float(scale)
    codes = quantize(np.array([0.0, lo, hi], np.float32), scale, zero)[0]
    assert dequantize(codes, scale, zero)[0] == 0
    worst = np.abs(dequantize(codes, scale, zero) - np.array([0, lo, hi])).max()
    assert worst <= 0.501 * float(scale)


@pytest.mark.parametrize("lo, hi", [(np.nan, 1), (0, np.nan), (-np.inf, 1), (0, np.inf), (-3.4e38, 3.4e38 * 300)])
def test_affine_parameters_refuse(lo, hi):
    with pytest.raises(QuantizationError, match="layer 3"):
        fixed_point.affine_parameters(lo, hi, "layer 3")


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf, 1e-40, 1e39])
def test_scales_must_be_finite_positive_and_normal(bad):
    with pytest.raises(QuantizationError, match="gain: expected a finite, positive, normal float32 scale"):
        fixed_point.check_scale(np.array([1.0, bad]), "gain")


# ---- the certificate: equations (2) to (4)


def worst_input(codes: np.ndarray, sign: int) -> np.ndarray:
    """The admissible input that drives `sign` * sum (q - z) w of the first channel as high as it goes."""
    w = codes[0].astype(np.int64).reshape(-1) * sign
    return to_unsigned(np.where(w >= 0, 127, -128).astype(np.int8)).reshape(1, 1, 1, -1)


AT_THE_BOUND = TOP // (127 * 255), TOP % (127 * 255)       # inputs of weight 127, and what is left for the bias


@pytest.mark.parametrize("isa", KERNELS)
@pytest.mark.parametrize("zero", [-128, 127])
def test_a_layer_exactly_at_the_bound_is_kept_and_is_exact(zero, isa):
    k, rest = AT_THE_BOUND
    sign = 1 if zero == -128 else -1
    weight = np.full((1, k), 127.0 * sign)
    codes, scale, bias, bound = fixed_point.quantize_layer(weight, np.array([float(rest)]), 1.0, zero)
    assert (scale.tolist(), bias.tolist(), bound.tolist()) == ([1.0], [rest], [TOP])
    codes = codes[:, :, None, None]
    requant = integer_layer.Requant(np.array([127.4 / TOP]), 0)
    layer = integer_layer.IntegerLayer(codes, bias, zero, None, requant, KERNELS[isa])
    x = worst_input(codes, 1)
    assert layer.accumulators(x).item() == TOP
    assert to_signed(layer.codes(x)).item() == 127
    # and the other end
    mirrored = integer_layer.IntegerLayer(-codes, -bias, zero, None, None, KERNELS[isa])
    assert mirrored.accumulators(x).item() == -TOP


def test_one_past_the_bound_doubles_the_scale():
    k, rest = AT_THE_BOUND
    weight = np.stack([np.full(k, 127.0), np.full(k, 1.0)])
    codes, scale, _, bound = fixed_point.quantize_layer(weight, np.array([rest + 1.0, 0]), 1.0, -128)
    assert scale.tolist() == [2.0, np.float32(1 / 127)] and set(codes[0]) == {64}
    assert bound[0] == 64 * k * 255 + round((rest + 1) / 2) <= TOP
    _, shared, _, bounds = fixed_point.quantize_layer(weight, np.array([rest + 1.0, 0]), 1.0, -128, per_channel=False)
    assert shared.tolist() == [2.0, 2.0] and bounds.max() <= TOP


@given(k=st.sampled_from([1, 3, 500]), weight=st.sampled_from([0.0, 1e-30, 0.3, 1e30]), bias=st.floats(-1e20, 1e20),
       x_scale=st.sampled_from([1e-6, 0.02, 1.0, 30.0]), zero=st.integers(-128, 127), per_channel=st.booleans())
def test_the_certificate_always_holds(k, weight, bias, x_scale, zero, per_channel):
    rng = np.random.default_rng(0)
    w = rng.uniform(-weight, weight, (3, k)) if weight else np.zeros((3, k))
    b = np.array([bias, 0.0, -bias / 7])
    codes, scale, q_bias, bound = fixed_point.quantize_layer(w, b, np.float32(x_scale), zero, per_channel)
    assert bound.max() <= TOP and np.abs(codes.astype(int)).max(initial=0) <= 127 and q_bias.dtype == np.int32
    assert (scale >= np.finfo(np.float32).tiny).all() and (per_channel or len(set(scale.tolist())) == 1)
    assert (fixed_point.accumulator_bound(codes, q_bias, zero) == bound).all()
    # nothing was cut: codes and bias say what the floats said, within half a step
    real = float(np.float32(x_scale)) * scale.astype(np.float64)
    assert (np.abs(codes * scale[:, None].astype(np.float64) - w) <= scale[:, None] * 0.5001).all()
    assert (np.abs(q_bias * real - b) <= real * 0.5001).all()
    # an input at the ends of the codes gives the sum of exact integers, which the bound holds
    layer = integer_layer.IntegerLayer(codes[:, :, None, None], q_bias, zero)
    for sign in (1, -1):
        u = worst_input(codes, sign)
        q = u.ravel().astype(int) - 128 - zero
        exact = [int(c) + sum(int(a) * int(b) for a, b in zip(q, row, strict=True))
                 for c, row in zip(q_bias, codes, strict=True)]
        assert layer.accumulators(u).ravel().tolist() == exact
        assert all(abs(a) <= b for a, b in zip(exact, bound, strict=True))


def test_a_layer_without_requantization_has_no_codes():
    layer = integer_layer.IntegerLayer(np.ones((2, 3, 1, 1), np.int8), None, 0)
    x, out = np.zeros((1, 1, 1, 3), np.uint8), np.zeros((1, 1, 1, 2), np.uint8)
    for ask in (lambda: layer.codes(x), lambda: layer.bind(x, out)):
        with pytest.raises(QuantizationError, match="without a Requant"):
            ask()


def test_dead_channels_and_huge_biases():
    codes, scale, bias, bound = fixed_point.quantize_layer(np.zeros((3, 4)), np.array([0.0, 5.0, -1e10]), 0.5, 7)
    assert not codes.any() and scale[0] == 1
    assert bias[0] == 0 and abs(bias[1] - 2**30) < 2**8 and abs(bias[2] + 2**30) < 2**8
    assert np.allclose(bias * (0.5 * scale.astype(np.float64)), [0, 5, -1e10], rtol=1e-8)
    assert bound.max() <= TOP
    empty = fixed_point.quantize_layer(np.zeros((0, 4)), None, 0.5, 7)
    assert [a.shape for a in empty] == [(0, 4), (0,), (0,), (0,)]


@pytest.mark.parametrize("weight, bias, message", [
    ([[np.nan]], [0.0], "weights: expected finite"), ([[1.0]], [np.inf], "bias: expected finite"),
    ([[1.0]], [1e300], "weights: expected a finite, positive, normal"),
])
def test_layers_that_have_no_scale_are_refused(weight, bias, message):
    with pytest.raises(QuantizationError, match=message):
        fixed_point.quantize_layer(np.array(weight), np.array(bias), 1e-3 if bias[0] < 1 else 1e-9, 0)


@given(st.sampled_from([None, 0, 1]), st.sampled_from([0.0, 1e-44, 1e-3, 1e30]))
def test_weight_scales_reach_the_largest(axis, size):
    w = np.random.default_rng(1).uniform(-size, size, (3, 4)).astype(np.float32)
    scale = fixed_point.weight_scales(w, axis)
    assert scale.shape == {None: (), 0: (3,), 1: (4,)}[axis] and scale.dtype == np.float32
    codes = fixed_point.quantize_weight(w, scale, axis).astype(np.float64)
    spread = scale if axis is None else scale.reshape((-1, 1) if axis == 0 else (1, -1))
    assert (np.abs(codes * spread - w) <= 0.5001 * spread).all()
    if size > 1e-30:
        assert (np.abs(codes).max(axis=None if axis is None else 1 - axis) == 127).all()


@given(axis=st.sampled_from([None, 0, 1]), size=st.sampled_from([1e-44, 1.6e-36, 1e-3, 1e30]),
       tail=st.sampled_from([0, 1, 4]), seed=st.integers(0, 99))
def test_clipped_weight_scales_have_the_least_error(axis, size, tail, seed):
    rng = np.random.default_rng(seed)
    w = rng.standard_normal((3, 4, 400)) * rng.exponential(size=(3, 4, 400)) ** tail
    w = (w / np.abs(w).max() * size).astype(np.float32)
    w[1] = 0
    whole, chosen = fixed_point.weight_scales(w, axis), fixed_point.clipped_weight_scales(w, axis)
    assert chosen.shape == whole.shape and chosen.dtype == np.float32
    for channel, largest, scale in zip([w] if axis is None else np.moveaxis(w, axis, 0), np.atleast_1d(whole),
                                       np.atleast_1d(chosen), strict=True):
        if not channel.any():
            assert scale == 1
            continue
        error = {}
        for f in range(100, 29, -1):
            s = max(largest * np.float32(f / 100), np.finfo(np.float32).tiny)
            codes = np.clip(np.rint(channel / s), -127, 127).astype(np.float64)
            error[s] = float(np.square(channel - codes * float(s)).sum())
        # one of these, and no worse than any other: the maximum's, the first, among them
        assert error[scale] <= min(error.values()) * (1 + 1e-12)


def test_clipping_one_large_weight_pays():
    w = np.random.default_rng(2).standard_normal((2, 100_000)).astype(np.float32)
    w[0, 7] = 9
    whole, chosen = fixed_point.weight_scales(w), fixed_point.clipped_weight_scales(w)
    error = [np.square(fixed_point.quantize_weight(w, s, 0) * s[:, None] - w).sum(axis=1) for s in (whole, chosen)]
    assert chosen[0] < 0.9 * whole[0] and error[1][0] < 0.9 * error[0][0]
    for axis, shape in ((0, (0, 4)), (1, (0, 4)), (None, (2, 0))):
        assert fixed_point.clipped_weight_scales(np.zeros(shape), axis).tolist() == (
            fixed_point.weight_scales(np.zeros(shape), axis).tolist())
    with pytest.raises(QuantizationError, match="weights: expected finite"):
        fixed_point.clipped_weight_scales(np.array([[1, np.inf]]))
