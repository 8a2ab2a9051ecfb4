"""Ray's autoscaler, if there is one: which nodes it could start, and how many are requested.

Ray starts nodes for the demand that it sees. It would see none: tasks wait in the driver, and
actors are bound to nodes that exist. So nodes are requested explicitly, and only while slots are
missing. An actor keeps its own node alive. A standing request would keep nodes that the autoscaler
chooses, among them perhaps the one that the last worker left.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from prunegrid.orchestrator.engines.ray.node_resources import (
    DemandController,
    Need,
    Node,
    NodeType,
    capacity,
    most_slots,
)
from prunegrid.orchestrator.engines.ray.nodes import node_infos, node_of

LOOK_EVERY_S = 1.0
NAME = "prunegrid-resource-request"  #: of the actor
EXPIRES_S = 120.0  #: after the last renewal
RENEW_EVERY_S = 20.0
GRANTED_AFTER_S = 12.0  #: without a refusal: the autoscaler decides every 5 s
MOST_SLOTS = 2000  #: each is a bundle that the autoscaler packs at every decision
#: KubeRay's operator sets it in its pods. Its autoscaler runs in a container of its own, where
#: Ray's process for it can't be seen.
_IN_KUBERAY = "RAY_USAGE_STATS_KUBERAY_IN_USE"
_CONFIG = "--autoscaling-config="


@dataclass(frozen=True, kw_only=True)
class Offer:
    """What an autoscaler may start."""

    types: tuple[NodeType, ...]
    workers: int | None  #: nodes at most in all; None: no such limit


class Autoscaler:
    """Not thread-safe."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        self._offer = _offer(ray)  #: None: an autoscaler runs, its limits are unknown
        self._requester = ResourceRequester(ray)
        self._controller: DemandController | None = None
        self._requested = 0  #: slots
        self._requested_s = self._renewed_s = self._looked_s = -1e9

    @property
    def node_types(self) -> Sequence[Node]:
        """Of the nodes that it may start, as if they were there."""
        return [each.node for each in self._offer.types] if self._offer else []

    @property
    def offers_gpus(self) -> bool:
        return self._offer is None or any(node.gpus for node in self.node_types)

    def offers(self, need: Need) -> bool:
        """Whether it may start a node that holds a slot."""
        return self._offer is None or any(capacity(node, need) for node in self.node_types)

    def request(self, need: Need, slots: int, *, held: int) -> None:
        """Request nodes for `slots` slots in all, including the `held` ones that exist; 0 requests
        nothing. Cheap when called often."""
        now_s = time.monotonic()
        if now_s - self._looked_s < LOOK_EVERY_S:
            return
        self._looked_s = now_s
        if self._controller is None:
            self._controller = DemandController(self._bound(need))
        if self._requested and slots:
            self._check_answer(self._controller, now_s)
        slots = self._controller.request(slots, held, now_s)
        if slots == self._requested and now_s - self._renewed_s < RENEW_EVERY_S:
            return
        with contextlib.suppress(Exception):  # it is repeated
            self._requester.renew(_bundle(need), slots)
            self._requested_s = now_s if slots != self._requested else self._requested_s
            self._requested, self._renewed_s = slots, now_s

    def _bound(self, need: Need) -> int:
        if self._offer is None:
            return MOST_SLOTS
        startable = most_slots(self._offer.types, need, self._offer.workers)
        return min(MOST_SLOTS, startable + sum(capacity(node, need) for node in _head(self._ray)))

    def _check_answer(self, controller: DemandController, now_s: float) -> None:
        """Whether the last request was refused or granted."""
        with contextlib.suppress(Exception):  # Ray has no public call for it
            if self._requested in _refused(self._ray):
                controller.refused(self._requested, now_s)
            elif now_s - self._requested_s > GRANTED_AFTER_S:
                controller.granted(self._requested)

    def cancel(self, need: Need) -> None:
        with contextlib.suppress(Exception):  # the request expires by itself
            self._requester.cancel(_bundle(need))


def _bundle(need: Need) -> dict[str, float]:
    return {"CPU": need.cpus} | ({"GPU": need.gpus} if need.gpus else {})


def _refused(ray: Any) -> list[int]:
    """The sizes of the requests that the autoscaler says it can't satisfy."""
    from ray.core.generated.autoscaler_pb2 import GetClusterStatusReply

    client = ray._raylet.GcsClient(ray.get_runtime_context().gcs_address)
    reply = GetClusterStatusReply.FromString(client.get_cluster_status(timeout_s=2))
    refused = reply.autoscaling_state.infeasible_cluster_resource_constraints
    return [sum(bundle.count for bundle in each.resource_requests) for each in refused]


def _head(ray: Any) -> list[Node]:
    """The node of the driver and the autoscaler: no worker node, but it may hold slots."""
    here = ray.get_runtime_context().get_node_id()
    return [node for node in map(node_of, node_infos(ray)) if node.id == here]


def _offer(ray: Any) -> Offer | None:
    monitors = list(_monitors(ray.get_runtime_context().gcs_address))
    if not monitors and os.environ.get(_IN_KUBERAY) == "1":
        return None
    types: list[NodeType] = []
    workers: list[int] = []
    for config in monitors:
        with contextlib.suppress(OSError, ValueError, AttributeError, yaml.YAMLError):
            raw = yaml.safe_load(Path(config).read_text())
            workers += [raw["max_workers"]] if "max_workers" in raw else []
            for name, kind in raw["available_node_types"].items():
                have, most = kind.get("resources") or {}, kind.get("max_workers", 0)
                if name != raw.get("head_node_type") and most > 0:
                    cpus, gpus = float(have.get("CPU", 0)), float(have.get("GPU", 0))
                    node = Node(id=name, host=name, cpus=cpus, gpus=gpus)
                    types.append(NodeType(node=node, most=most))
    return Offer(types=tuple(types), workers=min(workers, default=None))


def _monitors(gcs_address: str) -> Iterator[str]:
    """The configuration files ("" for none) of this cluster's autoscalers on this host, from their
    command lines: Ray has no call for it. They run on the head, as the driver does."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().decode(errors="replace").split("\0")
            ours = f"--gcs-address={gcs_address}" in words
            if ours and any(word.endswith("/monitor.py") for word in words):
                yield next((w.removeprefix(_CONFIG) for w in words if w.startswith(_CONFIG)), "")


# --------------------------------------------------------------------------- the request


class ResourceRequest:
    """The request for nodes, as an actor; it expires when its driver is no longer heard of.

    Ray's autoscaler keeps a request until the next one. A killed driver would never cancel its own,
    and its nodes would cost money until somebody noticed. So a small actor on the head makes the
    requests: it outlives the driver, and cancels the request after EXPIRES_S without a renewal.
    """

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
