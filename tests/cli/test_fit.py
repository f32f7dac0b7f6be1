"""`fit`: a world and its report as one folder, and a world that is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from recworld.evaluation import FidelityReport, fidelity_sensitivity
from recworld.simulators.world import World


@pytest.fixture
def words(bench: Any, tmp_path: Path) -> list[str]:
    """The words of a quick fit, up to the output folder."""
    config = tmp_path / "fit.yaml"
    config.write_text(bench.fast.read_text().split("\nenv:")[0] + "\n")
    return ["--dataset", str(bench.log), "--config", str(config), "--output"]


@pytest.fixture(autouse=True)
def _few_players(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fidelity_sensitivity, "QUICK_USERS", 16)
    monkeypatch.setattr(fidelity_sensitivity, "QUICK_NAMES", ("boredom",))


def test_a_fitted_world_and_its_report_are_one_folder(words: list[str], command: Any, tmp_path: Path) -> None:
    output = tmp_path / "world"
    done = command("fit", *words, str(output), "--report", "quick")
    assert done.code == 0, done.err
    assert "80 users, 60 items, 2 members" in done.out
    assert World.load(output).num_users == 80
    report = FidelityReport.from_json(json.loads((output / "report.json").read_text()))
    assert f"Fidelity of small: {report.summary.level}." in done.out
    for line in report.lines:
        assert line.title.lower() in done.out.lower()
    assert report["rmse_random"].figure is not None
    assert "the log has no exposures" in report["click_rate"].verdict
    assert "data:image/png;base64," in (output / "report.html").read_text()
    assert (output / "plots" / "marginals.png").is_file()
    assert list((output / "tensorboard").iterdir())
    assert report.fit == World.load(output).report
    again = command("fit", *words, str(output))
    assert (again.code, again.err) == (2, f"error: --output {output} exists already: name another folder.\n")


def test_a_world_without_a_report(words: list[str], command: Any, tmp_path: Path) -> None:
    done = command("fit", *words, str(tmp_path / "world"), "--report", "none")
    assert done.code == 0, done.err
    assert "simulated users, held out: ratings: RMSE" in done.out
    assert not (tmp_path / "world" / "report.html").exists()
    assert "rmse" in (tmp_path / "world" / "report.json").read_text()


def test_a_world_that_is_not_good_enough_is_refused_and_its_report_kept(
    words: list[str], command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reasons = ["Click rate is poor (far off)", "Means of users is poor (far off)"]
    monkeypatch.setattr(FidelityReport, "refusal", lambda self, least: reasons if least == "good" else [])
    output, kept = tmp_path / "world", tmp_path / "world-refused"
    done = command("fit", *words, str(output), "--report", "quick", "--min-fidelity", "good")
    assert done.code == 2
    assert done.err == (
        "error: The world is refused by --min-fidelity good: Click rate is poor (far off); Means of users is poor (far off)."
        f" The report is kept in {kept}, the world is not.\n"
    )
    assert not output.exists()
    assert (kept / "report.html").is_file()
    assert not (kept / "world.json").exists()
    passed = command("fit", *words, str(output), "--report", "quick", "--min-fidelity", "fair")
    assert passed.code == 0, passed.err
    assert World.load(output).num_users == 80


def test_the_least_fidelity_needs_a_report_and_a_known_level(
    words: list[str], command: Any, tmp_path: Path
) -> None:
    done = command("fit", *words, str(tmp_path / "w"), "--report", "none", "--min-fidelity", "fair")
    assert (done.code, done.err) == (
        2,
        "error: --min-fidelity needs a report: --report full or --report quick.\n",
    )
    done = command("fit", *words, str(tmp_path / "w"), "--min-fidelity", "great")
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert "--min-fidelity" in done.err
    assert "'fair' or 'good'" in done.err


def test_a_report_that_fails_loses_no_world(
    words: list[str], command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import recworld.evaluation.fidelity as module

    def broken(*arguments: Any, **named: Any) -> None:
        raise ValueError("of no use")

    monkeypatch.setattr(module, "fidelity_report", broken)
    done = command("fit", *words, str(tmp_path / "world"))
    assert done.code == 0, done.err
    assert World.load(tmp_path / "world").num_users == 80
