"""Text: ids of characters and back, and files."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyml import data
from tinyml.errors import DtypeError, FileError, ShapeError


@given(st.text(min_size=1))
def test_tokenizer_round_trip(text):
    tokenizer = data.CharTokenizer(text)
    ids = tokenizer.encode(text)
    assert ids.dtype == np.int64 and ids.shape == (len(text),)
    assert tokenizer.vocab_size == len(set(text)) and set(ids) == set(range(tokenizer.vocab_size))
    assert tokenizer.decode(ids) == text
    again = data.CharTokenizer.from_json(tokenizer.to_json())
    np.testing.assert_array_equal(again.encode(text), ids)
    assert tokenizer.encode("").shape == (0,) and tokenizer.decode([]) == ""
    assert [tokenizer.decode(i) for i in range(tokenizer.vocab_size)] == sorted(set(text))


@pytest.mark.parametrize("character", ["b", "!", "\U0001f600", "\ud800"])
def test_unknown_characters_are_named(character):
    with pytest.raises(ShapeError) as caught:
        data.CharTokenizer("acé").encode("ac" + character + character + "aß")
    assert f"got {character!r} at position 2, 'ß' at position 5" in str(caught.value)


def test_many_unknown_characters_are_named_in_part():
    with pytest.raises(ShapeError, match="'f' at position 5, and 20 more"):
        data.CharTokenizer("_").encode("abcdefghijklmnopqrstuvwxyz")


@pytest.mark.parametrize(
    "run, error, words",
    [
        (lambda t: t.decode([0, 3]), ShapeError, "0 .. 2, got 3 at position 1"),
        (lambda t: t.decode([-1]), ShapeError, "got -1 at position 0"),
        (lambda t: t.decode([[0]]), ShapeError, "shape"),
        (lambda t: t.decode([0.0]), DtypeError, "float64"),
        (lambda t: data.CharTokenizer(""), ShapeError, "empty"),
        (lambda t: data.CharTokenizer("a\ud800"), ShapeError, "surrogate"),
        (lambda t: t.from_json('"ba"'), FileError, "sorted"),
        (lambda t: t.from_json('"aa"'), FileError, "sorted"),
        (lambda t: t.from_json('["a"]'), FileError, "sorted"),
        (lambda t: t.from_json('""'), FileError, "sorted"),
        (lambda t: t.from_json('"a'), FileError, "JSON"),
    ],
)
def test_tokenizer_errors(run, error, words):
    with pytest.raises(error, match=words):
        run(data.CharTokenizer("abc"))


def test_read_text(tmp_path):
    path = tmp_path / "text"
    path.write_bytes("é\r\nb\n".encode())
    assert data.read_text(path) == "é\nb\n"
    for content, words in ((b"\xff\xfea", "UTF-8"), (b"", "empty")):
        path.write_bytes(content)
        with pytest.raises(FileError, match=f"text.*{words}"):
            data.read_text(path)
