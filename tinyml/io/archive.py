"""Zip archives as torch.save writes them: uncompressed entries, one after the other, each with its CRC-32.

Python's zipfile is not used: it trusts sizes and offsets until an entry is read, decompresses, and takes the last of two
entries of the same name. Here everything is checked against the size of the file first.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from ..errors import FileError
from .unpickle import Budget

MAGIC = b"PK\x03\x04"
# The records of a zip archive, as PKWARE's APPNOTE.TXT describes them; names, extra fields and comments follow each.
END = struct.Struct("<4s4H2LH")         # magic, disk, disk of the directory, entries, all, its bytes, offset, comment
ENTRY = struct.Struct("<4s6H3L5H2L")    # magic, made by, needed, flags, method, time, date, CRC, stored, size, name, extra,
#                                         comment, disk, attributes (two), offset
LOCAL = struct.Struct("<4s5H3L2H")      # magic, needed, flags, method, time, date, CRC-32, stored, size, name, extra
OBJECTS = 480                           # bytes of the Python objects for an entry, without its name
CHUNK = 2**13


@dataclass(frozen=True, slots=True)
class Member:
    """The offset and the size of an entry's bytes, their CRC-32, and whether they are neither compressed nor encrypted."""

    offset: int
    size: int
    crc: int
    plain: bool


def members(file: BinaryIO, size: int, budget: Budget) -> dict[str, Member]:
    """The entries, by name, of an archive of `size` bytes.

    Raises:
        FileError: the archive is cut or damaged; entries overlap; a name comes twice, or leads out of its folder.
    """
    at = size - END.size
    magic, *_, number, length, start, comment = END.unpack(part(file, at, END.size)) if at >= 0 else (b"", 0, 0, 0, 0)
    if magic != b"PK\x05\x06" or comment:
        raise FileError("a zip archive that is cut or damaged: its directory is missing at the end of the file")
    if number == 0xFFFF or start == 0xFFFFFFFF:
        raise FileError("archives with 65,535 or more entries, or of 4 GB or more, are not read: save the tensors in "
                        "several files")
    if start + length > at or number * ENTRY.size > length:
        raise FileError(f"damaged archive: expected its directory of {number} entries before byte {at}, got {length} bytes "
                        f"from byte {start}")
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
            raise FileError(f"damaged archive: entry {name!r:.80} ends at byte {past}, but the next one begins at {begin}")
    return found


def data_of(file: BinaryIO, offset: int, name: str, limit: int) -> int:
    """The offset of an entry's content, after its own header, which must agree with the directory."""
    if offset + LOCAL.size > limit:
        raise FileError(f"damaged archive: entry {name!r:.80} begins at byte {offset}, but they end at {limit}")
    n: int
    extra: int
    magic, *_, n, extra = LOCAL.unpack(part(file, offset, LOCAL.size))
    if magic != MAGIC or part(file, offset + LOCAL.size, n) != name.encode():
        raise FileError(f"damaged archive: at byte {offset} there is no entry {name!r:.80}")
    return offset + LOCAL.size + n + extra


def go_to(file: BinaryIO, name: str, member: Member) -> None:
    """Seek to the content of an entry.

    Raises:
        FileError: the content is compressed or encrypted.
    """
    if not member.plain:
        raise FileError(f"entry {name!r:.80} is compressed or encrypted, which torch.save never does")
    file.seek(member.offset)


def checked_name(name: bytes) -> str:
    """An entry's name as a string, once it is a plain relative path."""
    try:
        text = name.decode("utf-8")
    except UnicodeDecodeError:
        text = ""
    if "\\" in text or "\0" in text or not {"", ".", ".."}.isdisjoint(text.split("/")):
        raise FileError(f"damaged archive: {name!r:.80} is not a valid name of an entry")
    return text


def part(file: BinaryIO, offset: int, n: int) -> bytes:
    """The n bytes of the file from `offset` on."""
    file.seek(offset)
    found = file.read(n)
    if len(found) != n:
        raise FileError(f"damaged archive: it ends before byte {offset + n}")
    return found


def pieces(file: BinaryIO, n: int) -> Iterator[bytes]:
    """The next `n` bytes of the file, in pieces of up to CHUNK bytes."""
    while n:
        found = file.read(min(n, CHUNK))
        if not found:
            raise FileError("the file is cut: it ends within a tensor")
        n -= len(found)
        yield found
