"""Settings of the calibration of user dynamics."""

from __future__ import annotations

from pydantic import Field

from recworld.settings import Settings


class CalibrationSettings(Settings):
    """What a log is asked about how its users change, and how long the answer may take."""

    enabled: bool = True
    """Whether a fitted world comes with a calibration at all."""
    rank: int = Field(8, ge=1, le=64)
    """Factors of the attraction within the joint chain."""
    burn_in: int = Field(150, ge=1)
    """Iterations of the joint chain before the first draw is kept."""
    samples: int = Field(450, ge=50, le=100_000)
    """Iterations whose draws are kept; an interval is read off them."""
    most_samples: int = Field(1350, ge=50, le=100_000)
    """Where those draws depend too much on each other, the chain goes on up to so many."""
    checks: bool = True
    """Whether placebo and held-out runs are made; without them nothing is called identified."""
    held_out_share: float = Field(0.3, gt=0, lt=0.9)
    """Share of the sessions that the held-out check keeps from its fit."""
    tied_share: float = Field(0.2, gt=0, lt=1)
    """Share of consecutive gaps of a user of at most a second from which the order of a log tells nothing."""
    near_tied_share: float = Field(0.8, gt=0, lt=1)
    """The same for gaps of at most a minute, where what was shown is not logged."""
    horizon: int | None = Field(None, ge=2)
    """Slates at which the logging system cut a session; none: read off a pile of sessions of the greatest length."""
    most_rows: int = Field(400_000, ge=1_000)
    """Shown rows that the joint chain reads at most; whole users are left out, drawn at random."""
