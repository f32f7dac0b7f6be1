"""Paired policy evaluation, leaderboards, plots and training curves. Nothing heavy is imported before it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recworld.lazy import lazy_names

if TYPE_CHECKING:
    from recworld.evaluation.comparing import compare as compare
    from recworld.evaluation.comparing import evaluate_policies as evaluate_policies
    from recworld.evaluation.comparing import evaluate_policy as evaluate_policy
    from recworld.evaluation.comparing import split_members as split_members
    from recworld.evaluation.curves import PeriodicEvaluation as PeriodicEvaluation
    from recworld.evaluation.explaining import Explainer as Explainer
    from recworld.evaluation.explaining import Explanation as Explanation
    from recworld.evaluation.explaining import explain as explain
    from recworld.evaluation.fidelity import fidelity_report as fidelity_report
    from recworld.evaluation.fidelity_result import FidelityReport as FidelityReport
    from recworld.evaluation.intervals import Interval as Interval
    from recworld.evaluation.leaderboard import Leaderboard as Leaderboard
    from recworld.evaluation.metrics import METRICS as METRICS
    from recworld.evaluation.metrics import episode_metrics as episode_metrics
    from recworld.evaluation.outside import OutsideEnv as OutsideEnv
    from recworld.evaluation.ranking import PolicyValues as PolicyValues
    from recworld.evaluation.ranking import ranking_agreement as ranking_agreement
    from recworld.evaluation.results import EvaluationResult as EvaluationResult
    from recworld.evaluation.results import PolicyResult as PolicyResult
    from recworld.evaluation.robustness import robustness_report as robustness_report
    from recworld.evaluation.robustness_result import RobustnessReport as RobustnessReport
    from recworld.evaluation.writers import MetricsFile as MetricsFile
    from recworld.evaluation.writers import TensorBoardWriter as TensorBoardWriter

_HOME = {
    "EvaluationResult": "results",
    "Explainer": "explaining",
    "Explanation": "explaining",
    "FidelityReport": "fidelity_result",
    "Interval": "intervals",
    "Leaderboard": "leaderboard",
    "METRICS": "metrics",
    "MetricsFile": "writers",
    "OutsideEnv": "outside",
    "PeriodicEvaluation": "curves",
    "PolicyResult": "results",
    "PolicyValues": "ranking",
    "RobustnessReport": "robustness_result",
    "TensorBoardWriter": "writers",
    "compare": "comparing",
    "episode_metrics": "metrics",
    "evaluate_policies": "comparing",
    "evaluate_policy": "comparing",
    "explain": "explaining",
    "fidelity_report": "fidelity",
    "ranking_agreement": "ranking",
    "robustness_report": "robustness",
    "split_members": "comparing",
}
__all__ = sorted(_HOME)

__getattr__, __dir__ = lazy_names(__name__, _HOME)
