"""Fine-tuning: what it learns, that it goes on where it stopped, and that what it writes is what it learnt."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recworld.encoders import BertEncoder, EncoderSettings, encode_log
from recworld.encoders.adapters import attach, split
from recworld.encoders.pruning import Student, write_model
from recworld.encoders.text_ridge import fit_additive
from recworld.encoders.tuning import Tuned, Tuner
from recworld.encoders.tuning_contrast import consumed_together, contrast, reciprocal_rank
from recworld.encoders.tuning_data import Pairs, pair_batches, side_batches, tuning_data
from recworld.encoders.tuning_head import Head
from recworld.encoders.tuning_settings import TuningSettings
from recworld.encoders.weights import find_model
from recworld.errors import CorruptError, InputError
from recworld.logs.log import InteractionLog, RatingScale

COLOURS, STATES, KINDS = ("comedy", "drama"), ("war", "action"), [*"abcdefghijkl"]
QUICK: dict[str, Any] = {
    "method": "full", "epochs": 12, "patience": 12, "batch_texts": 8, "factors": 2, "learning_rate": 3e-3,
    "user_passes": 0, "validation_share": 0.25,
}  # fmt: skip


def made_log(clicks: bool = False) -> InteractionLog:
    """Ratings are high where the two words of an item go together: neither word alone tells anything."""
    items = [f"{colour} {state} {kind}" for kind in KINDS for colour in COLOURS for state in STATES]
    together = np.array([(n % 4) in (0, 3) for n in range(len(items))])
    users = [f"{age} year old" for age in range(20, 44)]
    rng = np.random.default_rng(0)
    user, item = np.divmod(np.arange(len(users) * len(items)), len(items))
    rows = rng.random(len(user)) < 0.5
    if clicks:
        rows &= together[item]
    user, item = user[rows].astype(np.int32), item[rows].astype(np.int32)
    rating = np.where(together[item], 5, 2).astype(np.float32)
    scale = RatingScale("discrete", (1, 2, 3, 4, 5), 1, 5)
    if clicks:
        rating, scale = np.ones(len(user), np.float32), RatingScale("click", (), 0, 1)
    return InteractionLog(
        name="made up", user=user, item=item, rating=rating, time=None,
        user_keys=np.array([f"u{n}" for n in range(len(users))]),
        item_keys=np.array([f"i{n}" for n in range(len(items))]),
        user_text=tuple(users), item_text=tuple(items), scale=scale,
    )  # fmt: skip


def tuner(tiny: Path, log: InteractionLog | None = None, **given: Any) -> Tuner:
    log = log or made_log()
    settings = TuningSettings.model_validate({**QUICK, **given})
    return Tuner(tuning_data(log, log.user_text, settings, 0), find_model(str(tiny)), settings, "cpu", 0)


def gain(tuned: Tuned) -> float:
    return tuned.history[tuned.best]["held/error"] / tuned.history[0]["held/error"]


@pytest.mark.parametrize(
    "given",
    [
        {"accumulate": 2, "learning_rate": 5e-3},
        {"method": "lora", "learning_rate": 1e-2},
        {"batches": "pairs", "batch_pairs": 32, "epochs": 5},
        {"towers": "separate", "user_passes": 1, "epochs": 8},
        {"loss": "ordinal"},
    ],
    ids=lambda given: "-".join(map(str, given.values())),
)
def test_new_items_are_predicted_better_than_by_the_frozen_model(
    tiny_bert: Path, given: dict[str, Any]
) -> None:
    found = tuner(tiny_bert, **given)
    held = set(found.data.held.item.tolist())
    assert not held & set(found.data.train.item.tolist())  # validation: items that training never meets
    assert gain(found.run()) < 0.85


@pytest.mark.parametrize(
    "given",
    [
        {"layers": 1},
        {"method": "adalora", "learning_rate": 0.05},
        {"method": "adapter", "learning_rate": 1e-2},
    ],
    ids=lambda given: "-".join(map(str, given.values())),
)
def test_what_is_trained_is_learnt(tiny_bert: Path, given: dict[str, Any]) -> None:
    losses = [figures["train/loss"] for figures in tuner(tiny_bert, **given).run().history[1:]]
    assert min(losses) < 0.9 * losses[0]


def test_clicks_are_learnt_against_what_was_not_clicked(tiny_bert: Path) -> None:
    log = made_log(clicks=True)
    data = tuning_data(log, log.user_text, TuningSettings(), 0)
    clicked = set(zip(log.user.tolist(), log.item.tolist(), strict=True))
    absent = data.train.take(data.train.value == 0)
    assert 0 < len(absent) <= len(data.train) // 2
    assert not clicked & set(zip(absent.user.tolist(), absent.item.tolist(), strict=True))
    found = tuner(tiny_bert, log, validation="rows", epochs=2)
    assert found.kind == "click"
    assert np.isfinite(found.run().history[-1]["held/error"])


def test_companions_come_near_each_other(tiny_bert: Path) -> None:
    log = made_log()
    # The first half of the users consume one kind of item, the others the other kind.
    kind = np.array([(n % 4) in (0, 3) for n in range(log.num_items)])
    log = log.select((log.user < log.num_users // 2) == kind[log.item])
    found = tuner(tiny_bert, log, objective="contrastive", validation="users", batch_texts=32, epochs=4)
    assert gain(found.run()) < 0.97
    assert found.head is None


@pytest.mark.parametrize("method", ["full", "lora", "adapter"])
def test_a_killed_run_goes_on_with_the_same_bits(tiny_bert: Path, tmp_path: Path, method: str) -> None:
    given = {"method": method, "epochs": 3, "dropout": 0.1, "user_passes": 1}
    whole = tuner(tiny_bert, **given).run()
    first = tuner(tiny_bert, **{**given, "epochs": 1})
    first.run(lambda epoch, figures: first.checkpoint(tmp_path))
    second = tuner(tiny_bert, **given)
    second.resume(tmp_path)
    resumed = second.run()
    assert resumed.history == whole.history
    for name, value in whole.towers["item"].transformer.state_dict().items():
        assert torch.equal(value, resumed.towers["item"].transformer.state_dict()[name])


def test_a_checkpoint_of_other_settings_is_refused(tiny_bert: Path, tmp_path: Path) -> None:
    first = tuner(tiny_bert, method="lora", epochs=1)
    first.run(lambda epoch, figures: first.checkpoint(tmp_path))
    with pytest.raises(CorruptError):
        tuner(tiny_bert, method="full").resume(tmp_path)


@pytest.mark.parametrize("method", ["full", "lora", "adalora", "adapter"])
def test_the_folder_gives_the_vectors_that_were_learnt(tiny_bert: Path, tmp_path: Path, method: str) -> None:
    given: dict[str, Any] = {"learning_rate": 0.1} if method == "adalora" else {}
    found = tuner(tiny_bert, method=method, epochs=1, patience=1, **given)
    texts = found.data.texts["item"]
    tuned = found.run()
    write_model(Student(find_model(str(tiny_bert)), tuned.towers["item"]), tmp_path)
    encoder = BertEncoder(EncoderSettings(model=str(tmp_path), device="cpu"))
    frozen = BertEncoder(EncoderSettings(model=str(tiny_bert), device="cpu")).encode(texts)
    learnt = encoder.encode(texts)
    if tuned.best == 1:
        np.testing.assert_allclose(learnt, found.tables["item"].numpy(), atol=2e-5)
        assert np.abs(learnt - frozen).max() > 1e-4
    else:
        np.testing.assert_allclose(learnt, frozen, atol=2e-5)


def test_lower_layers_are_computed_once_and_change_nothing(tiny_bert: Path) -> None:
    kept, fresh = tuner(tiny_bert, layers=1), tuner(tiny_bert, layers=1)
    fresh.towers["item"]._low.clear()
    assert kept.towers["item"]._low
    numbers = np.array([3, 0, 17])
    expected = fresh.towers["item"].vectors("item", numbers)
    np.testing.assert_allclose(
        kept.towers["item"].vectors("item", numbers).detach(), expected.detach(), atol=1e-5
    )
    learning = {name for name, _ in kept.towers["item"]._base().named_parameters() if _.requires_grad}
    assert learning
    assert all("layer.1." in name for name in learning)


def test_every_pair_stands_in_one_batch() -> None:
    rng = np.random.default_rng(1)
    pairs = Pairs(rng.integers(0, 7, 90), rng.integers(0, 30, 90), np.zeros(90, np.float32))
    for batches in (side_batches(pairs, "item", 4, rng), pair_batches(pairs, 13, rng)):
        rows = np.concatenate(list(batches))
        assert sorted(rows.tolist()) == list(range(90))
    for rows in side_batches(pairs, "item", 4, rng):
        inside = set(pairs.item[rows].tolist())
        assert len(inside) <= 4
        assert np.isin(pairs.item, list(inside)).sum() == len(rows)  # all pairs of these texts


def test_each_distinct_text_is_encoded_once_a_batch(tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = tuner(tiny_bert, batches="pairs", batch_pairs=64, epochs=1)
    seen: list[tuple[str, Any]] = []
    tower = found.towers["item"]
    plain = tower.vectors

    def counted(name: str, numbers: Any) -> Any:
        seen.append((name, numbers))
        return plain(name, numbers)

    monkeypatch.setattr(tower, "vectors", counted)
    found._loss("both", np.arange(64))
    assert [name for name, _ in seen] == ["user", "item"]
    for _, numbers in seen:
        assert len(set(numbers.tolist())) == len(numbers) < 64


def test_texts_are_numbered_once_and_rows_without_one_are_left_out() -> None:
    log = made_log()
    users = list(log.user_text)
    users[0], users[2] = "  ", users[1]
    data = tuning_data(log, users, TuningSettings(validation="rows"), 0)
    assert data.numbers["user"][0] == -1
    assert data.numbers["user"][1] == data.numbers["user"][2]
    assert len(data.train) + len(data.held) == int((log.user != 0).sum())


def test_a_log_without_texts_of_users_says_what_to_do() -> None:
    log = made_log()
    with pytest.raises(InputError, match="user-profile"):
        tuning_data(log, [""] * log.num_users, TuningSettings(), 0)
    contrastive = tuning_data(log, [""] * log.num_users, TuningSettings(objective="contrastive"), 0)
    assert len(consumed_together(contrastive, np.random.default_rng(0)))


def test_the_regression_is_the_minimum_of_its_objective() -> None:
    rng = np.random.default_rng(2)
    user, item = rng.standard_normal((6, 3)), rng.standard_normal((9, 4))
    pairs = Pairs(rng.integers(0, 6, 200), rng.integers(0, 9, 200), np.zeros(200, np.float32))
    target = rng.standard_normal(200)
    fit = fit_additive(user, item, pairs, target, (2.0, 5.0))
    design = np.hstack([user[pairs.user], item[pairs.item]])
    penalty = np.diag([2.0] * 3 + [5.0] * 4)
    exact = np.linalg.solve(design.T @ design + penalty, design.T @ (target - target.mean()))
    np.testing.assert_allclose(np.concatenate([fit.user, fit.item]), exact, atol=1e-4)


def test_ordinal_probabilities_are_those_of_the_thresholds() -> None:
    levels = (1.0, 2.0, 3.0)
    head = Head((torch.zeros(2), torch.zeros(2)), (1.0, 1.0), 0, levels, torch.Generator())
    head.start_thresholds(np.array([1, 1, 2, 3], np.float32), torch.zeros(4))
    shares = head.log_odds(torch.zeros(1)).exp().detach()[0]
    np.testing.assert_allclose(shares, [0.5, 0.25, 0.25], atol=1e-5)
    expected = head.predicted(torch.zeros(1), "ordinal", RatingScale("discrete", levels, 1, 3))
    assert float(expected.detach()) == pytest.approx(1.75, abs=1e-5)


def test_the_contrast_is_that_of_sentence_transformers() -> None:
    from sentence_transformers.losses import MultipleNegativesSymmetricRankingLoss

    loss = MultipleNegativesSymmetricRankingLoss(torch.nn.Identity(), scale=1 / 0.05)  # type: ignore[arg-type]
    if not hasattr(loss, "compute_loss_from_embeddings"):
        pytest.skip("this version of sentence-transformers has no loss of vectors alone")
    vectors = torch.nn.functional.normalize(torch.randn(8, 5, generator=torch.manual_seed(3)), dim=1)
    numbers = torch.arange(8).reshape(4, 2)
    theirs = loss.compute_loss_from_embeddings([vectors[numbers[:, 0]], vectors[numbers[:, 1]]], None)
    assert float(contrast(vectors, numbers, 0.05)) / 4 == pytest.approx(float(theirs), rel=1e-5)


def test_a_repeated_item_stands_against_nobody() -> None:
    vectors = torch.eye(4)
    alone = contrast(vectors, torch.tensor([[0, 1], [2, 3]]), 1.0)
    twice = contrast(vectors, torch.tensor([[0, 1], [0, 1]]), 1.0)
    assert float(twice) == pytest.approx(0.0, abs=1e-6)
    assert float(alone) == pytest.approx(2 * np.log(2), rel=1e-6)


def test_the_rank_of_a_perfect_table_is_one() -> None:
    held = Pairs(np.repeat(np.arange(20), 2), np.arange(40), np.zeros(40, np.float32))
    table = np.repeat(np.eye(20, dtype=np.float32), 2, axis=0)
    assert reciprocal_rank(table, held.user, held, 0) == 1.0
    assert reciprocal_rank(table, np.arange(0), held.take(np.arange(0)), 0) == 0.0


def test_adapters_start_as_nothing_and_are_taken_apart(tiny_bert: Path) -> None:
    from recworld.encoders.loading import load_model

    plain = load_model(find_model(str(tiny_bert)), "cpu").transformer
    adapted = load_model(find_model(str(tiny_bert)), "cpu").transformer
    attach(adapted, 4)
    ids = torch.tensor([[5, 6, 7]])
    torch.testing.assert_close(adapted.eval()(ids).last_hidden_state, plain.eval()(ids).last_hidden_state)
    weights, added = split(adapted.state_dict())
    assert set(weights) == set(plain.state_dict())
    assert len(added) == 4 * 2 * 2  # two layers with two adapters of two weights and two biases
    with pytest.raises(InputError, match="does not know the layers"):
        attach(torch.nn.Sequential(torch.nn.Linear(2, 2)), 4)


def test_more_layers_than_there_are_is_refused(tiny_bert: Path) -> None:
    with pytest.raises(InputError, match="at most 2"):
        tuner(tiny_bert, layers=3)


def test_users_and_items_may_be_read_by_two_models(
    tiny_bert: Path, write_bert: Callable[..., Path], tmp_path: Path
) -> None:
    other = write_bert(tmp_path / "other", seed=5)
    log = made_log()
    one = encode_log(log, EncoderSettings(model=str(tiny_bert), width=None))
    two = encode_log(log, EncoderSettings(model=str(tiny_bert), user_model=str(other), width=None))
    np.testing.assert_array_equal(one.item, two.item)
    assert np.abs(one.user - two.user).max() > 1e-3
    assert one.encoder_fingerprint != two.encoder_fingerprint
    np.testing.assert_allclose(two.encode_new([log.user_text[3]], "user")[0], two.user[3], atol=1e-6)
    np.testing.assert_allclose(two.encode_new([log.item_text[3]], "item")[0], two.item[3], atol=1e-6)
    narrow = write_bert(tmp_path / "narrow", width=16)
    with pytest.raises(InputError, match="same width"):
        encode_log(log, EncoderSettings(model=str(tiny_bert), user_model=str(narrow)))


def test_nothing_to_learn_from_is_refused(tiny_bert: Path) -> None:
    with pytest.raises(InputError, match="nothing to learn from"):
        tuner(tiny_bert, user_passes=0, item_passes=0)
