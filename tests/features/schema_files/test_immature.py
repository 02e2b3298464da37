"""That rows are learnt before their label is final, as a file declares it."""

import json
from pathlib import Path

import pytest

from features import __main__ as features_main
from features.datasets.schema_files.build import read_data_set
from features.datasets.schema_files.marked_yaml import SchemaFileError
from features.schema import Correction, Immature
from features.schema.fingerprints import rows_fingerprint

WITHOUT = (Path(__file__).parents[2] / "support" / "labels" / "orders.yaml").read_text()
KEY = "    immature: {correction: inverse_probability, delay_days: 7}\n"
GOOD = WITHOUT.replace("    delay: 2h\n", f"    delay: 2h\n{KEY}")


def written(tmp_path, text=GOOD) -> Path:
    file = tmp_path / "orders.yaml"
    file.write_text(text)
    return file


def test_it_changes_no_mature_row_and_no_input(tmp_path):
    label = read_data_set(written(tmp_path)).schema.label
    assert label.immature == Immature(
        correction=Correction.INVERSE_PROBABILITY, min_known_share=0.2, delay_days=7
    )
    schema = read_data_set(written(tmp_path)).schema
    without = read_data_set(written(tmp_path, WITHOUT)).schema
    assert without.label.immature is None
    assert schema.fingerprint() == without.fingerprint()
    assert rows_fingerprint(schema) == rows_fingerprint(without)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "inverse_probability",
            "guess",
            r"orders.yaml:22: labels.order.immature.correction: 'guess'; expected "
            "'inverse_probability'",
        ),
        (
            "delay_days: 7",
            "delay_days: 0",
            r"orders.yaml:22: labels.order.immature.delay_days: '0'; expected greater than or equ",
        ),
        (
            "delay_days: 7",
            "min_known_share: 1.2",
            r"orders.yaml:22: labels.order.immature.min_known_share: '1.2'; expected less than or",
        ),
        (
            "delay_days: 7",
            "clip: 9",
            r"orders.yaml:22: labels.order.immature.clip: '9'; unknown key",
        ),
        (
            "correction: inverse_probability, ",
            "",
            r"orders.yaml:22: labels.order.immature.correction: missing; this key is required",
        ),
        (
            "target: order",
            "target: click",
            r"orders.yaml:22: labels.order.immature: a mapping; .* is not the target, click",
        ),
        (
            "delay: 10m}",
            "delay: 10m, immature: {correction: inverse_probability}}",
            r"orders.yaml:13: labels.click.immature: a mapping; unknown key",
        ),
    ],
)
def test_what_it_cannot_be_is_named_with_its_line(tmp_path, old, new, said):
    assert GOOD.count(old) == 1, old
    with pytest.raises(SchemaFileError, match=said):
        read_data_set(written(tmp_path, GOOD.replace(old, new)))


def test_it_is_described(tmp_path, capsys):
    file = written(tmp_path)
    assert features_main.main(["describe", f"--schema={file}"]) == 0
    words = capsys.readouterr().out
    assert (
        "known 38h after the impression; learnt before by inverse_probability, from the age on at "
        "which 20% of events are known, by the delays of 7 mature days; 25 % of requests judge\n"
    ) in words
    assert features_main.main(["describe", f"--schema={file}", "--json"]) == 0
    click, order = json.loads(capsys.readouterr().out)["labels"]
    assert click["immature"] is None
    assert order["immature"] == {
        "correction": "inverse_probability",
        "min_known_share": 0.2,
        "delay_days": 7,
        "judged_share": 0.25,
    }
