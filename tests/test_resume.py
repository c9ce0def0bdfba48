"""Resuming: a run that was stopped and continued has the bytes of one that was not, whatever stopped it, wherever.

Run as a program, the file continues runs in a new process (`resume`), or has one killed a hundred times (`kills`).
"""

from __future__ import annotations

import errno
import json
import math
import os
import random as moments
import re
import signal
import struct
import sys
import threading
import time
import traceback
from pathlib import Path

import numpy as np
import pytest
from processes import run_python
from tqdm import tqdm

import tinyml
from tinyml import atomic, nn, optim
from tinyml.data import ArrayDataset, Compose, DataLoader, RandomBatches, RandomCrop, RandomFlip, TextDataset
from tinyml.errors import FileError, ShapeError
from tinyml.io import container
from tinyml.io.checkpoints import read_checkpoint
from tinyml.models import MLP, CifarCNN, TinyGPT, next_token_loss
from tinyml.nn import functional as F
from tinyml.precision import prepare_qat
from tinyml.trainer import Trainer

NAME = "checkpoint.safetensors"


class Net(nn.Module):
    """Dropout, running moments, tied weights."""

    def __init__(self):
        self.conv, self.norm, self.dropout = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.3)
        self.first, self.second, self.out = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 3)
        self.second.weight = self.first.weight

    def forward(self, x):
        x = self.dropout(self.norm(self.conv(x)).relu()).flatten(1)
        return self.out(self.second(self.dropout(self.first(x).relu())))


class Stopping:
    """A loss that stops the program at its call number `at`; calls of validation count too."""

    def __init__(self, at):
        self.calls, self.at = 0, at

    def __call__(self, outputs, targets):
        self.calls += 1
        if self.calls == self.at:
            raise KeyboardInterrupt
        return (F.cross_entropy if targets.ndim == 1 else next_token_loss)(outputs, targets)


def images(n, seed):
    rng = np.random.default_rng(seed)
    return ArrayDataset(rng.standard_normal((n, 1, 4, 4)).astype(np.float32), rng.integers(0, 3, n))


def run(folder, options, epochs=3, stop=None, resume=True, kind=Trainer):
    """A run with everything that draws: initial weights, shuffling, augmentation, dropout, validation in random order."""
    tinyml.manual_seed(5)
    model = Net()
    optimizer = optim.AdamW(model.parameters(), 0.01)
    schedule = optim.CosineAnnealingLR(optimizer, 15, 1e-4, warmup_steps=2)
    augment = Compose([RandomFlip(), RandomCrop(1)])
    train = DataLoader(images(44, 0), 8, shuffle=True, seed=options["seed"], transform=augment)
    validation = DataLoader(images(10, 1), 5, shuffle=True, seed=options["seed"])

    def sample():       # draws, and begins the generator anew, which must stay its own affair
        tinyml.random.generator().random(7)
        tinyml.manual_seed(1)
        return "a sample"

    trainer = kind(model, optimizer, Stopping(stop), schedule, clip_norm=0.5, checkpoint_dir=folder, progress=False,
                   accumulate=options["accumulate"], checkpoint_every=options["every"],
                   evaluate_every=options.get("evaluate"), sample=sample if options.get("evaluate") else None)
    trainer.fit(train, epochs, validation, resume=resume)
    return trainer


def results(trainer):
    """All that two runs should have in common, as bytes and plain numbers."""
    state = trainer.optimizer.state_dict() | trainer.model.state_dict()
    return ({name: value.tobytes() if isinstance(value, np.ndarray) else value for name, value in state.items()},
            [{k: v for k, v in row.items() if k != "seconds"} for row in trainer.history],
            trainer.schedule.state_dict(), tinyml.random.get_state())


OPTIONS = [{"seed": seed, "accumulate": accumulate, "every": every, "evaluate": evaluate}
           for seed, accumulate, every, evaluate in (
               (None, 1, 1, 2), (3, 3, 1, None), (None, 3, None, 1), (3, 1, 2, 4), (None, 1, 3, None))]
named = pytest.mark.parametrize("options", OPTIONS, ids=lambda o: ", ".join(f"{k} {v}" for k, v in o.items()))


@named
def test_a_run_stopped_anywhere_and_resumed_is_one_that_was_not(options, tmp_path):
    straight = results(run(tmp_path / "straight", options, resume=False))
    best = (tmp_path / "straight" / "best.safetensors").read_bytes()
    for stop in range(1, 25, 2):    # an epoch calls the loss 6 + 2 times
        folder = tmp_path / str(stop)
        with pytest.raises(KeyboardInterrupt):
            run(folder, options, stop=stop)
        if stop % 3 == 0:       # and again, some calls after where it began
            with pytest.raises(KeyboardInterrupt):
                run(folder, options, stop=2)
        assert results(run(folder, options)) == straight, stop
        assert (folder / "best.safetensors").read_bytes() == best, stop


