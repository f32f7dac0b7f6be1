"""What is written comes back: known answers, and whatever hypothesis thinks of."""

from __future__ import annotations

import gzip
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recworld.errors import InputError
from recworld.logs import InteractionLog, LogSettings, load_log
from recworld.logs.scales import find_scale


def _write(path: Path, text: str, name: str = "log.csv") -> str:
    (path / name).write_text(text, encoding="utf-8")
    return str(path / name)


def _rows(log: InteractionLog) -> list[tuple[str, str, float]]:
    users, items = log.user_keys[log.user].tolist(), log.item_keys[log.item].tolist()
    return list(zip(users, items, log.rating.tolist(), strict=True))


def test_a_single_file_with_everything(tmp_path: Path) -> None:
    log = load_log(
        _write(
            tmp_path,
            "user_id,item_id,rating,timestamp,user_info,item_info\n"
            'u2,b,4,20,"tall, old",a  book\nu1,b,2,10,young,a book\nu1,a,5,30,young,\n',
        )
    )
    assert log.name == "log"
    assert _rows(log) == [("u2", "b", 4.0), ("u1", "b", 2.0), ("u1", "a", 5.0)]
    assert log.time is not None
    assert log.time.tolist() == [20.0, 10.0, 30.0]
    assert log.user_keys.tolist() == ["u1", "u2"]
    assert log.user_text == ("young", "tall, old")
    assert log.item_text == ("", "a book")


def test_a_folder_with_everything(folder: Path) -> None:
    log = load_log(str(folder))
    assert log.user_keys.tolist() == ["ann", "bob", "cat"]
    assert log.item_keys.tolist() == ["2", "9", "10"]
    assert log.user_text == ("a woman", "a man", "a cat")
    assert log.item_text == ("genre: love", "genre: war, year: 1999", "year: 2001")
    shown = log.exposures
    assert shown is not None
    # Sessions by user, then by time: s1 and s2 of ann, s3 of bob; "1" is a slate of its own in each session.
    assert shown.session.tolist() == [1, 0, 0, 2]
    assert shown.slate.tolist() == [0, 1, 1, 2]
    assert shown.item.tolist() == [1, 2, 0, 1]
    assert shown.clicked.tolist() == [True, True, False, True]
    np.testing.assert_array_equal(shown.rating, np.array([3.5, 5, np.nan, 1], np.float32))
    np.testing.assert_array_equal(shown.propensity, np.array([0.5, 0.25, 0.125, np.nan], np.float32))
    assert "1 user without interaction" in log.notes
    assert "item_info is made of the columns genre, year" in log.notes


def test_parquet_and_csv_give_the_same_log(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("parquet")
    for file in folder.glob("*.csv"):
        pd.read_csv(file).to_parquet(other / f"{file.stem}.parquet")
    assert load_log(str(other)).fingerprint == load_log(str(folder)).fingerprint


def test_other_delimiters_gzip_and_a_byte_order_mark(tmp_path: Path) -> None:
    text = "user_id,item_id,rating\n1,2,3\n2,2,4.5\n"
    plain = load_log(_write(tmp_path, text)).fingerprint
    assert load_log(_write(tmp_path, text.replace(",", ";"), "semi.csv")).fingerprint == plain
    assert load_log(_write(tmp_path, text.replace(",", "\t"), "tabs.tsv")).fingerprint == plain
    assert load_log(_write(tmp_path, "\ufeff" + text, "mark.csv")).fingerprint == plain
    assert load_log(_write(tmp_path, text.replace("\n", "\r\n"), "dos.csv")).fingerprint == plain
    (tmp_path / "z.csv.gz").write_bytes(gzip.compress(text.encode()))
    assert load_log(str(tmp_path / "z.csv.gz")).fingerprint == plain
    (tmp_path / "wide.csv").write_bytes(text.encode("utf-16"))
    assert load_log(str(tmp_path / "wide.csv")).fingerprint == plain


def test_latin_1_is_read_and_said(tmp_path: Path) -> None:
    file = tmp_path / "old.csv"
    file.write_bytes("user_id,item_id,rating,item_info\n1,2,3,Café\n1,3,4,Thé\n".encode("latin-1"))
    log = load_log(str(file))
    assert log.item_text == ("Café", "Thé")
    assert "old.csv: not UTF-8 (line 2), read as Latin-1 (ISO-8859-1)." in log.notes


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (["10", "9", "010"], ["9", "010", "10"]),
        (["b", "a", "10"], ["10", "a", "b"]),
        (["1.0", "10.0", "2.0"], ["1", "2", "10"]),
        (["1.0", "1.1", "1.2"], ["1.0", "1.1", "1.2"]),
        (["-1", "-2", "3"], ["-2", "-1", "3"]),
        (["123456789012345678901234567890", "9", "1"], ["1", "9", "123456789012345678901234567890"]),
        ([" a ", "b", "c"], ["a", "b", "c"]),
    ],
)
def test_identifiers(tmp_path: Path, ids: list[str], expected: list[str]) -> None:
    text = "user_id,item_id,rating\n" + "".join(f"{key},x,{n + 1}\n" for n, key in enumerate(ids))
    assert load_log(_write(tmp_path, text)).user_keys.tolist() == expected


