"""What must hold of every log, whatever it was read or drawn from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recworld.logs import InteractionLog, LogSettings, SyntheticSettings, load_log, movielens

SMALL = LogSettings(synthetic=SyntheticSettings(num_users=30, num_items=40, consumptions=6, factors=4))


def check_log_contract(log: InteractionLog) -> None:
    """Check the promises of `InteractionLog`."""
    n, users, items = len(log), log.num_users, log.num_items
    assert n >= 1
    for name, dtype in (("user", np.int32), ("item", np.int32), ("rating", np.float32)):
        array = getattr(log, name)
        assert array.dtype == dtype
        assert array.shape == (n,)
    assert log.user.min() >= 0
    assert log.user.max() < users
    assert log.item.min() >= 0
    assert log.item.max() < items
    if log.time is not None:
        assert log.time.dtype == np.float64
        assert log.time.shape == (n,)
        assert np.isfinite(log.time).all()
    for keys, texts in ((log.user_keys, log.user_text), (log.item_keys, log.item_text)):
        assert len(set(keys.tolist())) == len(keys) == len(texts)
        assert all(isinstance(text, str) and text == text.strip() for text in texts)
    _check_scale(log)
    assert [log.user_number(str(key)) for key in log.user_keys[:3]] == list(range(min(3, users)))
    assert log.notes
    assert all("\n" not in note for note in log.notes)
    assert len(log.fingerprint) == 32
    if log.exposures is not None:
        _check_exposures(log)


def _check_scale(log: InteractionLog) -> None:
    assert np.isfinite(log.rating).all()
    scale = log.scale
    if scale.kind == "click":
        assert (log.rating == 1).all()
        return
    assert scale.low < scale.high
    assert (np.abs(scale.normalise(log.rating)) <= 1).all()
    if scale.kind == "discrete":
        assert list(scale.levels) == sorted(set(scale.levels))
        assert set(log.rating.tolist()) <= set(scale.levels)
        assert (scale.levels[0], scale.levels[-1]) == (scale.low, scale.high)
    pairs = log.user.astype(np.int64) * log.num_items + log.item
    assert len(np.unique(pairs)) == len(pairs)


def _check_exposures(log: InteractionLog) -> None:
    shown = log.exposures
    assert shown is not None
    n = len(shown)
    assert all(len(getattr(shown, name)) == n for name in shown.__annotations__)
    assert shown.clicked.dtype == np.bool_
    assert (shown.position >= 0).all()
    assert shown.session.min() == 0
    assert set(np.unique(shown.session)) == set(range(shown.session.max() + 1))
    owner = pd.DataFrame({"session": shown.session, "slate": shown.slate, "user": shown.user})
    assert (owner.groupby("session").user.nunique() == 1).all()
    assert (owner.groupby("slate").session.nunique() == 1).all()
    assert not owner.assign(position=shown.position).duplicated(["slate", "position"]).any()
    known = shown.propensity[~np.isnan(shown.propensity)]
    assert ((known > 0) & (known <= 1)).all()
    assert np.isnan(shown.rating[~shown.clicked]).all()
    taken = set(zip(log.user.tolist(), log.item.tolist(), strict=True))
    assert taken >= set(
        zip(shown.user[shown.clicked].tolist(), shown.item[shown.clicked].tolist(), strict=True)
    )


def _single(path: Path, kind: str) -> str:
    rng = np.random.default_rng(0)
    n = 60
    frame = pd.DataFrame(
        {"user_id": rng.integers(0, 9, n), "item_id": [f"i{i}" for i in rng.integers(0, 7, n)]}
    )
    if "click" not in kind:
        frame["rating"] = rng.normal(size=n) if "continuous" in kind else rng.integers(1, 6, n)
    else:
        frame["click"] = rng.integers(0, 2, n)
    if "untimed" not in kind:
        frame["timestamp"] = rng.integers(0, 1000, n)
    frame["user_info"] = "person " + frame.user_id.astype(str)
    frame["item_info"] = "thing " + frame.item_id
    file = path / ("log.parquet" if "parquet" in kind else "log.tsv" if "tsv" in kind else "log.csv.gz")
    if "parquet" in kind:
        frame.to_parquet(file)
    else:
        frame.to_csv(file, index=False, sep="\t" if "tsv" in kind else ",")
    return str(file)


SINGLE = ("parquet", "csv", "tsv untimed", "csv click", "parquet click untimed", "csv continuous")


@pytest.fixture(params=[*SINGLE, "folder", "foreign", "wellspecified", "ml-100k", "coat"])
def loader(request: pytest.FixtureRequest, tmp_path: Path, folder: Path) -> Callable[[int], InteractionLog]:
    """A way to load a log, by seed."""
    kind = request.param
    if kind == "wellspecified":
        pytest.importorskip("recworld.simulators.truths")
    if kind == "ml-100k":
        files = tmp_path / "made"
        files.mkdir()
        write_made_movielens(files)
        return lambda seed: movielens.parse(files)
    if kind == "coat":
        made = LogSettings(path=str(request.getfixturevalue("made_coat")))
        return lambda seed: load_log("coat", made, seed)
    dataset = _single(tmp_path, kind) if kind in SINGLE else str(folder) if kind == "folder" else kind
    return lambda seed: load_log(dataset, SMALL, seed)


def write_made_movielens(folder: Path) -> None:
    """Write three small files in the form of GroupLens."""
    (folder / "u.data").write_text("2\t1\t5\t10\n1\t1\t3\t20\n1\t2\t1\t5\n", encoding="latin-1")
    (folder / "u.user").write_text("1|24|M|other|1\n2|53|F|none|2\n", encoding="latin-1")
    flags = "|".join(["0"] * 18 + ["1"])
    (folder / "u.item").write_text(f"1|A (1990)|||x|{flags}\n2|B (1991)|||x|{flags}\n", encoding="latin-1")


def test_every_loader_keeps_the_contract(loader: Callable[[int], InteractionLog]) -> None:
    check_log_contract(loader(0))


def test_every_loader_gives_the_same_log_again(loader: Callable[[int], InteractionLog]) -> None:
    assert loader(3).fingerprint == loader(3).fingerprint


def test_what_was_found_is_said_aloud(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = load_log(str(folder))
    said = capsys.readouterr().err
    assert "3 interactions of 3 users with 3 items" in said
    assert all(note in said for note in log.notes)
    assert "discrete ratings, 3 levels from 1 to 5 (detected)" in said
