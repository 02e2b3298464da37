"""Schema files are found in RANKING_SCHEMAS, in installed packages and among the built-in ones."""

import importlib
import os
import subprocess
import sys

import pytest

from features.datasets import catalog
from features.datasets.schema_files import discovery
from features.datasets.schema_files.discovery import BUILT_IN

BUILT_IN_NAMES = [
    "movielens-100k", "movielens-1m", "open-bandit", "synthetic", "synthetic-fields",
    "synthetic-shop",
]  # fmt: skip


def write(folder, name):
    """A data set as the generated one, under another name."""
    folder.mkdir(parents=True, exist_ok=True)
    text = (BUILT_IN / "synthetic.yaml").read_text()
    path = folder / f"{name}.yaml"
    path.write_text(text.replace("\nname: synthetic\n", f"\nname: {name}\n"))
    return path


def environment(*places):
    return {"RANKING_SCHEMAS": os.pathsep.join(map(str, places))}


def test_files_and_folders_of_the_variable_are_found_next_to_what_is_built_in(tmp_path):
    one = write(tmp_path / "a", "shop")
    write(tmp_path / "b", "news")
    (tmp_path / "b" / "notes.txt").write_text("no schema")
    given = environment(one, tmp_path / "b")
    assert catalog.names(given) == sorted(["news", "shop", *BUILT_IN_NAMES])
    shop = catalog.schema_of("shop", environment=given)
    assert shop.name == "shop"
    assert shop.fingerprint() != catalog.schema_of("synthetic").fingerprint()
    assert catalog.names({}) == BUILT_IN_NAMES


def test_an_unknown_name_lists_what_there_is_and_where_it_was_looked_for(tmp_path):
    write(tmp_path, "shop")
    with pytest.raises(ValueError, match="unknown") as caught:
        catalog.schema_of("shopp", environment=environment(tmp_path))
    said = str(caught.value)
    assert "dataset 'shopp': unknown; the data sets are ['movielens-100k'" in said
    assert "'shop'" in said
    assert f"RANKING_SCHEMAS {tmp_path}; built in, {BUILT_IN}" in said


def test_two_files_of_one_name_are_an_error_that_names_both(tmp_path):
    first, second = write(tmp_path / "a", "shop"), write(tmp_path / "b", "shop")
    with pytest.raises(ValueError, match="'shop': two schema files have this name") as caught:
        catalog.names(environment(tmp_path / "a", second))
    assert f"{first} and {second}" in str(caught.value)
    own = write(tmp_path / "c", "synthetic")
    with pytest.raises(ValueError, match="'synthetic': two schema files") as caught:
        catalog.schema_of("movielens-100k", environment=environment(own))
    assert str(BUILT_IN / "synthetic.yaml") in str(caught.value)


def test_one_file_by_two_ways_is_one(tmp_path):
    file = write(tmp_path / "a", "shop")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    assert "shop" in catalog.names(environment(file, tmp_path / "a", tmp_path / "link"))


@pytest.mark.parametrize(
    ("name", "reason"),
    [("shop.yaml", "there is no such file"), ("shop.json", "no file that ends with .yaml")],
)
def test_a_place_that_is_not_there_is_an_error(tmp_path, name, reason):
    with pytest.raises(ValueError, match=f"RANKING_SCHEMAS {tmp_path / name}: .*{reason}"):
        catalog.names(environment(tmp_path / name))


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed distribution with a package of schema files, which must not be imported."""
    write(tmp_path / "shop_schemas", "shop")
    (tmp_path / "shop_schemas" / "__init__.py").write_text("raise RuntimeError('imported')")
    distribution = tmp_path / "shop_schemas-1.0.dist-info"
    distribution.mkdir()
    (distribution / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: shop-schemas\nVersion: 1\n"
    )
    points = distribution / "entry_points.txt"
    points.write_text("[wukong_ranking.schemas]\nshop = shop_schemas\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    return points


def test_a_package_offers_its_files_by_an_entry_point(package):
    assert catalog.names({}) == sorted(["shop", *BUILT_IN_NAMES])
    assert catalog.schema_of("shop").name == "shop"
    assert "package shop_schemas (entry point shop)" in discovery.find({}).places
    assert "shop_schemas" not in sys.modules


@pytest.mark.parametrize("value", ["json_that_is_not_there", "not_there.schemas", "this"])
def test_an_entry_point_that_names_no_folder_is_an_error(package, value):
    package.write_text(f"[wukong_ranking.schemas]\nshop = {value}\n")
    with pytest.raises(ValueError, match=rf"package {value} \(entry point shop\): is no package"):
        catalog.names({})


def test_a_file_that_was_replaced_is_read_anew(tmp_path):
    file, given = write(tmp_path, "shop"), environment(tmp_path)
    before = catalog.schema_of("shop", environment=given)
    assert catalog.schema_of("shop", environment=given) is before
    file.write_text(file.read_text().replace("holdout_days: 1", "holdout_days: 2"))
    os.utime(file, ns=(1, 1))
    assert catalog.schema_of("shop", environment=given).holdout_days == 2


def test_only_the_file_that_is_asked_for_is_read(tmp_path):
    write(tmp_path, "shop")
    (tmp_path / "broken.yaml").write_text("name: [")
    assert catalog.schema_of("shop", environment=environment(tmp_path)).name == "shop"
    with pytest.raises(ValueError, match=r"broken.yaml:1: is no YAML"):
        catalog.schema_of("broken", environment=environment(tmp_path))


@pytest.mark.process
def test_a_command_line_starts_without_reading_a_file():
    code = (
        "import sys, features.__main__, features.datasets.catalog as c\n"
        "c.known('synthetic')\n"
        "print(sorted({'pydantic', 'yaml', 'pyspark'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
