"""save and load: equal outputs bit for bit, ties and arguments kept, whole files or none."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import numpy as np
import pytest
from nets import Then
from safetensors import safe_open
from saved import IDS, IMAGES, KINDS, ROWS, Own, made, opened, own
from values import normal

import tinyml
from tinyml import io, models, nn, no_grad
from tinyml._kernels import dispatch
from tinyml._kernels.products import integer_layer
from tinyml.errors import FileError
from tinyml.io import trial
from tinyml.nn.module import MODULES
from tinyml.plan.steps import STEPS

every_kind = pytest.mark.parametrize("kind", KINDS)


@every_kind
def test_a_loaded_model_gives_the_same_bits(kind, tmp_path):
    model, inputs = made(kind)
    path = tmp_path / "model.safetensors"
    model.save(path)
    drawn = tinyml.random.get_state()
    loaded = tinyml.load(path)
    assert tinyml.random.get_state() == drawn
    assert type(loaded) is type(model) and not any(m.training for m in loaded.modules())
    with no_grad():
        assert loaded(*inputs).numpy().tobytes() == model.eval()(*inputs).numpy().tobytes()
    assert io.serialize(loaded) == path.read_bytes() == io.serialize(model)
    assert {n: p.requires_grad for n, p in loaded.named_parameters()} == {
        n: p.requires_grad for n, p in model.named_parameters()}
    assert os.listdir(tmp_path) == ["model.safetensors"]


def test_all_dtypes_and_arguments_come_back(tmp_path):
    model = own()
    model.save(tmp_path / "own")
    loaded = tinyml.load(str(tmp_path / "own"))
    for (name, a), (other, b) in zip(model.named_tensors(), loaded.named_tensors(), strict=True):
        assert name == other and a.dtype == b.dtype and a.shape == b.shape and type(a) is type(b)
        assert a.numpy().tobytes() == b.numpy().tobytes()
        assert a.axis == b.axis and np.array_equal(a.scale, b.scale) and np.array_equal(a.zero_point, b.zero_point)
    plain = ("sizes", "power", "limit", "window", "on")
    assert [getattr(loaded, k) for k in plain] == [getattr(model, k) for k in plain]
    assert loaded.layers[1][1].p == 0.25 and loaded.layers[1][0].approximate == "tanh"


def test_sequential_of_a_users_class(tmp_path):
    class Shift(nn.Module):
        def __init__(self, by):
            self.by = by

        def forward(self, x):
            return x + self.by

    model = nn.Sequential(nn.Linear(6, 4), Shift(0.75), nn.ReLU())
    model.save(tmp_path / "model")
    assert np.array_equal(tinyml.load(tmp_path / "model")(ROWS).numpy(), model(ROWS).numpy())


def test_ties_are_kept(tmp_path):
    for model in (models.TinyGPT(11, 6, 1, 2, 8), models.TinyGPT(11, 6, 1, 2, 8).to_int8()):
        model.save(tmp_path / "model")
        loaded = tinyml.load(tmp_path / "model")
        assert loaded.head.weight is loaded.tokens.weight
        with safe_open(tmp_path / "model", "np") as file:
            assert "tokens.weight" in file.keys() and "head.weight" not in file.keys()      # noqa: SIM118

    shared = nn.Linear(6, 6)
    model = nn.Sequential(shared, nn.ReLU(), shared)
    model.save(tmp_path / "model")
    loaded = tinyml.load(tmp_path / "model")
    assert loaded[0].weight is loaded[2].weight and len(loaded.parameters()) == 2
    assert np.array_equal(loaded(ROWS).numpy(), model(ROWS).numpy())


def test_a_loaded_float_model_trains_on(tmp_path):
    model, _ = made("TinyGPT")
    model.save(tmp_path / "model")
    loaded = tinyml.load(tmp_path / "model")
    grads = []
    for m in (model.eval(), loaded):
        models.next_token_loss(m(IDS), IDS).backward()
        grads.append([p.grad.numpy().tobytes() for p in m.parameters()])
    assert grads[0] == grads[1]


# ---- the numbers of a plan, the same on every machine


def test_plans_in_integers_carry_a_check_of_their_numbers(tmp_path, monkeypatch):
    path = tmp_path / "model"
    for kind in KINDS:
        model, _ = made(kind)
        model.save(path)
        check = opened(path)[0].get("check")
        assert (check is not None) == kind.startswith(("static", "compiled"))
        if check:
            assert check["seed"] == trial.SEED and (check["digest"] is None) == bool(model.islands)
    model, (x,) = made("static integers")
    model.save(path)
    bind = integer_layer.IntegerLayer.bind

    def off_by_one(layer, x, out):
        bound = bind(layer, x, out)

        def call():
            bound()
            out[0, 0, 0, 0] ^= 1

        return call

    with monkeypatch.context() as patch:
        patch.setattr(integer_layer.IntegerLayer, "bind", off_by_one)
        with pytest.raises(FileError, match=r"model: this machine computes other numbers than the one that wrote the file"):
            tinyml.load(path)
    assert np.array_equal(tinyml.load(path)(x).numpy(), model(x).numpy())


def test_the_input_of_the_check_never_changes():
    """What NumPy's Philox gives for seed 0, spread over all codes and as floats: files depend on it."""
    plan, _ = made("static integers")
    slot, = plan.inputs
    x = trial._input(slot, np.random.Philox(trial.SEED))
    assert x.shape == (2, 3, 8, 8) and x.dtype == np.float32
    codes = np.rint(x / slot.codec.scale).astype(int) + slot.codec.zero_point + 128
    assert codes.reshape(-1)[:8].tolist() == [169, 47, 184, 34, 178, 229, 153, 3] and len(np.unique(codes)) > 150


