"""Candidates that an index retrieves against those of the scan of the catalogue."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from recworld.envs import RecVectorEnv
from recworld.errors import InputError
from recworld.simulators import bundled_world

WORLD = bundled_world(80, 3_000, width=12, factors=8)


def envs(n, **arguments):
    pytest.importorskip("faiss")
    arguments = {"world": WORLD, "candidates": "retrieved", "num_candidates": 50, "horizon": 6, **arguments}
    return tuple(RecVectorEnv(n, retrieval=retrieval, **arguments) for retrieval in ("exact", "index"))


def test_nearly_all_of_what_the_scan_retrieves_is_found_in_its_order():
    exact, index = envs(80)
    (a, _), (b, _) = exact.reset(seed=1), index.reset(seed=1)
    assert index.simulator.index.probes < index.simulator.index.cells
    shares = []
    for n in range(80):
        known, found = a["candidates"][n].tolist(), b["candidates"][n].tolist()
        scores = dict(zip(known, a["candidate_score"][n], strict=True))
        both = [item for item in found if item in scores]
        assert len(set(found)) == 50
        assert both == [item for item in known if item in found]
        ours = [score for item, score in zip(found, b["candidate_score"][n], strict=True) if item in scores]
        np.testing.assert_allclose(ours, [scores[item] for item in both], rtol=1e-5, atol=1e-6)
        shares.append(len(both) / 50)
    assert np.mean(shares) > 0.97


def test_with_all_cells_gone_through_it_is_the_scan():
    exact, index = envs(6)
    index.simulator.index.probes, before = index.simulator.index.cells, index.simulator.index.probes
    try:
        rng = np.random.default_rng(0)
        (a, _), (b, _) = exact.reset(seed=2), index.reset(seed=2)
        ends = 0
        for _ in range(20):
            for name in a:
                assert a[name].tobytes() == b[name].tobytes(), name
            action = np.argsort(rng.random((6, 50)), axis=1)[:, :5]
            a, reward, terminated, truncated, told = exact.step(action)
            b, other, *_, info = index.step(action)
            assert reward.tobytes() == other.tobytes()
            for one, two in (
                (told, info),
                (told.get("final_info", {}), info.get("final_info", {})),
                (told.get("final_obs", {}), info.get("final_obs", {})),
            ):
                assert list(one) == list(two)
                for name, value in one.items():
                    assert isinstance(value, dict) or value.tobytes() == two[name].tobytes(), name
            ends += int((terminated | truncated).sum())
        assert ends > 6
    finally:
        index.simulator.index.probes = before


def test_answers_do_not_depend_on_the_batch_or_on_threads():
    _, env = envs(70)
    env.reset(seed=0)
    index, taste = env.simulator.index, env.simulator.float_rows[:, env.simulator._taste]
    whole = index.search(taste, 64)
    assert np.array_equal(whole, index.search(taste, 64, threads=2))
    assert np.array_equal(whole, np.concatenate([index.search(one[None], 64) for one in taste]))
    assert (np.sort(whole, axis=1)[:, 1:] > np.sort(whole, axis=1)[:, :-1]).all()


def test_the_same_world_has_one_index_and_another_process_would_build_the_same():
    from recworld.simulators import index as module

    (_, one), (_, two) = envs(2), envs(3)
    assert one.simulator.index is two.simulator.index
    module._kept.clear()
    _, again = envs(2)
    assert again.simulator.index is not one.simulator.index
    taste = np.ascontiguousarray(again.simulator.float_rows[:, again.simulator._taste]) + 1
    assert np.array_equal(again.simulator.index.search(taste, 99), one.simulator.index.search(taste, 99))


def test_users_who_know_most_of_the_catalogue_get_what_is_left():
    world = bundled_world(20, 60, width=8, factors=4)
    exact, index = envs(20, world=world, num_candidates=55, slate_size=10, dynamics="static", horizon=30)
    (a, _), (b, _) = exact.reset(seed=3), index.reset(seed=3)
    for _ in range(25):
        assert a["candidates"].tobytes() == b["candidates"].tobytes()
        action = np.tile(np.arange(10), (20, 1))
        a, b = exact.step(action)[0], index.step(action)[0]
    assert (a["action_mask"].sum(1) < 45).any()


def test_what_it_cannot_do_is_said(monkeypatch):
    with pytest.raises(InputError, match="is for candidates 'retrieved'"):
        RecVectorEnv(2, world=WORLD, retrieval="index")
    with pytest.raises(InputError, match="is for reward 'click'"):
        RecVectorEnv(2, world=WORLD, candidates="retrieved", retrieval="index", reward="rating")
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(InputError, match=r'pip install "recworld\[index\]"'):
        RecVectorEnv(2, world=WORLD, candidates="retrieved", retrieval="index")
