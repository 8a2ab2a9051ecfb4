"""What is known of a data set before any image is read. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass

from prunegrid.workers.user_code import UserCode

#: Begins the fingerprint of a data set that is named by a hash of its arrays.
BY_HASH = "arrays:"


@dataclass(frozen=True, kw_only=True)
class DatasetEntry:
    """A data set of the catalog, or one that a grid brings."""

    name: str
    reader: UserCode  #: what reads it: see workers/data/base.py
    fingerprint: str  #: names the bytes; part of every task key
    shape: tuple[int, int, int]  #: height, width, channels
    classes: int
    train_images: int  #: before the validation tail is split off
    test_images: int
    class_names: tuple[str, ...] = ()  #: where the source names them
