"""Where a falling curve crosses a level, when each point of it costs an attack. Pure.

In log eps: double or halve until the level is between two points, then halve that bracket until
its ends are within `tolerance`. A fixed-eps attack's curve may rise in places; the answer is then
one of its crossings.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

FACTOR = 2.0


@dataclass(kw_only=True)
class Bisection:
    """Call `next_eps` and `take` until there is no next one; then `eps` is the answer."""

    level: float
    first: float  #: the first eps
    tolerance: float = 1.05  #: the bracket's upper end over its lower one
    least: float = 1e-6
    most: float = 1.0  #: of L-infinity in [0, 1] there is no more
    above: float | None = None  #: the largest eps known to be at or above the level
    below: float | None = None  #: the smallest known to be below
    points: dict[float, float] = field(default_factory=dict)

    def next_eps(self) -> float | None:
        """None once the crossing is known, or is beyond `least` or `most`."""
        if self.above is None and self.below is None:
            return self.first
        if self.below is None:
            assert self.above is not None
            return None if self.above >= self.most else min(self.above * FACTOR, self.most)
        if self.above is None:
            return None if self.below <= self.least else max(self.below / FACTOR, self.least)
        if self.below / self.above <= self.tolerance:
            return None
        return math.sqrt(self.above * self.below)

    def take(self, eps: float, robust: float) -> None:
        """Note a point of the curve; points measured for another level help, too."""
        self.points[eps] = robust
        if robust >= self.level:
            if self.above is None or eps > self.above:
                self.above = eps
        elif self.below is None or eps < self.below:
            self.below = eps
        if self.above is not None and self.below is not None and self.above >= self.below:
            # The curve rises here: only points below the smallest miss form a bracket.
            lower = [e for e, r in self.points.items() if r >= self.level and e < self.below]
            self.above = max(lower, default=None)

    @property
    def eps(self) -> float:
        """The largest eps known to be at or above the level; `least` where none is, and infinite
        where even `most` is."""
        if self.below is None:
            return math.inf
        return self.least if self.above is None else self.above
