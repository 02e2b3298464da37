"""Requests score as their rows do, in every precision of the tables."""

import numpy as np
import pytest
import torch
from support.training.artifacts import random_ranker, random_rows, request_of
from torchrec.modules.embedding_configs import EmbeddingBagConfig

from features.datasets.catalog import schema_of
from features.encoding.encode import Ids, RequestInputs
from training.artifact import scorer as scoring
from training.artifact.quantized_tables import ServedTables, TablePrecision, packed
from training.artifact.scorer import Scorer
from training.data.batch import jagged
from training.data.examples import encode_examples

SCHEMA = schema_of("synthetic")
CONFIGS = [
    EmbeddingBagConfig(
        name="item", num_embeddings=30, embedding_dim=8, feature_names=["item", "history"]
    ),
    EmbeddingBagConfig(name="genre", num_embeddings=7, embedding_dim=12, feature_names=["genre"]),
]
STEPS = {TablePrecision.INT8: 255, TablePrecision.INT4: 15}


def torchrecs(ranker, inputs):
    """The probabilities by TorchRec's own path."""
    with torch.inference_mode():
        return torch.sigmoid(ranker(torch.from_numpy(inputs.dense), jagged(inputs))).numpy()


@pytest.mark.parametrize("dataset", ["synthetic", "movielens-100k", "open-bandit"])
@pytest.mark.parametrize("users", [[40], [3, 1, 90]])
def test_a_request_scores_as_its_rows_do_by_torchrecs_own_path(dataset, users):
    schema = schema_of(dataset)
    ranker = random_ranker(schema)
    request, rows = request_of(schema, users)
    expected = torchrecs(ranker, rows)
    assert expected.std() > 1e-3
    scorer = Scorer.of(ranker)
    np.testing.assert_allclose(scorer.score(request), expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(scorer.score(rows), expected, rtol=0, atol=1e-6)


def test_users_whose_bags_are_all_empty_score_as_their_rows_do():
    ranker = random_ranker(SCHEMA)
    request, _ = request_of(SCHEMA, [2, 5])
    nothing = Ids(np.empty(0, np.int64), np.zeros(2, np.int32))
    shared = {n: nothing if n.endswith("items") else ids for n, ids in request.shared.items()}
    empty = RequestInputs(dense=request.dense, shared=shared, each=request.each, user=request.user)
    expected = torchrecs(ranker, empty.tiled([c.name for c in SCHEMA.sparse_inputs()]))
    np.testing.assert_allclose(Scorer.of(ranker).score(empty), expected, rtol=0, atol=1e-6)


def test_a_request_of_more_than_one_part_scores_as_one(monkeypatch):
    scorer = Scorer.of(random_ranker(SCHEMA))
    request, _ = request_of(SCHEMA, [20, 13])
    whole = scorer.score(request)
    sizes = []
    dense = scorer.dense
    scorer.dense = lambda *given: sizes.append(len(given[0])) or dense(*given)
    monkeypatch.setattr(scoring, "MAX_ROWS", 8)
    np.testing.assert_allclose(scorer.score(request), whole, rtol=0, atol=1e-6)
    assert sizes == [6, 7, 6, 7, 7], "as many as it takes, of about one size"


def test_parts_grow_with_the_threads_and_no_part_is_a_remainder(monkeypatch):
    scorer = Scorer.of(random_ranker(SCHEMA))
    request, _ = request_of(SCHEMA, [12, 10])
    sizes = []
    dense = scorer.dense
    scorer.dense = lambda *given: sizes.append(len(given[0])) or dense(*given)
    monkeypatch.setattr(scoring, "ROWS_PER_THREAD", 7)
    scorer.score(request, num_threads=1)
    scorer.score(request, num_threads=2)
    assert sizes == [7, 7, 8, 11, 11]


def test_a_user_is_looked_up_once_however_many_candidates():
    scorer = Scorer.of(random_ranker(SCHEMA))
    request, _ = request_of(SCHEMA, [50, 30])
    seen = []
    pool = scorer.tables.pool
    scorer.tables.pool = lambda ids: (
        seen.append({n: len(i.lengths) for n, i in ids.items()}) or pool(ids)
    )
    scorer.score(request)
    assert [set(bags.values()) for bags in seen] == [{2}, {80}]
    assert "user_positive_items" in seen[0]


def test_no_candidates_have_no_scores():
    request, _ = request_of(SCHEMA, [3])
    none = RequestInputs(
        dense=request.dense[:0],
        shared=request.shared,
        each={name: ids.take(np.arange(0)) for name, ids in request.each.items()},
        user=request.user[:0],
    )
    assert Scorer.of(random_ranker(SCHEMA)).score(none).shape == (0,)


@pytest.mark.parametrize("precision", list(TablePrecision))
def test_a_bag_is_the_mean_of_its_rows_and_an_empty_one_is_zero(precision):
    torch.manual_seed(0)
    weights = {c.name: torch.randn(c.num_embeddings, c.embedding_dim) for c in CONFIGS}
    rows = {name: packed(weight, precision) for name, weight in weights.items()}
    tables = ServedTables.of(CONFIGS, rows, precision)
    ids = {
        "history": Ids(np.array([29, 3, 3]), np.array([2, 0, 1], np.int32)),
        "genre": Ids(np.array([0, 6, 1]), np.ones(3, np.int32)),
    }
    item, genre = weights["item"], weights["genre"]
    history = torch.stack([item[[29, 3]].mean(0), torch.zeros(8), item[3]])
    expected = torch.cat([history, genre[[0, 6, 1]]], dim=1)
    # A row's values lie on a grid between its least and its greatest; float16 keeps 11 bits of it.
    spread = max(float(w.max() - w.min()) for w in weights.values())
    limit = spread / STEPS[precision] if precision in STEPS else 1e-6
    found = tables.pool(ids)
    assert float((found - expected).abs().max()) <= limit
    if precision in STEPS:
        assert float((found - expected).abs().max()) > 1e-4


def test_int8_tables_take_about_a_quarter_and_int4_an_eighth():
    weight = torch.randn(1000, 32)
    sizes = {p: packed(weight, p).nbytes for p in TablePrecision}
    assert sizes == {"fp32": 128_000, "int8": 36_000, "int4": 20_000}


def test_rows_of_another_shape_or_type_are_refused_by_name():
    good = {c.name: torch.zeros(c.num_embeddings, c.embedding_dim) for c in CONFIGS}
    with pytest.raises(ValueError, match="table genre: missing"):
        ServedTables.of(CONFIGS, {"item": good["item"]}, TablePrecision.FP32)
    with pytest.raises(ValueError, match=r"table item: \(29, 8\).*expected \(30, 8\)"):
        ServedTables.of(CONFIGS, {**good, "item": good["item"][:-1]}, TablePrecision.FP32)
    with pytest.raises(ValueError, match=r"expected \(30, 12\) torch.uint8 for int8"):
        ServedTables.of(CONFIGS, good, TablePrecision.INT8)


def test_int8_scores_are_close_and_int4_scores_are_less_close():
    ranker = random_ranker(SCHEMA)
    rows = encode_examples(SCHEMA, random_rows(SCHEMA, 200)).inputs
    exact = Scorer.of(ranker).score(rows)
    worst = {p: np.abs(Scorer.of(ranker, p).score(rows) - exact).max() for p in TablePrecision}
    assert worst["fp32"] == 0
    assert 0 < worst["int8"] < worst["int4"] < 0.2


def test_a_call_has_the_threads_that_it_asks_for_in_whatever_thread_it_runs():
    import threading

    scorer = Scorer.of(random_ranker(SCHEMA))
    scorer.num_threads = 1
    request, _ = request_of(SCHEMA, [3])
    before, found = torch.get_num_threads(), []

    def call():
        torch.set_num_threads(3)
        for asked in (None, 2, None):
            scorer.score(request, num_threads=asked)
            found.append(torch.get_num_threads())

    try:
        for _ in range(2):
            thread = threading.Thread(target=call)
            thread.start()
            thread.join()
    finally:
        torch.set_num_threads(before)
    assert found == [1, 2, 1, 1, 2, 1]


def test_a_call_on_one_thread_takes_no_thread_from_another_call():
    """So a challenger in the shadow that hangs leaves a lone request all its threads."""
    import threading

    scorer = Scorer.of(random_ranker(SCHEMA))
    request, _ = request_of(SCHEMA, [3])
    is_inside, may_go, found = threading.Event(), threading.Event(), []
    dense, before = scorer.dense, torch.get_num_threads()

    def hanging(*tensors):
        is_inside.set()
        assert may_go.wait(10)
        found.append(torch.get_num_threads())
        return dense(*tensors)

    def counted(*tensors):
        found.append(torch.get_num_threads())
        return dense(*tensors)

    try:
        shadow = scorer.with_dense(hanging)
        thread = threading.Thread(target=shadow.score, args=[request], kwargs={"num_threads": 1})
        thread.start()
        assert is_inside.wait(10)
        scorer.with_dense(counted).score(request, num_threads=2)
        may_go.set()
        thread.join(10)
    finally:
        torch.set_num_threads(before)
    assert found[0] == 2
    assert found[-1] == 1


def test_of_two_calls_at_once_none_has_more_than_one_thread():
    import threading

    scorer = Scorer.of(random_ranker(SCHEMA))
    request, _ = request_of(SCHEMA, [3])
    is_inside, may_go, found = threading.Event(), threading.Event(), []
    dense, before = scorer.dense, torch.get_num_threads()

    def slow(*given):
        is_inside.set()
        assert may_go.wait(10)
        return dense(*given)

    try:
        first = threading.Thread(target=scorer.with_dense(slow).score, args=[request])
        first.start()
        assert is_inside.wait(10)
        scorer.score(request, num_threads=2)
        found.append(torch.get_num_threads())
        may_go.set()
        first.join()
        scorer.score(request, num_threads=2)
        found.append(torch.get_num_threads())
    finally:
        may_go.set()
        torch.set_num_threads(before)
    assert found == [1, 2]
