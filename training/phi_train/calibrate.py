"""How likely a copied line is right, and from which probability on lines are shown: fitted to packages neither learnt from nor judged on.

Writes calibration.json; what it says is put by hand into the server (local_completion.py, the default of `min_probability`), so that a
change of behaviour is a change of code. `evaluate` then measures the result once, on the held-out packages.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
from pathlib import Path

import numpy as np

from phi_server import local_completion
from phi_server.settings import Settings
from phi_train import answers
from phi_train.corpus import SourceFile, fraction, read_jsonl
from phi_train.cursors import HEADLINE_KINDS, cursors

GOAL = 0.6
"""Right, of what is shown."""
THRESHOLDS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def run(work: Path, folder: Path, toy: bool) -> None:
    """Writes calibration.json into `work`."""
    files = in_order(read_jsonl(work / "calibration.jsonl"))
    seeds, count = (1, 8) if toy else (4, 2000)
    places = {(c.path, len(c.before)): c for seed in range(seeds) for c in cursors(files, count, random.Random(seed))}.values()
    copies = [(copy, cursor.is_right(copy.line)) for cursor in places if (copy := answers.match(cursor)) is not None]
    asked = cursors(files, 8 if toy else 500, random.Random(7))
    found = [answer for answer in asyncio.run(answers.answers(folder, asked)) if answer.cursor.kind in HEADLINE_KINDS]
    shown = [(a.probability if a.shown.strip() else 0.0, a.cursor.is_right(a.shown)) for a in found]
    shares, least = np.array([is_right for _, is_right in copies], dtype=float), gate(shown)
    features = np.array([[1.0, math.log(copy.matched), math.log(1 + len(copy.line))] for copy, _ in copies])
    facts = {
        "copies": len(copies),
        "fitted": [round(float(weight), 2) for weight in logistic(features, shares)] if len(copies) > 100 else None,
        "in_use": [local_completion.INTERCEPT, local_completion.PER_LOG_MATCHED, local_completion.PER_LOG_LENGTH],
        "copies_by_estimate": by_probability([(copy.probability, is_right) for copy, is_right in copies]),
        "cursors": len(found),
        "shown_by_probability": by_probability(shown),
        "least_probability_for_goal": least,
        "min_probability_in_use": Settings().min_probability,
    }
    (work / "calibration.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(facts, indent=1))


def in_order(files: list[SourceFile]) -> list[SourceFile]:
    """Mixed, and the same in every run."""
    return sorted(files, key=lambda file: fraction("evaluate/" + file.package + "/" + file.path))


def logistic(features: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The weights of a logistic regression, by Newton's method."""
    weights = np.zeros(features.shape[1])
    for _ in range(50):
        odds = 1 / (1 + np.exp(-features @ weights))
        slope = features.T @ (odds - right) + 0.01 * weights
        curvature = (features * (odds * (1 - odds))[:, None]).T @ features + 0.01 * np.eye(len(weights))
        weights -= np.linalg.solve(curvature, slope)
    return weights


def gate(shown: list[tuple[float, bool]]) -> float | None:
    """The least probability from which on the goal is met; None where it is not."""
    best, right = None, 0
    for count, (probability, is_right) in enumerate(sorted(shown, reverse=True), 1):
        right += is_right
        if right >= GOAL * count:
            best = round(probability, 3)
    return best


def by_probability(shown: list[tuple[float, bool]]) -> list[dict[str, float]]:
    """For each step of the estimate: how many there are, and how many of them are right."""
    rows = []
    for low in THRESHOLDS:
        inside = [is_right for probability, is_right in shown if low <= probability < low + 0.1 + (low == THRESHOLDS[-1])]
        rows.append({"from": low, "count": len(inside), "right": round(sum(inside) / len(inside), 3) if inside else 0.0})
    return rows
