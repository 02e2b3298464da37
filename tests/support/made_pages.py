"""One page of every kind, with contents as the pipeline makes them, and what strains them most."""

import datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from support.logs.made_days import made_days
from support.made_points import runs
from support.quality.made_overview import write_overview, write_results
from support.quality.made_quality import write_answers

from features.datasets.catalog import schema_of
from features.pages import site
from features.validation.quality_page import write_quality_page
from features.validation.quarantine.trend_page import write_trend_page
from training.evaluation.agreement import agreement
from training.evaluation.comparison import Holdout
from training.evaluation.evaluate import BaseRate, Evaluation
from training.evaluation.family_page import write_family_page
from training.evaluation.findings import GateConfig
from training.evaluation.gate import ANCHOR, CHAMPION, CONTROL, decide
from training.evaluation.reports import training_page, write_gate_page, write_training_page
from training.experiments.scaling.advice import Current, study
from training.experiments.scaling.page import write_law_page
from training.monitoring import drift_job
from training.monitoring.drift_page import drift_page, page_path
from training.registry.family_tree import Member

ROWS = 1_214
LADDER = 1e6 * 2.0 ** np.arange(6)
FACTS = {
    "parent": "1998-04-19-wukong-movielens-100k-a-rather-long-name",
    "trained_through": "1998-04-20",
    "days": 1,
    "examples": 412,
    "steps": 1,
    "recipe": "wukong-movielens",
}
NOT_SEEN = {"dead_units": None, "fmb_norm": None}
PARTS = [
    {
        **{"part": part, "step": step, "gradient": 0.0123, "update": 3.4e-4, "is_new": False},
        **({"dead_units": 0.03, "fmb_norm": 3.2} if "layer" in part else NOT_SEEN),
    }
    for step in (100, 500, 4_690)
    for part in ("tokens", *(f"layer {number}" for number in range(8)), "head")
]
POINT = {"step": 1, "loss": 0.61, "ne": 0.93, "calibration": 0.91}


def family():
    """Thirty days, of which one grew; names as long as they get."""
    members = []
    for number in range(30):
        name = f"1998-03-{number + 1:02d}-wukong-movielens"
        members.append(
            Member(
                name=name,
                parent=members[-1].name if members else None,
                generations_gone=2 if number == 7 else 0,
                recipe="wukong-movielens-x4" if number > 20 else "wukong-movielens",
                day=name[:10],
                trained_through=name[:10],
                examples=412,
                role="grown" if number == 20 else "",
                grown=("stack: l 2 to 3", "tables: dim 16 to 32") if number == 20 else (),
                dense_parameters=1_234_567,
                dense_training_flops=7.4e6,
                log_loss=0.5812,
                versions=(f"{name}-0123abcd",),
                aliases=("champion",) if number == 29 else (),
                decision="promote",
            )
        )
    return members


def write_gate(reports, *, is_trial=False):
    """The gate's report on made-up scores; of a trial: a drill that is refused, with a control."""
    generator = np.random.default_rng(0)
    truth = generator.beta(2, 3, ROWS)
    label = (generator.random(ROWS) < truth).astype(np.int64)
    rows = np.arange(ROWS)
    holdout = Holdout(
        label=label, group=rows % 97, example_id=rows, slices={"new users": rows % 97 < 40}
    )
    candidate = np.float32(truth[::-1] if is_trial else 0.75 * truth)
    scores = {CHAMPION: np.float32(0.6 * truth), ANCHOR: np.float32(0.5 + 0.1 * truth)}
    if is_trial:
        scores[CONTROL] = np.float32(truth)
    versions = {
        "candidate": "1998-04-20-0123abcd",
        CHAMPION: "1998-04-19-4567cdef",
        ANCHOR: "1998-03-23-89abef01",
        CONTROL: "1998-04-20-89abef01",
    }
    config = GateConfig()
    day = datetime.date(1998, 4, 20)
    evaluation = Evaluation(
        config=config,
        decision=decide(config, holdout, candidate, scores, base_rate=0.41),
        champion_version=versions[CHAMPION],
        rankers={name: ranker(versions[name]) for name in ("candidate", *scores)},
        scores={"candidate": candidate, **scores},
        days=[day],
        label=label,
        notes=["anchor 1998-03-22-0123abcd: cannot be scored: no such artifact"],
        agreement=agreement(candidate, scores[CHAMPION], holdout.group),
        base_rate=BaseRate(0.41, 91_203, datetime.date(1997, 9, 20), day),
        regret=0.0123 if is_trial else None,
        is_spoilt=is_trial,
    )
    name = family()[-1].name
    write_training_page(reports, "movielens-100k", name, [POINT], FACTS, PARTS)
    return write_gate_page(reports, "movielens-100k", day.isoformat(), evaluation, family())


def ranker(version):
    """Of an artifact, what the report says."""
    name = family()[-1].name
    return SimpleNamespace(
        manifest=SimpleNamespace(version=version, day=version[:10], checkpoint=name)
    )


def training(steps):
    """Of a run with so many noted steps."""
    points = [{**POINT, "step": 100 * n, "ne": 1.1 - 0.2 * n / steps} for n in range(1, steps + 1)]
    return training_page("movielens-100k", "1998-04-20-wukong-movielens", points, FACTS, PARTS)


def write_law(reports):
    """Three laws: a ladder of two families and a resource that does nothing."""

    def ladder(x):
        return 0.03 * (x / 1e6) ** -0.4 + 0.82

    points = [
        *runs(ladder, LADDER, axis="compute", unit="FLOPs an example"),
        *runs(
            lambda x: ladder(x) + 0.01,
            LADDER,
            axis="compute",
            unit="FLOPs an example",
            model="dlrm",
        ),
        *runs(lambda x: 0.83, LADDER, axis="rows", unit="rows of all tables"),
        *runs(lambda x: ladder(x) + 0.005, LADDER, axis="data", unit="examples"),
    ]
    current = Current(name="of today", model="wukong", x={"compute": LADDER[4]}, ne=0.8403)
    return write_law_page(reports, "trial", study(points, current))


