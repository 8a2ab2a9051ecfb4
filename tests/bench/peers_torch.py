"""Attacks of others, on PyTorch: `tests.bench.peers` runs this in an environment of its own.

    python peers_torch.py JOBS.json OUT.json

JOBS: {"networks": {name: {"model": FILE.keras, "images": FILE.npz}}, "runs": [{"network", "peer",
"norm", "options", "eps"}]}. The npz has `images` [n, h, w, c] in [0, 1], `labels` [n], and the
`logits` that TensorFlow gives; PyTorch's must be within 1e-5 of them, relative to the largest. OUT
has for each run `distance` [n] (inf where none was found), or at each eps `broken` [n];
`forward` and `backward`, passes of an image on average; and processor `seconds`. Every image is
classified and measured here, as ours are.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np
import torch

#: Of the largest logit.
CLOSE = 1e-5
BOX, NORM = 1e-6, 1e-4


class Counted(torch.nn.Module):
    """A Keras model for images [n, c, h, w], which counts the images that pass."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model, self.forward_passes, self.backward_passes = model, 0, 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = self.model(images.permute(0, 2, 3, 1), training=False)
        self.forward_passes += len(images)
        if logits.requires_grad:
            logits.register_hook(self._back)
        return logits

    def _back(self, slopes: torch.Tensor) -> None:
        self.backward_passes += len(slopes)


Peer = Callable[..., torch.Tensor]
LONG = {"linf": "Linf", "l2": "L2"}
ORDER = {"l0": 0, "l2": 2, "linf": float("inf")}


def apgd_ce(model: Any, x: Any, y: Any, norm: str, eps: float, steps: int, seed: int = 0) -> Any:
    from pyautoattack.autopgd_base import APGDAttack

    return APGDAttack(
        model, n_iter=steps, norm=LONG[norm], eps=eps, seed=seed, device="cpu"
    ).perturb(x, y)  # fmt: skip


def apgd_dlr_t(
    model: Any, x: Any, y: Any, norm: str, eps: float, steps: int, targets: int, seed: int = 0
) -> Any:
    from pyautoattack.autopgd_base import APGDAttack_targeted

    return APGDAttack_targeted(
        model, n_iter=steps, norm=LONG[norm], eps=eps, seed=seed, device="cpu",
        n_target_classes=targets,
    ).perturb(x, y)  # fmt: skip


def fab_t(model: Any, x: Any, y: Any, norm: str, eps: None, steps: int, targets: int) -> Any:
    """The nearest over all targets; their own loop over these stops at the first within an eps."""
    from pyautoattack.fab_pt import FABAttack_PT

    best, near = x.clone(), torch.full((len(x),), torch.inf)
    attack = FABAttack_PT(
        model, n_iter=steps, norm=LONG[norm], eps=1e3, targeted=True, device="cpu"
    )
    for rank in range(2, targets + 2):
        attack.target_class = rank
        found = attack.attack_single_run(x, y, is_targeted=True)
        with torch.no_grad():
            changed = model(found).argmax(1) != y
        distance = (found - x).flatten(1).norm(p=ORDER[norm], dim=1)
        closer = changed & (distance < near)
        best[closer], near[closer] = found[closer], distance[closer]
    return best


def square(model: Any, x: Any, y: Any, norm: str, eps: float, steps: int, seed: int = 0) -> Any:
    from pyautoattack.square import SquareAttack

    return SquareAttack(
        model, norm=LONG[norm], n_queries=steps, eps=eps, p_init=0.8, seed=seed, device="cpu",
        resc_schedule=False,
    ).perturb(x, y)  # fmt: skip


def autoattack(model: Any, x: Any, y: Any, norm: str, eps: float, seed: int = 0) -> Any:
    from pyautoattack import AutoAttack

    attack = AutoAttack(model, norm=LONG[norm], eps=eps, seed=seed)
    attack.verbose = False
    found, _ = attack.run_standard_evaluation(x, y, batch_size=len(x))
    return found


def ddn(model: Any, x: Any, y: Any, norm: str, eps: None, steps: int) -> Any:
    from adv_lib.attacks import ddn

    return ddn(model, x, y, steps=steps, levels=None)


def alma(model: Any, x: Any, y: Any, norm: str, eps: None, steps: int) -> Any:
    from adv_lib.attacks import alma

    return alma(model, x, y, num_steps=steps, distance="l2", init_lr_distance=1)


def sigma_zero(model: Any, x: Any, y: Any, norm: str, eps: None, steps: int) -> Any:
    from adv_lib.attacks import sigma_zero

    return sigma_zero(model, x, y, num_steps=steps)


