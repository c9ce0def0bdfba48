"""compare: every figure of the table, computed once more by hand; its intervals, checked by simulation."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import tinyml
from tinyml import Tensor, models, nn, no_grad
from tinyml.errors import DtypeError, ShapeError
from tinyml.nn import functional as F
from tinyml.precision import Comparison, compare
from tinyml.precision.analysis.comparison import Measured
from tinyml.precision.analysis.score import Score

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((23, 6)).astype(np.float32), RNG.integers(0, 4, 23)


def pair() -> tuple[nn.Module, nn.Module]:
    """A float model and an int8 one that answers a few inputs differently."""
    model = models.MLP(6, 9, 4)
    return model, model.to_int8(calibration=0.3 * X)


def outputs(m: nn.Module, x: np.ndarray) -> np.ndarray:
    with no_grad():
        return m.eval()(x).numpy().astype(np.float64)


def cross_entropy(logits: np.ndarray, y: np.ndarray) -> float:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    p = np.exp(shifted) / np.exp(shifted).sum(axis=-1, keepdims=True)
    return float(-np.log(np.take_along_axis(p, y[..., None], -1)).mean())


class Part(nn.Module):
    """Gives x[:, i]: two of these are models that answer whatever a test wants."""

    def __init__(self, i: int):
        self.i = i

    def forward(self, x: Tensor) -> Tensor:
        return x[:, self.i]


def compare_outputs(a: np.ndarray, b: np.ndarray, y: np.ndarray | None = None, cuts: tuple = (), **options) -> Comparison:
    """compare() of models with outputs a and b, in batches that end at `cuts`."""
    x = np.stack([a, b], axis=1)
    edges = [0, *cuts, len(x)]
    batches = [x[i:j] if y is None else (x[i:j], y[i:j]) for i, j in zip(edges[:-1], edges[1:], strict=True)]
    return compare(Part(0), Part(1), batches, **{"show": False, "seconds": 0} | options)


def one_right(right: np.ndarray) -> np.ndarray:
    """Logits of two classes, of which 0 wins where `right`."""
    return np.stack([right, ~right], axis=-1).astype(np.float32)


def of_counts(lost: int, gained: int, n: int, **options) -> Comparison:
    """n samples of class 0, `lost` of which only a gets right and `gained` only b."""
    at = np.arange(n)
    return compare_outputs(one_right(at >= gained), one_right((at < gained) | (at >= gained + lost)),
                           np.zeros(n, np.int64), **options)


def test_figures_of_a_classifier(tmp_path, capsys):
    model, int8 = pair()
    batches = [(X[:10], Y[:10]), (Tensor(X[10:20]), Tensor(Y[10:20])), [X[20:], Y[20:]]]     # the last one is smaller
    result = compare(model, int8, batches, seconds=0)
    logits = [outputs(m, X) for m in (model, int8)]
    classes = [v.argmax(axis=1) for v in logits]
    assert 0 < (classes[0] != classes[1]).sum() < 23        # or agreement would be tested on nothing
    assert result.agreement == (classes[0] == classes[1]).mean()
    assert (result.samples, result.batch, result.names) == (23, 10, ("float32", "int8"))
    for m, measured, v, c in zip((model, int8), (result.a, result.b), logits, classes, strict=True):
        assert measured.accuracy == (c == Y).mean()
        assert measured.loss == pytest.approx(cross_entropy(v, Y), rel=1e-5)
        m.save(tmp_path / "model")
        assert measured.file_bytes == (tmp_path / "model").stat().st_size
        assert measured.memory_bytes == m.nbytes > 0
        assert measured.latency_ms > 0
    assert result.a.memory_bytes == sum(t.numpy().nbytes for _, t in model.named_tensors())

    table = capsys.readouterr().out
    assert table == f"{result}\n"
    a, b = result.a, result.b
    for numbers in ((f"{a.accuracy:.2%}", f"{b.accuracy:.2%}", f"{100 * (b.accuracy - a.accuracy):+.2f} points"),
                    (f"{a.loss:.4f}", f"{b.loss:.4f}", f"{b.loss - a.loss:+.4f}"),
                    (f"{a.memory_bytes:,}", f"{b.memory_bytes:,}", f"{b.memory_bytes / a.memory_bytes:.1%}"),
                    (f"{a.file_bytes:,}", f"{b.file_bytes:,}", f"{b.file_bytes / a.file_bytes:.1%}"),
                    (f"{a.latency_ms:.2f}", f"{b.latency_ms:.2f}", f"{a.latency_ms / b.latency_ms:.2f}x as fast")):
        assert any(re.search(r"\s+".join(map(re.escape, numbers)), line) for line in table.splitlines()), numbers
    assert f"same prediction for {result.agreement:.2%} of 23" in table and "ms per batch of 10" in table


def test_figures_are_plain_numbers_for_json():
    result = compare(*pair(), [(X, Y)], show=False, seconds=0)
    back = json.loads(json.dumps(result.as_dict()))
    assert back["a"]["accuracy"] == result.a.accuracy and back["b"]["loss"] == result.b.loss
    assert back["agreement"] == result.agreement and tuple(back["names"]) == result.names
    assert tuple(back["accuracy_interval"]) == result.accuracy_interval and back["tolerance"] == 0.5
    assert tuple(back["loss_interval"]) == result.loss_interval and back["verdict"] == result.verdict
    without = json.loads(json.dumps(compare(*pair(), X, show=False, seconds=0).as_dict()))
    assert without["accuracy_interval"] is without["loss_interval"] is without["verdict"] is None


def test_figures_of_a_language_model():
    """Every token is a target."""
    model = models.TinyGPT(11, 5, 1, 2, 8)
    ids = RNG.integers(0, 11, (4, 6))
    result = compare(model, model.to_int8(), [(ids[:, :-1], ids[:, 1:])], show=False, seconds=0)
    logits = outputs(model, ids[:, :-1])
    assert result.samples == 20 and result.batch == 4
    assert result.a.accuracy == (logits.argmax(-1) == ids[:, 1:]).mean()
    assert result.a.loss == pytest.approx(cross_entropy(logits, ids[:, 1:]), rel=1e-5)


def test_float_targets_are_a_regression(capsys):
    model, int8 = pair()
    targets = RNG.standard_normal((23, 4)).astype(np.float32)
    result = compare(model, int8, [(X[:20], targets[:20]), (X[20:], targets[20:])], seconds=0)
    for m, measured in zip((model, int8), (result.a, result.b), strict=True):
        assert measured.accuracy is None
        assert measured.loss == pytest.approx(np.square(outputs(m, X) - targets).mean(), rel=1e-5)
    assert result.accuracy_interval is result.verdict is None
    table = capsys.readouterr().out
    assert "accuracy" not in table and "tolerance" not in table
    lo, hi = result.loss_interval
    assert f"95% interval of the change: loss {lo:+.4f} to {hi:+.4f}" in table


@pytest.mark.parametrize("given", [X, Tensor(X), [X[:9], X[9:]], iter([X])], ids=["array", "Tensor", "list", "iter"])
def test_without_targets_there_is_agreement_only(given, capsys):
    model, int8 = pair()
    result = compare(model, int8, given, seconds=0)
    assert result.a.loss is result.a.accuracy is result.b.loss is result.b.accuracy is None
    assert result.samples == 23
    assert result.agreement == (outputs(model, X).argmax(1) == outputs(int8, X).argmax(1)).mean()
    table = capsys.readouterr().out
    assert "same prediction for" in table
    assert not any(word in table for word in ("loss", "accuracy", "interval", "tolerance"))


def test_a_model_agrees_with_itself_and_is_left_alone(capsys):
    model = nn.Sequential(nn.Linear(6, 4), nn.Dropout())
    before = model.state_dict()
    result = compare(model, model.copy(), [(X, Y)], show=False, seconds=0)
    assert result.agreement == 1 and result.a.loss == result.b.loss
    assert model.training and model[1].training
    assert all(np.array_equal(before[k], v) for k, v in model.state_dict().items())
    assert capsys.readouterr().out == "" and isinstance(result, Comparison)


# ---- intervals and the verdict


def mean_interval(differences: np.ndarray, counted: np.ndarray) -> tuple[float, float]:
    """Over items, from all of them at once: mean +- 1.96 sd / sqrt(items), of a ratio of means where lengths differ."""
    d, n = np.array([(d[c].sum(), c.sum()) for d, c in zip(differences, counted, strict=True) if c.any()]).T
    if len(d) == 1:
        return -math.inf, math.inf
    if (n == n[0]).all():
        middle, half = (d / n).mean(), 1.96 * (d / n).std(ddof=1) / math.sqrt(len(d))
    else:
        middle = d.mean() / n.mean()
        half = 1.96 * (d - middle * n).std(ddof=1) / math.sqrt(len(d)) / n.mean()
    return middle - half, middle + half


def matched_interval(differences: np.ndarray) -> tuple[float, float]:
    """Agresti and Min: Wald's interval, with weights, after half a sample more of +1 and of -1, and one more of 0."""
    values, weights = np.append(differences, [1, -1, 0]), np.append(np.ones(len(differences)), [0.5, 0.5, 1])
    middle = np.average(values, weights=weights)
    half = 1.96 * math.sqrt(np.average((values - middle) ** 2, weights=weights) / weights.sum())
    return middle - half, middle + half


