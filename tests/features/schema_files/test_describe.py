"""What a schema file means, for people and for programs; and the JSON schema for editors."""

import json
from pathlib import Path

import pytest

from features import __main__ as features_main
from features.datasets.catalog import data_set_at, schema_of
from features.datasets.feature_reference import reference
from features.datasets.schema_files.discovery import BUILT_IN
from features.datasets.schema_files.json_schema import json_schema
from features.schema.fingerprints import rows_fingerprint


def run(capsys, *arguments):
    code = features_main.main(arguments)
    return code, capsys.readouterr()


def test_the_committed_json_schema_is_the_one_of_the_models(capsys, tmp_path):
    assert (BUILT_IN / "schema.json").read_text() == json_schema(), "run make docs"
    code, _ = run(capsys, "schema-json", f"--output={tmp_path / 'schema.json'}")
    assert code == 0
    assert (tmp_path / "schema.json").read_text() == json_schema()


def test_the_json_schema_knows_keys_words_and_times():
    made = json.loads(json_schema())
    assert made["additionalProperties"] is False
    assert made["properties"]["name"]["description"].startswith("Name of the data set")
    delay = made["$defs"]["LabelEntry"]["properties"]["delay"]
    assert delay["pattern"] == "^[0-9]{1,5}[dhms]$"
    assert made["$defs"]["Kind"]["enum"] == ["sparse", "dense", "rate", "count", "age", "stored"]


def test_a_data_set_in_words_has_its_columns_tables_inputs_and_fingerprints(capsys):
    code, printed = run(capsys, "describe", "--dataset=movielens-100k")
    schema, words = schema_of("movielens-100k"), printed.out
    assert code == 0
    assert f"fingerprint  {schema.fingerprint()} (rows {rows_fingerprint(schema)}" in words
    assert str(BUILT_IN / "movielens-100k.yaml") in words
    assert all(
        f"\n  {column.name} " in words for table in schema.tables for column in table.columns
    )
    assert "\n  target       liked: rating of 4 or more, known 0s after the impression\n" in words
    assert "\nuser_state: What a user has done" in words
    assert "counts from 1m after its event, expires after 365d" in words
    assert f"{len(schema.dense_inputs())} dense inputs: " in words
    summary = json.loads(words.splitlines()[-1])
    assert summary["dataset"] == "movielens-100k"


def test_a_label_that_comes_later_is_described(capsys):
    file = Path(__file__).parents[2] / "support" / "labels" / "orders.yaml"
    _, printed = run(capsys, "describe", f"--schema={file}")
    assert (
        "\n  target       order: an event of the same user_id, item_id within 36h, known 38h after "
        "the impression\n"
    ) in printed.out
    _, printed = run(capsys, "describe", f"--schema={file}", "--json")
    found = json.loads(printed.out)
    order = found["labels"][1]
    assert (order["join"], order["window_seconds"]) == (["user_id", "item_id"], 36 * 3_600)
    assert (found["maturity_days"], found["request"]) == (2, "request_id")
    assert "within 36 hours, known 38 hours after" in reference([data_set_at(file).schema])


def test_a_file_is_described_for_a_program_wherever_it_is(capsys, tmp_path):
    text = (BUILT_IN / "synthetic.yaml").read_text().replace("\nname: synthetic", "\nname: shop")
    (tmp_path / "shop.yaml").write_text(text)
    code, printed = run(capsys, "describe", f"--schema={tmp_path / 'shop.yaml'}", "--json")
    found = json.loads(printed.out)
    assert (code, found["name"], found["landed_suffix"]) == (0, "shop", "parquet")
    assert found["fingerprint"] != schema_of("synthetic").fingerprint()
    assert found["sparse_inputs"] == [c.name for c in schema_of("synthetic").sparse_inputs()]
    (label,) = found["labels"]
    assert (found["target"], label["column"], label["delay_seconds"]) == ("click", "click", 600)
    tables = {table["name"]: table for table in found["tables"]}
    assert (tables["user_state"]["ttl_seconds"], tables["item_attributes"]["ttl_seconds"]) == (
        30 * 86_400,
        None,
    )


def test_a_wrong_file_is_an_error_without_a_traceback(capsys, tmp_path):
    text = (BUILT_IN / "synthetic.yaml").read_text().replace("holdout_days: 1", "holdout_days: one")
    (tmp_path / "synthetic.yaml").write_text(text)
    code, printed = run(capsys, "describe", f"--schema={tmp_path / 'synthetic.yaml'}")
    assert code == 1
    assert "synthetic.yaml:6: holdout_days: 'one'; expected a valid integer" in printed.err
    assert "Traceback" not in printed.err


def test_without_a_data_set_all_are_listed_with_where_they_were_looked_for(
    capsys, tmp_path, monkeypatch
):
    monkeypatch.setenv("RANKING_SCHEMAS", str(tmp_path))
    _, printed = run(capsys, "describe")
    assert f"open-bandit       {BUILT_IN / 'open-bandit.yaml'}\n" in printed.out
    assert f"looked in:\nRANKING_SCHEMAS {tmp_path}\nbuilt in, {BUILT_IN}\n" in printed.out
    _, printed = run(capsys, "describe", "--json")
    assert json.loads(printed.out)["synthetic"] == str(BUILT_IN / "synthetic.yaml")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--dataset=shop"], "dataset 'shop': unknown; the data sets are ['movielens-100k', "),
        (["--dataset=synthetic", "--schema=x.yaml"], "--schema x.yaml: not with --dataset synth"),
    ],
)
def test_wrong_usage_is_named(capsys, flags, message):
    with pytest.raises(SystemExit, match="2"):
        features_main.main(["describe", *flags])
    assert message in capsys.readouterr().err
