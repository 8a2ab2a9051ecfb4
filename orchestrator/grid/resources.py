"""The parts `resources` and `price` of a grid file: what a task takes of a machine, and what the
machine costs. Neither is part of a task's identity."""

from __future__ import annotations

import math

from prunegrid.orchestrator.grid.fields import Field, Kind, Table, maybe, number, optional, whole
from prunegrid.orchestrator.grid.grid import Price, Resources
from prunegrid.orchestrator.grid.yaml_nodes import YamlNode
from prunegrid.workers.decode import from_dict

_LONGEST_CURRENCY = 8
SMALLEST_GPU_PART = 0.01
_MOST_IMAGES = 2**31 - 1  #: as the rows have them


def read_resources(
    node: YamlNode | None, price_node: YamlNode | None
) -> tuple[Resources, Price | None]:
    """Raises GridError."""
    values = ResourcesTable.whole(node)
    slot_hour = values.pop("price_per_hour")
    resources = from_dict(Resources, values)
    price = _read_price(price_node, resources) if price_node is not None else None
    if node is not None and isinstance(slot_hour, float):  # of one slot: the short form
        if price is not None:
            named = node.mapping()["price_per_hour"]
            raise named.fail("given beside 'price': expected one of the two")
        price = Price(per_hour=slot_hour, currency="", slots_per_node=1)
    return resources, price


def _gpus(node: YamlNode) -> float:
    """Ray counts GPUs in steps of 1/10 000 and takes no whole ones with a part beside them."""
    gpus = node.number(minimum=0)
    if 0 < gpus < SMALLEST_GPU_PART or (gpus > 1 and not gpus.is_integer()):
        raise node.fail(
            f"expected 0, a part of a GPU from {SMALLEST_GPU_PART:g} to 1, or a whole number, "
            f"got {gpus:g}"
        )
    return gpus


def _currency(node: YamlNode) -> str:
    currency = node.text().strip()
    if not currency or len(currency) > _LONGEST_CURRENCY or not currency.isprintable():
        raise node.fail(f"expected a currency such as USD, got {currency!r}")
    return currency


class ResourcesTable(Table):
    """What a task takes of a machine. To change it redoes nothing."""

    path = "resources"
    cpus_per_task = Field(whole(minimum=1), "CPUs that a task holds", default=1)
    gpus_per_task = Field(
        Kind(f"0, a part from {SMALLEST_GPU_PART:g} to 1, or a whole number", _gpus),
        "GPUs that a task holds",
        default=0.0,
    )
    threads = Field(whole(minimum=1), "TensorFlow's threads on a CPU", default=1)
    gpu_memory_mib = Field(
        optional(whole(minimum=64)), "TensorFlow's limit on a shared GPU", default=None
    )
    price_per_hour = Field(
        maybe(number(minimum=0)), "of one task slot: the short form of `price`", default=None
    )
    latency_batch = Field(
        optional(whole(minimum=1, maximum=_MOST_IMAGES)),
        "images of the forward pass that every model is timed with",
        default=None,
    )
    silence_s = Field(
        number(minimum=1), "a task without a heartbeat for so many seconds is ended", default=900.0
    )
    timeout_s = Field(optional(number(minimum=1)), "seconds for one attempt", default=None)


class PriceTable(Table):
    """What a machine costs. To change it redoes nothing."""

    path = "price"
    per_hour = Field(number(minimum=0), "of one node")
    currency = Field(Kind("text", _currency), "such as USD")
    gpus_per_node = Field(
        maybe(number(above=0)), "needed where a task takes GPUs", default=None, shown=""
    )
    cpus_per_node = Field(
        maybe(whole(minimum=1)), "needed where a task takes no GPU", default=None, shown=""
    )


def _read_price(node: YamlNode, resources: Resources) -> Price:
    own = node.mapping(PriceTable.names(), what="a price (a mapping)")
    per_hour = PriceTable.per_hour.of(own, node)
    currency = PriceTable.currency.of(own, node)
    fits = []  # tasks on one node, by each of its resources that are given
    if (gpus := PriceTable.gpus_per_node.of(own, node)) is not None:
        if resources.gpus_per_task:
            fits.append((own["gpus_per_node"], gpus / resources.gpus_per_task))
    elif resources.gpus_per_task:
        raise node.fail(
            f"expected gpus_per_node: a task takes {resources.gpus_per_task:g} GPUs, and the "
            "price is of a node"
        )
    if (cpus := PriceTable.cpus_per_node.of(own, node)) is not None:
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
