"""Observers: ranges of known data, whatever the batches, in fixed memory; and what they do to a model."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from math import floor, inf, log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyml import nn
from tinyml.errors import DtypeError, ShapeError
from tinyml.precision import MSE, OBSERVERS, Histogram, MinMax, MovingAverage, Percentile, compare
from tinyml.precision.ranges.observers import BINS, Entropy, find_unmatched, observer_for, observer_name
from tinyml.tape import no_grad

BATCHES = st.lists(st.lists(st.floats(-(2.0**99), 2.0**99, width=32), max_size=5), min_size=1, max_size=6)


def seen(observer, batches):
    for batch in batches:
        observer.observe(np.asarray(batch, np.float32))
    return observer


@given(BATCHES)
def test_histograms_count_every_value_where_it_is(batches):
    histogram = seen(Histogram(), batches)
    values = np.array([v for batch in batches for v in batch], np.float64)
    assert histogram.counts.sum() == values.size and histogram.counts.size == BINS
    if values.size:
        assert histogram.range() == (values.min(), values.max())
        at = np.floor(values / histogram.width).astype(int) + BINS // 2
        # pairs of bins that became one lost no value: counting all at once in the final bins gives the same
        assert np.array_equal(np.bincount(at, minlength=BINS), histogram.counts)
        largest = max(np.abs(values).max(), np.finfo(np.float32).tiny)
        assert BINS / 4 * histogram.width <= largest < BINS / 2 * histogram.width


@pytest.mark.parametrize("name", sorted(OBSERVERS.keys() - {"moving_average"}))
@settings(max_examples=30)
@given(batches=BATCHES, seed=st.integers(0, 99), parts=st.integers(1, 40), shift=st.sampled_from([0, 1, -9]))
def test_the_range_does_not_depend_on_the_batches(name, batches, seed, parts, shift):
    x = np.random.default_rng(seed).standard_normal(300).astype(np.float32) * 3 + shift
    for split in (batches, np.array_split(x, parts)):
        whole = np.concatenate([np.asarray(batch, np.float32) for batch in split])
        assert seen(OBSERVERS[name](), split).range() == seen(OBSERVERS[name](), [whole]).range()


@pytest.mark.parametrize("name", OBSERVERS)
def test_memory_does_not_grow_with_the_data(name):
    def nbytes(batches):
        rng = np.random.default_rng(4)
        observer = seen(OBSERVERS[name](), (rng.standard_normal(7) * i for i in range(batches)))
        return sum(np.asarray(value).nbytes for value in vars(observer).values())

    assert nbytes(10) == nbytes(1000)


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
    lo, hi = seen(MSE(), [x]).range()
    best = squared_error(x, lo, hi)
    assert best < 0.85 * squared_error(x, x.min(), x.max())
    assert all(best <= 1.05 * squared_error(x, lo, hi * f) for f in (0.5, 0.8, 1.25, 2))


def entropy_by_hand(x: list[float]) -> tuple[float, float]:
    """Entropy's docstring, bin by bin."""
    least, most = min(x), max(x)
    width = 1.0
    while max(-least, most) >= BINS / 2 * width:
        width *= 2
    while max(-least, most) < BINS / 4 * width:
        width /= 2
    counts = Counter(floor(v / width) for v in x if v)
    bins = range(min(counts), max(counts) + 1)
    centers = [min(max((k + 0.5) * width, least), most) for k in bins]
    center = dict(zip(bins, centers, strict=True))

    def divergence(lo, hi):
        inside = [k for k in counts if lo <= center[k] <= hi]
        if not inside:
            return inf
        first, last = bins[bisect_left(centers, lo)], bins[bisect_right(centers, hi) - 1]
        scale = float(np.float32((max(hi, 0) - min(lo, 0)) / 255))
        zero = min(max(round(-128 - min(lo, 0) / scale), -128), 127)
        code = {k: min(max(round(center[k] / scale) + zero, -128), 127) for k in inside}
        p, total, members = Counter(), Counter(), Counter(code.values())
        for k, count in counts.items():
            p[k if k in code else first if center[k] < lo else last] += count
            if k in code:
                total[code[k]] += count
        q = {k: total[code[k]] / members[code[k]] if k in code else 0.5 for k in p}
        sum_p, sum_q = sum(p.values()), sum(q.values())
        return sum(p[k] / sum_p * log(p[k] / sum_p / (q[k] / sum_q)) for k in p)

    lo, hi = least, most
    hi = min([hi * (64 - i) / 64 for i in range(64 if hi > 0 else 1)], key=lambda h: divergence(lo, h))
    lo = min([lo * (64 - i) / 64 for i in range(64 if lo < 0 else 1)], key=lambda v: divergence(v, hi))
    return lo, hi


DRAWS = {
    "normal": lambda rng, n: rng.standard_normal(n), "laplace": lambda rng, n: rng.laplace(size=n) * 1e-5,
    "relu": lambda rng, n: np.maximum(rng.standard_normal(n), 0), "negative": lambda rng, n: -rng.exponential(size=n) * 1e9,
    "t": lambda rng, n: rng.standard_t(2, n), "far from 0": lambda rng, n: rng.uniform(3, 5, n),
    "outliers": lambda rng, n: np.append(rng.standard_normal(n), [60, -30]),
    "relu6": lambda rng, n: np.clip(rng.standard_normal(n) * 4, 0, 6), "integers": lambda rng, n: rng.integers(-9, 40, n),
}