@given(kind=st.sampled_from(["samples", "sequences", "values"]), n=st.integers(1, 40), seed=st.integers(0, 2**32 - 1),
       ignored=st.sampled_from([0, 0.3, 0.9]), data=st.data())
def test_figures_do_not_depend_on_batches(kind, n, seed, ignored, data):
    """Sums batch by batch give what NumPy gives of all items at once; ignored targets count nowhere."""
    rng = np.random.default_rng(seed)
    cuts = tuple(sorted(data.draw(st.lists(st.integers(0, n), max_size=6))))        # equal ones make empty batches
    shape = (n,) if kind == "samples" else (n, 5)
    if kind == "values":
        a, y = rng.standard_normal((2, *shape))
        b, counted = a + 0.1 * rng.standard_normal(shape), np.ones(shape, bool)
        losses = [(v - y) ** 2 for v in (a, b)]
    else:
        a = 3 * rng.standard_normal((*shape, 3))
        b, y, counted = a + rng.standard_normal(a.shape), rng.integers(0, 3, shape), rng.random(shape) >= ignored
        assume(counted.any())
        losses = [np.log(np.exp(v).sum(-1)) - np.take_along_axis(v, y[..., None], -1)[..., 0] for v in (a, b)]
    same = a.argmax(-1) == b.argmax(-1)
    result = compare_outputs(a, b, np.where(counted, y, -100), cuts)

    assert result.items == counted.reshape(n, -1).any(1).sum()
    assert result.loss_interval == pytest.approx(mean_interval(losses[1] - losses[0], counted), rel=1e-6, abs=1e-7)
    for measured, loss in zip((result.a, result.b), losses, strict=True):
        assert measured.loss == pytest.approx(loss[counted].mean(), rel=1e-9)
    if kind == "values":
        assert (result.samples, result.agreement, result.accuracy_interval) == (n, same.mean(), None)
        return
    right = [v.argmax(-1) == y for v in (a, b)]
    change = right[1].astype(int) - right[0]
    one_each = (counted.reshape(n, -1).sum(1) <= 1).all()
    expected = matched_interval(change[counted]) if one_each else mean_interval(change, counted)
    assert result.accuracy_interval == pytest.approx(expected, rel=1e-6, abs=1e-7)
    assert (result.a.accuracy, result.b.accuracy) == tuple(r[counted].mean() for r in right)
    assert (result.samples, result.agreement) == (counted.sum(), same[counted].mean())