def test_a_float_column_of_identifiers_meets_an_integer_one(tmp_path: Path) -> None:
    pd.DataFrame({"user_id": [1.0, 12.0], "item_id": [5, 6], "rating": [1, 2]}).to_parquet(
        tmp_path / "interactions.parquet"
    )
    _write(tmp_path, "user_id,user_info\n12,old\n1,new\n", "users.csv")
    log = load_log(str(tmp_path))
    assert log.user_keys.tolist() == ["1", "12"]
    assert log.user_text == ("new", "old")


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["1000", "2000.5"], [1000.0, 2000.5]),
        (["2020-01-01", "2020-01-02T01:00:00+01:00"], [1577836800.0, 1577923200.0]),
        (["2020-01-01 00:00:01", "2020-01-01 00:00:00.5"], [1577836801.0, 1577836800.5]),
        (["1600000000000", "1600000001500"], [1.6e9, 1.6e9 + 1.5]),
    ],
)
def test_times(tmp_path: Path, cells: list[str], expected: list[float]) -> None:
    text = f"user_id,item_id,rating,timestamp\n1,1,1,{cells[0]}\n1,2,2,{cells[1]}\n"
    time = load_log(_write(tmp_path, text)).time
    assert time is not None
    assert time.tolist() == expected


def test_parquet_timestamps(tmp_path: Path) -> None:
    frame = pd.DataFrame({"user_id": [1, 1], "item_id": [1, 2], "rating": [1, 2]})
    frame["timestamp"] = pd.to_datetime(["2020-01-01 00:00:00", "2020-01-01 00:00:02"])
    frame.to_parquet(tmp_path / "log.parquet")
    time = load_log(str(tmp_path / "log.parquet")).time
    assert time is not None
    assert time.tolist() == [1577836800.0, 1577836802.0]


def test_exact_repeats_go_and_the_last_rating_of_a_pair_stays(tmp_path: Path) -> None:
    text = "user_id,item_id,rating,timestamp\n1,a,5,30\n1,a,2,10\n1,b,3,10\n1,b,3,10\n1,b,4,10\n"
    log = load_log(_write(tmp_path, text))
    assert _rows(log) == [("1", "a", 5.0), ("1", "b", 4.0)]
    assert "dropped as exact repeats: 1 row" in log.notes
    assert "of a user-item pair rated again the last rating is kept: 2 earlier ratings dropped" in log.notes


def test_clicks_on_an_item_at_another_time_stay(tmp_path: Path) -> None:
    log = load_log(_write(tmp_path, "user_id,item_id,timestamp\n1,a,1\n1,a,2\n1,a,2\n"))
    assert log.scale.kind == "click"
    assert log.time is not None
    assert log.time.tolist() == [1.0, 2.0]


def test_rows_with_click_0_become_exposures(tmp_path: Path) -> None:
    log = load_log(_write(tmp_path, "user_id,item_id,click,rating\n1,a,1,4\n1,b,0,\n2,a,true,2\n"))
    assert _rows(log) == [("1", "a", 4.0), ("2", "a", 2.0)]
    shown = log.exposures
    assert shown is not None
    assert shown.clicked.tolist() == [True, False, True]
    assert log.item_keys[shown.item].tolist() == ["a", "b", "a"]


def test_the_most_frequent_text_is_kept(tmp_path: Path) -> None:
    text = "user_id,item_id,rating,user_info\n1,a,1,x\n1,b,2,y\n1,c,2,y\n2,a,1,p\n2,b,1,q\n3,a,1,\n3,b,1,r\n"
    log = load_log(_write(tmp_path, text))
    assert log.user_text == ("y", "p", "r")
    assert "2 users with more than one text: the most frequent is kept" in log.notes


