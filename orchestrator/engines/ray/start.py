"""Connecting to Ray: a new one on loopback, or a cluster to join."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import socket
import time
from typing import Any

from prunegrid.orchestrator.engines.ray import daemons
from prunegrid.orchestrator.engines.ray.usable_cpus import usable_cpus
from prunegrid.orchestrator.errors import PrunegridError

JOIN_S = 10.0  #: a cluster must answer within that time
_QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
#: What an HTTP/2 client says first, with empty settings; a gRPC server answers with its settings.
_HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])


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
    """Connect to a running cluster; returns the module. Raises EngineError, within JOIN_S where
    nothing answers: Ray itself tries for many minutes."""
    import ray

    try:
        _check_answer(address, _resolve(address))
        with daemons.keep_sigterm():
            ray.init(address=address, **_QUIET)
    except EngineError:
        raise
    except Exception as error:
        raise EngineError(f"can't join the Ray cluster at {address!r}: {error}") from error
    return ray


def _resolve(address: str) -> str:
    """host:port of what `address` names."""
    from ray._private import services

    if "://" in address:
        return address.partition("://")[2].partition("/")[0]
    try:
        return str(services.canonicalize_bootstrap_address(address))
    except ConnectionError as error:
        raise EngineError(
            f"--address, or RAY_ADDRESS: {address}: no Ray cluster runs on this machine; expected "
            "one that `ray start` began, host:port of another, or none to start Ray here"
        ) from error


def _check_answer(address: str, resolved: str) -> None:
    host, _, port = resolved.rpartition(":")
    until_s = time.monotonic() + JOIN_S
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=JOIN_S) as server:
            server.settimeout(max(until_s - time.monotonic(), 0.1))
            server.sendall(_HTTP2_PREFACE)
            if server.recv(1) == b"\0" or os.environ.get("RAY_USE_TLS", "0") != "0":
                return
        reason = "what answers there is no Ray cluster"
    except TimeoutError:
        reason = f"no answer within {JOIN_S:.0f} s"
    except OSError as error:
        reason = error.strerror or str(error)
    name = address if address == resolved else f"{address} ({resolved})"
    raise EngineError(
        f"can't join the Ray cluster at {name}: {reason}; expected in --address, or "
        "RAY_ADDRESS, the head node's host:port (such as 10.0.0.1:6379), or none to start Ray here"
    )


def start_local(*, cpus: int | None, gpus: int | None) -> Any:
    """Start Ray on loopback; returns the module. `cpus`: None for those that we may use. Tries
    twice, since a busy machine may exceed Ray's fixed start-up limit of 30 s. Raises EngineError.
    """
    keep_to_ourselves()
    import ray

    for last in (False, True):
        try:
            with daemons.own_sessions(), daemons.keep_sigterm():
                ray.init(
                    address="local",
                    include_dashboard=False,
                    num_cpus=usable_cpus() if cpus is None else cpus,
                    num_gpus=gpus,
                    object_store_memory=100 * 2**20,
                    **_QUIET,
                )
            return ray
        except Exception as error:
            cause = daemons.why_ended() or error
            stop_local()
            if last:
                raise EngineError(f"can't start Ray on this machine: {cause}") from error
    raise AssertionError("unreachable")


def stop_local() -> None:
    """End the Ray that this process started, also where a part of it is gone."""
    import ray

    if daemons.why_ended():
        daemons.kill()
    with contextlib.suppress(Exception):
        ray.shutdown()
    daemons.kill()
