"""The parts `resources` and `price` of a grid file: what a task takes of a machine, what the
machine costs. Neither is part of a task's identity: to change them redoes nothing."""

from __future__ import annotations

import dataclasses
import math

from prunegrid.orchestrator.grid.grid import Price, Resources
from prunegrid.orchestrator.grid.yaml_nodes import Node, require

RESOURCE_KEYS = (
    "cpus_per_task",
    "gpus_per_task",
    "threads",
    "gpu_memory_mib",
    "price_per_hour",
    "latency_batch",
    "silence_s",
    "timeout_s",
)
PRICE_KEYS = ("per_hour", "currency", "gpus_per_node", "cpus_per_node")
_LONGEST_CURRENCY = 8
SMALLEST_GPU_PART = 0.01


def read_resources(node: Node | None, price_node: Node | None) -> tuple[Resources, Price | None]:
    """Raises GridError."""
    own = node.mapping(RESOURCE_KEYS) if node is not None else {}
    resources = Resources(
        cpus_per_task=own["cpus_per_task"].integer(minimum=1) if "cpus_per_task" in own else 1,
        gpus_per_task=_gpus(own["gpus_per_task"]) if "gpus_per_task" in own else 0.0,
        threads=own["threads"].integer(minimum=1) if "threads" in own else 1,
        gpu_memory_mib=own["gpu_memory_mib"].optional(lambda n: n.integer(minimum=64))
        if "gpu_memory_mib" in own
        else None,
        price_per_hour=None,
        latency_batch=own["latency_batch"].optional(lambda n: n.integer(minimum=1))
        if "latency_batch" in own
        else None,
        silence_s=own["silence_s"].number(minimum=1) if "silence_s" in own else 900.0,
        timeout_s=own["timeout_s"].optional(lambda n: n.number(minimum=1))
        if "timeout_s" in own
        else None,
    )
    price = _read_price(price_node, resources) if price_node is not None else None
    if (slot := own.get("price_per_hour")) is not None:  # of one slot: the short form
        if price is not None:
            raise slot.fail("given beside 'price': expected one of the two")
        price = Price(per_hour=slot.number(minimum=0), currency="", slots_per_node=1)
    per_hour = price.per_slot_hour if price is not None else None
    return dataclasses.replace(resources, price_per_hour=per_hour), price


def _gpus(node: Node) -> float:
    """Ray counts GPUs in steps of 1/10 000 and takes no whole ones with a part beside them."""
    gpus = node.number(minimum=0)
    if 0 < gpus < SMALLEST_GPU_PART or (gpus > 1 and not gpus.is_integer()):
        raise node.fail(
            f"expected 0, a part of a GPU from {SMALLEST_GPU_PART:g} to 1, or a whole number, "
            f"got {gpus:g}"
        )
    return gpus


def _read_price(node: Node, resources: Resources) -> Price:
    own = node.mapping(PRICE_KEYS, what="a price (a mapping)")
    per_hour = require(own, "per_hour", node).number(minimum=0)
    currency_node = require(own, "currency", node)
    currency = currency_node.text().strip()
    if not currency or len(currency) > _LONGEST_CURRENCY or not currency.isprintable():
        raise currency_node.fail(f"expected a currency such as USD, got {currency!r}")
    fits = []  # tasks on one node, by each of its resources that are given
    if "gpus_per_node" in own:
        gpus = own["gpus_per_node"].number(above=0)
        if resources.gpus_per_task:
            fits.append((own["gpus_per_node"], gpus / resources.gpus_per_task))
    elif resources.gpus_per_task:
        raise node.fail(
            f"expected gpus_per_node: a task takes {resources.gpus_per_task:g} GPUs, and the "
            "price is of a node"
        )
    if "cpus_per_node" in own:
        cpus = own["cpus_per_node"].integer(minimum=1)
        fits.append((own["cpus_per_node"], cpus / resources.cpus_per_task))
    if not fits:
        raise node.fail(
            "expected cpus_per_node: tasks take no GPU, and the price is of a node that runs "
            "as many at once as it has CPUs for"
        )
    least, count = min(fits, key=lambda fit: fit[1])
    slots = math.floor(count + 1e-9)  # three tasks of a third of a GPU fit on one
    if slots < 1:
        raise least.fail(
            f"expected room for a task, got a node too small for its {resources.cpus_per_task} "
            f"CPUs or {resources.gpus_per_task:g} GPUs"
        )
    return Price(per_hour=per_hour, currency=currency, slots_per_node=slots)
