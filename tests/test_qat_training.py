"""Prepared models in use: statistics and when they freeze, states, copies, the Trainer, and errors."""

from __future__ import annotations

import numpy as np
import pytest
from nets import Then, images, randomise
from test_qat import EVERY, loss_of, prepared, same, settled, train

import tinyml
from tinyml import Trainer, models, nn, optim
from tinyml.data import ArrayDataset, DataLoader
from tinyml.errors import DtypeError, FileError, NonFiniteError, QuantizationError, ShapeError, TraceError
from tinyml.precision import prepare_qat
from tinyml.tape import no_grad


def changed(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> set[str]:
    """Names of what is not the same, to the bit, in two states."""
    assert a.keys() == b.keys()
    return {name for name in a if a[name].tobytes() != b[name].tobytes()}


# ---- statistics


@pytest.mark.parametrize("name", ["CifarCNN", "ResNet8", "odd channels", "shared and unused", "batch norm alone"])
def test_running_moments_are_those_of_the_float_model(name):
    make, (shape,) = EVERY[name]
    model = settled(make(), images(shape, 64, 0))
    qat = prepare_qat(model, images(shape, 64, 0))
    with no_grad():
        for seed in range(1, 6):
            x = images(shape, 64, seed)
            model.train()(x)
            qat(x)
    norms = [(a, b) for a, b in zip(model.modules(), qat.model.modules()) if isinstance(a, nn.BatchNorm2d)]
    assert norms
    for a, b in norms:
        variance = a.running_var.numpy()
        assert np.allclose(b.running_var.numpy(), variance, rtol=0.01)
        assert (np.abs(b.running_mean.numpy() - a.running_mean.numpy()) < 0.01 * np.sqrt(variance)).all()
        assert a.num_batches_tracked.item() == b.num_batches_tracked.item() >= 6


def test_the_first_ranges_are_those_of_training():
    """Though the running moments of a model that was never trained would make its activations many times smaller."""
    x = images((3, 8, 8), 32, 0)
    model = randomise(models.CifarCNN(width=4))
    qat = prepare_qat(model, [x[:20], x[20:]])
    assert not changed(qat.model.state_dict(), model.state_dict())
    first = [a.range() for a in qat.activations]
    qat(x)
    moved = [a.range() for a in qat.activations]
    assert np.allclose(first, moved, rtol=0.01, atol=0.01)     # by a twentieth of their difference


@pytest.mark.parametrize("learn_scales", [False, True])
def test_freezing_stops_statistics_and_nothing_else(learn_scales):
    _, qat, (x,) = prepared("CifarCNN", learn_scales=learn_scales, freeze_after=2)
    states = [qat.state_dict()]
    for _ in range(4):
        assert qat.frozen == (len(states) > 2)
        states.append(train(qat, 2 * x, steps=1).state_dict())
    scales = {name for name in states[0] if name.endswith("log2_scale" if learn_scales else "bounds")}
    moments = {name for name in states[0] if "running" in name or "tracked" in name}
    weights = {name for name in states[0] if name.startswith("model.")} - moments
    assert len(scales) == 9 + 7 * learn_scales and len(moments) == 18 and len(weights) == 20
    for i, (a, b) in enumerate(zip(states, states[1:])):
        moving = {*scales, *moments, "samples"} if i < 2 else set()
        assert changed(a, b) == {*weights, *moving, "steps"}
    assert qat.describe() == "step 4, frozen"


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("learn_scales", [False, True])
@pytest.mark.parametrize("name", ["odd channels", "attention", "two inputs and outputs"])
def test_a_state_is_all_that_training_needs(name, learn_scales, frozen):
    """It says whether it is frozen; loaded into a model prepared with other data, training goes on to the same bits."""
    model, qat, xs = prepared(name, learn_scales=learn_scales)
    train(qat, *xs)
    if frozen:
        qat.freeze()
    other = prepare_qat(model, (tuple(-2 * x - 1 for x in xs), None), learn_scales)
    assert not same(other.eval()(*xs), qat.eval()(*xs)) and not other.frozen
    other.load_state_dict(qat.state_dict())
    assert other.frozen == frozen and same(other.eval()(*xs), qat.eval()(*xs))
    assert not changed(train(other, *xs).state_dict(), train(qat, *xs).state_dict())
    assert same(other.eval()(*xs), qat.eval()(*xs))


@pytest.mark.parametrize("name", ["ResNet8", "attention", "shared and unused"])
def test_copies_live_on_their_own(name):
    model, qat, xs = prepared(name, learn_scales=True)
    qat.eval()(*xs)
    copy = train(qat, *xs).copy()
    before = qat.state_dict()
    assert not changed(copy.state_dict(), before) and same(copy.eval()(*xs), qat.eval()(*xs))
    train(copy, *xs)
    assert not changed(qat.state_dict(), before) and not same(copy.eval()(*xs), qat.eval()(*xs))
    assert not same(model.eval()(*xs), qat.model.eval()(*xs))      # nor did the float model train


def test_the_plan_is_made_again_when_a_tensor_changes():
    _, qat, (x,) = prepared("odd channels")
    qat.eval()
    plan, y = qat.plan(), qat(x)
    assert qat.plan() is plan and same(qat(x), y) and same(plan(x), y)
    for t in (qat.model[0].weight, qat.model[1].running_var, qat.activations[0].bounds):
        t.array *= np.float32(1.5)
        assert qat.plan() is not plan and not same(qat(x), y)
        plan, y = qat.plan(), qat(x)
        assert qat.plan() is plan


def test_skipped_layers_train_in_float():
    """Skipped layers read floats, though their neighbours make codes of the same values."""
    model = Then(lambda m, x: (m.a(x), m.b(x)), nn.Linear(6, 3), nn.Linear(6, 2))
    x = images((6,), 8, 0)
    qat = prepare_qat(model, x, skip=["b"]).freeze()
    qat.activations[0].bounds.array *= 1000      # codes that are far too coarse
    assert len(qat.weights) == 1 and any(name.endswith("in b") for name in qat.to_int8().islands)
    a, b = model(x)
    for mode in (True, False):
        coarse, exact = qat.train(mode)(x)
        assert np.allclose(exact.numpy(), b.numpy(), rtol=0, atol=1e-6)     # few rows are summed in another order in a plan
        assert not np.allclose(coarse.numpy(), a.numpy(), atol=0.1)


def test_a_gain_of_0_learns():
    model, qat, (x,) = prepared("gains of 0 and below")
    for m in (model, qat):
        loss_of(m, x).backward()
    a, b = (m.weight.grad.numpy() for m in (model[1], qat.model[1]))
    assert a[1] and np.allclose(a, b, rtol=0.1)


def test_tiny_gpt(tmp_path):
    """Ids in, tied weights, positions that no input reaches, attention with a mask."""
    ids = np.random.default_rng(0).integers(0, 11, (6, 9))
    qat = prepare_qat(models.TinyGPT(11, 8, 2, 2, 16), ids[:, :-1], learn_scales=True)
    trainer = Trainer(qat, optim.AdamW(qat.parameters(), 0.01), progress=False)
    history = trainer.fit([(ids[:, :-1], ids[:, 1:])], 15)
    assert history[-1]["train_loss"] < 0.9 * history[0]["train_loss"]
    assert all(p.grad is not None and p.grad.numpy().any() for p in qat.parameters())
    assert qat.model.head.weight is qat.model.tokens.weight
    qat.to_int8().save(tmp_path / "gpt.safetensors")
    assert same(tinyml.load(tmp_path / "gpt.safetensors")(ids[:2, :-1]), qat.eval()(ids[:2, :-1]))


# ---- the Trainer


def coloured(n: int, seed: int) -> ArrayDataset:
    """Noisy images, each class brighter in its own channel."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, 3, n)
    x = rng.standard_normal((n, 3, 8, 8)) + 2 * np.eye(3)[targets][:, :, None, None]
    return ArrayDataset(x.astype(np.float32), targets)


@pytest.mark.parametrize("learn_scales", [False, True])
def test_the_trainer_trains_and_evaluates_it(learn_scales, tmp_path):
    loader, tests = DataLoader(coloured(96, 0), 16, shuffle=True), DataLoader(coloured(60, 1), 20)
    model = models.CifarCNN(classes=3, width=4)
    Trainer(model, optim.AdamW(model.parameters(), 0.01), progress=False).fit(loader, 2)
    qat = prepare_qat(model, next(iter(loader)), learn_scales, freeze_after=15)
    trainer = Trainer(qat, optim.AdamW(qat.parameters(), 0.01), checkpoint_dir=tmp_path, progress=False)
    history = trainer.fit(loader, 4, validation=tests)
    assert qat.frozen and history[-1]["train_loss"] < 0.5 * history[0]["train_loss"]
    assert history[-1]["validation_accuracy"] > 0.9

    plan = qat.to_int8()
    assert np.array_equal(trainer.predict(tests), np.concatenate([plan(x).numpy() for x, _ in tests]))
    right = sum(int((plan(x).numpy().argmax(1) == np.asarray(y)).sum()) for x, y in tests)
    assert trainer.evaluate(tests)["accuracy"] == right / 60 == history[-1]["validation_accuracy"]
    before = qat.state_dict()
    with pytest.raises(NonFiniteError, match="the batch's inputs"):
        trainer.fit([(np.full((4, 3, 8, 8), np.nan, np.float32), np.arange(4) % 3)], 1)
    assert not changed(qat.state_dict(), before)
    trainer.load_best()


# ---- what is refused


def test_what_cannot_be_prepared():
    x = images((6,), 8, 0)
    model = models.MLP(6, 5, 3)
    qat = prepare_qat(model, x)
    for bad in (qat, qat.to_int8(), model.to_int8(), model.to_fp16(), model.to_int8(calibration=[x])):
        with pytest.raises(DtypeError, match=f"expected a float32 model, got {type(bad).__name__}: prepared or converted"):
            prepare_qat(bad, x)
    with pytest.raises(DtypeError, match=r"Sequential has no layer that runs in integers$"):
        prepare_qat(nn.Sequential(nn.ReLU()), x)
    with pytest.raises(DtypeError, match="MLP has no layer that runs in integers outside 1, 3"):
        prepare_qat(model, x, skip=["1", "3"])
    with pytest.raises(DtypeError, match=r"prepare_qat: skip: MLP has no layer 'head'; its layers are 0, 1, 2, 3"):
        prepare_qat(model, x, skip=["head"])
    for after, error in ((-1, ShapeError), (1.5, DtypeError), ("3", DtypeError)):
        with pytest.raises(error, match="expected freeze_after to be a whole number of at least 0, got"):
            prepare_qat(model, x, freeze_after=after)
    with pytest.raises(QuantizationError, match="1 NaN or infinite values in the input, batch 1"):
        prepare_qat(model, [x, np.where(np.arange(48).reshape(8, 6) == 7, np.nan, x)])
    with pytest.raises(ShapeError, match="expected at least one batch as example, got none"):
        prepare_qat(model, [])
    with pytest.raises(TraceError, match=r"non-empty examples.*got \(0, 6\)"):
        prepare_qat(model, x[:0])
    with pytest.raises(TraceError, match="became a Python number"):
        prepare_qat(Then(lambda m, x: m.a(x) if x.sum().item() > 0 else x, nn.Linear(6, 3)), x)


def test_what_a_prepared_model_refuses(tmp_path):
    x = images((6,), 8, 0)
    qat = prepare_qat(models.MLP(6, 5, 3), x)
    with pytest.raises(DtypeError, match=r"has its ranges and options from there, got calibration$"):
        qat.to_int8(calibration=[x])
    with pytest.raises(DtypeError, match="got calibration, observer, rounding"):
        qat.to_int8([x], observer="mse", rounding="double")
    with pytest.raises(DtypeError, match="to_fp16: a model prepared for quantization-aware training becomes int8"):
        qat.to_fp16()
    with pytest.raises(ShapeError, match=r"expected input \(B, 6\), got \(8, 5\)"):
        qat(x[:, 1:])
    with pytest.raises(FileError, match=r"save its to_int8\(\), or its state_dict\(\)"):
        qat.save(tmp_path / "qat.safetensors")
    assert not list(tmp_path.iterdir())
    assert qat(x[:0]).shape == (0, 3)
    qat.model[1].weight.array[0, 0] = np.nan
    with pytest.raises(QuantizationError, match=r"weights: expected finite values.*linear in 1"):
        qat.eval()(x)
