"""Token files: what is written is read, in windows of little memory; damage is an error."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyml import data
from tinyml.errors import DtypeError, FileError, ShapeError


@given(pieces=st.lists(st.lists(st.integers(0, 299), max_size=20), min_size=1, max_size=5), large=st.booleans())
def test_pieces_come_back_as_one_row(tmp_path_factory, pieces, large):
    path = tmp_path_factory.mktemp("tokens") / "ids.npy"
    whole = np.array([i for piece in pieces for i in piece], np.int64)
    arrays = (np.array(piece, np.int32) for piece in pieces)
    if not whole.size:
        with pytest.raises(ShapeError, match="at least one id"):
            data.write_tokens(path, arrays, 300)
        assert not list(path.parent.iterdir())
        return
    assert data.write_tokens(path, arrays, 2**20 if large else 300) == len(whole)
    found = data.TokenFile(path)
    assert found.dtype == (np.uint32 if large else np.uint16) and len(found) == len(whole) and found.shape == whole.shape
    assert np.array_equal(found[:], whole) and found[:].dtype == np.int64 and np.array_equal(np.load(path), whole)
    raw = path.with_suffix(".bin")
    raw.write_bytes(whole.astype("<u4").tobytes())
    assert np.array_equal(data.TokenFile(raw, "uint32")[::-1], whole[::-1])


def test_windows_of_a_file_are_those_of_the_array(tmp_path):
    ids = np.random.default_rng(0).integers(0, 1000, 500)
    data.write_tokens(tmp_path / "ids.npy", ids, 1000)
    for stride in (None, 1, 7):
        a, b = (data.TextDataset(source, 16, stride) for source in (ids, data.TokenFile(tmp_path / "ids.npy")))
        assert len(a) == len(b)
        at = np.random.default_rng(1).integers(0, len(a), 9)
        for x, y in zip(a.batch(at), b.batch(at)):
            assert np.array_equal(x, y) and x.dtype == y.dtype == np.int64 and y.flags.c_contiguous
        for x, y in zip(a[3], b[3]):
            assert np.array_equal(x, y)


def test_parts_of_a_file_are_those_of_the_array(tmp_path):
    ids = np.arange(100)
    data.write_tokens(tmp_path / "ids.npy", ids, 100)
    whole = data.TokenFile(tmp_path / "ids.npy")
    first, second = whole.split(60)
    assert np.array_equal(first[:], ids[:60]) and np.array_equal(second[:], ids[60:]) and len(whole) == 100
    assert len(data.TextDataset(second, 8)) == 4 and second.shape == (40,)
    assert np.array_equal(second.split(1)[1][:3], [61, 62, 63])
    for at in (0, 100, -1):
        with pytest.raises(ShapeError, match="a place inside 100 ids"):
            whole.split(at)


def test_files_that_are_no_tokens_are_refused(tmp_path):
    path = tmp_path / "ids.npy"
    data.write_tokens(path, np.arange(100), 100)
    whole = path.read_bytes()
    for cut in (0, 5, 60, 255, 256, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(FileError, match=r"ids\.npy"):
            data.TokenFile(path)
    path.write_bytes(whole + b"\0\0")
    with pytest.raises(FileError, match="expected 100 ids of uint16, got 202 bytes"):
        data.TokenFile(path)
    for array in (np.zeros(3, np.int64), np.zeros((2, 2), np.uint16), np.zeros(3, ">u2"), np.zeros(0, np.uint16)):
        np.save(path, array)
        with pytest.raises(FileError, match="expected"):
            data.TokenFile(path)
    with pytest.raises(FileError, match="No such file"):
        data.TokenFile(tmp_path / "none.npy")
    raw = tmp_path / "raw.bin"
    raw.write_bytes(b"\1\0\2\0\3")
    with pytest.raises(FileError, match=re.escape('dtype="uint16"')):
        data.TokenFile(raw)
    with pytest.raises(FileError, match="expected 2 ids of uint16, got 5 bytes"):
        data.TokenFile(raw, "uint16")
    with pytest.raises(DtypeError, match="expected dtype uint16 or uint32, got 'int64'"):
        data.TokenFile(raw, "int64")


def test_ids_that_cannot_be_written_leave_the_old_file(tmp_path):
    path = tmp_path / "ids.npy"
    data.write_tokens(path, np.arange(10), 10)
    for pieces, size, error in [([[3], [10]], 10, ShapeError), ([[-1]], 10, ShapeError), ([[0.5]], 10, DtypeError),
                                ([[[1]]], 10, DtypeError), ([[1]], 0, ShapeError)]:
        with pytest.raises(error, match="write_tokens: expected"):
            data.write_tokens(path, [np.array(p) for p in pieces], size)
        assert np.array_equal(data.TokenFile(path)[:], np.arange(10)) and len(list(tmp_path.iterdir())) == 1
    with pytest.raises(FileError, match=r"ids\.npy: cannot write: No such file"):
        data.write_tokens(tmp_path / "no" / "ids.npy", np.arange(3), 3)

    def unreadable():
        yield np.arange(3)
        raise OSError("the corpus cannot be read")

    with pytest.raises(OSError, match="the corpus cannot be read"):     # which is no fault of the file that is written
        data.write_tokens(path, unreadable(), 3)
    assert list(tmp_path.iterdir()) == [path]


def test_every_bit_of_a_token_file_is_checked(tmp_path):
    path, ids = tmp_path / "ids.npy", np.arange(300, dtype=np.uint16)
    data.write_tokens(path, ids, 300)
    whole = path.read_bytes()
    for at in range(0, len(whole), 3):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])
        try:
            found = data.TokenFile(path)[:]
        except FileError:
            continue
        assert at < 256 and np.array_equal(found, ids)      # what stands around the header's numbers means nothing
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(FileError, match=r"ids\.npy: damaged: its ids differ from its digest"):
        data.TokenFile(path)
    assert len(data.TokenFile(path, check=False)) == 300


def test_sizes_of_a_vocabulary_may_be_numpy_integers(tmp_path):
    path = tmp_path / "ids.npy"
    for ids in (np.array([0, 65535], np.uint16), np.array([255], np.uint8), np.array([127], np.int8)):
        with np.errstate(all="ignore"):
            assert data.write_tokens(path, ids, int(ids.max()) + 1) == len(ids)
        assert np.array_equal(data.TokenFile(path)[:], ids)
    assert data.write_tokens(path, np.arange(7, dtype=np.int32), np.int32(7)) == 7
    for wrong, error in ((2.5, DtypeError), ("7", DtypeError), (None, DtypeError), (np.uint8(0), ShapeError),
                         (2**33, ShapeError)):
        with pytest.raises(error, match="write_tokens: expected vocab_size"):
            data.write_tokens(path, np.arange(7), wrong)
    with pytest.raises(DtypeError, match="expected dtype uint16 or uint32, got 'token'"):
        data.TokenFile(path, "token")


TRAIN = """
import itertools
import sys
import numpy as np
from tinyml import Trainer, data, models, optim

