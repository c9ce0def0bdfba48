"""save and load: equal outputs bit for bit, and FileError, nothing else, for whatever a damaged file holds."""

from __future__ import annotations

import ast
import json
import os
import re
import struct
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save as to_bytes

import tinyml
from tinyml import Tensor, io, models, nn, no_grad
from tinyml.errors import FileError, TinymlError
from tinyml.nn import functional as F
from tinyml.nn.module import MODULES


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


class Own(nn.Module):
    """A user's module: arguments of many kinds, buffers of every dtype, ordinary attributes."""

    def __init__(self, widths, power, *layers, limit=float("inf"), name="own", window=(1, 2), on=None):
        self.sizes = widths + [1]           # a list must come back as a list
        self.power, self.limit, self.window, self.on = power, limit, window + (3,), on
        self.layers = nn.ModuleList(layers)
        self.gain = nn.Parameter(np.full(widths[0], 1.5, np.float32))
        self.half = nn.Parameter(normal(3).astype(np.float16))
        for dtype in ("float64", "float32", "float16", "int64", "int32", "uint8", "bool"):
            setattr(self, f"scalar_{dtype}", Tensor(np.array(1, dtype)))
            setattr(self, f"array_{dtype}", Tensor(np.asfortranarray(100 * normal(4, 3)).astype(dtype)))
        self.none = Tensor(np.zeros((0, 3), np.float32))
        self.codes = Tensor(normal(3, 4)).to_int8(0.02, -7)
        self.columns = Tensor(normal(3, 4)).to_int8(axis=1)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return (x * self.gain * self.half[0] * self.codes.dequantize()[0, 0]).clip(-1e9, self.limit)


class Indexed(nn.Module):
    """Islands, an index array among the attributes, a constant that follows the batch."""

    def __init__(self):
        self.a, self.b, self.norm = nn.Linear(6, 6), nn.Linear(4, 3), nn.LayerNorm(6)

    def forward(self, x):
        y = self.norm(self.a(x))[:, [0, 2, 5, 5]]
        y = F.concat([y, np.ones((len(x), 1), np.float32)], axis=1)[..., 1:]
        return self.b(F.relu(y)).clip(-3.0, 7.0) * 2.0


IMAGES, ROWS, IDS = normal(3, 3, 8, 8), normal(4, 6), np.random.default_rng(0).integers(0, 11, (3, 6))


def own() -> Own:
    model = Own([6, 4], 2.5, nn.Linear(6, 6), nn.Sequential(nn.GELU("tanh"), nn.Dropout(0.25)), on=True)
    for name, t in model.named_tensors():
        if name.startswith("array_float"):
            t.data[...] = normal(4, 3, seed=1)      # not what the constructor makes
        if name == "scalar_bool":
            t.data[...] = False
    return model


