"""The reference of all variables, made from where they are declared: ``docs/configuration.md``."""

import runpy
from pathlib import Path

from features.environment import FEAST_VARIABLES, VARIABLES, Group, Variable
from features.pages import site
from infra.local.settings import REPOSITORY, Settings
from serving.settings import GROUPS, ClientTls, Secret
from training.artifact.aoti_cache import Compiling
from training.config.own_recipes import OwnRecipes
from training.data.batches import Reading
from training.distributed.hosts import Hosts, Waiting

PAGE = REPOSITORY / "docs" / "configuration.md"
_SERVING, _FEATURES = "serving/settings.py", "features/environment.py"
_AOTI, _DAGS = "training/artifact/aoti_cache.py", "dags/ranking_settings/variables.py"
_OWN = "training/config/own_recipes.py"
_BATCHES, _HOSTS = "training/data/batches.py", "training/distributed/hosts.py"


def reference() -> str:
    """The whole page."""
    # Airflow alone has the folder of the DAGs on its path.
    of_dags = runpy.run_path(str(REPOSITORY / _DAGS))["VARIABLES"]
    sections = [
        ("The endpoint", _SERVING, _rows(*GROUPS)),
        ("Commands that call the endpoint", _SERVING, _rows(Secret, ClientTls)),
        ("Native code, at an export and in the endpoint", _AOTI, _rows(Compiling)),
        ("Recipes of one's own", _OWN, _rows(OwnRecipes)),
        ("The input of a training", _BATCHES, _rows(Reading)),
        ("A training's ranks, on one host or several", _HOSTS, _rows(Waiting, Hosts)),
        ("Jobs, the push and the endpoint", _FEATURES, VARIABLES),
        ("The schedule", _DAGS, [Variable(name, *of_dags[name]) for name in of_dags]),
        ("The local stack", "infra/local/settings.py", _rows(Settings)),
        ("Feast's own command, in features/online_store/repo", _FEATURES, FEAST_VARIABLES),
    ]
    return site.markdown(Path(__file__).with_name("configuration.md.j2"), sections=sections)


def _rows(*groups: type[Group]) -> list[Variable]:
    return [row for group in groups for row in group.variables()]


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
