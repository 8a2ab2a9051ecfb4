"""The paths in a store, relative to its root. Standard library only."""

from __future__ import annotations

GRID = "grid.yaml"
MODELS = "models"
CHECKPOINTS = "checkpoints"
MODEL_ROWS = "results/models"
CELL_ROWS = "results/cells"
IMAGE_ROWS = "results/images"
TRANSFER_ROWS = "results/transfers"
TRANSFER_IMAGE_ROWS = "results/transfer_images"
ALL_ADVERSARIALS = "all_adversarials"
TUNING_ROWS = "results/tuning"
TUNING = "tuning"  #: the scratch store: what trials and bisections computed, by task key
NETWORKS = "networks"
JOURNAL = "journal"
FAILURES = "failures"


def model_file(task_key: str, name: str) -> str:
    """`name`: weights.npz, masks.npz, history.json or result.json."""
    return f"{MODELS}/{task_key}/{name}"


def model_record(task_key: str) -> str:
    """It is written last: where it exists, the model is whole."""
    return model_file(task_key, "result.json")


def network_file(sha256: str) -> str:
    """A .keras file that a grid brings."""
    return f"{NETWORKS}/{sha256}.keras"


def checkpoint_file(task_key: str, name: str) -> str:
    return f"{CHECKPOINTS}/{task_key}/{name}"


def image_rows(task_key: str) -> str:
    """One attack task's rows; the task is done when this file exists."""
    return f"{IMAGE_ROWS}/{task_key}.parquet"


def model_row(model_id: str) -> str:
    return f"{MODEL_ROWS}/{model_id}.parquet"


def cell_row(cell_id: str) -> str:
    return f"{CELL_ROWS}/{cell_id}.parquet"


def failure_file(task_key: str, attempt: int) -> str:
    return f"{FAILURES}/{task_key}/{attempt:03d}.json"


def transfer_image_rows(task_key: str) -> str:
    """One transfer task's rows; the task is done when this file exists."""
    return f"{TRANSFER_IMAGE_ROWS}/{task_key}.parquet"


def transfer_row(transfer_id: str) -> str:
    return f"{TRANSFER_ROWS}/{transfer_id}.parquet"


def all_adversarials(task_key: str) -> str:
    """Every adversarial of an attack task that keeps them: see `prunegrid.workers.adversarials`."""
    return f"{ALL_ADVERSARIALS}/{task_key}.npz"


def adversarials_name(task_key: str) -> str:
    """What that file is called among finished tasks: `adversarials-...` of `attack-...`."""
    return f"adversarials-{task_key.removeprefix('attack-')}"


def adversarials_file(name: str) -> str | None:
    """The file of an `adversarials_name`; None of another name."""
    digest = name.removeprefix("adversarials-")
    return None if digest == name else all_adversarials(f"attack-{digest}")


def adversarials(task_key: str) -> str:
    """A few of an attack's adversarial images, to look at: `<image>`, and `clean.<image>`, the
    original, each [h, w, c] float32 in [0, 1], bit by bit as they were verified. Older stores have
    float16, at which a few are adversarial no more, and some without the originals."""
    return f"adversarials/{task_key}.npz"
