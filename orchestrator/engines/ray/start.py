"""Connecting to Ray: a new one on loopback, or a cluster to join."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
from typing import Any

from prunegrid.orchestrator.errors import PrunegridError

_QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}


class EngineError(PrunegridError):
    """Ray can't be started or reached, or can't offer what the grid needs."""


def keep_to_ourselves() -> None:
    """To be called before ray is imported: a Ray that we start listens on loopback alone (Ray's
    own switch for machines that join no cluster), and takes a token that only this run knows. It
    neither reads nor writes one in the user's home."""
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")  # CPU tasks see no GPU


def join(address: str) -> Any:
    """Connect to a running cluster; returns the module. Raises EngineError."""
    import ray

    try:
        ray.init(address=address, **_QUIET)
    except Exception as error:
        raise EngineError(f"can't join the Ray cluster at {address!r}: {error}") from error
    return ray


def start_local(*, cpus: int | None, gpus: int | None) -> Any:
    """Start Ray on loopback; returns the module. Tries twice, since a busy machine may exceed
    Ray's fixed start-up limit of 30 s. Raises EngineError."""
    keep_to_ourselves()
    import ray

    for last in (False, True):
        try:
            ray.init(
                address="local",
                include_dashboard=False,
                num_cpus=cpus,
                num_gpus=gpus,
                object_store_memory=100 * 2**20,
                **_QUIET,
            )
            return ray
        except Exception as error:
            with contextlib.suppress(Exception):
                ray.shutdown()
            if last:
                raise EngineError(f"can't start Ray on this machine: {error}") from error
    raise AssertionError("unreachable")
