"""Windows of any numbers: convolution and pooling against an oracle in Python's integers, refusals, and scratch memory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tinyml._kernels.products import integer_layer
from tinyml._kernels.products.windows import HEAD, MOST, Window, scratch, sweep
from tinyml._kernels.rows.codes import to_unsigned
from tinyml.errors import OutOfMemoryError, ShapeError, TinymlError
from tinyml.nn import Parameter
from tinyml.nn import functional as F

LARGE = [29_999, 30_000, 2**20 + 1, 2**30, MOST]


@st.composite
def dimensions(draw: st.DrawFn, most: int = 6) -> tuple[int, int, int, int, int]:
    """Inputs, taps, stride, padding and dilation with up to `most` outputs: every number small or absurd."""
    n, taps = draw(st.integers(1, 6)), draw(st.integers(1, 3))
    padding = draw(st.one_of(st.integers(0, 3), st.sampled_from(LARGE)))
    dilation = draw(st.one_of(st.integers(1, 3), st.sampled_from(LARGE), st.just(max(padding, 1))))
    left = n + 2 * padding - (taps - 1) * dilation - 1
    assume(left >= 0)
    least = left // most + 1
    stride = draw(st.one_of(st.integers(0, 3).map(lambda more: least + more), st.sampled_from(LARGE)))
    return n, taps, max(stride, least), padding, min(dilation, MOST)


def read(n: int, taps: int, stride: int, padding: int, dilation: int) -> np.ndarray:
    """The input that each tap of each output reads, -1 where that is padding; in Python's integers."""
    outputs = (n + 2 * padding - (taps - 1) * dilation - 1) // stride + 1
    at = [[o * stride + t * dilation - padding for t in range(taps)] for o in range(outputs)]
    return np.array([[i if 0 <= i < n else -1 for i in row] for row in at])


def columns(x: np.ndarray, rows: np.ndarray, across: np.ndarray, fill: int = 0) -> np.ndarray:
    """What the windows read of x (B, C, H, W): (B, C, OH, kh, OW, kw)."""
    inside = (rows >= 0)[:, :, None, None] & (across >= 0)
    return np.where(inside, x[:, :, rows[:, :, None, None], across], fill)


GROUPS = st.sampled_from([(1, 3, 2), (1, 4, 5), (2, 2, 1), (3, 1, 1), (5, 1, 1)])      # of so many channels to so many


@given(dimensions(), dimensions(), GROUPS, st.integers(0, 99))
def test_convolution_is_what_integers_say(vertical, horizontal, sizes, seed):
    (groups, k, n), rng = sizes, np.random.default_rng(seed)
    (h, kh, sy, py, down), (w, kw, sx, px, right) = vertical, horizontal
    x = Parameter(rng.integers(-9, 10, (2, groups * k, h, w)).astype(np.float32))
    weight = Parameter(rng.integers(-9, 10, (groups * n, k, kh, kw)).astype(np.float32))
    window = {"stride": (sy, sx), "padding": (py, px), "dilation": (down, right), "groups": groups}
    rows, across = read(*vertical), read(*horizontal)
    seen = columns(x.numpy(), rows, across).reshape(2, groups, k, len(rows), kh, len(across), kw)
    w5 = weight.numpy().reshape(groups, n, k, kh, kw)

    y = F.conv2d(x, weight, **window)
    expected = np.einsum("bgkytxu,gnktu->bgnyx", seen, w5)
    np.testing.assert_array_equal(y.numpy(), expected.reshape(y.shape))

    cotangent = rng.integers(-9, 10, y.shape).astype(np.float32)
    (y * cotangent).sum().backward()
    g = cotangent.reshape(2, groups, n, len(rows), len(across))
    np.testing.assert_array_equal(weight.grad.numpy(), np.einsum("bgkytxu,bgnyx->gnktu", seen, g).reshape(weight.shape))
    spread = np.einsum("bgnyx,gnktu->bgkytxu", g, w5).reshape(2, groups * k, len(rows), kh, len(across), kw)
    dx = np.zeros((2, groups * k, h + 1, w + 1))        # the last row and column collect what falls on padding
    np.add.at(dx, (slice(None), slice(None), rows[:, :, None, None], across), spread)
    np.testing.assert_array_equal(x.grad.numpy(), dx[:, :, :h, :w])

    codes = np.ascontiguousarray(x.numpy().transpose(0, 2, 3, 1)).astype(np.int8)
    layer = integer_layer.IntegerLayer(weight.numpy().astype(np.int8), None, 3, Window((kh, kw), **window))
    acc = layer.accumulators(to_unsigned(codes))
    seen = columns(x.numpy() - 3, rows, across).reshape(2, groups, k, len(rows), kh, len(across), kw)
    expected = np.einsum("bgkytxu,gnktu->byxgn", seen, w5)
    np.testing.assert_array_equal(acc, expected.reshape(acc.shape))


@given(dimensions(), dimensions())
def test_scratch_is_bounded_by_what_is_read(vertical, horizontal):
    (h, kh, sy, py, dy), (w, kw, sx, px, dx) = vertical, horizontal
    numbers, (_, oh, ow) = sweep((2, h, w, 3), Window((kh, kw), (sy, sx), (py, px), (dy, dx)))
    assert scratch(numbers) <= 3 * 8 * (2 * oh + 4) * 2 * kh * (2 * kw * ow + kw + h + w)


