"""The pool of large arrays, and who may write into one."""

from __future__ import annotations

import os
import resource
import threading
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinyml
from tinyml import models, nn, optim
from tinyml._kernels import memory
from tinyml._kernels.rows.elementwise import elementwise

LARGE = memory.SMALL // 4       # elements of float32 of the smallest array that comes from the pool


def address(a: np.ndarray) -> int:
    return a.__array_interface__["data"][0]


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 6), st.booleans()), max_size=80))
def test_no_block_is_given_out_twice_while_a_view_of_it_lives(steps):
    """Arrays hold their own number to the end, whatever is allocated, sliced and dropped in between."""
    alive: list[np.ndarray] = []
    start = memory.usage()["in_use"]
    for number, (size, victim, view) in enumerate(steps):
        a = memory.empty((size, LARGE), np.float32)
        assert a.flags.c_contiguous and a.flags.writeable and address(a) % memory.LINE == 0
        a[...] = number
        alive.append(a[:, 1:].T if view else a)
        if victim < len(alive) - 1:
            del alive[victim]
        del a
        assert all((b == b.flat[0]).all() for b in alive)
        assert len({b.flat[0] for b in alive}) == len(alive)
    used = memory.usage()["in_use"] - start
    need = sum((b.base if b.base.size > b.size else b).nbytes for b in alive if isinstance(b.base, np.ndarray))
    assert need <= used
    del alive[:]
    b = None    # noqa: F841  (the last of the loop)
    assert memory.usage()["in_use"] == start


