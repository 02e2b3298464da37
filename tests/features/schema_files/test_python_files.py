"""A schema file in Python: the same schema as of YAML, and the same errors, with its lines."""

import importlib
import json
import os
import sys
from pathlib import Path

import pytest
import yaml

from features import __main__ as features_main
from features.datasets import catalog
from features.datasets.catalog import data_set_at, data_set_of, names
from features.datasets.python_yaml import write_yaml
from features.datasets.schema_files import discovery
from features.datasets.schema_files.discovery import BUILT_IN
from features.datasets.schema_files.problems import SchemaFileError
from features.datasets.schema_files.python_file import digests

SHOP = Path(__file__).parents[2] / "support" / "shop" / "shop.yaml"
ALL = [SHOP, *(BUILT_IN / f"{name}.yaml" for name in names({}))]
MODELS = """\
import datetime

from features.datasets.schema_files.aggregate_models import AggregateEntry, AggregatesEntry
from features.datasets.schema_files.models import (
    ContextEntry, DataSetEntry, EntityEntry, ExampleIdEntry, ItemDailyEntry, LaterLabelEntry,
    LimitsEntry, RequestEntry, UserStateEntry,
)
from features.datasets.schema_files.source_models import SourceEntry, TimeEntry

WINDOWS = [1, 7]
SCHEMA_FILE = DataSetEntry(
    name="shop",
    doc="Pages of a shop.",
    licence="ours",
    first_day=datetime.date(2025, 3, 1),
    holdout_days=1,
    epoch=datetime.date(2024, 1, 1),
    request=RequestEntry(name="request_id", type="string", doc="The page."),
    example_id=ExampleIdEntry(**{"from": ["request_id", "item_id"]}),
    user=EntityEntry(name="user_id", type="string", kind="sparse", hash_size=1000, doc="Who."),
    item=EntityEntry(name="item_id", type="int64", kind="sparse", num_ids=50, doc="What."),
    context={
        name: ContextEntry(type="float64", kind="count", minimum=0, maximum=99, doc=f"The {name}.")
        for name in ("price", "stock")
    },
    labels={
        "click": LaterLabelEntry(
            source=SourceEntry(format="csv", time=TimeEntry(column="at", unit="seconds")),
            join=["request_id", "item_id"],
            window="30m",
            delay="10m",
        ),
    },
    target="click",
    tables=[
        UserStateEntry(kind="user_state", history_length=5, ttl="30d", delay="60s"),
        ItemDailyEntry(kind="item_daily", windows_days=WINDOWS, ttl="7d", delay="1h"),
        AggregatesEntry(
            kind="aggregates", name="price_daily", by=["item_id"], windows_days=WINDOWS,
            ttl="7d", delay="1h",
            columns={"price_mean": AggregateEntry(of="price", kind="mean", scale=0.01)},
        ),
    ],
    limits=LimitsEntry(
        min_positive_rate=0, max_positive_rate=1,
        min_share_of_trailing_rows=0, max_times_trailing_rows=9,
    ),
    source=SourceEntry(format="csv"),
)
"""


def line_of(text):
    """The line of the models' text that has some words, from 1 on."""
    return next(n for n, line in enumerate(MODELS.splitlines(), start=1) if text in line)


def write(folder, text, name="shop"):
    path = folder / f"{name}.py"
    path.write_text(text)
    return path


def error_of(folder, text):
    """What is wrong, a line of text for each thing, without the folder."""
    path = write(folder, text)
    with pytest.raises(SchemaFileError) as caught:
        data_set_at(path)
    return [line.removeprefix(f"{path}:") for line in str(caught.value).splitlines()]


def same(one, other):
    """Whether two files declare the same: equal schemas have equal fingerprints."""
    assert one.schema == other.schema
    assert one.schema.fingerprint() == other.schema.fingerprint()
    assert (one.source, one.label_sources) == (other.source, other.label_sources)


@pytest.mark.parametrize("file", ALL, ids=lambda path: path.stem)
def test_a_dict_and_what_is_written_from_it_are_the_same_as_the_yaml(file, tmp_path):
    data = yaml.safe_load(file.read_text())
    python = write(tmp_path, f"import datetime\nSCHEMA_FILE = {data!r}\n", name=file.stem)
    same(data_set_at(python), data_set_at(file))
    written = write_yaml(python)
    back = written.rename(tmp_path / file.name)
    same(data_set_at(back), data_set_at(file))


def test_models_are_the_same_as_the_yaml_that_is_written_from_them(tmp_path):
    python = write(tmp_path, MODELS)
    declared = data_set_at(python)
    assert [column.name for column in declared.schema.context] == ["price", "stock"]
    assert declared.schema.example_id.keys == ("request_id", "item_id")
    assert str(declared.label_sources["click"].time.unit) == "seconds"
    same(data_set_at(write_yaml(python).rename(tmp_path / "shop.yaml")), declared)


