"""Which channels belong together: a channel is kept or removed in all layers of its group.

A convolution, a dense layer or the image starts a group. Batch norm, relu and pools belong to the
group of their input. An addition joins the groups that it adds, so a residual stream is one group.
"""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np

from prunegrid.workers.export.constants import Constants, constant_channels, kernel, pads, parents


@dataclass(frozen=True, kw_only=True)
class Group:
    layers: tuple[str, ...]  #: layers whose output has these channels; the first makes them
    channels: int
    fixed: bool  #: the image's channels or the logits: none may be removed
    consumers: tuple[str, ...]  #: convolutions and dense layers that take them as input


@dataclass(frozen=True, kw_only=True)
class ShrinkPlan:
    """Which channels stay, and which channel carries the effect of those removed before a padding
    convolution."""

    constants: dict[str, Constants]  #: by layer
    kept: dict[str, np.ndarray]  #: layer -> bool [channels] of its output, before any flatten
    #: Padding convolution -> the kept channel that stands for the removed ones that are not 0.
    carriers: dict[str, int]


def is_weighted(layer: keras.Layer) -> bool:
    return isinstance(layer, keras.layers.Conv2D | keras.layers.Dense)


def channel_groups(model: keras.Model) -> tuple[Group, ...]:
    """In the network's order."""
    group_of: dict[str, str] = {}
    for layer in model.layers:
        before = parents(layer)
        if is_weighted(layer) or not before:
            group_of[layer.name] = layer.name
            continue
        mine = group_of[before[0]]
        joined = {group_of[name] for name in before}
        group_of = {name: mine if old in joined else old for name, old in group_of.items()}
        group_of[layer.name] = mine
    ends = {tensor._keras_history.operation.name for tensor in model.outputs}
    consumers = [layer for layer in model.layers if is_weighted(layer)]
    out = []
    for first in dict.fromkeys(group_of.values()):
        members = tuple(name for name, group in group_of.items() if group == first)
        starts = [model.get_layer(name) for name in members if not parents(model.get_layer(name))]
        out.append(
            Group(
                layers=members,
                channels=int(model.get_layer(members[0]).output.shape[-1]),
                fixed=bool(starts) or bool(ends & set(members)),
                consumers=tuple(c.name for c in consumers if parents(c)[0] in members),
            )
        )
    return tuple(out)


def plan_shrink(model: keras.Model) -> ShrinkPlan:
    """Remove a channel where each consumer either gives it no weight or gets a constant from it.

    A removed constant's effect on a consumer moves to the consumer's bias. For a padding
    convolution that would be wrong, since it sees zeros at the border. There one constant channel,
    the carrier, is kept and stands for all of them. One channel of a layer always stays, since
    Keras has no layers without channels.
    """
    constants = constant_channels(model)
    kept: dict[str, np.ndarray] = {}
    carriers: dict[str, int] = {}
    for group in channel_groups(model):
        keep = np.full(group.channels, group.fixed)
        for name in group.consumers:
            values, used = incoming(model, name, constants, group.channels)
            keep |= used & np.isnan(values)
        live = keep.copy()
        for name in group.consumers:
            values, used = incoming(model, name, constants, group.channels)
            strength = np.where(~live & used, np.abs(np.nan_to_num(values)), 0)
            if pads(model.get_layer(name)) and strength.any():
                carriers[name] = int(strength.argmax())
                keep[carriers[name]] = True
        if not keep.any():
            keep[0] = True
        kept.update(dict.fromkeys(group.layers, keep))
    return ShrinkPlan(constants=constants, kept=kept, carriers=carriers)


def incoming(
    model: keras.Model, consumer: str, constants: dict[str, Constants], channels: int
) -> tuple[Constants, np.ndarray]:
    """What a consumer takes in: the constants [channels], and bool [channels]: whether it gives the
    channel any weight. After a flatten a channel is many features of the same constant."""
    layer = model.get_layer(consumer)
    used = (kernel(layer) != 0).any(axis=(0, 1, 3))
    return constants[parents(layer)[0]][:channels], used.reshape(-1, channels).any(axis=0)
