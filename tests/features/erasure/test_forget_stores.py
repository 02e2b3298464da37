"""A user is gone from the prediction log and the online store, and the others are not."""

import pytest
from deltalake import DeltaTable
from support.erasure import planted
from support.erasure.erasing import UNTIL, erasure
from support.erasure.planted import GONE, STAYS
from support.redis_server import running_redis

from features.online_store.reader import open_rows
from features.places import place
from features.prediction_log.table import table_root


def test_of_the_log_the_user_goes_by_id_and_by_hash_and_another_key_is_named(made, var):
    schema, _ = made
    proof = erasure(schema, var).run(until=UNTIL)
    root = table_root(place(var) / "log", schema.name)
    left = DeltaTable(str(root)).to_pyarrow_table(columns=["answer_id"])["answer_id"]
    assert sorted(left.to_pylist()) == ["answer-1", "answer-3", "answer-4"]
    assert proof["prediction_log"]["rows"] == 2
    assert any("hashed by the keys" in one["what"] for one in proof["left"])


def test_the_store_has_the_others_and_says_that_it_has_changed(made, var):
    schema, _ = made
    rows_before = open_rows(schema, place(var) / "feast", timeout_seconds=5)
    version = rows_before.version("user")
    others = rows_before.read("user", [STAYS])
    erasure(schema, var).run(until=UNTIL)
    now = open_rows(schema, place(var) / "feast", timeout_seconds=5)
    assert now.version("user") != version
    assert now.read("user", [STAYS]) == others
    assert now.read_all("user", most=9)[0] == [STAYS]
    assert now.read_all("by_visitor_and_article", most=9)[0] == [f"{STAYS}|a"]
    assert buyers_in(now) == [None, [STAYS]]


def buyers_in(store):
    """The histories of both items, whose other tables are there all the same."""
    assert sorted(store.read_all("item", most=9)[0]) == ["a", "b"]
    found = store.read("item", ["a", "b"])
    assert found["item_daily__created"].null_count == 0
    return found["buyer_visitor"].to_pylist()


@pytest.mark.process
def test_of_redis_the_user_goes_and_the_others_stay(made, tmp_path, monkeypatch):
    schema, _ = made
    with running_redis() as server:
        import redis

        monkeypatch.setenv("RANKING_ONLINE", server.url)
        planted.make_store(place(tmp_path) / "feast", schema)
        asked = erasure(schema, tmp_path)
        counted = {"entities": 2, "entities_naming": 1}
        assert asked.stored(dry_run=True) == asked.stored(dry_run=False) == counted
        assert asked.stored(dry_run=True) == {}
        client = redis.Redis.from_url(server.url)
        dumped = [key + (client.dump(key) or b"") for key in client.scan_iter()]
        text = GONE.encode()
        assert not [one for one in dumped if text in one or text.replace(b"|", b"\\|") in one]
        now = open_rows(schema, place(tmp_path) / "feast", timeout_seconds=5)
        assert now.read_all("user", most=9)[0] == [STAYS]
        assert buyers_in(now) == [None, [STAYS]]
        client.close()
