"""Sizes of folders and modules, and words that need no glossary."""

import ast
import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MOST_LINES = 300
MOST_MODULES = 12
PRIVATE_WORDS = {"beside", "door", "fate", "lineup", "rehearsal", "rival", "told", "verb", "wound"}
"""Ours once, and nobody's term; of identifiers these are parts between underscores or capitals."""
NOT_IN_PROSE = {"door", "lineup", "rehearsal", "rival"}


def tracked(*patterns: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", *patterns], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).exists()]


def test_no_module_is_longer_than_a_reader_takes_in():
    lengths = {path: len(path.read_text().splitlines()) for path in tracked("*.py")}
    too_long = {str(path.relative_to(ROOT)): n for path, n in lengths.items() if n > MOST_LINES}
    assert too_long == {}


def test_no_folder_has_more_modules_than_one_remembers():
    modules = [path for path in tracked("*.py") if path.name != "__init__.py"]
    counts = Counter(str(path.parent.relative_to(ROOT)) for path in modules)
    assert {folder: n for folder, n in counts.items() if n > MOST_MODULES} == {}


def parts_of(name: str) -> set[str]:
    """The words of an identifier, in the singular."""
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)
    return {word.lower() for word in words} | {word.lower().removesuffix("s") for word in words}


@pytest.mark.parametrize(
    ("name", "parts"),
    [("open_doors", "door"), ("StoreLineup", "lineup"), ("_told", "told"), ("verbs", "verb")],
)
def test_a_word_is_found_in_an_identifier(name, parts):
    assert parts in parts_of(name)


def identifiers(tree: ast.AST) -> set[str]:
    """Names that a module gives: of variables, arguments, functions, classes and attributes."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute):
            found.add(node.id if isinstance(node, ast.Name) else node.attr)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.arg | ast.keyword) and node.arg:
            found.add(node.arg)
    return found


def test_identifiers_are_terms_that_a_newcomer_would_search_for():
    found = {}
    for path in tracked("features", "training", "serving", "dags", "infra", "tests"):
        if path.suffix == ".py":
            names = identifiers(ast.parse(path.read_text())) | {path.stem}
            bad = {name for name in names if parts_of(name) & PRIVATE_WORDS}
            if bad:
                found[str(path.relative_to(ROOT))] = sorted(bad)
    assert found == {}


BY_FOLDER = {
    *("glob", "rglob", "iterdir", "walk", "listdir", "scandir"),
    *("read_parquet", "read_table", "dataset", "ParquetDataset"),
}
"""Calls that find or read files by where they lie: in the lake they find superseded ones too."""


def readers_by_folder(source: str) -> list[str]:
    """Functions that speak of the lake and find or read files by where they lie."""
    found = []
    for function in ast.walk(ast.parse(source)):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            nodes = list(ast.walk(function))
            words = {word for name in identifiers(function) for word in parts_of(name)}
            called = {node.func for node in nodes if isinstance(node, ast.Call)}
            names = {getattr(call, "attr", getattr(call, "id", "")) for call in called}
            if words & {"lake", "snapshot"} and names & BY_FOLDER:
                found.append(function.name)
    return found


@pytest.mark.parametrize(
    "source",
    [
        "def f(lake): return sorted((lake / 'examples').glob('*.parquet'))",
        "def f(self):\n    files = self._lake.root.rglob('*')",
        "def f(request): return ds.dataset(str(request.lake / 'examples'))",
        "def f(spark):\n    path = LAKE / 'x'\n    return pd.read_parquet(path)",
        "def f(table): return [pq.read_table(path) for path in table._snapshot.files(day)]",
    ],
)
def test_a_reader_of_a_folder_of_the_lake_is_found(source):
    assert readers_by_folder(source) == ["f"]


def test_only_the_lake_itself_reads_its_folders():
    """Others ask a version for its files: a folder has those of all versions."""
    found = {
        str(path.relative_to(ROOT)): names
        for path in tracked("features", "training", "serving", "dags", "infra")
        if path.suffix == ".py" and not path.is_relative_to(ROOT / "features" / "lake")
        if (names := readers_by_folder(path.read_text()))
    }
    assert found == {}


def test_documents_use_no_private_words():
    found = {}
    for path in tracked("*.md"):
        if path.name == "CHANGELOG.md":
            continue
        words = {word.removesuffix("s") for word in re.findall(r"[a-z]+", path.read_text().lower())}
        if bad := words & NOT_IN_PROSE:
            found[str(path.relative_to(ROOT))] = sorted(bad)
    assert found == {}
