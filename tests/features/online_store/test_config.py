"""RANKING_ONLINE names the online store, RANKING_REGISTRY the database of Feast's registry."""

import pytest

from features.online_store.config import Redis, redis_at, redis_of, registry_at
from features.places import place


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        ("sqlite", None),
        ("redis://10.0.0.7", Redis(host="10.0.0.7")),
        (
            "rediss://ranker:p%40ss@store:7000/3",
            Redis(
                host="store",
                port=7000,
                database=3,
                username="ranker",
                password="p@ss",
                is_encrypted=True,
            ),
        ),
    ],
)
def test_the_environment_names_the_store(text, expected):
    assert redis_of({"RANKING_ONLINE": text}) == expected


@pytest.mark.parametrize("text", ["postgres://secret@host", "redis://", "redis://h:x", "Redis"])
def test_a_store_of_no_known_kind_is_an_error_that_shows_no_secret(text):
    with pytest.raises(ValueError, match="RANKING_ONLINE: ") as caught:
        redis_of({"RANKING_ONLINE": text})
    assert "secret" not in str(caught.value)


def test_an_object_store_holds_no_sqlite_file(tmp_path):
    elsewhere = place("s3://bucket/feast")
    message = "RANKING_ONLINE: sqlite; .* s3://bucket/feast: set RANKING_ONLINE to redis://host"
    with pytest.raises(ValueError, match=message):
        redis_at(elsewhere, {})
    named = {"RANKING_ONLINE": "redis://10.0.0.7"}
    assert redis_at(elsewhere, named) == redis_at(tmp_path, named) == Redis(host="10.0.0.7")
    assert redis_at(place(tmp_path), {}) is None


def test_the_registry_is_a_file_or_a_database_next_to_redis():
    folder = place("s3://bucket/feast/synthetic")
    database = {"RANKING_REGISTRY": "postgresql+psycopg://u:secret@db/feast"}
    assert registry_at(folder, {}) == {
        "registry_type": "file",
        "path": "s3://bucket/feast/synthetic/registry.db",
    }
    assert registry_at(folder, {**database, "RANKING_ONLINE": "redis://store"}) == {
        "registry_type": "sql",
        "path": database["RANKING_REGISTRY"],
    }
    with pytest.raises(ValueError, match=r"RANKING_REGISTRY: a database; .*redis") as caught:
        registry_at(folder, database)
    assert "secret" not in str(caught.value)
