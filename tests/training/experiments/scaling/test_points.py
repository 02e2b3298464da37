"""Points as JSON lines, which a killed sweep may have left unfinished."""

import pytest
from support.made_points import point

from training.experiments.scaling.points import append_points, read_points


def test_points_are_read_as_they_were_written(tmp_path):
    path = tmp_path / "deep" / "points.jsonl"
    points = [point(seed=1), point(seed=2, recipe="wukong-small")]
    append_points(path, points[:1])
    append_points(path, points[1:])
    assert read_points(path) == points


def test_a_line_that_a_killed_run_left_is_skipped_and_dropped_by_the_next(anywhere, caplog):
    path = anywhere / "points.jsonl"
    append_points(path, [point(seed=1), point(seed=2)])
    path.write_bytes(path.read_bytes()[:-30])
    assert read_points(path) == [point(seed=1)]
    assert "cut off" in caplog.text
    append_points(path, [point(seed=3)])
    assert read_points(path) == [point(seed=1), point(seed=3)]


def test_a_whole_last_line_counts_without_its_end(tmp_path):
    path = tmp_path / "points.jsonl"
    append_points(path, [point(seed=1)])
    path.write_bytes(path.read_bytes().rstrip())
    assert read_points(path) == [point(seed=1)]
    append_points(path, [point(seed=2)])
    assert read_points(path) == [point(seed=1), point(seed=2)]


def test_a_run_that_was_repeated_counts_once_and_as_it_was_last(tmp_path):
    path = tmp_path / "points.jsonl"
    append_points(path, [point(ne=0.9, key="old"), point(ne=0.8, key="new")])
    assert [p.ne for p in read_points(path)] == [0.8]


@pytest.mark.parametrize("line", ["{", '{"axis": "data"}', "[1]", '{"axis": "data", "lr": 1}'])
def test_a_bad_line_is_named(tmp_path, line):
    path = tmp_path / "points.jsonl"
    append_points(path, [point()])
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(ValueError, match=r"points.jsonl, line 2: "):
        read_points(path)


@pytest.mark.parametrize(
    ("field", "value"),
    [("axis", "height"), ("x", 0), ("ne", float("nan")), ("training_flops", "many")],
)
def test_a_value_that_no_run_has_is_refused_by_name(field, value):
    with pytest.raises(ValueError, match=f"{field}: {value!r}"):
        point(**{field: value})
