"""One L0 step of Brendel & Bethge along the boundary, for many images at once. Pure NumPy.

For each image: the fewest elements that differ from the original x0, such that the linearised
boundary b . delta = c is met and x + delta stays in [0, 1] (appendix of Brendel et al. 2019).
"""

from __future__ import annotations

import numpy as np


def l0_steps(
    x0: np.ndarray, x: np.ndarray, b: np.ndarray, c: np.ndarray, radius: float
) -> np.ndarray:
    """float64 [n, d] steps from x; x0, x, b: float32 [n, d]; c: [n].

    In closed form: go back to x0, then move the elements that bring most, largest first, until
    the boundary is met.
    """
    x0, x, b = (a.astype(np.float64) for a in (x0, x, b))
    c = c.astype(np.float64)
    delta = x0 - x
    remaining = np.empty(len(x0))
    for i in range(len(x0)):
        remaining[i] = c[i] - b[i].dot(delta[i])
    up = ((b > 0) & (remaining[:, None] > 0)) | ((b < 0) & ~(remaining[:, None] > 0)) | (b == 0)
    up |= (b > 0) & (remaining[:, None] == 0)
    total = np.where(up, 1.0 - x0, 0.0 - x0)
    gain = total * b
    for i in range(len(x0)):
        order = np.argsort(np.abs(gain[i]))[::-1]
        met = c[i] - remaining[i]
        met = b[i].dot(delta[i])
        for j in order:
            if abs(c[i] - met) > abs(gain[i, j]):
                delta[i, j] += total[i, j]
                met += gain[i, j]
            else:
                delta[i, j] += (c[i] - met) / (b[i, j] + 1e-20)
                break
    return delta