@st.composite
def pools(draw: st.DrawFn) -> tuple[int, int, int, int]:
    n, size = draw(st.integers(1, 9)), draw(st.one_of(st.integers(1, 4), st.sampled_from(LARGE)))
    padding = draw(st.one_of(st.integers(0, size // 2), st.just(size // 2)))
    assume(n + 2 * padding >= size)
    return n, size, draw(st.one_of(st.integers(1, 4), st.sampled_from(LARGE))), padding


@given(pools(), pools(), st.integers(0, 99))
def test_pooling_is_what_integers_say(vertical, horizontal, seed):
    """Windows far larger than the image, with padding that makes them fit, included."""
    (h, kh, sy, py), (w, kw, sx, px) = vertical, horizontal
    x = np.random.default_rng(seed).integers(-9, 10, (2, 3, h, w)).astype(np.float32)
    spans = [[range(max(o * s - p, 0), min(o * s - p + k, n)) for o in range((n + 2 * p - k) // s + 1)]
             for n, k, s, p in (vertical, horizontal)]
    seen = [[x[:, :, r.start : r.stop, c.start : c.stop] for c in spans[1]] for r in spans[0]]
    window = ((kh, kw), (sy, sx), (py, px))
    largest = np.stack([np.stack([v.max((2, 3)) for v in row], -1) for row in seen], -2)
    np.testing.assert_array_equal(F.max_pool2d(x, *window).numpy(), largest)
    means = np.stack([np.stack([v.sum((2, 3)) for v in row], -1) for row in seen], -2) / (kh * kw)
    np.testing.assert_allclose(F.avg_pool2d(x, *window).numpy(), means, rtol=1e-6)


X, W = np.zeros((1, 1, 4, 4), np.float32), np.zeros((1, 1, 1, 1), np.float32)
NUMBERS = [2**31, 2**60, 2**63, 10**30, -1, -(2**63)]
OPS = {
    "conv2d stride": lambda v: F.conv2d(X, W, stride=v), "conv2d padding": lambda v: F.conv2d(X, W, padding=v),
    "conv2d dilation": lambda v: F.conv2d(X, W, dilation=v), "conv2d both": lambda v: F.conv2d(X, W, stride=v, padding=v),
    "conv2d groups": lambda v: F.conv2d(X, W, groups=v), "max_pool2d size": lambda v: F.max_pool2d(X, v),
    "max_pool2d stride": lambda v: F.max_pool2d(X, 2, v), "max_pool2d padding": lambda v: F.max_pool2d(X, 2, 2, v),
    "avg_pool2d size": lambda v: F.avg_pool2d(X, v, padding=v // 2 if v > 0 else 0),
    "avg_pool2d padding": lambda v: F.avg_pool2d(X, 2, 2, v), "adaptive_avg_pool2d": lambda v: F.adaptive_avg_pool2d(X, v),
    "pad": lambda v: F.pad(X, (0, abs(v), 9 * v, 0)),
}


@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize("number", NUMBERS)
def test_absurd_numbers_are_errors_that_name_the_op(name, number):
    with pytest.raises(TinymlError, match=name.split()[0]):
        OPS[name](number)


@pytest.mark.parametrize("call", [lambda: F.conv2d(X, W, padding=2**30), lambda: F.adaptive_avg_pool2d(X, 2**30),
                                  lambda: F.adaptive_avg_pool2d(X, (MOST, MOST)), lambda: F.pad(X, (0, 2**40) * 4)])
def test_a_result_larger_than_the_machine_is_an_error_before_it_is_made(call):
    with pytest.raises(OutOfMemoryError, match=r"(conv2d|pool2d|pad): the result of shape \(.*\) would take [0-9,]+ bytes"):
        call()


@pytest.mark.parametrize("field", ["size", "stride", "padding", "dilation"])
@pytest.mark.parametrize("value", [(1,), (1, 2, 3), [1, 1, 0], (1.0, 1), (True, 1), ("1", 1), None, 3, (1, -1),
                                   (MOST + 1, 1), np.array([1, 1]), (np.float32(1), 1)])
def test_a_window_is_pairs_of_whole_numbers(field, value):
    with pytest.raises(ShapeError, match=f"conv2d: expected {field} to be 2 whole numbers from [01] to {MOST}, got "):
        Window(**{field: value}, op="conv2d")


def test_a_window_keeps_plain_numbers():
    window = Window([np.int64(3), 2], groups=np.int32(2))
    assert window == Window((3, 2), groups=2) and hash(window) == hash(Window((3, 2), groups=2))
    assert all(type(n) is int for n in (*window.size, window.groups))
    for groups in (0, True, 1.0, "1", MOST + 1):
        with pytest.raises(ShapeError, match="window: expected groups to be 1 whole number from 1"):
            Window(groups=groups)


PAIRS = st.tuples(*[st.integers(1, MOST)] * 2)


@given(st.tuples(*[st.integers(0, 2**31)] * 4), PAIRS, PAIRS, PAIRS, PAIRS)
def test_numbers_beyond_64_bits_are_errors(shape, size, stride, dilation, padding):
    """Windows of one or two taps, because `sweep` makes an offset for each tap."""
    window = Window(tuple(1 + n % 2 for n in size), stride, padding, dilation)
    if min(window.output(*shape[1:3])) < 1:
        return
    try:
        numbers, _ = sweep(shape, window)
    except OutOfMemoryError as error:
        assert "more of an input" in str(error)
        return
    reach, width, offsets = int(numbers[12]), int(numbers[13]), numbers[HEAD:]
    assert (offsets >= 0).all() and int(offsets.max()) <= reach * width * max(shape[3], 1)
