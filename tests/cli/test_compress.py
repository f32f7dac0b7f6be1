"""`compress`: a folder that `--encoder.model` takes, one table, and wrong words refused in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recworld.cli import compress_measure
from recworld.cli.compress_measure import CUTS, Row, cut
from recworld.cli.compress_settings import CompressSettings
from recworld.cli.compress_table import as_json, faster, loss, markdown, terminal
from recworld.encoders import onnx_graph
from recworld.encoders.weights import find_model
from recworld.logs.loading import load_log

QUICK = """
rating: {rank: 2, width: 4, burn_in: 4, samples_per_member: 2, thinning: 1, max_iterations: 12, folds: 2, threads: 1}
encoder: {width: 8, device: cpu}
distil: {batch_size: 16, variants: 1}
layers: 1
distil_epochs: 1
rounds: 2
texts: 32
widths: [4]
threads: 1
"""


@pytest.fixture
def words(bench: Any, model: Path, tmp_path: Path) -> list[str]:
    """The words of a quick run, up to the output folder."""
    config = tmp_path / "compress.yaml"
    config.write_text(QUICK)
    return [
        "--dataset", str(bench.log), "--config", str(config), "--encoder.model", str(model), "--output",
    ]  # fmt: skip


def test_a_smaller_model_and_its_table(
    words: list[str], command: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_graph, "PACKAGES", ("onnx_that_nobody_has",))
    monkeypatch.setenv("RECWORLD_QUIET", "0")
    output = tmp_path / "small"
    done = command("compress", *words, str(output))
    assert done.code == 0, done.err
    assert f"--encoder.model {output}" in done.out
    assert done.err.count("No rows of ONNX Runtime: ") == 1
    assert 'pip install "recworld[onnx]"' in done.err
    small = find_model(str(output))
    assert json.loads((small.path / "config.json").read_text())["num_hidden_layers"] == 1
    table = json.loads((output / "compression" / "table.json").read_text())
    rows = {row["name"]: row for row in table["rows"]}
    label = "1 layers (first)"
    assert list(rows) == [
        "original", "original, half", "original, torch int8", f"pruned, {label}", f"distilled, {label}",
        f"distilled, {label}, torch int8", "original, width 4", "original, whitened",
    ]  # fmt: skip
    assert rows["original"]["faster"] == 1
    assert rows["original"]["cosine"] == pytest.approx([1, 1], abs=1e-5)
    assert rows[f"distilled, {label}"]["cosine"][0] > rows[f"pruned, {label}"]["cosine"][0]
    sizes = [rows[name]["megabytes"] for name in ("original, half", "original, torch int8", "original")]
    assert sizes[0] < sizes[2] > sizes[1]
    assert rows["original, width 4"]["rates"] == []
    assert all(len(row["errors"][part]) == 1 for row in rows.values() for part in CUTS)
    text = (output / "compression" / "table.md").read_text()
    assert text.count("\n| ") == len(rows) + 1
    for name in rows:
        assert name in done.out
        assert f"| {name} |" in text
    # The table changes nothing of what the model is.
    assert find_model(str(output)).fingerprint == small.fingerprint
    again = command("compress", *words, str(output))
    assert (again.code, again.err) == (2, f"error: --output {output} exists already: name another folder.\n")


def test_layers_alone_without_a_table(words: list[str], command: Callable[..., Any], tmp_path: Path) -> None:
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        done = command("compress", *words, str(folder), "--distil-epochs", "0", "--no-table")
        assert done.code == 0, done.err
        assert "cosine" not in done.out
    assert not (folders[0] / "compression" / "table.md").exists()
    assert find_model(str(folders[0])).fingerprint == find_model(str(folders[1])).fingerprint
    assert not list(folders[0].glob("*_Dense"))


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        (["--layers", "3"], "--layers must be 1 to 2, the layers of this model. Got 3."),
        (["--layer-choice", "last"], "setting --layer-choice got 'last'"),
        (["--encoder.kind", "tfidf"], "--encoder.kind must be bert to make a model smaller. Got 'tfidf'."),
        (["--held", "train"], "setting --held got 'train'"),
        (["--lairs", "3"], "Unknown flag --lairs. Did you mean --layers?"),
        (["--widths", "0"], "--widths must be positive. Got 0."),
    ],
)
def test_wrong_words_are_one_line(
    words: list[str], command: Callable[..., Any], tmp_path: Path, wrong: list[str], line: str
) -> None:
    done = command("compress", *words, str(tmp_path / "small"), *wrong)
    assert done.code == 2
    assert line in done.err
    assert done.err.strip().count("\n") == 0
    assert not (tmp_path / "small").exists()


def test_the_script_refuses_in_one_line(words: list[str], start: Callable[..., Any], tmp_path: Path) -> None:
    started = start("compress_encoder.py", *words, str(tmp_path / "small"), "--layers", "7")
    _, err = started.communicate(timeout=120)
    assert started.returncode == 2
    assert err == "error: --layers must be 1 to 2, the layers of this model. Got 7.\n"


@pytest.mark.parametrize("part", CUTS)
def test_validation_rows_are_no_test_rows(bench: Any, part: str) -> None:
    log = load_log(str(bench.log))
    (rest, test), (fit, held) = (cut(log, part, which, 0) for which in ("test", "validation"))  # type: ignore[arg-type]
    assert sorted([*rest, *test]) == list(range(len(log)))
    assert sorted([*fit, *held]) == sorted(rest)
    assert len(held) > 0
    if part == "unmet":
        assert not set(log.item[held]) & set(log.item[fit])
        assert not set(log.item[test]) & set(log.item[rest])
    else:
        assert set(log.user[held]) <= set(log.user[fit])


def test_ratios_are_paired() -> None:
    slow = Row("original", 90.0, (10.0, 20.0, 5.0), (1.0, 1.0), {"known": (1.0, 2.0), "unmet": (1.0, 1.0)})
    fast = Row("small", 30.0, (40.0, 80.0, 10.0), (0.9, 0.8), {"known": (1.01, 2.02), "unmet": (1.0, 1.1)})
    assert faster(fast, slow) == 4.0
    assert loss(fast, slow, "known").mean == pytest.approx(1.0)
    assert loss(fast, slow, "known").half == pytest.approx(0.0, abs=1e-9)
    settings = CompressSettings(fits=2)
    assert "4.00x  0.9000 (0.800)  1.5150  +1.00 ±0.00" in terminal([slow, fast], settings)
    assert "| small | 30.0 | 40 | 4.00x | 0.9000 (0.800) | 1.5150 | +1.00 ±0.00 |" in markdown(
        [slow, fast], settings
    )
    assert as_json([slow, fast], settings)["rows"][1]["loss_percent"]["known"] == pytest.approx(1.0)


def test_another_width_has_no_cosine() -> None:
    import numpy as np

    one = np.eye(3, dtype=np.float32)
    assert compress_measure.nearness(one[:, :2], one) is None
    assert compress_measure.nearness(one, one) == (1.0, 1.0)
