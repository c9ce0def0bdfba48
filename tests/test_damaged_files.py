"""Files that are damaged or foreign: FileError says what is wrong."""

from __future__ import annotations

import builtins
import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save as to_bytes
from saved import KINDS, ROWS, made, memory_below, opened, refused, rewrite

import tinyml
from tinyml import io, models
from tinyml.io import container

every_kind = pytest.mark.parametrize("kind", KINDS)


# ---- files that are no model


def test_places_that_cannot_be_read(tmp_path, monkeypatch):
    refused(tmp_path / "model", "no such file")
    refused(tmp_path, "expected a file, got a directory")
    refused(Path(os.devnull), "expected a file, got a directory or a device")
    models.MLP(6, 5).save(tmp_path / "model")

    def denied(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(builtins, "open", denied)
        refused(tmp_path / "model", "cannot read: Permission denied")


def header(entries: Any, data: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file with any header; text is taken as it is."""
    text = (entries if isinstance(entries, str) else json.dumps(entries)).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tensor(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


OURS = {"__metadata__": {"tinyml": "{}"}}
ENTRY = json.dumps(tensor())


def ours(size: int, **entries: Any) -> bytes:
    """A file with tinyml's description, these tensors in its header, and so many bytes behind it."""
    return header({**OURS, **entries}, b"\0" * size)


HEADERS = {     # what is wrong: a file's content, what the error says
    "empty": (b"", "expected a model of at least 8 bytes, got an empty file"),
    "short": (b"\0" * 4, "at least 8 bytes, got 4 bytes"),
    "zip": (b"PK\3\4" + b"\0\0\0\1" * 20, "a zip archive that is cut or damaged"),
    "NumPy": (b"\x93NUMPY\1\0" + b"\0" * 80, "not a safetensors file: looks like a NumPy array; load it with"),
    "pickle": (b"\x80\x02}q\0X\1\0\0\0" * 9, "looks like a PyTorch file .a pickle."),
    "cut in its header": (header(OURS)[:-3], "cut, or not a safetensors file: its header has 34 bytes, more than the 31"),
    "header of 2^63 bytes": (header("{}", length=2**63), "its header has 9223372036854775808 bytes, more than the 2 of"),
    "no JSON": (header("hello"), "damaged header: not JSON: Expecting value"),
    "no object": (header("[]"), "damaged header: expected a JSON object, got a list"),
    "bytes that are no text": (struct.pack("<Q", 2) + b"{\xff", "damaged header: not JSON: 'utf-8' codec"),
    "UTF-16": (struct.pack("<Q", 4) + "{}".encode("utf-16-le"), "damaged header: not JSON"),
    "nested": (header("[" * 100_000), "damaged header: not JSON"),
    "NaN": (header('{"a": NaN}'), "damaged header: NaN is not valid JSON"),
    "a long number": (header(json.dumps(OURS)[:-1] + ', "a": 1' + "0" * 5000 + "}"), "damaged header"),
    "a tensor twice": (header(f'{{"a": {ENTRY}, "a": {ENTRY}}}', b"\0" * 8), "damaged header: the name 'a' comes twice"),
    "a field twice": (header('{"a": {"dtype": "F32", "dtype": "I32"}}'), "the name 'dtype' comes twice"),
    "metadata twice": (header('{"__metadata__": {"a": "1", "a": "2"}}'), "the name 'a' comes twice"),
    "no description": (to_bytes({"w": ROWS}), "without tinyml's description; load its arrays with .* load_state_dict"),
    "another's metadata": (to_bytes({"w": ROWS}, {"format": "pt"}), "without tinyml's description"),
    "another's dtypes": (header({"w": tensor("BF16", [4])}, b"\0" * 8), "without tinyml's description"),
    "metadata of a list": (header({"__metadata__": [1]}), "without tinyml's description"),
    "no digest": (header(OURS), "expected version 2 of the format, got None"),
    "unknown dtype": (ours(8, a=tensor("F33")), "tensor 'a': expected a dtype of F64, .*, got 'F33'"),
    "dtype of a list": (ours(8, a=tensor(["F32"])), r"expected a dtype of .*, got \['F32'\]"),
    "entry of a list": (ours(8, a=[1]), r"expected dtype, shape and data_offsets, got \[1\]"),
    "entry without shape": (ours(8, a={"dtype": "F32", "data_offsets": [0, 8]}), "expected dtype, sh"),
    "negative shape": (ours(8, a=tensor(shape=[-2])), "expected a shape of up to 32 whole numbers"),
    "fractional shape": (ours(8, a=tensor(shape=[2.0])), r"expected a shape .*, got \[2.0\]"),
    "33 dimensions": (ours(8, a=tensor(shape=[1] * 32 + [2])), "expected a shape of up to 32"),
    "negative offsets": (ours(8, a=tensor(offsets=[-8, 0])), "expected its first byte and the byte after its last"),
    "reversed offsets": (ours(8, a=tensor(offsets=[8, 0])), "expected its first byte and the byte after its last"),
    "three offsets": (ours(8, a=tensor(offsets=[0, 4, 8])), "expected its first byte and the byte after its last"),
    "overlap": (ours(12, a=tensor(), b=tensor(offsets=[4, 12])),
                "tensor 'b' begins at byte 4, expected 8: it overlaps another"),
    "one inside another": (ours(8, a=tensor(), b=tensor()), "begins at byte 0, .* it overlaps"),
    "gap": (ours(24, a=tensor(), b=tensor(offsets=[16, 24])),
            "tensor 'b' begins at byte 16, expected 8: there is a gap before it"),
    "outside": (ours(8, a=tensor(offsets=[8, 16])), "it ends at byte 16 of 8; the file may be cut"),
    "cut in its data": (ours(4, a=tensor()), "it ends at byte 8 of 4; the file may be cut"),
    "more data": (ours(12, a=tensor()), "4 bytes follow the last tensor"),
    "another size": (ours(8, a=tensor(shape=[3])), r"expected 12 bytes for shape \[3\] of F32, got 8"),
    "2^64 elements": (ours(8, a=tensor(shape=[2**32, 2**32])), "more elements than can be addressed"),
    "none of 2^62": (ours(0, a=tensor(shape=[0, 2**62], offsets=[0, 0])), "more elements than can be addressed"),
    "2^31 GB": (ours(0, a=tensor(shape=[2**60], offsets=[0, 2**62])), "it ends at byte 4611686018427387904 of 0"),
    "bool of 2": (header({**OURS, "a": tensor("BOOL", [2], [0, 2])}, b"\1\2"), "BOOL holds bytes other than 0 and 1"),
}


@pytest.mark.parametrize("what", HEADERS)
def test_what_is_wrong_with_a_header_is_said(what, tmp_path):
    content, message = HEADERS[what]
    path = tmp_path / "model"
    path.write_bytes(content)
    with memory_below(2**20 + 20 * len(content)):
        refused(path, message)


def test_a_header_past_the_limit_is_not_read(tmp_path):
    path = tmp_path / "model"
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", container.HEADER_LIMIT + 1))
        file.truncate(container.HEADER_LIMIT + 100)      # a hole: no disk is used
    with memory_below(2**20):
        refused(path, "its header has 100000001 bytes, the limit is 100000000")


# ---- the digest, and the version


@pytest.mark.parametrize("kind", ["MLP", "dynamic per tensor", "static integers"])
def test_a_flipped_bit_anywhere_is_noticed(kind, tmp_path):
    model, _ = made(kind)
    path = tmp_path / "model"
    content = io.serialize(model)
    start = 8 + struct.unpack("<Q", content[:8])[0]
    rng = np.random.default_rng(4)
    for at in rng.permutation(len(content))[:1500]:
        damaged = bytearray(content)
        damaged[at] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        refused(path, "damaged, or edited: its content differs from its digest" if at >= start else "")
    path.write_bytes(content)
    assert io.serialize(tinyml.load(path)) == content


def test_the_digest_covers_names_shapes_and_the_description(tmp_path):
    path = tmp_path / "model"
    models.MLP(6, 5, 6).save(path)
    about, arrays = opened(path)
    swapped = {**arrays, "1.weight": arrays["3.weight"], "3.weight": arrays["1.weight"]}
    other = {**arrays, "1.bias": arrays["1.bias"].view(np.int32)}
    reshaped = {**arrays, "1.weight": arrays["1.weight"].reshape(3, 10)}
    renamed = {"1.biat" if name == "1.bias" else name: a for name, a in arrays.items()}
    for text, found in ((about, swapped), (about, other), (about, reshaped), (about, renamed),
                        ({**about, "ties": {"a": "b"}}, arrays),
                        ({**about, "digest": about["digest"].upper()}, arrays), ({**about, "digest": None}, arrays),
                        ({**about, "digest": ""}, arrays), ({k: v for k, v in about.items() if k != "digest"}, arrays)):
        path.write_bytes(to_bytes(found, {"tinyml": json.dumps(text, separators=(",", ":"))}))
        refused(path, "damaged, or edited: its content differs from its digest")
    path.write_bytes(to_bytes(arrays, {"tinyml": json.dumps(about, separators=(",", ":"))}))
    tinyml.load(path)


def test_versions_say_what_to_do(tmp_path):
    path = tmp_path / "model"
    models.MLP(6, 5).save(path)
    good = opened(path)[0]
    for version, message in ((1, "got 1: an older tinyml wrote it; build the model again with this one"),
                             (3, "got 3: a newer tinyml wrote it, upgrade"), ("2", "got '2'"), (None, "got None")):
        rewrite(path, {**good, "version": version})
        refused(path, "expected version 2 of the format, " + message)
    old = {k: v for k, v in good.items() if k != "digest"}      # before there was one
    path.write_bytes(to_bytes({}, {"tinyml": json.dumps({**old, "version": 1})}))
    refused(path, "expected version 2 of the format, got 1: an older tinyml")


def test_descriptions_that_are_none(tmp_path):
    path = tmp_path / "model"
    for text, message in (("{", "damaged description: not JSON"), ("[" * 100_000, "damaged description: not JSON"),
                          ("7", "damaged description: expected a JSON object, got a int"),
                          ('{"kind": "plan", "kind": "module"}', "damaged description: the name 'kind' comes twice"),
                          ('{"a": {"b": [{"c": 1, "c": 1}]}}', "damaged description: the name 'c' comes twice"),
                          ('{"a": -Infinity}', "damaged description: -Infinity is not valid JSON")):
        path.write_bytes(to_bytes({}, {"tinyml": text}))
        refused(path, message)
    models.MLP(6, 5).save(path)
    good = opened(path)[0]
    rewrite(path, {**good, "kind": "dataset"})
    refused(path, "expected a module or a plan, got 'dataset'")
    rewrite(path, {k: v for k, v in good.items() if k != "recipe"})
    refused(path, "damaged description: KeyError: 'recipe'")


@every_kind
def test_every_truncation_is_refused(kind, tmp_path):
    model, _ = made(kind)
    path = tmp_path / "model"
    content = io.serialize(model)
    start = 8 + struct.unpack("<Q", content[:8])[0]
    sizes = [*range(12), start - 1, start, start + 1, len(content) - 1,
             *np.random.default_rng(0).integers(12, len(content), 12)]
    for n in sizes:
        path.write_bytes(content[:n])
        refused(path, "empty file|at least 8 bytes|cut")
    path.write_bytes(content + b"\0")
    refused(path, "1 bytes follow the last tensor")


@every_kind
def test_damaged_headers(kind, tmp_path):
    """Bits flipped, bytes replaced and digits changed between the start of the file and its first array."""
    model, _ = made(kind)
    path = tmp_path / "model"
    content = io.serialize(model)
    start = 8 + struct.unpack("<Q", content[:8])[0]
    digits = [i for i in range(8, start) if chr(content[i]).isdigit()]
    rng = np.random.default_rng(1)
    for i in range(60):
        damaged = bytearray(content)
        for _ in range(rng.integers(1, 4)):
            if i % 3 == 0:
                damaged[rng.integers(start)] ^= 1 << rng.integers(8)
            elif i % 3 == 1:
                damaged[rng.integers(start)] = rng.choice(list(b'{}[]",:0159-.eEtfn \0'))
            else:
                damaged[rng.choice(digits)] = rng.choice(list(b"0123456789"))
        path.write_bytes(damaged)
        if damaged != content:
            refused(path, "")