def test_evaluations_change_nothing_but_what_is_noted(tmp_path):
    runs = [run(tmp_path / str(every), {"seed": None, "accumulate": 1, "every": None, "evaluate": every})
            for every in (None, 1, 4)]
    rows = [t.history[-1]["evaluations"] for t in runs[1:]]
    assert [row["updates"] for row in rows[0]] == [13, 14, 15, 16, 17, 18]
    assert [row["updates"] for row in rows[1]] == [16, 18]      # the epoch's end comes, too
    assert rows[0][3]["validation_loss"] == rows[1][0]["validation_loss"]
    plain, *others = (results(t) for t in runs)
    for state, history, schedule, generator in others:
        for row, expected in zip(history, plain[1], strict=True):
            assert row["validation_loss"] == row.pop("evaluations")[-1]["validation_loss"] and row == expected
        assert (state, schedule, generator) == (plain[0], *plain[2:])


def test_a_run_continued_by_a_new_process_is_one_that_was_not_stopped(tmp_path):
    for number, options in enumerate(OPTIONS):
        run(tmp_path / f"{number} straight", options, resume=False)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / f"{number} resumed", options, stop=12)
    done = run_python(__file__, "resume", str(tmp_path))
    assert done.returncode == 0, done.stderr
    for number in range(len(OPTIONS)):
        (a, x), (b, y) = (container.unpack(tmp_path / f"{number} {how}" / NAME) for how in ("straight", "resumed"))
        assert {k: v.tobytes() for k, v in x.items()} == {k: v.tobytes() for k, v in y.items()}
        for about in (a, b):
            del about["digest"]
            about["progress"] = json.loads(about["progress"])
            for row in about["progress"]["history"]:
                del row["seconds"]
        assert a == b


def test_windows_of_a_text_drawn_at_random_are_resumed(tmp_path):
    def train(folder, stop=None):
        tinyml.manual_seed(2)
        model = TinyGPT(11, 4, 1, 2, 8)
        loader = RandomBatches(TextDataset(np.arange(60) % 11, 4), 3, 5)
        trainer = Trainer(model, optim.SGD(model.parameters(), 0.1, 0.9), Stopping(stop), checkpoint_dir=folder,
                          progress=False, checkpoint_every=1)
        trainer.fit(loader, 2, resume=True)
        return {name: a.tobytes() for name, a in model.state_dict().items()}

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "a", 9)
    assert train(tmp_path / "a") == train(tmp_path / "b")


def test_quantization_aware_training_is_resumed(tmp_path):
    def train(folder, stop=None):
        tinyml.manual_seed(3)
        data = images(40, 0)
        prepared = prepare_qat(CifarCNN(in_channels=1, width=2), [data.batch(np.arange(20))[0]], freeze_after=6)
        trainer = Trainer(prepared, optim.AdamW(prepared.parameters(), 0.01), Stopping(stop), checkpoint_dir=folder,
                          progress=False, checkpoint_every=1)
        trainer.fit(DataLoader(data, 8, shuffle=True), 2, resume=True)
        return {name: a.tobytes() for name, a in prepared.state_dict().items()}

    straight = train(tmp_path / "straight")
    for stop in (4, 9):     # before and after activations freeze
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / str(stop), stop)
        assert train(tmp_path / str(stop)) == straight


def test_a_finished_run_is_left_as_it_is_and_a_longer_one_continues(tmp_path):
    first = results(run(tmp_path / "a", OPTIONS[1], epochs=2))
    assert results(run(tmp_path / "a", OPTIONS[1], epochs=2)) == first
    assert results(run(tmp_path / "a", OPTIONS[1], epochs=4)) == results(run(tmp_path / "b", OPTIONS[1], epochs=4))


