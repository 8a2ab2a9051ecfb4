"""Builds networks once, and tells what they are. Run as a module it answers the driver, which
imports no TensorFlow: requests as JSON on standard input, facts on standard output."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np

from prunegrid.workers.artifacts import weights_sha256
from prunegrid.workers.child_process import limited
from prunegrid.workers.decode import from_dict
from prunegrid.workers.device import configure
from prunegrid.workers.keys import digest
from prunegrid.workers.models.base import get_weights, network_of
from prunegrid.workers.models.kernels import kernels
from prunegrid.workers.models.own_networks import CUT, RESHAPED, built_by, read_from
from prunegrid.workers.network_facts import (
    NetworkFacts,
    NetworkRequest,
    configuration_of,
    file_sha256,
)


def facts_of(request: NetworkRequest) -> NetworkFacts:
    """Raises ValueError where the network can't be built, pruned or counted."""
    model = _build(request, seed=0)
    if model.count_params() == 0:
        raise ValueError("expected a network with weights, got one without")
    config = dict(model.get_config())
    if not request.target:
        config.pop("name", None)
    configuration = configuration_of(config)
    code = request.code
    sha256 = file_sha256(request.file_path)
    if code is not None and (code.options or code.version > 1):
        configuration = digest([configuration, code.options, code.version])
    if request.trained:
        configuration = digest([configuration, _weights_digest(model)])
    layers = kernels(model, request.prune_except)
    pruned = [(math.prod(layer.shape), layer.kind) for layer in layers if layer.prunable]
    if not pruned:
        raise ValueError("nothing of it is pruned: expected at least one layer to prune")
    return NetworkFacts(
        configuration=configuration,
        parameters=model.count_params(),
        prunable_weights=sum(size for size, _ in pruned),
        structured_weights=sum(size for size, kind in pruned if kind != "dense"),
        forward_flops=sum(math.prod(layer.shape) * layer.positions for layer in layers),
        file_sha256=sha256,
        notes=tuple(_notes(request, model)),
    )


def _build(request: NetworkRequest, *, seed: int) -> keras.Model:
    shape, classes = request.input_shape, request.classes
    if request.code is not None:
        return built_by(request.code, shape, classes, seed=seed)
    if request.file_path:
        path = Path(request.file_path)
        kept = None if request.trained else seed
        return read_from(path, shape, classes, name=path.name, seed=kept)
    return network_of(request.target, shape, classes, seed=seed, name="network")


def _notes(request: NetworkRequest, model: keras.Model) -> list[str]:
    """Raises ValueError where the outputs are no logits."""
    if request.target:
        return []
    images = np.random.default_rng(0).random((8, *request.input_shape), dtype=np.float32)
    outputs = np.asarray(model(images, training=False))
    if outputs.min() >= 0 and np.allclose(outputs.sum(axis=1), 1, atol=1e-4):
        raise ValueError(
            "its outputs are probabilities: expected logits, what goes into the softmax"
        )
    notes = []
    if any(layer.name == RESHAPED for layer in model.layers):
        form, shape = (
            "x".join(map(str, sizes))
            for sizes in (model.get_layer(RESHAPED).output.shape[1:], request.input_shape)
        )
        notes.append(f"its input is {form}: a layer before it brings images of {shape} into it")
    if getattr(model, CUT, False):
        notes.append("it ends in a softmax, which is cut off: attacks and training see logits")
    if not request.trained:
        one, other = get_weights(model), get_weights(_build(request, seed=1))
        if all(np.array_equal(one[name], other[name]) for name in one):
            notes.append("every seed has the same initial weights: its initialisers have seeds")
    return notes


def _weights_digest(model: keras.Model) -> str:
    return weights_sha256(get_weights(model))


def main() -> None:
    configure(1, None)
    answers: list[dict[str, Any]] = []
    for raw in json.load(sys.stdin):
        try:
            with limited():
                answers.append(dataclasses.asdict(facts_of(from_dict(NetworkRequest, raw))))
        except Exception as error:
            name = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
            answers.append({"error": " ".join(f"{name}{error}".split())})
    print()  # what a user's code printed may have no end of line
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
