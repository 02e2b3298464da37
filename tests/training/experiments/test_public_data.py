"""The benchmark's protocol: what it optimises, what it keeps, what it prints."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from support.training.experiments.public_data import INPUTS, problem, small_recipe, split

from training.__main__ import main
from training.config.model import MODELS
from training.config.recipe import Pipeline
from training.data.batch import make_batch
from training.distributed.process_group import process_group
from training.experiments.public_data import protocol
from training.experiments.public_data.frappe_stand_in import (
    CONTEXTS,
    NEGATIVES,
    NUM_APPS,
    NUM_USERS,
    NUM_USES,
    frappe_stand_in,
)
from training.experiments.public_data.protocol import run_seed
from training.experiments.public_data.run import recipe_for, within_compute
from training.model.flops import cost_of
from training.recipes import recipe_of
from training.trainer.session import Session, WeightAverage


def test_the_decay_takes_a_share_of_every_embedding_seen_or_not():
    with process_group():
        session = Session(INPUTS, small_recipe(table_decay=0.01), None)
        before = session.snapshot()
        rows = split()
        # Weights of zero: no loss moves anything.
        batch = make_batch(rows.inputs, rows.label, np.zeros(6, np.float32))
        for _ in range(3):
            session.step(batch, learning_rate_share=0.5)
        after = session.snapshot()
    tables = [key for key in before if "embeddings" in key]
    assert len(tables) == 2
    for key in tables:
        torch.testing.assert_close(after[key], before[key] * (1 - 0.01 * 0.5) ** 3)


def test_training_ends_when_validation_stops_rising_and_the_best_weights_are_kept():
    data = problem(noise=1.0)
    recipe = small_recipe(cold_epochs=60, batch_size=64, dense_learning_rate=0.02)
    with process_group():
        long = run_seed(data, recipe, seed=1)
        same = run_seed(
            data,
            dataclasses.replace(
                recipe, training=dataclasses.replace(recipe.training, cold_epochs=long.epochs - 2)
            ),
            seed=1,
        )
    assert long.epochs < 60
    # The last two epochs were worse, so leaving them out changes nothing.
    assert same.valid.auc == long.valid.auc
    assert same.test == long.test


def test_a_snapshot_restores_the_predictions():
    data = problem()
    with process_group():
        session = Session(data.inputs, small_recipe(), None)
        before, kept = session.predict(data.test.inputs), session.snapshot()
        rows = data.valid
        batch = make_batch(rows.inputs, rows.label, np.full(len(rows), 1 / len(rows), np.float32))
        session.step(batch, learning_rate_share=1.0)
        assert not np.allclose(session.predict(data.test.inputs), before)
        session.restore(kept)
        np.testing.assert_array_equal(session.predict(data.test.inputs), before)


def test_the_newest_rows_are_the_last_ones():
    newest = split().newest(2)
    assert newest.inputs.ids["item"].values.tolist() == [7, 3]
    assert newest.label.tolist() == [1, 0]
    assert len(split().newest(100)) == 6
    with pytest.raises(ValueError, match="rows: 0; at least 1"):
        split().newest(0)


def test_the_stand_in_has_the_shape_of_frappe_and_knows_its_best_loss():
    data = frappe_stand_in()
    sizes = {"user": NUM_USERS, "item": NUM_APPS, **CONTEXTS}
    assert sum(sizes.values()) == 5_382
    assert NUM_USES * (1 + NEGATIVES) == 288_609
    assert len(data.train) + len(data.valid) + len(data.test) == 288_609
    assert [sparse.num_rows - 1 for sparse in data.inputs.sparse] == list(sizes.values())
    assert data.test.label.mean() == pytest.approx(1 / 3, abs=0.01)
    assert 0.02 < data.best_log_loss < 0.2


def test_a_recipe_of_another_model_is_refused():
    with pytest.raises(ValueError, match="--recipe dlrm-small: of dlrm; --model is wukong"):
        recipe_for("frappe", "wukong", "dlrm-small")


def test_all_rankers_have_frappes_protocol():
    """So that what is compared is the ranker."""
    wukong, *others = [recipe_for("frappe", model, None) for model in MODELS]
    assert wukong.name == "wukong-frappe"
    for other in others:
        assert other.training == wukong.training
        model = dataclasses.replace(other.model, interaction=wukong.model.interaction)
        assert dataclasses.replace(model, dropout=wukong.model.dropout) == wukong.model


def test_a_cheaper_ranker_has_as_many_epochs_as_the_compute_pays_for():
    wukong, dlrm, xdeepfm = (recipe_of(f"{name}-small") for name in ("wukong", "dlrm", "xdeepfm"))
    flops = {one.name: cost_of(INPUTS, one.model).training_flops for one in (wukong, dlrm, xdeepfm)}
    assert within_compute(INPUTS, wukong, wukong) == wukong
    many = within_compute(INPUTS, dlrm, wukong).training.cold_epochs
    assert many * flops[dlrm.name] <= 5 * flops[wukong.name] < (many + 1) * flops[dlrm.name]
    assert many > 5
    one_epoch = dlrm.with_training(cold_epochs=1)
    assert within_compute(INPUTS, wukong, one_epoch).training.cold_epochs == 1


def test_the_command_prints_a_table_and_one_line_of_figures(tmp_path, capsys):
    random = np.random.default_rng(0)
    header = "label,user,item,daytime,weekday,isweekend,homework,cost,weather,country,city"
    for name, rows in (("train", 400), ("valid", 100), ("test", 100)):
        lines = [
            ",".join(map(str, [random.integers(2), *random.integers(9, size=10)]))
            for _ in range(rows)
        ]
        (tmp_path / f"{name}.csv").write_text("\n".join([header, *lines]) + "\n")
    arguments = ["benchmark", "--dataset=frappe", f"--data={tmp_path}", "--model=wukong"]
    kept = tmp_path / "kept" / "losses.npz"
    assert main([*arguments, "--recipe=wukong-tiny", "--seeds=2", f"--losses={kept}"]) == 0
    *table, line = capsys.readouterr().out.strip().splitlines()
    figures = json.loads(line)
    assert len(table) == 3
    assert table[2].startswith("| frappe | wukong |")
    for key in ("auc", "log_loss", "gauc", "ne", "seconds", "samples_per_second"):
        assert figures[key] > 0
        assert figures["spreads"][key] >= 0
    assert (figures["seeds"], figures["rows"]["train"]) == (2, 400)
    assert figures["params"] > 0
    assert figures["mflop_per_example"] > 0
    with np.load(kept) as rows:
        assert rows["losses"].shape == (2, 100)
        assert rows["losses"].mean() == pytest.approx(figures["log_loss"], rel=1e-5)
        assert rows["group"].shape == (100,)


def test_the_command_names_the_folder_that_lacks_the_files(tmp_path, capsys):
    assert main(["benchmark", "--dataset=frappe", f"--data={tmp_path}"]) == 1
    assert "no train.csv, valid.csv, test.csv" in json.loads(capsys.readouterr().out)["error"]


def test_the_moving_average_is_in_place_only_while_it_is_asked_for():
    weight = torch.zeros(3)
    average = WeightAverage([weight], decay=0.5)
    values = [float(2**step % 7) for step in range(20)]
    for value in values:
        weight.fill_(value)
        average.update()
    # The decay rises, 1/11, 2/12, 3/13, up to the half that was asked for.
    expected = 0.0
    for step, value in enumerate(values, start=1):
        kept = min(0.5, step / (10 + step))
        expected = kept * expected + (1 - kept) * value
    with average.in_place():
        torch.testing.assert_close(weight, torch.full((3,), expected))
    torch.testing.assert_close(weight, torch.full((3,), values[-1]))


def test_the_averaged_weights_are_those_that_are_judged_and_kept():
    data = problem()
    recipe = small_recipe(cold_epochs=3, batch_size=64, average_decay=0.99)
    plain = dataclasses.replace(
        recipe, training=dataclasses.replace(recipe.training, average_decay=0.0)
    )
    with process_group():
        averaged, last = run_seed(data, recipe, seed=1), run_seed(data, plain, seed=1)
    assert averaged.test.log_loss != last.test.log_loss


def test_a_schedule_that_decays_runs_to_its_end_whatever_the_validation_says(monkeypatch):
    """No validation AUC cuts its rates or ends it, and they reach zero in its last step."""
    rates, given = [], iter([0.7, 0.6, 0.5, 0.4])
    begin = Session.begin_step

    def noted(session, share):
        rates.append(share)
        begin(session, share)

    monkeypatch.setattr(Session, "begin_step", noted)
    monkeypatch.setattr(protocol, "auc", lambda *_: next(given))
    recipe = small_recipe(cold_epochs=4, batch_size=128, warm_up_share=0.0, decay_share=0.25)
    with process_group():
        found = run_seed(problem(), recipe, seed=1)
    steps = len(rates) // 4
    assert found.epochs == 4
    assert rates[: 3 * steps + 1] == [1.0] * (3 * steps + 1)
    assert rates[3 * steps :] == pytest.approx([1 - n / steps for n in range(steps)])


def test_reading_ahead_changes_no_figure():
    """On CUDA every experiment reads ahead."""
    found = []
    for pipeline in (Pipeline.OFF, Pipeline.ON):
        recipe = small_recipe(cold_epochs=2, batch_size=64, average_decay=0.9, pipeline=pipeline)
        model = dataclasses.replace(recipe.model, dropout=0.3)
        with process_group():
            result = run_seed(problem(), dataclasses.replace(recipe, model=model), seed=1)
        found.append((result.valid, result.test))
    assert found[0] == found[1]


def test_the_command_offers_exactly_the_data_sets_that_there_are():
    """The names are written out in the request, which must not import torch."""
    from training.experiments.public_data import request
    from training.experiments.public_data.run import PUBLIC_DATA

    assert set(request.PUBLIC_DATA) == set(PUBLIC_DATA)
