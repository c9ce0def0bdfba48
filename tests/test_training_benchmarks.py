"""What the benchmarks of training count, what they compare, and that all sides do the same work."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from test_benchmarks import STEPS

import tinyml
from benchmarks import cnn, elementwise, memory, steps, train
from benchmarks.prepared import Prepared


def test_operations_of_a_step_are_those_of_its_products():
    """By hand: each gradient takes as many operations as the forward, and images and ids have none."""
    mlp, gpt, conv = STEPS["MLP"], STEPS["GPT"], STEPS["CNN"]
    assert steps.operations(mlp) == 2 * 3 * (2 * 6 * 5 + 3 * 5 * 4)
    b, t, c, vocab, pairs = 2, 8, 8, 12, 8 * 9 // 2
    assert steps.operations(gpt) == 3 * 2 * (b * t * (2 * 12 * c * c + c * vocab) + 2 * 2 * b * pairs * c)
    assert steps.operations(STEPS["nanoGPT"]) == steps.operations(gpt)
    with tinyml.no_grad():
        forward = cnn.ours.operations(conv.make().eval(), conv.data()[0])
    assert steps.operations(conv) == 3 * forward - 2 * 2 * 64 * 9 * 3 * 4


def test_a_step_trains_by_its_settings():
    """Clipping bounds the gradient and the plain step does not; decay moves matrices only where vectors are exempt."""
    nano = STEPS["nanoGPT"]
    for step, expected in ((nano, {"norm.weight"}), (replace(nano, vectors_decay=True), set())):
        model = step.make()
        assert {name for name, p in model.named_parameters() if not p.decay} >= expected
        assert all(p.decay for p in model.parameters()) == step.vectors_decay
        assert not any(name.endswith("bias") for name, _ in model.named_parameters())
    small, free = (steps.training(replace(nano, clip=clip)) for clip in (1e-3, None))
    clipped, whole = (p.array(p.call()) for p in (small, free))
    assert clipped[0] == whole[0] and np.linalg.norm(clipped[1:]) < 1e-3 < np.linalg.norm(whole[1:])
    assert free.array(free.call())[0] < whole[0]


def test_steps_that_disagree_are_not_timed():
    right = np.array([2.0, 0.1, -0.1])
    prepared = {"tinyml": Prepared(lambda: right), "same": Prepared(lambda: right * (1 + 1e-6))}
    train.agree("w", prepared)
    for wrong, what in (([2.001, 0.1, -0.1], "loss"), ([2, 0.1, 0.1], "gradient of the first parameter")):
        with pytest.raises(ValueError, match=f"w, other, {what}: expected the outputs"):
            train.agree("w", {**prepared, "other": Prepared(lambda y=wrong: np.array(y))})


def test_bytes_are_those_read_and_written_once():
    x, y = np.zeros((4, 6), np.float32), np.zeros((), np.float32)
    assert elementwise.nbytes([x, x], x, None) == 3 * 96
    assert elementwise.nbytes([x, x], x, 2) == 3 * 96 + 3 * 96 + 2 * 96    # both operands and the cotangent, two gradients
    assert elementwise.nbytes([x, np.zeros(4, np.int64)], y, 1) == (96 + 32 + 4) + (96 + 4 + 96)


def test_of_dropout_the_factor_is_compared():
    x = np.arange(1.0, 9.0, dtype=np.float32).reshape(2, 4)
    found = [elementwise.keep_factors(Prepared(lambda f=f: f * x * (x % 3 > 0)), x) for f in (1.25, 2.5)]
    assert [p.array(p.call()).tolist() for p in found] == [[1.25], [2.5]]


def test_memory_counts_what_a_step_holds():
    """At least the parameters, their gradients and AdamW's two moments; not the libraries, which take far more."""
    step = replace(STEPS["GPT"], arguments=(20_000, 8, 1, 2, 16), classes=20_000)
    least = 4 * 4 * sum(p.numel() for p in step.make().parameters())
    usage = memory.measure_apart("tinyml", 1, step)
    assert least <= usage.peak <= 4 * least and usage.faults >= 0


def test_a_table_of_memory_has_ratios_and_gaps():
    runs = {"tinyml": [memory.Usage(2 * memory.MB, 3.0)],
            "torch": [memory.Usage(n * memory.MB, faults) for n, faults in ((9, 1e3), (3, 7e3), (2.5, 0))]}
    rows = [memory.Footprint("a", runs), memory.Footprint("b", {"tinyml": runs["tinyml"]})]
    assert rows[0].figures()["usage"]["torch"] == {"peak": 3 * memory.MB, "faults": 1e3}
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in memory.table(rows, True).splitlines()]
    assert lines[0] == ["work", "tinyml", "faults per step", "torch", "faults per step"]
    assert lines[2:] == [["a", "2.0 MB (2.0 to 2.0)", "3", "3.0 MB (2.5 to 9.0), 1.50x", "1000"],
                         ["b", "2.0 MB (2.0 to 2.0)", "3", "", ""]]
