"""The one generator: replaced for a while in one thread, and in a child that is forked while another thread draws."""

from __future__ import annotations

import os
import signal
import threading
import time
import warnings

import numpy as np
import pytest

import tinyml
from tinyml import random


def test_a_replaced_generator_is_the_threads():
    tinyml.manual_seed(3)
    expected, own = np.random.default_rng(3).random(4), []
    with random.replaced(7):
        inside = random.generator().random(2)
        thread = threading.Thread(target=lambda: own.append(random.generator().random(2)))
        thread.start()
        thread.join()
        tinyml.manual_seed(7)       # within it, that of the thread
        assert np.array_equal(random.generator().random(2), inside)
    assert np.array_equal(np.concatenate([own[0], random.generator().random(2)]), expected)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_draws_although_another_thread_was_drawing():
    """Earlier, a thread that does not exist in the child held the lock of the generator there for ever."""
    tinyml.manual_seed(5)
    lock, held, state = random.generator().bit_generator.lock, threading.Event(), random.get_state()

    def draw():
        with lock:
            held.set()
            time.sleep(0.2)

    thread = threading.Thread(target=draw)
    thread.start()
    held.wait()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")      # Python 3.12 and later warn of forks beside threads
        child = os.fork()
    if child == 0:
        same = False
        try:
            same = random.get_state() == state and 0 <= random.generator().random() < 1
        finally:
            os._exit(0 if same else 3)
    until, status = time.monotonic() + 20, None
    while status is None and time.monotonic() < until:
        found, code = os.waitpid(child, os.WNOHANG)
        status = code if found else time.sleep(0.01)
    if status is None:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    thread.join()
    assert status == 0 and random.generator().random() >= 0 and lock.acquire(blocking=False)
    lock.release()
