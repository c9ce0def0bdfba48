"""compare: every figure of the table, computed once more by hand."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from tinyml import Tensor, models, nn, no_grad
from tinyml.errors import DtypeError, ShapeError
from tinyml.precision import Comparison, compare

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
    assert f"same prediction for {result.agreement:.2%} of 23" in table and "ms a batch of 10" in table


def test_figures_are_plain_numbers_for_json():
    result = compare(*pair(), [(X, Y)], show=False, seconds=0)
    back = json.loads(json.dumps(result.as_dict()))
    assert back["a"]["accuracy"] == result.a.accuracy and back["b"]["loss"] == result.b.loss
    assert back["agreement"] == result.agreement and tuple(back["names"]) == result.names


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
    assert "accuracy" not in capsys.readouterr().out


@pytest.mark.parametrize("given", [X, Tensor(X), [X[:9], X[9:]], iter([X])], ids=["array", "Tensor", "list", "iter"])
def test_without_targets_there_is_agreement_only(given, capsys):
    model, int8 = pair()
    result = compare(model, int8, given, seconds=0)
    assert result.a.loss is result.a.accuracy is result.b.loss is result.b.accuracy is None
    assert result.samples == 23
    assert result.agreement == (outputs(model, X).argmax(1) == outputs(int8, X).argmax(1)).mean()
    table = capsys.readouterr().out
    assert "loss" not in table and "accuracy" not in table and "same prediction for" in table


def test_a_model_agrees_with_itself_and_is_left_alone(capsys):
    model = nn.Sequential(nn.Linear(6, 4), nn.Dropout())
    before = model.state_dict()
    result = compare(model, model.copy(), [(X, Y)], show=False, seconds=0)
    assert result.agreement == 1 and result.a.loss == result.b.loss
    assert model.training and model[1].training
    assert all(np.array_equal(before[k], v) for k, v in model.state_dict().items())
    assert capsys.readouterr().out == "" and isinstance(result, Comparison)


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
