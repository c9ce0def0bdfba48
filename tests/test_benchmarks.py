"""The speed benchmarks on tiny sizes: what they call, check, print and write. No speed is asserted."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parent.parent))     # benchmarks is not installed with tinyml

import benchmarks.__main__ as command
import tinyml
from benchmarks import (
    cnn,
    conv,
    elementwise,
    gemm,
    gpt,
    layers,
    machine,
    memory,
    overhead,
    peers,
    repairs,
    report,
    roofline,
    steps,
    timing,
    why,
)
from benchmarks.prepared import Prepared
from benchmarks.steps import Step
from benchmarks.timing import Row, Timing
from tinyml import models
from tinyml._kernels.products.windows import Window

CONVOLUTIONS = {"3x3": (2, 4, 6, 8, Window((3, 3), (1, 1), (1, 1))),
                "depthwise": (2, 4, 6, 4, Window((3, 3), (2, 2), (1, 1), groups=4))}
STEPS = {"CNN": Step("CifarCNN", (3, 10, 4), 2, (3, 8, 8), 10),
         "GPT": Step("TinyGPT", (12, 8, 2, 2, 8, 0, False), 2, (8,), 12),
         "nanoGPT": Step("TinyGPT", (12, 8, 2, 2, 8), 2, (8,), 12, biases=False, betas=(0.9, 0.99), weight_decay=0.1,
                         vectors_decay=False, clip=1.0),
         "MLP": Step("MLP", (6, 5, 4), 3, (6,), 4)}
ELEMENTWISE = {name: replace(work, shapes=((2, 3, 4, 4),) if len(work.shapes[0]) == 4 else ((4, 6),))
               for name, work in elementwise.WORK.items()}
TINY = 1e-12    # seconds that a sample lasts at least: one call
GPTS = {name: replace(shape, arguments=(12, 16, 1, 2, 8), prompt=4, tokens=3) for name, shape in gpt.SHAPES.items()}
SMALL = [(gpt, "SHAPES", GPTS), (gpt, "PROMPT", 6),
         (gemm, "SHAPES", [(3, 8, 5), (1, 8, 70)]), (gemm, "HALF", (1, 8, 70)), (conv, "SHAPES", CONVOLUTIONS),
         (cnn, "IMAGE", (3, 8, 8)), (overhead, "THREADED", [(4, 8, 8)]), (overhead, "CHAIN", 3), (steps, "STEPS", STEPS),
         (elementwise, "WORK", ELEMENTWISE), (memory, "RUNS", 1), (roofline, "ROUNDS", 20), (timing, "SAMPLE", TINY),
         (roofline, "bytes_beyond_cache", lambda: 2**16), (why, "BATCH", 2), (why, "IMAGE", (3, 8, 8)),
         (why, "ONE_ROW", (1, 8, 16))]


NETWORK = {"tinyml", "tinyml eager", "tinyml float32"}
OWN = {"gemm": {"tinyml", "tinyml float32"}, "conv": {"tinyml"}, "cnn": NETWORK, "train": {"tinyml"},     # tinyml's forms
       "gpt": {"tinyml", "tinyml float32", "tinyml int8", "tinyml step",
               "tinyml float16 cache", "tinyml float32 cache"}, "elementwise": {"tinyml"}, "overhead": NETWORK}


def small_models() -> dict:
    """CifarCNN at two batch sizes, and a network with branches."""
    return {"CifarCNN": (lambda: models.CifarCNN(width=4), [2, 1], ["float32", "int8"]),
            "ResNet8": (lambda: models.ResNet8(width=4), [2], ["int8"]),
            "DepthwiseCNN": (lambda: models.DepthwiseCNN(width=4), [2], ["int8"])}


def shrink(set_attribute=setattr) -> None:
    """Make the work so small that it takes no time."""
    for module, name, value in [*SMALL, (cnn, "MODELS", small_models())]:
        set_attribute(module, name, value)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink(monkeypatch.setattr)


TOKENS = {f"{name}, a token after 4{more}" for name in GPTS for more in ("", ", drawn")} | {"GPT-2 124M, a token after 13"}
# each subject's rows of int8 have tinyml's float32 beside them where the whole network runs
WORK = {"gemm": {"3x8x5", "1x8x70"}, "conv": {"3x3, batch 2", "depthwise, batch 2"},
        "cnn": {"CifarCNN, batch 2", "CifarCNN, batch 1", "ResNet8, batch 2", "DepthwiseCNN, batch 2"},
        "train": {*STEPS},
        "gpt": {*TOKENS, "GPT-2 124M, prompt of 6"},
        "elementwise": {f"{name} {'x'.join(map(str, work.shapes[0]))}{more}" for name, work in ELEMENTWISE.items()
                        for more in ("", ", and backward")},
        "overhead": {*overhead.OPS, *(f"{name}, on the tape" for name in overhead.OPS), "3 additions, and backward",
                     "CifarCNN of width 1, batch 1"}}
ROWS = {"gemm": 5, "conv": 4, "cnn": 6, "train": 4, "gpt": 14, "elementwise": 2 * len(ELEMENTWISE), "overhead": 17}
READ = {"gemm": {"1x8x70"}, "elementwise": WORK["elementwise"],         # bound by reading
        "gpt": TOKENS}


def read_file(path: Path, subject: str) -> dict:
    """A JSON file whose head is well-formed."""
    found = json.loads(path.read_text(encoding="utf-8"))
    assert (found["subject"], found["threads"]) == (subject, 1) and found["command"].startswith("python -m benchmarks")
    assert found["versions"].keys() >= {"tinyml", "python", "numpy"} and found["machine"]["isa"]
    assert found["peaks"][-1].keys() == {"threads", "fma", "dot4", "read", "clock"}
    return found


def check_file(path: Path, subject: str, forms: set[str]) -> list[dict]:
    """The rows of a JSON file that is well-formed, where all of `forms` took part."""
    found = read_file(path, subject)
    rows = [r for r in found["rows"] if "2 threads" not in r["work"]]      # only where there are two cores
    assert {r["work"] for r in rows} == WORK[subject] and len(rows) == ROWS[subject]
    assert set().union(*(r["times"] for r in rows)) == forms
    for r in rows:
        assert next(iter(r["times"])) == "tinyml"
        assert all(0 < t["low"] <= t["median"] <= t["high"] and t["samples"] >= timing.SAMPLES for t in r["times"].values())
        own = r["times"]["tinyml"]["median"]
        assert r["ratios"] == {name: t["median"] / own for name, t in r["times"].items() if name != "tinyml"}
        assert r["faster_peer"] == min((v for k, v in r["ratios"].items() if not k.startswith("tinyml")), default=None)
        if subject != "overhead":
            moved = r["nbytes"] if r["bound"] == "read" else r["operations"]
            assert r["share"] == pytest.approx(moved / own / r["limit"]) and r["rate"] == r["operations"] / own
            assert (r["bound"] == "read") == (r["work"] in READ.get(subject, ()))
    return rows


@pytest.mark.parametrize("subject", ROWS)
def test_a_subject_prints_and_writes(subject, small, tmp_path, capsys):
    path = tmp_path / "found.json"
    assert command.main([subject, "--seconds", "0", "--json", str(path), "--markdown"]) == 0
    rows = check_file(path, subject, OWN[subject] | ({"numpy"} if subject == "overhead" else set()))
    out = capsys.readouterr().out
    head, *tables = out.split("\n\n")
    assert f"`python -m benchmarks {subject} --threads 1`" in head and "1 thread: fma " in head
    lines = [line for table in tables for line in table.splitlines()]
    for table in tables:
        assert len({line.count("|") for line in table.splitlines()}) == 1
    for r in rows:
        shown = [line for line in lines if line.startswith(f"| {r['work']} ") and f"| {r['precision']} " in line]
        assert len(shown) == 1 and report.duration(r["times"]["tinyml"]["median"]) in shown[0]


def test_operations_are_those_of_the_layers():
    """CifarCNN's 77 MFLOP, by hand; and one convolution."""
    c, images, x = [(3, 32, 32), (32, 32, 32), (32, 64, 16), (64, 64, 16), (64, 128, 8), (128, 128, 8)], 2, (2, 3, 32, 32)
    expected = images * (sum(2 * 9 * i * o * size**2 for i, o, size in c) + 2 * 128 * 10)
    assert cnn.ours.operations(models.CifarCNN().eval(), np.zeros(x, np.float32)) == expected
    layer = layers.make((2, 6, 5, 5), (4, 3, 3, 3), Window((3, 3), (2, 2), (1, 1), groups=2))
    assert layer.y.shape == (2, 4, 3, 3) and layer.operations == 2 * layer.y.size * 27
    assert layer.nbytes(4, 1) == 4 * (300 + 72) + 108


