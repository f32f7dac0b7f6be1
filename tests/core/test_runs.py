"""Run folders: laid whole, opened with clear errors, checkpoints that survive damage."""

from __future__ import annotations

from pathlib import Path

import pytest

from recworld.errors import CorruptError, InputError
from recworld.runs import RunFolder, versions
from recworld.storage import write_folder, write_json, write_text


def fill(folder: Path) -> None:
    write_text(folder / "world.txt", "round")


def number(value: int) -> object:
    return lambda folder: write_json(folder / "n.json", value)


def test_names_count_up_and_settings_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runs = [RunFolder.create({"algo": "ppo", "n": n}, fill, stem="ml-ppo") for n in range(3)]
    assert [str(run.path) for run in runs] == ["runs/ml-ppo-1", "runs/ml-ppo-2", "runs/ml-ppo-3"]
    again = RunFolder.open(runs[2].path)
    assert again.settings() == {"algo": "ppo", "n": 2}
    assert (again.path / "world.txt").read_text() == "round"
    assert again.name == "ml-ppo-3"


def test_a_failed_start_leaves_no_folder(tmp_path: Path) -> None:
    def broken(folder: Path) -> None:
        fill(folder)
        raise InputError("no")

    with pytest.raises(InputError, match="no"):
        RunFolder.create({}, broken, tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_an_own_folder_must_be_free(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    run = RunFolder.create({}, fill, tmp_path / "run")
    with pytest.raises(InputError, match="holds a run already: go on with --resume"):
        RunFolder.create({}, fill, run.path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("dear")
    with pytest.raises(InputError, match="other exists already: name another --run-dir"):
        RunFolder.create({}, fill, tmp_path / "other")


def test_what_is_not_a_run_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="The run folder nowhere does not exist"):
        RunFolder.open(Path("nowhere"))
    RunFolder.create({}, fill, stem="a")
    with pytest.raises(InputError, match=r"does not exist. Runs here: runs/a-1"):
        RunFolder.open(Path("nowhere"))
    with pytest.raises(InputError, match=r"runs is not a run folder: it has no settings.yaml"):
        RunFolder.open(Path("runs"))
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="The run folder file is not a folder"):
        RunFolder.open(Path("file"))
    write_json(tmp_path / "runs" / "a-1" / "versions.json", {"format": 99})
    with pytest.raises(CorruptError, match="another run format than 1"):
        RunFolder.open(Path("runs/a-1"))


def test_the_newest_whole_checkpoint_counts(tmp_path: Path) -> None:
    run = RunFolder.create({}, fill, tmp_path / "run")
    assert run.latest_checkpoint() is None
    with pytest.raises(InputError, match="holds no trained agent yet: go on with --resume"):
        run.trained()
    run.save_checkpoint(5, number(5), keep=2)
    run.save_checkpoint(1000, number(1000), keep=2)
    assert run.latest_checkpoint() == (1000, run.path / "checkpoints" / "000000001000")
    (run.path / "checkpoints" / "000000001000" / "n.json").write_text("6")
    assert run.latest_checkpoint() == (5, run.path / "checkpoints" / "000000000005")
    assert run.trained() == run.path / "checkpoints" / "000000000005"
    run.save_checkpoint(2000, number(2000))
    assert [p.name for p in (run.path / "checkpoints").iterdir()] == ["000000002000"]
    write_folder(run.agent, number(1))
    assert run.trained() == run.agent
    (run.agent / "n.json").write_text("2")
    with pytest.raises(CorruptError, match=r"n.json does not hold what was written"):
        run.trained()


def test_versions_are_told() -> None:
    assert versions()["numpy"].count(".") == 2
    assert set(versions()) >= {"python", "torch", "recworld"}