def test_every_instruction_set_passes_the_check(tmp_path):
    model, _ = made("static integers")
    model.save(tmp_path / "model")
    for isa in dispatch.available():
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path), "TINYML_ISA": isa}
        code = "import sys, tinyml; tinyml.load(sys.argv[1]); print(tinyml.config()['isa'])"
        done = subprocess.run([sys.executable, "-c", code, tmp_path / "model"], env=environment, capture_output=True,
                              text=True, timeout=300, check=False)
        assert done.stdout.split() == [isa], done.stderr


def watch_elements(monkeypatch, watch):
    """Have `watch(step, n)` see, and pass on, what each step says of how many elements it makes."""
    for kind, says in {kind: kind.elements for kind in STEPS.values()}.items():
        monkeypatch.setattr(kind, "elements", lambda step, shapes, batch, says=says: watch(step, says(step, shapes, batch)))


@pytest.mark.parametrize("kind", [k for k in KINDS if k.startswith("static")])
def test_plans_that_are_too_large_to_run_once_are_loaded_without(kind, tmp_path, monkeypatch):
    """Plans for very large images. The test lowers the limit instead of making a large plan."""
    model, inputs = made(kind)
    path = tmp_path / "model"
    model.save(path)
    checked = path.read_bytes()
    largest = []
    with monkeypatch.context() as patch:
        watch_elements(patch, lambda step, n: largest.append(n) or n)
        tinyml.load(path)
    for limit in (max(largest), max(largest) - 1, 0):
        monkeypatch.setattr(trial, "LARGEST", limit)
        model.save(path)
        assert (path.read_bytes() == checked) == (limit == max(largest))
        assert (opened(path)[0]["check"] is None) == (limit < max(largest))
        assert tinyml.load(path)(*inputs).numpy().tobytes() == model(*inputs).numpy().tobytes()
    path.write_bytes(checked)
    with pytest.raises(FileError, match="model: a value of the plan has more than 0 elements, which none had when it was"):
        tinyml.load(path)


def test_sizes_are_known_before_a_step_runs(tmp_path, monkeypatch):
    kinds = set()

    def watched(step, said):
        run = step.run

        def checked(values, batch):
            y = run(values, batch)
            assert y.size <= said
            kinds.add(step.kind)
            return y

        step.run = checked
        return said

    watch_elements(monkeypatch, watched)
    for kind in KINDS:
        if kind.startswith("static"):
            made(kind)[0].save(tmp_path / "model")
            tinyml.load(tmp_path / "model")
    assert kinds == set(STEPS)


def test_products_with_vectors_are_saved(tmp_path):
    model = nn.Sequential(nn.Linear(4, 4))
    x = normal(3, 4)
    for other in (np.ones(4, np.float32), np.ones((4, 2), np.float32)):
        plan = Then(lambda m, x, other=other: m.a(x) @ other, model).compile(x)
        plan.save(tmp_path / "plan")
        assert np.array_equal(tinyml.load(tmp_path / "plan")(x).numpy(), plan(x).numpy())


