"""Where the demo has nothing to replay it says why; the replay itself is in the whole day."""

import dataclasses

import pytest

from features.datasets.catalog import schema_of
from infra.demo import replay
from infra.local.settings import Settings


@pytest.mark.parametrize(
    ("dataset", "store_name", "note"),
    [
        ("open-bandit", "sqlite", "no users"),
        ("synthetic", "redis://127.0.0.1:6379", "no file that could be copied"),
    ],
)
def test_without_users_or_a_copy_of_the_store_nothing_is_replayed(
    tmp_path, monkeypatch, dataset, store_name, note
):
    monkeypatch.setenv("RANKING_ONLINE", store_name)
    schema = schema_of(dataset)
    one = replay.Replay(schema, settings=Settings(var=tmp_path), day=schema.first_day)
    one.keep_store()
    one.start_push(dataclasses.make_dataclass("Nothing", [])(), {})
    assert note in one.run()["note"]