def test_a_loader_with_fewer_batches_and_no_folder_are_errors(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, OPTIONS[0] | {"evaluate": None}, stop=5)
    model = Net()
    optimizer = optim.AdamW(model.parameters(), 0.01)
    schedule = optim.CosineAnnealingLR(optimizer, 15)
    trainer = Trainer(model, optimizer, schedule=schedule, checkpoint_dir=tmp_path, progress=False)
    with pytest.raises(FileError, match=r"to resume after 4 batches of an epoch, expected a loader .* got 1 from the list"):
        trainer.fit([images(8, 0).batch(np.arange(8))], 3, resume=True)
    with pytest.raises(FileError, match="to resume, expected a Trainer with a checkpoint_dir, got none"):
        Trainer(model, optimizer).fit([], 1, resume=True)
    for wrong, message in (({"accumulate": 0}, "accumulate to be a whole number of at least 1, got 0"),
                           ({"accumulate": None}, "accumulate"), ({"checkpoint_every": 1.5}, "checkpoint_every .* got 1.5"),
                           ({"checkpoint_every": 3}, "needs a checkpoint_dir, got none")):
        with pytest.raises(ShapeError, match=message):
            Trainer(model, optimizer, **wrong)


# ---- accumulation


@pytest.mark.parametrize("clip", [None, 0.05])
def test_accumulated_batches_train_as_one_of_all_their_samples(clip):
    data = images(40, 0)
    flat = ArrayDataset(data.batch(np.arange(40))[0].reshape(40, 16), data.batch(np.arange(40))[1])
    ends = {}
    for size, accumulate in ((8, 1), (2, 4)):
        tinyml.manual_seed(0)
        model = MLP(16, 8, 3)
        optimizer = optim.SGD(model.parameters(), 0.5)
        schedule = optim.LinearWarmup(optimizer, 4)
        t = Trainer(model, optimizer, schedule=schedule, clip_norm=clip, progress=False, accumulate=accumulate)
        t.fit(DataLoader(flat, size), 2)
        ends[size] = model.state_dict(), t.history[-1]["train_loss"], t.history[-1]["lr"]
        assert schedule.steps == 10
    for name, array in ends[8][0].items():
        np.testing.assert_allclose(ends[2][0][name], array, rtol=1e-5, atol=1e-6)
    assert ends[2][1:] == pytest.approx(ends[8][1:], rel=1e-6)


def test_what_is_left_of_an_epoch_is_a_mean_of_its_own():
    x, y = images(20, 0).batch(np.arange(20))
    batches = [(x.reshape(20, 16)[i : i + 4], y[i : i + 4]) for i in range(0, 20, 4)]
    tinyml.manual_seed(0)
    model, other = MLP(16, 3), MLP(16, 3)
    other.load_state_dict(model.state_dict())
    Trainer(model, optim.SGD(model.parameters(), 0.5), progress=False, accumulate=3).fit(batches, 1)
    optimizer = optim.SGD(other.parameters(), 0.5)
    for group in (batches[:3], batches[3:]):
        optimizer.zero_grad()
        for a, b in group:
            F.cross_entropy(other(a), b).backward()
        for p in other.parameters():
            p.grad.array /= len(group)
        optimizer.step()
    for name, array in model.state_dict().items():
        np.testing.assert_allclose(array, other.state_dict()[name], rtol=1e-6, atol=1e-7)


# ---- damaged and foreign checkpoints


def refused(path, trainer, message):
    trainer.model.out.bias.array += 1        # not what the checkpoint has
    trainer.optimizer.lr *= 0.5
    tinyml.random.generator().random()
    before, generator = results(trainer), tinyml.random.get_state()
    with pytest.raises(FileError, match=message) as caught:
        read_checkpoint(path, trainer.model, trainer.optimizer, trainer.schedule)
    assert str(path) in str(caught.value)
    assert results(trainer) == before and tinyml.random.get_state() == generator


def test_damaged_checkpoints_are_errors_and_change_nothing(tmp_path):
    trainer = run(tmp_path, OPTIONS[0], epochs=1)
    path, whole = tmp_path / NAME, (tmp_path / NAME).read_bytes()
    rng = np.random.default_rng(0)
    for size in (0, 5, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        refused(path, trainer, "expected a model of at least 8 bytes|cut")
    for at in rng.integers(0, len(whole), 200):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << rng.integers(8)]) + whole[at + 1 :])
        refused(path, trainer, "damaged|cut|not a safetensors|expected|without")
    path.write_bytes(whole)
    with pytest.raises(FileError, match="expected a module or a plan, got 'checkpoint'"):
        tinyml.load(path)


