"""Two trainers on one folder, and two writers of each file, for as many reads as asked: no file may be torn.

    python tools/stress_files.py [READS]        1,000 by default

One process trains in a folder; others try to train there at the same time, in this process and in another one, and must get
the error that says so. Meanwhile each file of the run is read and checked against its digest. Then two processes write a
model, and a token file, to one path each, while both are read. Prints what was counted; ends with an error where anything
was wrong.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

import tinyml
from tinyml import Trainer, data, nn, optim
from tinyml.errors import FileError
from tinyml.io import container

NAMES = ("checkpoint.safetensors", "best.safetensors", "history.json")


def trainer(folder: Path) -> Trainer:
    model = nn.Linear(40, 40)
    return Trainer(model, optim.SGD(model.parameters(), 0.1), checkpoint_dir=folder, progress=False, checkpoint_every=1)


def fit(folder: Path, epochs: int, resume: bool = False) -> None:
    rng = np.random.default_rng(0)
    batches = [(rng.standard_normal((4, 40)).astype(np.float32), rng.integers(0, 40, 4)) for _ in range(3)]
    tqdm.set_lock(threading.RLock())        # its own has a semaphore, which a process that is killed leaves behind
    trainer(folder).fit(batches, epochs, resume=resume)


def intrude(folder: Path, refused, entered) -> None:
    """Try to train in a folder that is in use, again and again."""
    while True:
        try:
            fit(folder, 10**6, resume=True)
            entered.value += 1
        except FileError as error:
            if "in use by another Trainer" not in str(error):
                raise
            refused.value += 1


def write_models(path: Path, width: int) -> None:
    model = nn.Linear(width, width).eval()
    while True:
        model.save(path)


def write_ids(path: Path, number: int) -> None:
    while True:
        data.write_tokens(path, np.full(50_000, number), 10)


def read_run(folder: Path) -> None:
    """Raises where a file of the run is torn."""
    for name in NAMES:
        path = folder / name
        if path.suffix == ".json":
            assert isinstance(json.loads(path.read_text()), list), f"{path} is torn"
        else:
            container.unpack(path)


def read_ids(path: Path) -> None:
    ids = data.TokenFile(path)[:]
    assert len(ids) == 50_000 and len(np.unique(ids)) == 1, f"{path} is torn"


def started(*processes: multiprocessing.Process) -> list[multiprocessing.Process]:
    for process in processes:
        process.start()
    return list(processes)


def stop(processes: list[multiprocessing.Process]) -> None:
    alive = [process.is_alive() for process in processes]
    for process in processes:
        process.kill()
        process.join()
    assert all(alive), "a process ended by itself"


def read_while(processes: list[multiprocessing.Process], paths: list[Path], read, times: int) -> int:
    """Reads, each of what is there by then."""
    try:
        while not all(path.exists() for path in paths):
            time.sleep(0.01)
        for _ in range(times):
            read()
    finally:
        stop(processes)
    return times


def main(reads: int) -> None:
    start, context = time.perf_counter(), multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = folder / "run"
        first = started(context.Process(target=fit, args=(run, 10**9)))
        while not all((run / name).exists() for name in NAMES):
            time.sleep(0.01)
        refused, entered = (context.Value("q", 0, lock=False) for _ in range(2))     # one process writes them
        others = started(context.Process(target=intrude, args=(run, refused, entered)))
        own = 0

        def read() -> None:
            nonlocal own
            read_run(run)
            try:
                fit(run, 10**6, resume=True)
            except FileError as error:
                assert "in use by another Trainer" in str(error), error
                own += 1

        while not refused.value:
            time.sleep(0.01)
        done = read_while(first + others, [run / name for name in NAMES], read, reads)
        assert own == reads and not entered.value, "two trainers were in one folder"
        print(f"{done:,} reads of the files of a run, none torn; a second trainer was refused {own:,} times in this "
              f"process, {refused.value:,} times in another")
        fit(run, 1, resume=True)        # the killed trainer let go
        assert sorted(p.name for p in run.iterdir()) == sorted(NAMES), "a killed writer's file was left"
        path = folder / "model.safetensors"
        writers = started(*[context.Process(target=write_models, args=(path, width)) for width in (30, 50)])
        done = read_while(writers, [path], lambda: tinyml.load(path), reads)
        print(f"{done:,} reads of a model that two write, none torn")
        path = folder / "ids.npy"
        writers = started(*[context.Process(target=write_ids, args=(path, number)) for number in (3, 5)])
        done = read_while(writers, [path], lambda: read_ids(path), reads)
        print(f"{done:,} reads of tokens that two write, none torn")
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
