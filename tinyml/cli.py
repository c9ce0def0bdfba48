"""The command line: tinyml (or python -m tinyml) demo | config."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import nullcontext

from . import demo
from ._kernels.dispatch import config, show_config
from .errors import TinymlError


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    top = argparse.ArgumentParser(prog="tinyml", description="A small deep-learning framework with real int8.")
    commands = top.add_subparsers(dest="command", required=True)
    d = commands.add_parser("demo", help="train on shipped data, quantize, print the table",
                            epilog="example: python -m tinyml demo --model gpt --json figures.json")
    d.add_argument("--model", choices=("cnn", "gpt"), default="cnn", help="what to train (default: cnn)")
    d.add_argument("--json", metavar="FILE", help="write the figures to FILE")
    c = commands.add_parser("config", help="print instruction set and threads", epilog="example: python -m tinyml config")
    c.add_argument("--json", metavar="FILE", help="write them to FILE")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. Errors go to stderr in one line."""
    args = parser().parse_args(arguments)
    try:
        # opened first: a path that cannot be written must not cost a training run
        with open(args.json, "w") if args.json else nullcontext() as file:
            if args.command == "demo":
                figures = demo.cnn() if args.model == "cnn" else demo.gpt()
            else:
                show_config()
                figures = config()
            if file:
                json.dump(figures, file, indent=2)
    except (TinymlError, OSError) as error:
        print(f"tinyml {args.command}: {error}", file=sys.stderr)
        return 1
    return 0