def test_several_threads_are_timed_beside_one(small, tmp_path):
    path, before = tmp_path / "found.json", tinyml.get_num_threads()
    try:
        assert command.main(["train", "--seconds", "0", "--threads", "2", "--json", str(path)]) == 0
        assert tinyml.get_num_threads() == 2
    finally:
        tinyml.set_num_threads(before)
    assert all(list(r["times"]) == ["tinyml", "tinyml, 1 thread"] for r in json.loads(path.read_text())["rows"])


# ---- memory


def check_memory(path: Path, forms: set[str]) -> None:
    *rows, floats, codes = read_file(path, "memory")["rows"]
    assert [r["work"] for r in rows] == ["CNN", "GPT", "nanoGPT"]
    assert floats["cache"] > codes["cache"] and floats["weights"] == codes["weights"]
    for r in (floats, codes):
        assert r["work"].startswith("GPT-2 124M, int8, cache ") and r["resident"] > r["weights"] > 0
        assert r["ratio"] == r["resident"] / (r["weights"] + r["cache"])
    assert set().union(*(r["usage"] for r in rows)) == forms
    for r in rows:
        own = r["usage"]["tinyml"]["peak"]
        assert own > 0 and r["ratios"] == {form: u["peak"] / own for form, u in r["usage"].items() if form != "tinyml"}


