"""What lines come to: levels, refusal, words, and the page."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from recworld.errors import CorruptError, InputError
from recworld.evaluation import FidelityReport
from recworld.evaluation.fidelity_lines import Line, Tolerance, judge, judge_margin, shown
from recworld.evaluation.fidelity_sensitivity import Scores, judge_ranking
from recworld.evaluation.fidelity_told import calibration_lines, selection_lines, told
from recworld.evaluation.resampling import Measured
from recworld.simulators.dynamics import DynamicsSettings

TOLERANCE = Tolerance(0.05, 0.2)


@pytest.mark.parametrize(
    ("value", "floor", "high", "level", "words"),
    [
        (0.010, 0.010, 0.02, "good", "as close as two halves of the log"),
        (0.040, 0.001, 0.002, "good", "small, within 0.05 (40.0x what two halves of the log give)"),
        (0.150, 0.080, 0.10, "fair", "within 2x of the noise floor"),
        (0.150, 0.010, 0.02, "fair", "moderately off, within 0.2 (15.0x"),
        (0.300, 0.100, 0.15, "poor", "far off, beyond 0.2 (3.0x"),
        (0.300, 0.400, 0.60, "fair", "the log is too small to tell more"),
        (0.300, np.nan, np.nan, "poor", "far off, beyond 0.2"),
        (np.nan, 0.1, 0.2, "unknown", "not measurable"),
    ],
)
def test_levels_of_a_distance(value: float, floor: float, high: float, level: str, words: str) -> None:
    found = judge(Measured(value, value, value, floor, high), TOLERANCE)
    assert found[0] == level
    assert words in found[1]


def test_levels_of_a_lead() -> None:
    assert judge_margin(Measured(0.05, 0.02, 0.08), "means") == (
        "good",
        "better than means by 0.05 [0.02, 0.08]",
    )
    assert judge_margin(Measured(-0.05, -0.08, -0.02), "means") == (
        "poor",
        "worse than means by 0.05 [0.02, 0.08]",
    )
    assert judge_margin(Measured(0.01, -0.02, 0.04), "means")[0] == "fair"
    assert judge_margin(Measured(0.01, np.nan, np.nan), "means")[0] == "unknown"


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (np.nan, "-"), (0.0, "0"), (0.12345, "0.123"), (12.3456, "12.3"), (1e-7, "0"), (4567.8, "4,568")],
)  # fmt: skip
def test_numbers_read_well(value: float | None, text: str) -> None:
    assert shown(value) == text


def line(name: str, level: str, required: bool = True, figure: float | None = 0.1) -> Line:
    return Line(
        "marginals", name, name.title(), "What <it> is.", figure, "", 0.05, 0.2, 0.1, f"verdict of {name}", level, required,
        {"real & true": 1.0},
    )  # fmt: skip


def report(*lines: Line) -> FidelityReport:
    facts = {
        "kind": "full", "users": 5, "items": 6, "interactions": 7, "interactions_used": 7, "exposures": 0, "members": 1,
        "scale": "stars",
    }  # fmt: skip
    return FidelityReport("<small>", lines, facts, ("boredom = 4: assumed",))


def test_refusal_looks_at_required_lines_only() -> None:
    fine = report(line("a", "good"), line("b", "unknown", figure=None), line("c", "poor", required=False))
    assert fine.refusal("good") == []
    assert fine.summary.level == "good"
    fair = report(line("a", "good"), line("b", "fair"))
    assert fair.refusal("fair") == []
    assert fair.refusal("good") == ["B is fair (verdict of b)"]
    bad = report(line("a", "good"), line("b", "poor"))
    assert bad.refusal("fair") == ["B is poor (verdict of b)"]
    assert bad.summary.off == ("B: verdict of b",)
    assert report(line("a", "unknown")).refusal("fair") == ["no required figure could be measured"]
    with pytest.raises(InputError, match="fair or good"):
        fine.refusal("perfect")


def test_what_is_no_report_is_refused() -> None:
    values = report(line("a", "good")).to_json()
    with pytest.raises(CorruptError, match="format 99"):
        FidelityReport.from_json(values | {"format": 99})
    with pytest.raises(CorruptError, match="no fidelity report"):
        FidelityReport.from_json({"format": 1})
    with pytest.raises(CorruptError, match="Unknown level"):
        FidelityReport.from_json(values | {"lines": [values["lines"][0] | {"level": "great"}]})


class _Page(HTMLParser):
    """Checks that elements nest, and collects what the page refers to and says."""

    VOID = ("meta", "img", "br", "rect", "line", "circle", "link", "hr", "input")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.refers: list[str] = []
        self.tags: set[str] = set()
        self.said = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.refers += [
            str(value) for name, value in attrs if name in ("src", "href", "data", "action", "srcset")
        ]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.said += data


def test_the_page_is_whole_and_needs_nothing_else(tmp_path: Path) -> None:
    curves = {
        "marginals": {
            "histogram": {"labels": ["1", "2"], "real": [0.5, 0.5], "simulated": [0.4, 0.6]},
            "user_means": {"real": [1.0, 2.0], "simulated": [1.0, 2.0]},
        },
        "exposures": {
            "positions": {"position": [1, 2], "logged": [0.2, 0.1], "simulated": [0.3, 0.1]},
            "survival": {"logged": [1, 0.5], "simulated": [1, 0.4]},
        },
    }
    made = report(line("a", "good"), line("b", "poor"), line("c", "unknown", figure=None))
    made = FidelityReport(made.name, made.lines, made.facts, made.assumed, curves)
    made.write(tmp_path)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = _Page()
    page.feed(text)
    page.close()
    assert page.open == []
    assert page.refers
    assert all(where.startswith("data:image/png;base64,") for where in page.refers)
    assert not page.tags & {"script", "link", "iframe", "object"}
    assert not re.search(r"https?://|@import|url\(", text)
    for words in (
        "“<small>”",
        "A",
        "verdict of b",
        "What <it> is.",
        "real & true",
        "boredom = 4: assumed",
        "Overall: poor",
    ):
        assert words in page.said
    for name in ("marginals", "exposures"):
        assert (tmp_path / "plots" / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
    assert json.loads((tmp_path / "report.json").read_text())["summary"]["level"] == "poor"
    assert list((tmp_path / "tensorboard").glob("events*"))


def scores(**returns: float) -> Scores:
    rng = np.random.default_rng(0)
    luck = rng.normal(0, 0.3, 60)
    own = [level + luck + 0.05 * rng.normal(size=60) for level in returns.values()]
    return Scores(tuple(returns), np.stack(own))


def test_a_winner_that_changes_is_told_and_one_within_chance_is_not() -> None:
    base = scores(a=1.0, b=2.0, c=3.0)
    same, turned = scores(a=1.1, b=2.2, c=2.9), scores(a=1.0, b=3.0, c=2.0)
    level, words = judge_ranking((0.1, 0.9), base, [same, turned], [base.tau(same), base.tau(turned)], 1.0)
    assert level == "poor"
    assert words == "the winner changes: b instead of c at 0.9"
    near = scores(a=1.0, b=3.0, c=3.0)
    near = Scores(near.names, near.value + np.array([[0], [0.001], [0]]))
    level, words = judge_ranking((0.1, 0.9), base, [same, near], [1.0, base.tau(near)], 1.0)
    assert level != "poor"
    assert "within chance" in words
    assert judge_ranking((0.1, 0.9), base, [same, same], [1.0, 1.0], 1.0)[0] == "good"
    others = scores(a=2.0, b=1.0, c=3.0)
    assert judge_ranking((0.1, 0.9), base, [same, others], [1.0, base.tau(others)], 1.0)[0] == "fair"


def test_a_report_of_the_fit_without_calibration_or_with_nonsense_is_met() -> None:
    for report_of_fit in (
        {},
        {"calibration": None},
        {"calibration": {"estimates": "x"}},
        {"calibration": {"estimates": [3]}},
    ):
        assert [one.level for one in calibration_lines(report_of_fit, DynamicsSettings())] == ["unknown"]
        assert told(report_of_fit) == {}
    assert selection_lines({}) == []
    assert selection_lines({"selection": [{"name": "x"}, 4]})[0].figure is None


TOLD = {
    "name": "boredom",
    "value": 2.0,
    "low": 1.0,
    "high": 3.0,
    "identified": True,
    "words": "identified: so",
}


def test_what_the_log_tells_otherwise_is_said() -> None:
    fit = {"calibration": {"estimates": [TOLD]}}
    line = calibration_lines(fit, DynamicsSettings(boredom=4.0))[0]
    assert line.level == "fair"
    assert line.verdict.startswith(
        "the log tells otherwise than this world, which uses 4 (see --dynamics fitted)"
    )
    assert "The log tells otherwise of boredom than this world has it" in report(line).summary.near[0]
    used = calibration_lines(fit, DynamicsSettings(boredom=2.5))[0]
    assert (used.level, used.verdict) == ("good", "identified: so")
    cut = {"calibration": {"estimates": [TOLD | {"name": "frailty", "low": -2.0}]}}
    assert told(cut) == {"frailty": (0.0, 3.0)}, "cut to what a setting allows"


def test_an_effect_that_the_log_leaves_no_room_for_is_not_said_to_be_out_of_a_world_that_has_it() -> None:
    refuted = TOLD | {
        "value": 0.0, "low": None, "high": None, "identified": False, "refuted": True,
        "words": "not identified: left out, as [0, 1] leaves no room for the default 1.95; so",
    }  # fmt: skip
    fit = {"calibration": {"estimates": [refuted]}}
    line = calibration_lines(fit, DynamicsSettings(boredom=4.0))[0]
    assert line.level == "fair"
    assert line.verdict.startswith("the log leaves no room for what this world uses, 4; not identified")
    assert ": --dynamics fitted leaves it out, as [0, 1]" in line.verdict
    out = calibration_lines(fit, DynamicsSettings(boredom=0.0))[0]
    assert (out.level, out.verdict) == ("unknown", refuted["words"])