def simulated_samples(rng):
    """150 samples: of 100, a alone gets 6 right, b alone 3."""
    u = rng.random(150)
    return one_right(u > 0.03), one_right((u < 0.03) | (u > 0.09)), np.zeros(150, np.int64)


def simulated_sequences(rng):
    """80 sequences of up to 8 targets; in half of them all positions fare alike, so that positions would lie."""
    u, lengths = rng.random((80, 8)), rng.integers(1, 9, (80, 1))
    u[:40] = u[:40, :1]
    return one_right(u > 0.07), one_right((u < 0.07) | (u > 0.2)), np.where(np.arange(8) < lengths, 0, -100)


def simulated_values(rng):
    """60 items of 4 outputs whose squared errors differ by 0.2 on average, most of it the item's own difference."""
    a = rng.uniform(3, 5, (60, 4))
    change = 0.2 + rng.standard_normal((60, 1)) + 0.5 * rng.standard_normal((60, 4))
    return a, np.sqrt(a ** 2 + change), np.zeros((60, 4))


@pytest.mark.parametrize(("simulate", "which", "truth"), [
    (simulated_samples, "accuracy_interval", -0.03), (simulated_sequences, "accuracy_interval", -0.06),
    (simulated_values, "loss_interval", 0.2)], ids=["samples", "sequences", "values"])
