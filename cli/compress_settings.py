"""What a smaller language model can be told to be, and what is measured of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from recworld.cli.settings import layered
from recworld.encoders.distilling import DistilSettings
from recworld.encoders.pruning import LayerChoice, Precision
from recworld.encoders.settings import EncoderSettings
from recworld.errors import InputError
from recworld.logs.settings import LogSettings
from recworld.settings import Settings
from recworld.simulators.rating_settings import RatingSettings


class CompressSettings(Settings):
    """Make the language model smaller for the texts of a log, and measure what that costs.

    Keeps some of its layers, teaches them the vectors of the whole model on the log's own texts, writes a folder for
    --encoder.model, and prints a table of size, speed, nearness to the original and held-out errors of ratings.
    """

    dataset: str = "ml-100k"
    """Log: ml-100k, coat (with data.path), wellspecified, foreign, a CSV or Parquet file, or a folder of such files."""
    output: str | None = None
    """Folder of the smaller model, which must not exist; none: models/<dataset>-<layers>."""
    layers: int = Field(2, ge=1)
    """Layers that stay."""
    layer_choice: LayerChoice = "first"
    """Which: first: the first ones; alternate: evenly spread (every second where half of them stay)."""
    distil_epochs: int = Field(5, ge=0)
    """Times that all texts are gone through at most to teach the smaller model; 0: layers are cut and nothing else."""
    weights: Precision = "float32"
    """Precision of the weights on disk; float16 takes half the room."""
    table: bool = True
    """Whether to measure and print the table."""
    rounds: int = Field(5, ge=1)
    """Rounds of the timing, in which all variants take turns."""
    texts: int = Field(256, ge=1)
    """Texts that are timed."""
    fits: int = Field(1, ge=0)
    """Cuts of the log, each with a seed of its own, on which held-out errors are measured; 0: no rating model."""
    held: Literal["validation", "test"] = "validation"
    """Whose errors: validation: rows to choose by; test: rows to report, which no choice may have seen."""
    widths: list[int] = Field([32])
    """Widths of the reduction to try beside encoder.width."""
    threads: int = Field(2, ge=1, le=1024)
    """Threads that encode and teach."""
    seed: int = Field(0, ge=0, lt=2**31)
    """The one seed of everything random."""
    config: str | None = Field(None, exclude=True)
    """YAML file of settings, nested as they are here; flags win over it."""
    data: LogSettings = LogSettings()
    encoder: EncoderSettings = EncoderSettings()
    distil: DistilSettings = DistilSettings()
    rating: RatingSettings = RatingSettings(threads=1)


def read_compress(tokens: Sequence[str]) -> CompressSettings:
    """Return the settings: code, then the package's YAML of the data set, then --config, then the flags.

    Raises:
        InputError: a file, a name or a value is wrong.
    """
    settings = layered(CompressSettings, tokens)
    if settings.encoder.kind != "bert":
        raise InputError(
            f"--encoder.kind must be bert to make a model smaller. Got {settings.encoder.kind!r}."
        )
    if any(width < 1 for width in settings.widths):
        raise InputError(f"--widths must be positive. Got {min(settings.widths)}.")
    return settings
