"""What a training comes from: recipes of days, parents by name, and how far a growth goes back."""

import datetime

import pytest
from support.training.manifests import write

from features.cli import SkippedError
from features.datasets.catalog import schema_of
from training.artifact.manifest import Manifest
from training.checkpoint.catalog import CONTROL, GROWN, IMMATURE, MANIFEST, Checkpoints, prune
from training.recipes import recipe_of
from training.registry.aliases import CHALLENGER, CHAMPION
from training.registry.parent_selection import (
    check_mature,
    check_parent,
    checkpoint_of_alias,
    recipe_of_day,
    rewound,
)

SCHEMA = schema_of("synthetic")
SMALL, LARGE = "wukong-tiny", "wukong-tiny-x2"


def day(number: int) -> datetime.date:
    return datetime.date(2025, 1, number)


@pytest.fixture
def checkpoints(tmp_path) -> Checkpoints:
    """Days 2 to 6, each trained through the day before it, warm from the one before."""
    known = Checkpoints(tmp_path / "checkpoints", SCHEMA)
    family: list[str] = []
    for number in range(2, 7):
        write(known, str(day(number)), through=day(number - 1), family=family)
        family = [*family, str(day(number))]
    return known


@pytest.fixture
def registry(tmp_path, open_registry):
    return open_registry(tmp_path / "mlflow", SCHEMA.name)


def registered(registry, tmp_path, name, *, recipe=SMALL, role="", parents=(), growth=None) -> str:
    version = "-".join(filter(None, (name[:10], role, "0123abcd")))
    manifest = Manifest(
        version=version,
        dataset=SCHEMA.name,
        schema_fingerprint=SCHEMA.fingerprint(),
        day=name[:10],
        trained_through=name[:10],
        recipe=recipe,
        config={},
        parents=list(parents),
        metrics={},
        mlflow_run="",
        content_sha256={},
        checkpoint=name,
        role=role,
        growth=growth,
    )
    registry.register(manifest, tmp_path)
    return version


def test_what_has_learnt_immature_rows_is_served_and_nothing_comes_from_it(
    checkpoints, registry, tmp_path
):
    own = str(day(6))
    family = [*checkpoints.named(own).manifest.family, own]
    on_top = f"{own}-{IMMATURE}-{SMALL}"
    write(checkpoints, on_top, through=day(5), family=family, parent=own, role=IMMATURE)
    assert (checkpoints.served(day(6)), checkpoints.served(day(5))) == (on_top, str(day(5)))
    assert checkpoints.parent_for(recipe_of(SMALL), day(7), day(6)).name == own
    version = registered(registry, tmp_path, on_top, role=IMMATURE, parents=family)
    assert registry.version_of(day(6)) == version
    registry.set_alias(CHAMPION, version)
    grown = checkpoint_of_alias(checkpoints, registry, CHAMPION, day=day(7))
    assert grown.name == own
    assert rewound(checkpoints.named(on_top), checkpoints, through=day(6), days=1).name == own
    # Also where the day's own is gone, what goes on is one of mature rows.
    (checkpoints.root / own / MANIFEST).rename(tmp_path / MANIFEST)
    assert checkpoints.parent_for(recipe_of(SMALL), day(7), day(6)).name == str(day(5))
    with pytest.raises(ValueError, match="no checkpoint leaves 1 to 1 days"):
        rewound(checkpoints.named(on_top), checkpoints, through=day(6), days=1)
    (tmp_path / MANIFEST).rename(checkpoints.root / own / MANIFEST)
    with pytest.raises(ValueError, match=f"{on_top}: its labels were not final; go on from {own}"):
        check_parent(checkpoints, on_top, recipe=recipe_of(SMALL), through=day(7))
    # A day that is trained again is another ranker, on top of which nothing was learnt yet.
    checkpoints.forget_immature(day(6))
    assert checkpoints.served(day(6)) == own
    assert checkpoint_of_alias(checkpoints, registry, CHAMPION, day=day(7)).name == own


def test_immature_rows_are_learnt_on_top_of_what_has_not_seen_the_holdout(checkpoints):
    check_mature(checkpoints, day(6), through=day(5), holdout_days=None)
    check_mature(checkpoints, day(6), through=day(5), holdout_days=SCHEMA.holdout_days)
    with pytest.raises(ValueError, match="trained through 2025-01-05; at most 2025-01-04"):
        check_mature(checkpoints, day(6), through=day(4), holdout_days=None)
    with pytest.raises(ValueError, match="--holdout-days 9: with --immature "):
        check_mature(checkpoints, day(6), through=day(5), holdout_days=9)


def test_what_was_learnt_on_top_of_a_day_is_kept_as_long_as_the_day(checkpoints):
    for number in (2, 5, 6):
        name = f"{day(number)}-{IMMATURE}-{SMALL}"
        write(checkpoints, name, through=day(number - 1), role=IMMATURE)
    gone = prune(checkpoints.root, keep=2, in_use=())
    assert gone == ["2025-01-02", f"2025-01-02-{IMMATURE}-{SMALL}", "2025-01-03", "2025-01-04"]
    left = sorted(found.name for found in checkpoints.all())
    assert left == [n for d in (5, 6) for n in (str(day(d)), f"{day(d)}-{IMMATURE}-{SMALL}")]