def test_95_of_100_intervals_hold_the_truth(simulate, which, truth):
    rng = np.random.default_rng(0)
    intervals = np.array([getattr(compare_outputs(*simulate(rng)), which) for _ in range(400)])
    held = (intervals[:, 0] <= truth) & (truth <= intervals[:, 1])
    assert 0.92 <= held.mean() <= 0.98


@pytest.mark.parametrize(("interval", "verdict", "words"), [
    ((-0.0049, 0.001), "no worse", "verdict: no worse than 0.5 points"),
    ((-0.02, -0.0051), "worse", "verdict: worse by more than 0.5 points"),
    ((-0.005, 0.001), "inconclusive", "tolerance of 0.5 points: 100 samples are too few to tell, about 101 would"),
    ((-0.02, -0.005), "inconclusive", "tolerance of 0.5 points: 100 samples are too few to tell, about 101 would"),
    ((-0.01, 0.01), "inconclusive", "verdict: inconclusive at a tolerance of 0.5 points: 100 samples are too few to tell, "
                                    "about 401 would"),
    ((-0.015, 0.005), "inconclusive", "no number of samples of this kind would tell"),
    ((-math.inf, math.inf), "inconclusive", "one sample alone shows no spread"),
    (None, None, "same prediction")])
def test_verdicts_at_their_boundaries(interval, verdict, words):
    some = compare(*pair(), X, show=False, seconds=0)
    result = Comparison(some.a, some.b, 1.0, 100, 10, accuracy_interval=interval, items=100)
    assert result.verdict == result.as_dict()["verdict"] == verdict
    assert words in str(result).splitlines()[-1]


def test_tolerance_is_what_the_verdict_is_about(capsys):
    """400 samples, 10 points worse, with an interval of about 3 points to either side."""
    results = [of_counts(40, 0, 400, show=True, tolerance=t) for t in (0, 6, 10, 14)]
    assert [r.verdict for r in results] == ["worse", "worse", "inconclusive", "no worse"]
    assert [r.tolerance for r in results] == [0, 6, 10, 14]
    lo, hi = results[0].accuracy_interval
    out = capsys.readouterr().out
    assert f"95% interval of the change: accuracy {100 * lo:+.2f} to {100 * hi:+.2f} points, loss " in out
    assert "worse by more than 6 points" in out and "no worse than 14 points" in out


def test_models_that_never_disagree_are_not_certain_to():
    """1.96 / (n + 2) is 0.5 points at n = 390."""
    few, enough = of_counts(0, 0, 389), of_counts(0, 0, 391)
    assert (few.verdict, enough.verdict) == ("inconclusive", "no worse")
    assert few.accuracy_interval == pytest.approx((-1.96 / 391, 1.96 / 391)) and few.agreement == 1
    assert few.loss_interval == (0, 0)


