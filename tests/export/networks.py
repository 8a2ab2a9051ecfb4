"""Pruned networks whose logits depend on the image, as trained ones' do.

Pruned at random initial weights a network's signal dies out, and any two would look alike.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from prunegrid.workers.catalog import ARCHITECTURES, METHODS
from prunegrid.workers.pruning.step import prune_step


def images(shape: tuple[int, ...], count: int = 6, seed: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).random((count, *shape), dtype=np.float32)


def logits(model: Any, batch: np.ndarray) -> np.ndarray:
    return np.asarray(model(batch, training=False))


def signal(model: Any) -> float:
    """How far the logits of random images are apart, of the largest."""
    out = logits(model, images(model.input_shape[1:], 16))
    return float(out.std(axis=0).max() / np.abs(out).max())


def settle(model: Any, seed: int = 0) -> None:
    """Random biases, batch norm scales and shifts; batch norm's statistics from random images,
    so that a pruned channel's are 0 and 0, as after fine-tuning."""
    import keras

    rng = np.random.default_rng(seed)
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for layer in model.layers:
        if getattr(layer, "bias", None) is not None:
            layer.bias.assign(rng.normal(size=layer.bias.shape) * 0.1)
    for norm in norms:
        norm.gamma.assign(rng.uniform(0.5, 1.5, norm.gamma.shape))
        norm.beta.assign(rng.normal(size=norm.beta.shape) * 0.5)
        norm.momentum = 0.0
    model(images(model.input_shape[1:], 64), training=True)
    for norm in norms:
        norm.momentum = 0.99


def pruned(architecture: str, method: str, rate: float, *, seed: int = 0) -> tuple[Any, dict]:
    """The model, small images where it can, and its masks."""
    from prunegrid.workers.models.base import build, get_weights, set_weights
    from prunegrid.workers.models.kernels import prunable

    shape = (32, 32, 3) if architecture == "resnet18" else ARCHITECTURES[architecture].input_shape
    model = build(architecture, shape, 10, seed=seed)
    layers, weights = prunable(model), get_weights(model)
    masks = {layer.name: np.ones(layer.shape, dtype=bool) for layer in layers}
    if rate > 1:
        masks = prune_step(
            {layer.name: weights[layer.path] for layer in layers},
            masks,
            {layer.name: layer.kind for layer in layers},
            method=METHODS[method],
            rate=rate,
            parent_rate=1,
            seed=seed,
        )
    for layer in layers:
        mask = masks[layer.name]
        louder = np.float32(2 * np.sqrt(mask.size / max(1, np.count_nonzero(mask))))
        weights[layer.path] = np.where(mask, weights[layer.path] * louder, np.float32(0))
    set_weights(model, weights)
    settle(model, seed)
    return model, masks
