"""How fast a device takes a network: what batch and shard sizes are chosen from. Pure;
`attacks/runtime/device_speed.py` measures."""

from __future__ import annotations

from dataclasses import dataclass, field

from prunegrid.workers.contract import OwnNetwork
from prunegrid.workers.dataset_entry import DatasetEntry

#: A larger batch must be this much faster per image to be worth its memory.
WORTH = 1.05


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A network to measure: an architecture on the shape of a data set's images."""

    architecture: str  #: the grid's label
    dataset: str
    configuration: str = field(default="", compare=False)  #: what the label means: see `identity`
    shape: tuple[int, ...] = field(default=(), compare=False)  #: of an image
    batch_size: int = field(default=128, compare=False)  #: of a training step
    augmentation: str = field(default="none", compare=False)
    built: str = field(default="", compare=False)  #: the catalog's name, where the label is another
    network: OwnNetwork | None = field(default=None, compare=False)
    own_data: DatasetEntry | None = field(default=None, compare=False)  #: not of the catalog


@dataclass(frozen=True, kw_only=True)
class Speed:
    """`passes_per_s[k]`: images that go forward and backward in a second, in batches of
    `sizes[k]`, in one worker; `forward_per_s[k]`: forward alone. Sizes that do not fit in memory,
    or take too long, are not in it. Stores of earlier versions lack what has a default."""

    architecture: str
    dataset: str
    device: str  #: as people call it
    host: str
    threads: int  #: of the worker, on a CPU
    measured_at: str  #: ISO 8601, UTC
    sizes: tuple[int, ...]  #: ascending
    passes_per_s: tuple[float, ...]
    forward_per_s: tuple[float, ...] = ()
    trained_per_s: float = 0.0  #: images of training steps
    compile_s: float = 0.0  #: the first gradient, less a later one
    start_s: float = 0.0  #: from a new process to its libraries

    def __post_init__(self) -> None:
        sound = len(self.sizes) == len(self.passes_per_s) > 0
        sound = sound and list(self.sizes) == sorted(set(self.sizes)) and self.sizes[0] > 0
        sound = sound and len(self.forward_per_s) in (0, len(self.sizes))
        rates = (*self.passes_per_s, *self.forward_per_s)
        if not sound or not all(0 < speed < float("inf") for speed in rates):
            raise ValueError(
                f"{self.architecture}: expected a speed above 0 for each of some ascending sizes, "
                f"got {rates} for {self.sizes}"
            )
        others = (self.trained_per_s, self.compile_s, self.start_s)
        if not all(0 <= value < float("inf") for value in others):
            raise ValueError(f"{self.architecture}: expected numbers of at least 0, got {others}")

    @property
    def probe(self) -> Probe:
        return Probe(architecture=self.architecture, dataset=self.dataset)

    def best(self, most: int) -> int:
        """The smallest measured size that no larger one beats by WORTH; of those up to `most`, or
        the smallest one of all."""
        chosen = 0
        for k in range(1, len(self.sizes)):
            faster = self.passes_per_s[k] > WORTH * self.passes_per_s[chosen]
            if self.sizes[k] <= most and faster:
                chosen = k
        return self.sizes[chosen]

    def at(self, batch: int) -> float:
        """Images per second in batches of `batch`: as the largest measured size up to it."""
        return self.passes_per_s[self._place(batch)]

    def forward_at(self, batch: int) -> float:
        """Forward alone, likewise."""
        return self.forward_per_s[self._place(batch)]

    def epoch_s(self, images: float, validation_images: float) -> float:
        """Seconds of an epoch on `images`, and to score the others after it."""
        return images / self.trained_per_s + validation_images / self.forward_at(self.sizes[-1])

    def _place(self, batch: int) -> int:
        known = [k for k, size in enumerate(self.sizes) if size <= batch]
        return known[-1] if known else 0
