"""The libraries that tinyml is compared with, one module per library, which is imported only if it is asked for.

A peer prepares a call that does the work and nothing else: weights are packed, inputs converted and sessions made before.
"""

from __future__ import annotations

import importlib

from tinyml.errors import install_hint

from .peer import Peer

NAMES = ("torch", "onnxruntime", "numpy")


class MissingPeer(ImportError):
    """A library that was asked for is not installed."""


def load(names: list[str], threads: int) -> list[Peer]:
    """The peers of these names.

    Raises:
        MissingPeer: a package is missing; the message names the peer, the package and the extra that installs it.
    """
    peers = []
    for name in names:
        try:
            module = importlib.import_module(f"{__name__}.with_{name}")
        except ModuleNotFoundError as error:
            raise MissingPeer(f"--vs {name}: {error.name} is not installed; {install_hint('bench')}") from error
        peers.append(module.make(threads))
    return peers
