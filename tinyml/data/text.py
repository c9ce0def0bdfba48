"""Text: files to strings, strings to ids of characters and back."""

from __future__ import annotations

import json
import lzma
from pathlib import Path

import numpy as np

from .. import checks
from ..errors import FileError, ShapeError
from ._files import file_errors
from ._shipped import shipped

BIBLE = "bible-kjv-genesis-to-ruth.txt.xz"


class CharTokenizer:
    """Numbers the distinct characters of a text in sorted order: `vocab_size` ids from 0.

    Args:
        text: the text.

    Raises:
        ShapeError: an empty text, or one with half of a surrogate pair, which no file can hold.
        DtypeError: no string.

    Example:
        >>> tokenizer = data.CharTokenizer("hello")
        >>> tokenizer.characters, tokenizer.encode("hole"), tokenizer.decode([1, 0, 2, 2])
        ('ehlo', array([1, 3, 2, 0]), 'hell')
    """

    def __init__(self, text: str):
        self.characters = "".join(sorted(set(checks.text("CharTokenizer", "text", text))))
        if not self.characters:
            raise ShapeError("CharTokenizer: expected a text of at least one character, got an empty one")
        surrogate = next((c for c in self.characters if "\ud800" <= c <= "\udfff"), None)
        if surrogate is not None:
            raise ShapeError(f"CharTokenizer: expected Unicode text, got the lone surrogate {surrogate!r}")
        self._code_points = _code_points(self.characters)

    @property
    def vocab_size(self) -> int:
        """Number of distinct characters: the ids are 0 .. vocab_size - 1."""
        return len(self.characters)

    def encode(self, text: str) -> np.ndarray:
        """The ids of a text's characters.

        Args:
            text: of L characters.

        Returns:
            Ids (L,), int64.

        Raises:
            ShapeError: a character without an id; DtypeError: no string.
        """
        code_points = _code_points(checks.text("CharTokenizer", "text", text))
        ids = np.searchsorted(self._code_points, code_points)
        ids = np.minimum(ids, self.vocab_size - 1)
        unknown = np.flatnonzero(self._code_points[ids] != code_points)
        if len(unknown):
            firsts = np.sort(unknown[np.unique(code_points[unknown], return_index=True)[1]])
            named = ", ".join(f"{text[i]!r} at position {i}" for i in firsts[:6])
            raise ShapeError(f"CharTokenizer: expected the {self.vocab_size} characters it was built from, got {named}"
                             + (f", and {len(firsts) - 6} more" if len(firsts) > 6 else ""))
        return ids.astype(np.int64)

    def decode(self, ids: np.ndarray) -> str:
        """The text of ids.

        Args:
            ids: integers (L,), or one.

        Returns:
            A text of L characters.

        Raises:
            ShapeError: another rank, or an id outside the vocabulary; DtypeError: no integers.
        """
        ids = np.atleast_1d(checks.array("CharTokenizer", "ids", ids, "iu"))
        if ids.ndim != 1:
            raise ShapeError(f"CharTokenizer: expected ids of shape (L,), got {ids.shape}")
        if not len(ids):
            return ""
        outside = np.flatnonzero((ids < 0) | (ids >= self.vocab_size))
        if len(outside):
            raise ShapeError(f"CharTokenizer: expected ids in 0 .. {self.vocab_size - 1}, got {ids[outside[0]]} at "
                             f"position {outside[0]}")
        return bytes(self._code_points[ids]).decode("utf-32-le")

    def to_json(self) -> str:
        """The vocabulary as a JSON string of its characters in the order of their ids."""
        return json.dumps(self.characters)

    @classmethod
    def from_json(cls, text: str) -> CharTokenizer:
        """The tokenizer that `to_json` wrote.

        Args:
            text: the JSON string.

        Returns:
            The tokenizer.

        Raises:
            FileError: no such string.
        """
        with file_errors("CharTokenizer.from_json", "a JSON string of characters"):
            characters = json.loads(text)
        # Ids are positions: characters in any other order would decode to other text than was encoded.
        if not isinstance(characters, str) or not characters or characters != "".join(sorted(set(characters))):
            raise FileError(f"CharTokenizer.from_json: expected sorted distinct characters, got {characters!r:.80}")
        return cls(characters)


def _code_points(text: str) -> np.ndarray:
    # surrogatepass: a lone surrogate then is one more unknown character, reported like any other.
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


def read_text(path: str | Path) -> str:
    """The text of a UTF-8 file, with line ends as \\n.

    Args:
        path: the file.

    Returns:
        The text.

    Raises:
        FileError: the file is missing, not UTF-8, or empty.

    Example:
        >>> np.frombuffer(b"To be", np.uint8).tofile("text.txt")
        >>> data.read_text("text.txt")
        'To be'
    """
    path = checks.path("read_text", path)
    with file_errors(path, "a text in UTF-8"):
        text = Path(path).read_text(encoding="utf-8")
    if not text:
        raise FileError(f"{path}: expected a text, got an empty file")
    return text


def bible() -> str:
    """The shipped text: Genesis to Ruth in the King James Version, about 1 MB; one verse per line, chapters apart.

    Raises:
        FileError: the file is not the one that was shipped.

    Example:
        >>> len(data.bible()) > 900_000
        True
    """
    path = shipped(BIBLE)
    with file_errors(path, "a text in UTF-8, xz"):
        return lzma.decompress(path.read_bytes()).decode("utf-8")
