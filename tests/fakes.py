"""A runner that does in milliseconds what the real one does in minutes: real task keys, real
store files, results that depend on the task's key alone. Seeds tell it to misbehave."""

from __future__ import annotations

import os
import random
import re
import signal
import time
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from prunegrid.workers import layout
from prunegrid.workers.adversarials import Adversarials, read_adversarials
from prunegrid.workers.artifacts import pack_masks, weights_sha256
from prunegrid.workers.checkpoints import Checkpoint, pack
from prunegrid.workers.contract import (
    AttackTask,
    Attempt,
    DataSettings,
    Failure,
    FailureKind,
    Outcome,
    PruneTask,
    Success,
    Task,
    TrainTask,
    TransferTask,
    WorkerSettings,
    classify,
    user_code_of,
)
from prunegrid.workers.entry import describe
from prunegrid.workers.files import StorageError, open_files
from prunegrid.workers.image_rows import ImageRows, images_to_parquet, read_images
from prunegrid.workers.records import LayerCount, ModelRecord, ModelResult, Provenance, leave
from prunegrid.workers.speeds import Probe, Speed
from prunegrid.workers.transfer_image_rows import read_transfers, transfers_to_parquet
from prunegrid.workers.user_code import sources_of

#: Seeds from here on misbehave; see `_misbehave`.
BUG, DIES_ONCE, DIES, SLOW, DATA = 900, 901, 902, 903, 904
#: Hangs in Python, hangs with the interpreter's lock held, runs deaf to a stop, is cramped below
#: 400 MiB of GPU, fails on the node whose raylet's pid is in the store's `bad-node`.
HANGS, HANGS_LOCKED, DEAF, CRAMPED, NODE_BOUND = 905, 906, 907, 908, range(920, 990)
BROKEN = 990
#: Its trainings diverge: the weights are NaN in the end.
DIVERGES = 913
#: Its trainings diverge later: the weights kept from before are finite.
DIVERGES_LATER = 914
#: Runs like SLOW, and leaves a checkpoint when it is stopped.
SAVES = 909
#: Its first training fails once, as with an error of this kind from the real libraries.
FAILS_ONCE = {
    910: StorageError("can't write: planted: slow down, please"),
    911: MemoryError("planted"),
    912: type("ResourceExhaustedError", (Exception,), {})("planted: OOM when allocating tensor"),
}
#: While this file is in the store, tasks of seed BROKEN fail as with a bug.
CAUSE = "broken"


def run_attempt(attempt: Attempt, settings: WorkerSettings, beat, stop_requested) -> Outcome:
    task = attempt.task
    files = open_files(settings.store)
    files.write(f"log/{task.key}-{attempt.number}-{uuid.uuid4().hex}", b"")
    if failure := _misbehave(attempt, settings, stop_requested):
        return failure
    if task.seed == BROKEN and files.exists(CAUSE):
        return failed(attempt, FailureKind.BUG, "ValueError: broken")
    beat(0.5, "half way")
    if isinstance(task, AttackTask):
        content = fake_images(task, attempt.number)
        if task.keep:
            kept = fake_adversarials(read_images(content)).to_npz()
            files.write(layout.all_adversarials(task.key), kept)
        leave(files, layout.image_rows(task.key), content, check=read_images)
    elif isinstance(task, TransferTask):
        try:
            kept = [
                read_adversarials(files.read(layout.all_adversarials(key)), key)
                for key in task.attack_keys
            ]
        except (FileNotFoundError, ValueError) as error:
            return failed(attempt, FailureKind.INPUT, f"TornInput: {error}")
        content = fake_transfers(task, kept, attempt.number)
        leave(files, layout.transfer_image_rows(task.key), content, check=read_transfers)
    else:
        record = fake_model(task, attempt.number)
        weights, masks = fake_weights(task)
        files.write(layout.model_file(task.key, "weights.npz"), pack(weights))
        files.write(layout.model_file(task.key, "masks.npz"), pack_masks(masks))
        content = record.to_json().encode()
        leave(files, layout.model_record(task.key), content, check=ModelRecord.from_json)
    has_rows = isinstance(task, AttackTask | TransferTask)
    summary = (("x", 1.0),) if has_rows else record.result.summary
    return Success(key=task.key, duration_s=0.01, host="fake", device="cpu", summary=summary)


