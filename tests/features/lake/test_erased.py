"""The files of erased users, and those that earlier versions have written."""

import datetime
import json

import pytest

from features.erasure.proof import file_of, new_proof
from features.lake.erased import FOLDER, ErasedExamples, erased_users, put_erased
from features.places import put_whole

NOON = datetime.datetime(2025, 1, 6, 12, tzinfo=datetime.UTC)
HASH = "0123456789abcdef" * 4


@pytest.mark.parametrize("rows", [0, 3])
def test_a_file_with_one_sum_of_all_erasures_is_read(tmp_path, rows):
    until = "2025-01-06T12:00:00+00:00"
    said = {"id_hash": HASH, "until": until, "examples": rows, "examples_version": 7}
    put_whole(tmp_path / FOLDER / f"{HASH}.json", json.dumps(said).encode())
    (one,) = erased_users(tmp_path)
    assert (one.num_examples, [part.version for part in one.examples]) == (rows, [7] * bool(rows))
    later = one.with_examples(ErasedExamples(erasure="later", rows=2, version=9))
    put_erased(tmp_path, later)
    assert erased_users(tmp_path) == [later]
    assert later.num_examples == rows + 2


@pytest.mark.parametrize(
    ("started_at", "name"),
    [
        ("2025-01-06T12:00:05.123+00:00", "20250106T120005.123"),
        ("2025-01-06T12:00:05+00:00", "20250106T120005"),
    ],
)
def test_a_proof_keeps_the_name_that_it_was_begun_with(tmp_path, started_at, name):
    proof = new_proof("shop", HASH, package="1", until=NOON)
    proof["started_at"] = started_at
    assert file_of(tmp_path, proof).name == f"shop-{HASH[:16]}-{name}.json"