def test_foreign_checkpoints_are_errors_and_change_nothing(tmp_path):
    trainer = run(tmp_path, OPTIONS[0], epochs=1)
    path, model = tmp_path / NAME, Net()
    about, arrays = container.unpack(path)
    model.save(tmp_path / "model")
    refused(tmp_path / "model", trainer, "expected a checkpoint of training, got 'module'; read it with tinyml.load")
    refused(tmp_path / "none", trainer, "no such file")
    refused(tmp_path / "best.safetensors", trainer, "expected a checkpoint of training, got 'state_dict'")
    progress = json.loads(about["progress"])
    for change, extra, message in [
        ({"optimizer": "SGD"}, {}, "expected a checkpoint with optimizer AdamW, got 'SGD'"),
        ({"schedule": None}, {}, "expected a checkpoint with schedule CosineAnnealingLR, got None"),
        ({"schedule_state": {"steps": 1}}, {}, "expected steps and base_lr, got steps"),
        ({"optimizer_state": {"lr": 1.0, "parameters": 3}}, {}, "expected the state of 9 parameters, got 3"),
        ({"optimizer_state": None}, {}, "damaged description: TypeError"),
        ({"progress": "{}"}, {}, "damaged description: TypeError: .* missing"),
        ({"progress": "nonsense"}, {}, "damaged description: JSONDecodeError"),
        ({"progress": json.dumps(progress | {"history": {"a": 1}})}, {}, "expected a list of epochs as history"),
        ({"progress": json.dumps(progress | {"random": {"bit_generator": "other"}})}, {}, "damaged state of the random"),
        ({"progress": json.dumps(progress | {"epoch": [1]})}, {}, "damaged description: TypeError"),
        ({"progress": json.dumps(progress | {"history": [{"epoch": 1}]})}, {}, "expected a list of epochs as history"),
        ({"progress": json.dumps(progress | {"epoch": {"loader_epoch": 0, "random": {}, "evaluations": [1]}})}, {},
         "expected a list of evaluations"),
        ({}, {"extra": np.ones(1)}, "expected tensors of the model and the optimizer, got 'extra'"),
        ({}, {"model.out.weight": np.ones((3, 4), np.float32)}, r"out.weight has shape \(3, 4\), expected \(3, 16\)"),
        ({}, {"optimizer.exp_avg.0": np.ones(2, np.float32)}, r"exp_avg\.0 has shape \(2,\)"),
    ]:
        path.write_bytes(container.pack({k: v for k, v in (about | change).items() if k not in ("version", "digest")},
                                        arrays | extra))
        refused(path, trainer, message)


ODD = ("5", True, [], {}, [1], json.loads("[" * 900 + "]" * 900))
NO_FLOATS = (*ODD, None, math.nan, math.inf, -math.inf, 10**400)
NO_COUNTS = (*NO_FLOATS, -1, 1.5, 2**63)
RANDOM = [(*top, "random", *path) for top in ((), ("epoch",))
          for path in (("has_uint32",), ("uinteger",), ("state", "state"), ("state", "inc"))]
FORGED = [      # where a number stands that training goes on from, and what it cannot be
    (NO_COUNTS, [("history", 0, "epoch"), ("history", 0, "updates"), ("epoch", "batches"), ("epoch", "updates"),
                 ("epoch", "count"), ("epoch", "evaluated_count"), ("epoch", "evaluations", 0, "updates")]),
    ([v for v in NO_COUNTS if v is not None], [("loader_epoch",), ("epoch", "loader_epoch")]),
    ([v for v in NO_COUNTS if v is not True and v != 2**63] + [2**200], RANDOM),
    ((*NO_FLOATS, -0.5), [("history", 0, "lr"), ("history", 0, "seconds"), ("epoch", "lr"), ("epoch", "seconds")]),
    (NO_FLOATS, [("epoch", "loss"), ("epoch", "evaluated_loss")]),
    ((*ODD, None), [("history", 0, "train_loss"), ("history", 0, "validation_accuracy"),
                    ("epoch", "evaluations", 0, "validation_loss")]),
    ((*ODD, None, math.nan, 10**400), [("best", 1)]),
    ((*ODD, 5, math.nan), [("best", 0), ("random",), ("epoch", "random"), ("epoch", "evaluations", 0), ("history", 0)]),
    (("5", True, 5, {}, [1]), [("history",), ("epoch", "evaluations")]), (("5", True, 5, {}, []), [("epoch",)]),
]