def enlarge(set_attribute=setattr) -> None:
    """Work that takes megabytes more than the process held before."""
    set_attribute(steps, "STEPS", {name: replace(step, batch=512) for name, step in STEPS.items()})
    set_attribute(gpt, "SHAPES", {gpt.GPT2: replace(GPTS[gpt.GPT2], arguments=(2**15, 16, 1, 2, 64))})


def test_memory_prints_and_writes(small, monkeypatch, tmp_path, capsys):
    enlarge(monkeypatch.setattr)
    path = tmp_path / "found.json"
    assert command.main(["memory", "--seconds", "0", "--json", str(path), "--markdown"]) == 0
    check_memory(path, {"tinyml"})
    head, *tables = capsys.readouterr().out.split("\n\n")
    assert "`python -m benchmarks memory --threads 1`" in head
    steps_, decoding = ([line.split("|")[1].strip() for line in table.splitlines()[2:]] for table in tables)
    assert steps_ == ["CNN", "GPT", "nanoGPT"] and all(name.startswith("GPT-2 124M, int8") for name in decoding)


def test_why_explains_in_numbers(small, capsys):
    assert command.main(["why", "--seconds", "0"]) == 0
    out = capsys.readouterr().out
    for heading in ("Lanes", "Instructions per cycle", "Bytes", "What is left of it"):
        assert f"\n\n{heading}" in out
    shares = [float(line.split()[-1 if "product" not in line else -3].rstrip("%"))
              for line in out.splitlines() if line.startswith(("  quantize ", "  product ", "  max_pool2d ", "  avg_pool ",
                                                               "  reshape ", "  dequantize "))]
    assert len(shares) == 13 and sum(shares) == pytest.approx(100, abs=1)
    with pytest.raises(SystemExit):
        command.main(["why", "--json", "x.json"])


# ---- timing


def test_functions_take_turns(monkeypatch):
    called = []
    functions = {name: lambda name=name: called.append(name) for name in "abc"}
    monkeypatch.setattr(timing, "SAMPLE", TINY)
    found = timing.alternate(functions, 0)
    assert called == ["a", "a", "b", "b", "c", "c"] + ["a", "b", "c"] * timing.SAMPLES     # warm-up, then turns
    assert list(found) == ["a", "b", "c"] and {t.samples for t in found.values()} == {timing.SAMPLES}
    called.clear()
    timing.alternate(functions, 0, settle=1e-3)
    turns = [(name, len(list(calls))) for name, calls in itertools.groupby(called[6:])]
    assert [name for name, _ in turns] == ["a", "b", "c"] * timing.SAMPLES
    assert min(n for _, n in turns) > 1         # also untimed, to wake its threads
    monkeypatch.setattr(timing, "SAMPLE", 1e-3)
    assert timing.alternate({"a": lambda: None}, 0)["a"].calls > 1