def prepare(data: DataSettings, settings: WorkerSettings) -> str | None:
    """Fails on the store's `bad-node`; leaves a file in the store's `prepared`, if there is one."""
    raylet, store = str(os.getppid()), Path(settings.store)
    if (store / "bad-node").exists() and (store / "bad-node").read_text() == raylet:
        return "planted: no room"
    if (store / "prepared").is_dir():
        (store / "prepared" / f"{raylet}-{uuid.uuid4().hex}").touch()
    return "planted: no such data" if os.environ.get("FAKE_NO_DATA") else None


def measure(probes: Sequence[Probe], settings: WorkerSettings) -> tuple[Speed, ...] | str:
    return "nothing is computed here"


class FakeRunner:
    run_attempt = staticmethod(run_attempt)
    prepare = staticmethod(prepare)
    measure = staticmethod(measure)


RUNNER = FakeRunner()


def _misbehave(attempt: Attempt, settings: WorkerSettings, stop_requested) -> Failure | None:
    seed = attempt.task.seed
    if seed in (BUG, DIES, DIES_ONCE, HANGS):
        print(f"printed in attempt {attempt.number}")
        os.write(2, b"said by native code\n")
    if seed in FAILS_ONCE and attempt.number == 1 and isinstance(attempt.task, TrainTask):
        error = FAILS_ONCE[seed]
        return failed(attempt, classify(error), describe(error))
    if seed == BUG:
        return failed(attempt, FailureKind.BUG, "ValueError: planted")
    if seed == DATA:
        return failed(attempt, FailureKind.DATA, "no such data")
    if seed == DIES or (seed == DIES_ONCE and attempt.number == 1):
        os.kill(os.getpid(), signal.SIGKILL)
    if seed in (HANGS, DEAF):
        _hang()
    if seed == HANGS_LOCKED:
        re.match(r"(a+)+$", "a" * 60 + "b")
    if seed == CRAMPED and (settings.gpu_memory_mib or 0) < 400:
        return failed(attempt, FailureKind.DEVICE_MEMORY, f"OOM at {settings.gpu_memory_mib} MiB")
    if seed in NODE_BOUND:
        time.sleep(0.05)
        bad = Path(settings.store) / "bad-node"
        if bad.exists() and bad.read_text() == str(os.getppid()):
            return failed(attempt, FailureKind.BUG, "CudaError: planted: no device")
    if seed in (SLOW, SAVES):
        for step in range(1200):
            if stop_requested():
                if seed == SAVES:
                    Checkpoint(open_files(settings.store), attempt.task.key).save({}, {"at": step})
                return failed(attempt, FailureKind.LOST, "interrupted")
            time.sleep(0.05)
    return None


def _hang() -> None:
    while True:
        time.sleep(3600)


def failed(attempt: Attempt, kind: FailureKind, message: str) -> Failure:
    return Failure(
        key=attempt.task.key,
        kind=kind,
        message=message,
        traceback=f"Traceback (planted)\n{message}",
        host="fake",
        duration_s=0.01,
    )


def provenance(task: Task, attempt: int) -> Provenance:
    return Provenance(
        task_key=task.key,
        seed=task.seed,
        git_revision="0" * 12,
        versions=(("prunegrid", "0"),),
        device="cpu",
        threads=1,
        host="fake",
        started_at=datetime.now(UTC).isoformat(),
        duration_s=0.01,
        attempt=attempt,
        user_sources=sources_of(user_code_of(task)) or None,
    )


def fake_weights(task: Task) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """A kernel of 200 weights of which the first 200 / rate are left, a whole filter each."""
    rate = task.pruning.rate if isinstance(task, PruneTask) else 1.0
    mask = np.arange(200) < round(200 / rate)
    kernel = np.where(mask, np.float32(0.5), np.float32(0)).reshape(1, 1, 1, 200)
    return {"conv/kernel": kernel}, {"conv": mask.reshape(1, 1, 1, 200)}


def fake_model(task: Task, attempt: int = 1) -> ModelRecord:
    rate = task.pruning.rate if isinstance(task, PruneTask) else 1.0
    draw = random.Random(task.key)
    layer = LayerCount(
        name="conv",
        shape=(1, 1, 1, 200),
        total=200,
        left=round(200 / rate),
        flops_total=2000,
        flops_left=round(2000 / rate),
    )
    lost = np.nan if task.seed == DIVERGES else 0.0
    result = ModelResult(
        accuracy=0.9 + draw.random() / 10 + lost,
        loss=draw.random() + lost,
        validation_accuracy=0.9 + lost,
        validation_loss=0.1 + lost,
        train_loss=0.05,
        epochs=3,
        stopped_early=False,
        diverged=task.seed in (DIVERGES, DIVERGES_LATER),
        nominal_rate=rate,
        layers=(layer,),
        weights_sha256=weights_sha256(fake_weights(task)[0]),
    )
    return ModelRecord(task=task, result=result, provenance=provenance(task, attempt))


