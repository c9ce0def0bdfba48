""".npz files of images: layouts, splits, normalisation, and damage."""

from __future__ import annotations

import struct
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyml import data
from tinyml.errors import FileError

RGB = np.random.default_rng(1).integers(0, 256, (6, 3, 8, 5), np.uint8)
SIX = np.arange(6)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_splits_share_their_normalisation_and_layouts_agree(tmp_path, save):
    test = RGB[:2] // 2
    save(tmp_path / "nchw.npz", x_train=RGB, y_train=SIX, x_test=test, y_test=SIX[:2].astype(np.uint8))
    nhwc = {"x_train": RGB.transpose(0, 2, 3, 1), "x_test": np.asfortranarray(test.transpose(0, 2, 3, 1))}
    save(tmp_path / "nhwc.npz", y_train=SIX, y_test=SIX[:2], **nhwc)
    scaled = RGB / 255
    mean, std = scaled.mean(axis=(0, 2, 3), keepdims=True), scaled.std(axis=(0, 2, 3), keepdims=True)
    for split, images in (("train", RGB), ("test", test)):
        first, second = (data.npz_images(tmp_path / name, split) for name in ("nchw.npz", "nhwc.npz"))
        assert first.inputs.dtype == np.float32 and first.targets.dtype == np.int64
        np.testing.assert_allclose(first.inputs, (images / 255 - mean) / std, atol=1e-5)
        np.testing.assert_array_equal(first.inputs, second.inputs)
        np.testing.assert_array_equal(first.targets, SIX[: len(images)])


@pytest.mark.parametrize(
    "shape, channels",
    [((6, 8, 5), 1), ((6, 1, 8, 3), 1), ((6, 3, 8, 3), 3), ((6, 8, 5, 1), 1), ((6, 8, 5, 3), 3), ((6, 4, 8, 5), 4)],
)
def test_npz_axis_of_the_channels(tmp_path, shape, channels):
    np.savez(tmp_path / "images.npz", x=np.resize(RGB, shape), y=SIX)
    assert data.npz_images(tmp_path / "images.npz").inputs.shape == (6, channels, 8, shape[-1] if shape[1] != 8 else 5)


@pytest.mark.parametrize("names", [("x", "y"), ("images", "labels")])
def test_npz_of_one_split_is_normalised_by_itself(tmp_path, names):
    grey = RGB[:, 0].copy()
    grey[:] = grey[:1, :1, :1]
    for images in (RGB[:, 0], grey):
        np.savez(tmp_path / "one.npz", **dict(zip(names, (images, SIX), strict=True)))
        dataset = data.npz_images(tmp_path / "one.npz")
        assert dataset.inputs.shape == (6, 1, 8, 5)
        np.testing.assert_allclose(dataset.inputs.mean(), 0, atol=1e-5)
        np.testing.assert_allclose(dataset.inputs.std(), 1 if images is not grey else 0, atol=1e-5)
    with pytest.raises(FileError, match=rf"one.npz: expected the keys x_test and y_test, got \['{names[0]}"):
        data.npz_images(tmp_path / "one.npz", "test")


def npy(descr="|u1", shape="(6, 3, 8, 5)", body=None, version=b"\1\0"):
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY" + version + struct.pack("<H", len(header)) + header + (RGB.tobytes() if body is None else body)


@pytest.mark.parametrize(
    "member, words",
    [
        (npy(shape="(60000000000, 3, 8, 5)"), "7200000000000 bytes .* got 720"),
        (npy(shape=f"({2**62}, {2**62}, 8, 5)"), "got 720"),
        (npy(body=RGB.tobytes()[:-1]), "720 bytes .* got 719"),
        (npy(body=RGB.tobytes() + b"\0"), "more bytes"),
        (npy(shape="(-6, 3, 8, 5)"), "at least one element"),
        (npy(descr="|O"), "numbers, got dtype object"),
        (npy(descr="<U4"), "numbers, got dtype <U4"),
        (npy(version=b"\3\0"), "format 1.0 or 2.0"),
        (npy(shape="(6, 3"), "ValueError|TokenError"),
        (npy(shape="'many'"), "ValueError"),
        (b"no array", "ValueError"),
        (npy(descr="<f4", shape="(6, 3, 2, 5)"), "uint8 images"),
        (npy(shape="(6, 120)"), "uint8 images"),
        (npy(shape="(5, 3, 8, 6)"), "5 integer labels from 0, got int64"),
    ],
)
def test_damaged_npz_members(tmp_path, member, words):
    path = tmp_path / "images.npz"
    np.savez(path, y_train=SIX)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("x_train.npy", member)
    with pytest.raises(FileError, match=rf"images.npz.*expected.*({words})"):
        data.npz_images(path)


@pytest.mark.parametrize(
    "arrays, words",
    [
        ({"x_train": RGB, "labels": SIX}, r"got \['labels', 'x_train'\]"),
        ({"x_train": np.array([{}, None] * 3, object), "y_train": SIX}, "dtype object"),
        ({"x_train": RGB, "y_train": SIX - 1}, "from -1"),
        ({"x_train": RGB, "y_train": SIX / 2}, "float64"),
    ],
)
def test_npz_of_other_arrays(tmp_path, arrays, words):
    np.savez(tmp_path / "images.npz", **arrays)
    with pytest.raises(FileError, match=f"images.npz.*expected.*{words}"):
        data.npz_images(tmp_path / "images.npz")


@settings(max_examples=150)
@given(cut=st.integers(0, 10**6), at=st.integers(0, 10**6), value=st.integers(0, 255), pack=st.booleans())
def test_a_damaged_archive_is_a_file_error_or_harmless(tmp_path_factory, cut, at, value, pack):
    path = tmp_path_factory.mktemp("npz") / "images.npz"
    (np.savez_compressed if pack else np.savez)(path, x_train=RGB, y_train=SIX)
    expected = data.npz_images(path)
    content = bytearray(path.read_bytes())
    size = len(content)
    path.write_bytes(content[: cut % size])
    with pytest.raises(FileError, match=r"images\.npz"):
        data.npz_images(path)
    content[at % size] = value
    path.write_bytes(content)
    # Some bytes of an archive are dates and flags; what a reader returns must be what was stored.
    try:
        read = data.npz_images(path)
    except FileError as error:
        assert "images.npz" in str(error)
    else:
        np.testing.assert_array_equal(read.inputs, expected.inputs)
        np.testing.assert_array_equal(read.targets, expected.targets)