ERRORS = [
    # old, new, line, what is said
    ('holdout_days=1', 'holdout_days=0', "holdout_days=1", "holdout_days: 0; expected great"),
    ('licence="ours"', 'license="ours"', "licence=", "license: 'ours'; unknown key; do you m"),
    ('    licence="ours",\n', '', "SCHEMA_FILE =", "licence: missing; this key is required"),
    ('window="30m"', 'window="30 min"', "window=",
     "LaterLabelEntry.window: '30 min'; expected a whole number of at most 5 digits with its unit"),
    ('datetime.date(2025, 3, 1)', '"2025-03-01"', "first_day",
     "first_day: '2025-03-01'; expected a date such as datetime.date(2025, 1, 31)"),
    ('kind="count", m', 'kind="counts", m', "name: ContextEntry",
     "ContextEntry.kind: 'counts'; expected 'sparse', 'dense'"),
    ('unit="seconds"', 'unit="ms"', "unit=", "TimeEntry.unit: 'ms'; expected 'seconds', 'mill"),
    ('target="click"', 'target="order"', "target=", "target: 'order'; schema shop: target 'ord"),
    ('name="shop"', 'name="shops"', 'name="shop"', "name: 'shops'; the name of the file, shop"),
    ('join=["request_id"', 'join=["page"', "join=",
     "labels.click.join: a list; schema shop: label click is joined by 'page'"),
    ('of="price"', 'of="prize"', "columns={", "tables.2.columns.price_mean.of: 'prize'; "),
    ('WINDOWS = [1, 7]', 'WINDOWS = [1, 0]', "WINDOWS = ",
     "ItemDailyEntry.windows_days.1: 0; expected great"),
    ('WINDOWS = [1, 7]', 'WINDOWS = [1, 7]\n1 / 0', "SCHEMA_FILE =", "ZeroDivisionError: divis"),
    ('WINDOWS = [1, 7]', 'WINDOWS = [1, 7', "WINDOWS", "is no Python: '[' was never closed"),
    ('WINDOWS = [1, 7]', 'raise SystemExit("no")', "WINDOWS", "SystemExit: no"),
    ('import datetime', 'import not_there', "import datetime", "ModuleNotFoundError: No module"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "at", "said"), ERRORS)
def test_an_error_names_the_line_the_key_the_value_and_what_was_expected(
    tmp_path, old, new, at, said
):
    assert old in MODELS
    first, *_ = error_of(tmp_path, MODELS.replace(old, new, 1))
    line, _, rest = first.partition(": ")
    assert said in rest
    assert int(line) == line_of(at), first


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("SCHEMA_FILE = 3\n", "1: SCHEMA_FILE: 3; expected a DataSetEntry or a dict"),
        ("x = 1\n", "1: defines no SCHEMA_FILE; expected SCHEMA_FILE = DataSetEntry(…)"),
        (
            "\nSCHEMA_FILE = {\n 'nmae': 'shop'}\n",
            "3: nmae: 'shop'; unknown key; do you mean n",
        ),
        (
            "L = {\n 'a': {'delay': '1h'}}\nSCHEMA_FILE = dict(labels=L)\n",
            "2: labels.a.column: m",
        ),
    ],
)
def test_a_module_without_a_good_object_says_so(tmp_path, text, said):
    assert any(line.startswith(said) for line in error_of(tmp_path, text))


def test_a_copied_model_is_validated_like_any_other(tmp_path):
    """Pydantic does not validate what ``model_copy`` changes."""
    copied = 'SCHEMA_FILE = SCHEMA_FILE.model_copy(update={"holdout_days": "two"})\n'
    (line,) = error_of(tmp_path, MODELS + copied)
    assert "holdout_days: 'two'; expected a valid integer" in line
    copied = 'SCHEMA_FILE = SCHEMA_FILE.model_copy(update={"holdout_days": 2})\n'
    assert data_set_at(write(tmp_path, MODELS + copied)).schema.holdout_days == 2


SHARED = MODELS.replace("SCHEMA_FILE = ", "def shop(name): return ").replace('"shop"', "name")


