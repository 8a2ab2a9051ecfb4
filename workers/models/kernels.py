"""A network's variables and its kernels, at any depth of nesting, by names that last.

A kernel is a weight that inputs are multiplied with: of convolutions, dense layers and attention's
projections. Biases, norms and embeddings are neither pruned nor counted.
"""

from __future__ import annotations

import functools
import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from prunegrid.workers.models.layers import PROJECTION
from prunegrid.workers.pruning.counts import KernelKind, KernelLayer

_CONV = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
_DEPTHWISE = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)
_SEPARABLE = (keras.layers.SeparableConv1D, keras.layers.SeparableConv2D)
_TRANSPOSED = (
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
)
KNOWN = (
    "convolutions (plain, grouped, depthwise, separable, transposed), Dense, EinsumDense and "
    "MultiHeadAttention"
)


@dataclass(frozen=True, kw_only=True)
class _Place:
    """A layer, and where it is: `block/conv1`."""

    name: str
    layer: keras.Layer
    inner: tuple[keras.Layer, ...]  #: of its own


def _places(layers: Collection[keras.Layer], above: str, seen: set[int]) -> Iterator[_Place]:
    """Every layer once, in the network's order, those within others behind them."""
    for layer in layers:
        if id(layer) in seen or isinstance(layer, keras.layers.InputLayer):
            continue
        seen.add(id(layer))
        is_model = isinstance(layer, keras.Model)
        inner = layer.layers if is_model else layer._flatten_layers(False, recursive=False)
        place = _Place(name=f"{above}{layer.name}", layer=layer, inner=tuple(inner))
        yield place
        yield from _places(inner, f"{place.name}/", seen)


def places(model: keras.Model) -> Iterator[_Place]:
    """All layers of a network, nested ones too. Raises ValueError where two have one name."""
    names: set[str] = set()
    for place in _places(model.layers, "", set()):
        if place.name in names:
            raise ValueError(
                f"two layers are named {place.name!r}: expected a name of its own for each"
            )
        names.add(place.name)
        yield place


def _own_variables(place: _Place) -> Iterator[keras.Variable]:
    """Without those of layers within it, and without the state of random draws."""
    inner = {id(v) for layer in place.inner for v in layer.variables}
    for variable in place.layer.variables:
        if id(variable) not in inner and "seed_generator" not in variable.path:
            yield variable


def variables(model: keras.Model) -> dict[str, keras.Variable]:
    """`layer/variable`, or `block/layer/variable` -> every variable that a trained model keeps,
    batch norm's moving statistics included. The names do not depend on what else was built in this
    process."""
    out: dict[str, keras.Variable] = {}
    for place in places(model):
        for variable in _own_variables(place):
            name = f"{place.name}/{variable.name}"
            if name in out:
                raise ValueError(f"two variables are named {name!r}: expected a name for each")
            out[name] = variable
    return out


@functools.lru_cache(maxsize=8)
def kernels(model: keras.Model, kept: tuple[str, ...] = ()) -> tuple[KernelLayer, ...]:
    """Every kernel, in the network's order. `kept`: layers that are not pruned, by name or by the
    last part of it; their kernels are counted where they can be.

    Raises ValueError for another layer with kernels, unless it is kept, for a layer that no image
    reaches, and for a name in `kept` that no layer has.
    """
    found: list[tuple[_Place, str, keras.Variable, KernelKind]] = []
    unused = set(kept)
    spared: set[str] = set()
    for place in places(model):
        parts = place.name.split("/")
        heads = {"/".join(parts[:end]) for end in range(1, len(parts) + 1)} | {parts[-1]}
        unused -= heads
        above = place.name.rpartition("/")[0]
        if above in spared or heads & set(kept):
            spared.add(place.name)
        kinds = _kinds(place.layer)
        if not kinds and place.name not in spared:
            _refuse_uncounted(place)
        found += ((place, name, getattr(place.layer, name), kind) for name, kind in kinds.items())
    if unused:
        names = ", ".join(place.name for place in places(model) if _kinds(place.layer))
        raise ValueError(
            f"prune_except: expected layers of {names}; got {', '.join(sorted(unused))}"
        )
    positions = _positions(model, {place.name: place.layer for place, *_ in found})
    return tuple(
        KernelLayer(
            name=place.name if name == "kernel" else f"{place.name}/{name}",
            path=f"{place.name}/{name}",
            kind=kind,
            shape=tuple(int(n) for n in kernel.shape),
            positions=positions[place.name],
            prunable=not place.name.endswith(PROJECTION) and place.name not in spared,
        )
        for place, name, kernel, kind in found
    )


