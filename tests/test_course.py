"""The names of courses: their snippets run as written, and each is what it says it is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch_writer
from hypothesis import given
from hypothesis import strategies as st
from saved import memory_below
from values import normal

import tinyml
from tinyml import Tensor, course, data, models, nn, precision
from tinyml.errors import DtypeError, FileError, QuantizationError, ShapeError
from tinyml.nn import functional as F

SNIPPETS = """
from tinyml import (AccuracyValidator, Calibrator, Int8Quantizer, benchmark, calibrate, evaluate, load_trained_model,
                    quantize_int8, quantize_model, quantized_forward)

model = load_trained_model("cifar10_cnn.pt")
dynamic = quantize_int8(model)
scales_by_name = calibrate(model, data)
static = quantize_model(model, calibration_loader)
quantized_weights = (weights / scales).round().clip(-128, 127)
output = quantized_forward(input, quantized_weights, scales)
percent = [evaluate(m, loader) for m in (model, dynamic, static)]
figures = [benchmark(m) for m in (model, dynamic, static)]
quantizer, calibrator, validator = Int8Quantizer(), Calibrator(model), AccuracyValidator(model, static)
"""

NAMES = set(re.findall(r"\w+", SNIPPETS[SNIPPETS.index("(") : SNIPPETS.index(")")]))


def write_state(path: Path, model: nn.Module, prefix: str = "") -> None:
    """The model's state dict as torch.save writes it."""
    path.write_bytes(torch_writer.files({prefix + name: a for name, a in model.state_dict().items()})["zip"])


def cnn() -> models.CifarCNN:
    """A model that has seen a few images in training mode, always the same."""
    tinyml.manual_seed(0)
    model = models.CifarCNN(width=4)
    with tinyml.no_grad():
        model.train()(2 * normal(8, 3, 16, 16) + 0.3)
    return model.eval()


@pytest.fixture
def set_up(tmp_path, monkeypatch) -> dict[str, Any]:
    """The names that snippets take as given, and cifar10_cnn.pt in the current folder."""
    monkeypatch.chdir(tmp_path)
    write_state(tmp_path / "cifar10_cnn.pt", cnn())
    images = data.ArrayDataset(normal(64, 3, 32, 32), np.random.default_rng(0).integers(0, 10, 64))
    loader, weights = data.DataLoader(images, 32), Tensor(normal(5, 12, seed=1))
    return {"data": images[range(32)][0], "calibration_loader": loader, "test_loader": loader, "loader": loader,
            "weights": weights, "scales": weights.abs().amax(dim=1, keepdim=True) / 127, "input": Tensor(normal(7, 12))}


def test_snippets_run_as_written(set_up, capsys):
    names = dict(set_up)
    exec(compile(SNIPPETS, "snippets", "exec"), names)
    model, x = names["model"], set_up["data"]
    with tinyml.no_grad():
        expected = cnn()(x).numpy()
        assert np.array_equal(model(x).numpy(), expected) and not model.training
        for m in (names["dynamic"], names["static"]):
            assert 0 < np.abs(m(x).numpy() - expected).max() < 0.1 * np.abs(expected).max()
    assert isinstance(names["static"], precision.Plan)
    assert names["dynamic"][0].weight.dtype == np.int8
    assert names["percent"][0] == 100 * float(np.mean(np.concatenate(
        [model(x).numpy().argmax(1) == y.numpy() for x, y in set_up["loader"]])))
    printed = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in printed] == ["CifarCNN", "CifarCNN", "Plan"]
    for line, m, f in zip(printed, (model, names["dynamic"], names["static"]), names["figures"], strict=True):
        assert f["ms"] > 0 and f["samples_per_second"] == 32_000 / f["ms"] and f["bytes"] == m.nbytes
        assert line.endswith(f": {f['ms']:.2f} ms per batch of 32, {f['samples_per_second']:,.0f} samples/s, "
                             f"{m.nbytes:,} bytes")


