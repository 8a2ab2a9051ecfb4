"""Networks that a user brings: what a function builds, or what a .keras file holds.

Each ends up as a functional Keras model from images [n, h, w, c] in [0, 1] to logits [n, classes].
"""

from __future__ import annotations

import contextlib
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import tree

from prunegrid.workers.keys import derive_seed
from prunegrid.workers.models.layers import Layers
from prunegrid.workers.user_code import UserCode, UserCodeError

#: Set on a model whose softmax was cut off.
CUT = "_prunegrid_softmax_cut"
#: Brings images into another form, for a network that takes them in it.
RESHAPED = "image_reshaped"


def built_by(
    code: UserCode, input_shape: tuple[int, int, int], classes: int, *, seed: int
) -> keras.Model:
    """What a function builds. It may take `input_shape` and `classes`, and returns a functional or
    Sequential model; or `inputs`, `classes` and `layers`, and returns the logits. Raises
    UserCodeError, and ValueError where it returns anything else."""
    with _seeded(seed):
        inputs = keras.Input(input_shape, name="image")
        made = code.call(
            input_shape=input_shape, classes=classes, inputs=inputs, layers=Layers(seed)
        )
        if isinstance(made, keras.KerasTensor):
            made = keras.Model(inputs, made)
        return _finished(made, code.target, input_shape, classes)


def read_from(
    path: Path, input_shape: tuple[int, int, int], classes: int, *, name: str, seed: int | None
) -> keras.Model:
    """What a .keras file holds, with its weights, or with fresh ones by `seed`. Raises ValueError
    where it holds no network that fits."""
    with _seeded(seed or 0):
        try:
            model = keras.models.load_model(path, compile=False)
        except Exception as error:  # whatever Keras, zipfile or h5py raises
            raise ValueError(f"{name}: can't be read as a Keras model: {_why(error)}") from error
        if seed is not None and isinstance(model, keras.Sequential | keras.Model):
            model = keras.models.clone_model(model)
        return _finished(model, name, input_shape, classes)


def _why(error: Exception) -> str:
    """In one line. A file never names the module that its own classes are in, and what it holds
    as code is not run."""
    text = str(error).strip()
    unknown = re.search(r"Could not locate class '(\w+)'", text)
    if unknown is not None or "Lambda" in text:
        what = f"a layer of one's own, {unknown[1]}" if unknown else "a Lambda layer's code"
        return (
            f"it has {what}: expected layers of Keras itself; name a function that builds the "
            "network and imports them (`build: module:function`), which may load the file's weights"
        )
    return next(iter(text.splitlines()), type(error).__name__)


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Layers without names are named as in a new process, and initial weights drawn by `seed`,
    whatever was built before."""
    from keras.src.backend.common import global_state  # there is no public way to the names' counts

    names, drawn, numpy_drawn = "object_name_uids", random.getstate(), np.random.get_state()
    before = global_state.get_global_attribute(names)
    global_state.set_global_attribute(names, None)
    keras.utils.set_random_seed(derive_seed(seed, "network") % 2**32)
    try:
        yield
    finally:
        global_state.set_global_attribute(names, before)
        random.setstate(drawn)
        np.random.set_state(numpy_drawn)


def _finished(made: Any, name: str, shape: tuple[int, int, int], classes: int) -> keras.Model:
    """A functional model without a softmax. Raises ValueError."""
    if isinstance(made, keras.Sequential):
        if not made.built:
            made.build((None, *shape))
        made = keras.Model(made.inputs[0], made.outputs[0], name=made.name)
    if not isinstance(made, keras.Model) or not getattr(made, "operations", None):
        raise UserCodeError(
            f"{name}: expected a functional or Sequential Keras model, or a Keras tensor of "
            f"logits, got {type(made).__name__}"
        )
    if len(made.inputs) != 1 or len(made.outputs) != 1:
        raise UserCodeError(
            f"{name}: expected one input and one output, got {len(made.inputs)} and "
            f"{len(made.outputs)}"
        )
    got = tuple(made.inputs[0].shape[1:])
    if got in _other_forms(shape):
        made, got = _taking_images(made, got, shape), shape
    if len(got) != 3 or any(n not in (None, m) for n, m in zip(got, shape, strict=True)):
        raise UserCodeError(f"{name}: expected images of {_by(shape)}, got {_by(got)}")
    if None in got:  # sizes are read from the model in many places
        image = keras.Input(shape, name="image")
        made = keras.Model(image, made(image), name=made.name)
    if ends_in_softmax(made):
        made = _without_softmax(made)
        object.__setattr__(made, CUT, True)
    out = tuple(made.outputs[0].shape[1:])
    if out != (classes,):
        raise UserCodeError(f"{name}: expected logits of {classes} classes, got {_by(out)}")
    return made


def _other_forms(shape: tuple[int, int, int]) -> list[tuple[int, ...]]:
    """In which networks take images too: as rows, where there is one channel, and as vectors."""
    height, width, channels = shape
    return [(height * width * channels,), *([(height, width)] if channels == 1 else [])]


def _taking_images(
    made: keras.Model, form: tuple[int, ...], shape: tuple[int, int, int]
) -> keras.Model:
    """The same network behind a layer that brings images into its form."""
    image = keras.Input(shape, name="image")
    reshaped = keras.layers.Reshape(form, name=RESHAPED)(image)
    # A call of the model would put it into the new one as a single layer.
    logits = made._run_through_graph(reshaped, operation_fn=lambda operation: operation)
    both = keras.Model(image, *tree.flatten(logits), name=made.name)
    alone = keras.models.clone_model(both)  # the layers of `both` belong to `made` as well
    alone.set_weights(both.get_weights())
    return alone


def _by(shape: tuple[int | None, ...]) -> str:
    return "x".join("?" if n is None else str(n) for n in shape) or "a number"


def ends_in_softmax(model: keras.Model) -> bool:
    """Whether the last layer, or the last one within it, gives probabilities."""
    layer = model.outputs[0]._keras_history.operation
    if isinstance(layer, keras.layers.Softmax):
        return True
    if isinstance(layer, keras.Model) and getattr(layer, "outputs", None):
        return ends_in_softmax(layer)
    return getattr(layer, "activation", None) is keras.activations.softmax


def _without_softmax(model: keras.Model) -> keras.Model:
    """What goes into the softmax at the end are the logits. Raises ValueError for one that can't
    be cut off."""
    layer = model.outputs[0]._keras_history.operation
    if isinstance(layer, keras.Model):
        if isinstance(layer.outputs[0]._keras_history.operation, keras.layers.Softmax):
            raise UserCodeError(
                f"{layer.name}: a layer Softmax ends a model within the model: expected logits; "
                "leave that layer out"
            )
        _without_softmax(layer)
        return model
    if isinstance(layer, keras.layers.Softmax | keras.layers.Activation):
        return keras.Model(model.inputs[0], layer.input, name=model.name)
    layer.activation = keras.activations.linear
    return model