@pytest.mark.parametrize(("budget", "oldest"), [(1, 5), (3, 3), (14, 2)])
def test_the_oldest_of_the_family_within_the_budget_grows(checkpoints, budget, oldest):
    write(checkpoints, "2025-01-01", through=datetime.date(2024, 12, 31))  # a stranger
    start = checkpoints.named(str(day(6)))
    found = rewound(start, checkpoints, through=day(5), days=budget)
    assert found.name == str(day(oldest))


def test_a_source_that_has_unseen_days_grows_itself(checkpoints):
    start = checkpoints.named(str(day(6)))
    assert rewound(start, checkpoints, through=day(9), days=4).name == start.name


def test_a_family_without_unseen_days_is_refused_with_what_each_leaves(checkpoints):
    start = checkpoints.named(str(day(2)))
    with pytest.raises(ValueError, match=r"no checkpoint leaves 1 to 3 .*'2025-01-02': 0"):
        rewound(start, checkpoints, through=day(1), days=3)


def test_ancestors_of_another_size_are_not_what_grows(checkpoints):
    family = [str(day(number)) for number in range(2, 7)]
    write(checkpoints, "2025-01-07", through=day(6), family=family, recipe=LARGE)
    start = checkpoints.named("2025-01-07")
    assert rewound(start, checkpoints, through=day(8), days=9).name == start.name


def test_the_control_of_a_trial_is_never_a_daily_runs_parent(checkpoints):
    write(checkpoints, "2025-01-08-control-x", through=day(7), role=CONTROL)
    assert checkpoints.parent_for(recipe_of(SMALL), day(9), day(8)).name == str(day(6))
    write(checkpoints, "2025-01-08-grown-x", through=day(7), role=GROWN)
    assert checkpoints.parent_for(recipe_of(SMALL), day(9), day(8)).name == "2025-01-08-grown-x"


def test_a_named_parent_must_fit_and_have_stopped_before(checkpoints):
    name = str(day(4))
    check_parent(checkpoints, name, recipe=recipe_of(SMALL), through=day(4))
    with pytest.raises(ValueError, match=f"of {SMALL}, no parent of {LARGE}"):
        check_parent(checkpoints, name, recipe=recipe_of(LARGE), through=day(4))
    with pytest.raises(ValueError, match="trained through 2025-01-03; must be before 2025-01-03"):
        check_parent(checkpoints, name, recipe=recipe_of(SMALL), through=day(3))


def test_a_day_trains_what_it_trained_before_else_the_champions_recipe(
    checkpoints, registry, tmp_path
):
    assert recipe_of_day(checkpoints, registry, day(20)) == "wukong-small"
    grown = registered(registry, tmp_path, "2025-01-08-grown-x", recipe=LARGE, role=GROWN)
    registry.set_alias(CHAMPION, grown)
    assert recipe_of_day(checkpoints, registry, day(9)) == LARGE
    assert recipe_of_day(checkpoints, registry, day(6)) == SMALL
    # A day before the champion's, whose checkpoint is gone, must not be trained as if it were now.
    assert recipe_of_day(checkpoints, registry, day(7)) == "wukong-small"


def test_versions_tell_their_family_and_a_trial_does_not_take_a_days_place(registry, tmp_path):
    daily = registered(registry, tmp_path, "2025-01-06")
    growth = {"from": SMALL, "to": LARGE}
    grown = registered(
        registry,
        tmp_path,
        "2025-01-06-grown-x",
        recipe=LARGE,
        role=GROWN,
        parents=["2025-01-06", "2025-01-06-x"],
        growth=growth,
    )
    control = registered(registry, tmp_path, "2025-01-06-control-x", role=CONTROL)
    tags = registry._find(grown).tags
    assert (tags["parent_version"], tags["grown_from"], tags["grown_to"]) == (daily, SMALL, LARGE)
    assert registry.version_of(day(6)) == daily
    assert registry.alias(CHALLENGER) == grown
    assert registry.version(control).role == CONTROL


def test_an_alias_leads_to_its_checkpoint_once_a_day(checkpoints, registry, tmp_path):
    asked = (checkpoints, registry, CHAMPION)
    with pytest.raises(ValueError, match="alias champion: on no version of ranker-synthetic"):
        checkpoint_of_alias(*asked, day=None)
    registry.set_alias(CHAMPION, registered(registry, tmp_path, str(day(6))))
    assert checkpoint_of_alias(*asked, day=day(6)).name == str(day(6))
    write(checkpoints, "2025-01-06-grown-x", through=day(5), recipe=LARGE, role=GROWN)
    grown = registered(registry, tmp_path, "2025-01-06-grown-x", recipe=LARGE, role=GROWN)
    registry.set_alias(CHAMPION, grown)
    with pytest.raises(SkippedError, match="has grown on 2025-01-06; a day after it may go on"):
        checkpoint_of_alias(*asked, day=day(6))
    assert checkpoint_of_alias(*asked, day=day(7)).name == "2025-01-06-grown-x"


def test_after_a_backfill_what_has_learnt_its_days_is_no_parent(checkpoints):
    asked = (recipe_of(SMALL), day(7), day(6))
    assert checkpoints.parent_for(*asked).name == str(day(6))
    assert checkpoints.parent_for(*asked, changed_since=day(4)).name == str(day(4))
    assert checkpoints.parent_for(*asked, changed_since=day(9)).name == str(day(6))
    assert checkpoints.parent_for(*asked, changed_since=day(1)) is None