KINDS = {
    "CifarCNN": (lambda: models.CifarCNN(width=4), IMAGES),
    "ResNet8": (lambda: models.ResNet8(width=4), IMAGES),
    "MLP": (lambda: models.MLP(6, 5, 3), ROWS),
    "TinyGPT": (lambda: models.TinyGPT(11, 6, 1, 2, 8, dropout=0.5), IDS),
    "Own": (own, ROWS),
    "dynamic CifarCNN": (lambda: models.CifarCNN(width=4).to_int8(), IMAGES),
    "dynamic TinyGPT": (lambda: models.TinyGPT(11, 6, 1, 2, 8).to_int8(), IDS),
    "dynamic per tensor": (lambda: models.MLP(6, 5, 3).to_int8(per_channel=False), ROWS),
    "static CifarCNN": (lambda: models.CifarCNN(width=4).to_int8(calibration=IMAGES), IMAGES),
    "static ResNet8": (lambda: models.ResNet8(width=4).to_int8(calibration=IMAGES, rounding="double"), IMAGES),
    "static with islands": (lambda: Indexed().to_int8(calibration=ROWS), ROWS),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def made(kind: str) -> tuple[nn.Module, np.ndarray]:
    make, x = KINDS[kind]
    model = make()
    for name, t in model.named_tensors():
        if "running" in name:
            t.data[...] = np.random.default_rng(3).uniform(0.5, 2, t.shape)
    return model, x


@every_kind
def test_a_loaded_model_gives_the_same_bits(kind, tmp_path):
    model, x = made(kind)
    path = tmp_path / "model.safetensors"
    model.save(path)
    drawn = tinyml.random.get_state()
    loaded = tinyml.load(path)
    assert tinyml.random.get_state() == drawn
    assert type(loaded) is type(model) and not any(m.training for m in loaded.modules())
    with no_grad():
        assert loaded(x).numpy().tobytes() == model.eval()(x).numpy().tobytes()
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
        F.cross_entropy(m(IDS), IDS).backward()
        grads.append([p.grad.numpy().tobytes() for p in m.parameters()])
    assert grads[0] == grads[1]


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


def stride(model):
    model[0].stride = (2, 2)


def layer(model):
    model.extra = nn.ReLU()


def kind_of_layer(model):
    setattr(model, "2", nn.ReLU6())


def size(model):
    setattr(model, "4", nn.Linear(4, 7))


@pytest.mark.parametrize("change", [stride, layer, kind_of_layer, size])
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


# ---- files that are no model


def rewritten(path: Path, about: object = None, arrays: dict | None = None, metadata: dict | None = None) -> None:
    """`path` with another description, other arrays, or other metadata altogether."""
    with safe_open(path, "np") as file:
        found = {name: file.get_tensor(name) for name in file.keys()}       # noqa: SIM118
        text = file.metadata()["tinyml"]
    text = text if about is None else json.dumps(about)
    path.write_bytes(to_bytes(found if arrays is None else arrays, {"tinyml": text} if metadata is None else metadata))


def described(path: Path) -> dict:
    with safe_open(path, "np") as file:
        return json.loads(file.metadata()["tinyml"])


def test_missing_foreign_and_newer_files(tmp_path):
    path = tmp_path / "model"
    for place in (path, tmp_path):
        with pytest.raises(FileError, match="no such file"):
            tinyml.load(place)
    huge, no_header = struct.pack("<Q", 2**63) + b"{}", struct.pack("<Q", 2) + b"[]"
    for content in (b"", b"\0" * 4, b"PK\3\4" + b"\0" * 60, huge, no_header):
        path.write_bytes(content)
        with pytest.raises(FileError, match=f"{re.escape(str(path))}: not a readable safetensors file"):
            tinyml.load(path)
    for content in (to_bytes({"w": ROWS}), to_bytes({"w": ROWS}, {"format": "pt"})):
        path.write_bytes(content)
        with pytest.raises(FileError, match=r"without tinyml's description; load its arrays with .* load_state_dict"):
            tinyml.load(path)

    models.MLP(6, 5).save(path)
    good = described(path)
    for about, message in {
        "{": "damaged description", "[" * 100_000: "damaged description",
        "7": "expected version 1 of the format, got int",
        json.dumps({**good, "version": 2}): "expected version 1 of the format, got 2",
        json.dumps({k: v for k, v in good.items() if k != "version"}): "expected version 1 of the format, got None",
        json.dumps({**good, "kind": "dataset"}): "expected a module or a plan, got 'dataset'",
        json.dumps({k: v for k, v in good.items() if k != "recipe"}): "damaged description: KeyError",
    }.items():
        rewritten(path, metadata={"tinyml": about})
        with pytest.raises(FileError, match=message):
            tinyml.load(path)


def test_arrays_must_be_those_of_the_model(tmp_path):
    path = tmp_path / "model"
    models.MLP(6, 5).save(path)
    weight, bias = normal(5, 6), normal(5)
    for arrays, message in (
        ({"1.weight": weight}, r"expected tensor 1.bias \(5,\), got none"),
        ({"1.weight": weight.T.copy(), "1.bias": bias}, r"expected tensor 1.weight \(5, 6\), got \(6, 5\)"),
        ({"1.weight": weight.astype(int), "1.bias": bias}, "expected float32 for 1.weight, got int64"),
        ({"1.weight": weight, "1.bias": bias, "2.bias": bias}, "tensors that no layer has: 2.bias"),
    ):
        rewritten(path, arrays=arrays)
        with pytest.raises(FileError, match=message):
            tinyml.load(path)

    models.MLP(6, 5).to_int8().save(path)
    codes, scale = np.ones((5, 6), np.int8), np.ones(5, np.float32)
    for arrays, message in (
        ({"1.weight": codes, "1.bias": bias}, "expected int8 codes and a scale for 1.weight"),
        ({"1.weight": weight, "1.bias": bias, "1.weight.scale": scale}, "expected int8 codes .*got float32"),
        ({"1.weight": codes, "1.bias": bias, "1.weight.scale": 0 * scale}, "positive, normal float32 scale, got 0"),
        ({"1.weight": codes, "1.bias": bias, "1.weight.scale": scale[:4]}, r"scale: expected shape \(5,\)"),
    ):
        rewritten(path, arrays=arrays)
        with pytest.raises(FileError, match=message):
            tinyml.load(path)


def test_bfloat16_of_another_framework(tmp_path):
    header = json.dumps({"w": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}).encode()
    (tmp_path / "model").write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 4)
    with pytest.raises(FileError, match=r"not a readable safetensors file|without tinyml's description"):
        tinyml.load(tmp_path / "model")


