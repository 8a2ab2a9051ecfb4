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
    built: str = field(default="", compare=False)  #: the catalog's name, where the label is another
    network: OwnNetwork | None = field(default=None, compare=False)
    own_data: DatasetEntry | None = field(default=None, compare=False)  #: not of the catalog


@dataclass(frozen=True, kw_only=True)
class Speed:
    """`passes_per_s[k]`: images that go forward and backward in a second, in batches of
    `sizes[k]`, in one worker. Sizes that do not fit in memory, or take too long, are not in it."""

    architecture: str
    dataset: str
    device: str  #: as people call it
    host: str
    threads: int  #: of the worker, on a CPU
    measured_at: str  #: ISO 8601, UTC
    sizes: tuple[int, ...]  #: ascending
    passes_per_s: tuple[float, ...]

    def __post_init__(self) -> None:
        sound = len(self.sizes) == len(self.passes_per_s) > 0
        sound = sound and list(self.sizes) == sorted(set(self.sizes)) and self.sizes[0] > 0
        if not sound or not all(0 < speed < float("inf") for speed in self.passes_per_s):
            raise ValueError(
                f"{self.architecture}: expected a speed above 0 for each of some ascending sizes, "
                f"got {self.passes_per_s} for {self.sizes}"
            )

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
        known = [k for k, size in enumerate(self.sizes) if size <= batch]
        return self.passes_per_s[known[-1] if known else 0]
