"""The distribution over slates is exact: sums to one, frequencies match, masks hold."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from recworld.agents.plackett_luce import PlackettLuce


def of(logits: list[float], mask: list[int], size: int) -> PlackettLuce:
    return PlackettLuce(torch.tensor([logits], dtype=torch.float64), torch.tensor([mask]) == 1, size)


def by_definition(logits: list[float], mask: list[int], slate: tuple[int, ...]) -> float:
    left, out = [i for i, open_ in enumerate(mask) if open_], 0.0
    for position in slate:
        if not mask[position]:
            continue
        out += logits[position] - float(np.logaddexp.reduce([logits[i] for i in left]))
        left.remove(position)
    return out


def slates_of(mask: list[int], size: int) -> list[tuple[int, ...]]:
    """All ordered slates; where too few are open, the rest are masked positions in one fixed order."""
    opened = [i for i, open_ in enumerate(mask) if open_]
    closed = [i for i, open_ in enumerate(mask) if not open_]
    fill = max(size - len(opened), 0)
    return [(*slate, *closed[:fill]) for slate in itertools.permutations(opened, min(size, len(opened)))]


rows = st.integers(2, 5).flatmap(
    lambda c: st.tuples(
        st.lists(st.floats(-12, 12), min_size=c, max_size=c),
        st.lists(st.integers(0, 1), min_size=c, max_size=c),
        st.integers(1, min(c, 3)),
    )
)


@given(rows)
def test_probabilities_of_all_slates_sum_to_one_and_follow_the_definition(
    row: tuple[list[float], list[int], int],
) -> None:
    logits, mask, size = row
    slates = slates_of(mask, size)
    many = PlackettLuce(
        torch.tensor([logits] * len(slates), dtype=torch.float64),
        torch.tensor([mask] * len(slates)) == 1,
        size,
    )
    log_probs = many.log_prob(torch.tensor(slates))
    expected = [by_definition(logits, mask, slate) for slate in slates]
    np.testing.assert_allclose(log_probs.numpy(), expected, atol=1e-9)
    np.testing.assert_allclose(log_probs.exp().sum(), 1.0, atol=1e-9)


@given(rows, st.integers(0, 2**31))
def test_draws_and_modes_are_distinct_and_masked_places_come_last(
    row: tuple[list[float], list[int], int], seed: int
) -> None:
    logits, mask, size = row
    distribution = of(logits, mask, size)
    for slate in (distribution.mode()[0], distribution.sample(torch.Generator().manual_seed(seed))[0]):
        assert len(set(slate.tolist())) == size
        open_places = [mask[i] for i in slate.tolist()]
        assert open_places == sorted(open_places, reverse=True)
        assert sum(open_places) == min(sum(mask), size)


def test_frequencies_match_the_probabilities() -> None:
    logits, mask, size, n = [1.0, 0.0, -1.0, 5.0, 0.5], [1, 1, 1, 0, 1], 2, 60_000
    many = PlackettLuce(torch.tensor([logits] * n), torch.tensor([mask] * n) == 1, size)
    drawn = many.sample(torch.Generator().manual_seed(0)).numpy()
    for slate in slates_of(mask, size):
        chance = np.exp(by_definition(logits, mask, slate))
        share = float((drawn == slate).all(1).mean())
        assert abs(share - chance) < 4 * np.sqrt(chance / n), (slate, share, chance)


def test_the_mode_is_the_most_probable_slate() -> None:
    logits, mask = [0.3, -1.0, 2.0, 0.9], [1, 1, 0, 1]
    best = max(slates_of(mask, 2), key=lambda slate: by_definition(logits, mask, slate))
    assert tuple(of(logits, mask, 2).mode()[0].tolist()) == best


def test_gradients_stay_finite_when_everything_is_chosen_or_masked() -> None:
    logits = torch.tensor([[0.1, 30.0, -30.0], [0.0, 0.0, 0.0]], requires_grad=True)
    distribution = PlackettLuce(logits, torch.tensor([[1, 1, 1], [0, 0, 1]]) == 1, 3)
    slates = distribution.sample(torch.Generator().manual_seed(0))
    (distribution.log_prob(slates).sum() + distribution.entropy().sum()).backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert distribution.log_prob(slates)[1] == 0


def test_entropy_is_that_of_the_first_choice() -> None:
    even = of([0.7, 0.7, 0.7, 9.0], [1, 1, 1, 0], 2).entropy()
    np.testing.assert_allclose(even.item(), np.log(3), atol=1e-9)


class Grudge:
    """An interaction given by a table: item j held before takes table[j, i] off the logit of i; the largest counts."""

    def __init__(self, table: torch.Tensor, rows: int) -> None:
        self.table, self.rows = table, rows

    def beside(self, positions: torch.Tensor) -> torch.Tensor:
        return self.table[positions][..., None]

    def shift(self, before: torch.Tensor) -> torch.Tensor:
        return -before[..., 0].amax(1)


def with_grudge(logits: list[float], table: np.ndarray, size: int, rows: int = 1) -> PlackettLuce:
    mask = torch.ones(rows, len(logits), dtype=torch.bool)
    tensor = torch.tensor([logits] * rows, dtype=torch.float64)
    return PlackettLuce(tensor, mask, size, Grudge(torch.as_tensor(table), rows))


@given(st.lists(st.floats(-3, 3), min_size=4, max_size=4), st.integers(0, 2**16))
def test_places_that_see_the_places_before_still_make_a_distribution(logits: list[float], seed: int) -> None:
    table = np.random.default_rng(seed).uniform(0, 3, (4, 4))
    slates = list(itertools.permutations(range(4), 3))
    found = with_grudge(logits, table, 3, len(slates)).log_prob(torch.tensor(slates))
    expected = []
    for slate in slates:
        total, left = 0.0, [0, 1, 2, 3]
        for place, position in enumerate(slate):
            now = {i: logits[i] - (max(table[j][i] for j in slate[:place]) if place else 0.0) for i in left}
            total += now[position] - float(np.logaddexp.reduce(list(now.values())))
            left.remove(position)
        expected.append(total)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-9)
    np.testing.assert_allclose(found.exp().sum(), 1.0, atol=1e-9)


def test_draws_of_dependent_places_follow_their_probabilities() -> None:
    table = np.array([[0, 2.0, 0, 1], [2, 0, 0.5, 0], [0, 1, 0, 3], [1, 0, 0, 0]])
    drawn = with_grudge([1.0, 0.5, 0.2, 0.0], table, 2, 40_000).sample(torch.Generator().manual_seed(0))
    for slate in itertools.permutations(range(4), 2):
        share = float((drawn == torch.tensor(slate)).all(1).double().mean())
        expected = float(with_grudge([1.0, 0.5, 0.2, 0.0], table, 2).log_prob(torch.tensor([slate])).exp())
        assert abs(share - expected) < 4 * np.sqrt(expected / 40_000) + 1e-4


def test_the_best_slate_avoids_what_goes_badly_together() -> None:
    table = np.zeros((4, 4))
    table[0, 1] = 5.0  # the two best candidates are near twins
    assert with_grudge([3.0, 2.9, 1.0, 0.0], table, 2).mode().tolist() == [[0, 2]]
    assert of([3.0, 2.9, 1.0, 0.0], [1, 1, 1, 1], 2).mode().tolist() == [[0, 1]]
