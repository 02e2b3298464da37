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


def test_documents_use_no_private_words():
    found = {}
    for path in tracked("*.md"):
        if path.name == "CHANGELOG.md":
            continue
        words = {word.removesuffix("s") for word in re.findall(r"[a-z]+", path.read_text().lower())}
        if bad := words & NOT_IN_PROSE:
            found[str(path.relative_to(ROOT))] = sorted(bad)
    assert found == {}
