"""Every test of the logs has a cache of its own."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECWORLD_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.delenv("RECWORLD_QUIET", raising=False)
    monkeypatch.delenv("RECWORLD_OFFLINE", raising=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with all four tables: clicks that were rated, and one that was not taken up."""
    (tmp_path / "interactions.csv").write_text(
        "user_id,item_id,rating,timestamp\nann,10,5,100\nann,9,3.5,200\nbob,9,1,50\n", encoding="utf-8"
    )
    (tmp_path / "users.csv").write_text(
        "user_id,user_info\nbob,a man\nann,a woman\ncat,a cat\n", encoding="utf-8"
    )
    (tmp_path / "items.csv").write_text(
        "item_id,genre,year\n9,war,1999\n10,,2001\n2,love,\n", encoding="utf-8"
    )
    (tmp_path / "exposures.csv").write_text(
        "session_id,slate_id,position,user_id,item_id,clicked,rating,propensity,timestamp\n"
        "s2,1,0,ann,9,1,3.5,0.5,200\ns1,1,0,ann,10,1,5,0.25,100\ns1,1,1,ann,2,0,,0.125,100\n"
        "s3,1,0,bob,9,true,1,,50\n",
        encoding="utf-8",
    )
    return tmp_path
