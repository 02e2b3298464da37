"""The ranker's requests: read and scored together, each answered by one version in one role."""

import asyncio
import threading
import time

import numpy as np
import orjson
import pytest
from support.serving import stand_ins
from support.serving.good_requests import flags, ranked

from serving.inference.ranker import Ranker
from serving.inference.repository import ChampionRepository
from serving.observability.answered import Arm
from serving.protocol.errors import RequestError
from serving.protocol.inference_request import from_rest
from serving.protocol.ranking_request import parse
from serving.routing.serving_versions import Champion, ServingVersions, WeightedModel
from serving.routing.traffic_split import Share
from serving.settings import Limits, Logging, Scoring, Settings, Store


@pytest.fixture
def store():
    return stand_ins.StandInStore(stand_ins.SCHEMA, stand_ins.sample_rows())


def call(body, **changes):
    return from_rest(orjson.dumps(body(**changes)), json_length=None)


def answers_of(ranker, calls):
    """Answers, or what was raised, of calls that arrive together."""

    async def run():
        return await asyncio.gather(*(ranked(ranker, one) for one in calls), return_exceptions=True)

    return asyncio.run(run())


def test_a_score_that_is_not_finite_is_refused_alone(store, body):
    sizes = []

    def score(inputs):
        sizes.append(len(inputs))
        price = inputs.dense[:, 0]
        time.sleep(0.05)
        return np.where(price > 1e30, np.nan, stand_ins.score(inputs)).astype(np.float32)

    ranker = Ranker(stand_ins.SCHEMA, online=store, settings=Settings(scoring=Scoring(workers=1)))
    ranker.swap(Champion("v", score))
    calls = [call(body, price={"data": [price]}) for price in (1.0, 2.0, 1e38, 3.0)]
    answers = answers_of(ranker, calls)
    assert max(sizes) > 3
    assert isinstance(answers[2], RequestError)
    assert str(answers[2]) == "score[0]: nan; a finite number from v"
    for place in (0, 1, 3):
        request = parse(stand_ins.SCHEMA, calls[place], now=stand_ins.NOON)
        expected = stand_ins.score(stand_ins.tiled(ranker.transformer.transform(request).inputs))
        found = answers[place].outputs[0].data
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_a_request_ends_with_the_version_that_it_began_with(store, body):
    release = threading.Event()

    def slowly(inputs):
        assert release.wait(10)
        return stand_ins.score(inputs)

    settings = Settings(scoring=Scoring(workers=1), limits=Limits(max_seconds=20))
    ranker = Ranker(stand_ins.SCHEMA, online=store, settings=settings)
    ranker.swap(Champion("old", slowly))

    async def run():
        before = [asyncio.create_task(ranked(ranker, call(body))) for _ in range(3)]
        await asyncio.sleep(0.1)
        ranker.swap(Champion("new", stand_ins.score))
        after = [asyncio.create_task(ranked(ranker, call(body))) for _ in range(2)]
        await asyncio.sleep(0.05)
        release.set()
        return await asyncio.gather(*before, *after)

    versions = [answer.model_version for answer in asyncio.run(run())]
    assert versions == ["old"] * 3 + ["new"] * 2


def test_a_wukong_scores_requests_together_as_it_scores_each_alone():
    """Within 1e-6: a matrix product of more rows may order its sums differently."""
    import torch

    from features.datasets.catalog import schema_of
    from features.encoding.encode import RequestInputs
    from serving.lookup.transformer import Transformer
    from training.artifact.scorer import Scorer
    from training.model.inputs import inputs_of
    from training.model.ranker import Ranker as Model
    from training.recipes import wukong_tiny

    schema = schema_of("synthetic")
    torch.manual_seed(1)
    scorer = Scorer.of(Model(inputs_of(schema), wukong_tiny().model))
    champion = Champion("v", scorer.score)
    yesterday = stand_ins.NOON.replace(day=14)
    rows = {
        (table.name, one): stand_ins.row(table, yesterday)
        for table in schema.tables
        for one in range(5)
    }
    transformer = Transformer(schema, online=stand_ins.StandInStore(schema, rows))
    parts = []
    for user, size in ((0, 1), (3, 7), (99, 64), (1, 3)):
        inputs = {"user_id": [user], "item_id": list(range(size)), "device": ["phone"]}
        tensors = [
            {
                "name": name,
                "shape": [len(values)],
                "datatype": "BYTES" if name == "device" else "INT64",
                "data": values,
            }
            for name, values in inputs.items()
        ]
        sent = from_rest(orjson.dumps({"inputs": tensors}), json_length=None)
        parts.append(transformer.transform(parse(schema, sent, now=stand_ins.NOON)).inputs)
    together = champion.score(RequestInputs.joined(parts))
    alone = np.concatenate([champion.score(part) for part in parts])
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-6)
    assert len(np.unique(alone.round(6))) > 5


