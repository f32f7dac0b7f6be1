"""What cannot be learnt is refused in one line, before anything is trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from recworld.encoders.adapters import attach
from recworld.encoders.loading import load_model
from recworld.encoders.tuning_settings import TuningSettings, learnt_kind
from recworld.encoders.weights import find_model
from recworld.errors import InputError
from recworld.logs.log import RatingScale


@pytest.mark.parametrize(
    ("loss", "scale"),
    [
        ("ordinal", RatingScale("continuous", (), 0, 1)),
        ("ordinal", RatingScale("click")),
        ("click", RatingScale("discrete", (1, 2), 1, 2)),
    ],
)
def test_a_loss_that_does_not_go_with_the_ratings_is_refused(loss: str, scale: RatingScale) -> None:
    with pytest.raises(InputError, match=f"--tuning.loss {loss} needs"):
        learnt_kind(scale, TuningSettings(loss=loss))


def test_adapters_on_adapters_are_refused_by_name(tiny_bert: Path) -> None:
    model = load_model(find_model(str(tiny_bert)), "cpu").transformer
    attach(model, 2)
    with pytest.raises(InputError, match="has adapters already"):
        attach(model, 2)
