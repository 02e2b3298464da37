"""Real rankers change places under load: every answer is whole, right, and of one version."""

import shutil
import time

import pytest
from support.serving.release.live_versions import check, load_of
from support.serving.release.spoilt_artifacts import (
    missing_folder,
    missing_weights,
    truncated_weights,
    truncated_weights_with_a_fitting_hash,
    wrong_fingerprint,
    wrong_golden_answer,
)

from serving.release.endpoint_client import EndpointError
from serving.routing.traffic_split import Share, clear_share, write_share
from training.registry.aliases import CANARY, CHAMPION

pytestmark = pytest.mark.usefixtures("first_version")


def test_under_load_every_answer_is_of_one_version_while_versions_change(live):
    first, *others = live.world.versions[:3]
    with load_of(live) as seen:
        for version in (*others, first, *others, first):
            before = len(seen)
            live.swap(version)
            # What starts after a swap is answered by the new version.
            while len(seen) < before + 30:
                time.sleep(0.01)
    check(live, seen)
    assert {version for _, version, _ in seen} == {first, *others}
    assert len(seen) > 150


FAULTS = {
    wrong_fingerprint: "schema another; expected that of synthetic",
    wrong_golden_answer: "golden answer differs by 0.001; at most 1e-05",
    truncated_weights: "sha256",
    truncated_weights_with_a_fitting_hash: "does not fit the manifest.s model",
    missing_weights: "sha256 no file",
    missing_folder: "no readable manifest",
}


def test_a_bad_artifact_never_serves_under_the_same_load(live, tmp_path):
    """As champion and as canary; what served before goes on."""
    first, bad = live.world.versions[0], live.world.versions[3]
    folder, good = live.world.artifacts / bad, tmp_path / "good"
    shutil.copytree(folder, good)
    registry = live.world.registry
    with load_of(live) as seen:
        for spoil, says in FAULTS.items():
            spoil(folder)
            with pytest.raises(EndpointError, match=f"409; .*{says}.*{first} stays loaded"):
                live.swap(bad)
            registry.set_alias(CHAMPION, first)
            write_share(registry, CANARY, Share(version=bad, percent=100))
            with pytest.raises(EndpointError, match=f"409; .*canary.*{says}"):
                live.endpoint.follow()
            clear_share(registry, CANARY)
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(good, folder)
    check(live, seen)
    assert {version for _, version, _ in seen} == {first}
    # Mended, the same version serves.
    live.swap(bad)
    assert live.endpoint.version() == bad
