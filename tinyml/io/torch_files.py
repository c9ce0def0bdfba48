"""State dicts that PyTorch wrote (.pt, .pth), read without PyTorch: the zip format of torch.save, and the older
format from before PyTorch 1.6.

Both have a pickle that describes tensors as views of storages (offset, shape and strides, in elements), and the bytes of
the storages: as entries data/0, data/1, ... of the archive, or one after the other. Nothing in a file is executed
(unpickle.py). Every view must lie within its storage, and every storage must have as many bytes as the description says.

The memory that a file can ask for is bounded by its size. `Budget` bounds the objects, of which only names and shapes are
kept. Arrays are bounded because each storage is made once, from bytes of its own, and tensors are views of it. bfloat16,
which NumPy does not have, becomes float32: arrays then take twice the bytes of the file.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..errors import FileError
from . import archive
from .archive import pieces
from .container import DIMENSIONS, opened
from .unpickle import Budget, Function, Unpickler, make_ordered

LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."      # a pickled number, with which files of torch before 1.6 begin
BFLOAT16 = "BFloat16Storage"
KINDS = {"DoubleStorage": "<f8", "FloatStorage": "<f4", "HalfStorage": "<f2", BFLOAT16: "<u2", "LongStorage": "<i8",
         "IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "i1", "ByteStorage": "u1", "BoolStorage": "u1"}
SAVE = "save the state dict with PyTorch: torch.save(model.state_dict(), path)"


@dataclass(frozen=True, slots=True)
class Kind:
    """A storage class: its name, and the dtype of its elements in the file."""

    name: str
    dtype: np.dtype


@dataclass(frozen=True, slots=True)
class Storage:
    """A storage of `size` elements, which the file holds under `key`."""

    key: str
    kind: Kind
    size: int

    @property
    def nbytes(self) -> int:
        return self.size * self.kind.dtype.itemsize


@dataclass(frozen=True, slots=True)
class View:
    """A tensor, whose element (i, j, ...) is element offset + i strides[0] + j strides[1] + ... of the storage."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def is_torch_file(start: bytes) -> bool:
    """Whether `read_state_dict` reads files with these first bytes."""
    return start.startswith((archive.MAGIC, LEGACY))


