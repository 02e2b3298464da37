"""Write what is made of ``infra/slo.yaml``: ``python -m infra.objectives``."""

from collections.abc import Callable

from infra.local.settings import REPOSITORY
from infra.objectives import grafana, rules
from infra.objectives.objectives import FILE, Objectives, parse
from infra.objectives.page import page

GENERATED: dict[str, Callable[[Objectives], str]] = {
    "infra/kubernetes/base/objectives.yaml": rules.operator,
    "infra/grafana/ranking-rules.yaml": rules.prometheus,
    "infra/grafana/ranking-alerts.yaml": grafana.alert_rules,
    "infra/grafana/ranking-objectives.json": grafana.dashboard,
    "docs/objectives.md": page,
}
"""What makes each file, by its path in the repository."""


def main() -> None:
    """Write all files."""
    objectives = parse(FILE.read_text(encoding="utf-8"))
    for path, make in GENERATED.items():
        (REPOSITORY / path).write_text(make(objectives), encoding="utf-8")


if __name__ == "__main__":
    main()