@pytest.mark.parametrize("draw", DRAWS)
@settings(max_examples=6)
@given(seed=st.integers(0, 2**32), n=st.sampled_from([30, 300, 2000]))
def test_entropy_is_its_formula(draw, seed, n):
    x = DRAWS[draw](np.random.default_rng(seed), n).astype(np.float32)
    assert seen(Entropy(), np.array_split(x, 3)).range() == pytest.approx(entropy_by_hand(x.tolist()), rel=1e-9)


def test_entropy_does_not_see_zeros():
    x = np.random.default_rng(5).exponential(size=20_000)
    zeros = np.zeros(100_000)
    assert seen(Entropy(), [x, zeros]).range()[1] == seen(Entropy(), [x]).range()[1]
    assert seen(Entropy(), [zeros, -x]).range() == tuple(-v for v in seen(Entropy(), [x, zeros]).range()[::-1])


def squared_error(x, lo, hi):
    scale = np.float32((hi - lo) / 255)
    zero = np.clip(np.rint(-128 - lo / scale), -128, 127)
    return np.square((np.clip(np.rint(x / scale) + zero, -128, 127) - zero) * scale - x).mean()


@pytest.mark.parametrize("make", [Entropy, MSE])
def test_far_outliers_are_clipped_and_little_else(make):
    rng = np.random.default_rng(6)
    normal = rng.standard_normal(400_000).astype(np.float32)
    for x, kept in ((normal, 0.8), (rng.uniform(-1, 2, 100_000).astype(np.float32), 1), (np.maximum(normal, 0), 0.8)):
        lo, hi = seen(make(), [x]).range()
        assert kept * x.max() <= hi <= x.max() and x.min() <= lo <= kept * x.min()
        assert np.mean((x < lo) | (x > hi)) < 1e-4
    tails = rng.standard_t(3, 400_000)
    for x in (tails, np.maximum(tails, 0), np.minimum(tails, 0)):
        lo, hi = seen(make(), [x]).range()
        assert hi - lo < 0.8 * (x.max() - x.min()) and np.mean((x < lo) | (x > hi)) < 1e-3
        body = x[np.abs(x) < np.quantile(np.abs(x), 0.999)]
        assert squared_error(body, lo, hi) < 0.7 * squared_error(body, x.min(), x.max())
        assert (lo == 0) == (x.min() == 0) and (hi == 0) == (x.max() == 0)      # the side without values stays


def test_entropy_drops_one_outlier_however_far():
    x = np.append(np.random.default_rng(7).standard_normal(400_000), 100).astype(np.float32)
    lo, hi = seen(Entropy(), [x]).range()
    assert 3.5 < hi < 10 and -6 < lo < -3.5


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
    with pytest.raises(DtypeError, match=f"observer: expected one of {', '.join(OBSERVERS)}.*got 'kl'"):
        model.to_int8(calibration=[x], observer="kl")
    with pytest.raises(DtypeError, match="options of static int8"):
        model.to_int8(observer="minmax")
    with pytest.raises(ShapeError, match="MovingAverage: expected c to be a number above 0 and of at most 1, got 0"):
        MovingAverage(0)
    with pytest.raises(ShapeError, match=r"Percentile: expected clipped to be .* at least 0 and below 100, got 100"):
        Percentile(100)


# ---- observers by layer


NAMES = st.lists(st.sampled_from(["a", "b", "ab", "a0"]), max_size=4).map(".".join)


@given(st.lists(NAMES, unique=True, max_size=6), st.lists(NAMES, max_size=6))
def test_the_longest_name_that_holds_a_layer_chooses(keys, layers):
    makers = {key: lambda key=key: key for key in keys}
    choose = observer_for(makers)
    used = set()
    for layer in layers:
        parts = layer.split(".") if layer else []
        holding = [".".join(parts[:n]) for n in range(len(parts), -1, -1)]
        used.update(holding)
        expected = next((makers[name] for name in holding if name in makers), MinMax)
        assert choose(layer) is expected
    assert find_unmatched(makers, layers) == [key for key in keys if key not in used and key]


@pytest.mark.parametrize("observer, name, root", [
    ("mse", "mse", MSE), (Entropy, "Entropy", Entropy), (lambda: Percentile(1), "Percentile", Percentile),
    ({"head": Entropy}, '{"head": "Entropy"}', MinMax),
    ({"": "percentile", "head": Entropy}, '{"": "percentile", "head": "Entropy"}', Percentile),
])
def test_observers_have_names_for_records(observer, name, root):
    assert observer_name(observer) == name
    assert isinstance(observer_for(observer)("block1.conv2")(), root)
    assert find_unmatched(observer, ["block1", "head.0"]) == []


@pytest.mark.parametrize("observer, message", [
    ("kl", "^observer: expected one of minmax, .*got 'kl'"), (MinMax(), "^observer: expected one of"),
    ({"block1": 3}, "^observer of layer 'block1': expected one of minmax, .*got 3"), ({"": None}, "^observer: .*got None"),
    ({"a": {"b": "mse"}}, "^observer of layer 'a': .*got {'b': 'mse'}"),
    ({0: "mse"}, "^observer: expected layer names.*got 0"),
])
def test_what_is_no_observer_of_a_layer_is_refused(observer, message):
    with pytest.raises(DtypeError, match=message):
        observer_for(observer)