@pytest.mark.parametrize(("lost", "gained", "decided"), [(9, 8, "no worse"), (14, 3, "worse")])
def test_as_many_samples_as_it_asks_for_tell(lost, gained, decided):
    few = of_counts(lost, gained, 400, tolerance=1)
    needed, = re.findall(r"400 samples are too few to tell, about ([\d,]+) would", str(few))
    times = math.ceil(int(needed.replace(",", "")) / 400)
    assert few.verdict == "inconclusive" and times > 1
    assert of_counts(lost * (times + 1), gained * (times + 1), 400 * (times + 1), tolerance=1).verdict == decided


def test_a_single_item():
    """One sample has an interval of Agresti and Min; one sequence or one loss has none."""
    sample = of_counts(1, 0, 1)
    assert sample.accuracy_interval == pytest.approx(matched_interval(np.array([-1])))
    logits, y = one_right(np.array([[True, False, True]])), np.zeros((1, 3), np.int64)
    sequence = compare_outputs(logits, logits[:, ::-1], y)
    assert sequence.accuracy_interval == sequence.loss_interval == sample.loss_interval == (-math.inf, math.inf)
    assert sequence.verdict == sample.verdict == "inconclusive" and sequence.items == 1 and sequence.samples == 3
    assert "one sample alone shows no spread" in str(sequence)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_model_gone_bad_is_shown_as_it_is(bad, capsys):
    good = np.tile(np.float32([2, 1]), (6, 1))
    broken = good.copy()
    broken[2, 0] = bad
    result = compare_outputs(good, broken, np.zeros(6, np.int64), cuts=(3,), show=True)
    assert math.isfinite(result.a.loss) and not math.isfinite(result.b.loss)
    assert not any(map(math.isfinite, result.loss_interval)) and all(map(math.isfinite, result.accuracy_interval))
    assert str(result.b.loss) in capsys.readouterr().out
    for both in (compare_outputs(broken, broken, np.zeros(6, np.int64)), compare_outputs(good, broken, broken)):
        assert not math.isfinite(both.b.loss) and not any(map(math.isfinite, both.loss_interval))


def test_cross_entropy_of_extreme_float32_logits():
    """e^1000 overflows, and 1 + e^-20 is 1 in float32."""
    result = compare_outputs(np.float32([[1000, 0]]), np.float32([[-20, 0]]), np.array([1]))
    assert result.a.loss == 1000 and result.b.loss == pytest.approx(math.log1p(math.exp(-20)), rel=1e-6)


# ---- several inputs, and what is refused


class Sum(nn.Module):
    """A layer of the sum of its inputs."""

    def __init__(self):
        self.layer = nn.Linear(6, 4)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.layer(x + y)


