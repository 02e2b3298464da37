"""The reference of all variables, made from where they are declared: ``docs/configuration.md``."""

import runpy
from collections.abc import Iterable

from features.environment import FEAST_VARIABLES, VARIABLES, Group, Variable
from infra.local.settings import REPOSITORY, Settings
from serving.settings import GROUPS, ClientTls, Secret
from training.artifact.aoti_cache import Compiling

PAGE = REPOSITORY / "docs" / "configuration.md"
_HEAD = """# Configuration

Generated from the declarations by `make docs`. These are the variables of this repository; those
of Airflow, Spark and OpenTelemetry have the meanings that these tools give them. Where several
parts read a variable, each has a row for it, and one value must be set for all of them.
"""


def reference() -> str:
    """The whole page."""
    # Airflow alone has the folder of the DAGs on its path.
    of_dags = runpy.run_path(str(REPOSITORY / "dags" / "ranking_variables.py"))["VARIABLES"]
    return "\n".join(
        [
            _HEAD,
            *_section("The endpoint", "serving/settings.py", _rows(GROUPS)),
            *_section(
                "Commands that call the endpoint", "serving/settings.py", _rows([Secret, ClientTls])
            ),
            *_section(
                "Native code, at an export and in the endpoint",
                "training/artifact/aoti_cache.py",
                _rows([Compiling]),
            ),
            *_section("Jobs, the push and the endpoint", "features/environment.py", VARIABLES),
            *_section(
                "The schedule",
                "dags/ranking_variables.py",
                [Variable(name, *of_dags[name]) for name in of_dags],
            ),
            *_section("The local stack", "infra/local/settings.py", _rows([Settings])),
            *_section(
                "Feast's own command, in features/online_store/repo",
                "features/environment.py",
                FEAST_VARIABLES,
            ),
        ]
    )


def _rows(groups: Iterable[type[Group]]) -> list[Variable]:
    return [row for group in groups for row in group.variables()]


def _section(reader: str, declared: str, rows: Iterable[Variable]) -> list[str]:
    return [
        f"## {reader}",
        "",
        f"Declared in `{declared}`.",
        "",
        "| variable | values | default | meaning |",
        "| --- | --- | --- | --- |",
        *(f"| `{row.name}` | {row.values} | {row.default} | {row.meaning} |" for row in rows),
        "",
    ]


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
