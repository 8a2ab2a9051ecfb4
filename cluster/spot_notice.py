"""Tell Ray when the cloud is about to take this spot machine back: tasks save their state and go.

    python spot_notice.py aws|gcp|now

Ray itself does not look. AWS gives two minutes, GCP thirty seconds. `ray up` starts this on each
spot worker; it asks the machine's own metadata server every few seconds, tells Ray once, and ends.
`now` waits for nobody: to take a machine of one's own out of a running cluster.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable

ASK_EVERY_S = 5.0
AWS = "http://169.254.169.254"
GCP = "http://metadata.google.internal"


def aws(server: str = AWS) -> float | None:
    """Seconds that AWS leaves, or None while it says nothing. A notice is a JSON file that does
    not exist before (EC2 user guide, "Spot Instance interruption notices")."""
    headers = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
    token = _get(f"{server}/latest/api/token", headers, method="PUT")
    if token is None:
        return None
    headers = {"X-aws-ec2-metadata-token": token}
    text = _get(f"{server}/latest/meta-data/spot/instance-action", headers)
    if text is None or json.loads(text)["action"] == "hibernate":
        return None
    return 120.0


def gcp(server: str = GCP) -> float | None:
    """Seconds that GCP leaves, or None (Compute Engine, "Detecting preemption")."""
    headers = {"Metadata-Flavor": "Google"}
    path = "/computeMetadata/v1/instance/preempted"
    return 30.0 if _get(server + path, headers) == "TRUE" else None


def _get(url: str, headers: dict[str, str], method: str = "GET") -> str | None:
    """The answer's text; None for "not found" and where the server can't be reached."""
    request = urllib.request.Request(url, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=2) as answer:
            return str(answer.read().decode())
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return None


def now() -> float:
    """Seconds that one's own machine leaves."""
    return 120.0


def watch(ask: Callable[[], float | None], every_s: float = ASK_EVERY_S) -> float:
    """Wait for the notice; returns the seconds left."""
    while (left_s := ask()) is None:
        time.sleep(every_s)
    return left_s


def drain(left_s: float) -> int:
    """Have Ray give this node no more work; the driver sees it within a second or two."""
    import ray

    os.environ["RAY_ADDRESS"] = "auto"
    ray.init(address="auto", log_to_driver=False, logging_level="error")
    node = ray.get_runtime_context().get_node_id()
    ray.shutdown()
    command = ["ray", "drain-node", "--node-id", node]
    command += ["--reason", "DRAIN_NODE_REASON_PREEMPTION"]
    command += ["--reason-message", "this machine is about to go"]
    command += ["--deadline-remaining-seconds", str(int(left_s))]
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    clouds = {"aws": aws, "gcp": gcp, "now": now}
    if sys.argv[1:] not in ([name] for name in clouds):
        sys.exit(f"usage: spot_notice.py {'|'.join(clouds)}; got {' '.join(sys.argv[1:])!r}")
    sys.exit(drain(watch(clouds[sys.argv[1]])))