def test_items_are_timed_from_one_to_the_next(monkeypatch):
    """Each item advances a fake clock. The time to the first item does not count, nor do first turns."""
    now, slept, turns = [0.0], [], []

    def items(name: str, first: float, rest: float):
        turns.append(name)
        for seconds in (first, rest, rest):
            now[0] += seconds
            yield

    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: now[0], sleep=slept.append))
    sequences = {"a": lambda: items("a", 100, 2), "b": lambda: items("b", 1, 3)}
    found = timing.pace(sequences, 0, settle=0.5)
    assert {name: (t.median, t.samples) for name, t in found.items()} == {"a": (2, 6), "b": (3, 6)}
    assert turns == ["a", "b"] * 4 and slept == [0.5] * 8
    with pytest.raises(ValueError, match="one: expected an iterator of at least two items, got 1"):
        timing.pace({"one": lambda: iter([0])}, 0)


def test_a_token_reads_each_weight_once():
    """By hand, for one block of width 8 and 12 ids: weights, biases and norms, or codes and scales, and half the cache."""
    model = gpt.Shape((12, 16, 1, 2, 8), 4, 3).make()
    matrices, rows, vectors = 4 * 8 * 8 + 2 * 8 * 32 + 12 * 8, 24 + 8 + 32 + 8 + 12, (24 + 8 + 32 + 8) + 3 * 2 * 8
    cache = 2 * 8 * 8 * 4
    assert gpt.token_bytes(model, 8) == 4 * (matrices + vectors) + cache
    int8 = model.to_int8()
    assert gpt.token_bytes(int8, 8) == matrices + 4 * (rows + vectors) + cache
    codes, scales = 2 * 8 * 8, 4 * 2 * 8 * 2
    assert gpt.token_bytes(int8, 8, "int8") == matrices + 4 * (rows + vectors) + codes + scales


def timed(**medians: float) -> dict[str, Timing]:
    return {name.replace("_", " "): Timing(m, m, m, 5, 1) for name, m in medians.items()}


def test_ratios_and_shares():
    times = timed(tinyml=2e-3, tinyml_float32=8e-3, torch=3e-3, onnxruntime=4e-3)
    row = Row("w", "int8", times, 6_000_000, 3000, "dot4", 6e9)
    assert row.ratios == {"tinyml float32": 4, "torch": 1.5, "onnxruntime": 2}
    assert (row.faster_peer, row.rate, row.share) == (1.5, 3e9, 0.5)
    row.bound, row.limit = "read", 3e6
    assert row.share == 0.5
    assert Row("w", "float32", timed(tinyml=1.0, tinyml_float32=2.0)).faster_peer is None


def test_what_computes_something_else_is_not_timed(small):
    run = timing.Run(1, 0, [], roofline.Roofline(1, 0))
    ours, expected = Prepared(lambda: np.ones(3)), np.ones(3)
    assert run.row("w", "float32", {"tinyml": ours}, expected).share is None
    for wrong in (np.array([1, 1, 1.01]), np.ones((3, 1)), np.array([1, 1, np.nan])):
        with pytest.raises(ValueError, match="w, float32, other: expected the outputs"):
            run.row("w", "float32", {"tinyml": ours, "other": Prepared(lambda y=wrong: y)}, expected)


def test_durations_have_three_digits():
    seconds = (1.2345, 0.12345, 0.012345, 1.2345e-4, 9.9e-5, 1.2e-7)
    assert [report.duration(s) for s in seconds] == ["1234 ms", "123 ms", "12.3 ms", "0.123 ms", "99.0 µs", "0.120 µs"]


# ---- the limits of the machine


def test_peaks_are_measured_for_one_thread_and_for_all(small):
    found = roofline.Roofline(2, 0)
    assert [p.threads for p in found.peaks] == [1, 2]
    assert all(0 < v < np.inf for p in found.peaks for v in (p.fma, p.dot4, p.read, p.clock))
    assert found.limit("fma") == found.peaks[1].fma and found.limit("dot4") == found.peaks[1].dot4
    assert machine.cache_bytes("L3") >= 0 and machine.cores() >= 1


