"""The folder of a run: one Trainer at a time, no file torn or lost, nothing written over, a digest that is checked.

Run as a program, the file is a second process: it trains in a folder (`train`), or writes a file again and again (`write`).
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from processes import run_python, start_python
from safetensors.numpy import load_file
from trainers import Raising, batches, separable, trainer, weights

import tinyml
from tinyml import atomic
from tinyml.data import TokenFile, write_tokens
from tinyml.errors import DtypeError, FileError
from tinyml.io import container, lock

USED = "in use by another Trainer, of this process or another one"
locks = pytest.mark.skipif(lock.fcntl is None, reason="the system has no flock")


# ---- two writers


def whole(path):
    """The one byte that a file consists of; anything else is torn."""
    content = path.read_bytes()
    assert len(content) == 100_000 and len(set(content)) == 1
    return content[0]


def test_writers_of_one_path_never_tear_it(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"0" * 100_000)
    process = start_python(__file__, "write", str(path), "50")
    threads = [threading.Thread(target=write, args=(path, 50, number)) for number in range(2)]
    for thread in threads:
        thread.start()
    reads = {whole(path) for _ in range(500)}
    for thread in threads:
        thread.join()
    assert process.wait(60) == 0 and len(reads) > 1 and whole(path) != ord("0")
    assert os.listdir(tmp_path) == ["file"]


def write(path, times, number):
    for i in range(times):
        atomic.write_whole(path, bytes([(3 * i + number) % 256]) * 100_000)


def test_tokens_are_written_by_two_at_a_time(tmp_path):
    path = tmp_path / "ids.npy"

    def write_often(n):
        for _ in range(40):
            write_tokens(path, np.full(9000, n), 9)

    sides = [threading.Thread(target=write_often, args=(n,)) for n in (3, 5)]
    for side in sides:
        side.start()
    while any(side.is_alive() for side in sides):
        if path.exists():
            assert len(np.unique(TokenFile(path)[:])) == 1
    assert len(TokenFile(path)) == 9000 and os.listdir(tmp_path) == ["ids.npy"]


def test_what_fails_in_writing_leaves_nothing_and_what_is_killed_is_cleared(tmp_path):
    path = tmp_path / ("n" * 250)       # as long as a name may be, nearly
    atomic.write_whole(path, b"old")
    with pytest.raises(KeyError), atomic.replacing(path) as file:
        file.write(b"new")
        name, = (p.name for p in tmp_path.iterdir() if p != path)
        assert name.endswith(".partial") and name.startswith("nnn")
        raise KeyError
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]
    folder = tmp_path / "run"
    folder.mkdir()
    for left in ("best.safetensors.partial", "checkpoint.safetensors.0123456789abcdef.partial"):
        (folder / left).write_bytes(b"half")
    trainer(checkpoint_dir=folder).fit(batches(separable()), 1)
    assert sorted(os.listdir(folder)) == ["best.safetensors", "checkpoint.safetensors", "history.json"]


# ---- two trainers


@locks
def test_a_folder_in_use_says_so(tmp_path):
    data, inside = batches(separable()), []

    def meanwhile():
        yield data[0]
        other = trainer(checkpoint_dir=tmp_path)
        for options in ({}, {"resume": True}, {"overwrite": True}):
            with pytest.raises(FileError, match=f"{tmp_path}: {USED}"):
                other.fit(data, 1, **options)
        process = run_python(__file__, "train", str(tmp_path))
        assert process.returncode == 3 and USED in process.stdout, process.stderr
        trainer(checkpoint_dir=tmp_path / "another").fit(data, 1)
        inside.append(1)
        yield data[1]

    trainer(checkpoint_dir=tmp_path).fit(meanwhile(), 1)
    assert inside
    trainer(checkpoint_dir=tmp_path).fit(data, 2, resume=True)      # free again, also behind an error
    with pytest.raises(KeyboardInterrupt):
        trainer(checkpoint_dir=tmp_path).fit(Raising(data, 1, KeyboardInterrupt()), 3, resume=True)
    assert len(trainer(checkpoint_dir=tmp_path).fit(data, 3, resume=True)) == 3


@locks
def test_a_process_that_is_killed_lets_go(tmp_path):
    process = start_python(__file__, "train", str(tmp_path), "1000000")
    try:
        while not (tmp_path / "checkpoint.safetensors").exists():
            assert process.poll() is None
            time.sleep(0.01)
        with pytest.raises(FileError, match=USED):
            trainer(checkpoint_dir=tmp_path).fit(batches(separable()), 1, resume=True)
    finally:
        process.kill()
        process.wait()
    done = len(tinyml_history(tmp_path))
    assert len(trainer(checkpoint_dir=tmp_path).fit(batches(separable()), done + 1, resume=True)) == done + 1


def tinyml_history(folder):
    """Epochs in the checkpoint."""
    t = trainer(checkpoint_dir=folder)
    return t.fit(batches(separable()), 1, resume=True)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@locks
def test_a_forked_child_does_not_keep_the_lock(tmp_path):
    parent = start_python(__file__, "fork", str(tmp_path))
    try:
        while not (tmp_path / "forked").exists():
            assert parent.poll() is None
            time.sleep(0.01)
        with pytest.raises(FileError, match=USED), lock.locked(tmp_path, "Trainer"):
            pass
        parent.kill()
        parent.wait()
        with lock.locked(tmp_path, "Trainer") as alone:
            assert alone and not (tmp_path / "gone").exists()
    finally:
        (tmp_path / "stop").touch()


def test_where_nothing_can_be_locked_runs_go_on(tmp_path, monkeypatch):
    data = batches(separable())

    def refuse(*_):
        raise OSError(lock.errno.ENOLCK, "No locks available")

    if lock.fcntl is not None:
        with monkeypatch.context() as m:
            m.setattr(lock.fcntl, "flock", refuse)
            trainer(checkpoint_dir=tmp_path / "a").fit(data, 1)
    monkeypatch.setattr(lock, "fcntl", None)
    assert len(trainer(checkpoint_dir=tmp_path / "a").fit(data, 2, resume=True)) == 2


# ---- what is in a folder already


def test_a_run_is_not_written_over(tmp_path):
    data = batches(separable())
    first = trainer(checkpoint_dir=tmp_path)
    first.fit(data, 3, validation=data)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    second = trainer(lr=0.0, checkpoint_dir=tmp_path)
    ways = r"holds checkpoint.* of another run; .*fit\(resume=True\).*fit\(overwrite=True\).*another checkpoint_dir"
    with pytest.raises(FileError, match=ways):
        second.fit(data, 1, validation=data)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before and second.history == []
    assert len(first.fit(data, 1)) == 4         # its own run goes on
    with pytest.raises(FileError, match=ways):
        second.fit(data, 1)
    assert len(second.fit(data, 1, overwrite=True)) == 1 and len(tinyml_history(tmp_path)) == 1
    with pytest.raises(FileError, match=ways):      # not its own any more
        first.fit(data, 1)
    assert len(first.fit(data, 2, resume=True)) == 2
    for name in ("checkpoint.safetensors", "history.json"):     # what is left of a run is one
        (tmp_path / name).unlink()
    with pytest.raises(FileError, match=r"holds best\.safetensors of another run"):
        trainer(checkpoint_dir=tmp_path).fit(data, 1)


def test_folders_that_cannot_be_are_errors(tmp_path):
    (tmp_path / "file").write_text("")
    for path, error, message in ((tmp_path / "file", FileError, "file: expected a folder as checkpoint_dir.* is a file"),
                                 (tmp_path / "file" / "in", FileError, "in: expected a folder as checkpoint_dir"),
                                 ("a\0b", FileError, "expected checkpoint_dir to be a path that a file can have"),
                                 (3, DtypeError, "expected checkpoint_dir to be a path, got 3")):
        with pytest.raises(error, match=message):
            trainer(checkpoint_dir=path)
    t = trainer(checkpoint_dir=tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    t.fit(batches(separable()), 1)      # made again
    (tmp_path / "resumed").mkdir()
    trainer(checkpoint_dir=tmp_path / "resumed").fit(batches(separable()), 1, resume=True)


def test_a_read_only_folder_is_an_error_before_training(tmp_path, monkeypatch):
    data = batches(separable())
    trainer(checkpoint_dir=tmp_path).fit(data, 1)
    if os.geteuid() if hasattr(os, "geteuid") else False:
        tmp_path.chmod(0o500)
    else:       # root may write anywhere
        monkeypatch.setattr(os, "access", lambda path, how: False)
    t = trainer(checkpoint_dir=tmp_path)
    before = weights(t.model)
    with pytest.raises(FileError, match="cannot write checkpoints there: the folder is read-only"):
        t.fit(data, 2, resume=True)
    assert weights(t.model) == before
    t.load_best()       # reading is fine
    tmp_path.chmod(0o700)


def test_every_bit_of_the_best_weights_is_checked(tmp_path):
    t = trainer(checkpoint_dir=tmp_path)
    t.fit(batches(separable()), 1)
    path = tmp_path / "best.safetensors"
    content, before = path.read_bytes(), weights(t.model)
    assert {name: a.tobytes() for name, a in load_file(path).items()} == before
    assert {name: a.tobytes() for name, a in tinyml.load(path).items()} == before
    other = trainer(checkpoint_dir=tmp_path)
    assert tinyml.load(path, other.model) is other.model and weights(other.model) == before
    rng = np.random.default_rng(0)
    for at in [*rng.integers(0, len(content), 150), *range(len(content) - 8, len(content))]:
        path.write_bytes(content[:at] + bytes([content[at] ^ 1 << rng.integers(8)]) + content[at + 1 :])
        with pytest.raises(FileError, match=r"load_best: expected .*best\.safetensors as fit writes it"):
            t.load_best()
        assert weights(t.model) == before
    path.write_bytes(container.pack({"kind": "checkpoint"}, t.model.state_dict()))
    with pytest.raises(FileError, match="its kind is 'checkpoint'"):
        t.load_best()


def train(folder, epochs=1):
    try:
        trainer(checkpoint_dir=folder).fit(batches(separable()), epochs)
    except FileError as error:
        print(error)
        sys.exit(3)


def fork(folder):
    """Take the lock, fork a child that outlives this process."""
    with lock.locked(folder, "Trainer"):
        if not os.fork():
            (folder / "forked").touch()
            for _ in range(3000):
                if (folder / "stop").exists():
                    break
                time.sleep(0.01)
            (folder / "gone").touch()
            os._exit(0)
        time.sleep(30)


if __name__ == "__main__":
    if sys.argv[1] == "fork":
        fork(Path(sys.argv[2]))
    elif sys.argv[1] == "train":
        train(Path(sys.argv[2]), *map(int, sys.argv[3:]))
    else:
        write(Path(sys.argv[2]), int(sys.argv[3]), 2)
