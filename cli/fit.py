"""`recworld fit`: fit a world of simulated users to a log, report how far it can be trusted, and keep both as a folder."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from recworld.cli.main import show_help, wants_help
from recworld.cli.prepare import Prepared, prepare, stage
from recworld.cli.settings import FitSettings, resolve_fit
from recworld.cli.trust import trust_lines
from recworld.errors import InputError
from recworld.progress import say
from recworld.runs import check_writable
from recworld.storage import write_folder, write_json

if TYPE_CHECKING:
    from recworld.evaluation.fidelity_result import FidelityReport


def fit(words: list[str], prog: str) -> None:
    """Run the command.

    Raises:
        InputError: a wrong flag or setting, something wrong with the log, the folder exists, or the world is refused.
    """
    if wants_help(words):
        show_help(FitSettings, FitSettings(), prog, str(FitSettings.__doc__))
        return
    settings = resolve_fit(words)
    if settings.min_fidelity is not None and settings.report == "none":
        raise InputError("--min-fidelity needs a report: --report full or --report quick.")
    output = Path(settings.output or f"worlds/{Path(settings.dataset).stem}").expanduser()
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise InputError(f"--output {output} exists already: name another folder.")
    check_writable(output.parent)
    prepared = prepare(settings)
    report = _measure(settings, prepared)
    if settings.min_fidelity is not None:
        _refuse(settings.min_fidelity, report, output)

    def fill(folder: Path) -> None:
        prepared.world.save(folder, user_text=settings.data.user_text == "keep")
        prepared.vectors.save(folder)
        if report is None:
            write_json(folder / "report.json", {"fit": prepared.world.report})
        else:
            report.write(folder)

    write_folder(output, fill)
    _tell(prepared, report, output)


def _measure(settings: FitSettings, prepared: Prepared) -> FidelityReport | None:
    """Return the report; None where none is wanted, or where it failed: the world is kept all the same."""
    if settings.report == "none":
        return None
    from recworld.evaluation.fidelity import fidelity_report

    with stage(f"Fidelity report: {settings.report}"):
        try:
            return fidelity_report(
                prepared.world,
                prepared.log,
                settings=settings.world,
                kind=settings.report,
                seed=settings.seed,
            )
        except Exception as error:
            if settings.min_fidelity is not None or os.environ.get("RECWORLD_DEBUG", "") not in ("", "0"):
                raise
            say(f"  The report failed ({type(error).__name__}: {error}); the world is kept without it.")
            return None


def _refuse(least: str, report: FidelityReport | None, output: Path) -> None:
    """Keep the report of a world that is not good enough, and say why it is refused.

    Raises:
        InputError: the world is refused.
    """
    reasons = ["there is no report"] if report is None else report.refusal(least)
    if not reasons:
        return
    kept = output.with_name(output.name + "-refused")
    if report is not None:
        write_folder(kept, report.write)
    raise InputError(
        f"The world is refused by --min-fidelity {least}: {'; '.join(reasons)}. "
        f"The report is kept in {kept}, the world is not."
    )


def _tell(prepared: Prepared, report: FidelityReport | None, output: Path) -> None:
    world = prepared.world
    print(
        f"World {world.name}: {world.num_users:,} users, {world.num_items:,} items, {world.truth.num_members} members"
    )
    if report is None:
        for line in trust_lines(world.report):
            print(f"  {line}")
    else:
        print("\n".join(report.text()))
        print()
    kept = "report.json" if report is None else "report.html"
    print(f"Kept in {output} (the whole report: {output / kept})")
    print(f"Use it: RecVectorEnv(1024, world={json.dumps(str(output))})")