windows = data.TextDataset(data.TokenFile(sys.argv[1]), 64, 1)
model = models.TinyGPT(64, 64, 1, 2, 16)
trainer = Trainer(model, optim.AdamW(model.parameters(), 1e-3), progress=False, evaluate_every=5)
validation = list(data.RandomBatches(windows, 8, 4, seed=1))
trainer.fit(data.RandomBatches(windows, 8, 20, seed=0), 1, validation)
for shuffle in (True, False):       # an array of 2^30 windows would be eight gigabytes
    trainer.fit(itertools.islice(data.DataLoader(windows, 8, shuffle=shuffle), 20), 1, validation)
for _ in range(200):        # as many windows as a long run reads
    windows.batch(np.random.default_rng(_).integers(len(windows), size=512))
for i in range(0, len(windows), len(windows) // 2000):
    windows.batch(np.arange(i, min(i + 64, len(windows))))
# getrusage would count the process that started this one, too
print(next(int(line.split()[1]) // 1024 for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak of memory from Linux's /proc")
def test_a_corpus_of_two_gigabytes_takes_less_than_one(tmp_path):
    path, ids = tmp_path / "ids.npy", 2**30
    with open(path, "wb") as file:      # a hole of two gigabytes, which reads as zeros
        np.lib.format.write_array_header_1_0(file, {"descr": "<u2", "fortran_order": False, "shape": (ids,)})
        file.truncate(file.tell() + 2 * ids)
    done = subprocess.run([sys.executable, "-c", TRAIN, str(path)], capture_output=True, text=True, check=False,
                          cwd=Path(__file__).parent.parent, timeout=300)
    assert not done.returncode, done.stderr
    print(f"resident at most: {done.stdout.strip()} MB")
    assert int(done.stdout) < 1000
