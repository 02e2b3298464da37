"""A place is read and written alike on a disk and in an object store, whole or not at all."""

import concurrent.futures
import pickle

import pytest

from features.places import (
    arrow_file,
    is_local,
    place,
    put_new,
    put_whole,
    remove_folder,
    root,
    uri,
)


def test_a_file_is_put_whole_and_read_by_all_libraries(anywhere):
    file = anywhere / "folder" / "name"
    put_whole(file, b"before")
    put_whole(file, b"after")
    files, path = arrow_file(file)
    assert file.read_bytes() == b"after"
    assert files.open_input_stream(path).read() == b"after"
    assert [found.name for found in file.parent.iterdir()] == ["name"]
    assert pickle.loads(pickle.dumps(file)).read_bytes() == b"after"


def test_of_writers_of_one_new_name_one_wins(anywhere):
    for number in range(50):
        name = anywhere / f"{number}"

        def write(content, name=name):
            try:
                put_new(name, content)
            except FileExistsError:
                return False
            return True

        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            won = list(pool.map(write, (b"one", b"two")))
        assert sorted(won) == [False, True]
        assert name.read_bytes() == (b"one", b"two")[won.index(True)]


def test_a_folder_is_removed_with_all_in_it(anywhere):
    put_whole(anywhere / "folder" / "deep" / "name", b"1")
    remove_folder(anywhere / "folder")
    remove_folder(anywhere / "folder")
    assert not (anywhere / "folder" / "deep" / "name").exists()


def test_the_root_is_a_place_of_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("RANKING_ROOT", raising=False)
    monkeypatch.setenv("RANKING_VAR", str(tmp_path))
    assert root() == place(tmp_path)
    monkeypatch.setenv("RANKING_ROOT", f"file:{tmp_path}/data")
    assert uri(root()) == f"{tmp_path}/data"
    assert is_local(root())
    monkeypatch.setenv("RANKING_ROOT", "s3://bucket/prefix")
    assert uri(root() / "lake") == "s3://bucket/prefix/lake"
    assert not is_local(root())


def test_an_unknown_scheme_is_named():
    with pytest.raises(ValueError, match="scheme gs; a path, file:/path or s3://bucket/path"):
        place("gs://bucket/prefix")
