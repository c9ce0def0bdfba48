"""The speed of tinyml and of the libraries that a user might choose instead, which take turns in one process.

    python -m benchmarks gemm|conv|cnn|overhead --vs torch onnxruntime numpy --threads 1 --json FILE
    python -m benchmarks train|memory --vs torch        a training step: its time; its memory, and that of decoding
    python -m benchmarks gpt --vs torch    generation with TinyGPT: a token, a prompt, threads
    python -m benchmarks elementwise --vs torch numpy   memory-bound work, forward and backward
    python -m benchmarks why            the numbers behind docs/why-int8.md
    python -m benchmarks.plot FILE      the roofline of files that --json wrote

The peers are installed by the extra [bench]. A ratio is a peer's median divided by tinyml's: above 1x tinyml is faster. The
share is the rate divided by the peak that the probe measures at the start: fma for float32, dot4 for int8, or the rate of
reading as many bytes (read).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

import tinyml

from . import cnn, conv, elementwise, gemm, gpt, gpt_memory, memory, overhead, peers, report, train, why
from .roofline import Roofline
from .timing import Row, Run

# each function makes the rows of one table
SUBJECTS: dict[str, list[Callable[[Run], list]]] = {
    "gemm": [gemm.rows], "conv": [conv.rows], "cnn": [cnn.rows],
    "gpt": [gpt.rows, gpt.threads, gpt.around_step], "train": [train.rows], "memory": [memory.rows, gpt_memory.rows],
    "elementwise": [elementwise.rows],
    "overhead": [overhead.one_element, overhead.tape, overhead.plan_steps, overhead.threads],
}

TABLES: dict[type, Callable[..., str]] = {
    Row: report.table, memory.Footprint: memory.table, gpt_memory.Held: gpt_memory.table}


def main(arguments: list[str] | None = None) -> int:
    """Measure one subject, and print its tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subject", choices=[*SUBJECTS, "why"])
    parser.add_argument("--vs", nargs="+", choices=peers.NAMES, default=[], metavar="PEER", help=", ".join(peers.NAMES))
    parser.add_argument("--threads", type=int, default=1, help="threads of tinyml and of all peers (default 1)")
    parser.add_argument("--seconds", type=float, default=3, help="seconds per row (default 3)")
    parser.add_argument("--markdown", action="store_true", help="print the table in Markdown")
    parser.add_argument("--json", metavar="FILE", help="write all figures to FILE")
    args = parser.parse_args(arguments)
    if args.threads < 1:
        parser.error(f"--threads: expected at least 1, got {args.threads}")
    if args.subject == "why" and (args.vs or args.json or args.markdown):
        parser.error("why: it prints text about tinyml alone; --vs, --json and --markdown are for other subjects")
    tinyml.set_num_threads(args.threads)
    try:
        loaded = peers.load(args.vs, args.threads)
    except peers.MissingPeer as error:
        parser.error(str(error))
    run = Run(args.threads, args.seconds, loaded, Roofline(args.threads, args.seconds / 4))
    command = " ".join(["python -m benchmarks", args.subject, *(["--vs", *args.vs] if args.vs else []),
                        f"--threads {args.threads}"])
    print(report.head(run, command, args.markdown), flush=True)
    if args.subject == "why":
        print("\n" + why.explain(run))
        return 0
    rows = []
    for measure in SUBJECTS[args.subject]:
        measured = measure(run)
        if measured:
            print("\n" + TABLES[type(measured[0])](measured, args.markdown), flush=True)
        rows += measured
    if args.json:
        report.write(args.json, run, command, args.subject, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
