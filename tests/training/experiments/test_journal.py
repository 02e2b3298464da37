"""What a journal keeps, and which code a run is known by."""

from training.experiments import journal
from training.experiments.journal import Journal


def test_a_run_is_found_by_its_key_and_one_that_a_kill_cut_off_is_not(anywhere):
    path = anywhere / "runs.jsonl"
    kept = Journal(path)
    kept.add("a", {"loss": 0.5})
    kept.add("b", {"loss": 0.4})
    assert (
        Journal(path).runs
        == kept.runs
        == {
            "a": {"loss": 0.5, "key": "a"},
            "b": {"loss": 0.4, "key": "b"},
        }
    )
    path.write_bytes(path.read_bytes()[:-9])
    assert list(Journal(path).runs) == ["a"]


def test_a_run_is_known_by_the_modules_that_it_imports_and_by_no_others():
    found = journal.reached("training.experiments.sweep.sweep")
    for part in (
        "training.experiments.sweep.sweep",
        "training.model.wukong",
        "training.data.dataset",
        "features.encoding.encode",
    ):
        assert part in found
    for other in (
        "training.evaluation.gate",
        "training.upscale.upscale",
        "training.experiments.scaling.page",
        "training.__main__",
    ):
        assert other not in found
    assert all(path.exists() for path in found.values())


def test_packages_next_to_ours_are_not_followed(tmp_path, monkeypatch):
    """In an image that is all that is installed, packages without a file among it."""
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "sweep.py").write_text("import vendored.deep, features\n")
    (tmp_path / "training" / "__init__.py").write_text("")
    (tmp_path / "features.py").write_text("")
    (tmp_path / "vendored" / "deep").mkdir(parents=True)
    monkeypatch.setattr(journal, "_ROOT", tmp_path)
    assert set(journal.reached("training.sweep")) == {"training", "training.sweep", "features"}


def test_an_edit_of_a_module_that_is_reached_changes_the_hash(tmp_path, monkeypatch):
    package = tmp_path / "training"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "sweep.py").write_text("def run():\n    from training import model\n")
    (package / "model.py").write_text("x = 1\n")
    (package / "page.py").write_text("y = 1\n")
    monkeypatch.setattr(journal, "_ROOT", tmp_path)

    def now():
        journal.code_hash.cache_clear()
        return journal.code_hash("training.sweep")

    before = now()
    (package / "page.py").write_text("y = 2\n")
    assert now() == before
    (package / "model.py").write_text("x = 2\n")
    assert now() != before
    journal.code_hash.cache_clear()