def test_a_dead_block_is_used_again_by_an_array_of_about_its_size():
    tinyml.empty_cache()
    memory.empty((90, LARGE), np.float32)       # so much may be free from now on
    a = memory.empty((9, LARGE), np.float32)
    at, nbytes = address(a), a.nbytes
    view = a[1:]
    del a
    other = memory.empty((9, LARGE), np.float32)
    assert address(other) != at         # the view keeps it
    del view
    for size, again in ((nbytes // 4, False), (nbytes * 2, False), (nbytes - nbytes // 10, True), (nbytes, True)):
        assert (address(memory.empty((size,), np.uint8)) == at) == again


def test_the_pool_keeps_no_more_than_it_needed():
    tinyml.empty_cache()
    before = memory.usage()
    arrays = [memory.empty((n, LARGE), np.float32) for n in (64, 128, 256)]
    most = sum(a.nbytes for a in arrays)
    del arrays
    for n in range(1, 300, 7):      # sizes that no free block fits
        memory.empty((n * n, LARGE), np.float32) if n < 12 else memory.empty((n, LARGE), np.float32)
        usage = memory.usage()
        assert usage["in_use"] + usage["free"] <= 1.5 * usage["peak"] and usage["in_use"] == before["in_use"]
    assert most <= memory.usage()["peak"] - before["in_use"] <= 1.125 * most
    tinyml.empty_cache()
    assert memory.usage() == {"in_use": before["in_use"], "free": 0, "peak": before["in_use"]}


def test_blocks_die_in_any_thread():
    start, failed = memory.usage()["in_use"], []

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        kept: list[np.ndarray] = []
        for i in range(300):
            a = memory.empty((int(rng.integers(1, 9)), LARGE), np.float32)
            a[...] = seed
            kept.append(a)
            handed[(seed + i) % len(handed)] = a        # dies where another thread overwrites it
            if len(kept) > 5:
                failed.extend(b for b in kept if not (b == seed).all())
                kept.clear()

    handed: list = [None] * 7
    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    handed.clear()
    assert not failed and memory.usage()["in_use"] == start


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
def test_a_forked_child_has_arrays_and_lists_of_its_own():
    kept = memory.empty((4, LARGE), np.float32)
    kept[...] = 1
    memory.empty((8, LARGE), np.float32)
    child = os.fork()
    if not child:
        a, kept[...] = memory.empty((8, LARGE), np.float32), 2
        a[...] = 3
        del a
        tinyml.empty_cache()
        os._exit(0 if (kept == 2).all() else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert (kept == 1).all() and memory.empty((8, LARGE), np.float32).shape == (8, LARGE)


@pytest.mark.parametrize("shape", [(2**45,), (2**40, 2**40), (10**30,)])
def test_too_large_is_a_clear_error(shape):
    with pytest.raises(MemoryError, match=r"memory: an array of float32 of shape \(\d+.*\) would take"):
        memory.empty(shape, np.float32)


def test_tracemalloc_counts_the_arrays():
    tinyml.empty_cache()
    tracemalloc.start()
    try:
        a = memory.empty((100, LARGE), np.float32)
        assert tracemalloc.get_traced_memory()[0] >= a.nbytes
        del a
        assert tracemalloc.get_traced_memory()[0] < memory.SMALL
    finally:
        tracemalloc.stop()


@given(st.permutations(range(4)), st.integers(1, 3), st.sampled_from([1, 700]))
def test_like_keeps_the_memory_order(order, thin, channels):
    a = np.zeros((2, thin, 5, channels), np.float32).transpose(order)
    b = memory.empty_like(a)
    assert b.shape == a.shape and b.dtype == a.dtype and (b.strides == np.empty_like(a).strides or 1 in a.shape)
    assert memory.empty_like(a[::2]).shape == a[::2].shape


@given(st.data(), st.sampled_from([np.add, np.multiply, np.divide]))
def test_elementwise_is_numpy(data, function):
    shapes = [(64, 8, 9), (1, 8, 9), (9,), (64, 1, 1), (64, 8, 1), (1,), (8, 9, 64)]
    rng = np.random.default_rng(0)

    def operand() -> np.ndarray:
        shape = data.draw(st.sampled_from(shapes))
        a = rng.standard_normal(shape).astype(data.draw(st.sampled_from([np.float32, np.float64, np.bool_])))
        return a.transpose(2, 0, 1) if shape == (8, 9, 64) else a

    a, b = operand(), operand()
    if a.dtype == b.dtype == np.bool_:
        return
    with np.errstate(divide="ignore", invalid="ignore"):
        got, expected = elementwise(function, a, b), function(a, b)
    assert got.dtype == expected.dtype and got.shape == expected.shape
    assert np.array_equal(got, expected, equal_nan=True)


# ---- who sees an array


HELD: dict[str, np.ndarray] = {}


def held(a: np.ndarray) -> np.ndarray:
    HELD["array"] = a
    return a


def frozen(a: np.ndarray) -> np.ndarray:
    a.flags.writeable = False
    return a


@pytest.mark.parametrize("make, expected", [
    (lambda: np.zeros(3, np.float32), True),
    (lambda: memory.empty((2, LARGE), np.float32), True),
    (lambda: memory.empty((2, LARGE), np.float32).reshape(LARGE, 2), True),
    (lambda: memory.empty((2, 3, LARGE), np.float32).transpose(0, 2, 1), True),
    (lambda: np.zeros(6).reshape(2, 3).T, True),
    (lambda: np.zeros(6)[:3], False),                       # holds more than it shows
    (lambda: held(np.zeros(3)), False),
    (lambda: held(np.zeros(3)).reshape(3, 1), False),
    (lambda: held(np.zeros((3, 1)).T).T, False),            # two views of one array
    (lambda: held(memory.empty((2, LARGE), np.float32)).T, False),
    (lambda: held(memory.empty((2, LARGE), np.float32)[0]).base, False),
    (lambda: frozen(np.zeros(3)), False),
    (lambda: np.broadcast_to(np.zeros(1), (3,)), False),
    (lambda: np.lib.stride_tricks.as_strided(np.zeros(5), (3, 3), (8, 8)), False),      # elements share memory
    (lambda: np.frombuffer(bytearray(8), np.float32), False),
    (lambda: np.float32(3), False),
])
def test_sole_sees_every_other_reference(make, expected):
    HELD.clear()
    assert memory.sole([make()], 0) == memory.sole({"key": make()}, "key") == expected


# ---- training


def test_a_training_step_touches_no_fresh_memory():
    """A step of a CNN and one of a GPT took 2,000 page faults each."""
    rng = np.random.default_rng(0)
    for model, x, classes in (
            (models.CifarCNN(width=16), rng.standard_normal((32, 3, 32, 32), np.float32), 10),
            (models.TinyGPT(65, 64, 2, 4, 128), rng.integers(0, 65, (16, 64)), 65)):
        y = rng.integers(0, classes, x.shape if x.ndim == 2 else len(x))
        optimizer = optim.SGD(model.parameters(), 1e-3)

        def step(model=model, x=x, y=y, optimizer=optimizer):
            optimizer.zero_grad()
            (model.default_loss or nn.functional.cross_entropy)(model(x), y).backward()
            optimizer.step()

        for _ in range(4):
            step()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(4):
            step()
        assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 4 * 100


def test_results_do_not_depend_on_whose_memory_they_are_in(monkeypatch: pytest.MonkeyPatch):
    def trained() -> list[np.ndarray]:
        tinyml.manual_seed(0)
        rng, model = np.random.default_rng(0), models.ResNet8(width=8)
        optimizer = optim.SGD(model.parameters(), 1e-2, momentum=0.9)
        for _ in range(2):
            optimizer.zero_grad()
            logits = model(rng.standard_normal((16, 3, 32, 32), np.float32))
            nn.functional.cross_entropy(logits, np.arange(16) % 10).backward()
            optimizer.step()
        return [*model.state_dict().values(), *(p.grad.numpy() for p in model.parameters())]

    pooled = trained()
    for name, plain in (("empty", np.empty), ("empty_like", np.empty_like), ("sole", lambda holder, key: False)):
        monkeypatch.setattr(memory, name, plain)
    assert all((a == b).all() for a, b in zip(pooled, trained(), strict=True))
