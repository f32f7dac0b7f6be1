"""Every test of the logs has a cache of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
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


@pytest.fixture
def made_coat(tmp_path: Path) -> Path:
    """A folder with small files in the form of the publishers of Coat: six users, five items."""
    rng, users, items, folder = np.random.default_rng(0), 6, 5, tmp_path / "coat data"
    features = folder / "user_item_features"
    features.mkdir(parents=True)
    for name, share in (("train", 0.4), ("test", 0.3)):
        ratings = rng.integers(1, 6, (users, items)) * (rng.random((users, items)) < share)
        ratings[0, 0] = 4
        np.savetxt(folder / f"{name}.ascii", ratings, "%d")
    np.savetxt(folder / "propensities.ascii", rng.uniform(0.01, 0.7, (users, items)))
    groups = {
        "user": ("gender:men", "gender:women", "age:20-30", "age:over 60", "fashioninterest:not at all"),
        "item": ("gender:men", "gender:women", "jackettype:pea", "onfrontpage:yes", "onfrontpage:no"),
    }
    for what, count in (("user", users), ("item", items)):
        first, second = rng.integers(0, 2, count), rng.integers(0, 2, count)
        always, turned = np.ones(count), (second, 1 - second)
        rest = (*turned, always) if what == "user" else (always, *turned)
        flags = np.column_stack([first, 1 - first, *rest])
        np.savetxt(features / f"{what}_features.ascii", flags, "%d")
        (features / f"{what}_features_map.txt").write_text("\n".join(groups[what]), encoding="utf-8")
    return folder