def test_the_program_of_the_page_runs(set_up, capsys):
    page = (Path(__file__).parent.parent / "docs" / "course.md").read_text()
    program, = (block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if ">>>" not in block)
    exec(compile(program, "course.md", "exec"), dict(set_up))
    lines = capsys.readouterr().out.splitlines()
    figures = "{}: # ms per batch of #, # samples/s, # bytes"
    assert [re.sub(r"\d([\d.,]*\d)?", "#", line) for line in lines] == [
        "#%", figures.format("CifarCNN"), "#%", figures.format("Plan"), "#%", figures.format("CifarCNN"), "# # #"]
    modules = {n: getattr(vars(tinyml)[n], "__module__", "") for n in tinyml.__all__}
    assert {n for n, module in modules.items() if module.startswith(f"{course.__name__}.")} == set(course.__all__) == NAMES
    assert set(re.findall(r"`(\w+)", page.partition("```")[0])) >= NAMES


# ---- quantized_forward


@given(rows=st.integers(0, 5), n=st.integers(1, 6), k=st.integers(1, 40), seed=st.integers(0, 999), one=st.booleans())
def test_quantized_forward_is_equation_9(rows, n, k, seed, one):
    """The integers once more in NumPy, from codes in every form that they come in."""
    x, weights = normal(rows, k, seed=seed), normal(n, k, seed=seed + 1)
    largest = np.abs(weights).max(axis=None if one else 1, keepdims=True)
    scales = np.float32(largest / 127)
    codes = (Tensor(weights) / scales).round().clip(-128, 127)
    row = np.abs(x).max(axis=1, keepdims=True, initial=0) / np.float32(127)
    q = np.rint(x / row).astype(np.int64)
    sums = q @ codes.numpy().astype(np.int64).T
    expected = sums * (row * np.ravel(scales).astype(np.float32)) + np.arange(n, dtype=np.float32)
    whole = codes.numpy().astype(np.int8)
    for form in (codes, codes.numpy(), whole, whole.astype(np.int64), Tensor(whole, scale=3.0)):
        for s in (scales, scales.ravel(), Tensor(scales), scales.ravel().tolist()):
            y = course.quantized_forward(x, form, s, np.arange(n, dtype=np.float32))
            assert y.dtype == np.float32 and np.allclose(y.numpy(), expected, rtol=1e-6, atol=1e-6)
    dynamic = F.linear(Tensor(x), Tensor(weights).to_int8(np.ravel(scales) if not one else scales.item(), 0,
                                                          None if one else 0))
    assert np.array_equal(course.quantized_forward(x, codes, scales).numpy(), dynamic.numpy())


def test_quantized_forward_says_what_it_takes():
    x, w, s = normal(2, 3), np.ones((4, 3), np.int8), np.ones(4)
    forward = course.quantized_forward
    for weights in (np.full((4, 3), 0.5), np.full((4, 3), 128), np.full((4, 3), -129.0), np.full((4, 3), np.nan)):
        with pytest.raises(QuantizationError, match=r"expected int8 codes, whole numbers in \[-128, 127\]"):
            forward(x, weights, s)
    with pytest.raises(ShapeError, match=r"expected weights \(N, K\), got int8 of shape \(4, 3, 1, 1\)"):
        forward(x, w[..., None, None], s)
    with pytest.raises(ShapeError, match=r"expected weights \(N, K\), got bool"):
        forward(x, w > 0, s)
    with pytest.raises(ShapeError, match=r"expected input \(..., 3\)"):
        forward(normal(2, 4), w, s)
    with pytest.raises(ShapeError, match=r"scale: expected shape \(4,\)"):
        forward(x, w, np.ones(3))
    with pytest.raises(QuantizationError, match="positive, normal float32 scale, got 0"):
        forward(x, w, 0 * s)
    with pytest.raises(DtypeError, match=r"got a dict; pass scales\[name\]"):
        forward(x, w, {"weight": 1.0})


# ---- calibrate


def test_scales_are_those_of_the_plan(set_up):
    """Of the input and the output, and of weights with one scale per layer."""
    model, loader = cnn(), set_up["loader"]
    scales, plan = course.calibrate(model, loader), course.quantize_model(model, loader)
    assert scales["input"] == plan.inputs[0].codec.scale and scales["22"] == plan.outputs[0].codec.scale
    assert set(scales) == {"input", *(str(i) for i in range(23)), *(name for name, _ in model.named_parameters())}
    for name, p in model.named_parameters():
        assert scales[name] == (np.float32(np.abs(p.array).max() / 127) if p.array.any() else 1)
    other = course.Calibrator(model)
    for batch in loader:
        assert other.collect(batch) is other
    assert other.scales() == scales
    assert tinyml.io.serialize(other.quantize()) == tinyml.io.serialize(plan)
    lowest = course.Calibrator(model, observer="minmax").collect(set_up["data"])
    assert lowest.scales() == course.calibrate(model, set_up["data"], observer="minmax")