def fmn(model: Any, x: Any, y: Any, norm: str, eps: None, steps: int) -> Any:
    from adv_lib.attacks import fmn

    more = {"α_init": 10.0} if norm == "linf" else {}
    return fmn(model, x, y, norm=ORDER[norm], steps=steps, **more)


def pdgd(model: Any, x: Any, y: Any, norm: str, eps: None, steps: int) -> Any:
    from adv_lib.attacks import pdgd

    return pdgd(model, x, y, num_steps=steps)


def foolbox_cw(model: Any, x: Any, y: Any, norm: str, eps: None, steps: int, searches: int) -> Any:
    import foolbox

    attack = foolbox.attacks.L2CarliniWagnerAttack(
        binary_search_steps=searches, steps=steps, stepsize=0.05, initial_const=1.0
    )
    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    return attack(wrapped, x, y, epsilons=None)[0]


PEERS: dict[str, Peer] = {
    peer.__name__: peer
    for peer in (
        apgd_ce, apgd_dlr_t, fab_t, square, autoattack, ddn, alma, sigma_zero, fmn, pdgd,
        foolbox_cw,
    )
}  # fmt: skip


def main(jobs: str, out: str) -> None:
    torch.set_num_threads(1)
    with open(jobs, encoding="utf-8") as file:
        asked = json.load(file)
    networks = {name: _network(**paths) for name, paths in asked["networks"].items()}
    found = []
    for run in asked["runs"]:
        found.append(run | _run(*networks[run["network"]], **run))
        print(
            f"{run['network']} {run['peer']} {run['norm']}: {found[-1]['seconds']:.1f} s",
            flush=True,
        )
        with open(out, "w", encoding="utf-8") as file:
            json.dump(found, file)


def _network(model: str, images: str) -> tuple[Any, torch.Tensor, torch.Tensor]:
    network = keras.saving.load_model(model)
    for weight in network.weights:
        weight.value.requires_grad_(False)
    arrays = np.load(images)
    x = torch.tensor(arrays["images"].transpose(0, 3, 1, 2).copy())
    with torch.no_grad():
        logits = Counted(network)(x).numpy()
    far = np.abs(logits - arrays["logits"]).max() / np.abs(arrays["logits"]).max()
    if far > CLOSE:
        raise SystemExit(
            f"{model}: expected logits within {CLOSE:g} of TensorFlow's, got {far:.2g}"
        )
    return network, x, torch.tensor(arrays["labels"])


def _run(
    keras_model: Any, x: torch.Tensor, y: torch.Tensor, *, peer: str, norm: str, options: Any,
    eps: list[float] | None, **_: Any,
) -> dict[str, Any]:  # fmt: skip
    """Misclassified images are not attacked: they are at distance 0."""
    model = Counted(keras_model)
    model.eval()
    with torch.no_grad():
        right = model(x).argmax(1) == y
    model.forward_passes = 0
    start = time.process_time()
    distances = []
    for bound in eps or [None]:
        torch.manual_seed(options.get("seed", 0))
        adversarial = PEERS[peer](model, x[right], y[right], norm, bound, **options)
        distances.append(_distances(model, x, y, right, adversarial.detach(), norm, bound))
    seconds = time.process_time() - start
    count = max(int(right.sum()), 1)
    passes = {
        "forward": model.forward_passes / count - len(distances),  # without ours
        "backward": model.backward_passes / count,
    }
    if eps:
        return {
            "broken": [np.isfinite(d).tolist() for d in distances],
            "seconds": seconds,
            **passes,
        }
    return {"distance": distances[0].tolist(), "seconds": seconds, **passes}


def _distances(
    model: Any, x: torch.Tensor, y: torch.Tensor, right: torch.Tensor, adversarial: torch.Tensor,
    norm: str, eps: float | None,
) -> np.ndarray:  # fmt: skip
    out = np.zeros(len(x))
    with torch.no_grad():
        changed = (model(adversarial).argmax(1) != y[right]).numpy()
    moved = (adversarial - x[right]).flatten(1).double().numpy()
    sizes = {
        "l0": lambda: (moved != 0).sum(axis=1).astype(float),
        "l2": lambda: np.sqrt(np.square(moved).sum(axis=1)),
        "linf": lambda: np.abs(moved).max(axis=1, initial=0.0),
    }[norm]()
    inside = ((adversarial >= -BOX) & (adversarial <= 1 + BOX)).flatten(1).all(1).numpy()
    within = np.inf if eps is None else eps * (1 + NORM) + BOX
    out[right.numpy()] = np.where(changed & inside & (sizes <= within), sizes, np.inf)
    return out


if __name__ == "__main__":
    main(*sys.argv[1:])