def test_classes_are_looked_up_never_imported(tmp_path):
    path = tmp_path / "model"
    models.MLP(6, 5).save(path)
    for name in ("os.system", "antigravity.fly", "tinyml.nn.module.Module", "subprocess.Popen"):
        about = described(path)
        about["recipe"]["class"] = name
        rewritten(path, about)
        with pytest.raises(FileError, match=f"class {re.escape(name)} is not known here"):
            tinyml.load(path)


def test_nothing_unpickles():
    """No unpickler is imported, nothing evaluates text, and NumPy may not load objects."""
    for source in Path(tinyml.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(source.read_text())):
            names = {a.name for a in node.names} if isinstance(node, ast.Import) else set()
            names |= {node.module} if isinstance(node, ast.ImportFrom) else set()
            names |= {node.func.id} if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else set()
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                assert getattr(node.value, "value", True) is False, f"{source}: allow_pickle"
            forbidden = {"pickle", "marshal", "shelve", "dill", "eval", "exec", "compile", "__import__"}
            assert not names & forbidden, f"{source}:{getattr(node, 'lineno', '?')}: {names & forbidden}"


# ---- damage: FileError at load, or a model that works or says what is wrong


def check_damaged(path: Path, x: np.ndarray) -> bool:
    """Load and run what is left of a file; whether it was refused. Any error that is not tinyml's own is a bug."""
    try:
        model = tinyml.load(path)
    except FileError as error:
        assert str(path) in str(error)
        return True
    try:
        with no_grad(), np.errstate(all="ignore"):
            model(x)
    except TinymlError:
        pass
    return False


@every_kind
def test_every_truncation_is_refused(kind, tmp_path):
    model, x = made(kind)
    path = tmp_path / "model"
    content = io.serialize(model)
    header = 8 + struct.unpack("<Q", content[:8])[0]
    rng = np.random.default_rng(0)
    sizes = [*range(12), header - 1, header, header + 1, len(content) - 1, *rng.integers(12, len(content), 12)]
    for n in sizes:
        path.write_bytes(content[:n])
        assert check_damaged(path, x), f"cut to {n} of {len(content)} bytes"
    path.write_bytes(content + b"\0")
    assert check_damaged(path, x)


