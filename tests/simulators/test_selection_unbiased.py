"""A few ratings of random pairs tell how far the chosen ones lie above them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtr

from recworld.errors import InputError
from recworld.logs.log import RatingScale
from recworld.simulators.factors import Factors
from recworld.simulators.observation import ObservationModel
from recworld.simulators.ordinal import OrdinalLink
from recworld.simulators.rating import RatingFit, RatingRows
from recworld.simulators.selection_unbiased import shifted, unbiased_shift

USERS, ITEMS = 50, 40
THRESHOLDS = np.array([-1.0, 0.0, 1.0])
SCALES = (
    RatingScale("discrete", (1.0, 2.0, 3.0, 4.0), 1.0, 4.0),
    RatingScale("continuous", (), -10.0, 10.0),
)


def world(scale: RatingScale, rows: int, seed: int = 0) -> tuple[RatingFit, RatingRows, np.ndarray]:
    """Return a fit that predicts 0.6 errors too much, rows of random pairs, and their true places."""
    random = np.random.default_rng(seed)
    gain = np.exp(0.3 * random.standard_normal(USERS))
    members = Factors(
        random.standard_normal(USERS), random.standard_normal(ITEMS),
        random.standard_normal((USERS, 2)), random.standard_normal((ITEMS, 2)),
    )  # fmt: skip
    link = OrdinalLink(THRESHOLDS, 0.2 * random.standard_normal(USERS), gain)
    fit = RatingFit((members,), ObservationModel(scale, link, 1 / gain), {})
    user, item = random.integers(0, USERS, rows), random.integers(0, ITEMS, rows)
    place = gain[user] * members.predict(user, item) - 0.6
    value = place + random.standard_normal(rows)
    if scale.kind == "discrete":
        place = place - link.user_shift[user]
        value = 1 + (value[:, None] - link.user_shift[user][:, None] > THRESHOLDS).sum(1)
    else:
        value = value / gain[user]
    return fit, RatingRows(user.astype(np.int32), item.astype(np.int32), value.astype(np.float32)), place


@pytest.mark.parametrize("scale", SCALES, ids=lambda scale: scale.kind)
def test_a_known_shift_is_found_and_taken_out(scale: RatingScale) -> None:
    fit, rows, place = world(scale, 4000)
    found = unbiased_shift(fit, rows)
    assert found.rows == 4000
    assert found.low < 0.6 < found.high
    assert found.high - found.low < 0.15
    lower = shifted(fit, 0.6)
    if scale.kind == "discrete":
        expected = 1 + ndtr(place[:, None] - THRESHOLDS).sum(1)
        np.testing.assert_allclose(lower.predict(rows.user, rows.item), expected, rtol=1e-6)
    else:
        unit = fit.observation.user_sigma[rows.user]
        np.testing.assert_allclose(lower.predictor(rows.user, rows.item, 0), place * unit, rtol=1e-6)
    again = unbiased_shift(lower, rows)
    assert abs(again.amount) < 0.05


@pytest.mark.parametrize("scale", SCALES, ids=lambda scale: scale.kind)
def test_few_rows_are_believed_little(scale: RatingScale) -> None:
    fit, rows, _ = world(scale, 3, seed=1)
    few = unbiased_shift(fit, rows)
    assert few.low < 0 < few.high  # three rows tell nothing
    with pytest.raises(InputError, match="ratings of random pairs"):
        unbiased_shift(fit, rows.take(np.zeros(3, bool)))
