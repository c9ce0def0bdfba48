"""Files as torch.save writes them, put together from opcodes, so that tests need no PyTorch and can forge any part."""

from __future__ import annotations

import io
import math
import struct
import warnings
import zipfile
from typing import Any

import numpy as np

MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"      # LONG1 0x1950a86a20f9469cfc6c
ORDERED = b"ccollections\nOrderedDict\n)R"
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"
CLASSES = {"float64": "Double", "float32": "Float", "float16": "Half", "int64": "Long", "int32": "Int", "int16": "Short",
           "int8": "Char", "uint8": "Byte", "bool": "Bool"}


def plain(value: Any) -> bytes:
    """The opcodes of None, numbers, strings, tuples, lists and dicts; bytes are opcodes already."""
    match value:
        case bytes():
            return value
        case None | True | False:
            return {None: b"N", True: b"\x88", False: b"\x89"}[value]
        case int():
            if 0 <= value < 256:
                return b"K" + bytes([value])
            n = value.bit_length() // 8 + 1
            return b"\x8a" + bytes([n]) + value.to_bytes(n, "little", signed=True)
        case float():
            return b"G" + struct.pack(">d", value)
        case str():
            return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
        case tuple():
            return b"(" + b"".join(map(plain, value)) + b"t"
        case list():
            return b"](" + b"".join(map(plain, value)) + b"e"
        case dict():
            return b"}(" + b"".join(plain(k) + plain(v) for k, v in value.items()) + b"u"
    raise TypeError(type(value).__name__)


def pickled(value: Any) -> bytes:
    return b"\x80\x02" + plain(value) + b"."


def storage(key: Any, kind: str, size: Any, legacy: bool = False) -> bytes:
    return plain(("storage", f"ctorch\n{kind}Storage\n".encode(), key, "cpu", size, *[None] * legacy)) + b"Q"


def tensor(held: bytes, offset: Any, shape: Any, strides: Any) -> bytes:
    return REBUILD + plain((held, offset, shape, strides, False, ORDERED)) + b"R"


def strides_of(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(math.prod(shape[i + 1:]) for i in range(len(shape)))


def state_dict(arrays: dict[str, np.ndarray], legacy: bool = False) -> tuple[bytes, dict[str, bytes]]:
    """The opcodes of an OrderedDict of tensors with the attribute `_metadata`, and the storages."""
    items = b"".join(plain(name) + tensor(storage(str(i), CLASSES[a.dtype.name], a.size, legacy), 0, a.shape,
                                          strides_of(a.shape)) for i, (name, a) in enumerate(arrays.items()))
    about = plain({"_metadata": ORDERED + b"(" + plain("") + plain({"version": 1}) + b"u"})
    return ORDERED + b"(" + items + b"u" + about + b"b", {str(i): a.tobytes() for i, a in enumerate(arrays.values())}


def zipped(value: Any, storages: dict[str, bytes], more: tuple[tuple[str, bytes], ...] = (),
           order: bytes | None = b"little", method: int = zipfile.ZIP_STORED) -> bytes:
    """An archive with data.pkl, data/0, ... and further entries (a name may come again); order None as before 2.1."""
    entries = [("data.pkl", pickled(value)), *([] if order is None else [("byteorder", order)]),
               *((f"data/{k}", v) for k, v in storages.items()), ("version", b"3\n")]
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w", method) as archive:
        warnings.simplefilter("ignore")     # of names that come twice
        for name, content in [*((f"archive/{name}", content) for name, content in entries), *more]:
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return file.getvalue()


def legacy(value: Any, storages: dict[str, bytes], sizes: dict[str, int], keys: Any = None, little: Any = True) -> bytes:
    """The format before PyTorch 1.6: four pickles, the keys, and each storage behind its number of elements."""
    about = {"protocol_version": 1001, "little_endian": little, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    keys = list(storages) if keys is None else keys
    head = [pickled(part) for part in (MAGIC, 1001, about, value, keys)]
    return b"".join(head) + b"".join(struct.pack("<q", sizes[k]) + v for k, v in storages.items())


def files(arrays: dict[str, np.ndarray]) -> dict[str, bytes]:
    """One state dict in both formats."""
    sizes = {str(i): a.size for i, a in enumerate(arrays.values())}
    return {"zip": zipped(*state_dict(arrays)), "legacy": legacy(*state_dict(arrays, legacy=True), sizes)}


def patched(content: bytes, magic: bytes, at: int, form: str, value: int, which: int = 0) -> bytes:
    """A number of the record of an archive that begins with `magic`, the last but `which`, set to another."""
    where = len(content)
    for _ in range(which + 1):
        where = content.rindex(magic, 0, where)
    changed = bytearray(content)
    struct.pack_into(form, changed, where + at, value)
    return bytes(changed)
