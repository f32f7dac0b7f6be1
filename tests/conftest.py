"""Shared by all tests: a cache folder of their own, no progress bars, hypothesis without deadlines."""

from __future__ import annotations

import os
import tempfile

import hypothesis
import pytest

hypothesis.settings.register_profile(
    "repeatable", deadline=None, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("repeatable")

os.environ["RECWORLD_QUIET"] = "1"
os.environ.setdefault("MPLBACKEND", "Agg")


@pytest.fixture(scope="session", autouse=True)
def _own_cache() -> object:
    """Keep the user's cache out of the tests: nothing in it may help them, and they leave nothing in it."""
    with tempfile.TemporaryDirectory(prefix="recworld-tests-") as folder:
        before = os.environ.get("RECWORLD_CACHE")
        os.environ["RECWORLD_CACHE"] = folder
        yield
        if before is None:
            del os.environ["RECWORLD_CACHE"]
        else:
            os.environ["RECWORLD_CACHE"] = before