def test_a_column_map_flat_and_by_table(tmp_path: Path) -> None:
    data = _write(tmp_path, "uid,movie,stars,age,job\n1,a,5,24,cook\n2,b,3,30.0,\n")
    flat = _write(
        tmp_path, "user_id: uid\nitem_id: movie\nrating: stars\nuser_info: [age, job]\n", "flat.yaml"
    )
    log = load_log(data, LogSettings(columns=flat))
    assert _rows(log) == [("1", "a", 5.0), ("2", "b", 3.0)]
    assert log.user_text == ("age: 24, job: cook", "age: 30")
    (tmp_path / "d").mkdir()
    _write(tmp_path / "d", "uid,movie,stars\n1,a,5\n2,b,3\n", "interactions.csv")
    _write(tmp_path / "d", "id,title\na,An A\nb,A b\n", "items.csv")
    by_table = _write(
        tmp_path,
        "interactions: {user_id: uid, item_id: movie, rating: stars}\n"
        "items: {item_id: id, item_info: title}\n",
        "by_table.yaml",
    )
    assert load_log(str(tmp_path / "d"), LogSettings(columns=by_table)).item_text == ("An A", "A b")


@pytest.mark.parametrize(
    ("values", "chosen", "kind", "levels"),
    [
        ([1, 2, 5], {}, "discrete", (1, 2, 5)),
        ([1, 2, 5], {"low": 1, "high": 5}, "discrete", (1, 2, 5)),
        ([2, 3], {"low": 1, "high": 5}, "discrete", (1, 2, 3, 4, 5)),
        ([0.5, 4.5], {"low": 0.5, "high": 5}, "discrete", tuple(np.arange(1, 11) / 2)),
        ([3, 3], {"low": 1, "high": 5}, "discrete", (1, 2, 3, 4, 5)),
        ([1, 1], {}, "click", ()),
        ([0.1, 0.7], {}, "continuous", ()),
        ([0.1, 0.7] * 20, {}, "discrete", (0.1, 0.7)),
        ([1, 2, 5], {"scale": "continuous", "high": 6}, "continuous", ()),
        ([1, 2, 5], {"scale": "click"}, "click", ()),
        (list(range(100)), {}, "continuous", ()),
    ],
)
def test_scales(values: list[float], chosen: dict[str, object], kind: str, levels: tuple[float, ...]) -> None:
    scale, note = find_scale(np.array(values, np.float64), LogSettings.model_validate(chosen), "x")
    assert scale.kind == kind
    assert scale.levels == tuple(float(np.float32(level)) for level in levels)
    assert note


_IDS = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=8)
_TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=20)


@settings(max_examples=60, deadline=None)
@given(
    data=st.lists(
        st.tuples(_IDS, _IDS, st.floats(-1e6, 1e6, width=32), st.integers(0, 2**40), _TEXT),
        min_size=2,
        max_size=12,
        unique_by=lambda row: (row[0], row[1]),
    ).filter(lambda rows: len({row[2] for row in rows}) > 1),
    parquet=st.booleans(),
)
def test_what_is_written_is_read(data: list[tuple[str, str, float, int, str]], parquet: bool) -> None:
    frame = pd.DataFrame(data, columns=["user_id", "item_id", "rating", "timestamp", "item_info"])
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / ("log.parquet" if parquet else "log.csv")
        if parquet:
            frame.to_parquet(file, index=False)
        else:
            frame.to_csv(file, index=False)
        log = load_log(str(file))
    plain = [[row[column] for row in data] for column in (0, 1)]
    if all(_plain(key) for key in plain[0]):
        plain[0] = [key.split(".")[0] for key in plain[0]]
    expected = [(row[0], row[1], row[2]) for row in data]
    if not any("." in key for key in plain[0] + plain[1]):
        assert _rows(log) == expected
    texts: dict[str, list[str]] = {}
    for _, item, _, _, text in data:
        texts.setdefault(item, []).append(" ".join(text.split()))
    for key, text in zip(log.item_keys.tolist(), log.item_text, strict=True):
        assert text in texts.get(key, [text])


def _plain(key: str) -> bool:
    return key.replace(".", "").isdecimal()


def _outcome(file: Path) -> str:
    """Return what loading says when it refuses a file, "" when it takes it; anything else is raised."""
    try:
        load_log(str(file))
    except InputError as error:
        return str(error)
    return ""


_ANY = st.binary(max_size=200) | st.text(alphabet='user_id,tmrng"\n1;.\t', max_size=80).map(str.encode)


@settings(max_examples=150, deadline=None)
@given(content=_ANY)
def test_any_bytes_give_a_log_or_one_clear_line(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as place:
        for name in ("a.csv", "a.parquet", "a.tsv"):
            file = Path(place) / name
            file.write_bytes(content)
            said = _outcome(file)
            assert said == "" or (name in said and "\n" not in said)


@settings(max_examples=150, deadline=None)
@given(body=st.text(alphabet='12,a"\n. -e\r', max_size=60))
def test_any_rows_give_a_log_or_one_clear_line(body: str) -> None:
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "a.csv"
        file.write_bytes(("user_id,item_id,rating\n1,2,3\n" + body).encode())
        said = _outcome(file)
        assert said == "" or ("a.csv" in said and "\n" not in said)
