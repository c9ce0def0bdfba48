"""Writes the data shipped in tinyml/data/shipped, and its MANIFEST.json, from two Debian packages.

    apt-get install dataset-fashion-mnist bible-kjv
    python tools/make_shipped_data.py

The same packages give the same bytes wherever liblzma compresses alike; `tests/test_data_shipped.py` compares the contents.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import lzma
import re
import struct
import subprocess
from pathlib import Path

import numpy as np

SOURCE = Path("/usr/share/datasets/fashion-mnist")
SHIPPED = Path(__file__).resolve().parents[1] / "tinyml" / "data" / "shipped"
PER_CLASS = {"train": 1200, "t10k": 200}
LAST_BOOK = "Ruth"


def read_payload(name: str, header: int) -> np.ndarray:
    """The bytes after the header of an IDX file of the Debian package."""
    with gzip.open(SOURCE / f"{name}-ubyte.gz") as stream:
        return np.frombuffer(stream.read()[header:], np.uint8)


def balanced(labels: np.ndarray, per_class: int) -> np.ndarray:
    """Indices of the first `per_class` items of each of 10 classes, in file order."""
    return np.sort(np.concatenate([np.flatnonzero(labels == c)[:per_class] for c in range(10)]))


def idx(array: np.ndarray) -> bytes:
    """A uint8 array as an IDX file."""
    return struct.pack(f">HBB{array.ndim}I", 0, 0x08, array.ndim, *array.shape) + array.tobytes()


def fashion_mnist(part: str) -> dict[str, bytes]:
    """Images and labels of the chosen items as IDX files, by name."""
    images = read_payload(f"{part}-images-idx3", 16).reshape(-1, 28, 28)
    labels = read_payload(f"{part}-labels-idx1", 8)
    chosen = balanced(labels, PER_CLASS[part])
    return {
        f"fashion-mnist-small-{part}-images-idx3-ubyte": idx(images[chosen]),
        f"fashion-mnist-small-{part}-labels-idx1-ubyte": idx(labels[chosen]),
    }


def bible() -> bytes:
    """Genesis to the end of `LAST_BOOK`: references removed, a verse a line, a blank line between chapters."""
    command = ["bible", "-f", "gen1:1-rev22:21"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    verses: list[str] = []
    chapter, last_book_seen = None, False
    for line in lines:
        book, number, verse = re.fullmatch(r"(\d?[A-Za-z]+)(\d+):\d+ (.*)", line).groups()
        if last_book_seen and book != LAST_BOOK:
            break
        last_book_seen = book == LAST_BOOK
        if chapter not in (None, (book, number)):
            verses.append("")
        chapter = (book, number)
        verses.append(re.sub(" +", " ", verse).strip())
    return ("\n".join(verses) + "\n").encode("utf-8")


def smallest(content: bytes) -> tuple[str, bytes]:
    """Suffix and bytes of the smaller of gzip and xz, both without a time stamp."""
    packed = {
        ".gz": gzip.compress(content, 9, mtime=0),
        ".xz": lzma.compress(content, preset=9 | lzma.PRESET_EXTREME),
    }
    suffix = min(packed, key=lambda suffix: len(packed[suffix]))
    return suffix, packed[suffix]


def main() -> None:
    debian = {"source": "Debian package dataset-fashion-mnist, from https://github.com/zalandoresearch/fashion-mnist"}
    fashion = {**debian, "licence": "MIT, Copyright (c) 2017 Zalando SE"}
    kjv = {"source": "Debian packages bible-kjv, bible-kjv-text (1611 translation)", "licence": "public domain"}
    contents = {name: (content, fashion) for part in PER_CLASS for name, content in fashion_mnist(part).items()}
    contents["bible-kjv-genesis-to-ruth.txt"] = (bible(), kjv)

    SHIPPED.mkdir(parents=True, exist_ok=True)
    files = []
    for name, (content, origin) in contents.items():
        suffix, packed = smallest(content)
        (SHIPPED / (name + suffix)).write_bytes(packed)
        digest = hashlib.sha256(packed).hexdigest()
        files.append({"name": name + suffix, "bytes": len(packed), "sha256": digest, **origin})
        print(f"{len(packed):9,} bytes of {len(content):9,}  {name + suffix}")
    (SHIPPED / "MANIFEST.json").write_text(json.dumps({"files": files}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