def test_similar_data_sets_share_a_module_next_to_them(tmp_path, monkeypatch):
    """Each folder has its own module of a name, and what it says last is what counts."""
    for folder, days in (("a", 1), ("b", 3)):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder, SHARED.replace("holdout_days=1", f"holdout_days={days}"), "shops")
        for country in ("de", "fr"):
            text = f"from shops import shop\nSCHEMA_FILE = shop('{folder}-{country}')\n"
            write(tmp_path / folder, text, name=f"{folder}-{country}")
    given = {"RANKING_SCHEMAS": os.pathsep.join([str(tmp_path / "a"), str(tmp_path / "b")])}
    assert {"a-de", "a-fr", "b-de", "b-fr"} <= set(names(given))
    assert "shops" not in names(given)
    path = list(sys.path)
    schemas = [catalog.schema_of(f"{one}-fr", environment=given) for one in ("a", "b", "a")]
    assert [schema.holdout_days for schema in schemas] == [1, 3, 1]
    assert "shops" not in sys.modules
    assert sys.path == path
    write(tmp_path / "a", SHARED.replace("holdout_days=1", "holdout_days=8"), "shops")
    os.utime(tmp_path / "a" / "a-fr.py", ns=(1, 1))
    assert catalog.schema_of("a-fr", environment=given).holdout_days == 8
    write(tmp_path / "a", "\nimport nothing_here\n", "shops")
    (line,) = error_of(tmp_path / "a", "from shops import shop\nSCHEMA_FILE = shop('shop')\n")
    assert line == "1: ModuleNotFoundError: No module named 'nothing_here' (shops.py, line 2)"


def test_a_package_next_to_a_file_is_its_own_too(tmp_path):
    """Each folder has its own package of a name; what was made from it knows each of its files."""
    for folder, days in (("a", 1), ("b", 3)):
        package = tmp_path / folder / "shops"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("from shops.days import DAYS\n")
        (package / "days.py").write_text(f"DAYS = {days}\n")
        text = MODELS.replace("holdout_days=1", "holdout_days=DAYS")
        write(tmp_path / folder, "from shops import DAYS\n" + text)
    paths = [tmp_path / folder / "shop.py" for folder in ("a", "b", "a")]
    assert [data_set_at(path).schema.holdout_days for path in paths] == [1, 3, 1]
    assert not [name for name in sys.modules if name.partition(".")[0] == "shops"]
    assert list(digests(paths[0])) == ["shop.py", "shops/__init__.py", "shops/days.py"]


def test_only_modules_that_assign_the_object_are_taken_and_none_is_run_to_find_out(tmp_path):
    write(tmp_path, "raise RuntimeError('run')\nSCHEMA_FILE = {}\n", name="one")
    write(tmp_path, "SCHEMA_FILE: dict = {}\n", name="two")
    write(tmp_path, "raise RuntimeError('run')\n", name="helper")
    write(tmp_path, "def f():\n    SCHEMA_FILE = {}\n", name="inside")
    write(tmp_path, "print(SCHEMA_FILE == 1)\n", name="reads")
    write(tmp_path, "SCHEMA_FILE = {\n", name="broken")
    write(tmp_path, "SCHEMA_FILE = {}\n", name="__init__")
    (tmp_path / "one.py.yaml").write_text("written from one.py")
    found = [path.name for path in discovery.files_of(tmp_path, "a folder")]
    assert found == ["broken.py", "one.py", "two.py"]
    with pytest.raises(ValueError, match=r"a file: assigns no SCHEMA_FILE"):
        discovery.files_of(tmp_path / "helper.py", "a file")


def test_an_entry_point_may_name_a_module_that_assigns_the_object(tmp_path, monkeypatch):
    (tmp_path / "site_schemas").mkdir()
    write(tmp_path / "site_schemas", MODELS)
    distribution = tmp_path / "site_schemas-1.0.dist-info"
    distribution.mkdir()
    (distribution / "METADATA").write_text("Metadata-Version: 2.1\nName: site\nVersion: 1\n")
    points = distribution / "entry_points.txt"
    monkeypatch.syspath_prepend(tmp_path)
    for value in ("site_schemas", "site_schemas.shop"):
        points.write_text(f"[wukong_ranking.schemas]\nsite = {value}\n")
        importlib.invalidate_caches()
        assert catalog.schema_of("shop", environment={}).name == "shop"
    assert "site_schemas.shop" not in sys.modules


def test_commands_take_a_python_file_and_what_it_prints_is_no_answer(tmp_path, capsys):
    file = write(tmp_path, "print('hello')\n" + MODELS)
    assert features_main.main(["describe", f"--schema={file}", "--json"]) == 0
    described = json.loads(capsys.readouterr().out)
    assert (described["name"], described["file"]) == ("shop", str(file))
    assert features_main.main(["schema-yaml", f"--schema={file}"]) == 0
    written = tmp_path / "shop.py.yaml"
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["output"] == str(written)
    assert [path.name for path in discovery.files_of(tmp_path, "")] == ["shop.py"]
    assert features_main.main(["schema-yaml", f"--schema={written}"]) == 1
    assert "is no Python file" in capsys.readouterr().err


def test_what_a_built_in_name_declares_is_not_run(tmp_path):
    assert {data_set_of(name).path.suffix for name in names({})} == {".yaml"}
