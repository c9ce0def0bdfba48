"""PyTorch's files without PyTorch: right ones are read; damaged, hostile ones are refused, run nothing, take no memory."""

from __future__ import annotations

import io
import os
import pickle
import tracemalloc
import warnings
import zipfile
from typing import Any

import numpy as np
import pytest
import torch_writer as w
from hypothesis import given, settings
from hypothesis import strategies as st
from saved import refused
from values import normal

import tinyml
from tinyml import models
from tinyml.errors import FileError
from tinyml.io import archive

DTYPES = ("float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool")
BOTH = pytest.mark.parametrize("form", ["zip", "legacy"])


def arrays_of(seed: int, shapes: list[tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Arrays of the dtypes in turn."""
    return {f"layer.{i}": (100 * normal(*shape, seed=seed + i)).astype(DTYPES[(seed + i) % len(DTYPES)])
            for i, shape in enumerate(shapes)}


def assert_same(got: Any, expected: dict[str, np.ndarray]) -> None:
    assert list(got) == list(expected)
    for name, a in expected.items():
        assert got[name].dtype == a.dtype and got[name].shape == a.shape
        assert got[name].tobytes() == a.tobytes(), name


# ---- what is right


@settings(max_examples=60)
@given(seed=st.integers(0, 10**6), shapes=st.lists(st.lists(st.integers(0, 4), max_size=4).map(tuple), max_size=9))
def test_every_dtype_and_shape_comes_back(seed, shapes, tmp_path_factory):
    arrays = arrays_of(seed, shapes)
    path = tmp_path_factory.mktemp("torch") / "model.pt"
    for content in w.files(arrays).values():
        path.write_bytes(content)
        assert_same(tinyml.load(path), arrays)


@BOTH
def test_a_state_dict_goes_into_a_model(form, tmp_path):
    """By load_state_dict as PyTorch's users write it, or by load(model=), with DataParallel's prefix and without."""
    model = models.CifarCNN(width=4)
    state, x = model.state_dict(), normal(2, 3, 8, 8)
    path, old, parallel = tmp_path / "cnn.pt", tmp_path / "old.pt", tmp_path / "parallel.pt"
    path.write_bytes(w.files(state)[form])
    old.write_bytes(w.files({k: a for k, a in state.items() if "num_batches" not in k})[form])
    parallel.write_bytes(w.files({f"module.{k}": a for k, a in state.items()})[form])
    other = models.CifarCNN(width=4)
    other.load_state_dict(tinyml.load(path))
    assert np.array_equal(other.eval()(x).numpy(), model.eval()(x).numpy())
    for file in (path, old, parallel):
        other = models.CifarCNN(width=4)
        assert tinyml.load(file, model=other) is other and not other.training
        assert np.array_equal(other(x).numpy(), model(x).numpy())
    before = models.CifarCNN(width=8)
    kept = before.state_dict()
    refused(path, "load_state_dict of CifarCNN: .*0.weight has shape", model=before)
    assert_same(before.state_dict(), kept)
    refused(path, "unexpected 0.weight", model=models.MLP(6, 5))


def test_views_share_their_storage(tmp_path):
    """Slices, transposes and ties are views of one array; bfloat16 becomes float32; a parameter is its tensor."""
    path, values = tmp_path / "x.pt", normal(12)
    held = w.storage("7", "Float", 12)
    half = (values.view(np.uint32) >> 16).astype(np.uint16)
    views = w.plain({"all": w.tensor(held, 0, (3, 4), (4, 1)), "columns": w.tensor(held, 0, (4, 3), (1, 4)),
                     "tie": w.tensor(held, 0, (3, 4), (4, 1)), "slice": w.tensor(held, 5, (2, 1, 2), (4, 10**12, 2)),
                     "scalar": w.tensor(held, 11, (), ()), "none": w.tensor(held, 12, (0, 30), (3, 1)),
                     "wide": w.tensor(w.storage("8", "BFloat16", 12), 2, (5,), (2,)),
                     "parameter": PARAMETER + w.plain((w.tensor(held, 3, (2,), (3,)), True, w.ORDERED)) + b"R"})
    path.write_bytes(w.zipped(views, {"7": values.tobytes(), "8": half.tobytes()}, order=None))
    got = tinyml.load(path)
    a, exact = values.reshape(3, 4), (half.astype(np.uint32) << 16).view(np.float32)
    for name, expected in {"all": a, "columns": a.T, "tie": a, "slice": a[1:, None, 1::2], "scalar": values[11],
                           "none": np.zeros((0, 30), np.float32), "wide": exact[2::2], "parameter": values[[3, 6]]}.items():
        assert got[name].dtype == np.float32 and np.array_equal(got[name], expected) and got[name].shape == expected.shape
    assert np.shares_memory(got["tie"], got["columns"])


def test_a_checkpoint_gives_its_only_state_dict(tmp_path):
    path, arrays = tmp_path / "x.pt", arrays_of(1, [(2, 3), (4,)])
    state, storages = w.state_dict(arrays)
    extra = w.tensor(w.storage("9", "Float", 2), 0, (2,), (1,))
    storages["9"] = bytes(8)
    optimizer = {"state": {0: {"step": extra, "exp_avg": extra}}, "param_groups": [{"lr": 1e-3, "params": [0, 1]}]}
    for value in ({"state_dict": state, "epoch": 3}, {"epoch": 3, "model": state, "optimizer": optimizer, "best": None},
                  {"model": state, "accuracy": extra, "sizes": (1, 2.5, True), "n": 10**12, "minus": -7}):
        path.write_bytes(w.zipped(value, storages))
        assert_same(tinyml.load(path), arrays)
    for value, message in (({"model": state, "ema": state}, "got 2 in a dict of 'model', 'ema'; save the one you need"),
                           ({"epoch": 3}, "got none in a dict of 'epoch'"), ({"w": extra, "epoch": 3}, "'w', 'epoch'"),
                           ([state], "expected a state dict, got a list"), (extra, "expected a state dict, got a tensor"),
                           (None, "expected a state dict, got a NoneType")):
        path.write_bytes(w.zipped(value, storages))
        refused(path, message)


# ---- what is not. A tensor of 512 KB is in each file, so that twice the size of a file is what bounds its description.

WEIGHT = normal(2**17)
DATA = {"0": WEIGHT.tobytes(), "1": bytes(16)}
RUN = b"cos\nsystem\n" + w.plain(("touch ran",)) + b"R"
MODEL = b"ctorch.nn.modules.linear\nLinear\n)\x81"
FOUR, CLASS, PARAMETER = w.storage("1", "Float", 4), b"ctorch\nFloatStorage\n", b"ctorch._utils\n_rebuild_parameter\n"
TENSOR = w.tensor(FOUR, 0, (4,), (1,))


def around(value: bytes) -> bytes:
    """A state dict with a large tensor, and what is to be refused in the place of another."""
    return w.plain({"weight": w.tensor(w.storage("0", "Float", 2**17), 0, (2**17,), (1,)), "bias": value})


def of(held: bytes = FOUR, offset: Any = 0, shape: Any = (4,), strides: Any = (1,)) -> bytes:
    """An archive whose second tensor is this."""
    return w.zipped(around(w.tensor(held, offset, shape, strides)), DATA)


def holding(value: bytes) -> bytes:
    return w.zipped(around(value), DATA)


GOOD = of()
OLD = w.legacy(w.plain({"weight": w.tensor(w.storage("0", "Float", 2**17, True), 0, (2**17,), (1,))}), {"0": DATA["0"]},
               {"0": 2**17})


def old(held: dict[str, bytes] | None = None, sizes: dict[str, int] | None = None, **options: Any) -> bytes:
    """A legacy file with other storages, keys or byte order."""
    value = w.plain({"weight": w.tensor(w.storage("0", "Float", 2**17, True), 0, (2**17,), (1,))})
    return w.legacy(value, held or {"0": DATA["0"]}, sizes or {"0": 2**17}, **options)


TALL = w.ORDERED * 40_000
HOSTILE = {     # what is wrong: a file's content, what the error says
    # code
    "os.system": (holding(RUN), "it holds os.system; expected tensors .* nothing in a file is run"),
    "eval": (holding(b"cbuiltins\neval\n" + w.plain(("open('ran', 'w')",)) + b"R"), "it holds builtins.eval"),
    "eval of Python 2": (holding(b"c__builtin__\neval\n" + w.plain(("1",)) + b"R"), "it holds __builtin__.eval"),
    "nested reduce": (holding(b"cbuiltins\ngetattr\n" + w.plain((b"cos\n\n", "system")) + b"R" + w.plain(("x",)) + b"R"),
                      "it holds builtins.getattr"),
    "importlib": (holding(b"cimportlib\nimport_module\n" + w.plain(("antigravity",)) + b"R"), "holds importlib.import_mod"),
    "torch.load": (holding(b"ctorch\nload\n" + w.plain(("x.pt",)) + b"R"), "it holds torch.load"),
    "instance": (holding(b"(" + w.plain("touch ran") + b"ios\nsystem\n"), "opcode b'i' for"),
    "object": (holding(b"(cos\nsystem\n" + w.plain("touch ran") + b"o"), "it holds os.system"),
    "global from the stack": (holding(w.plain("os") + w.plain("system") + b"\x93"), r"opcode b'\\x93' for"),
    "extension": (holding(b"\x82\x01"), r"opcode b'\\x82' for"),
    "new object": (holding(b"ccollections\nOrderedDict\n)\x81"), r"opcode b'\\x81' for"),
    "call of a dict": (holding(b"}" + w.plain((1,)) + b"R"), "it calls what is not a function"),
    "call of a tensor": (holding(FOUR + b")R"), "it calls what is not a function"),
    "call of a class": (holding(b"ctorch\nFloatStorage\n" + w.plain((10**12,)) + b"R"), "it calls what is not a function"),
    "arguments of a list": (holding(b"ccollections\nOrderedDict\n]R"), "or without a tuple of arguments"),
    "OrderedDict of pairs": (holding(b"ccollections\nOrderedDict\n" + w.plain(([],)) + b"R"), "without arguments"),
    "attributes of a list": (holding(b"]" + w.plain({"a": 1}) + b"b"), "sets attributes of an object that"),
    "attributes of a function": (holding(w.REBUILD + w.plain({"make": RUN}) + b"b"), "it holds os.system"),
    "a whole model": (w.zipped(MODEL, DATA), r"holds torch.nn.modules.linear.Linear;.*torch.save\(model.state_"),
    "a whole old model": (w.legacy(MODEL, {}, {}) + DATA["0"], r"Linear;.*torch.save\(model.state_dict\(\), path"),
    "code in the attributes": (w.zipped(around(w.ORDERED + w.plain({"_metadata": RUN}) + b"b"), DATA), "holds os.system"),
    "code as a persistent id": (holding(RUN + b"Q"), "it holds os.system"),
    "TorchScript": (w.zipped(around(b"N"), DATA, (("archive/constants.pkl", b""),)),
                    "a TorchScript archive, which is a program"),
    # views and storages
    "offset past the end": (of(offset=1), r"shape \(4,\) reads element 4 of a storage of 4"),
    "negative offset": (of(offset=-1), "expected an offset"),
    "fractional offset": (of(offset=0.5), "expected an offset"),
    "offset of a bool": (of(offset=True), "expected an offset"),
    "strides past the end": (of(strides=(2,)), "reads element 6 of a storage of 4"),
    "negative strides": (of(offset=3, strides=(-1,)), "expected an offset, and as many sizes"),
    "huge strides": (of(strides=(2**62,)), "reads element 13835058055282163712 of a storage of 4"),
    "strides past int64": (of(strides=(2**200,)), "expected an offset, and as many sizes"),
    "no strides": (of(strides=()), "expected an offset, and as many sizes as strides"),
    "negative shape": (of(shape=(-4,)), "expected an offset"),
    "huge shape": (of(shape=(10**12,)), "reads element 999999999999 of a storage of 4"),
    "an overflow to few": (of(shape=(2**32, 2**32 + 1), strides=(0, 0)), "more elements than can be addressed"),
    "an overflow to none": (of(shape=(0, 2**62), strides=(1, 1)), "more elements than can be addressed"),
    "terabytes of one": (of(shape=(10**12,), strides=(0,)), r"repeats the 4 elements of its storage \(expand\)"),
    "33 dimensions": (of(shape=(1,) * 33, strides=(1,) * 33), "at most 32"),
    "shape of a list": (of(shape=[4]), "expected an offset"),
    "complex metadata": (holding(w.REBUILD + w.plain((FOUR, 0, (4,), (1,), False, w.ORDERED, {"conj": True})) + b"R"),
                         "or not a plain tensor"),
    "too few arguments": (holding(w.REBUILD + w.plain((FOUR, 0, (4,))) + b"R"), "or not a plain tensor"),
    "tensor of no storage": (of(held=b"N"), "or not a plain tensor"),
    "storage of no entry": (of(held=w.storage("5", "Float", 4)), "need an entry data/5, which is missing"),
    "storage too large": (of(held=w.storage("1", "Float", 5)), "expected 20 bytes of FloatStorage as data/1, got 16"),
    "storage of 2^60": (of(held=w.storage("1", "Float", 2**60), shape=(2**58,)), "expected 4611686018427387904 bytes"),
    "storage too small": (of(held=w.storage("1", "Float", 2), shape=(2,)), "expected 8 bytes .* got 16"),
    "storage of another dtype": (of(held=w.storage("1", "Double", 4)), "expected 32 bytes of DoubleStorage"),
    "one storage of two dtypes": (of(held=w.storage("0", "Byte", 2**17)), "131072 elements of FloatStorage in one place"),
    "one storage of two sizes": (of(held=w.storage("0", "Float", 4)), "in one place, 4 of FloatStorage in another"),
    "storage of a complex dtype": (of(held=w.storage("1", "ComplexFloat", 2)), "it holds torch.ComplexFloatStorage"),
    "key of a path": (of(held=w.storage("../version", "Byte", 2)), "expected the class, key, device and size"),
    "key of a number": (of(held=w.storage(1, "Float", 4)), "expected the class, key, device and size"),
    "size of a string": (of(held=w.storage("1", "Float", "4")), "expected the class, key, device and size"),
    "class of a string": (of(held=w.plain(("storage", "Float", "1", "cpu", 4)) + b"Q"), "expected the class, key, dev"),
    "persistent id of a list": (of(held=w.plain(["storage", CLASS, "1", "cpu", 4]) + b"Q"), "expected a persistent id"),
    "persistent id of nothing": (of(held=b"NQ"), "expected a persistent id of a storage"),
    "persistent id of four": (of(held=w.plain(("storage", CLASS, "1", "cpu")) + b"Q"), "expected a persistent id"),
    "persistent id of a module": (of(held=w.plain(("module", CLASS, "1", "cpu", 4)) + b"Q"), "expected a persistent id"),
    "parameter of a number": (holding(PARAMETER + w.plain((1, True, w.ORDERED)) + b"R"), "expected the tensor of a param"),
    "parameter of four": (holding(PARAMETER + w.plain((TENSOR, True, w.ORDERED, {})) + b"R"), "the tensor of a parameter"),
    "view of a view": (of(held=w.storage("1", "Float", 4, legacy=True)), "expected a persistent id of a storage"),
    "bool of 2": (w.zipped(around(w.tensor(w.storage("2", "Bool", 2), 0, (2,), (1,))), {**DATA, "2": b"\1\2"}),
                  "holds bytes other than 0 and 1"),
    # pickles
    "a protocol again": (holding(b"\x80\x04"), r"opcode b'\\x80' for"),
    "nothing on the stack": (w.zipped(b"a", DATA), "an opcode lacks its operands"),
    "a mark as an operand": (w.zipped(b"((\x85", DATA), "an opcode lacks its operands"),
    "no mark": (w.zipped(b"NNt", DATA), "an opcode lacks its mark"),
    "two objects": (w.zipped(b"NN", DATA), "it ends within an object"),
    "bytes behind the end": (w.zipped(b"N.N", DATA), "bytes follow its end"),
    "no end": (w.zipped(b"X\xff\0\0\0", DATA), "the pickle is cut"),
    "a long string": (w.zipped(b"X\xff\xff\xff\x7f", DATA), "strings of at most 65536 bytes, got one of 2147483647"),
    "no UTF-8": (w.zipped(b"X\1\0\0\0\xff", DATA), "a string is not UTF-8"),
    "a far memo": (w.zipped(b"Nr\xff\xff\xff\x7f", DATA), "expected memo entry 0 next, got 2147483647"),
    "memo of nothing": (w.zipped(b"h\0", DATA), "memo entry 0 of 0"),
    "no end of a global": (w.zipped(b"c" + b"a" * 10**5, DATA), "the name of a global has no end"),
    "a key twice": (w.zipped(b"}(" + 2 * (w.plain("a") + b"N") + b"u", DATA), "the key 'a' comes twice"),
    "a key without value": (w.zipped(b"}(" + w.plain("a") + b"u", DATA), "a key without a value"),
    "a nested key": (w.zipped(b"})" + b"\x85" * 10_000 + b"Ns", DATA), "as keys, got a tuple"),
    "keys that collide": (w.zipped(w.plain({2**61 - 1: 0}), DATA), "small whole numbers as keys, got a int"),
    "an item of nothing": (w.zipped(b"Na", DATA), "expected a list to put values in"),
    "attributes of nothing": (w.zipped(b"}b", DATA), "sets attributes of an object that"),
    "append to a dict": (w.zipped(b"}Na", DATA), "expected a list to put values in"),
    "deep lists": (w.zipped(b"]" * 10_000 + b"a" * 9_999, DATA), "expected a state dict, got a list"),
    "deep tuples": (w.zipped(b")" + b"\x85" * 10_000, DATA), "expected a state dict, got a tuple"),
    "deep dicts": (w.zipped(b"}" + (w.plain("a") + b"}") * 2_999 + b"s" * 2_999, DATA), "got none in a dict of 'a'"),
    "a list in itself": (w.zipped(b"]q\0h\0a", DATA), "expected a state dict, got a list"),
    "a dict in itself": (w.zipped(b"}q\0" + w.plain("a") + b"h\0s", DATA), "got none in a dict of 'a'"),
    "a million dicts": (w.zipped(b"}" * 10**6, DATA), "takes more than 3.* bytes"),
    "a million lists": (w.zipped(b"(" + b"]q\0" * 400_000 + b"t", DATA), "its description takes more than"),
    "growing tuples": (w.zipped(b")" + b"q\0h\0h\0h\0\x87" * 200_000, DATA), "expected memo|takes more than"),
    "tuples of a tuple": (w.zipped(b"Nq\0(" + b"h\0" * 50_000 + b"tq\1" + b"h\1\x85" * 300_000, DATA), "takes more than"),
    "many dicts of the table": (w.zipped(w.plain([TALL]), DATA), "takes more than"),
    "a million numbers": (w.zipped(b"](" + b"M\xff\xff" * 10**6 + b"e", DATA), "takes more than"),
    "one number again": (w.zipped(b"](" + b"K\1" * 10**6 + b"e", DATA), "takes more than"),
    "many storages": (w.zipped(b"(" + b"".join(w.storage(str(i), "Float", 4) for i in range(10_000)) + b"t", DATA),
                      "takes more than|expected a state dict, got a tuple"),
    # archives
    "a file of zeros": (b"PK\3\4" + bytes(10**5), "its directory is missing"),
    "no directory": (GOOD[:-22], "its directory is missing"),
    "a directory of 60,000": (w.patched(w.patched(GOOD, b"PK\5\6", 8, "<H", 60_000), b"PK\5\6", 10, "<H", 60_000),
                              "expected its directory of 60000 entries before byte"),
    "a directory past the end": (w.patched(GOOD, b"PK\5\6", 16, "<L", 2**31), "from byte 2147483648"),
    "a directory of 4 GB": (w.patched(GOOD, b"PK\5\6", 12, "<L", 2**32 - 2), "got 4294967294 bytes"),
    "a directory elsewhere": (w.patched(GOOD, b"PK\5\6", 16, "<L", 0), "its directory is not what its end says"),
    "fewer entries": (w.patched(GOOD, b"PK\5\6", 10, "<H", 3), "its directory is not what its end says"),
    "more entries": (w.patched(GOOD, b"PK\5\6", 10, "<H", 6), "it ends before byte"),
    "a directory without its magic": (w.patched(GOOD, b"PK\1\2", 3, "<B", 9), "its directory is not what its end says"),
    "a name past the directory": (w.patched(GOOD, b"PK\1\2", 28, "<H", 60_000), "its directory is not what its end says"),
    "zip64": (w.patched(GOOD, b"PK\5\6", 10, "<H", 0xFFFF), "archives with 65,535 or more"),
    "zip64 by its size": (w.patched(GOOD, b"PK\5\6", 16, "<L", 2**32 - 1), "archives with 65,535 or more"),
    "a comment that is not there": (w.patched(GOOD, b"PK\5\6", 20, "<H", 1), "its directory is missing"),
    "an entry without its magic": (w.patched(GOOD, b"PK\3\4", 3, "<B", 5), "there is no entry 'archive/version'"),
    "compressed": (w.zipped(around(b"N"), DATA, method=zipfile.ZIP_DEFLATED), "compressed or encrypted"),
    "a bomb": (w.zipped(around(b"N"), {"0": bytes(10**8)}, method=zipfile.ZIP_DEFLATED), "compressed or encrypted"),
    "encrypted": (w.patched(GOOD, b"PK\1\2", 8, "<H", 1, 4), "'data.pkl' is compressed or encrypted"),
    "a larger size": (w.patched(GOOD, b"PK\1\2", 24, "<L", 2**30, 4), "'data.pkl' is compressed"),
    "more bytes": (w.patched(GOOD, b"PK\1\2", 20, "<L", 2**30, 4), "'archive/data.pkl' ends at byte .*, but the next"),
    "one entry in another": (w.patched(w.patched(GOOD, b"PK\1\2", 20, "<L", 2**12, 1), b"PK\1\2", 24, "<L", 2**12, 1),
                             "'archive/data/1' ends at byte .*, but the next one"),
    "an entry past the end": (w.patched(GOOD, b"PK\1\2", 42, "<L", 2**31, 1), "begins at byte 2147483648"),
    "an entry elsewhere": (w.patched(GOOD, b"PK\1\2", 42, "<L", 7, 1), "at byte 7 there is no entry 'archive/data/1'"),
    "another entry's bytes": (w.patched(GOOD, b"PK\1\2", 42, "<L", 0, 1), "at byte 0 there is no entry 'archive/data/1'"),
    "another CRC": (w.patched(GOOD, b"PK\1\2", 16, "<L", 0, 1), "the CRC-32 of the 16 bytes at .* expected 00000000"),
    "another number": (GOOD.replace(WEIGHT[9:10].tobytes(), b"\0\0\0\1", 1), "the CRC-32 of the 524288 bytes"),
    "an entry twice": (w.zipped(around(b"N"), DATA, (("archive/data/1", bytes(16)),)), "'archive/data/1' comes twice"),
    "a pickle twice": (w.zipped(around(b"N"), DATA, (("other/data.pkl", b"N."),)), "without one data.pkl"),
    "no pickle": (w.zipped(around(b"N"), DATA).replace(b"data.pkl", b"data.pk1"), "without one data.pkl"),
    "a path up": (w.zipped(around(b"N"), DATA, (("archive/../../ran", b"x"),)), "is not a valid name"),
    "a path from the root": (w.zipped(around(b"N"), DATA, (("/etc/ran", b"x"),)), "is not a valid name"),
    "a path of Windows": (GOOD.replace(b"archive/version", b"archive\\version"), "is not a valid name"),
    "a name that ends early": (GOOD.replace(b"archive/version", b"archive/v\0rsion"), "is not a valid name"),
    "a name of no text": (GOOD.replace(b"archive/version", b"archive/\xffersion"), "is not a valid name"),
    "big-endian": (w.zipped(around(b"N"), DATA, order=b"big"), "its numbers are not little-endian"),
    "an order of a megabyte": (w.zipped(around(b"N"), DATA, order=b"little" * 170_000), "numbers are not little-endian"),
    # legacy files
    "old, a view of a view": (w.legacy({"a": w.plain(("storage", CLASS, "0", "cpu", 4, ("1", 0, 4))) + b"Q"}, {}, {})
                              + DATA["0"], "expected a persistent id of a storage"),
    "old, another version": (OLD.replace(b"\x8a\x02\xe9\x03.", b"\x8a\x02\xe8\x03."), "expected version 1001"),
    "old, big-endian": (old(little=False), "with little-endian numbers"),
    "old, of no system": (b"".join(map(w.pickled, (w.MAGIC, 1001, [], "N"))) + DATA["0"], "with little-endian numbers"),
    "old, other keys": (old(keys=["1"]), "storages in the file are not those"),
    "old, a key twice": (old(keys=["0", "0"]), "storages in the file are not those"),
    "old, keys of numbers": (old(keys=[0, "0"]), "storages in the file are not those"),
    "old, no keys": (old(keys={}), "storages in the file are not those"),
    "old, fewer elements": (old(sizes={"0": 3}), "expected 131072 elements of FloatStorage as storage 0, got 3"),
    "old, 2^62 elements": (old(sizes={"0": 2**62}), "got 4611686018427387904 in"),
    "old, less than none": (old(sizes={"0": -1}), "got -1 in"),
    "old, cut": (OLD[:-1], "in 524287 bytes; the file may be cut"),
    "old, more": (OLD + b"\0", "1 bytes follow the last storage"),
    "old, cut in half": (OLD[:-2**18], "in 262144 bytes; the file may be cut"),
    "old, code": (w.legacy({"a": RUN}, {}, {}) + DATA["0"], "it holds os.system"),
    "old, code in its keys": (old(keys=RUN), "it holds os.system"),
    "old, bombs": (w.legacy(b"}" * 10**6, {}, {}), "its description takes more than"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_and_damaged_files_are_refused(what, tmp_path, monkeypatch):
    """FileError says why, nothing is run, and no more is allocated than twice the file's size."""
    content, message = HOSTILE[what]
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    monkeypatch.chdir(tmp_path)
    refused(path, message)      # once before memory is counted: modules are imported and code is compiled on the way
    tracemalloc.start()
    try:
        with pytest.raises(FileError):
            tinyml.load(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= 2 * len(content)
    assert os.listdir(tmp_path) == ["model.pt"]


def test_a_file_that_shrinks_while_it_is_read():
    with pytest.raises(FileError, match="the file is cut"):
        list(archive.pieces(io.BytesIO(b"abc"), 5))


def test_the_payload_is_live(tmp_path, monkeypatch):
    """The code in the hostile files does run in Python's own unpickler."""
    monkeypatch.chdir(tmp_path)
    pickle.loads(b"\x80\x02" + RUN + b".")
    assert os.listdir(tmp_path) == ["ran"]


@BOTH
def test_every_truncation_is_refused(form, tmp_path):
    content, path = w.files(arrays_of(3, [(3, 4), (5,), (2, 2, 2), ()]))[form], tmp_path / "model.pt"
    for n in range(len(content)):
        path.write_bytes(content[:n])
        with pytest.raises(FileError, match=r"^.*model\.pt: "):
            tinyml.load(path)


@BOTH
@settings(max_examples=400)
@given(data=st.data())
def test_damaged_bytes_give_an_error_or_the_right_dict(form, data, tmp_path_factory):
    """Numbers and names of the old format have no checksum: there the arrays may be others."""
    arrays = arrays_of(3, [(3, 4), (5,), (2, 2, 2), ()])
    content = bytearray(w.files(arrays)[form])
    path = tmp_path_factory.getbasetemp() / "damaged.pt"
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        got = tinyml.load(path)
    except FileError as error:
        assert str(path) in str(error)
        return
    if form == "zip":
        assert_same(got, arrays)
    assert all(type(name) is str and type(a) is np.ndarray for name, a in got.items())


@settings(max_examples=600)
@given(data=st.data())
def test_descriptions_that_say_something_else(data, tmp_path_factory):
    """Opcodes changed, dropped or repeated, and the checksum right: an error, or arrays within the storages."""
    value, storages = w.state_dict(arrays_of(3, [(3, 4), (5,), (2, 2, 2), ()]))
    changed = bytearray(value)
    for _ in range(data.draw(st.integers(1, 4))):
        at, other = (data.draw(st.integers(0, len(value) - 1)) for _ in range(2))
        end = data.draw(st.integers(at, min(at + 12, len(value))))
        changed[at:end] = data.draw(st.sampled_from([b"", bytes(value[other : other + end - at])]) | st.binary(max_size=3))
    path = tmp_path_factory.getbasetemp() / "changed.pt"
    path.write_bytes(w.zipped(bytes(changed), storages))
    try:
        got = tinyml.load(path)
    except FileError as error:
        assert str(path) in str(error) and "damaged description" not in str(error)
        return
    assert sum(a.size for a in got.values()) < 10**6 and all(a.tobytes() is not None for a in got.values())


# ---- with PyTorch


def twin(torch: Any, width: int) -> Any:
    """models.CifarCNN in PyTorch, with moments as after some training."""
    nn = torch.nn

    def block(i: int, o: int) -> list:
        return [nn.Conv2d(i, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU()]

    model = nn.Sequential(*block(3, width), *block(width, width), nn.MaxPool2d(2),
                          *block(width, 2 * width), *block(2 * width, 2 * width), nn.MaxPool2d(2),
                          *block(2 * width, 4 * width), *block(4 * width, 4 * width),
                          nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * width, 10))
    model.train()
    with torch.no_grad():
        for _ in range(3):
            model(torch.randn(8, 3, 16, 16))
    return model.eval()


@pytest.mark.parity
def test_a_model_of_torch_gives_torchs_logits(tmp_path):
    torch = pytest.importorskip("torch", reason="compares live with PyTorch: pip install '.[parity]'")
    torch.manual_seed(0)
    model, x, path = twin(torch, 16), normal(4, 3, 32, 32), tmp_path / "cifar10_cnn.pt"
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.from_numpy(x)).sum().backward()
    optimizer.step()
    with torch.no_grad():
        expected = model(torch.from_numpy(x)).numpy()
    state = model.state_dict()
    for value, options in ((state, {}), (state, {"_use_new_zipfile_serialization": False}),
                           ({"model": state, "optimizer": optimizer.state_dict(), "epoch": 3, "loss": 0.5}, {}),
                           (torch.nn.DataParallel(model).state_dict(), {}), (model.state_dict(keep_vars=True), {})):
        torch.save(value, path, **options)
        loaded = tinyml.load(path, model=models.CifarCNN(width=16))
        with tinyml.no_grad():
            assert np.abs(loaded(x).numpy() - expected).max() < 1e-4 * min(np.abs(expected).max(), 1)


@pytest.mark.parity
@pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}], ids=["zip", "legacy"])
def test_what_torch_writes_is_what_torch_reads(options, tmp_path):
    """Every dtype, views, ties and empty tensors; and PyTorch reads the files of torch_writer.py as tinyml does."""
    torch = pytest.importorskip("torch", reason="compares live with PyTorch: pip install '.[parity]'")
    base, path = torch.randn(6, 4), tmp_path / "x.pt"
    values = {dtype: (10 * torch.randn(3, 5)).to(getattr(torch, dtype)) for dtype in (*DTYPES, "bfloat16")}
    values |= {"base": base, "transposed": base.T, "slice": base[1::2, 1:3], "tie": base, "scalar": base[2, 3],
               "none": base[:0], "last": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last)}
    torch.save(values, path, **options)
    got = tinyml.load(path)
    assert list(got) == list(values)
    for name, t in values.items():
        expected = (t.float() if t.dtype == torch.bfloat16 else t).numpy()
        assert got[name].dtype == expected.dtype and np.array_equal(got[name], expected)
    with pytest.raises(FileError, match=r"torch.save\(model.state_dict\(\), path\)"):
        torch.save(torch.nn.Linear(2, 3), path, **options)
        tinyml.load(path)
    arrays = arrays_of(5, [(2, 3), (4,), ()] * 3)
    path.write_bytes(w.files(arrays)["legacy" if options else "zip"])
    assert_same({name: t.numpy() for name, t in torch.load(path, weights_only=True).items()}, arrays)


@pytest.mark.parity
def test_programs_of_torch_are_refused_by_name(tmp_path):
    torch = pytest.importorskip("torch", reason="compares live with PyTorch: pip install '.[parity]'")
    model = torch.nn.Linear(2, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")     # PyTorch's own, of what it will drop
        torch.jit.save(torch.jit.script(model), tmp_path / "script.pt")
        torch.export.save(torch.export.export(model, (torch.ones(1, 2),)), tmp_path / "export.pt2")
    refused(tmp_path / "script.pt", r"a TorchScript archive, which is a program .*torch.save\(model.state_dict\(\), path")
    refused(tmp_path / "export.pt2", "a zip archive without one data.pkl")