def fake_images(task: AttackTask, attempt: int = 1) -> bytes:
    columns: dict[str, list] = {name: [] for name in _VARYING}
    lost = task.seed == DIVERGES
    for image in range(task.start, task.stop):
        draw = random.Random(f"{task.parent_key}-{task.attack}-{image}")
        misclassified = draw.random() < 0.05 or lost
        reach = 0.0 if misclassified else draw.expovariate(1.0)
        for eps in task.attack.eps or (None,):
            broken = reach < eps if eps is not None else True
            columns["image"].append(image)
            columns["eps"].append(eps)
            columns["label"].append(image % 10)
            columns["clean_prediction"].append(-1 if lost else (image + misclassified) % 10)
            columns["adversarial_prediction"].append((image + 1) % 10 if broken else None)
            columns["distance"].append(reach if broken else float("inf"))
            columns["distance_loose"].append(None)
            if "distance_pixels" in columns:
                columns["distance_pixels"].append(None)
            columns["broken"].append(broken)
            columns["verified"].append(True)
            columns["skipped"].append(lost)
            columns["queries"].append(0 if misclassified else 40)
            columns["zero_gradient"].append(False)
            columns["broken_first_step"].append(None)
            columns["backward_passes"].append(0 if misclassified else 38)
            columns["flat_passes"].append(0)
            columns["broken_by"].append(None)
            columns["attacked_network"].append(None if misclassified else "stored")
            if "compute_batch" in columns:
                columns["compute_batch"].append(task.attack.batch_size)
    return images_to_parquet(columns, task=task, provenance=provenance(task, attempt))


def fake_adversarials(rows: ImageRows) -> Adversarials:
    """Images of two pixels, of which the first has the distance."""
    found = {}
    levels = rows.task.attack.eps or (None,)
    for row in rows.table.to_pylist():
        if row["broken"] and row["distance"] > 0:
            pixels = np.array([min(row["distance"], 1.0), 0.5], np.float32).reshape(1, 2, 1)
            found[levels.index(row["eps"]), row["image"]] = row["distance"], pixels
    return Adversarials.of(found, rows.task, (1, 2, 1))


def fake_transfers(task: TransferTask, kept: Sequence[Adversarials], attempt: int = 1) -> bytes:
    """Half of the adversarials change the target's class."""
    known = {
        (None if np.isnan(eps) else float(eps), int(image)): float(distance)
        for part in kept
        for eps, image, distance in zip(part.eps, part.image, part.distance, strict=True)
    }
    lost = task.seed == DIVERGES
    names = ("image", "eps", "label", "clean_prediction", "distance", "prediction")
    columns: dict[str, list] = {name: [] for name in (*names, "transferred", "skipped")}
    for eps in task.attack.eps or (None,):
        for image in range(task.images):
            draw = random.Random(f"{task.parent_key}-{image}")
            wrong = draw.random() < 0.05 or lost
            distance, moves = known.get((eps, image)), draw.random() < 0.5
            columns["image"].append(image)
            columns["eps"].append(eps)
            columns["label"].append(image % 10)
            columns["clean_prediction"].append(-1 if lost else (image + wrong) % 10)
            columns["distance"].append(float("inf") if distance is None else distance)
            shown = distance is not None and not lost
            columns["prediction"].append((image + moves) % 10 if shown else None)
            columns["transferred"].append(shown and moves and not wrong)
            columns["skipped"].append(lost)
    return transfers_to_parquet(columns, task=task, provenance=provenance(task, attempt))


def _varying() -> list[str]:
    from prunegrid.workers.image_rows import IMAGE_SCHEMA, PROVENANCE_FIELDS

    constant = {"task_key", "model_key", "attack", "engine", "outputs", "split"}
    constant |= {name for name, _ in PROVENANCE_FIELDS}
    return [name for name in IMAGE_SCHEMA.names if name not in constant]


_VARYING = _varying()


def attempts_of(store_folder) -> dict[str, int]:
    """Task key -> how often the fake ran it."""
    out: dict[str, int] = {}
    for path in (store_folder / "log").glob("*"):
        key = path.name.rsplit("-", 2)[0]
        out[key] = out.get(key, 0) + 1
    return out
