"""Observers: ranges of known data, whatever the batches, in fixed memory; and what they do to a model."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyml import nn
from tinyml.errors import DtypeError, QuantizationError
from tinyml.precision import MSE, OBSERVERS, Histogram, MinMax, MovingAverage, Percentile, compare
from tinyml.precision.observers import BINS
from tinyml.tape import no_grad


def seen(observer, batches):
    for batch in batches:
        observer.observe(np.asarray(batch, np.float32))
    return observer


@given(st.lists(st.lists(st.floats(-(2.0**99), 2.0**99, width=32), max_size=5), min_size=1, max_size=6))
def test_histograms_count_every_value_where_it_is(batches):
    histogram = seen(Histogram(), batches)
    values = np.array([v for batch in batches for v in batch], np.float64)
    assert histogram.counts.sum() == values.size and histogram.counts.size == BINS
    if values.size:
        assert histogram.range() == (values.min(), values.max())
        at = (np.floor(values / histogram.width) - histogram.first).astype(int)
        # pairs of bins that became one lost no value: counting all at once in the final bins gives the same
        assert np.array_equal(np.bincount(at, minlength=BINS), histogram.counts)


@pytest.mark.parametrize("make", [MinMax, Histogram, Percentile, MSE])
def test_the_range_does_not_depend_on_the_batches(make):
    x = np.random.default_rng(0).standard_normal(5000).astype(np.float32) * 3 + 1
    whole, parts = seen(make(), [x]), seen(make(), np.array_split(x, 50))
    # bins may differ by the width they grew from; ranges by no more than the coarser bin
    width = max(getattr(whole, "width", 0), getattr(parts, "width", 0)) if make is Percentile else 0.2 * (make is MSE)
    assert np.allclose(whole.range(), parts.range(), rtol=0, atol=2 * width)


def test_moving_average_follows_its_formula():
    observer = seen(MovingAverage(0.25), [[-1, 2], [], [-5, 6], [0, 1]])
    assert observer.range() == pytest.approx((0.75 * (0.75 * -1 + 0.25 * -5), 0.75 * (0.75 * 2 + 0.25 * 6) + 0.25))


def test_percentile_leaves_what_it_says_outside():
    x = np.random.default_rng(1).standard_normal(200_000).astype(np.float32)
    for clipped in (0.0, 0.1, 2.0, 20.0):
        lo, hi = seen(Percentile(clipped), np.array_split(x, 7)).range()
        outside = np.mean((x < lo) | (x > hi)) * 100
        assert outside <= clipped + 1e-9 and outside > clipped - 0.6, clipped
        assert abs(np.mean(x < lo) - np.mean(x > hi)) < 0.004


def test_mse_is_no_worse_than_any_range_tried():
    rng = np.random.default_rng(2)
    x = np.append(rng.standard_normal(400_000), 15.0).astype(np.float32)

    def error(lo, hi):
        scale = np.float32((hi - lo) / 255)
        zero = np.clip(np.rint(-128 - lo / scale), -128, 127)
        return np.square((np.clip(np.rint(x / scale) + zero, -128, 127) - zero) * scale - x).mean()

    lo, hi = seen(MSE(), [x]).range()
    assert error(lo, hi) < 0.85 * error(x.min(), x.max())
    assert all(error(lo, hi) <= 1.05 * error(lo, hi * f) for f in (0.5, 0.8, 1.25, 2))


@pytest.mark.parametrize("name", OBSERVERS)
def test_empty_constant_and_tiny_data(name):
    for batches in ([[0, 0]], [[3, 3]], [[-2]], [[], [1e-42]], [[1e-42, -1e30]]):
        observer = seen(OBSERVERS[name](), batches)
        lo, hi = observer.range()
        assert np.isfinite([lo, hi]).all() and lo <= hi
    assert np.isinf(seen(OBSERVERS[name](), [[]]).range()).all()


def outlier_net():
    """Three layers, and inputs of which one in ten thousand is a hundred times too large."""
    rng = np.random.default_rng(3)
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 8)).eval()
    x = rng.standard_normal((2000, 16)).astype(np.float32)
    calibration = x.copy()
    calibration[7, 3] *= 300
    return model, x, calibration


@pytest.mark.parametrize("name", OBSERVERS)
def test_every_observer_calibrates_a_model(name):
    model, x, _ = outlier_net()
    int8 = model.to_int8(calibration=np.array_split(x, 4), observer=name)
    with no_grad():
        wanted = model(x).numpy()
    assert np.abs(int8(x).numpy() - wanted).max() < 0.35 * np.abs(wanted).max()
    assert compare(model, int8, [x], show=False, seconds=0).agreement > 0.9


def test_clipping_an_outlier_pays():
    model, x, calibration = outlier_net()
    with no_grad():
        wanted = model(x).numpy()
    error = {name: np.square(model.to_int8(calibration=[calibration], observer=name)(x).numpy() - wanted).mean()
             for name in ("minmax", "percentile")}
    assert error["percentile"] < 0.5 * error["minmax"]
    # the outlier's row is one in 2,000 behind the first layer: more has to be clipped there
    custom = model.to_int8(calibration=[calibration], observer=lambda: Percentile(0.5))(x).numpy()
    assert np.square(custom - wanted).mean() < 0.1 * error["minmax"]


def test_what_is_no_observer_is_refused():
    model, x, _ = outlier_net()
    with pytest.raises(DtypeError, match=r"observer: expected one of minmax, moving_average, percentile, mse.*got 'kl'"):
        model.to_int8(calibration=[x], observer="kl")
    with pytest.raises(DtypeError, match="options of static int8"):
        model.to_int8(observer="mse")
    with pytest.raises(QuantizationError, match=r"c in \(0, 1\], got 0"):
        MovingAverage(0)
    with pytest.raises(QuantizationError, match=r"clipped in \[0, 100\) percent, got 100"):
        Percentile(100)