@every_kind
def test_damaged_headers(kind, tmp_path):
    """Bits flipped, bytes replaced and digits changed between the start of the file and its first array."""
    model, x = made(kind)
    path = tmp_path / "model"
    content = io.serialize(model)
    header = 8 + struct.unpack("<Q", content[:8])[0]
    digits = [i for i in range(8, header) if chr(content[i]).isdigit()]
    rng = np.random.default_rng(1)
    refused = 0
    for i in range(60):
        damaged = bytearray(content)
        for _ in range(rng.integers(1, 4)):
            if i % 3 == 0:
                damaged[rng.integers(header)] ^= 1 << rng.integers(8)
            elif i % 3 == 1:
                damaged[rng.integers(header)] = rng.choice(list(b'{}[]",:0159-.eEtfn \0'))
            else:
                damaged[rng.choice(digits)] = rng.choice(list(b"0123456789"))
        path.write_bytes(damaged)
        refused += check_damaged(path, x)
    assert refused > 20


def leaves(value: object, at: tuple = ()) -> list[tuple]:
    """Paths of everything inside a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at] * bool(at) + [p for k, v in inner for p in leaves(v, (*at, k))]


VALUES = (None, True, False, -1, 0, 1, 2, 3, 7, 200, -200, 2000, 0.5, -1.5, 1e30, "", "weight", "float32", [], [1],
          [0, 0], [[1, 2], [3, 4]], {}, {"tuple": []}, {"batch": 1}, {"tuple": [2, 2]}, {"array": "weight"},
          {"slice": [1, 0, 0]})


@every_kind
def test_descriptions_that_say_something_else(kind, tmp_path):
    """Valid JSON with a value changed, dropped or moved: what checks alone must catch, before a kernel reads it."""
    model, x = made(kind)
    path = tmp_path / "model"
    content = io.serialize(model)
    rng = np.random.default_rng(2)
    for _ in range(120):
        path.write_bytes(content)
        about = described(path)
        everywhere = leaves(about)
        at, other = (everywhere[rng.integers(len(everywhere))] for _ in range(2))
        parent, value = about, about
        for key in other:
            value = value[key]
        for key in at[:-1]:
            parent = parent[key]
        choice = rng.integers(4)
        if choice == 0:
            del parent[at[-1]]
        else:
            parent[at[-1]] = value if choice == 1 and at[: len(other)] != other else VALUES[rng.integers(len(VALUES))]
        rewritten(path, about)
        try:
            check_damaged(path, x)
        except Exception as error:
            raise AssertionError(f"{at} became {parent.get(at[-1]) if isinstance(parent, dict) else parent}") from error


@pytest.mark.parametrize("kind", [k for k in KINDS if "static" in k])
def test_plans_with_other_arrays(kind, tmp_path):
    """An array of another shape, dtype or content: kernels trust sizes, so the plan must not."""
    model, x = made(kind)
    path = tmp_path / "model"
    content = io.serialize(model)
    rng = np.random.default_rng(3)
    for _ in range(80):
        path.write_bytes(content)
        with safe_open(path, "np") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}      # noqa: SIM118
        name = list(arrays)[rng.integers(len(arrays))]
        a = arrays[name]
        noise = rng.integers(-128, 127, a.shape).astype(a.dtype)
        large = (a.astype(np.int64) * 1000 + 12345).astype(a.dtype)
        flat = a.reshape(-1)
        changes = [flat, flat[:-1], flat[:0], np.concatenate([a[None], a[None]]), a[None], a.T, a.astype(np.float32),
                   a.astype(np.int64), noise, large, -a, a[:-1] if a.ndim else a, a[..., :1] if a.ndim else a]
        arrays[name] = np.ascontiguousarray(changes[rng.integers(len(changes))])
        rewritten(path, arrays=arrays)
        try:
            check_damaged(path, x)
        except Exception as error:
            raise AssertionError(f"{name} became {arrays[name].dtype} {arrays[name].shape}") from error
