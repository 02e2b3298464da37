"""Who was champion when, what the gate compares with, and what retention keeps for it."""

import dataclasses
import datetime
import json
from pathlib import Path

import pytest

from features.datasets.catalog import schema_of
from training.artifact.manifest import MANIFEST, Manifest
from training.registry.aliases import CHAMPION, PREVIOUS
from training.registry.champions import anchors, coming_anchors, line_of_champions, prune
from training.registry.mlflow_registry import Registry, Version

SCHEMA = schema_of("synthetic")
FIRST = datetime.date(2025, 1, 1)
DAYS = (0, 10, 20, 30, 35, 40)


def day(number: int) -> datetime.date:
    return FIRST + datetime.timedelta(days=number)


def registered(registry, artifacts, number, *, previous="") -> str:
    """A version of a day, with a manifest and nothing else."""
    manifest = Manifest(
        version=f"{day(number)}-0123abcd",
        dataset=SCHEMA.name,
        schema_fingerprint=SCHEMA.fingerprint(),
        day=str(day(number)),
        trained_through=str(day(number - 1)),
        recipe="wukong-tiny",
        config={},
        parents=[],
        metrics={},
        mlflow_run="",
        content_sha256={},
    )
    folder = artifacts / SCHEMA.name / manifest.version
    folder.mkdir(parents=True)
    (folder / MANIFEST).write_text(json.dumps(dataclasses.asdict(manifest)))
    registry.register(manifest, folder)
    if previous:
        registry.set_tag(manifest.version, PREVIOUS, previous)
    return manifest.version


@dataclasses.dataclass(frozen=True)
class Kept:
    registry: Registry
    line: list[str]
    folders: tuple[Path, Path, Path]


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> Kept:
    """Champions of days 0, 10, 20, 30, 35 and 40, the newest first; that of day 38 was held."""
    root = tmp_path_factory.mktemp("champions")
    registry = Registry(root / "mlflow", SCHEMA.name)
    line: list[str] = []
    for number in sorted((*DAYS, 38)):
        previous = line[0] if line and number != 38 else ""
        version = registered(registry, root / "artifacts", number, previous=previous)
        line = line if number == 38 else [version, *line]
    return Kept(registry, line, (root / "checkpoints", root / "artifacts", root / "mlflow"))


def days_of(versions) -> list[int]:
    return [(version.day - FIRST).days for version in versions]


def test_the_line_goes_back_to_the_first_champion_past_what_was_held(kept):
    kept.registry.set_alias(CHAMPION, kept.line[0])
    assert [version.version for version in line_of_champions(kept.registry)] == kept.line


def test_after_a_rollback_the_line_is_that_of_the_champion_of_now(kept):
    kept.registry.set_alias(CHAMPION, kept.line[2])
    assert days_of(line_of_champions(kept.registry)) == [30, 20, 10, 0]


def test_tags_that_go_in_a_circle_end(kept):
    kept.registry.set_alias(CHAMPION, kept.line[0])
    kept.registry.set_tag(kept.line[-1], PREVIOUS, kept.line[0])
    assert len(line_of_champions(kept.registry)) == len(DAYS)


def test_without_a_champion_there_is_no_line_and_no_anchor(kept):
    kept.registry.set_alias(CHAMPION, None)
    assert line_of_champions(kept.registry) == []
    assert anchors([], day(1), days=28) == []
    assert coming_anchors([], days=28) == []


@pytest.mark.parametrize(
    ("number", "days", "expected"),
    [
        (41, 28, [10, 20, 30, 35]),  # day 13: the champion of day 10 answered
        (48, 28, [20, 30, 35]),
        (41, 7, [30, 35]),
        (20, 28, [0, 10, 20, 30, 35]),  # too young a line: the first
        (41, 10**10, [0, 10, 20, 30, 35]),
        (99, 28, []),  # the champion itself is that old
        (41, 0, []),
    ],
)
def test_the_anchor_is_who_was_champion_so_many_days_before(number, days, expected):
    line = [
        Version(version="", day=day(n), checkpoint="", recipe="", role="", decision="")
        for n in reversed(DAYS)
    ]
    assert days_of(anchors(line, day(number), days=days)) == expected


def test_retention_keeps_what_the_gate_will_compare_with(kept):
    kept.registry.set_alias(CHAMPION, kept.line[0])
    summary = prune(SCHEMA, *kept.folders, keep=1, anchor_days=28)
    # Day 41 asks for who answered on day 13, days 48 and later for the champion of day 20.
    gone = [name[:10] for name in summary["removed"]["artifacts"]]
    assert gone == [str(day(number)) for number in (0, 38)]
    summary = prune(SCHEMA, *kept.folders, keep=1, anchor_days=0)
    gone = [name[:10] for name in summary["removed"]["artifacts"]]
    assert gone == [str(day(number)) for number in (10, 20, 30)]
