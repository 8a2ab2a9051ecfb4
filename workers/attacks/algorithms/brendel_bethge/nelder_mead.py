"""Nelder-Mead in two variables, the second of which is not negative.

Lagarias et al. 1998, "Convergence properties of the Nelder-Mead simplex method in low
dimensions", with a simplex around 0 and the volume ratio as a second end (Singer, Singer 2004).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

REFLECT, EXPAND, CONTRACT, SHRINK = 1.0, 2.0, 0.5, 0.5
TOLERANCE = 1e-9
MOST_STEPS = 1000
FIRST_STEP = 0.00025


def maximise_2d(function: Callable[[float, float], float]) -> tuple[float, float]:
    """(a, b >= 0) near a maximum of `function`, searched from (0, 0)."""

    def value(point: np.ndarray) -> float:
        return -function(float(point[0]), float(point[1])) if point[1] >= 0 else np.inf

    points = np.array([[0.0, 0.0], [FIRST_STEP, 0.0], [0.0, FIRST_STEP]])
    values = np.array([value(point) for point in points])
    order = values.argsort()
    centre = points[order[:2]].sum(axis=0) / 2
    for _ in range(MOST_STEPS):
        best, worst = order[0], order[2]
        if values[worst] - values[best] < TOLERANCE:
            break
        reflected = centre + REFLECT * (centre - points[worst])
        at_reflected = value(reflected)
        shrunk = False
        if values[best] <= at_reflected < values[order[1]]:
            points[worst] = reflected
        elif at_reflected < values[best]:
            expanded = centre + EXPAND * (reflected - centre)
            points[worst] = expanded if value(expanded) < at_reflected else reflected
        else:
            side = 1.0 if at_reflected < values[worst] else -1.0
            contracted = centre + side * (CONTRACT * (reflected - centre))
            if value(contracted) < min(at_reflected, values[worst]):
                points[worst] = contracted
            else:
                shrunk = True
                for i in order[1:]:
                    points[i] = points[best] + SHRINK * (points[i] - points[best])
                    values[i] = value(points[i])
                order[1:] = values[order[1:]].argsort() + 1
                centre = (
                    points[best]
                    + SHRINK * (centre - points[best])
                    + (points[worst] - points[order[2]]) / 2
                )
        if not shrunk:
            values[worst] = value(points[worst])
            for place, other in enumerate(order):
                if values[worst] < values[other]:
                    order[place + 1 :] = order[place:-1].copy()
                    order[place] = worst
                    break
            centre = centre + (points[worst] - points[order[2]]) / 2
    return float(points[order[0], 0]), float(points[order[0], 1])
