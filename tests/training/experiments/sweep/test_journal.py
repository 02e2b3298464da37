"""Which code a run is known by."""

from training.experiments.sweep import journal


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


def test_an_edit_of_a_module_that_is_reached_changes_the_hash(tmp_path, monkeypatch):
    package = tmp_path / "training"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "sweep.py").write_text("def run():\n    from training import model\n")
    (package / "model.py").write_text("x = 1\n")
    (package / "page.py").write_text("y = 1\n")
    monkeypatch.setattr(journal, "_ROOT", tmp_path)
    monkeypatch.setattr(journal, "_SWEEP", "training.sweep")

    def now():
        journal.code_hash.cache_clear()
        return journal.code_hash()

    before = now()
    (package / "page.py").write_text("y = 2\n")
    assert now() == before
    (package / "model.py").write_text("x = 2\n")
    assert now() != before
    journal.code_hash.cache_clear()