def read_state_dict(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a state dict by name. A checkpoint such as {"epoch": 3, "model": state dict} must have only one in it.

    Tensors of one storage share memory, as in PyTorch.

    Raises:
        FileError: the file is missing, damaged, or not a state dict, but a pickled model, TorchScript or another archive.
    """
    with opened(path) as (file, size):
        if file.read(len(archive.MAGIC)) == archive.MAGIC:
            return _read_zip(file, size)
        return _read_legacy(file, size)


# ---- the two formats


def _read_zip(file: BinaryIO, size: int) -> dict[str, np.ndarray]:
    budget = Budget(size)
    found = archive.members(file, size, budget)
    roots = [name.removesuffix("/data.pkl") for name in found if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(roots) != 1:
        raise FileError("a zip archive without one data.pkl in its folder: not written by torch.save (.npz files are read "
                        "with numpy.load)")
    root = roots[0]
    if f"{root}/constants.pkl" in found:
        raise FileError(f"a TorchScript archive, which is a program (torch.jit.save); {SAVE}")

    def content(name: str) -> archive.Member:
        """The entry of this name; the file is then at its content."""
        member = found.get(f"{root}/{name}")
        if member is None:
            raise FileError(f"damaged archive: its tensors need an entry {name}, which is missing")
        archive.go_to(file, name, member)
        return member

    if f"{root}/byteorder" in found and file.read(content("byteorder").size) != b"little":
        raise FileError("its numbers are not little-endian, or its byteorder is damaged; save it on another machine")
    member, crc = content("data.pkl"), 0
    for piece in pieces(file, member.size):
        crc = zlib.crc32(piece, crc)
    _same_crc(crc, member)
    described = _state_dict(Description().read(file, content("data.pkl").size, budget, to_the_end=True))

    def elements(storage: Storage) -> np.ndarray:
        member = content(f"data/{storage.key}")
        if member.size != storage.nbytes:
            raise FileError(f"expected {storage.nbytes} bytes of {storage.kind.name} as data/{storage.key}, got "
                            f"{member.size}")
        values, crc = _read_elements(file, storage)
        _same_crc(crc, member)
        return values

    return _arrays(described, elements)


def _read_legacy(file: BinaryIO, size: int) -> dict[str, np.ndarray]:
    budget, reader = Budget(size), Description(legacy=True)
    file.seek(len(LEGACY))

    def following() -> Any:
        return reader.read(file, size - file.tell(), budget)

    protocol, system = following(), following()
    if protocol != 1001 or not isinstance(system, dict) or system.get("little_endian") is not True:
        raise FileError("expected version 1001 of the format before PyTorch 1.6, with little-endian numbers")
    described = _state_dict(following())
    keys = following()
    named = isinstance(keys, list) and all(isinstance(key, str) for key in keys)
    if not named or sorted(keys) != sorted(reader.storages):
        raise FileError("damaged: the storages in the file are not those that its tensors are views of")
    wanted = {view.storage.key for view in described.values()}
    values: dict[str, np.ndarray] = {}
    for key in keys:
        storage = reader.storages[key]
        count = int.from_bytes(archive.part(file, file.tell(), 8), "little", signed=True)
        if count != storage.size or storage.nbytes > size - file.tell():
            raise FileError(f"expected {storage.size} elements of {storage.kind.name} as storage {key:.80}, got {count} in "
                            f"{size - file.tell()} bytes; the file may be cut")
        if key in wanted:
            values[key], _ = _read_elements(file, storage)
        else:
            file.seek(storage.nbytes, 1)
    if file.tell() != size:
        raise FileError(f"damaged: {size - file.tell()} bytes follow the last storage")
    return _arrays(described, lambda storage: values[storage.key])


def _same_crc(crc: int, member: archive.Member) -> None:
    if crc != member.crc:
        raise FileError(f"damaged: the CRC-32 of the {member.size} bytes at {member.offset} is {crc:08x}, expected "
                        f"{member.crc:08x}")


# ---- the description


class Description:
    """Reads pickles whose tensors become Views, and keeps the storages that the pickles name."""

    def __init__(self, legacy: bool = False):
        self.legacy = legacy
        self.storages: dict[str, Storage] = {}
        self.known = {"collections OrderedDict": Function(make_ordered),
                      "torch._utils _rebuild_tensor_v2": Function(make_view),
                      "torch._utils _rebuild_parameter": Function(make_parameter),
                      **{f"torch {name}": Kind(name, np.dtype(dtype)) for name, dtype in KINDS.items()}}

    def read(self, file: BinaryIO, size: int, budget: Budget, to_the_end: bool = False) -> Any:
        """The object of the next pickle in the file, which has at most `size` bytes, or exactly these with `to_the_end`."""
        reader = Unpickler(file, size, self.known, self.storage, budget)
        found = reader.load()
        if to_the_end and reader.left:
            raise FileError(f"damaged pickle: {reader.left} bytes follow its end")
        return found

    def storage(self, named: Any) -> Storage:
        """The storage of the persistent id ("storage", class, key, device, size); in the older format it ends in None."""
        length = 5 + self.legacy
        if type(named) is not tuple or len(named) != length or named[0] != "storage" or named[5:] != (None,) * self.legacy:
            raise FileError("damaged pickle: expected a persistent id of a storage")
        kind, key, size = named[1], named[2], named[4]
        if not isinstance(kind, Kind) or type(key) is not str or not (key.isascii() and key.isdigit() and _counts((size,))):
            raise FileError("damaged pickle: expected the class, key, device and size of a storage")
        found = self.storages.setdefault(key, Storage(key, kind, size))
        if (found.kind, found.size) != (kind, size):
            raise FileError(f"damaged: storage {key:.80} has {found.size} elements of {found.kind.name} in one place, "
                            f"{size} of {kind.name} in another")
        return found


def _counts(values: Any) -> bool:
    """Whether `values` is a tuple of whole numbers from 0 to 2^63 - 1."""
    return type(values) is tuple and all(type(n) is int and 0 <= n < 2**63 for n in values)


def make_view(arguments: tuple[Any, ...]) -> View:
    """torch._utils._rebuild_tensor_v2(storage, offset, shape, strides, requires_grad, hooks[, metadata])."""
    if not 6 <= len(arguments) <= 7 or not isinstance(arguments[0], Storage) or (len(arguments) == 7 and arguments[6]):
        raise FileError("damaged pickle, or not a plain tensor: expected a storage, an offset, a shape and strides")
    storage, offset, shape, strides = arguments[:4]
    if not _counts((offset,)) or not _counts(shape) or not _counts(strides) or len(shape) != len(strides) or (
            len(shape) > DIMENSIONS):
        raise FileError(f"damaged: expected an offset, and as many sizes as strides, at most {DIMENSIONS}, none below 0")
    if math.prod(n or 1 for n in shape) * storage.kind.dtype.itemsize >= 2**61:
        raise FileError(f"damaged: a tensor of shape {shape!r:.80} has more elements than can be addressed")
    last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides))
    if math.prod(shape) and last >= storage.size:
        raise FileError(f"damaged: a tensor of shape {shape!r:.80} reads element {last} of a storage of {storage.size}")
    if math.prod(shape) > storage.size:
        raise FileError(f"a tensor of shape {shape!r:.80} repeats the {storage.size} elements of its storage (expand): "
                        "save its .contiguous()")
    return View(storage, offset, shape, strides)


def make_parameter(arguments: tuple[Any, ...]) -> View:
    """torch._utils._rebuild_parameter(tensor, requires_grad, hooks)."""
    if len(arguments) != 3 or not isinstance(arguments[0], View):
        raise FileError("damaged pickle: expected the tensor of a parameter")
    return arguments[0]


def _state_dict(described: Any) -> dict[str, View]:
    """`described` if it is a dict from names to tensors, else the only one of its values that is.

    Raises:
        FileError: no value is, or more than one.
    """
    if not isinstance(described, dict):
        kind = "tensor" if isinstance(described, View) else type(described).__name__
        raise FileError(f"expected a state dict, got a {kind}; {SAVE}")
    if _is_state_dict(described):
        return described
    found = {key: value for key, value in described.items() if _is_state_dict(value) and value}
    if len(found) != 1:
        keys = ", ".join(f"{key!r:.40}" for key in list(described)[:12])
        raise FileError(f"expected a state dict, or a dict with one in it, got {len(found) or 'none'} in a dict of {keys}; "
                        "save the one you need with PyTorch: torch.save(checkpoint[key], path)")
    return next(iter(found.values()))


def _is_state_dict(value: Any) -> bool:
    return isinstance(value, dict) and all(type(k) is str and isinstance(v, View) for k, v in value.items())


# ---- the arrays


def _read_elements(file: BinaryIO, storage: Storage) -> tuple[np.ndarray, int]:
    """The next elements in the file, and the CRC-32 of their bytes."""
    kind, crc, at = storage.kind, 0, 0
    values = np.empty(storage.size, np.uint32 if kind.name == BFLOAT16 else kind.dtype)
    for piece in pieces(file, values.size * kind.dtype.itemsize):
        crc = zlib.crc32(piece, crc)
        part = np.frombuffer(piece, kind.dtype)
        # a bfloat16 is the upper half of a float32
        values[at : at + part.size] = part.astype(np.uint32) << 16 if kind.name == BFLOAT16 else part
        at += part.size
    if kind.name == "BoolStorage":
        if values.max(initial=0) > 1:
            raise FileError(f"storage {storage.key:.80} of BoolStorage holds bytes other than 0 and 1")
        return values.view(np.bool_), crc
    return values.view(np.float32) if kind.name == BFLOAT16 else values, crc


def _arrays(described: dict[str, View], elements: Callable[[Storage], np.ndarray]) -> dict[str, np.ndarray]:
    """Each tensor as a view of the elements of its storage, which are read once."""
    read: dict[str, np.ndarray] = {}
    arrays: dict[str, np.ndarray] = {}
    for name, view in described.items():
        storage = view.storage
        if storage.key not in read:
            read[storage.key] = elements(storage)
        values = read[storage.key]
        if not math.prod(view.shape):
            arrays[name] = np.empty(view.shape, values.dtype)
            continue
        # the stride of a dimension of size 1 is never used, and may be any number
        strides = [stride * values.itemsize if n > 1 else 0 for n, stride in zip(view.shape, view.strides)]
        arrays[name] = np.ndarray(view.shape, values.dtype, values, view.offset * values.itemsize, strides)
    return arrays


def without_prefix(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The names without the "module." that DataParallel puts before all of them."""
    prefix = "module."
    return {name[len(prefix):]: a for name, a in arrays.items()} if all(n.startswith(prefix) for n in arrays) else arrays
