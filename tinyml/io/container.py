"""A tinyml file as bytes: safetensors, a JSON description in its metadata, and a digest of both.

The safetensors library writes the files, but they are read here, so that everything is checked before memory is allocated.
The library takes the last of two equal names, and has one message for overlaps, gaps and offsets outside the file.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from safetensors.numpy import save as to_bytes

from ..errors import FileError

VERSION = 2
HEADER_LIMIT = 100_000_000      # bytes, the limit of the safetensors library
DIMENSIONS = 32                 # the limit of NumPy 1
UNSIGNED = "0" * 64             # stands for the digest while it is computed
DTYPES = {name: np.dtype(kind) for name, kind in (
    ("F64", "<f8"), ("F32", "<f4"), ("F16", "<f2"), ("I64", "<i8"), ("I32", "<i4"), ("I16", "<i2"), ("I8", "i1"),
    ("U64", "<u8"), ("U32", "<u4"), ("U16", "<u2"), ("U8", "u1"), ("BOOL", "?"))}
FOREIGN = {b"PK\x03\x04": "looks like a PyTorch file (a zip archive)", b"\x80\x02": "looks like a PyTorch file (a pickle)",
           b"\x80\x04": "looks like a pickle", b"\x93NUMPY": "looks like a NumPy array", b"GGUF": "looks like a GGUF file"}


def pack(about: dict[str, Any], arrays: dict[str, np.ndarray]) -> bytes:
    """The bytes of a file. The version of the format and the digest are added to the description.

    Raises:
        FileError: the description is longer than `unpack` reads.
    """
    arrays = {name: np.asarray(a, order="C") for name, a in arrays.items()}
    text = json.dumps({"version": VERSION, "digest": UNSIGNED, **about}, separators=(",", ":"), allow_nan=False)
    content = to_bytes(arrays, {"tinyml": text.replace(UNSIGNED, content_digest(text, arrays), 1)})
    length = int.from_bytes(content[:8], "little")
    if length > HEADER_LIMIT:
        raise FileError(f"save: numbers, strings and names take {length} bytes, the limit is {HEADER_LIMIT}; make arrays "
                        "of long lists of numbers")
    return content


def content_digest(text: str, arrays: dict[str, np.ndarray]) -> str:
    """SHA-256 of the description, with zeros for its digest, and of each array by name: dtype, shape, bytes."""
    found = hashlib.sha256(text.encode("utf-8", "surrogatepass"))
    for name in sorted(arrays):
        a = arrays[name]
        found.update(json.dumps([name, a.dtype.name, a.shape]).encode())
        found.update(a.reshape(-1).view(np.uint8).data)
    return found.hexdigest()


def unpack(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The description and the arrays of a file, as `pack` was given them.

    Raises:
        FileError: the file is missing, unreadable, damaged, or not written by this version of tinyml.
    """
    with opened(path) as (file, size):
        header = _read_header(file, size)
        text = _description(header)
        arrays = {stored.name: read_array(file, stored) for stored in _check_entries(header, size - file.tell(), DTYPES)}
    return _verified(text, arrays), arrays


@contextmanager
def opened(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """Open a file for reading, and give it with its size.

    Raises:
        FileError: the file is missing, is a directory or a device, or cannot be read.
    """
    try:
        if not path.exists():
            raise FileError("no such file")
        if not path.is_file():
            raise FileError("expected a file, got a directory or a device")
        with open(path, "rb") as file:
            yield file, os.fstat(file.fileno()).st_size
    except OSError as error:
        raise FileError(f"cannot read: {error.strerror or error}") from error


class Stored(NamedTuple):
    """What the header of a file says about an array."""

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]


def stored(file: BinaryIO, size: int, dtypes: dict[str, np.dtype] = DTYPES) -> list[Stored]:
    """The arrays that a safetensors file of `size` bytes holds, in the order of their bytes; `file` then is at the first.

    Args:
        dtypes: the dtypes that arrays may have, by their names in the header.

    Raises:
        FileError: the header is damaged, or describes more than the file holds.
    """
    header = _read_header(file, size)
    return _check_entries(header, size - file.tell(), dtypes)


def parse(text: str | bytes, what: str) -> dict[str, Any]:
    """Parse a JSON object in which no name comes twice.

    Raises:
        FileError: the text is anything else; the message names `what`.
    """
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in pairs:
            if name in found:
                raise FileError(f"damaged {what}: the name {name!r} comes twice")
            found[name] = value
        return found

    def refuse(constant: str) -> None:
        raise FileError(f"damaged {what}: {constant} is not valid JSON")

    try:
        text = text.decode("utf-8") if isinstance(text, bytes) else text
        value = json.loads(text, object_pairs_hook=unique, parse_constant=refuse)
    except FileError:
        raise
    except (ValueError, RecursionError) as error:       # not JSON or UTF-8, nested too deeply, too long a number
        raise FileError(f"damaged {what}: not JSON: {error}") from error
    if not isinstance(value, dict):
        raise FileError(f"damaged {what}: expected a JSON object, got a {type(value).__name__}")
    return value


