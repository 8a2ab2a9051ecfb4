"""A small frozen network, and figures of public implementations on it.

`tests/data/reference_attacks.npz` has its weights, images and labels; `reference_attacks.json` what
the peers of `tests/bench/peers_torch.py` found, and who they are. `python -m tests.bench.peers
--freeze` makes the figures anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

DATA = Path(__file__).parent.parent / "data"
ARRAYS, FIGURES = DATA / "reference_attacks.npz", DATA / "reference_attacks.json"
SHAPE = (15, 15, 1)  # five tiles of three pixels: Square's first image in L2 needs a fit
#: Of attacks that draw: one run of the peer for each.
SEEDS = range(5)


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One of our attacks and its peer, at the same settings."""

    attack: str
    peer: str
    options: dict[str, Any]  #: of ours
    peer_options: dict[str, Any] = field(default_factory=dict)  #: beside `steps` and `targets`
    eps: Sequence[float] = ()
    draws: bool = False  #: at random
    close: float = 1e-3  #: half of all distances are that near to the peer's, relative to them

    @property
    def norm(self) -> str:
        return self.attack.rsplit("_", 1)[1]

    def runs(self, network: str) -> list[dict[str, Any]]:
        """Of the peer."""
        same = {k: v for k, v in self.options.items() if k in ("steps", "targets")}
        seeds = [{"seed": seed} for seed in SEEDS] if self.draws else [{}]
        return [
            {
                "network": network,
                "peer": self.peer,
                "norm": self.norm,
                "options": same | self.peer_options | seed,
                "eps": list(self.eps) or None,
            }
            for seed in seeds
        ]


LINF, L2 = (0.05, 0.1, 0.15), (0.4, 0.8, 1.2)
RATIO = {"steps": 20, "targets": 9, "ratio": True}
PAIRS = (
    Pair(attack="apgd_linf", peer="apgd_ce", options={"steps": 40}, eps=LINF, draws=True),
    Pair(attack="apgd_l2", peer="apgd_ce", options={"steps": 40}, eps=L2, draws=True),
    Pair(attack="apgd_linf", peer="apgd_dlr_t", options=RATIO, eps=LINF, draws=True),
    Pair(attack="apgd_l2", peer="apgd_dlr_t", options=RATIO, eps=L2, draws=True),
    Pair(attack="fab_linf", peer="fab_t", options={"steps": 20, "targets": 9}),
    Pair(attack="fab_l2", peer="fab_t", options={"steps": 20, "targets": 9}),
    Pair(attack="square_linf", peer="square", options={"steps": 200}, eps=(0.1, 0.2), draws=True),
    Pair(attack="square_l2", peer="square", options={"steps": 200}, eps=(1.0, 2.0), draws=True),
    Pair(attack="ddn_l2", peer="ddn", options={"steps": 100}),
    # Theirs takes a margin of 1e-4 for 0, which the paper does not.
    Pair(attack="alma_l2", peer="alma", options={"steps": 200}, close=5e-3),
    Pair(attack="sigma_zero_l0", peer="sigma_zero", options={"steps": 200}),
)


def small_network() -> Any:
    """Keras: two convolutions with strides and a dense layer, 10 classes."""
    import keras

    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input(SHAPE),
            layers.Conv2D(8, 3, strides=2, padding="same", activation="relu"),
            layers.Conv2D(16, 3, strides=2, padding="same", activation="relu"),
            layers.Flatten(),
            layers.Dense(10),
        ]
    )


def frozen_network() -> tuple[Any, np.ndarray, np.ndarray]:
    """It, images [n, 15, 15, 1] and labels [n]."""
    arrays, model = np.load(ARRAYS), small_network()
    model.set_weights([arrays[f"weight{i}"] for i in range(len(model.weights))])
    return model, arrays["images"].astype(np.float32) / np.float32(255), arrays["labels"]


def freeze_network(images: np.ndarray, labels: np.ndarray, count: int = 24) -> None:
    """Train it on uint8 digits [n, 784], halved, but for the last `count`, which are kept."""
    import keras

    keras.utils.set_random_seed(0)
    half = images.reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4)).round().astype(np.uint8)
    half = np.pad(half, ((0, 0), (0, 1), (0, 1)))[..., None]
    model = small_network()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.Adam(3e-3), loss=loss)
    seen = half[:-count].astype(np.float32) / np.float32(255)
    model.fit(seen, labels[:-count], batch_size=64, epochs=8, verbose=0)
    weights = {f"weight{i}": np.asarray(w) for i, w in enumerate(model.get_weights())}
    np.savez_compressed(ARRAYS, images=half[-count:], labels=labels[-count:], **weights)
