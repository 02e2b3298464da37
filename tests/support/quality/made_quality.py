"""A page of the quality of answers: a broken champion, a canary, nine days of history."""

import copy
import datetime

import numpy as np
from support.quality.quality_logs import scored

from features.pages import site
from training.monitoring.quality.age import age_curve
from training.monitoring.quality.day import Outcome
from training.monitoring.quality.estimate import estimated_figures
from training.monitoring.quality.figures import Resampling, measured_figures
from training.monitoring.quality.job import seen_by_age
from training.monitoring.quality.page import quality_page
from training.monitoring.quality.results import MEASURED, QualityDay, difference

HOW = Resampling(draws=50)
DAY = datetime.date(2025, 3, 12)
LONG = "2025-03-02-0123456789abcdef"


def version(name: str, role: str, rows, label, **values):
    """What a day says of a version."""
    estimated, measured = estimated_figures(rows, HOW), measured_figures(rows, label, HOW)
    off = difference(estimated, measured)
    return {
        **{"version": name, "role": role, "learnt_through": "2025-03-02", "age_days": 10},
        **{"logged_answers": rows.num_answers, "logged_rows": len(rows), "bad_scores": 0},
        **{"found_rows": len(rows), "requests": rows.num_answers, "training_ne": 0.71},
        **{"champion_ne": 0.71, "is_broken": False, "reason": "calibration 1.0 (0.9 to 1.1)"},
        **{"estimated": estimated, "estimate_shift": 0.0, "estimated_of_found": estimated},
        **{"measured": measured, "estimate_off": off, "estimate_off_of_found": off},
        **{"logit_shift": 0.01, **values},
    }


def parts(name: str, role: str, rows, label):
    """Rows of the day's slices and hours."""
    return [
        {
            **{"version": name, "role": role, "kind": MEASURED, "slice": of, "hour": hour},
            **{"requests": rows.take(part).num_answers, "rows": int(part.sum()), "weight": 1.0},
            "figures": measured_figures(rows.take(part), label[part], HOW),
        }
        for of, hour, part in rows.parts()
    ]


def write_answers(reports) -> str:
    """The page of a day; its history grows old by 2 % a day."""
    rows, label = scored(120)
    reason = "calibration 0.6512 (0.6120 to 0.6931); bounds 0.8 to 1.25"
    result: QualityDay = {
        **{"format_version": 1, "dataset": "synthetic-shop", "day": str(DAY), "state": MEASURED},
        **{"joined_by": "answer_id and item", "logged_rows": 2_400, "found_rows": 2_400},
        **{"not_found_rows": 12_345, "other_key_rows": 3, "impressions": 987_654},
        **{"calibration_bounds": [0.8, 1.25], "ne_margin": 0.05, "min_requests": 100},
        **{"draws": 50, "seed": 0},
        "versions": [
            version(LONG, "champion", rows, label, is_broken=True, reason=reason),
            version("2025-03-11-fedcba9876543210", "canary", rows, label),
        ],
    }
    history = []
    for age in range(1, 11):
        day = copy.deepcopy(result)
        day["day"] = str(DAY - datetime.timedelta(days=10 - age))
        for one in day["versions"]:
            one["age_days"] = age
            one["measured"]["ne"]["value"] *= 1.02 ** (age - 10)
        history.append(day)
    measured = {f"{LONG}, champion": (rows, np.asarray(label))}
    outcome = Outcome(result, parts(LONG, "champion", rows, label), measured)
    page = quality_page(outcome, history, age_curve(seen_by_age(history), loss=0.01, draws=50))
    return site.write(page, reports, "synthetic-shop/quality/day/index.html")