class Twice(nn.Module):
    """Two outputs."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


def test_models_with_several_inputs():
    model = Sum()
    int8, half = model.to_int8(), X / 2
    expected = compare(model.layer, int8.layer, [(X, Y)], show=False, seconds=0)
    for inputs in ((half, half), [Tensor(half), half]):
        result = compare(model, int8, [(inputs, Y)], show=False, seconds=0)
        assert (result.a.loss, result.b.accuracy, result.batch) == (expected.a.loss, expected.b.accuracy, 23)
        assert result.loss_interval == expected.loss_interval and result.verdict == expected.verdict
        without = compare(model, int8, [(inputs,)], show=False, seconds=0)
        assert without.agreement == expected.agreement and without.a.loss is None
    assert compare(model.layer, int8.layer, [(X,), [X, None]], show=False, seconds=0).samples == 46


def test_what_compare_refuses():
    model, int8 = pair()
    for nothing in ([], iter(()), [(X[:0], Y[:0])]):
        with pytest.raises(ShapeError, match="compare: expected at least one batch of data, got none"):
            compare(model, int8, nothing, show=False)
    with pytest.raises(ShapeError, match=r"results of shapes \(23, 4\) and \(23, 3\)"):
        compare(model, models.MLP(6, 3), [X], show=False)
    with pytest.raises(ShapeError, match="cross_entropy: expected targets of shape"):
        compare(model, int8, [(X, Y[:5])], show=False)
    with pytest.raises((ShapeError, DtypeError), match="linear"):
        compare(model, int8, [(X[:, :5], Y)], show=False)
    with pytest.raises(ShapeError, match=r"cross_entropy: expected targets in \[0, 4\) .* got 4"):
        compare(model, int8, [(X, Y - Y.max() + 4)], show=False)
    with pytest.raises(ShapeError, match=r"mse_loss: expected targets of the outputs' shape \(23, 4\), got \(23, 6\)"):
        compare(model, int8, [(X, X)], show=False)
    with pytest.raises(ShapeError, match="expected at least one target that counts, all are -100"):
        compare(model, int8, [(X, np.full(23, -100))], show=False)
    with pytest.raises(ShapeError, match="expected all batches to be alike, got class targets and no targets"):
        compare(model, int8, [(X, Y), X], show=False)
    with pytest.raises(DtypeError, match="expected integer or float targets, got int8"):
        compare(model, int8, [(X, Tensor(X[:, :4]).to_int8())], show=False)
    with pytest.raises(ShapeError, match=r"several inputs as one tuple, \(\(x1, x2\), targets\); got a tuple of 3"):
        compare(model, int8, [(X, X, Y)], show=False)
    with pytest.raises(ShapeError, match=r"expected a single output of shape \(batch, ...\) from each model, got a tuple"):
        compare(Twice(), Twice(), [X], show=False)
    for tolerance in (-0.1, math.nan, math.inf):
        with pytest.raises(ShapeError, match="expected tolerance to be a finite number of at least 0"):
            compare(model, int8, [X], show=False, tolerance=tolerance)


class Segments(nn.Module):
    """Classes of each pixel, (B, C, H, W), where H and W may be C too."""

    def __init__(self, classes):
        self.conv = nn.Conv2d(2, classes, 1)

    def forward(self, x):
        return self.conv(x)


@pytest.mark.parametrize("classes", [3, 4])
def test_classes_are_dimension_1_and_of_language_models_the_last(classes):
    tinyml.manual_seed(0)
    model, x = Segments(classes).eval(), np.random.default_rng(0).standard_normal((6, 2, 3, 3), np.float32)
    y = np.random.default_rng(1).integers(0, classes, (6, 3, 3))
    found = compare(model, model.to_int8(), [(x, y)], show=False, seconds=0)
    logits = model(x)
    assert found.a.loss == pytest.approx(F.cross_entropy(logits, y).item(), rel=1e-5)
    assert found.a.accuracy == (logits.numpy().argmax(1) == y).mean()
    score = Score(model, [(x, y)])
    assert score.float_value == pytest.approx(found.a.loss, rel=1e-6)
    gpt, ids = models.TinyGPT(5, 5, 1, 1, 4), np.random.default_rng(0).integers(0, 5, (4, 6))       # T == V
    found = compare(gpt, gpt.to_int8(), [(ids[:, :-1], ids[:, 1:])], show=False, seconds=0)
    assert found.a.loss == pytest.approx(models.next_token_loss(gpt.eval()(ids[:, :-1]), ids[:, 1:]).item(), rel=1e-5)
    with pytest.raises(ShapeError, match=r"expected targets of shape \(6, 3, 3\) for logits \(6, \d, 3, 3\)"):
        compare(model, model.to_int8(), [(x, y[:, :2])], show=False, seconds=0)


def test_a_model_that_is_slower_is_said_to_be():
    """Timings are made up: what a machine measures is no test."""
    fast, slow = (Measured(0.5, 0.5, 100, 100, ms) for ms in (1.0, 1.2))
    found = Comparison(fast, slow, 1.0, 10, 1)
    assert found.slower.startswith("int8 takes 1.20 times as long as float32 here: ") and found.slower in str(found)
    assert found.as_dict()["slower"] == found.slower and "calibration=data" in found.slower
    assert Comparison(slow, fast, 1.0, 10, 1).slower is None and Comparison(fast, fast, 1.0, 10, 1).slower is None
    compiled = Comparison(fast, slow, 1.0, 10, 1, ("float32", "compiled"))
    assert "compiled takes 1.20 times as long" in str(compiled) and "calibration" not in compiled.slower
    model = models.MLP(6, 9, 4)
    assert compare(model, model.compile(X), [X], show=False, seconds=0).names == ("float32", "compiled")
