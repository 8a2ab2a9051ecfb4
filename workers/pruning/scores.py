"""How much a weight or a unit matters: units with higher scores survive.

A score is a function `score(scoring, *, options...)`. It returns, for each layer of
`scoring.weights`, an array of the kernel's shape, whose values count for the unit that they are in
(their sum within a layer; their mean across layers, so that layers of different sizes compare), or
one value for each unit. Whatever it returns for pruned weights does not matter.

To add one: a function here, and its name in workers/catalog/methods.py. A grid may also name a
function of the user's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from prunegrid.workers.keys import derive_seed
from prunegrid.workers.method_entry import Scope
from prunegrid.workers.pruning.structures import Unit, units


class NetworkView(Protocol):
    """The network that is to be pruned, with its weights, and its training images."""

    model: Any  #: a keras.Model: float32 images [n, h, w, c] in [0, 1] to logits [n, classes]
    lost: bool  #: training had diverged: its weights are not finite, and no score can tell

    def kernel(self, layer: str) -> Any:
        """The variable of a layer's kernel."""

    def batches(self, count: int, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """`count` batches of training images, float32 [size, h, w, c] in [0, 1], and labels, int32
        [size]; in an order that the step's seed decides, as often as it takes."""

    def gradients(self, batches: int, batch_size: int) -> dict[str, np.ndarray]:
        """Of the mean cross-entropy over so many images, by layer; in inference mode."""

    def squared_gradients(self, images: int) -> dict[str, np.ndarray]:
        """The mean over so many images of each one's squared gradient, by layer."""


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """What a score sees."""

    weights: Mapping[str, np.ndarray]  #: kernels by layer, those alone that are pruned; 0: pruned
    masks: Mapping[str, np.ndarray]  #: bool, of the same shapes; False: pruned before
    unit: Mapping[str, Unit]  #: by layer, what is kept or pruned as a whole
    scope: Scope
    rate: float  #: that is to be reached, from the dense network
    seed: int  #: of the chain
    network: NetworkView | None = None  #: None where scores are tried without one

    def rng(self, layer: str) -> np.random.Generator:
        """For random draws: its own for each seed, rate and layer."""
        return np.random.default_rng(derive_seed(self.seed, "prune", self.rate, layer))

    def count(self, layer: str) -> int:
        """Units of a layer."""
        return len(units(self.masks[layer], self.unit[layer]))

    @property
    def trained(self) -> NetworkView:
        """The network. Raises ValueError where there is none."""
        if self.network is None:
            raise ValueError("this score needs the network, and none was given")
        return self.network


def magnitude(scoring: Scoring) -> dict[str, np.ndarray]:
    """|w|."""
    return {name: np.abs(w) for name, w in scoring.weights.items()}


def l2(scoring: Scoring) -> dict[str, np.ndarray]:
    """w squared: of a kernel or filter, in the order of its L2 norm, or across layers of the root
    of its mean square (Li et al. 2017 take the L1 norm, which is `magnitude`)."""
    return {name: np.square(w, dtype=np.float64) for name, w in scoring.weights.items()}


def random(scoring: Scoring) -> dict[str, np.ndarray]:
    """Uniform in [0, 1), independent of the weights; one for each unit."""
    return {name: scoring.rng(name).random(scoring.count(name)) for name in scoring.weights}


def taylor(scoring: Scoring, *, batches: int = 8, batch_size: int = 64) -> dict[str, np.ndarray]:
    """|gradient x weight|: the first-order estimate of what the loss changes by where a weight is
    removed (Molchanov et al. 2017); of unstructured weights, SNIP's sensitivity (Lee et al. 2019).

    batches: of training images that the gradient is the mean over
    batch_size: images of each
    """
    slopes = scoring.trained.gradients(batches, batch_size)
    return {name: np.abs(slopes[name] * w) for name, w in scoring.weights.items()}


def obd(scoring: Scoring, *, images: int = 256) -> dict[str, np.ndarray]:
    """Half of the curvature times w squared (LeCun et al. 1989, "Optimal Brain Damage"). The
    diagonal of the Hessian is the mean of the squared gradients of single images (the empirical
    Fisher information), as usual for trained classifiers.

    images: of the training set that the mean is over
    """
    curvature = scoring.trained.squared_gradients(images)
    return {
        name: 0.5 * curvature[name] * np.square(w, dtype=np.float64)
        for name, w in scoring.weights.items()
    }
