"""All adversarials of an attack task, as a file of the store. NumPy alone.

Each is the very image that was verified: the class that the attacked model gave it, the box and the
norm were checked.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prunegrid.workers.checkpoints import pack, unpack
from prunegrid.workers.contract import AttackTask

#: What one holds beside its pixels: its image, its eps and its distance.
ASIDE_BYTES = 20


@dataclass(frozen=True, kw_only=True)
class Adversarials:
    """Of n images, in the order of eps and then of images."""

    image: np.ndarray  #: int32 [n], index in the split
    eps: np.ndarray  #: float64 [n]; NaN of a minimum-norm attack
    distance: np.ndarray  #: float64 [n], as measured, in the attack's norm
    adversarial: np.ndarray  #: float32 [n, h, w, c] in [0, 1]

    def __len__(self) -> int:
        return len(self.image)

    def to_npz(self) -> bytes:
        return pack(vars(self), compressed=True)

    @classmethod
    def of(
        cls,
        found: dict[tuple[int, int], tuple[float, np.ndarray]],
        task: AttackTask,
        shape: tuple[int, ...],
    ) -> Adversarials:
        """`found`: by number of the eps and by image, the distance and the pixels of `shape`."""
        order = sorted(found)
        eps = task.attack.eps or (float("nan"),)
        pixels = [found[key][1] for key in order]
        return cls(
            image=np.array([image for _, image in order], np.int32),
            eps=np.array([eps[k] for k, _ in order], np.float64),
            distance=np.array([found[key][0] for key in order], np.float64),
            adversarial=np.stack(pixels) if pixels else np.zeros((0, *shape), np.float32),
        )


def read_adversarials(content: bytes, task_key: str) -> Adversarials:
    """Raises ValueError where the content is not a whole file of adversarials."""
    arrays = unpack(content)
    kinds = {"image": "i4", "eps": "f8", "distance": "f8", "adversarial": "f4"}
    wrong = [n for n, kind in kinds.items() if n not in arrays or arrays[n].dtype != np.dtype(kind)]
    if wrong:
        raise ValueError(f"adversarials of {task_key}: missing or of another type: {wrong}")
    found = Adversarials(**{name: arrays[name] for name in kinds})
    n = len(found)
    flat = (found.image, found.eps, found.distance)
    if any(a.shape != (n,) for a in flat) or found.adversarial.shape[:1] != (n,):
        raise ValueError(f"adversarials of {task_key}: arrays of different lengths")
    if found.adversarial.ndim != 4:
        shape = found.adversarial.shape
        raise ValueError(f"adversarials of {task_key}: expected [n, h, w, c], got {shape}")
    return found


def most_bytes(images: int, eps: int, shape: tuple[int, ...]) -> int:
    """What they take at most, not compressed: one of each image at each of so many eps."""
    return images * max(eps, 1) * (4 * int(np.prod(shape)) + ASIDE_BYTES)
