"""Points round a clean image: in a ball and the box, on a plane, and the nearest one so far.

numpy alone. Arrays have an image in each row, [n, ...], and no row depends on another.
"""

from __future__ import annotations

import math

import numpy as np

from prunegrid.workers.attacks.base import row_norms
from prunegrid.workers.attacks.declaration import Norm

#: A reach with which every element that has a slope comes to its end of the box.
FAR = 1e30


def wide(values: np.ndarray, like: np.ndarray) -> np.ndarray:
    """[n] as float32 [n, 1, 1, ...], to be multiplied with arrays of the shape of `like`."""
    out: np.ndarray = values.astype(np.float32).reshape(-1, *(1,) * (like.ndim - 1))
    return out


def unit(direction: np.ndarray, norm: Norm = "l2") -> np.ndarray:
    """Over its norm ("l2" or "linf"); all zero where it is."""
    size = np.maximum(row_norms(direction, norm), 1e-30)
    out: np.ndarray = (direction / wide(size, direction)).astype(np.float32)
    return out


def steepest(gradient: np.ndarray, norm: Norm) -> np.ndarray:
    """The step of length 1 in `norm` along which a function with this gradient rises most."""
    step: np.ndarray = np.sign(gradient) if norm == "linf" else unit(gradient)
    return step


def into_ball(points: np.ndarray, clean: np.ndarray, eps: float, norm: Norm) -> np.ndarray:
    """Projected on the ball of radius eps round `clean`, then on the box."""
    moved = points - clean
    if norm == "linf":
        moved = np.clip(moved, -np.float32(eps), np.float32(eps))
    else:
        over = np.maximum(row_norms(moved, norm) / eps, 1.0)
        moved = moved / wide(over, moved)
    inside: np.ndarray = np.clip(clean + moved, 0.0, 1.0).astype(np.float32)
    return inside


def onto_plane(points: np.ndarray, slope: np.ndarray, height: np.ndarray, norm: Norm) -> np.ndarray:
    """The shortest steps, in `norm`, to where a linear function with this slope, which is `height`
    [n] at the points, is 0; no further than the box lets them. Linf and L2.

    Croce, Hein 2020, "Minimally distorted adversarial examples with a fast adaptive boundary
    attack", equations 4 and 5. An element goes min(reach * weight, room) towards its end of the
    box; the sum of what they bring rises piecewise linearly with the reach. So the reach for the
    elements that are not at their end yet is a quotient, and once no more of them arrive there, it
    is the answer.
    """
    flat = points.reshape(len(points), -1)
    way = -np.sign(height)[:, None] * slope.reshape(flat.shape)
    steep = np.abs(way)
    room = np.where(way > 0, 1.0 - flat, flat) * (way != 0)
    weight = steep if norm == "l2" else (way != 0).astype(np.float32)
    gain, need = steep * weight, np.abs(height)
    reach = np.zeros(len(flat))
    full = np.zeros(flat.shape, bool)
    active = np.arange(len(flat))
    while len(active):
        gone = full[active]
        rest = need[active] - np.where(gone, steep[active] * room[active], 0.0).sum(axis=1)
        rate = np.where(gone, 0.0, gain[active]).sum(axis=1)
        possible = rate > 0  # else all that can move is at its end
        quotient = np.maximum(rest, 0.0) / np.where(possible, rate, 1.0)
        reach[active] = np.where(possible, quotient, FAR)
        ends = wide(reach[active], flat) * weight[active] >= room[active]
        full[active] |= ends
        active = active[(ends & ~gone).any(axis=1) & possible]
    step = np.minimum(wide(reach, flat) * weight, room)
    out: np.ndarray = (np.sign(way) * step).astype(np.float32).reshape(points.shape)
    return out


def cosine(first: float, last: float, step: int, steps: int) -> float:
    """From `first` at step 0 to `last` after `steps` of them, along half a cosine."""
    return last + (first - last) * (1 + math.cos(math.pi * step / steps)) / 2


class Nearest:
    """The nearest adversarial of each image so far."""

    def __init__(self, clean: np.ndarray, norm: Norm) -> None:
        self._clean = clean
        self._norm = norm
        self.images = clean.copy()
        self.distance = np.full(len(clean), np.inf)

    @property
    def found(self) -> np.ndarray:
        """bool [n]"""
        found: np.ndarray = np.isfinite(self.distance)
        return found

    def offer(self, rows: np.ndarray, images: np.ndarray, adversarial: np.ndarray) -> None:
        """`images` [m, ...] and `adversarial` bool [m] of the images `rows` [m]."""
        distance = row_norms(images - self._clean[rows], self._norm)
        closer = adversarial & (distance < self.distance[rows])
        self.images[rows[closer]] = images[closer]
        self.distance[rows[closer]] = distance[closer]