def test_every_activation_has_a_name_of_its_own():
    """Also where a layer computes several; none where an attention mask has infinities."""
    ids = np.random.default_rng(0).integers(0, 11, (4, 6))
    model = models.TinyGPT(11, 6, 2, 2, 8)
    scales = course.calibrate(model, [ids])
    assert all(type(name) is str and name and type(s) is float and 0 < s < 10 for name, s in scales.items())
    assert {"tokens", "positions", "blocks.0.attention", "blocks.1.gelu", "blocks.0.add", "blocks.0", "head",
            "tokens.weight", "blocks.1.up.bias"} <= set(scales)
    graph = tinyml.graph.trace(model, ids)
    names = course.calibration.name_values(graph)
    assert len(set(names.values())) == len(graph.nodes) + 1

    class Two(nn.Module):
        def forward(self, x, y):
            return (x + y) * (x + 1) + y

    a, b = normal(3, 4), normal(3, 4, seed=1)
    assert list(course.calibrate(Two(), [((a, b), None)])) == ["input", "input1", "add", "add2", "mul", "add3"]
    with pytest.raises(QuantizationError, match="expected at least one batch of data, got none"):
        course.calibrate(model, [])


# ---- evaluate, benchmark, validate


def test_evaluate_is_what_the_trainer_finds(set_up):
    model, loader = cnn().train(), set_up["loader"]
    trainer = tinyml.Trainer(model, tinyml.optim.SGD(model.parameters(), 0.1), progress=False)
    assert course.evaluate(model, loader) == pytest.approx(100 * trainer.evaluate(loader)["accuracy"])
    assert all(m.training for m in model.modules())
    x = normal(4, 2)
    assert course.evaluate(nn.Sequential(), [(x, np.array([-100, *x.argmax(1)[1:]]))]) == 100
    for batches, message in (([], "at least one target that counts"), ([(x, np.full(4, -100))], "one target that counts"),
                             ([x], "expected batches"), ([(x, x)], r"got float32 of shape \(4, 2\) for outputs \(4, 2\)"),
                             ([(x, np.zeros((4, 2), int))], r"got int64 of shape \(4, 2\)")):
        with pytest.raises(ShapeError, match=message):
            course.evaluate(nn.Sequential(), batches)


def test_benchmark_finds_an_input(capsys):
    ids = np.zeros((2, 6), np.int64)
    gpt, mlp = models.TinyGPT(11, 6, 1, 2, 8), models.MLP(20, 5)
    for model in (gpt, gpt.to_int8(), mlp, mlp.to_int8(calibration=normal(4, 20)), models.DepthwiseCNN(1, width=4),
                  models.ResNet8(width=4).to_fp16(), gpt.compile(ids)):
        assert course.benchmark(model, batch=3, seconds=0)["ms"] > 0
        assert f"{type(model).__name__}: " in capsys.readouterr().out
    assert course.benchmark(nn.GELU(), normal(5, 2), seconds=0, show=False)["bytes"] == 0 and not capsys.readouterr().out
    with pytest.raises(ShapeError, match=r"GELU has no layer that tells .*; pass an input: benchmark\(model, x\)"):
        course.benchmark(nn.GELU())
    big = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 2))
    with pytest.raises(ShapeError, match=r"linear: expected .*; pass an input that the model takes: benchmark\(model, x\)"):
        course.benchmark(big)
    course.benchmark(big, normal(2, 3, 8, 8), seconds=0)


def test_validator_compares(set_up):
    model = cnn()
    static = course.quantize_model(model, set_up["data"])
    result = course.AccuracyValidator(model, static, tolerance=2.0).validate(set_up["loader"])
    expected = precision.compare(model, static, set_up["loader"], show=False, seconds=0)
    assert (result.a.accuracy, result.b.accuracy) == (expected.a.accuracy, expected.b.accuracy)
    assert result.tolerance == 2.0 and result.verdict in ("no worse", "worse", "inconclusive")


def test_what_is_no_model():
    x, model = normal(2, 3), models.MLP(3, 2)
    for call in (lambda m: course.quantize_int8(m), lambda m: course.quantize_model(m, x), lambda m: course.evaluate(m, []),
                 lambda m: course.calibrate(m, x), lambda m: course.benchmark(m), lambda m: course.Calibrator(m),
                 lambda m: course.Int8Quantizer(m), lambda m: course.AccuracyValidator(model, m)):
        with pytest.raises(DtypeError, match=r"expected a tinyml model, got ndarray; for arrays use Int8Quantizer\(\)"):
            call(x)
        with pytest.raises(DtypeError, match="expected a tinyml model, got str"):
            call("model.pt")


