"""A request's fields are flags: types, defaults, choices, and what is wrong about it."""

import datetime
import enum
from pathlib import Path
from typing import Literal

import pytest

from features.options import OfDays, folder, from_flags, local_folder, option, parse
from features.places import Place, place


class Precision(enum.StrEnum):
    FLOAT32 = "float32"
    BF16 = "bf16"


def at_least_one(text):
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"{text!r}: a whole number, at least 1")
    return int(text)


@from_flags
class MeasureRequest(OfDays):
    """Measure it.

    At length.
    """

    lake: Place = folder("lake", "the tables")
    compiled: Path = local_folder("compiled", "native code")
    rows: tuple[int, ...] = option("sizes", default=(10, 20))
    source: str | None = option("what to go on from", flag="--from", default=None)
    ranks: int | None = option("processes", parse=at_least_one, default=None)
    precision: Precision = option("of the dense part", default=Precision.FLOAT32)
    mode: Literal["small", "large"] = option("which one, of 5 % or all", default="small")
    is_dry: bool = option("change nothing", flag="--dry-run", default=False)
    result: Place | None = option("", default=None)


def request(*arguments):
    return parse(MeasureRequest, prog="measure", arguments=["--date=2025-06-01", *arguments])


def test_what_is_not_given_has_its_default(monkeypatch):
    monkeypatch.setenv("RANKING_VAR", "/elsewhere")
    assert request() == MeasureRequest(
        date=datetime.date(2025, 6, 1),
        to=None,
        lake=place("/elsewhere/lake"),
        compiled=Path("/elsewhere/compiled"),
        rows=(10, 20),
        source=None,
        ranks=None,
        precision=Precision.FLOAT32,
        mode="small",
        is_dry=False,
        result=None,
    )


def test_what_is_given_has_the_type_of_its_field():
    asked = request(
        *("--rows", "1", "2", "3", "--from=newest", "--ranks=4", "--precision=bf16"),
        *("--mode=large", "--dry-run", "--to=2025-06-03", "--result=found.json"),
    )
    assert (asked.rows, asked.source, asked.ranks) == ((1, 2, 3), "newest", 4)
    assert asked.precision is Precision.BF16
    assert (asked.mode, asked.is_dry, asked.result) == ("large", True, place("found.json"))
    assert [day.day for day in asked.days] == [1, 2, 3]


def test_data_are_below_the_root_and_what_is_no_data_is_on_this_machine(monkeypatch):
    monkeypatch.setenv("RANKING_VAR", "/elsewhere")
    monkeypatch.setenv("RANKING_ROOT", "s3://bucket/prefix")
    assert request().lake == place("s3://bucket/prefix/lake")
    assert request().compiled == Path("/elsewhere/compiled")
    assert request("--lake=s3://other/lake").lake == place("s3://other/lake")
    assert request("--lake=file:/data/lake").lake == Path("/data/lake")


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ("--ranks=0", "argument --ranks: '0': a whole number, at least 1"),
        ("--date=June", "argument --date: Invalid isoformat string: 'June'"),
        ("--precision=int3", "argument --precision: invalid choice: 'int3' (choose from"),
        ("--mode=tiny", "argument --mode: invalid choice: 'tiny' (choose from"),
        ("--rows=many", "argument --rows: invalid int value: 'many'"),
        ("--to=2025-05-31", "--to: 2025-05-31; not before --date 2025-06-01"),
        ("--lake=ftp://host/lake", "argument --lake: place ftp://host/lake: scheme ftp; a path"),
        ("--unknown=1", "unrecognized arguments: --unknown=1"),
    ],
)
def test_wrong_usage_says_what_is_wrong_and_ends_with_2(wrong, why, capsys):
    with pytest.raises(SystemExit) as ended:
        request(wrong)
    assert ended.value.code == 2
    assert why in capsys.readouterr().err


def test_help_has_text_defaults_and_nothing_that_is_not_for_people(capsys):
    with pytest.raises(SystemExit):
        request("--help")
    shown = " ".join(capsys.readouterr().out.split())
    assert "Measure it. At length." in shown
    assert "--rows ROWS [ROWS ...] sizes (default: (10, 20))" in shown
    assert "which one, of 5 % or all (default: small)" in shown
    assert "--result" not in shown


def test_a_request_does_not_change():
    with pytest.raises(AttributeError, match="cannot assign"):
        request().ranks = 2


@from_flags
class OfSeveralRequest:
    """Several of them."""

    sizes: tuple[int, ...] = option("a size", flag="--size", parse=at_least_one, is_repeated=True)


def test_a_flag_that_is_repeated_has_a_value_each_time_and_is_there_once_at_least(capsys):
    def sizes(*arguments):
        return parse(OfSeveralRequest, prog="several", arguments=list(arguments)).sizes

    assert sizes("--size=3") == (3,)
    assert sizes("--size=3", "--size", "1") == (3, 1)
    for wrong in ((), ("--size=3", "--size=none"), ("--size", "3", "1")):
        with pytest.raises(SystemExit):
            sizes(*wrong)
    assert "'none': a whole number, at least 1" in capsys.readouterr().err
