"""Who answers a request: a stable hash of the user, a share, and the versions that are loaded."""

import dataclasses
import itertools

import orjson
import pytest
from support.serving import stand_ins

from serving.inference.ranker import Ranker
from serving.inference.repository import ChampionRepository
from serving.protocol.inference_request import from_rest
from serving.routing.serving_versions import Champion, ServingVersions, WeightedModel, key_of
from serving.routing.traffic_split import Share, clear_share, read_shares, write_share
from training.registry.aliases import CANARY, SHADOW

FIRST, TWIN = "2025-06-01-first", "2025-06-01-twin"
USERS = [str(user) for user in range(20_000)]


def covered(percent, *, salt="a>b"):
    share = Share(version="b", percent=percent, salt=salt)
    return {user for user in USERS if share.covers(user)}


def test_who_has_the_canary_at_a_share_has_it_at_every_larger_one():
    steps = [covered(percent) for percent in (0, 5, 25, 50, 100)]
    assert all(smaller < larger for smaller, larger in itertools.pairwise(steps))
    assert (steps[0], steps[-1]) == (set(), set(USERS))
    # Five standard deviations of a binomial.
    for percent, users in zip((5, 25, 50), steps[1:4], strict=True):
        assert len(users) / len(USERS) == pytest.approx(percent / 100, abs=0.018)


def test_another_rollout_begins_with_other_users():
    one, other = covered(5), covered(5, salt="b>c")
    assert len(one & other) / len(one) < 0.15


@pytest.mark.parametrize("percent", [-1, 101, float("nan")])
def test_a_share_is_from_0_to_100(percent):
    with pytest.raises(ValueError, match=r"percent: .*; from 0 to 100"):
        Share(version="v", percent=percent)


def test_the_key_is_the_user_whatever_their_id_came_as_and_else_the_request(body):
    schema = stand_ins.SCHEMA

    def key(content, schema=schema):
        return key_of(schema, from_rest(orjson.dumps({**content, "id": "r"}), json_length=None))

    assert key(body()) == key(body(user_id={"datatype": "UINT8"})) == "7"
    assert key(body(user_id=None)) == "r"
    assert key(body(), schema=dataclasses.replace(schema, user=None, tables=())) == "r"


def test_an_unknown_share_in_the_registry_is_named(tmp_path):
    registry = stand_ins.FileRegistry(tmp_path)
    registry.set_alias(CANARY, TWIN)
    registry.set_tag(TWIN, "canary_share", '{"percent": 500}')
    with pytest.raises(ValueError, match=f"tag canary_share of {TWIN}: .*from 0 to 100"):
        read_shares(registry)


@pytest.fixture
def registry(tmp_path):
    registry = stand_ins.FileRegistry(tmp_path)
    registry.set_alias("champion", FIRST)
    return registry


def opened(registry):
    """What a start of the server does with the registry, without the server."""
    loads = []

    def load(version):
        loads.append(version)
        return Champion(version, stand_ins.scorer(version))

    store = stand_ins.StandInStore(stand_ins.SCHEMA, stand_ins.sample_rows())
    ranker = Ranker(stand_ins.SCHEMA, online=store)
    repository = ChampionRepository(
        ranker,
        champion_version=lambda: registry.alias("champion"),
        load_champion=load,
        shares=lambda: read_shares(registry),
    )
    repository.load_now()
    return ranker, repository, loads


def test_a_start_finds_canary_and_shadow_with_their_shares(registry):
    write_share(registry, CANARY, Share(version=TWIN, percent=25, salt="s"))
    write_share(registry, SHADOW, Share(version="2025-06-09-other", percent=10))
    ranker, _, _ = opened(registry)
    assert ranker.versions.to_dict() == {
        "champion": FIRST,
        "canary": {"version": TWIN, "percent": 25},
        "shadow": {"version": "2025-06-09-other", "percent": 10},
    }
    assert ranker.versions.canary.share.salt == "s"


def test_a_new_share_loads_nothing_anew_and_a_cleared_one_ends_it(registry):
    ranker, repository, loads = opened(registry)
    for percent in (5, 25, 100):
        write_share(registry, CANARY, Share(version=TWIN, percent=percent))
        repository.follow_now()
        assert ranker.versions.canary.share.percent == percent
    assert loads == [FIRST, TWIN]
    clear_share(registry, CANARY)
    repository.follow_now()
    assert ranker.versions.canary is None
    # Its share does not come back with the alias.
    registry.set_alias(CANARY, TWIN)
    repository.follow_now()
    assert ranker.versions.canary.share.percent == 0


def test_a_canary_that_cannot_be_loaded_does_not_keep_a_champion_away(registry):
    registry.set_alias(CANARY, "2025-06-02-broken")
    ranker, _, _ = opened(registry)
    assert (ranker.version, ranker.versions.canary) == (FIRST, None)


def test_serving_versions_answer_by_key_by_version_and_by_role():
    model = Champion(FIRST, stand_ins.scorer(FIRST))
    other = Champion(TWIN, stand_ins.scorer(TWIN))
    versions = ServingVersions(
        champion=model, canary=WeightedModel(model=other, share=Share(version=TWIN, percent=100))
    )
    assert (
        versions.model_of(versions.arm_of("7")),
        versions.named(FIRST),
        versions.named("?"),
    ) == (
        other,
        model,
        None,
    )
    assert (versions.role_of(TWIN), versions.role_of(FIRST)) == ("canary", "champion")


def test_the_champions_own_version_is_not_loaded_twice(registry):
    write_share(registry, CANARY, Share(version=FIRST, percent=50))
    ranker, _, loads = opened(registry)
    assert (ranker.versions.canary, loads) == (None, [FIRST])
