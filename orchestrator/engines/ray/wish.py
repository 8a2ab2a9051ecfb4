"""The demand for nodes, kept up for as long as its driver is heard of.

What the autoscaler is asked for holds until the next word. A driver that was killed says none, and
its nodes would be paid for until somebody looked: so a small actor on the head asks in its place,
outlives it, and takes the wish back.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

NAME = "prunegrid-wish"
PATIENCE_S = 120.0  #: without a word from the driver
SAY_EVERY_S = 20.0


class Wish:
    """The actor."""

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._heard_s = time.monotonic()
        sdk = importlib.import_module("ray.autoscaler.sdk")
        self._request: Callable[..., None] = sdk.request_resources
        threading.Thread(target=self._watch, daemon=True).start()

    def hold(self, bundle: Mapping[str, float], count: int) -> None:
        self._heard_s = time.monotonic()
        self._request(bundles=[dict(bundle)] * count)

    def _watch(self) -> None:
        while time.monotonic() - self._heard_s < self._patience_s:
            time.sleep(min(self._patience_s / 4, 5.0))
        while True:
            with contextlib.suppress(Exception):  # the head is busy: once more
                self._request(bundles=[])
                os._exit(0)
            time.sleep(1.0)


class Wisher:
    """The driver's end of it. Not thread-safe."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        self._actor: Any = None
        self._answer: Any = None

    def hold(self, bundle: Mapping[str, float], count: int) -> None:
        """Say it, without waiting; a lost actor is replaced at the next word."""
        if self._answer is not None and self._failed(self._answer):
            self._actor = None
        if self._actor is None:
            self._actor = self._make()
        self._answer = self._actor.hold.remote(bundle, count)

    def drop(self, bundle: Mapping[str, float]) -> None:
        """Take it back, for certain."""
        if self._actor is None:
            return
        self._ray.get(self._actor.hold.remote(bundle, 0), timeout=10)
        self._ray.kill(self._actor)
        self._actor = self._answer = None

    def _failed(self, answer: Any) -> bool:
        done, _ = self._ray.wait([answer], timeout=0)
        try:
            self._ray.get(done)
        except Exception:
            return True
        return False

    def _make(self) -> Any:
        ray = self._ray
        affinity = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        here = ray.get_runtime_context().get_node_id()
        options = ray.remote(Wish).options(
            name=NAME,
            namespace=NAME,
            lifetime="detached",
            get_if_exists=True,
            num_cpus=0,
            max_concurrency=1,
            scheduling_strategy=affinity(here, soft=True),
        )
        return options.remote(PATIENCE_S)
