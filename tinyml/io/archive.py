"""Zip archives as torch.save writes them: entries stored as they are, one behind the other, each with its CRC-32.

Read here, because all of it can be checked against the file's size first: zipfile believes sizes and offsets until an entry
is read, unpacks what is compressed, and takes the last of two equal names.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from ..errors import FileError
from .unpickle import Budget

MAGIC = b"PK\x03\x04"
# Records of a zip archive, which are described in PKWARE's APPNOTE.TXT; names, extras and comments are behind them.
END = struct.Struct("<4s4H2LH")         # magic, disk, disk of the directory, entries, all, its bytes, offset, comment
ENTRY = struct.Struct("<4s6H3L5H2L")    # magic, made by, needed, flags, method, time, date, CRC, stored, size, name, extra,
#                                         comment, disk, attributes (two), offset
LOCAL = struct.Struct("<4s5H3L2H")      # magic, needed, flags, method, time, date, CRC-32, stored, size, name, extra
OBJECTS = 480                           # bytes that an entry takes here, beside its name
CHUNK = 2**13


@dataclass(frozen=True, slots=True)
class Member:
    """Where the bytes of an entry are in the file, their CRC-32, and whether they are the content as it is."""

    offset: int
    size: int
    crc: int
    plain: bool


def members(file: BinaryIO, size: int, budget: Budget) -> dict[str, Member]:
    """The entries of an archive of `size` bytes by name.

    Raises:
        FileError: cut or damaged; entries that overlap, or have a name twice or one that leaves its folder.
    """
    at = size - END.size
    magic, *_, number, length, start, comment = END.unpack(part(file, at, END.size)) if at >= 0 else (b"", 0, 0, 0, 0)
    if magic != b"PK\x05\x06" or comment:
        raise FileError("a zip archive that is cut or damaged: its directory is missing at the end of the file")
    if number == 0xFFFF or start == 0xFFFFFFFF:
        raise FileError("archives of 65,535 entries or 4 GB and more are not read: save the tensors in several files")
    if start + length > at or number * ENTRY.size > length:
        raise FileError(f"damaged archive: its directory of {number} entries has {length} bytes from byte {start}, of {at}")
    found: dict[str, Member] = {}
    begins: list[tuple[int, int, str]] = []
    where, end = start, start + length
    for _ in range(number):
        budget.spend(OBJECTS)
        fields = ENTRY.unpack(part(file, where, ENTRY.size))
        flags, method, crc, stored, real, n, extra, more = *fields[3:5], *fields[7:13]
        budget.spend(3 * n)
        begin, where = where + ENTRY.size, where + ENTRY.size + n + extra + more
        if fields[0] != b"PK\x01\x02" or where > end:
            raise FileError("damaged archive: its directory is not what its end says")
        name = checked_name(part(file, begin, n))
        if name in found:
            raise FileError(f"damaged archive: the entry {name!r:.80} comes twice")
        found[name] = Member(data_of(file, fields[-1], name, start), stored, crc, stored == real and not method | flags & 1)
        begins.append((fields[-1], found[name].offset + stored, name))
    if where != end:
        raise FileError("damaged archive: its directory is not what its end says")
    begins.sort()
    for (_, past, name), (begin, _, _) in zip(begins, [*begins[1:], (start, 0, "")]):
        if past > begin:
            raise FileError(f"damaged archive: entry {name!r:.80} ends at byte {past}, within what begins at {begin}")
    return found


def data_of(file: BinaryIO, offset: int, name: str, limit: int) -> int:
    """The first byte of an entry's content, behind its own header, which must agree with the directory."""
    if offset + LOCAL.size > limit:
        raise FileError(f"damaged archive: entry {name!r:.80} begins at byte {offset} of {limit}")
    n: int
    extra: int
    magic, *_, n, extra = LOCAL.unpack(part(file, offset, LOCAL.size))
    if magic != MAGIC or part(file, offset + LOCAL.size, n) != name.encode():
        raise FileError(f"damaged archive: at byte {offset} there is no entry {name!r:.80}")
    return offset + LOCAL.size + n + extra


def go_to(file: BinaryIO, name: str, member: Member) -> None:
    """Put the file at the content of an entry.

    Raises:
        FileError: it is not there as it is.
    """
    if not member.plain:
        raise FileError(f"entry {name!r:.80} is compressed or encrypted, which torch.save never does")
    file.seek(member.offset)


def checked_name(name: bytes) -> str:
    """An entry's name as a string."""
    try:
        text = name.decode("utf-8")
    except UnicodeDecodeError:
        text = ""
    if "\\" in text or "\0" in text or not {"", ".", ".."}.isdisjoint(text.split("/")):
        raise FileError(f"damaged archive: {name!r:.80} is no name of an entry")
    return text


def part(file: BinaryIO, offset: int, n: int) -> bytes:
    """Bytes offset .. offset + n of the file."""
    file.seek(offset)
    found = file.read(n)
    if len(found) != n:
        raise FileError(f"damaged archive: it ends before byte {offset + n}")
    return found


def pieces(file: BinaryIO, n: int) -> Iterator[bytes]:
    """The next `n` bytes of the file, CHUNK at a time."""
    while n:
        found = file.read(min(n, CHUNK))
        if not found:
            raise FileError("it is cut: the file ends within a tensor")
        n -= len(found)
        yield found
