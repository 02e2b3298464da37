"""The evaluation job on made artifacts and a made lake: who is compared, and what is written."""

import contextlib
import dataclasses
import datetime
import io
import itertools
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.training.artifacts import random_ranker, random_rows

from features.datasets.catalog import schema_of
from features.lake.commit import remove
from features.lake.day_file import replace_day
from features.lake.snapshot import snapshot
from features.schema import EXAMPLE_ID, LABEL
from features.schema.fingerprints import rows_fingerprint
from training.__main__ import main
from training.artifact import artifact
from training.artifact.manifest import MANIFEST, read_manifest
from training.artifact.quantized_tables import TablePrecision
from training.artifact.scorer import Scorer
from training.data.examples import encode_examples
from training.recipes import recipe_of
from training.registry.aliases import CHAMPION, PREVIOUS
from training.registry.mlflow_registry import Registry

SCHEMA = schema_of("synthetic")
ROWS, USERS = 3_000, 100
TRAINED, HELD_OUT = datetime.date(2025, 3, 1), datetime.date(2025, 3, 2)
TRAINING_RATE = 0.25
BEST, OTHER = 1, 2
"""Seeds: the labels are drawn from the scores of the first ranker; all others are wrong."""


def written(artifacts: Path, seed: int, day: str) -> str:
    """An artifact of a day with the weights of a seed, trained through the day before."""
    through = datetime.date.fromisoformat(day) - datetime.timedelta(days=1)
    manifest = artifact.write(
        artifacts,
        random_ranker(SCHEMA, seed=seed),
        SCHEMA,
        random_rows(SCHEMA, artifact.GOLDEN_ROWS, seed=seed),
        day=day,
        trained_through=str(through),
        recipe="wukong-tiny",
        config=recipe_of("wukong-tiny").to_dict(),
        parents=[],
        metrics={},
        mlflow_run="",
        tables="fp32",
    )
    return manifest.version


def examples(label_seed: int) -> pa.Table:
    rows = random_rows(SCHEMA, ROWS, seed=label_seed)
    users = pa.array(np.arange(ROWS) % USERS)
    return rows.set_column(rows.column_names.index("user_id"), "user_id", users)


def labelled(rows: pa.Table, label: np.ndarray | list[int | None]) -> pa.Table:
    return rows.set_column(rows.column_names.index(LABEL), LABEL, pa.array(label))


def write_day(lake: Path, day: datetime.date, rows: pa.Table) -> None:
    table = lake / SCHEMA.name / "examples"
    fingerprint = rows_fingerprint(SCHEMA)
    replace_day(table, day, [rows], fingerprint=fingerprint, row_group_rows=700)


@dataclasses.dataclass(frozen=True)
class World:
    root: Path
    registry: Registry
    first: str
    champion: str
    candidate: str

    def evaluate(self, *flags: str, code: int = 0) -> dict:
        names = ("lake", "artifacts", "tracking", "reports", "checkpoints")
        folders = [f"--{name}={self.root / name}" for name in names]
        asked = ["evaluate", "--dataset=synthetic", f"--date={HELD_OUT}", *folders, *flags]
        with contextlib.redirect_stdout(io.StringIO()) as stdout:
            assert main(asked) == code
        return json.loads(stdout.getvalue().splitlines()[-1])

    def line(self, *versions: str) -> None:
        """Make these the champions, the newest first."""
        self.registry.set_alias(CHAMPION, versions[0] if versions else None)
        for version, before in itertools.zip_longest(versions, versions[1:]):
            self.registry.set_tag(version, PREVIOUS, before)


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    """A first champion as good as the candidate, and a champion that is wrong."""
    root = tmp_path_factory.mktemp("world")
    held_out = examples(1)
    scorer = Scorer.of(random_ranker(SCHEMA, seed=BEST), TablePrecision.FP32)
    random = np.random.default_rng(0)
    label = random.random(ROWS) < scorer.score(encode_examples(SCHEMA, held_out).inputs)
    write_day(root / "lake", HELD_OUT, labelled(held_out, label.astype(np.int64)))
    trained = (np.arange(ROWS) < ROWS * TRAINING_RATE).astype(np.int64)
    write_day(root / "lake", TRAINED, labelled(examples(2), trained))
    registry = Registry(root / "tracking", SCHEMA.name)
    days = {"first": "2025-01-20", "champion": "2025-03-01", "candidate": str(HELD_OUT)}
    seeds = {"first": BEST, "champion": OTHER, "candidate": BEST}
    versions = {}
    for who, day in days.items():
        versions[who] = written(root / "artifacts", seeds[who], day)
        folder = root / "artifacts" / SCHEMA.name / versions[who]
        registry.register(read_manifest(folder), folder)
    return World(root, registry, **versions)


@pytest.fixture(scope="module")
def judged(world) -> dict:
    world.line(world.champion, world.first)
    return world.evaluate()