def prunable(model: keras.Model, kept: tuple[str, ...] = ()) -> tuple[KernelLayer, ...]:
    """The kernels that pruning works on, in the network's order. See `kernels`."""
    return tuple(layer for layer in kernels(model, kept) if layer.prunable)


def kernel_paths(model: keras.Model) -> frozenset[str]:
    """The variables that are kernels, whether they are counted or not."""
    return frozenset(f"{p.name}/{name}" for p in places(model) for name in _kinds(p.layer))


def _kinds(layer: keras.Layer) -> dict[str, KernelKind]:
    """Of the layer's kernels, by the attribute that holds each."""
    if isinstance(layer, _CONV):
        return {"kernel": "conv"}
    if isinstance(layer, _DEPTHWISE):
        return {"kernel": "depthwise"}
    if isinstance(layer, _SEPARABLE):
        return {"depthwise_kernel": "depthwise", "pointwise_kernel": "conv"}
    if isinstance(layer, _TRANSPOSED):
        return {"kernel": "transposed"}
    if isinstance(layer, keras.layers.Dense | keras.layers.EinsumDense):
        return {"kernel": "dense"}
    return {}


def _refuse_uncounted(place: _Place) -> None:
    """Raises ValueError where a layer has weights of its own that may be multiplied with."""
    if isinstance(place.layer, keras.layers.Embedding):
        return
    large = [
        variable.name
        for variable in _own_variables(place)
        if variable.trainable and sum(n > 1 for n in variable.shape) > 1
    ]
    if large:
        raise ValueError(
            f"layer {place.name!r} ({type(place.layer).__name__}) can't be pruned and counted: "
            f"its weights {', '.join(large)} are none of {KNOWN}; `prune_except: [{place.name}]` "
            "leaves them as they are, uncounted"
        )


def _positions(model: keras.Model, layers: dict[str, keras.Layer]) -> dict[str, int]:
    """How often an image is multiplied with each weight of a layer's kernels; one image is passed
    through. Raises ValueError where it does not reach a layer."""
    counts: defaultdict[str, int] = defaultdict(int)

    def watch(name: str, layer: keras.Layer) -> Callable[..., Any]:
        usual = layer.call

        def call(inputs: Any, *args: Any, **kwargs: Any) -> Any:
            outputs = usual(inputs, *args, **kwargs)
            counts[name] += _times(layer, tuple(inputs.shape), tuple(outputs.shape))
            return outputs

        return call

    for name, layer in layers.items():
        object.__setattr__(layer, "call", watch(name, layer))
    try:
        model(np.zeros((1, *model.input_shape[1:]), np.float32), training=False)
    finally:
        for layer in layers.values():
            object.__delattr__(layer, "call")
    if unreached := [name for name in layers if not counts[name]]:
        raise ValueError(
            f"layer {unreached[0]!r} can't be counted: no image reaches it by a call of the layer"
        )
    return counts


def _times(layer: keras.Layer, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> int:
    """How often one call multiplies with each weight, for one image."""
    if isinstance(layer, keras.layers.EinsumDense):
        return _einsum_times(layer.equation, inputs, outputs, tuple(layer.kernel.shape))
    if isinstance(layer, _TRANSPOSED):
        return math.prod(inputs[1:]) // int(layer.kernel.shape[-1])
    if isinstance(layer, _DEPTHWISE):
        return math.prod(outputs[1:]) // int(math.prod(layer.kernel.shape[-2:]))
    if isinstance(layer, _SEPARABLE):
        return math.prod(outputs[1:]) // int(layer.pointwise_kernel.shape[-1])
    return math.prod(outputs[1:]) // int(layer.kernel.shape[-1])


def _einsum_times(
    equation: str, inputs: tuple[int, ...], outputs: tuple[int, ...], kernel: tuple[int, ...]
) -> int:
    """All sizes that the equation runs over, but the batch's and the kernel's own."""
    left, _, result = equation.replace(" ", "").partition("->")
    first, _, second = left.partition(",")
    if "..." in equation:  # stands for the axes that have no letter, which both sides share
        letters = len(first.replace("...", ""))
        dots = "".join(chr(ord("A") + n) for n in range(len(inputs) - letters))
        first, result = first.replace("...", dots), result.replace("...", dots)
    sizes = dict(zip(first, inputs, strict=True)) | dict(zip(result, outputs, strict=True))
    del sizes[first[0]]  # the batch
    return math.prod(size for letter, size in sizes.items() if letter not in second)