def test_forged_numbers_are_errors_and_change_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, OPTIONS[0], stop=18)      # in the second epoch, behind an evaluation
    trainer = run(tmp_path / "other", OPTIONS[0], epochs=1)
    path = tmp_path / NAME
    about, arrays = container.unpack(path)
    about = {name: value for name, value in about.items() if name not in ("version", "digest")}
    progress = json.loads(about["progress"])
    assert progress["epoch"]["evaluations"] and progress["best"] and len(progress["history"]) == 1
    for values, places in FORGED:
        for place in places:
            for value in values:
                changed = json.loads(about["progress"])
                inner = changed
                for key in place[:-1]:
                    inner = inner[key]
                inner[place[-1]] = value
                path.write_bytes(container.pack(about | {"progress": json.dumps(changed)}, arrays))
                refused(path, trainer, "damaged")
    for name, bad in (("optimizer_state", NO_FLOATS), ("schedule_state", NO_FLOATS)):
        for key in about[name]:
            for value in bad if key in ("lr", "base_lr") else NO_COUNTS:
                if isinstance(value, float) and not math.isfinite(value):
                    continue        # which the description of a file cannot hold
                path.write_bytes(container.pack(about | {name: about[name] | {key: value}}, arrays))
                refused(path, trainer, "expected|damaged")
    path.write_bytes(container.pack(about | {"progress": "[" * 10**5}, arrays))
    refused(path, trainer, "damaged description")
    path.write_bytes(container.pack(about, arrays))
    read_checkpoint(path, trainer.model, trainer.optimizer, trainer.schedule)


def test_a_name_reaches_the_disk_where_the_file_system_can_do_that(tmp_path, monkeypatch):
    synced, error, fsync = [], None, os.fsync

    def noted(descriptor):
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}") if sys.platform == "linux" else "")
        if len(synced) == 2 and error:
            raise OSError(error, os.strerror(error))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    atomic.write_whole(tmp_path / "a", b"1")
    assert len(synced) == 2
    if sys.platform == "linux":
        assert re.fullmatch(r"a\.[0-9a-f]{16}\.partial", Path(synced[0]).name) and synced[1] == str(tmp_path)
    synced, error = [], errno.EINVAL
    atomic.write_whole(tmp_path / "a", b"2")
    synced, error = [], errno.EIO
    with pytest.raises(FileError, match="cannot write: Input/output error"):
        atomic.write_whole(tmp_path / "a", b"3")


# ---- kill -9


KILLS = 100


@pytest.mark.skipif(not hasattr(os, "fork"), reason="killing takes fork, which this system does not have")
def test_a_run_killed_a_hundred_times_loses_nothing_that_it_said_was_written(tmp_path):
    done = run_python(__file__, "kills", str(tmp_path))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["kills"] == KILLS and found["lost"] == [] and found["in writing"] > 0
    assert found["resumed"] == found["straight"]
    assert sorted(os.listdir(tmp_path / "run")) == ["best.safetensors", NAME, "history.json"]


def report_to(pipe):
    """A Trainer that writes the number of updates into a pipe, each time the checkpoint that holds them is written."""
    class Reporting(Trainer):
        def _write_checkpoint(self, *arguments):
            super()._write_checkpoint(*arguments)
            os.write(pipe, struct.pack("<q", self.optimizer.updates[0]))
    return Reporting


def kill_one(folder, options):
    """Continue a run without end in a child, kill it at a random moment; the last update that it reported, or 0."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(reader)
            run(folder, options, epochs=10**6, kind=report_to(writer))
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    os.close(writer)
    time.sleep(moments.uniform(0, 0.1))
    os.kill(child, signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL, "the run ended by itself"
    with os.fdopen(reader, "rb") as reports:
        said = reports.read()
    return struct.unpack("<q", said[-8:])[0] if said else 0


def kills(folder):
    options, lost, writing, last = OPTIONS[0], [], set(), 0
    tqdm.set_lock(threading.RLock())    # its own is shared with children: one that is killed would keep it
    run(folder / "warm", options, epochs=1)
    for _ in range(KILLS):
        last = max(last, kill_one(folder / "run", options))
        writing |= {path.stat().st_mtime_ns for path in (folder / "run").glob("*.partial")}
        if last or (folder / "run" / NAME).exists():
            about, _ = container.unpack(folder / "run" / NAME)
            written = about["optimizer_state"]["updates.0"]
            if written < last:
                lost.append([last, written])
    epochs = len(json.loads(about["progress"])["history"]) + 1
    ends = [results(run(folder / name, options | {"every": every}, epochs=epochs))
            for name, every in (("run", 1), ("straight", None))]
    resumed, straight = ([repr(sorted(part.items())) if isinstance(part, dict) else part for part in end] for end in ends)
    print(json.dumps({"kills": KILLS, "lost": lost, "in writing": len(writing), "resumed": resumed, "straight": straight}))


if __name__ == "__main__":
    if sys.argv[1] == "resume":
        for number, options in enumerate(OPTIONS):
            run(Path(sys.argv[2]) / f"{number} resumed", options)
    else:
        kills(Path(sys.argv[2]))
