"""From text to ids and back, for the model that a user named."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .. import data
from ..errors import FileError, ShapeError, TinymlError, install_hint
from ..models import TinyGPT
from .names import model

TEXT = "a text, or token ids: a .npy of tinyml.data.write_tokens, or a .bin of raw little-endian ids"


@dataclass(frozen=True)
class TextCodec:
    """From text to ids and back: encode(text) gives ids (L,), decode(ids) gives text; `unit` is what an id stands for."""

    encode: Callable[[str], np.ndarray]
    decode: Callable[[np.ndarray], str]
    unit: str


def gpt(args: argparse.Namespace) -> tuple[TinyGPT, TextCodec]:
    """The TinyGPT that a user named, and its codec.

    Raises:
        FileError: It is not a TinyGPT, or it cannot be read.
    """
    net = model(args.model, args)
    if not isinstance(net, TinyGPT):
        raise FileError(f"{args.model}: expected a TinyGPT, got a {type(net).__name__}")
    return net, codec(args.model, net)


def codec(name: str, net: TinyGPT) -> TextCodec:
    """The codec of a folder's tokenizer.json or of the characters in a model's file; else one that shows ids as numbers."""
    path = Path(name) / "tokenizer.json"
    if path.exists():
        return tokenizer(path)
    if net.config.characters is not None:
        characters = data.CharTokenizer(net.config.characters)
        return TextCodec(characters.encode, characters.decode, "character")

    def encode(text: str) -> np.ndarray:
        raise FileError(f"{name}: has neither tokenizer.json nor characters, so text cannot become ids; give ids "
                        "(--ids 1,2,3), or data that has them")

    return TextCodec(encode, lambda ids: " ".join(str(int(i)) for i in ids), "id")


def tokenizer(path: Path) -> TextCodec:
    """The codec of a tokenizer.json.

    Raises:
        TinymlError: The tokenizers library is missing.
        FileError: The file is damaged.
    """
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise TinymlError(f"{path}: the tokenizers library is missing; {install_hint('text')}") from error
    try:
        read = Tokenizer.from_file(str(path))
    except Exception as error:      # the library raises no more precise exception
        raise FileError(f"{path}: not a tokenizer: {error}") from error
    return TextCodec(lambda text: np.array(read.encode(text, add_special_tokens=False).ids, np.int64),
                 lambda ids: read.decode([int(i) for i in ids], skip_special_tokens=False), "token")


def ids_of(text: str) -> np.ndarray:
    """The ids that a user wrote as numbers with commas; anything else raises argparse's error."""
    try:
        return np.array([int(part) for part in text.split(",")], np.int64)
    except (ValueError, OverflowError) as error:
        raise argparse.ArgumentTypeError(f"expected ids like 1,2,3, got {text!r:.80}") from error


def read_ids(path: str, encode: Callable[[str], np.ndarray], dtype: str) -> np.ndarray | data.TokenFile:
    """The ids of a file (TEXT says which), or of the text that is shipped, "bible"."""
    tokens = token_file(path, dtype)
    return encode(read_text(path)) if tokens is None else tokens


def token_file(path: str, dtype: str) -> data.TokenFile | None:
    """The file if its suffix says that it holds ids, else None; `dtype` is the dtype of a .bin file."""
    kind = Path(path).suffix
    return data.TokenFile(path, dtype if kind == ".bin" else None) if kind in (".npy", ".bin") else None


def read_text(path: str) -> str:
    """The text of a file, or the text that is shipped, "bible"."""
    return data.bible() if path == "bible" else data.read_text(path)


class Pieces:
    """The text of ids that come one at a time, after those of a prompt.

    A token may end within a character, and what it stands for may depend on the token before it. So the text of an id is
    what it adds to the text of the last few ids, and waits while its last character has only part of its bytes.
    """

    def __init__(self, decode: Callable[[np.ndarray], str], prompt: np.ndarray):
        self.decode, self.ids = decode, [int(i) for i in prompt]
        self.begin, self.end = max(0, len(self.ids) - 8), len(self.ids)     # the ids whose text was returned last

    def add(self, new: int) -> str:
        """The text that this id adds, after the text that waited."""
        self.ids.append(new)
        return self._take(lambda text: not text.endswith("\ufffd"))

    def rest(self) -> str:
        """The text that still waits."""
        return self._take(lambda text: True)

    def _take(self, complete: Callable[[str], bool]) -> str:
        before, now = (self.decode(np.array(self.ids[self.begin : end], np.int64)) for end in (self.end, len(self.ids)))
        if not complete(now):
            return ""
        self.begin, self.end = max(self.begin, self.end - 8), len(self.ids)
        return now[len(before) :]


def check_prompt(ids: np.ndarray, net: TinyGPT) -> np.ndarray:
    """The ids of a prompt; raises ShapeError if it is empty, too long for the model, or has ids that the model has not."""
    vocab = net.config.vocab_size
    if not 0 < len(ids) <= net.context:
        raise ShapeError(f"expected a prompt of 1 to {net.context} ids, the model's context, got {len(ids)}")
    if ids.min() < 0 or ids.max() >= vocab:
        raise ShapeError(f"expected ids from 0 to {vocab - 1}, got {ids.min()} to {ids.max()}")
    return ids