def test_a_first_candidate_is_held_against_the_rate_of_the_training_days(world):
    world.line()
    summary = world.evaluate("--first")
    assert (summary["decision"], summary["champion"], summary["anchor"]) == ("promote", None, None)
    assert summary["compared_with"] == "base_rate"
    base_rate = summary["base_rate"]
    # As it was, not the prior that the schema declares, which is 0.3.
    assert (base_rate["rate"], base_rate["rows"]) == (TRAINING_RATE, ROWS)
    assert base_rate["days"] == [str(TRAINED)] * 2
    assert base_rate["log_loss_change"] == summary["log_loss_change"]
    assert summary["alerts"] == []


def test_first_is_for_the_first_champion(world):
    world.line(world.champion)
    error = world.evaluate("--first", code=1)["error"]
    assert error == f"first: {world.champion} is champion; --first is for the first one"


def test_the_anchor_is_scored_on_the_same_rows_and_shown_in_decision_and_page(world, judged):
    anchor = judged["anchor"]
    assert (anchor["version"], anchor["day"]) == (world.first, "2025-01-20")
    # It has the candidate's very weights.
    assert anchor["metrics"] == judged["metrics"]
    assert anchor["log_loss_change"] == {"rows": ROWS, "change": 0.0, "low": 0.0, "high": 0.0}
    assert (judged["decision"], judged["compared_with"]) == ("promote", "champion")
    assert judged["gauc_change"]["low"] > 0
    page = (world.root / "reports" / judged["report"]).read_text()
    words = (world.first, "GAUC against the anchor", "base rate of the training days", "0.25")
    assert [word for word in words if word not in page] == []


def test_a_candidate_that_has_become_champion_is_judged_again_against_the_one_it_replaced(
    world, judged
):
    world.line(world.candidate, world.champion, world.first)
    again = world.evaluate()
    assert again["champion"] == world.champion
    assert {**again, "seconds": 0} == {**judged, "seconds": 0}


def test_anchor_and_gauc_may_be_left_out_and_it_is_said(world):
    world.line(world.champion, world.first)
    summary = world.evaluate("--anchor-days=0", "--no-gauc")
    assert summary["anchor"] is None
    assert any(note.startswith("anchor: no older champion") for note in summary["notes"])
    assert "GAUC: not asked for; not compared" in summary["notes"]
    assert not any(check["what"].startswith("GAUC") for check in summary["checks"])


def test_a_champion_of_another_schema_does_not_block_the_candidates_of_this_one(world):
    """Its inputs are not in the examples any more, and it will never be scored again."""
    world.line(world.champion)
    path = world.root / "artifacts" / SCHEMA.name / world.champion / MANIFEST
    before = path.read_text()
    path.write_text(json.dumps({**json.loads(before), "schema_fingerprint": "before"}))
    try:
        summary = world.evaluate()
    finally:
        path.write_text(before)
    assert (summary["decision"], summary["champion"]) == ("promote", world.champion)
    assert (summary["compared_with"], summary["champion_metrics"]) == ("base_rate", None)
    assert any("reads the inputs of schema before" in note for note in summary["notes"])


def test_an_anchor_that_is_gone_gives_way_to_the_next_and_it_is_said(world):
    world.line(world.champion, world.first)
    with moved(world.root / "artifacts" / SCHEMA.name / world.first):
        summary = world.evaluate()
    assert summary["anchor"] is None
    assert summary["notes"][-2].startswith(f"anchor {world.first}: cannot be scored: ")


@contextlib.contextmanager
def moved(folder: Path):
    folder.rename(folder.with_name("away"))
    try:
        yield
    finally:
        folder.with_name("away").rename(folder)


def test_training_days_that_the_lake_has_lost_are_named(world):
    table = world.root / "lake" / SCHEMA.name / "examples"
    rows = pq.read_table(*snapshot(table).files(TRAINED), partitioning=None)
    remove(table, [TRAINED], metadata={})
    error = world.evaluate(code=1)["error"]
    write_day(world.root / "lake", TRAINED, rows)
    assert error.startswith("base rate of the training days: no examples through 2025-03-01 in")


def test_a_label_that_is_missing_is_refused_and_written_as_json(world):
    """Nothing of the candidate can be measured then; decision and page say so."""
    world.line(world.champion)
    lake = world.root / "lake"
    (path,) = snapshot(lake / "synthetic" / "examples").files(HELD_OUT)
    before = pq.read_table(path, partitioning=None)
    label = before.column(LABEL).to_pylist()
    write_day(lake, HELD_OUT, labelled(before, [None, *label[1:]]))
    try:
        summary = world.evaluate()
    finally:
        write_day(lake, HELD_OUT, before)
    first = before.column(EXAMPLE_ID)[0].as_py()
    assert summary["decision"] == "refuse"
    assert summary["reasons"] == [
        f"labels: 1 of {ROWS:,} are not 0 or 1; the first is example_id {first}"
    ]
    assert summary["metrics"] is summary["log_loss_change"] is summary["calibration"] is None
    assert summary["reasons"][0] in (world.root / "reports" / summary["report"]).read_text()
