"""Fork children beside threads that are in kernels: each must compute what its parent computes, and none may hang.

    python tools/stress_forks.py [FORKS] [SECONDS]

FORKS children (500), each killed after SECONDS (30). Threads meanwhile lay out plans, train, multiply, convolve and draw
random numbers, so that a fork comes while any of them holds whatever lock there is. Exit status 1 if a child hung or
computed anything else.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections import Counter

import numpy as np

import tinyml
from tinyml import Tensor, nn, optim, random
from tinyml.nn import functional as F

X = np.random.default_rng(0).standard_normal((64, 3, 12, 12)).astype(np.float32)


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
                         nn.Linear(288, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 10))


def work(plans: list[nn.Module], batch: int) -> bytes:
    """Plans that lay out their values anew, a step of training, products, sums: bytes that do not depend on threads."""
    found = [plan.copy()(X[:batch]).numpy() for plan in plans]
    a = X.reshape(64, 432)[:batch]
    found += [(Tensor(a) @ Tensor(a.T)).numpy(), Tensor(X).sum((0, 2, 3)).numpy(), F.conv2d(X, X[:8, :, :3, :3]).numpy()]
    return b"".join(np.ascontiguousarray(y).tobytes() for y in found)


def train() -> None:
    """A step that draws from tinyml's generator."""
    model = network()
    optimizer = optim.AdamW(model.parameters(), 1e-3)
    F.cross_entropy(model(X), np.arange(64) % 10).backward()
    optimizer.step()
    random.generator().standard_normal(200_000)


def child(plans: list[nn.Module], batch: int, expected: bytes) -> int:
    """Fork; in the child do all that a thread does. Its number."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        train()
        status = 0 if work(plans, batch) == expected else 2
    finally:
        os._exit(status)


def outcome(pid: int, seconds: int) -> str:
    """How a child ended; one that runs for longer is killed. Its parent looks, as it may hang in fork() itself."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            code = os.waitstatus_to_exitcode(status)
            return f"status {code}" if code else "as expected"
        time.sleep(0.001)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "hung"


def main(forks: int, seconds: int) -> int:
    model = network().eval()
    plans = [model.compile(X), model.to_int8(calibration=[X])]
    tinyml.set_num_threads(2)
    expected = {batch: work(plans, batch) for batch in range(1, 6)}
    done = threading.Event()

    def loop(number: int) -> None:
        while not done.is_set():
            train() if number % 2 else work(plans, 1 + number)

    threads = [threading.Thread(target=loop, args=(n,)) for n in range(4)]
    for t in threads:
        t.start()
    ended: Counter[str] = Counter()
    for i in range(forks):
        ended[outcome(child(plans, 1 + i % 5, expected[1 + i % 5]), seconds)] += 1
        time.sleep(0.0005 * (i % 7))        # at another moment of what the threads do
    done.set()
    for t in threads:
        t.join()
    print(f"{forks} forks: " + ", ".join(f"{count} {how}" for how, count in ended.most_common()))
    return int(ended["as expected"] != forks)


if __name__ == "__main__":
    sys.exit(main(*(int(v) for v in [*sys.argv[1:], *("500", "30")[len(sys.argv) - 1 :]])))
