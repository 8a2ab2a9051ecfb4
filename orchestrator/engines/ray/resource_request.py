"""The request for nodes, which expires when its driver is no longer heard of.

Ray's autoscaler keeps a request until the next one. A killed driver would never cancel its own, and
its nodes would cost money until somebody noticed. So a small actor on the head makes the requests:
it outlives the driver, and cancels the request after EXPIRES_S without a renewal.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

NAME = "prunegrid-resource-request"
EXPIRES_S = 120.0  #: after the last renewal
RENEW_EVERY_S = 20.0


class ResourceRequest:
    """The actor."""

    def __init__(self, expires_s: float) -> None:
        self._expires_s = expires_s
        self._renewed_s = time.monotonic()
        sdk = importlib.import_module("ray.autoscaler.sdk")
        self._request: Callable[..., None] = sdk.request_resources
        threading.Thread(target=self._watch, daemon=True).start()

    def renew(self, bundle: Mapping[str, float], count: int) -> None:
        self._renewed_s = time.monotonic()
        self._request(bundles=[dict(bundle)] * count)

    def _watch(self) -> None:
        while time.monotonic() - self._renewed_s < self._expires_s:
            time.sleep(min(self._expires_s / 4, 5.0))
        while True:
            with contextlib.suppress(Exception):  # the head may be busy: try again
                self._request(bundles=[])
                os._exit(0)
            time.sleep(1.0)


class ResourceRequester:
    """The driver's side of it. Not thread-safe."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        self._actor: Any = None
        self._answer: Any = None

    def renew(self, bundle: Mapping[str, float], count: int) -> None:
        """Request `count` bundles in all, without waiting for the answer. A lost actor is replaced
        at the next renewal."""
        if self._answer is not None and self._failed(self._answer):
            self._actor = None
        if self._actor is None:
            self._actor = self._make()
        self._answer = self._actor.renew.remote(bundle, count)

    def cancel(self, bundle: Mapping[str, float]) -> None:
        """Wait until nothing is requested any more, and end the actor."""
        if self._actor is None:
            return
        self._ray.get(self._actor.renew.remote(bundle, 0), timeout=10)
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
        options = ray.remote(ResourceRequest).options(
            name=NAME,
            namespace=NAME,
            lifetime="detached",
            get_if_exists=True,
            num_cpus=0,
            max_concurrency=1,
            scheduling_strategy=affinity(here, soft=True),
        )
        return options.remote(EXPIRES_S)
