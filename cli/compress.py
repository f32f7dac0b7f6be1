"""`recworld compress`: a smaller language model for a log's texts, and a table of what that costs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from recworld.cli.compress_measure import EARLY, Variant, measure, plan
from recworld.cli.compress_settings import CompressSettings, read_compress
from recworld.cli.compress_table import as_json, markdown, terminal
from recworld.cli.main import show_help, use_threads, wants_help
from recworld.cli.prepare import stage
from recworld.encoders.bert import BertEncoder
from recworld.encoders.cache import CachedEncoder
from recworld.encoders.distilling import distil
from recworld.encoders.profiles import user_texts
from recworld.encoders.pruning import Student, prune, write_model
from recworld.encoders.weights import find_model
from recworld.errors import InputError
from recworld.logs.loading import load_log
from recworld.logs.log import InteractionLog
from recworld.progress import say
from recworld.runs import check_writable
from recworld.storage import cache_root, write_folder, write_json, write_text

MADE = "compression"
"""Folder of the table in the model's folder; its files change no vector, so they are no part of what names the model."""


def compress(words: list[str], prog: str) -> None:
    """Run the command.

    Raises:
        InputError: a wrong flag or setting, a model that cannot be made smaller, or the folder exists.
    """
    if wants_help(words):
        show_help(CompressSettings, CompressSettings(), prog, str(CompressSettings.__doc__))
        return
    settings = read_compress(words)
    output = Path(settings.output or f"models/{Path(settings.dataset).stem}-{settings.layers}").expanduser()
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise InputError(f"--output {output} exists already: name another folder.")
    check_writable(output.parent)
    student = _pruned(settings)  # before the log is fetched: a wrong model or number of layers shows at once
    use_threads(settings.threads)
    log = load_log(settings.dataset, settings.data, settings.seed)
    with tempfile.TemporaryDirectory() as place:
        cut = Path(place) / "cut"
        cut.mkdir()
        write_model(student, cut, settings.weights)
        if settings.distil_epochs:
            with stage(f"Teaching {settings.layers} layers the vectors of the whole model"):
                student = teach(student, settings, log)
        write_folder(output, _filler(student, settings))
        print(f"Kept in {output}. Use it: --encoder.model {output}")
        if settings.table:
            folders = {"pruned": str(cut), "distilled": str(output)}
            if not settings.distil_epochs:
                folders = {"pruned": str(output)}
            _tell(settings, log, plan(settings, folders), output)


def _pruned(settings: CompressSettings) -> Student:
    return prune(
        find_model(settings.encoder.model), settings.layers, settings.layer_choice, settings.encoder.device
    )


def teach(student: Student, settings: CompressSettings, log: InteractionLog) -> Student:
    """Return the student after learning from the whole model; it says how near it came."""
    whole = settings.encoder.model_copy(update={"long_texts": "cut"})  # what the student reads of a text
    learnt = distil(
        student,
        CachedEncoder(BertEncoder(whole), cache_root() / "vectors").encode,
        user_texts(log, settings.encoder, EARLY),
        log.item_text,
        settings.distil_epochs,
        settings.distil,
        settings.seed,
        settings.encoder.width,
    )
    say(
        f"  {learnt.texts[0]} texts learnt from; {learnt.texts[1]} held out: loss "
        + ", ".join(f"{loss:.3f}" for loss in learnt.losses)
        + f"; cosine {learnt.cosine:.4f}"
    )
    return learnt.student


def _filler(student: Student, settings: CompressSettings) -> Callable[[Path], None]:
    names = ("layers", "layer_choice", "distil_epochs", "weights", "seed", "distil")
    made = {
        "settings": settings.model_dump(mode="json", include=set(names)),
        "source": student.source.fingerprint,
    }

    def fill(folder: Path) -> None:
        write_model(student, folder, settings.weights)
        (folder / MADE).mkdir()
        write_json(folder / MADE / "made.json", made)

    return fill


def _tell(settings: CompressSettings, log: InteractionLog, variants: list[Variant], output: Path) -> None:
    """Measure, print the table, and keep it with the model as Markdown and JSON."""
    rows = measure(settings, log, variants)
    print(terminal(rows, settings))
    write_text(output / MADE / "table.md", markdown(rows, settings))
    write_json(output / MADE / "table.json", as_json(rows, settings))
    print(f"The table is kept in {output / MADE} (table.md, table.json).")