def _read_header(file: BinaryIO, size: int) -> dict[str, Any]:
    """The JSON object at the start of the file. The eight bytes before it hold its length."""
    first = file.read(8)
    if len(first) < 8:
        raise FileError(f"expected a model of at least 8 bytes, got {'an empty file' if not size else f'{size} bytes'}")
    length = int.from_bytes(first, "little")
    if length > min(size - 8, HEADER_LIMIT):
        for magic, guess in FOREIGN.items():
            if first.startswith(magic):
                raise FileError(f"not a safetensors file: {guess}; load it with the framework that wrote it, and give its "
                                "arrays to load_state_dict")
        limit = f"more than the {size - 8} of the file" if length > size - 8 else f"the limit is {HEADER_LIMIT}"
        raise FileError(f"cut, or not a safetensors file: its header has {length} bytes, {limit}")
    return parse(file.read(length), "header")


def _check_entries(header: dict[str, Any], size: int, dtypes: dict[str, np.dtype]) -> list[Stored]:
    """The arrays in the order of their bytes, which must fill the `size` bytes after the header."""
    found = [(*_check_entry(name, entry, size, dtypes), name) for name, entry in header.items() if name != "__metadata__"]
    found.sort(key=lambda entry: entry[:2])
    at = 0
    for begin, end, *_, name in found:
        if begin != at:
            raise FileError(f"damaged header: tensor {name!r} begins at byte {begin}, expected {at}: "
                            + ("it overlaps another" if begin < at else "there is a gap before it"))
        at = end
    if at != size:
        raise FileError(f"damaged header: {size - at} bytes follow the last tensor")
    return [Stored(name, dtype, shape) for _, _, dtype, shape, name in found]


def _check_entry(name: str, entry: Any, size: int,
                 dtypes: dict[str, np.dtype]) -> tuple[int, int, np.dtype, tuple[int, ...]]:
    """The first byte, the byte after the last, the dtype and the shape of an array."""
    def wrong(what: str) -> FileError:
        return FileError(f"damaged header: tensor {name!r}: {what}")

    def counts(values: Any) -> bool:
        return isinstance(values, list) and all(type(n) is int and n >= 0 for n in values)

    if not isinstance(entry, dict) or not {"dtype", "shape", "data_offsets"} <= entry.keys():
        raise wrong(f"expected dtype, shape and data_offsets, got {entry!r:.80}")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in dtypes:
        raise wrong(f"expected a dtype of {', '.join(dtypes)}, got {dtype!r:.80}")
    if not counts(shape) or len(shape) > DIMENSIONS:
        raise wrong(f"expected a shape of up to {DIMENSIONS} whole numbers of at least 0, got {shape!r:.80}")
    if not counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise wrong(f"expected its first byte and the byte after its last, got {offsets!r:.80}")
    if offsets[1] > size:
        raise wrong(f"it ends at byte {offsets[1]} of {size}; the file may be cut")
    bytes_each = dtypes[dtype].itemsize
    if math.prod(n or 1 for n in shape) * bytes_each >= 2**63:
        raise wrong(f"a shape of {shape!r:.80} has more elements than can be addressed")
    if math.prod(shape) * bytes_each != offsets[1] - offsets[0]:
        raise wrong(f"expected {math.prod(shape) * bytes_each} bytes for shape {shape} of {dtype}, got "
                    f"{offsets[1] - offsets[0]}")
    return *offsets, dtypes[dtype], tuple(shape)


def read_array(file: BinaryIO, stored: Stored) -> np.ndarray:
    """The array whose bytes begin where `file` stands.

    Raises:
        FileError: the file ends too early, or a byte of a boolean array is neither 0 nor 1.
    """
    array = np.empty(stored.shape, stored.dtype)
    content = array.reshape(-1).view(np.uint8)
    if file.readinto(content) != content.size:       # type: ignore[attr-defined]   # binary files have it
        raise FileError(f"tensor {stored.name!r} is cut: the file changed while it was read")
    if stored.dtype == np.bool_ and content.max(initial=0) > 1:
        raise FileError(f"tensor {stored.name!r} of BOOL holds bytes other than 0 and 1")
    return array


def _description(header: dict[str, Any]) -> str:
    """The text that tinyml put into the metadata. It is read first: files of other frameworks may have unknown dtypes."""
    metadata = header.get("__metadata__")
    text = metadata.get("tinyml") if isinstance(metadata, dict) else None
    if not isinstance(text, str):
        raise FileError("a safetensors file without tinyml's description; load its arrays with safetensors and "
                        "load_state_dict")
    return text


def _verified(text: str, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """The description, once its digest and its version are checked."""
    about = parse(text, "description")
    version, digest = about.get("version"), about.get("digest")
    # the digest first, and in the same way in every version: the version in a damaged file means nothing
    if (version == VERSION or "digest" in about) and (
            not isinstance(digest, str) or content_digest(text.replace(digest, UNSIGNED, 1), arrays) != digest):
        raise FileError("damaged, or edited: its content differs from its digest (SHA-256). Get the file again, or change "
                        "the model and save that")
    if version != VERSION:
        newer = type(version) is int and version > VERSION
        raise FileError(f"expected version {VERSION} of the format, got {version!r:.80}: " + (
            "a newer tinyml wrote it, upgrade to read it" if newer else
            "an older tinyml wrote it; build the model again with this one, from its state_dict() there, and save it"))
    return about
