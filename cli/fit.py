"""`recworld fit`: fit a world of simulated users to a log and keep it as a folder."""

from __future__ import annotations

import json
from pathlib import Path

from recworld.cli.main import show_help, wants_help
from recworld.cli.prepare import prepare
from recworld.cli.settings import FitSettings, resolve_fit
from recworld.cli.trust import trust_lines
from recworld.errors import InputError
from recworld.runs import check_writable
from recworld.storage import write_folder, write_json


def fit(words: list[str], prog: str) -> None:
    """Run the command.

    Raises:
        InputError: a wrong flag or setting, something wrong with the log, or the folder exists.
    """
    if wants_help(words):
        show_help(FitSettings, FitSettings(), prog, str(FitSettings.__doc__))
        return
    settings = resolve_fit(words)
    output = Path(settings.output or f"worlds/{Path(settings.dataset).stem}").expanduser()
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise InputError(f"--output {output} exists already: name another folder.")
    check_writable(output.parent)
    prepared = prepare(settings)

    def fill(folder: Path) -> None:
        prepared.world.save(folder)
        prepared.vectors.save(folder)
        write_json(folder / "report.json", prepared.world.report)

    write_folder(output, fill)
    world = prepared.world
    print(
        f"World {world.name}: {world.num_users:,} users, {world.num_items:,} items, {world.truth.num_members} members"
    )
    for line in trust_lines(world.report):
        print(f"  {line}")
    print(f"Kept in {output} (the whole report: {output / 'report.json'})")
    print(f"Use it: RecVectorEnv(1024, world={json.dumps(str(output))})")
