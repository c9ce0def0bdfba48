"""Load, print and call plans with something else written into their files, whose digests are right again.

    python tools/fuzz_plans.py                  20,000 plans
    python tools/fuzz_plans.py --only 4711      that one again, with its traceback; its file stays in build/fuzz

Every plan must give a tinyml error or a result, within limits of time and memory. Plans run some hundred in a process; one
that ends it, hangs or takes too much memory has failed, and another process goes on behind it. Prints each kind of failure
as it comes, and counts; exits with 1 where one failed.
"""

from __future__ import annotations

import argparse
import collections
import faulthandler
import re
import subprocess
import sys
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from mutations import HUGE, VALUES, other_arrays, other_description, other_length, other_number  # noqa: E402
from saved import KINDS, made, opened, rewrite  # noqa: E402

import tinyml  # noqa: E402
from tinyml.errors import FileError, TinymlError  # noqa: E402
from tinyml.graph import resolve  # noqa: E402
from tinyml.io import trial  # noqa: E402
from tinyml.precision import Plan  # noqa: E402

Content = tuple[dict[str, Any], dict[str, np.ndarray]]      # description and arrays
PLANS = [kind for kind in KINDS if kind.startswith(("static", "compiled"))]
MUTATIONS = (other_description, other_number, other_number, other_length,
             lambda about, rng: other_description(about, rng, (*VALUES, *HUGE)))
STATUS = Path("/proc/self/status")
OUTCOMES = ("refused", "too large to be called", "error when called", "result")
A_PROCESS = 500         # plans


def mutate(i: int, files: dict[str, Content]) -> Content:
    """Description and arrays of plan i: one change, or two or three, of which every fourth is to an array."""
    rng = np.random.default_rng(i)
    about, arrays = files[PLANS[i % len(PLANS)]]
    for _ in range((1, 1, 1, 2, 3)[rng.integers(5)]):
        if rng.integers(4) == 0 and arrays:
            arrays = other_arrays(arrays, rng)
        else:
            about = MUTATIONS[rng.integers(len(MUTATIONS))](about, rng)
    # three in four are not compared with what they computed when they were saved, which nearly all others fail
    return ({**about, "check": None} if rng.integers(4) else about), arrays


def attempt(path: Path, inputs: tuple[np.ndarray, ...]) -> str:
    """What came of a file, one of OUTCOMES. Other exceptions than tinyml's leave it."""
    try:
        loaded = tinyml.load(path)
    except FileError:
        return "refused"
    assert isinstance(loaded, Plan) and repr(loaded) and str(loaded), "a plan became something else"
    if trial.run(loaded, 0) is None:
        return "too large to be called"
    sizes = [resolve(slot.shape, 2) for slot in loaded.inputs]
    own = [np.zeros(size, np.float32 if slot.floats else np.int64) for size, slot in zip(sizes, loaded.inputs)]
    found = "error when called"
    for operands in (inputs, inputs, own, own):     # step by step, then at once
        try:
            with tinyml.no_grad():
                loaded(*operands)
        except TinymlError:
            continue
        found = "result"
    return found


def memory() -> int:
    """Bytes that were resident at most since the last call; 0 where the system does not tell."""
    if not STATUS.exists():
        return 0
    peak = int(re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text())[1]) * 1024
    Path("/proc/self/clear_refs").write_text("5")
    return peak


def work(begin: int, end: int, seconds: float, most: int, folder: Path) -> None:
    """Try plans begin to end - 1, and print a line for each: its number and what came of it."""
    warnings.simplefilter("error")
    files, inputs = {}, {}
    path = folder / "plan.safetensors"
    for kind in PLANS:
        model, inputs[kind] = made(kind)
        model.save(path)
        files[kind] = opened(path)
    base = path.read_bytes()
    memory()
    for i in range(begin, end):
        print(i, end=" ", flush=True)
        before = memory()
        path.write_bytes(base)
        rewrite(path, *mutate(i, files))
        faulthandler.dump_traceback_later(seconds, exit=True)
        try:
            found = attempt(path, inputs[PLANS[i % len(PLANS)]])
        except Exception as error:
            where = [f for f in traceback.extract_tb(error.__traceback__) if "tinyml" in f.filename][-1]
            found = f"{type(error).__name__} in {Path(where.filename).name}, {where.name}: {error}"
            if end == begin + 1:
                traceback.print_exc()
        faulthandler.cancel_dump_traceback_later()
        taken = memory() - before
        if taken > most:
            found = f"{taken >> 20} MB more resident than before"
        print(" ".join(found.split())[:300], flush=True)


def processes(numbers: range, seconds: float, most: int, folder: Path) -> Iterator[tuple[int, str]]:
    """Each plan's number and outcome, from one process after the other."""
    begin = numbers.start
    while begin < numbers.stop:
        end = min(begin + A_PROCESS, numbers.stop)
        command = [sys.executable, __file__, "--work", str(begin), str(end), "--seconds", str(seconds), "--most", str(most),
                   "--folder", str(folder)]
        with open(folder / "stderr", "w+") as log:
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=log, text=True, check=False)
            log.seek(0)
            said = log.read()
        if numbers.stop - numbers.start == 1:
            print(said)
        for line in done.stdout.splitlines():
            at, _, found = line.partition(" ")
            begin = int(at) + 1
            if found:
                yield int(at), found
        if done.returncode:
            if not done.stdout:
                raise SystemExit(f"fuzz_plans: the process that tries plans does not start:\n{said[-3000:]}")
            reason = next(filter(re.compile("ERROR: |runtime error|Timeout|Fatal").search, said.splitlines()), "")
            yield begin - 1, f"the process ended with {done.returncode}: {reason}"


def kind_of(failure: str) -> str:
    """A failure without its numbers and names: those of one kind are counted together."""
    return re.sub(r"0x[0-9a-f]+|-?[\d.]+(e[+-]?\d+)?|'[^']*'", "#", failure)[:120]


def main() -> int:
    """Try all plans, print counts and failures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--number", type=int, default=20_000)
    parser.add_argument("--only", type=int, metavar="I", help="try plan I alone")
    parser.add_argument("--seconds", type=float, default=60, help="a plan may take (default 60)")
    parser.add_argument("--most", type=int, default=2 << 30, help="bytes a plan may make resident (default 2^31)")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "fuzz", help=argparse.SUPPRESS)
    parser.add_argument("--work", type=int, nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    if args.work:
        work(*args.work, args.seconds, args.most, args.folder)
        return 0
    numbers = range(args.number) if args.only is None else range(args.only, args.only + 1)
    outcomes, failures = collections.Counter(), collections.defaultdict(list)
    for i, found in processes(numbers, args.seconds, args.most, args.folder):
        if found in OUTCOMES:
            outcomes[found] += 1
        else:
            outcomes["failed"] += 1
            failures[kind_of(found)].append(i)
            if len(failures[kind_of(found)]) == 1:
                print(f"plan {i} failed: {found}", flush=True)
        if sum(outcomes.values()) % 1000 == 0:
            print(f"{sum(outcomes.values())} plans: {dict(outcomes)}", flush=True)
    for kind, plans in failures.items():
        print(f"{len(plans)} times, as plan {', '.join(map(str, plans[:5]))}: {kind}")
    print(f"{sum(outcomes.values())} plans: " + ", ".join(f"{n} {what}" for what, n in outcomes.items()))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
