"""Eight threads use the same models, which are in training mode: no result may be wrong, no mode changed at the end.

    python tools/stress_threads.py [CALLS]

CALLS (2,000) in all: generating, predicting, evaluating, converting, compiling and comparing, which run in evaluation mode,
beside dropout that drops and trainers that train models of their own. Exit status 1 if a result is not that of one thread.
"""

from __future__ import annotations

import itertools
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from tqdm import tqdm

import tinyml
from tinyml import data, models, nn, optim, precision, random
from tinyml.evaluation import evaluate, predict
from tinyml.nn import functional as F

THREADS = 8
X = np.random.default_rng(0).standard_normal((16, 3, 8, 8)).astype(np.float32)
Y = np.arange(16) % 10


class Shared:
    """The models that all threads use, and what each kind of call gives on one thread."""

    def __init__(self) -> None:
        tinyml.manual_seed(0)
        self.cnn = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(),
                                 nn.Linear(512, 10))
        self.gpt = models.TinyGPT(20, 16, 2, 2, 16, dropout=0.5)
        each = (self.generate, self.predict, self.evaluate, self.dynamic, self.static, self.compile, self.compare)
        self.calls = {call.__name__: call for call in each}
        self.expected = {name: call() for name, call in self.calls.items()}

    def generate(self) -> bytes:
        return self.gpt.generate([1, 2, 3], 8, temperature=0).tobytes()

    def predict(self) -> bytes:
        return predict(self.cnn, [X]).tobytes()

    def evaluate(self) -> bytes:
        return repr(evaluate(self.cnn, data.DataLoader(data.ArrayDataset(X, Y), 5), F.cross_entropy)).encode()

    def dynamic(self) -> bytes:
        return self.cnn.to_int8()(X).numpy().tobytes()

    def static(self) -> bytes:
        return self.cnn.to_int8(calibration=[X])(X).numpy().tobytes()

    def compile(self) -> bytes:
        return self.cnn.compile(X)(X).numpy().tobytes()

    def compare(self) -> bytes:
        found = precision.compare(self.cnn, self.cnn.to_int8(), [(X, Y)], show=False, seconds=0)
        return repr((found.a.loss, found.b.loss, found.agreement)).encode()

    def drop(self) -> bool:
        """Whether dropout drops: in a thread that trains it must, whatever the others do."""
        return bool((self.cnn[3](np.ones((200,), np.float32)).numpy() == 0).any())


def train() -> bool:
    """Whether a run of training, which evaluates in between, gives its own model a mode and finite weights."""
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 3))
    loader = data.DataLoader(data.ArrayDataset(X.reshape(-1, 4), np.arange(768) % 3), 256)
    tinyml.Trainer(model, optim.SGD(model.parameters(), 0.1), progress=False).fit(loader, 1, validation=loader)
    return all(m.training for m in model.modules()) and all(np.isfinite(p.numpy()).all() for p in model.parameters())


def main(calls: int) -> int:
    shared, wrong, lock = Shared(), Counter(), threading.Lock()
    names = [*shared.calls, "drop", "train"]
    before = random.generator()

    def one(name: str) -> None:
        right = (shared.drop() if name == "drop" else train() if name == "train"
                 else shared.calls[name]() == shared.expected[name])
        if not right:
            with lock:
                wrong[name] += 1

    with ThreadPoolExecutor(THREADS) as pool:
        work = pool.map(one, itertools.islice(itertools.cycle(names), calls))
        for _ in tqdm(work, total=calls, desc="calls", disable=not sys.stderr.isatty()):
            pass
    left = sum(not m.training for model in (shared.cnn, shared.gpt) for m in model.modules())
    same = random.generator() is before
    print(f"{calls:,} calls on {THREADS} threads: {sum(wrong.values())} wrong results {dict(wrong) or ''}; {left} layers "
          f"left in another mode; {'the same' if same else 'another'} random generator as before")
    return int(bool(wrong) or left > 0 or not same)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000))
