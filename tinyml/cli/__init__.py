"""The command line: tinyml, or python -m tinyml. `tinyml COMMAND --help` shows an example of each."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from typing import NoReturn

from ..errors import TinymlError
from .commands import COMMANDS

NAMES = {command.name for command in COMMANDS}


class _Parser(argparse.ArgumentParser):
    """A parser that prints an error in one line, and exits with code 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def parser() -> argparse.ArgumentParser:
    """The parser of all commands and their options."""
    top = _Parser(prog="tinyml", description="A small deep-learning framework with real int8.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        p = commands.add_parser(command.name, help=command.help, description=command.help + ".",
                                epilog=f"example: {command.example}")
        command.arguments(p)
        p.add_argument("--json", metavar="FILE", help="write the figures to FILE")
        p.set_defaults(run=command.run)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command, and return the exit code. Errors go to stderr, one line each."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if " ".join(given[:2]) in NAMES:        # a name of two words, which argparse takes as one
        given[:2] = [" ".join(given[:2])]
    args = parser().parse_args(given)
    try:
        # opened first: a path that cannot be written must not cost a training run
        with open(args.json, "w") if args.json else nullcontext() as file:
            figures = args.run(args)
            if file:
                json.dump(figures, file, indent=2)
    except (TinymlError, OSError) as error:
        print(f"tinyml {args.command}: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\ntinyml {args.command}: interrupted", file=sys.stderr)
        return 130
    return 0
