"""The id of requests, and context with a neutral value, as a file declares them."""

import re
from pathlib import Path

import pytest

from features.datasets.schema_files.build import read_data_set
from features.datasets.schema_files.problems import SchemaFileError
from features.schema import Kind, Severity
from features.schema.fingerprints import impressions_fingerprint

PLAIN = (Path(__file__).parent / "shop.yaml").read_text()
REQUEST = "request: {name: request_id, type: string, doc: One page of results.}\n"
POSITION = "  position: {type: int64, kind: sparse, num_ids: 50, neutral: 0, doc: Place.}\n"
GOOD = PLAIN.replace("context:\n", f"{REQUEST}context:\n{POSITION}")


def read(tmp_path, text=GOOD):
    (tmp_path / "shop.yaml").write_text(text)
    return read_data_set(tmp_path / "shop.yaml").schema


def test_a_request_is_stored_and_never_an_input(tmp_path):
    schema, plain = read(tmp_path), read(tmp_path, PLAIN)
    assert (schema.request.kind, schema.request.severity) == (Kind.STORED, Severity.CRITICAL)
    assert schema.request in schema.impression_columns()
    assert "request_id" not in {column.name for column in schema.sparse_inputs()}
    assert plain.request is None
    assert impressions_fingerprint(schema) != impressions_fingerprint(plain)


def test_a_context_column_may_have_a_neutral_value(tmp_path):
    position, device, *_ = read(tmp_path).context
    assert (position.neutral, device.neutral) == (0, None)
    written = read(tmp_path, GOOD.replace("neutral: 0", "neutral: 0.0"))
    assert written.fingerprint() == read(tmp_path).fingerprint()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("string, doc: One", "float64, doc: One", "request.type: 'float64'; .* not nullable"),
        ("doc: One", "nullable: true, doc: One", "request.type: 'string'; .*nullable; a request"),
        ("name: request_id", "name: device", "(request|context.device): .* are declared twice"),
        ("doc: One", "kind: sparse, doc: One", "request.kind: 'sparse'; unknown key"),
        ("neutral: 0", "neutral: 50", "context.position.neutral: '50'; .* within the column's l"),
        ("neutral: 0", "neutral: first", "context.position.neutral: 'first'; .* of type int64"),
        ("item_id: article", "request_id: bought", "source.columns.request_id: .* would both"),
        (
            "    doc: Whether",
            "    neutral: 0\n    doc: Whether",
            "stored.bought.neutral: '0'; unkn",
        ),
    ],
)
def test_what_no_job_could_honour_is_refused(tmp_path, old, new, said):
    assert GOOD.count(old) == 1, old
    changed = GOOD.replace(old, new)
    with pytest.raises(SchemaFileError) as caught:
        read(tmp_path, changed)
    (line,) = str(caught.value).splitlines()
    assert re.match(rf".*shop.yaml:\d+: {said}", line), line
