"""Calls of all that is public with arguments that nobody should pass: python tools/hostile_calls.py --calls 99 --seeds 0

Each call takes valid arguments and replaces one or more of them by what is hostile. It may give a result, one of tinyml's
errors, or Python's TypeError for a signature that does not fit; anything else is an offender, printed with its call. So is
a call that takes too long, leaves the tape off or a layer running, or, with valid arguments alone, fails or gives NaN. Each
seed is run in a process of its own, so that one that dies is named as well. Exits with 1 if there are offenders.
"""

from __future__ import annotations

import argparse
import contextlib
import inspect
import itertools
import os
import random
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from hostile_arguments import HOSTILE, METHODS, OTHERS, SPACES, TENSOR_METHODS, TENSORS, VALID, spoiled

from tinyml import Tensor, checks, data
from tinyml.errors import TinymlError
from tinyml.state import GradMode, state

SECONDS, MEMORY = 20, 4 << 30       # that a call may take; sizes above half of MEMORY are absurd on this machine
# of a forward, or of a function that was passed, called with arguments that it does not take
SIGNATURE = re.compile(r"(forward|<lambda>|__init__)\(\) (missing|takes|got an unexpected|got multiple)|defines no|"
                       "takes no arguments")


class Late(BaseException):
    """A call takes too long."""


def public() -> set[str]:
    """Names of all functions and classes that the public modules have."""
    found = set()
    for space, module in SPACES.items():
        own = getattr(module, "__all__", None) or [n for n, v in vars(module).items() if n[0] != "_" and getattr(
            v, "__module__", None) == module.__name__]
        found |= {f"{space}.{name}" for name in own if callable(getattr(module, name))}
    return found


class Call:
    """A function with arguments, and the text that says so."""

    def __init__(self, label: str, function: Callable, valid: dict[str, Any], rng: random.Random, subject: str = ""):
        self.function, self.named, self.positional = function, dict(valid), list(valid.get("*", ()))
        self.named.pop("*", None)
        try:
            known = inspect.signature(function).parameters.values()
        except (TypeError, ValueError):
            known = []
        names = list(dict.fromkeys([p.name for p in known if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)] + [
            *self.named]))
        self.changed = {p.name: rng.choice(list(HOSTILE)) for p in known if p.kind == p.POSITIONAL_OR_KEYWORD and (
            p.default is p.empty and p.name not in self.named and len(self.positional) == 0)}
        self.named |= {name: HOSTILE[text]() for name, text in self.changed.items()}       # nothing valid is known
        places = [*names, *range(len(self.positional))]
        dice = rng.random()
        count = min(len(places), 0 if dice < 0.05 else 1 if dice < 0.75 else 2 if dice < 0.92 else len(places))
        for place in rng.sample(places, count):
            text = rng.choice(list(HOSTILE))
            value = HOSTILE[text]()
            holder = self.positional if isinstance(place, int) else self.named
            if rng.random() < 0.4 and (isinstance(place, int) or place in holder):
                text, value = spoiled(holder[place], (text, value), rng)
            self.changed[str(place)] = text
            holder[place] = value
        if rng.random() < 0.04:        # a signature that does not fit
            self.positional.append(None)
            self.changed["*"] = "one more None"
        self.valid = not self.changed and not subject
        about = ", ".join(f"{k}={v}" for k, v in self.changed.items()) or "valid arguments"
        self.text = f"{label}({about})" + (f" of {subject}" if subject else "")

    def fits(self) -> bool:
        """Whether Python itself takes these arguments."""
        try:
            inspect.signature(self.function).bind(*self.positional, **self.named)
        except TypeError:
            return False
        except ValueError:
            pass
        return True

    def run(self) -> Any:
        result = self.function(*self.positional, **self.named)
        if isinstance(result, contextlib.AbstractContextManager) and not isinstance(result, data.TokenFile):
            with result:
                pass
        if isinstance(result, (Iterator, data.DataLoader, data.RandomBatches)):
            result = list(itertools.islice(result, 4))
        return result


