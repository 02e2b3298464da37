"""Each spoilt line of a schema file ends in an error that names the line and the key."""

import json
import re
from pathlib import Path

import pytest

from features import __main__ as features_main

GOOD = (Path(__file__).parent / "shop.yaml").read_text().splitlines()
PLACES = [number for number, line in enumerate(GOOD) if re.match(r"[\s-]*\w+:", line)]


def described(capsys, path):
    """Exit code and the lines of the error, of a command line that has no traceback."""
    code = features_main.main(["describe", f"--schema={path}"])
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    summary = json.loads(printed.out.splitlines()[-1])
    assert ("error" in summary) == (code == 1)
    return code, summary.get("error", "").splitlines()


def test_the_good_file_is_accepted(capsys):
    assert described(capsys, Path(__file__).parent / "shop.yaml") == (0, [])


def test_there_are_at_least_fifty_of_them():
    assert len(PLACES) >= 50


@pytest.mark.parametrize("number", PLACES)
def test_a_value_of_another_kind_is_named_with_its_line(capsys, tmp_path, number):
    """A mapping with an odd key is the value of no key, and is none of what was below it."""
    key = re.match(r"[\s-]*(\w+):", GOOD[number])[1]
    spoilt = [*GOOD]
    anchor = re.search(r" &\w+", GOOD[number])
    start = GOOD[number].partition(":")[0]
    spoilt[number] = f"{start}:{anchor[0] if anchor else ''} {{odd one: 7}}"
    indent = len(GOOD[number]) - len(GOOD[number].lstrip(" -"))
    below = number + 1
    while below < len(spoilt) and len(spoilt[below]) - len(spoilt[below].lstrip(" -")) > indent:
        del spoilt[below]
    path = tmp_path / "shop.yaml"
    path.write_text("\n".join(spoilt) + "\n")
    code, lines = described(capsys, path)
    assert code == 1
    assert all(re.match(rf"{re.escape(str(path))}:\d+: ", line) for line in lines), lines
    named = [line for line in lines if re.match(rf"{re.escape(str(path))}:{number + 1}: ", line)]
    assert any(key in line for line in named), (key, lines)