# ---- sizes of files


@pytest.mark.parametrize("make, shape, most", [
    (lambda: models.CifarCNN(), (3, 32, 32), 0.265),
    (lambda: models.MLP(3072, 640, 256, 10), (3072,), 0.255),
], ids=["CifarCNN", "MLP"])
def test_int8_files_are_little_more_than_a_quarter(make, shape, most):
    model = make()
    size = len(io.serialize(model))
    assert size > (2**20 if most == 0.265 else 2**23)
    assert len(io.serialize(model.to_int8())) <= most * size
    assert len(io.serialize(model.to_int8(calibration=normal(8, *shape)))) <= most * size


# ---- models that a file cannot build


def test_an_unknown_class_is_named_with_what_to_do(tmp_path, monkeypatch):
    model = own()
    model.save(tmp_path / "model")
    name = f"{Own.__module__}.Own"
    monkeypatch.delitem(MODULES, name)
    message = rf"class {re.escape(name)} is not known here; import .*load\(path, model=...\)"
    with pytest.raises(FileError, match=message):
        tinyml.load(tmp_path / "model")
    instance = Own([6, 4], 2.5, nn.Linear(6, 6), nn.Sequential(nn.GELU("tanh"), nn.Dropout(0.25)))
    assert tinyml.load(tmp_path / "model", model=instance) is instance
    assert np.array_equal(instance(ROWS).numpy(), model.eval()(ROWS).numpy())


def test_int8_loads_into_a_float_instance(tmp_path):
    int8 = models.CifarCNN(width=4).to_int8()
    int8.save(tmp_path / "model")
    loaded = tinyml.load(tmp_path / "model", model=models.CifarCNN(width=4))
    assert np.array_equal(loaded(IMAGES).numpy(), int8(IMAGES).numpy())


def layer(model):
    model.extra = nn.ReLU()


def kind_of_layer(model):
    setattr(model, "2", nn.ReLU6())


def size(model):
    setattr(model, "4", nn.Linear(4, 7))


@pytest.mark.parametrize("change", [layer, kind_of_layer, size])
def test_a_model_that_was_changed_after_it_was_built_is_refused(change, tmp_path):
    """Its recipe would build another model, whose outputs differ."""
    def build():
        return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(4),
                             nn.Linear(4, 5))

    model = build()
    change(model)
    path = tmp_path / "model"
    model.save(path)
    with pytest.raises(FileError, match=r"as layer '.*', got .*: it was changed after it was built; pass the same"):
        tinyml.load(path)
    same = build()
    change(same)
    assert np.array_equal(tinyml.load(path, model=same)(IMAGES).numpy(), model.eval()(IMAGES).numpy())


class Opaque(nn.Module):
    """An argument that no file can hold."""

    def __init__(self, function):
        self.function = function


@pytest.mark.parametrize("argument", [np.tanh, {"a": 1}, np.ones(3), [object()]])
def test_arguments_that_no_file_can_hold_are_named(argument, tmp_path):
    with pytest.raises(FileError, match=r"Opaque was built with an argument of type \w+, which a file cannot hold"):
        nn.Sequential(Opaque(argument)).save(tmp_path / "model")
    assert os.listdir(tmp_path) == []


# ---- saving


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "model"
    models.MLP(6, 5).save(path)
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(FileError, match="model: cannot write: No space left on device"):
            models.MLP(6, 7).save(path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["model"]
    with pytest.raises(FileError, match="cannot hold"):
        Opaque(len).save(path)
    assert path.read_bytes() == before
    models.MLP(6, 7).save(path)
    assert tinyml.load(path)(ROWS).shape == (4, 7)


def test_places_that_cannot_be_written(tmp_path):
    with pytest.raises(FileError, match="cannot write: No such file or directory"):
        models.MLP(6, 5).save(tmp_path / "missing" / "model")
    with pytest.raises(FileError, match="cannot write"):
        models.MLP(6, 5).save(tmp_path)
    assert os.listdir(tmp_path) == [] and not tmp_path.with_name(tmp_path.name + ".partial").exists()