def test_only_a_request_that_has_the_server_to_itself_is_scored_on_all_cores(store, body):
    threads = []

    def scorer(name):
        def score(inputs):
            threads.append((name, threading.current_thread().name))
            time.sleep(0.02)
            return stand_ins.score(inputs)

        return score

    ranker = Ranker(stand_ins.SCHEMA, online=store, settings=Settings())
    ranker.swap(Champion("v", scorer("one"), scorer("all")))
    answers_of(ranker, [call(body)])
    answers_of(ranker, [call(body)])
    assert threads == [("all", "score-alone-1")] * 2
    threads.clear()
    answers_of(ranker, [call(body) for _ in range(3)])
    assert {name for name, _ in threads} == {"one"}
    assert {thread.rpartition("-")[0] for _, thread in threads} <= {"score", "read-score"}


def test_rows_of_requests_that_wait_for_the_store_are_read_together(body):
    """Each gets the answer that it gets alone, and unknown users stay unknown."""
    may_go = threading.Event()
    reads = []

    class SlowStore(stand_ins.StandInStore):
        def read(self, role, ids, *, since=None):
            reads.append((str(role), len(ids)))
            assert may_go.wait(10)
            return super().read(role, ids)

    store = SlowStore(stand_ins.SCHEMA, stand_ins.sample_rows())
    # Without a team for a lone request, which would be read for by another thread.
    settings = Settings(
        store=Store(max_seconds=20),
        limits=Limits(max_seconds=30),
        scoring=Scoring(torch_threads=1),
    )
    ranker = Ranker(stand_ins.SCHEMA, online=store, settings=settings)
    ranker.swap(Champion("v", stand_ins.score))
    users = [7, 8, 7, 99]
    calls = [call(body, user_id={"data": [user]}) for user in users]

    async def run():
        tasks = [asyncio.create_task(ranked(ranker, calls[0]))]
        while not reads:
            await asyncio.sleep(0.001)
        tasks += [asyncio.create_task(ranked(ranker, one)) for one in calls[1:]]
        await asyncio.sleep(0.05)
        may_go.set()
        return await asyncio.gather(*tasks)

    answers = asyncio.run(run())
    assert len(reads) == 4, "users and items of the first, then of all others"
    assert reads[2] == ("user", len(users) - 1)
    for one, found in zip(calls, answers, strict=True):
        alone = asyncio.run(ranked(ranker, one))
        assert flags(found.parameters) == flags(alone.parameters)
        for output, expected in zip(found.outputs, alone.outputs, strict=True):
            np.testing.assert_array_equal(output.data, expected.data)
    known = [list(answer.outputs[2].data) for answer in answers]
    assert known == [["ok"], ["unknown"], ["ok"], ["unknown"]]


def test_a_champion_that_is_loaded_has_answered_alone_and_in_a_batch(store):
    """So that the first caller finds threads, connections and torch's team at work."""
    seen = []

    def scorer(name):
        def score(inputs):
            if threading.current_thread().name.startswith("score"):
                seen.append(name)
            return stand_ins.score(inputs)

        return score

    ranker = Ranker(stand_ins.SCHEMA, online=store, settings=Settings())
    repository = ChampionRepository(
        ranker,
        champion_version=lambda: "v",
        load_champion=lambda version: Champion(version, scorer("one"), scorer("all")),
    )
    asyncio.run(repository.load())
    assert seen == ["all", "one"]


@pytest.mark.parametrize("is_strict", [False, True])
def test_a_store_that_is_away_does_not_keep_a_champion_from_being_loaded(is_strict):
    class Away(stand_ins.StandInStore):
        def read(self, role, ids, *, since=None):
            raise ConnectionError("away")

    store = Away(stand_ins.SCHEMA, stand_ins.sample_rows())
    settings = Settings(store=Store(is_strict=is_strict))
    ranker = Ranker(stand_ins.SCHEMA, online=store, settings=settings)
    repository = ChampionRepository(
        ranker,
        champion_version=lambda: "v",
        load_champion=lambda version: Champion(version, stand_ins.score),
    )
    asyncio.run(repository.load())
    assert ranker.version == "v"


def test_an_answer_has_the_role_in_which_its_version_was_chosen(store, body, monkeypatch, tmp_path):
    """Versions may change between: a canary that is champion by then has answered as a canary."""
    release, logged = threading.Event(), []

    def slowly(inputs):
        assert release.wait(10)
        return stand_ins.score(inputs)

    settings = Settings(logging=Logging(share=1, folder=tmp_path))
    ranker = Ranker(stand_ins.SCHEMA, online=store, settings=settings)
    old, new = Champion("old", stand_ins.score), Champion("new", slowly)
    share = Share(version="new", percent=100)
    ranker.follow(ServingVersions(champion=old, canary=WeightedModel(model=new, share=share)))
    monkeypatch.setattr(ranker.offers.log, "offer", logged.append)

    async def run():
        asked = asyncio.create_task(ranked(ranker, call(body)))
        await asyncio.sleep(0.1)
        ranker.swap(new)
        release.set()
        await asked

    asyncio.run(run())
    assert [(one.model_version, one.role) for one in logged] == [("new", "canary")]
    assert (logged[0].arm, logged[0].inclusion) == (Arm("canary", 100.0), ("canary", 1.0))
