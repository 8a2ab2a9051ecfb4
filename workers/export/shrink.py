"""A physically smaller network with the same logits, without the channels that carry nothing."""

from __future__ import annotations

from collections.abc import Mapping

import keras
import numpy as np

from prunegrid.workers.device import arithmetic
from prunegrid.workers.export.constants import bias, kernel, pads, parents
from prunegrid.workers.export.groups import ShrinkPlan, is_weighted, plan_shrink
from prunegrid.workers.models.base import get_weights, set_weights
from prunegrid.workers.models.kernels import kernels

#: Logits may differ by this fraction of the largest one (or of 1): sums run in another order.
TOLERANCE = 1e-4
#: The same in TF32, whose products have ten bits after the first.
TF32_TOLERANCE = 1e-2
#: The smaller network is worth attacking where it takes less than this part of the multiply-adds,
WORTH_FRAC = 0.8
#: and saves at least so many in an image's steps (of an attack whose steps are not known: in
#: USUAL_STEPS). With fewer, an attack on 64 images saves less than its compilation takes.
WORTH_MULTIPLY_ADDS = 600_000_000
USUAL_STEPS = 100


class ShrinkError(Exception):
    """The smaller network gives other logits: it must not be used."""


def shrink(model: keras.Model) -> keras.Model:
    """A new network without the channels that pruning emptied, for any pruning method.

    After filter pruning every pruned filter is removed, except for one per layer whose removal
    would change the next layer's borders (see `groups.plan_shrink`). In a residual stream a channel
    is removed where it is dead on all paths. `model` itself stays as it is.

    Raises ValueError for weights that are not finite and for layers of unknown types, ShrinkError
    where the logits of a few random images differ by more than `tolerance()`.
    """
    weights = shrunk_weights(model)
    small = like(model, {name: array.shape for name, array in weights.items()})
    set_weights(small, weights)
    check_logits(model, small)
    return small


def shrunk_weights(model: keras.Model) -> dict[str, np.ndarray]:
    """The smaller network's weights, float32, by the names of `get_weights`. Raises ValueError as
    `shrink` does."""
    before = get_weights(model)
    broken = sorted(name for name, array in before.items() if not np.isfinite(array).all())
    if broken:
        raise ValueError(f"shrink: expected finite weights, got others in {', '.join(broken)}")
    todo = plan_shrink(model)
    weights: dict[str, np.ndarray] = {}
    for layer in model.layers:
        weights |= _weighted(layer, todo) if is_weighted(layer) else _sliced(layer, todo)
    return {name: array.astype(np.float32) for name, array in weights.items()}


def like(model: keras.Model, shapes: Mapping[str, tuple[int, ...]]) -> keras.Model:
    """A new network of the same layers, as wide as weights of these shapes are; its own weights
    are undefined."""
    return keras.models.clone_model(model, clone_function=lambda layer: _clone(layer, shapes))


def work_left(model: keras.Model, weights: Mapping[str, np.ndarray]) -> tuple[int, int]:
    """Multiply-adds of one image's forward pass: of the network, zeros included, and of the
    smaller one with these weights."""
    layers = kernels(model)
    return (
        sum(int(np.prod(layer.shape)) * layer.positions for layer in layers),
        sum(int(weights[layer.path].size) * layer.positions for layer in layers),
    )


def is_worth(stored: int, shrunk: int, steps: int | None) -> bool:
    """Whether to attack the smaller network: by the multiply-adds of both for a forward pass of
    one image, and the most steps that an attack takes for an image. Neither shard nor machine
    matters."""
    saved = (stored - shrunk) * (steps or USUAL_STEPS)
    return shrunk < WORTH_FRAC * stored and saved >= WORTH_MULTIPLY_ADDS


def tolerance() -> float:
    """Of this process's arithmetic."""
    return TF32_TOLERANCE if arithmetic() == "TF32" else TOLERANCE


def check_logits(model: keras.Model, small: keras.Model, *, images: int = 4) -> float:
    """The largest difference on random images, relative to the largest logit (or 1).

    Raises ShrinkError where it is above `tolerance()`.
    """
    shape = (images, *model.input_shape[1:])
    batch = np.random.default_rng(0).random(shape, dtype=np.float32)
    expected, got = (np.asarray(m(batch, training=False)) for m in (model, small))
    error = float(np.abs(expected - got).max() / max(1.0, np.abs(expected).max()))
    most = tolerance()
    if not error <= most:
        raise ShrinkError(f"logits: expected a difference of at most {most:g}, got {error:g}")
    return error


def _weighted(layer: keras.Layer, todo: ShrinkPlan) -> dict[str, np.ndarray]:
    """A convolution's or dense layer's kernel and bias without the removed channels."""
    (parent,) = parents(layer)
    keep = todo.kept[parent]
    array, shift = kernel(layer).copy(), bias(layer).copy()
    repeats = array.shape[2] // len(keep)  # after a flatten: positions
    inside = np.tile(keep, repeats)
    values = np.where(inside, 0, np.nan_to_num(todo.constants[parent]))
    if pads(layer):
        if layer.name in todo.carriers:
            carrier = todo.carriers[layer.name]
            ratios = values / todo.constants[parent][carrier]
            array[:, :, carrier] += np.einsum("i,hwio->hwo", ratios, array)
    else:
        shift += values @ array.sum(axis=(0, 1))
    array = array[:, :, inside][..., todo.kept[layer.name]]
    out = {f"{layer.name}/kernel": array if layer.kernel.ndim == 4 else array[0, 0]}
    shift = shift[todo.kept[layer.name]]
    if layer.use_bias or shift.any():
        out[f"{layer.name}/bias"] = shift
    return out


def _sliced(layer: keras.Layer, todo: ShrinkPlan) -> dict[str, np.ndarray]:
    """A batch norm's or depthwise convolution's variables without the removed channels; other
    layers have none."""
    keep = todo.kept[layer.name]
    arrays = {v.name: np.asarray(v) for v in layer.variables if "seed_generator" not in v.path}
    return {
        f"{layer.name}/{name}": array[keep] if array.ndim == 1 else array[:, :, keep]
        for name, array in arrays.items()
    }


def _clone(layer: keras.Layer, shapes: Mapping[str, tuple[int, ...]]) -> keras.Layer:
    config = layer.get_config()
    if is_weighted(layer):
        width = "filters" if isinstance(layer, keras.layers.Conv2D) else "units"
        config[width] = shapes[f"{layer.name}/kernel"][-1]
        config["use_bias"] = f"{layer.name}/bias" in shapes
    return type(layer).from_config(config)