def test_a_best_time_is_the_shortest(monkeypatch):
    ticks = iter([0, 10, 15, 20, 22, 30, 37, 50])       # the end, then start and end of each call
    monkeypatch.setattr(tinyml.timing, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    assert tinyml.timing.least_time(lambda: None) == 2


# ---- peers


def test_a_missing_peer_names_the_extra(small, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    monkeypatch.delitem(sys.modules, "benchmarks.peers.with_numpy", raising=False)
    with pytest.raises(SystemExit):
        command.main(["gemm", "--vs", "numpy"])
    assert "--vs numpy: threadpoolctl is not installed; pip install '.[bench]'" in capsys.readouterr().err


@pytest.mark.parity
@pytest.mark.parametrize("subject, forms", {
    "gemm": {"torch", "torch packed", "onnxruntime", "numpy"},
    "conv": {"torch", "torch channels_last", "torch packed", "onnxruntime"},
    "cnn": {"torch", "torch channels_last", "onnxruntime"},
    "train": {"torch", "torch channels_last"},
    "gpt": {"torch"},
    "elementwise": {"torch", "numpy"},
    "memory": {"torch", "torch channels_last"},
    "overhead": {"torch", "torch channels_last", "onnxruntime", "numpy"}}.items())
def test_all_peers_compute_the_same(subject, forms, tmp_path):
    """In a separate process, because the peers turn gradients off and set threads for the whole process."""
    for name in (*peers.NAMES, "onnx", "threadpoolctl"):
        pytest.importorskip(name, reason="compares speed with PyTorch and ONNX Runtime: pip install '.[bench]'")
    path = tmp_path / "found.json"
    paths = os.pathsep.join(p or os.getcwd() for p in (*sys.path, str(Path(__file__).parent)))
    larger = "t.enlarge(); " if subject == "memory" else ""
    program = f"import sys, test_benchmarks as t; t.shrink(); {larger}sys.exit(t.command.main(sys.argv[1:]))"
    options = ("--seconds", "0", "--vs", *peers.NAMES, "--json", str(path))
    done = subprocess.run([sys.executable, "-W", "error", "-c", program, subject, *options], capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": paths}, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    if subject == "memory":
        check_memory(path, {"tinyml"} | forms)
    else:
        check_file(path, subject, OWN[subject] | forms)


def test_a_picture_without_matplotlib_names_the_extra(tmp_path, monkeypatch, capsys):
    from benchmarks import plot
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    (tmp_path / "gemm.json").write_text("{}")
    with pytest.raises(SystemExit):
        plot.main([str(tmp_path / "gemm.json")])
    assert "matplotlib is not installed; pip install '.[bench]'" in capsys.readouterr().err


@pytest.mark.parity
def test_the_roofline_is_drawn(small, tmp_path):
    pytest.importorskip("matplotlib", reason="draws with matplotlib: pip install '.[bench]'")
    from benchmarks import plot
    path, pictures = tmp_path / "gemm.json", [tmp_path / "a.svg", tmp_path / "b.svg"]
    assert command.main(["gemm", "--seconds", "0", "--json", str(path)]) == 0
    for picture in pictures:
        plot.main([str(path), str(path), "-o", str(picture)])
    first, second = (p.read_text() for p in pictures)
    assert first == second and all(text in first for text in ("3x8x5", "1x8x70", "float16 weights", "dot4: ", "memory: "))
    with pytest.raises(ValueError, match="expected rows with operations"):
        plot.figure([json.loads(path.read_text()) | {"rows": []}])


def test_the_table_of_repairs_has_a_line_a_network(monkeypatch):
    def net():
        return models.MLP(16, 8, 4)

    x, y = np.random.default_rng(0).standard_normal((8, 16), np.float32), np.arange(8) % 4
    monkeypatch.setattr(repairs, "networks", lambda: {"some net": (net, [x], [(x, y)])})
    rows = repairs.measure()
    assert [r["repairs"] for r in rows[:2]] == [[], ["equalize"]] and len(rows) == 12
    assert all(r["unit"] == "points" and -100 <= r["lost"] <= 100 for r in rows)
    lines = repairs.table(rows).splitlines()
    assert len(lines) == 4 and lines[2].startswith("| some net, points | one per layer   | ")
    assert {line.count("|") for line in lines} == {9}
