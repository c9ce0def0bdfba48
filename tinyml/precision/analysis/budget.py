"""max_drop: the search for the fewest float layers with which int8 loses no more than it may."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from functools import partial

import numpy as np
from tqdm import tqdm

from ...errors import QuantizationError
from ...nn.module import conversions
from ...plan.info import FrontierPoint
from ...plan.lowering import Lowering
from ...plan.plan import Plan
from ...timing import median_times
from .diagnosis import find_layer_causes, take_samples
from .score import Score

LATENCY_SECONDS = 0.1       # how long each point of the frontier is timed, on the data's first batch


class _Search:
    """The plans of one lowering with different layers in float, and their scores."""

    def __init__(self, lowering: Lowering, score: Score, most: float, bar: tqdm):
        self.lowering, self.score, self.most, self.bar = lowering, score, most, bar
        self.seen: dict[frozenset[str], tuple[Plan, float]] = {}

    def drop(self, floats: Collection[str]) -> float:
        """The loss of the metric with these layers in float."""
        key = frozenset(floats)
        if key not in self.seen:
            skip = [*self.lowering.options.skipped, *floats]
            plan = (self.lowering.keep_float(skip) if floats else self.lowering).plan
            self.seen[key] = plan, self.score.value(plan)
            self.bar.update()
        return self.score.drop(self.seen[key][1])

    def fits(self, floats: Collection[str]) -> bool:
        """Whether these float layers keep the loss of the metric within the budget."""
        return self.drop(floats) <= self.most

    def fewest(self, layers: list[str]) -> list[str]:
        """The layers to keep in float: none, else the one that helps most, else the most sensitive ones that are needed."""
        if self.fits([]):
            return []
        order = sorted(layers, key=lambda name: self.drop([name]))
        if order and self.fits(order[:1]):
            return order[:1]
        for n in range(2, len(order) + 1):
            if self.fits(order[:n]):
                break
        else:
            raise QuantizationError(f"to_int8: even with all layers in float the {self.score.metric} drops by "
                                    f"{self.drop(order):.4g}, expected at most {self.most:g}")
        kept = order[:n]
        for name in kept[::-1]:
            fewer = [k for k in kept if k != name]
            kept = fewer if self.fits(fewer) else kept
        return kept

    def frontier(self, layers: list[str]) -> list[FrontierPoint]:
        """The mixtures seen, except those that are both worse and larger than another; the smallest comes first."""
        inputs = self.score.inputs[0]
        sizes = {key: len(conversions["serialize"](plan)) for key, (plan, _) in self.seen.items()}
        best, least = [], np.inf
        for key in sorted(self.seen, key=lambda k: (sizes[k], self.drop(k))):
            if self.drop(key) < least:
                best.append(key)
                least = self.drop(key)
        times = median_times([partial(self.seen[k][0], *inputs) for k in best], LATENCY_SECONDS * len(best))
        return [FrontierPoint([n for n in layers if n in key], self.seen[key][1], self.drop(key), sizes[key], t)
                for key, t in zip(best, times)]


def search_mixture(lowering: Lowering, score: Score, most: float, progress: bool = False) -> Plan:
    """Search for the plan with the fewest float layers that loses at most `most` of the score.

    Each layer is tried in float by itself. If none of them is enough, they are added in the order of what each gains, and
    those that turn out not to be needed are removed again. `info.frontier` of the plan has the mixtures that were seen on
    the way, and `info.floats` has the causes for the layers that stay float.

    Args:
        most: points of accuracy or agreement, or how much higher the loss may be; see `Score`.

    Raises:
        QuantizationError: more is lost even with all layers in float.
    """
    layers = lowering.layer_names()
    with tqdm(desc="searching for layers to keep in float", unit="plan", disable=not progress) as bar:
        search = _Search(lowering, score, most, bar)
        kept = search.fewest(layers)
    plan, _ = search.seen[frozenset(kept)]
    floats = dict(plan.info.floats)
    for name, (_, _, cause) in find_layer_causes(lowering, take_samples(score), kept).items():
        why = f"{cause.name}: {cause.evidence}" if cause else "no known cause stands out"
        floats.update((op, f"kept by max_drop={most:g}: {why}") for op in floats if op.endswith(f" in {name}"))
    plan.info = replace(plan.info, frontier=search.frontier(layers), floats=floats)
    return plan
