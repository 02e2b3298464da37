"""What has landed is known by its content, whatever its files are called or when they were put."""

from features.datasets.landed_content import (
    content_of_attributes,
    content_of_files,
    content_of_source,
)
from features.datasets.schema_files.source_models import SourceEntry, TimeEntry


def test_a_file_is_its_name_and_its_bytes(tmp_path):
    file = tmp_path / "2025-01-01.csv"
    file.write_text("a\n")
    before = content_of_files([file])
    file.write_text("a\n")
    assert content_of_files([file]) == before
    file.write_text("b\n")
    assert content_of_files([file]) not in {before, ""}
    assert content_of_files([file, tmp_path / "not there"]) == content_of_files([]) == ""


def test_a_folder_is_its_files_whatever_they_are_called(tmp_path):
    """Spark gives them other names each time; what begins with an underscore is none."""
    folder = tmp_path / "2025-01-01.parquet"
    folder.mkdir()
    (folder / "part-0-x").write_text("a")
    (folder / "part-1-x").write_text("b")
    (folder / "_SUCCESS").write_text("")
    before = content_of_files([folder])
    (folder / "part-0-x").rename(folder / "part-7-y")
    (folder / "_SUCCESS").unlink()
    assert content_of_files([folder]) == before
    (folder / "part-1-x").write_text("c")
    assert content_of_files([folder]) != before


def test_attributes_are_what_is_of_no_day(tmp_path):
    assert content_of_attributes(tmp_path) == content_of_attributes(tmp_path / "none") == ""
    (tmp_path / "items.csv").write_text("a")
    before = content_of_attributes(tmp_path)
    for name in ("impressions", "intraday", "labels"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "2025-01-01.csv").write_text("a")
    (tmp_path / ".items.part").write_text("half of it")
    assert content_of_attributes(tmp_path) == before
    (tmp_path / "users.csv").write_text("b")
    assert content_of_attributes(tmp_path) != before


def test_how_a_file_is_read_counts_and_where_it_comes_from_does_not(tmp_path, monkeypatch):
    asked = {"format": "csv", "time": TimeEntry(column="at", unit="seconds")}
    before = content_of_source(SourceEntry(**asked))
    assert content_of_source(SourceEntry(**asked, fetch="somewhere.fetch")) == before
    other = {**asked, "time": TimeEntry(column="at", unit="milliseconds")}
    assert content_of_source(SourceEntry(**other)) != before
    monkeypatch.syspath_prepend(tmp_path)
    module = tmp_path / "own_reader_of_a_shop.py"
    module.write_text("a = 1\n")
    own = SourceEntry(reader="own_reader_of_a_shop", suffix="txt")
    before = content_of_source(own)
    module.write_text("a = 2\n")
    assert content_of_source(own) != before