def calls(rng: random.Random) -> Iterator[Call]:
    """Calls without end, of every function as often as of another."""
    methods = list(dict.fromkeys([*TENSOR_METHODS, *(
        n for n, v in vars(Tensor).items() if n[0] != "_" and inspect.isfunction(v))]))
    groups = [[("function", name) for name in sorted(public() - OTHERS)], [("method", name) for name in METHODS],
              [("tensor", name) for name in methods]]
    while True:
        kind, name = rng.choice(rng.choices(groups, [len(g) for g in groups])[0])
        if kind == "function":
            space, _, attribute = name.partition(".")
            yield Call(name, getattr(SPACES[space], attribute), VALID.get(name, dict)(), rng)
        elif kind == "method":
            make, attribute, valid = METHODS[name]
            yield Call(name, getattr(make(), attribute), valid(), rng)
        else:
            subject = rng.choice(["Tensor(floats(2, 3))", *TENSORS])
            yield Call(f"Tensor.{name}", getattr(HOSTILE[subject](), name), TENSOR_METHODS.get(name, {}), rng, subject)


def arrays_of(result: Any) -> Iterator[np.ndarray]:
    for part in result if isinstance(result, (tuple, list)) else [result]:
        if isinstance(part, Tensor):
            yield part.array
        elif isinstance(part, (np.ndarray, float)):
            yield np.asarray(part)


def offence(call: Call) -> str | None:
    """What is wrong with how a call ended; None where nothing is."""
    def late(*_: Any) -> None:
        raise Late

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    start = time.perf_counter()
    found = None
    try:
        result = call.run()
        if call.valid and any(a.dtype.kind == "f" and not np.isfinite(a).all() for a in arrays_of(result)):
            found = "NaN or infinity from valid arguments"
    except Late:
        found = f"still running after {SECONDS} seconds"
    except TinymlError as error:
        found = f"valid arguments are refused: {error}" if call.valid else None
        if not str(error).strip():
            found = "an error that says nothing"
    except AssertionError as error:
        found = None if call.text.startswith("testing.") else f"AssertionError: {error}"
    except TypeError as error:
        found = None if not call.fits() or SIGNATURE.search(str(error)) else blame(error)
    except Exception as error:
        found = blame(error)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    if found is None and time.perf_counter() - start > SECONDS:
        found = f"took {time.perf_counter() - start:.0f} seconds"
    if state.modules or state.grad is not GradMode.ON or state.recorder is not None:
        found = f"{found or ''}; it left a layer running, the tape off, or a recorder on"
        state.modules, state.grad, state.recorder = [], GradMode.ON, None
    return found


def blame(error: Exception) -> str | None:
    """The error and where it came from; None where that is a function of these files, which was passed."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    if Path(last.filename).name == "hostile_arguments.py":
        return None
    return f"{type(error).__name__}: {str(error)[:160]} ({Path(last.filename).name}:{last.lineno})"


def run(count: int, seed: int, now: Path) -> int:
    """Make `count` calls; prints what they gave, and the offenders; how many there are."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY + _address_space(), resource.getrlimit(resource.RLIMIT_AS)[1]))
    checks.MEMORY = MEMORY // 2
    rng, offenders, seen = random.Random(seed), Counter(), 0
    os.chdir(tempfile.mkdtemp())
    warnings.simplefilter("ignore")
    with open(os.devnull, "w") as nothing:
        for call in itertools.islice(calls(rng), count):
            now.write_text(call.text)
            with contextlib.redirect_stdout(nothing), contextlib.redirect_stderr(nothing):
                wrong = offence(call)
            seen += 1
            if wrong:
                offenders[f"{call.text}: {wrong}"] += 1
    print(f"seed {seed}: {seen} calls, {sum(offenders.values())} offenders")
    for text, times in offenders.most_common():
        print(f"  {text}" + (f" ({times} times)" if times > 1 else ""))
    return sum(offenders.values())


def _address_space() -> int:
    if not Path("/proc/self/statm").exists():
        return 0
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--calls", type=int, default=2000, help="calls a seed (default 2000)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    forgotten = public() - VALID.keys() - OTHERS
    if forgotten and not options.child:
        print(f"no valid arguments are known for {', '.join(sorted(forgotten))}: they get hostile ones alone; see VALID")
    if options.child:
        sys.exit(min(run(options.calls, options.seeds[0], options.child), 1))
    bad = False
    for seed in options.seeds:
        with tempfile.TemporaryDirectory() as folder:
            now = Path(folder) / "now"
            ended = subprocess.run([sys.executable, __file__, "--calls", str(options.calls), "--seeds", str(seed),
                                    "--child", str(now)], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
            if ended.returncode not in (0, 1):
                print(f"seed {seed}: died with {ended.returncode} in {now.read_text() if now.exists() else 'its start'}")
        bad |= ended.returncode != 0
    sys.exit(int(bad))


if __name__ == "__main__":
    main()
