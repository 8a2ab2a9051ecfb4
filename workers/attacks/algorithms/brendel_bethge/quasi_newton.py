"""Minimise a function of one variable that is not negative, by projected quasi-Newton steps.

A Cauchy point, a subspace step and a line search for the strong Wolfe conditions, as L-BFGS-B
has them (Byrd et al. 1995; Nocedal, Wright 2006, algorithms 3.5 and 3.6), in one dimension.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

EPS = 1e-10
TOLERANCE = 1e-10
MOST_STEPS = 200
MOST_TRIALS = 10
ARMIJO, CURVATURE = 1e-4, 0.9

#: x -> (value, derivative)
Function = Callable[[float], tuple[float, float]]


def minimise_above_zero(function: Function, start: float) -> float:
    """A local minimum x >= 0. The function may return huge values; its curvature is guessed."""
    x = start
    value, slope = function(x)
    before = value + abs(slope) / 2
    curvature = 1.0
    for _ in range(MOST_STEPS):
        step = _subspace(x, _cauchy(x, slope, curvature), slope, curvature) - x
        found = _line_search(function, x, step, slope, value, before)
        if found is None:
            break
        alpha, new_value, new_slope = found
        before, value = value, new_value
        if abs(value - before) <= TOLERANCE + TOLERANCE * abs(value):
            break
        at = max(x + alpha * step, 0.0)
        if new_slope is None:
            new_slope = function(at)[1]
        moved = at - x
        change = new_slope - slope
        if abs(change) < 1e-4:
            change = -1e-4
        x, slope = at, new_slope
        bent = curvature * moved
        rho = 1.0 / (moved * change) if abs(moved * change) >= 1e-8 else 100000.0
        sigma = 1.0 / (moved * bent) if abs(moved * bent) >= 1e-8 else 100000.0
        curvature += change * change * rho - bent * bent * sigma
    return x


def _cauchy(x: float, slope: float, curvature: float) -> float:
    """The first minimum of the quadratic model along the projected steepest descent."""
    if slope < 0:
        limit = np.inf
    elif slope > 0:
        limit = (x - 0.0) / (slope + EPS)
    else:
        limit = np.inf
    direction = 0.0 if limit == 0 else -slope
    bend = direction * (curvature * direction)
    if bend < 1e-10:
        return x
    way = -(slope * direction) / bend
    past = 0.0
    if limit != 0 and way >= limit:
        past, way = limit, 0.0
    past = past + max(way, 0)
    return x - limit * slope if past > limit else x - past * slope


def _subspace(x: float, cauchy: float, slope: float, curvature: float) -> float:
    """The model's minimum from the Cauchy point, cut at zero."""
    if cauchy <= 1e-8:
        return cauchy
    rest = slope + curvature * (cauchy - x)
    step = -float(np.linalg.solve(np.array([[curvature + 1e-10]]), np.array([rest]))[0])
    alpha = 1.0
    if step < 0:
        room = 0.0 - cauchy
        if room >= 0:
            alpha = 0.0
        elif step < room:
            alpha = room / (step - EPS)
    return cauchy + min(alpha, 1.0) * step


def _line_search(
    function: Function, x: float, step: float, slope: float, value: float, before: float
) -> tuple[float, float, float | None] | None:
    """(alpha, value, derivative or None where it is not known), None where alpha has slipped
    below the machine's precision."""

    def trial(alpha: float) -> tuple[float, float]:
        return function(max(x + alpha * step, 0.0))

    fall = slope * step
    if fall == 0:
        fall = 1e-8
    elif abs(fall) < 1e-8:
        fall = float(np.sign(fall)) * 1e-8
    low, high = 0.0, min(1.0, 1.01 * 2 * (value - before) / fall)
    if high == 0:
        return None
    at_low, fall_low = value, fall
    at_high, slope_high = trial(high)
    tries = 1
    while True:
        if at_high > value + ARMIJO * high * fall or (at_high >= at_low and tries > 1):
            return _zoom(trial, step, value, fall, low, at_low, fall_low, high, at_high)
        tries += 1
        if tries > MOST_TRIALS:
            # Reached only where doubling has just ended the search below.
            return high, at_high, None
        fall_high = slope_high * step
        if abs(fall_high) <= -CURVATURE * fall:
            return high, at_high, slope_high
        if fall_high >= 0:
            return _zoom(trial, step, value, fall, high, at_high, fall_high, low, at_low)
        low, high = high, 2 * high
        tries += 1
        at_low, fall_low = at_high, fall_high
        at_high, slope_high = trial(high)
        if tries > MOST_TRIALS:
            return high, at_high, None


# Parameters: both ends of the bracket, each a point, a value and a slope.
def _zoom(
    trial: Function,
    step: float,
    value: float,
    fall: float,
    low: float,
    at_low: float,
    fall_low: float,
    high: float,
    at_high: float,
) -> tuple[float, float, float | None]:
    """Narrow [low, high] by cubic, else quadratic interpolation, else halving."""
    last, at_last = 0.0, value
    alpha: float | None = None
    for k in range(MOST_TRIALS + 1):
        width = high - low
        left, right = (high, low) if width < 0 else (low, high)
        if k > 0:
            alpha = _cubic(low, at_low, fall_low, high, at_high, last, at_last)
            margin = 0.2 * width
        if k == 0 or alpha is None or alpha > right - margin or alpha < left + margin:
            alpha = _quadratic(low, at_low, fall_low, high, at_high)
            margin = 0.1 * width
            if alpha is None or alpha > right - margin or alpha < left + margin:
                alpha = low + 0.5 * width
        at, slope = trial(alpha)
        fall_at = slope * step
        if at > value + ARMIJO * alpha * fall or at >= at_low:
            last, at_last = high, at_high
            high, at_high = alpha, at
        else:
            if abs(fall_at) <= -CURVATURE * fall:
                return alpha, at, slope
            if fall_at * (high - low) >= 0:
                last, at_last = high, at_high
                high, at_high = low, at_low
            else:
                last, at_last = low, at_low
            low, at_low, fall_low = alpha, at, fall_at
    assert alpha is not None
    return alpha, at, None


def _cubic(
    a: float, fa: float, slope: float, b: float, fb: float, c: float, fc: float
) -> float | None:
    """Minimum of the cubic through three points with a slope at the first."""
    db, dc = b - a, c - a
    if db == 0 or dc == 0 or b == c:
        return None
    scale = (db * dc) * (db * dc) * (db - dc)
    gap_b, gap_c = fb - fa - slope * db, fc - fa - slope * dc
    third = (dc * dc * gap_b - db * db * gap_c) / scale
    second = (-(dc * (dc * dc)) * gap_b + db * (db * db) * gap_c) / scale
    radical = second * second - 3 * third * slope
    if radical < 0 or third == 0:
        return None
    return float(a + (-second + np.sqrt(radical)) / (3 * third))


def _quadratic(a: float, fa: float, slope: float, b: float, fb: float) -> float | None:
    """Minimum of the parabola through two points with a slope at the first."""
    db = b - a
    if db == 0:
        return None
    second = (fb - fa - slope * db) / (db * db)
    return a - slope / (2.0 * second) if second > 0 else None