# ---- Int8Quantizer


@given(shape=st.lists(st.integers(1, 5), min_size=1, max_size=4), seed=st.integers(0, 999), data=st.data())
def test_the_quantizer_is_within_half_a_step(shape, seed, data):
    x = normal(*shape, seed=seed)
    axis = data.draw(st.none() | st.integers(-len(shape), len(shape) - 1))
    quantizer = course.Int8Quantizer(axis=axis)
    found = quantizer.quantize(data.draw(st.sampled_from([x, Tensor(x), Tensor(x, requires_grad=True)])))
    codes, scale = found
    assert codes.dtype == np.int8 and codes.min() >= -127 and scale.shape == (() if axis is None else (shape[axis],))
    others = None if axis is None else tuple(i for i in range(len(shape)) if i != axis % len(shape))
    largest = np.abs(x).max(axis=others)
    assert np.array_equal(np.abs(codes.astype(int)).max(axis=others), np.where(largest > 0, 127, 0))
    back = quantizer.dequantize(codes, scale)
    assert np.array_equal(back, quantizer.dequantize(found)) and back.dtype == np.float32
    assert (np.abs(back - x).max(axis=others) <= 0.5001 * scale).all()


def test_the_quantizer_of_a_model_and_its_errors():
    model, x = models.MLP(3, 2), normal(4, 3)
    serialize = tinyml.io.serialize
    assert serialize(course.Int8Quantizer(model).quantize()) == serialize(model.to_int8())
    assert serialize(course.Int8Quantizer(model).quantize(x)) == serialize(model.to_int8(calibration=x))
    with pytest.raises(QuantizationError, match="expected finite values"):
        course.Int8Quantizer().quantize(np.array([1.0, np.nan]))
    with pytest.raises(ShapeError, match=r"axis 2 of an array of shape \(4, 3\)"):
        course.Int8Quantizer(axis=2).quantize(x)
    with pytest.raises(DtypeError, match=r"expected an array, quantize\(x\), or a model"):
        course.Int8Quantizer().quantize()


# ---- load_trained_model


@pytest.mark.parametrize("sizes", [(3, 10, 4), (1, 2, 3), (2, 7, 1)])
def test_sizes_come_from_the_tensors(sizes, tmp_path):
    model, path = models.CifarCNN(*sizes).eval(), tmp_path / "cifar10_cnn.pt"
    x, drawn = normal(2, sizes[0], 8, 8), tinyml.random.get_state()
    for prefix in ("", "module."):
        write_state(path, model, prefix)
        loaded = course.load_trained_model(path)
        assert type(loaded) is models.CifarCNN and not loaded.training
        assert np.array_equal(loaded(x).numpy(), model(x).numpy())
    assert tinyml.random.get_state() == drawn
    model.save(path)
    assert np.array_equal(course.load_trained_model(str(path))(x).numpy(), model(x).numpy())


def test_another_model_is_refused(tmp_path):
    path = tmp_path / "x.pt"
    write_state(path, models.ResNet8(width=4))
    with pytest.raises(FileError, match=r"x\.pt: expected the state dict of a CifarCNN, .* got conv.weight, bn.*=model"):
        course.load_trained_model(path)
    state = models.CifarCNN(width=4).state_dict()
    for changed in ({**state, "3.weight": normal(4, 4, 3)}, {k: a for k, a in state.items() if k != "4.bias"},
                    {**state, "23.weight": normal(2)}):
        path.write_bytes(torch_writer.files(changed)["zip"])
        with pytest.raises(FileError, match=r"x\.pt: load_state_dict of CifarCNN: 1 problems: "):
            course.load_trained_model(path)
    path.write_bytes(torch_writer.files({"0.weight": normal(10**4, 1, 1, 1), "22.weight": normal(10, 4)})["zip"])
    with memory_below(2e6), pytest.raises(FileError, match=r"x\.pt: .*expected a size of at most"):
        course.load_trained_model(path)
    with pytest.raises(FileError, match="no such file"):
        course.load_trained_model(tmp_path / "cifar10_cnn.pt")
