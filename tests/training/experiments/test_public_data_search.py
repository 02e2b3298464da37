"""The search of a recipe's settings: what it draws, what it gives up, and what it never sees."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from support.training.experiments.public_data import problem, small_recipe

from training.config.recipe import TableOptimizer
from training.distributed.divergence import DivergedError
from training.distributed.process_group import process_group
from training.experiments.public_data import search as settings_search
from training.experiments.public_data.search import search, settings_of


def test_a_search_never_looks_at_the_test_split():
    data = problem()
    blind = dataclasses.replace(data, test=None)
    recipe = small_recipe(cold_epochs=2, batch_size=256, table_decay=1e-3)
    with process_group():
        found = search(blind, recipe, trials=2)
    assert set(settings_of(found)) == set(settings_of(recipe))


def test_a_search_keeps_the_best_of_its_trials_and_looks_where_it_is(monkeypatch):
    """The validation AUC is a function of one setting here; what is trained is left out."""

    def run(data, recipe, **_):
        tried.append(recipe.training.dense_learning_rate)
        valid = SimpleNamespace(auc=-abs(np.log(tried[-1] / 1e-3)), log_loss=0.0)
        return SimpleNamespace(valid=valid)

    monkeypatch.setattr(settings_search, "run_seed", run)
    tried = []
    found = search(problem(), small_recipe(dense_learning_rate=5e-3), trials=40)
    *tried, last = tried[:41]
    assert (tried[0], last) == (5e-3, found.training.dense_learning_rate)
    assert found.training.dense_learning_rate == min(tried, key=lambda one: abs(np.log(one / 1e-3)))
    off = [abs(np.log(one / 1e-3)) for one in tried]
    assert np.mean(off[-10:]) < np.mean(off[:10]) / 2


def test_the_best_settings_run_with_other_seeds_and_their_mean_decides(monkeypatch, caplog):
    """Seed 0 is kind to low rates; the others tell that the highest of the best three is best."""

    def run(data, recipe, *, seed, **_):
        rate = recipe.training.dense_learning_rate
        runs.append((seed, rate))
        if seed == 2 and rate == sorted(one for tried, one in runs if not tried)[2]:
            raise DivergedError(7, "it does so here")
        return SimpleNamespace(
            valid=SimpleNamespace(auc=0.7 + (rate if seed else -rate), log_loss=0.0)
        )

    monkeypatch.setattr(settings_search, "run_seed", run)
    runs = []
    found = search(problem(), small_recipe(), trials=8)
    best = sorted(rate for seed, rate in runs if seed == 0)[:3]
    assert len(runs) == 8 + 3 * 2
    # The highest diverges with the third seed.
    assert sorted(rate for seed, rate in runs if seed == 1) == best
    assert found.training.dense_learning_rate == best[1]
    assert "it does so here" in caplog.text


def test_a_search_draws_the_schedule_within_the_compute_and_the_rest_of_the_base(monkeypatch):
    """A decaying schedule has at most the epochs that are paid for; else those of the recipe."""

    def run(data, recipe, **_):
        tried.append(settings_of(recipe))
        return SimpleNamespace(valid=SimpleNamespace(auc=0.5, log_loss=0.0))

    monkeypatch.setattr(settings_search, "run_seed", run)
    tried = []
    search(problem(), small_recipe(cold_epochs=2), trials=40)
    schedules = {(one["decay_share"], one["cold_epochs"]) for one in tried}
    assert schedules == {(0.0, 2), (0.2, 1), (0.2, 2)}
    assert {one["average_decay"] for one in tried} == {0.0, 0.99}
    assert {one["has_first_order"] for one in tried} == {False, True}
    assert len({one["embedding_std"] for one in tried}) == 40


def test_a_search_gives_up_what_is_below_the_median_and_trains_on_the_newest_rows(monkeypatch):
    """The more epochs, the better; every second setting is much worse from the first epoch on.

    Where Adam trains the tables no schedule is drawn, so that any may be given up.
    """

    def run(data, recipe, *, after_epoch, **_):
        rows.append(len(data.train))
        ended.append(0)
        for epoch in range(1, 4):
            ended[-1] = epoch
            auc = 0.6 + epoch / 100 - (0.1 if len(rows) % 2 else 0.0)
            after_epoch(epoch, auc)
        return SimpleNamespace(valid=SimpleNamespace(auc=auc, log_loss=0.0))

    monkeypatch.setattr(settings_search, "run_seed", run)
    rows, ended = [], []
    recipe = small_recipe(table_optimizer=TableOptimizer.ADAM)
    search(problem(), recipe, trials=12, num_rows=1_000)
    # The best three run twice more.
    assert rows == [1_000] * (12 + 6)
    # Three settings are drawn before there is a median, and one more is a median by itself.
    assert ended[5:12] == [3, 1, 3, 1, 3, 1, 3]
    data = dataclasses.replace(problem(), train=SimpleNamespace())
    with pytest.raises(ValueError, match=r"--search-rows 5: the rows of .* are streamed"):
        search(data, small_recipe(), trials=1, num_rows=5)


def test_a_schedule_that_decays_is_not_given_up_and_is_no_measure_for_others(monkeypatch):
    """After its one epoch it is far ahead; the others are as good in the end."""

    def run(data, recipe, *, seed, after_epoch, **_):
        decays = recipe.training.decay_share > 0
        for epoch in range(1, 4):
            after_epoch(epoch, 0.1 if decays and len(ended) % 2 else 0.6 + 0.3 * decays)
        ended.append(decays)
        return SimpleNamespace(valid=SimpleNamespace(auc=0.6, log_loss=0.0))

    monkeypatch.setattr(settings_search, "run_seed", run)
    ended = []
    search(problem(), small_recipe(), trials=24)
    assert len(ended) == 24 + 6
    assert 0 < sum(ended[:24]) < 24


def test_a_search_goes_on_behind_a_setting_that_diverges(caplog):
    recipe = small_recipe(cold_epochs=1, batch_size=256, dense_learning_rate=1e12)
    with process_group():
        found = search(problem(), recipe, trials=2)
    assert found.training.dense_learning_rate < 1
    assert "the training diverged" in caplog.text