def write_quality(reports):
    """A day that is stopped."""
    from features.validation.outcome import Outcome

    outcomes = [
        Outcome(
            table=table,
            rows=123_456,
            quarantined=quarantined,
            critical=['label rate: {"observed_value": 0.9912}; expected {"max_value": 0.8}'],
            reported=['rows against the trailing 7 days: {"observed_value": 123456}; expected {}'],
            broken_rules={"user_id is known": 1_201, "rating is between 1 and 5": 3},
            data_docs="movielens-100k/gx/uncommitted/data_docs/local_site/index.html",
        )
        for table, quarantined in (("impressions", 1_204), ("user_activity_within_the_day", 0))
    ]
    day = datetime.date(1998, 4, 20)
    return write_quality_page(reports, schema_of("movielens-100k"), "impressions", [day], outcomes)


def write_trend(reports):
    """Fourteen days of a quarantine; one rule begins to hold many rows."""
    days = [datetime.date(1998, 4, day) for day in range(7, 21)]
    shares = {
        "rating:range": dict.fromkeys(days, 0.002),
        "user_occupation_of_the_log:vocabulary": dict.fromkeys(days, 0.001) | {days[-1]: 0.07},
    }
    schema = schema_of("movielens-100k")
    return write_trend_page(reports, schema, "impressions", days, shares)[0]


def write_drift(reports):
    """A day of which two features drifted, one in a slice alone; names as long as they get."""
    shifts = {(30, "all", "f0"): 0.4, (30, "tenth", "f1"): 1.0}
    reference, history = made_days(1, rows=20_000, features=6, days=31, shifts=shifts)
    reference.about.update(
        version="1998-04-20-0123abcd",
        days=["1998-04-14", "1998-04-20"],
        scored_days=["1998-04-21", "1998-04-21"],
    )
    measured = {day: drift_job.measure(reference, one) for day, one in history.items()}
    day = max(history)
    compared = drift_job.compare(reference, history[day], measured, day)
    found = drift_job.summary(compared, since={})
    page = drift_page(f"movielens-100k: drift of {day}", compared, found, links=["evidently.html"])
    return site.write(page, reports, page_path("movielens-100k", "log", day))


def write_family(reports):
    """The family's own page."""
    return write_family_page(reports, "movielens-100k", family())


def demo_report():
    """The report of a demo, as ``report.build`` makes it."""
    gates = [
        {
            "day": f"1998-04-{day}",
            "decision": "promote",
            "reasons": ["log loss against the champion: -0.31% (-1.02% to +0.44%, 1214 rows)"],
            "metrics": {
                who: {"ne": 0.87 + 0.001 * day, "auc": 0.76, "calibration": 0.9, "log_loss": 0.58}
                for who in ("candidate", "champion")
            },
            "report": f"movielens-100k/gate/1998-04-{day}/index.html",
        }
        for day in (20, 21, 22)
    ]
    first = {**gates[0], "day": "1998-04-19"}
    first["metrics"] = {"candidate": first["metrics"]["candidate"], "champion": None}
    item = {"item": 50, "title": "Star Wars (1977)", "score": 0.9123, "rating": 5}
    return {
        "dataset": "movielens-100k",
        "history": ["1997-09-20", "1998-04-19"],
        "days": ["1998-04-20", "1998-04-21", "1998-04-22"],
        "seconds": 411.3,
        "peak_memory_mb": 4_311,
        "stages": [
            {"stage": "Airflow: features x3", "seconds": 71.2, "rows": 1_203_411, "peak_mb": 1_604}
        ]
        * 9,
        "tasks": [],
        "failed_tasks": ["1998-04-22 promote"],
        "bootstrap_gate": first,
        "gates": gates,
        "drill": {**gates[-1], "decision": "refuse", "reasons": ["worse"]},
        "answer": {
            "user": 405,
            "as_of": "1998-04-23T03:00:00+00:00",
            "model_version": "1998-04-22-0123abcd",
            "items": [{"rank": rank, **item} for rank in range(1, 16)],
        },
        "freshness": {
            **{"day": "1998-04-22", "times_real_time": 2_880, "impressions": 412, "late": 0},
            **{"p50_seconds": 2.31, "p99_seconds": 5.02, "declared_delay_seconds": 60},
        },
        "pages": "../reports",
        "urls": {
            "Airflow, after `make up`": "http://127.0.0.1:8080/dags/daily_ranking_movielens_100k",
            "endpoint, gRPC": "127.0.0.1:8082",
        },
    }


def overview(reports):
    """Its results are a world of their own, next to the pages."""
    write_results(reports)
    return Path("overview") / write_overview(reports, members=family())


def write_all(reports: Path) -> dict[str, Path]:
    """All of them but what Airflow serves, as files below ``reports``; by their kind."""
    from infra.demo.report import report_page

    made = {
        "training-of-one-step": training(1),
        "training-of-many-steps": training(120),
        "demo": report_page(demo_report()),
    }
    written = {
        "family": write_family(reports),
        "gate": write_gate(reports),
        "gate-of-a-trial": write_gate(reports, is_trial=True),
        "scaling": write_law(reports),
        "quality": write_quality(reports),
        "quarantine": write_trend(reports),
        "overview": overview(reports / "overview"),
        "answers": write_answers(reports),
        "drift": write_drift(reports),
        **{name: site.write(page, reports, Path(f"{name}.html")) for name, page in made.items()},
    }
    return {name: reports / path for name, path in written.items()}
