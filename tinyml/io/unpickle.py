"""Pickles read as inert data: an interpreter of the opcodes that torch.save writes (protocol 2), which runs no code.

Python's own unpickler is not used: it calls what a file names unless every hook stops it, and a few bytes can make it
create any number of objects. Here a global must be in a table, or the file is refused; only `Function`s of that table are
called; and the memory of objects is counted before more of the file is read.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from ..errors import FileError

LEAST = 2**20       # bytes that objects may take even if the file is small: enough for 600 tensors of one number each
BUFFERS = 2**15     # of these, the bytes that reading takes besides objects
TEXT = 2**16        # bytes of the longest string: no name of a tensor is longer
SLOT = 24           # bytes per place in a list
GROWTH = 100        # bytes per place in the new table of a dict that grows
MARK = object()     # what the opcode "(" pushes on the stack

CONSTANTS = {b"N": None, b"\x88": True, b"\x89": False, b")": ()}
NUMBERS = {b"K": "<B", b"M": "<H", b"J": "<i", b"G": ">d"}
INDICES = {b"q": "<B", b"h": "<B", b"r": "<I", b"j": "<I"}
TUPLES = {b"\x85": 1, b"\x86": 2, b"\x87": 3}


class Budget:
    """The bytes that the objects of a file may still take: in all, twice the `size` of the file, but at least LEAST."""

    def __init__(self, size: int):
        self.limit = max(2 * size, LEAST)
        self.left = self.limit - BUFFERS

    def spend(self, n: int) -> None:
        """Take `n` bytes of the budget; raise FileError if fewer are left."""
        self.expect(n)
        self.left -= n

    def expect(self, n: int) -> None:
        """Raise FileError unless `n` bytes are left."""
        if n > self.left:
            raise FileError(f"its description takes more than {self.limit} bytes, more than the file's size accounts for")


class Ordered(dict[Any, Any]):
    """A dict in the place of collections.OrderedDict. Attributes, such as the `_metadata` of state dicts, are dropped."""

    __slots__ = ()


@dataclass(frozen=True)
class Function:
    """A function that a file may call, one of `Unpickler.known`; make(arguments) returns data."""

    make: Callable[[tuple[Any, ...]], Any]


def make_ordered(arguments: tuple[Any, ...]) -> Ordered:
    """collections.OrderedDict(): torch.save fills it afterwards."""
    if arguments:
        raise FileError("damaged pickle: expected OrderedDict() without arguments")
    return Ordered()


class Unpickler:
    """Reads one pickle, of at most `size` bytes, from `file`.

    Args:
        known: the meaning of each global, by "module name".
        persistent: a function from a persistent id, which is a tuple, to the object that it stands for.
        budget: the bytes that objects may take.
    """

    def __init__(self, file: BinaryIO, size: int, known: Mapping[str, Any], persistent: Callable[[Any], Any],
                 budget: Budget):
        self.file, self.left = file, size
        self.known, self.persistent, self.budget = known, persistent, budget
        self.stack: list[Any] = []
        self.memo: list[Any] = []
        self.deepest = 0

    def load(self) -> Any:
        """The object that the pickle describes: None, numbers, strings, tuples, lists, dicts, and what `known` makes.

        Raises:
            FileError: the pickle is damaged, has an opcode or a global that no state dict has, or exceeds the budget.
        """
        if self.read(2) != b"\x80\x02":
            raise FileError("expected a pickle of protocol 2, which torch.save writes by default")
        while (code := self.read(1)) != b".":
            self.step(code)
        result = self.pop()
        if self.stack:
            raise FileError("damaged pickle: it ends within an object")
        return result

    def step(self, code: bytes) -> None:
        """Run one opcode; they are described in CPython's Lib/pickletools.py."""
        match code:
            case b"N" | b"\x88" | b"\x89" | b")":
                self.push(CONSTANTS[code])
            case b"K" | b"M" | b"J" | b"G":
                self.make(self.unpack(NUMBERS[code]))
            case b"\x8a":       # LONG1
                self.make(int.from_bytes(self.read(self.unpack("<B")), "little", signed=True))
            case b"X":          # BINUNICODE
                self.make(self.text())
            case b"c":          # GLOBAL
                self.push(self.global_())
            case b"}":
                self.make({})
            case b"]":
                self.make([])
            case b"(":
                self.push(MARK)
            case b"t":
                self.make(tuple(self.to_mark()))
            case b"\x85" | b"\x86" | b"\x87":
                self.make(tuple([self.pop() for _ in range(TUPLES[code])][::-1]))
            case b"a" | b"e":   # APPEND, APPENDS
                self.grow(list, list.extend, [self.pop()] if code == b"a" else self.to_mark())
            case b"s" | b"u":   # SETITEM, SETITEMS
                self.grow(dict, set_items, [self.pop(), self.pop()][::-1] if code == b"s" else self.to_mark())
            case b"q" | b"r":   # BINPUT, LONG_BINPUT
                self.put(self.unpack(INDICES[code]))
            case b"h" | b"j":   # BINGET, LONG_BINGET
                self.push(self.get(self.unpack(INDICES[code])))
            case b"Q":          # BINPERSID
                self.make(self.persistent(self.pop()))
            case b"R":          # REDUCE
                arguments, function = self.pop(), self.pop()
                if not isinstance(function, Function) or type(arguments) is not tuple:
                    raise FileError("damaged pickle: it calls what is not a function, or without a tuple of arguments")
                self.make(function.make(arguments))
            case b"b":          # BUILD sets attributes, which are dropped here
                if not isinstance(self.pop(), dict) or not self.stack or not isinstance(self.stack[-1], Ordered):
                    raise FileError("damaged pickle: it sets attributes of an object that is not an OrderedDict")
            case _:
                raise FileError(f"damaged, or not a state dict: torch.save does not write opcode {code!r} for one")

    # -- the parts of opcodes ------------------------------------------------------------------------------------------
    def read(self, n: int) -> bytes:
        self.left -= n
        found = self.file.read(n) if self.left >= 0 else b""
        if len(found) != n:
            raise FileError("the pickle is cut: it ends before its last opcode")
        return found

    def unpack(self, form: str) -> Any:
        return struct.unpack(form, self.read(struct.calcsize(form)))[0]

    def text(self) -> str:
        size = self.unpack("<I")
        if size > TEXT:
            raise FileError(f"damaged pickle: expected strings of at most {TEXT} bytes, got one of {size}")
        return decoded(self.read(size))

    def line(self) -> str:
        found = self.file.readline(min(TEXT, self.left))
        self.left -= len(found)
        if not found.endswith(b"\n"):
            raise FileError("damaged pickle: the name of a global has no end")
        return decoded(found[:-1])

    def global_(self) -> Any:
        module, name = self.line(), self.line()
        if f"{module} {name}" not in self.known:
            raise FileError(f"it holds {module:.80}.{name:.80}; expected tensors of floats, integers or bools only, and "
                            "nothing in a file is run. If it is a whole model, or has more than a state dict, load it with "
                            "PyTorch and write torch.save(model.state_dict(), path)")
        return self.known[f"{module} {name}"]

    def push(self, value: Any) -> None:
        self.stack.append(value)
        if len(self.stack) > self.deepest:
            self.deepest = len(self.stack)
            self.budget.spend(SLOT)

    def make(self, value: Any) -> None:
        """Push a new object, and count its bytes; small numbers and () always exist already."""
        if value != () and not (type(value) is int and -5 <= value <= 256):
            self.budget.spend(sys.getsizeof(value))
        self.push(value)

    def grow(self, kind: type, change: Callable[[Any, list[Any]], None], values: list[Any]) -> None:
        """Call change(container, values) for the container on top of the stack, and count the bytes by which it grows."""
        if not self.stack or not isinstance(self.stack[-1], kind):
            raise FileError(f"damaged pickle: expected a {kind.__name__} to put values in")
        target = self.stack[-1]
        before = sys.getsizeof(target)
        self.budget.expect(2 * before + GROWTH * len(values))       # for a new table besides the old one
        change(target, values)
        self.budget.spend(sys.getsizeof(target) - before)

    def pop(self) -> Any:
        if not self.stack or self.stack[-1] is MARK:
            raise FileError("damaged pickle: an opcode lacks its operands")
        return self.stack.pop()

    def to_mark(self) -> list[Any]:
        """Pop the values above the last mark, and the mark; return the values."""
        values = []
        while self.stack and self.stack[-1] is not MARK:
            values.append(self.stack.pop())
        if not self.stack:
            raise FileError("damaged pickle: an opcode lacks its mark")
        self.stack.pop()
        return values[::-1]

    def put(self, i: int) -> None:
        value = self.pop()
        self.stack.append(value)
        if i > len(self.memo):
            raise FileError(f"damaged pickle: expected memo entry {len(self.memo)} next, got {i}")
        if i == len(self.memo):
            self.budget.spend(SLOT)
            self.memo.append(value)
        self.memo[i] = value

    def get(self, i: int) -> Any:
        if i >= len(self.memo):
            raise FileError(f"damaged pickle: memo entry {i} of {len(self.memo)}")
        return self.memo[i]


def set_items(target: dict[Any, Any], items: list[Any]) -> None:
    """Put [key, value, key, value, ...] into a dict."""
    if len(items) % 2:
        raise FileError("damaged pickle: a key without a value")
    for key, value in zip(items[::2], items[1::2]):
        # other keys are refused: the hash of nested tuples recurses, and hashes of large numbers can be made to collide
        if type(key) is not str and not (type(key) is int and abs(key) < 2**32):
            raise FileError(f"damaged pickle: expected strings or small whole numbers as keys, got a {type(key).__name__}")
        if key in target:
            raise FileError(f"damaged pickle: the key {key!r:.80} comes twice")
        target[key] = value


def decoded(text: bytes) -> str:
    """UTF-8 as a string."""
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FileError(f"damaged pickle: a string is not UTF-8: {error.reason}") from error
