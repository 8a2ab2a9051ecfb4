"""What pruning saves at inference: a forward pass of the dense network, of the same with its
pruned weights at 0, and of the smaller network without dead channels, taking turns.

    python -m tests.bench.inference [--batch 16] [--rate 4] [--out FILE]

Prints JSON: a record per architecture and method with the three medians and their ratios.
`masked_over_dense` is what masks cost: 1 is nothing.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from tests.bench.output import tell

ARCHITECTURES = ("cnn5", "resnet8", "vgg11", "resnet18")
METHODS = ("magnitude-global-unstructured", "magnitude-local-filter")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=4.0)
    parser.add_argument("--architectures", default=",".join(ARCHITECTURES))
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", help="also write the JSON there")
    chosen = parser.parse_args(arguments)
    from prunegrid.workers.device import configure

    device = configure(chosen.threads, None)
    runs = []
    for architecture in chosen.architectures.split(","):
        for method in METHODS:
            runs.append(_compare(architecture, method, chosen))
            print(runs[-1]["summary"], file=sys.stderr)
    tell({"device": device, "threads": chosen.threads, "runs": runs}, chosen.out)


def _compare(architecture: str, method: str, chosen: argparse.Namespace) -> dict[str, Any]:
    from prunegrid.workers.export.latency import latencies_ms
    from prunegrid.workers.export.shrink import shrink
    from tests.export.networks import pruned

    dense, _ = pruned(architecture, method, 1)
    masked, _ = pruned(architecture, method, chosen.rate)
    small = shrink(masked)
    times = latencies_ms([dense, masked, small], batch_size=chosen.batch, repeats=chosen.repeats)
    ratio = {"masked_over_dense": times[1] / times[0], "dense_over_shrunk": times[0] / times[2]}
    parameters = dense.count_params() / small.count_params()
    return {
        "architecture": architecture,
        "image": list(dense.input_shape[1:]),
        "method": method,
        "rate": chosen.rate,
        "batch": chosen.batch,
        "ms": dict(zip(("dense", "masked", "shrunk"), times, strict=True)),
        **ratio,
        "parameters_dense_over_shrunk": parameters,
        "summary": f"{architecture} {method} rate {chosen.rate:g}: masked "
        f"{ratio['masked_over_dense']:.2f} of dense, shrunk {ratio['dense_over_shrunk']:.2f}x "
        f"faster with {parameters:.1f}x fewer parameters",
    }


if __name__ == "__main__":
    main()
