"""Arguments: what is taken as PyTorch takes it, what is refused, and that errors name the argument and what came."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinyml
from tinyml import Tensor, checks, data, models, nn, optim
from tinyml.errors import DtypeError, FileError, OutOfRangeError, ShapeError
from tinyml.nn import functional as F

ROOT = Path(__file__).parents[1]
NARROW = (np.int8, np.int16, np.uint8, np.uint16, np.int32, np.uint32, np.int64, np.uint64)


def floats(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def gpt() -> models.TinyGPT:
    tinyml.manual_seed(0)
    return models.TinyGPT(20, 16, 1, 2, 16).eval()


def sgd(**options) -> optim.SGD:
    return optim.SGD([nn.Parameter(floats(2))], 0.1, **options)


# ---- one function for each kind of argument


@given(st.integers(-(2**70), 2**70), st.integers(-5, 5), st.one_of(st.none(), st.integers(6, 100)))
def test_whole_numbers_are_taken_in_their_range(n, least, most):
    inside = least <= n <= (sys.maxsize if most is None else most)
    values = [n] + [t(n) for t in (np.int8, np.int64, np.uint64) if np.iinfo(t).min <= n <= np.iinfo(t).max]
    for value in [*values, *(np.array(v) for v in values[1:])]:
        if inside:
            found = checks.whole("f", "n", value, least, *(() if most is None else (most,)))
            assert type(found) is int and found == n
        else:
            with pytest.raises(ShapeError, match=f"f: expected n to be a whole number .*{least}.*, got {n}"):
                checks.whole("f", "n", value, least, *(() if most is None else (most,)))


@given(st.floats(), st.floats(-3, 3), st.floats(-3, 3), st.booleans())
def test_numbers_are_taken_in_their_range(x, least, above, infinite):
    fits = x >= least and x > above and (infinite or abs(x) < np.inf)       # a NaN never does
    for value in (x, np.float64(x)):
        if fits:
            assert type(checks.number("f", "x", value, least, above=above, infinite=infinite)) is float
        else:
            with pytest.raises(ShapeError, match=r"f: expected x to be a .*number of at least .* and above .*, got"):
                checks.number("f", "x", value, least, above=above, infinite=infinite)


WRONG = [None, "2", b"2", [2], (), {}, {2}, object(), 1j, float, floats(2), np.array(["a"]), Tensor([1.0]), nn.ReLU()]


@pytest.mark.parametrize("value", WRONG, ids=lambda v: checks.described(v)[:30])
def test_other_kinds_are_refused(value):
    for check in (checks.whole, checks.number, checks.probability, checks.flag, checks.pair, checks.function, checks.path):
        if (check is checks.function and callable(value)) or (check is checks.path and isinstance(value, str)):
            assert check("f", "x", value) if check is checks.function else check("f", value)
            continue
        with pytest.raises((DtypeError, ShapeError), match=r"f: expected \w+ to be "):
            check("f", "x", value) if check is not checks.path else check("f", value)
    with pytest.raises(DtypeError, match="f: expected axis"):
        checks.axis("f", value)


def test_booleans_and_nan_are_no_sizes():
    for value in (True, np.True_, 2.0, np.float32(2), float("nan")):
        with pytest.raises(DtypeError, match="Linear: expected out_features to be a whole number of at least 1, got"):
            nn.Linear(4, value)
    with pytest.raises(DtypeError, match=r"^Linear: expected in_features to be a whole number of at least 1, got 2\.5$"):
        nn.Linear(2.5, 1)


def test_errors_show_any_value():
    for value, text in ((10**5000, "a number of 16610 bits"), (floats(2, 3), "float32 of shape (2, 3)"),
                        (nn.ReLU(), "ReLU"), ("x" * 999, "'" + "x" * 79), (nn.Linear, "the class Linear"),
                        (np.int64(3), "3"), (None, "None")):
        assert checks.described(value) == text


# ---- taken as PyTorch takes them


def test_paths_that_no_file_can_have_are_said_to_be():
    for name in ("a\0b", "\ud800"):
        with pytest.raises(FileError, match="profile: expected trace to be a path that a file can have, got "):
            tinyml.profile(trace=name)
    assert checks.path("f", Path("a") / "b") == os.path.join("a", "b")


def test_numpys_integers_are_sizes():
    two = np.int64(2)
    assert nn.Linear(4, two).weight.shape == (2, 4) and models.MLP(4, np.int64(3))[1].weight.shape == (3, 4)
    assert nn.Conv2d(np.int8(4), np.uint16(8), (two, np.int32(3)), groups=two).weight.shape == (8, 2, 2, 3)
    assert nn.SelfAttention(np.int64(8), two)(floats(1, 3, 8)).shape == (1, 3, 8)
    assert models.TinyGPT(*map(np.int64, (7, 6, 1, 2, 8))).config == models.TinyGPTConfig(7, 6, 1, 2, 8)
    assert type(models.TinyGPTConfig(np.int64(7), 6, 1, 2, 8).vocab_size) is int        # files hold plain numbers
    x = Tensor(floats(2, 3, 4))
    assert x.reshape(np.int64(6), -1).shape == (6, 4) and x.sum(axis=np.int64(1)).shape == (2, 4)
    for function in (Tensor.sum, Tensor.mean, Tensor.amax, Tensor.amin, Tensor.var):
        assert np.array_equal(function(x, axis=[0, np.int64(1)]).numpy(), function(x, axis=(0, 1)).numpy())
    loader = data.DataLoader(data.ArrayDataset(floats(4, 2), np.arange(4)), two, seed=np.int64(3))
    assert [len(x) for x, _ in loader] == [2, 2]


@pytest.mark.parametrize("dtype", NARROW)
def test_integers_of_any_width_are_ids(dtype):
    model, ids = gpt(), np.arange(1, 18)
    narrow = ids.astype(dtype)
    assert models.perplexity(model, narrow) == models.perplexity(model, ids)
    assert np.array_equal(model.generate(narrow[:3], 4, seed=1), model.generate(ids[:3], 4, seed=1))
    assert np.array_equal(model.generate([1], 2, stop=narrow, seed=0), model.generate([1], 2, stop=ids, seed=0))
    assert np.array_equal(data.TextDataset(narrow, 4)[1][0], data.TextDataset(ids, 4)[1][0])
    table, logits = floats(20, 3), Tensor(floats(17, 20), requires_grad=True)
    assert np.array_equal(F.embedding(narrow, table).numpy(), F.embedding(ids, table).numpy())
    assert F.cross_entropy(logits, narrow).item() == F.cross_entropy(logits, ids).item()
    assert np.array_equal(data.CharTokenizer("abcdefghijklmnopqr").decode(narrow), "bcdefghijklmnopqr")
    if dtype is np.int8:
        with pytest.raises(DtypeError, match=r"int8 codes need a scale .* for ids or counts array.astype\('int64'\)"):
            Tensor(narrow)
    else:
        assert np.array_equal(Tensor(narrow).numpy(), ids)
        assert Tensor(narrow).dtype == (dtype if dtype in (np.uint8, np.int32) else np.int64)
    with pytest.raises(ShapeError, match="integers below 2\\^63, got 9223372036854775808"):
        Tensor(np.array([2**63], np.uint64))


def test_pad_takes_numbers_in_a_row():
    x = floats(1, 1, 2, 3)
    assert F.pad(x, (1, 2)).shape == (1, 1, 2, 6) and F.pad(x, [1, 2, 3, 0]).shape == (1, 1, 5, 6)
    assert np.array_equal(F.pad(x, np.array([1, 2])).numpy(), F.pad(x, (1, 2)).numpy())
    for widths in ((1,), (1, 2, 3), (1,) * 10, ((1, 2),), (0.5, 1), "11", None, ((1, 2.5), *3 * [(0, 0)])):
        with pytest.raises((ShapeError, DtypeError), match="pad: expected"):
            F.pad(x, widths)


def test_a_stop_id_alone_or_several():
    model = gpt()
    drawn = int(model.generate([1], 1, temperature=0)[1])
    for stop in (drawn, np.int64(drawn), [drawn], {drawn}, (drawn, 3), np.array([drawn], np.uint16),
                 range(drawn, drawn + 1)):
        assert model.generate([1], 9, temperature=0, stop=stop).tolist() == [1, drawn]


# ---- refused by name


@pytest.mark.parametrize(("make", "error", "message"), [
    (lambda: gpt().generate([1], float("inf")), DtypeError, "generate: expected max_new_tokens .* got inf"),
    (lambda: gpt().generate([1], float("nan")), DtypeError, "max_new_tokens .* got nan"),
    (lambda: gpt().generate([1], 2.5), DtypeError, "max_new_tokens .* got 2.5"),
    (lambda: next(gpt().stream([1], 2.5)), DtypeError, "max_new_tokens .* got 2.5"),
    (lambda: gpt().generate([1], 2, top_k=2.5), DtypeError, "top_k .* got 2.5"),
    (lambda: gpt().generate([1], 2, top_k=float("nan")), DtypeError, "top_k .* got nan"),
    (lambda: gpt().generate([1], 2, seed=-1), ShapeError, "seed .* got -1"),
    (lambda: gpt().generate([1], 2, seed=0.5), DtypeError, "seed .* got 0.5"),
    (lambda: gpt().generate([1], 2, stop="2"), DtypeError, "stop .* got '2'"),
    (lambda: gpt().generate([1], 2, stop=20), ShapeError, r"stop to be ids in \[0, 20\), got 20"),
    (lambda: gpt().generate([1], 2, top_p=float("nan")), ShapeError, "top_p .* got nan"),
    (lambda: tinyml.manual_seed(-1), ShapeError, "manual_seed: expected seed .* got -1"),
    (lambda: tinyml.manual_seed(None), DtypeError, "manual_seed: expected seed .* got None"),
    (lambda: nn.LayerNorm(4, eps=-1), ShapeError, "LayerNorm: expected eps .* got -1"),
    (lambda: nn.RMSNorm(4, eps=float("nan")), ShapeError, "RMSNorm: expected eps .* got nan"),
    (lambda: F.layer_norm(floats(2, 3), 3, eps=float("nan")), ShapeError, "layer_norm: expected eps .* got nan"),
    (lambda: nn.BatchNorm1d(4, momentum=float("nan")), ShapeError, "BatchNorm1d: expected momentum .* got nan"),
    (lambda: sgd(momentum=float("nan")), ShapeError, "SGD: expected momentum .* got nan"),
    (lambda: sgd(nesterov="yes"), DtypeError, "SGD: expected nesterov to be True or False, got 'yes'"),
    (lambda: nn.Conv2d(2, 2, 3, groups=[1, 2]), DtypeError, r"Conv2d: expected groups .* got \[1, 2\]"),
    (lambda: F.conv2d(floats(1, 2, 5, 5), floats(2, 2, 3, 3), groups=[1, 2]), DtypeError, "conv2d: expected groups"),
    (lambda: nn.SelfAttention(8, 2, kv_heads=2.5), DtypeError, "kv_heads .* got 2.5"),
    (lambda: F.attention(*3 * [floats(2, 3, 4)], kv_heads=2.5), DtypeError, "kv_heads .* got 2.5"),
    (lambda: F.linear(None, floats(2, 3)), DtypeError, "linear: operand 1 is None, expected a Tensor"),
    (lambda: F.mse_loss(floats(2), None), DtypeError, "mse_loss: operand 2 is None"),
    (lambda: Tensor(floats(2, 3)).sum(axis=0.5), DtypeError, "sum: expected axis .* got 0.5"),
    (lambda: Tensor(floats(2, 3)).reshape(2.5, 2), DtypeError, "reshape: expected dimensions .* got 2.5"),
    (lambda: Tensor(floats(2, 3))["x"], ShapeError, r"getitem: .*index \['x'\] of a Tensor of shape \(2, 3\)"),
    (lambda: Tensor([1.0]) < "x", DtypeError, "lt: expected a Tensor, an array or a number, got 'x'"),
    (lambda: nn.Sequential(nn.ReLU())[1], OutOfRangeError, "Sequential: expected an index below 1, got 1"),
    (lambda: models.MLP(4), ShapeError, "MLP: expected at least two sizes"),
    (lambda: data.RandomFlip("x"), DtypeError, "RandomFlip: expected p .* got 'x'"),
    (lambda: data.ArrayDataset([[1], [1, 2]], [1, 2]), ShapeError, "ArrayDataset: expected inputs to be an array"),
    (lambda: data.read_text(None), DtypeError, "read_text: expected path to be a path, got None"),
    (lambda: nn.Linear(4, 2).load_state_dict(None), DtypeError, "load_state_dict of Linear: expected values .* got None"),
    (lambda: gpt()(np.array([[1]]), gpt().caches(1) * 2), ShapeError, "a cache for each of 1 blocks"),
])
def test_wrong_arguments_are_refused_by_name(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("make", [
    lambda n: nn.Linear(n, 1), lambda n: nn.Linear(n, n), lambda n: nn.Conv2d(1, 1, n), lambda n: nn.Embedding(n, 2),
    lambda n: nn.LayerNorm(n), lambda n: nn.BatchNorm2d(n), lambda n: nn.KeyValueCache(1, 1, n, 1),
    lambda n: models.MLP(4, n), lambda n: models.CifarCNN(width=n), lambda n: models.TinyGPT(n, 4, 1, 1, 4),
    lambda n: models.TinyGPT(4, n, 1, 1, 4),
    lambda n: models.TinyGPT(4, 4, n, 1, 4), lambda n: F.pad(floats(2), (n, 0)), lambda n: gpt().caches(n),
    lambda n: F.adaptive_avg_pool2d(floats(1, 1, 2, 2), n), lambda n: nn.Rotary(4)(floats(2, 4), n),
    lambda n: Tensor(floats(2)).reshape(n, n), lambda n: nn.init.normal((n, n)), lambda n: data.RandomShift(n)(
        floats(1, 1, 2, 2), np.random.default_rng(0)), lambda n: F.max_pool2d(floats(1, 1, 2, 2), n)])
@pytest.mark.parametrize("n", [2**50, 2**60, 2**63, 10**400], ids=["2^50", "2^60", "2^63", "10^400"])
def test_absurd_sizes_are_clear_errors(make, n):
    with pytest.raises(ShapeError, match=r"expected|would take|not fit"):
        make(n)


def test_what_cannot_be_written_is_said_before_anything_is():
    frozen = np.frombuffer(floats(2).tobytes(), np.float32)
    with pytest.raises(ShapeError, match=r"SGD: expected parameter 1 .* an array that can be written, got a read-only one"):
        optim.SGD([nn.Parameter(floats(2)), nn.Parameter(frozen)], 0.1)
    first, second = nn.Parameter(floats(2)), nn.Parameter(floats(2))
    optimizer = optim.SGD([first, second], 0.1)
    first.grad = second.grad = Tensor(floats(2))
    second.array, before = frozen, first.numpy().copy()
    with pytest.raises(ShapeError, match=r"SGD: expected parameter 1 .* got a read-only one"):
        optimizer.step()
    assert np.array_equal(first.numpy(), before)
    layer = nn.Linear(2, 2)
    layer.bias.array, before = frozen, layer.weight.numpy().copy()
    with pytest.raises(ShapeError, match=r"load_state_dict of Linear: .* bias is in read-only memory"):
        layer.load_state_dict({"weight": floats(2, 2), "bias": floats(2)})
    assert np.array_equal(layer.weight.numpy(), before)


def test_what_is_no_tensor_is_not_equal():
    x = Tensor([1.0, 2.0])
    assert (x == None) is False and (x != "x") is True and x not in ["x", None]     # noqa: E711
    assert (x == [1, 3]).numpy().tolist() == [True, False] and (x < 2).numpy().tolist() == [True, False]


@pytest.mark.parametrize("seed", [0, 1])
def test_hostile_calls_give_results_or_tinymls_errors(seed):
    ended = subprocess.run([sys.executable, ROOT / "tools" / "hostile_calls.py", "--calls", "300", "--seeds", str(seed)],
                           capture_output=True, text=True,
                           env={**os.environ, "PYTHONPATH": str(Path(tinyml.__file__).parents[1])})
    assert ended.returncode == 0 and "300 calls, 0 offenders" in ended.stdout, ended.stdout + ended.stderr


def test_tensors_of_one_integer_are_sizes_and_axes():
    """Wherever Python takes an index; what is checked is used as the plain number."""
    two = Tensor(np.array(2))
    x = Tensor(np.ones((3, 4, 1), np.float32))
    assert x.squeeze(two).shape == (3, 4) and x.unsqueeze(two).shape == (3, 4, 1, 1) and x.sum(two).shape == (3, 4)
    assert x.transpose(0, two).shape == (1, 4, 3) and nn.Linear(two, two).weight.shape == (2, 2)
    gpt = models.TinyGPT(7, 6, 1, 2, 8)
    assert np.array_equal(gpt.generate([1, 2], two, top_k=two, seed=two), gpt.generate([1, 2], 2, top_k=2, seed=2))
