"""Shared by all tests: TensorFlow is set up as a worker does it, before a test's first use."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _device(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("tf"):
        from workers.device import configure

        configure(1, None)
