"""The errors that vmath.h states, asserted: in ulp against float64, over all float32 exponents, on every build."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tinyml._kernels import dispatch

KERNELS = {isa: dispatch.load(isa) for isa in dispatch.available()}
every_isa = pytest.mark.parametrize("isa", KERNELS)


def floats() -> np.ndarray:
    """Every exponent of either sign (subnormals, infinity and NaN too) with 200 mantissas, the first and the last among
    them; and the stretch where the functions bend, densely."""
    rng = np.random.default_rng(11)
    mantissa = rng.integers(0, 1 << 23, (512, 200), dtype=np.uint32)
    mantissa[:, :2] = 0, (1 << 23) - 1
    bits = (np.arange(512, dtype=np.uint32)[:, None] << 23) | mantissa
    dense = [rng.uniform(-reach, reach, 100_000).astype(np.float32) for reach in (1, 16, 110)]
    return np.concatenate([bits.reshape(-1).view(np.float32), *dense])


X = floats()
with np.errstate(invalid="ignore"):     # some NaNs among them are signalling
    EXACT = X.astype(np.float64)


def ulp(y: np.ndarray) -> np.ndarray:
    """Distance of the floats around y (float64)."""
    return np.exp2(np.maximum(np.frexp(y)[1] - 24.0, -149))


def sigmoid(x: np.ndarray) -> np.ndarray:
    z = np.exp(-np.abs(x))
    return np.where(x < 0, z, 1) / (1 + z)


def normal_distribution(x: np.ndarray) -> np.ndarray:
    return np.vectorize(lambda v: 0.5 * math.erfc(v))(x / -math.sqrt(2))


def tanh_form(x: np.ndarray) -> np.ndarray:
    """v of gelu_tanh(x) = x sigmoid(v)."""
    x = np.clip(x, -50, 50)
    return math.sqrt(8 / math.pi) * (x + 0.044715 * x**3)


def below(x: np.ndarray) -> np.ndarray:
    """x, but not below the point where the other factor is 0 in float64 too."""
    return np.maximum(x, -1000)


# name -> (the function in float64, its error in ulp, what comes on top)
FUNCTIONS = {
    "exp": (lambda x: np.exp(np.minimum(x, 700)), 1.5, lambda x, isa: 0),
    "tanh": (np.tanh, 3.5, lambda x, isa: 0),
    "sigmoid": (sigmoid, 3, lambda x, isa: 0),
    "silu": (lambda x: below(x) * sigmoid(x), 4, lambda x, isa: np.abs(below(x)) * 2.0**-149),
    "gelu": (lambda x: below(x) * normal_distribution(x), 4, lambda x, isa: np.abs(below(x)) * 2.0**-149),
    "gelu_tanh": (lambda x: below(x) * sigmoid(tanh_form(x)), 4, lambda x, isa: np.abs(below(x)) * 2.0**-149),
}


def more_ulps(name: str, x: np.ndarray, isa: str) -> np.ndarray:
    """In the tail the exponent is itself rounded, and its error grows with its size."""
    if name == "gelu_tanh":
        return np.where(x < 0, 3 * np.abs(tanh_form(x)), 0)
    if name == "gelu":      # the baseline has no fused multiply-add
        return np.where(x < 0, 5 + (np.clip(x, -50, 50) ** 2 / 2 if isa == "baseline" else 0), 0)
    return np.zeros(x.shape)


@every_isa
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name, isa):
    function, ulps, extra = FUNCTIONS[name]
    y = np.empty_like(X)
    getattr(KERNELS[isa], name + "_f32")(X, y, 1)
    want = function(EXACT)
    with np.errstate(over="ignore"):
        rounded = want.astype(np.float32)
    finite = np.isfinite(rounded)
    # overflow may come one rounding early or late
    assert (np.isnan(y) == np.isnan(EXACT)).all()
    edge = np.abs(want) >= float(np.finfo(np.float32).max) * (1 - 2.0**-22)
    assert ((y == rounded) | edge | finite | np.isnan(EXACT)).all()
    x, got, want = EXACT[finite & ~edge], y[finite & ~edge].astype(np.float64), want[finite & ~edge]
    error = np.abs(got - want)
    wrong = ~(error <= (ulps + more_ulps(name, x, isa)) * ulp(want) + extra(x, isa))
    assert not wrong.any(), f"{name}({x[wrong][0]!r}) = {got[wrong][0]!r}, expected {want[wrong][0]!r}: " \
                            f"{(error / ulp(want))[wrong].max():.2f} ulp"


def gelu_slope(x: np.ndarray) -> np.ndarray:
    c = np.clip(x, -50, 50)
    return normal_distribution(x) + c * np.exp(-c * c / 2) / math.sqrt(2 * math.pi)


def silu_slope(x: np.ndarray) -> np.ndarray:
    return sigmoid(x) * (1 + np.clip(x, -1000, 1000) * sigmoid(-x))


def gelu_tanh_slope(x: np.ndarray) -> np.ndarray:
    c, v = np.clip(x, -50, 50), tanh_form(x)
    return sigmoid(v) * (1 + c * sigmoid(-v) * math.sqrt(8 / math.pi) * (1 + 3 * 0.044715 * c * c))


SLOPES = {"gelu": gelu_slope, "silu": silu_slope, "gelu_tanh": gelu_tanh_slope}


@every_isa
@pytest.mark.parametrize("name", SLOPES)
def test_gradients(name, isa):
    dx, dy = np.empty_like(X), np.full_like(X, 3)
    getattr(KERNELS[isa], name + "_grad_f32")(X, dy, dx, 1)
    want = 3 * SLOPES[name](EXACT)
    assert (np.isnan(dx) == np.isnan(EXACT)).all()
    error = np.abs(dx - want)[~np.isnan(EXACT)] / 3 / 2.0**-23
    assert error.max() <= 2.5, f"off by {error.max()} * 2^-23 at {X[~np.isnan(EXACT)][error.argmax()]!r}"


@every_isa
def test_zeros_and_infinities(isa):
    points = np.float32([0, -0.0, np.inf, -np.inf])
    expected = {"exp": [1, 1, np.inf, 0], "tanh": [0, -0.0, 1, -1], "sigmoid": [0.5, 0.5, 1, 0],
                "silu": [0, -0.0, np.inf, -0.0], "gelu": [0, -0.0, np.inf, 0], "gelu_tanh": [0, -0.0, np.inf, -0.0]}
    for name, values in expected.items():
        y = np.empty_like(points)
        getattr(KERNELS[isa], name + "_f32")(points, y, 1)
        assert y.tobytes() == np.float32(values).tobytes(), f"{name}: {y}"


@every_isa
@pytest.mark.parametrize("name", ["exp", "tanh", "sigmoid", "silu", "gelu", "gelu_tanh"])
def test_an_element_does_not_depend_on_its_place(name, isa):
    """At any offset from a vector's border and any length the same x gives the same bits."""
    x = np.random.default_rng(5).standard_normal(300).astype(np.float32)
    y = np.empty_like(x)
    kernel = getattr(KERNELS[isa], name + "_f32")
    kernel(x, y, 1)
    for offset in range(17):
        for length in (1, 7, 16, 33, 130):
            room = np.zeros(300, np.float32)
            part = room[offset : offset + length]
            kernel(x[3 : 3 + length], part, 1)
            assert part.tobytes() == y[3 : 3 + length].tobytes()
            assert not room[:offset].any() and not room[offset + length :].any()
