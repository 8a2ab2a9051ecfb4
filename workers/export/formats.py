"""Models as plain files that Keras or TensorFlow alone can read: no custom objects, no masks.

A pruned weight is a 0 in the kernel: anyone can count them, and inference costs as much as for a
dense network of the same shape.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import keras
import numpy as np

from prunegrid.workers.artifacts import load_record, load_weights
from prunegrid.workers.catalog import dataset_of
from prunegrid.workers.contract import AttackTask, TransferTask
from prunegrid.workers.export.shrink import shrink
from prunegrid.workers.files import Files
from prunegrid.workers.models.base import build, get_weights, set_weights
from prunegrid.workers.models.kernels import prunable, variables
from prunegrid.workers.models.network_files import local_file

#: "keras": a `.keras` file. "savedmodel": a folder for TensorFlow Serving and other runtimes; it
#: takes a batch "image" and answers "logits". "shrunk": the smaller network, in either format, by
#: the path's ending.
Form: TypeAlias = Literal["keras", "savedmodel", "shrunk"]
SUFFIX = ".keras"


@dataclass(frozen=True, kw_only=True)
class Exported:
    path: Path
    form: Form
    prunable: int  #: prunable weights in the file
    prunable_nonzero: int  #: those that are not 0
    parameters: int  #: all that the file's network has, batch norm's statistics too
    size_bytes: int  #: on disk


def load_model(files: Files, key: str) -> tuple[keras.Model, dict[str, np.ndarray]]:
    """Rebuild a stored model. Returns it and its masks: prunable layer -> bool array of its
    kernel's shape. Raises FileNotFoundError, StorageError, and ValueError where a file is torn or
    the weights are not the recorded ones."""
    stored = load_weights(files, key)
    task = stored.record.task
    if isinstance(task, AttackTask | TransferTask):
        raise ValueError(f"{key}: expected a train or prune task, got another")
    entry, own = dataset_of(task.data), task.network
    file = None if own is None else local_file(own, files)
    model = build(task.architecture, entry.shape, entry.classes, seed=0, own=own, file=file)
    set_weights(model, stored.weights)
    return model, stored.masks


def export_stored(files: Files, key: str, path: Path, form: Form) -> Exported:
    """Export a model of the store by its train or prune task's key.

    Raises as `load_model` and `export_model` do.
    """
    model, masks = load_model(files, key)
    task = load_record(files, key).task
    kept = () if isinstance(task, AttackTask | TransferTask) else task.prune_except
    return export_model(model, masks, path, form, prune_except=kept)


def export_model(
    model: keras.Model,
    masks: Mapping[str, np.ndarray],
    path: Path,
    form: Form,
    *,
    prune_except: tuple[str, ...] = (),
) -> Exported:
    """Write `model`, which gives logits for images [n, h, w, c] in [0, 1], atomically.

    `masks`: prunable layer -> bool array of its kernel's shape. They are checked, not applied:
    a model whose pruned weights are not 0 is not the one that was scored.

    Raises ValueError for an unknown form, a path whose ending does not fit it, masks of other
    layers and pruned weights that are not 0; FileExistsError where `path` exists; what `shrink`
    raises for "shrunk"; OSError where the disk refuses.
    """
    if form not in get_args(Form):
        raise ValueError(f"form: expected one of {', '.join(get_args(Form))}, got {form!r}")
    is_file = path.suffix == SUFFIX
    if (form == "keras" and not is_file) or (form == "savedmodel" and is_file):
        wanted = f"a file name that ends in {SUFFIX}" if form == "keras" else "a folder"
        raise ValueError(f"path for {form}: expected {wanted}, got {str(path)!r}")
    if path.exists():
        raise FileExistsError(f"export: {path} exists already")
    check_pruned(model, masks, prune_except)
    if form == "shrunk":
        model = shrink(model)
    aside = path.with_name(f".{uuid.uuid4().hex}.{path.name}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        if is_file:
            model.save(aside)
        else:
            _save_savedmodel(model, aside)
        os.replace(aside, path)
    finally:
        if aside.is_dir():
            shutil.rmtree(aside)
        else:
            aside.unlink(missing_ok=True)
    weights = get_weights(model)
    arrays = [weights[layer.path] for layer in prunable(model, prune_except)]
    return Exported(
        path=path,
        form=form,
        prunable=sum(array.size for array in arrays),
        prunable_nonzero=sum(int(np.count_nonzero(array)) for array in arrays),
        parameters=model.count_params(),
        size_bytes=_size_bytes(path),
    )


def check_pruned(
    model: keras.Model, masks: Mapping[str, np.ndarray], prune_except: tuple[str, ...] = ()
) -> None:
    """Raises ValueError where masks and layers differ, or a pruned weight is not exactly 0."""
    paths = {layer.name: layer.path for layer in prunable(model, prune_except)}
    if set(paths) != set(masks):
        raise ValueError(f"masks: expected those of {sorted(paths)}, got {sorted(masks)}")
    found = get_weights(model)
    for name, mask in masks.items():
        weights = found[paths[name]]
        if weights.shape != mask.shape:
            raise ValueError(f"mask of {name}: expected shape {weights.shape}, got {mask.shape}")
        wrong = int(np.count_nonzero(weights[~mask]))
        if wrong:
            raise ValueError(f"{name}: expected every pruned weight to be 0, got {wrong} others")


def _save_savedmodel(model: keras.Model, folder: Path) -> None:
    """Signature "serving_default": image -> logits. The weights are under `weights`, by
    `layer/variable`, each once; Keras's own export stores every variable twice."""
    import tensorflow as tf

    module = tf.Module()
    module.weights = {name: variable.value for name, variable in variables(model).items()}
    image = tf.TensorSpec((None, *model.input_shape[1:]), tf.float32, name="image")
    module.serve = tf.function(
        lambda image: {"logits": model(image, training=False)}, input_signature=[image]
    )
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.serve})


def _size_bytes(path: Path) -> int:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)
