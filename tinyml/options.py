"""Options: how a model becomes integers, one object from `to_int8(...)` to the step that an op is lowered to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from . import checks
from .errors import DtypeError

OBSERVER = "mse"        # docs/accuracy.md has the table that chose it
ROUNDINGS = ("single", "double")
WEIGHTS = ("max", "mse")
# In the order in which they run. The first two change what is quantized, so ranges are taken after them.
REPAIRS = ("equalize", "migrate_scales", "learn_rounding", "correct_bias")

Skip = Sequence[str] | Callable[[str], bool]


@dataclass(frozen=True)
class Options:
    """How a model becomes integers; `to_int8` documents what each option does.

    Attributes:
        observer: what makes the observers of activations, as `observers.observer_for` takes it.
        per_channel: one weight scale per output channel, else one per layer.
        rounding: "single" or "double", equation (5).
        weights: "max" or "mse", how weight scales are chosen.
        skip: names of layers that stay float, with all layers inside them; or a function from a layer's name to whether
            it stays float.
        repairs: names among REPAIRS.
        group: how many weights of an output channel share a scale in dynamic int8; None: all of them.
    """

    observer: Any = OBSERVER
    per_channel: bool = True
    rounding: str = "single"
    weights: str = "max"
    skip: Skip = ()
    repairs: Sequence[str] = ()
    group: int | None = None

    @property
    def skipped(self) -> Sequence[str]:
        """The names in `skip`; none where it is a function."""
        return () if callable(self.skip) else self.skip

    def check(self, what: str) -> Options:
        """These options, of plain Python types.

        Args:
            what: the function that the user called; errors begin with it.

        Raises:
            DtypeError: an option that is unknown or of another type.
        """
        for name, value, known in (("weights", self.weights, WEIGHTS), ("rounding", self.rounding, ROUNDINGS)):
            if not isinstance(value, str) or value not in known:
                raise DtypeError(f"{what}: expected {name} {' or '.join(known)}, got {checks.described(value)}")
        repairs = checks.names(what, "repairs", self.repairs)
        for name in repairs:
            if name not in REPAIRS:
                raise DtypeError(f"{what}: expected repairs among {', '.join(REPAIRS)}, got {name!r}")
        return replace(self, per_channel=checks.flag(what, "per_channel", self.per_channel), repairs=repairs,
                       skip=self.skip if callable(self.skip) else checks.names(what, "skip", self.skip))
