"""The calibration of the confidence, and the precision of accepted poses."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.pose_confidence import Outcome, fit_weights, precision_table, read_outcomes
from featplug.localization.confidence import PoseEvidence, terms

CERTAIN = PoseEvidence(100, 90, -100.0, num_places=30, instability=0.001)
DOUBTFUL = PoseEvidence(100, 20, -10.0, num_places=5, instability=0.01, rivalry=0.8)


def outcome(evidence: PoseEvidence | None, is_right: bool, condition: str = "day") -> Outcome:
    return Outcome("sift", condition, evidence, is_right)


def test_the_fitted_weights_are_those_that_made_the_outcomes() -> None:
    rng = np.random.default_rng(0)
    true = {"bias": -6.0, "places": 1.5, "rivalry": 3.0, "instability": -1.2}
    found = []
    for _ in range(4000):
        evidence = PoseEvidence(
            100,
            50,
            -50.0,
            num_places=int(rng.integers(2, 40)),
            instability=float(10 ** rng.uniform(-4, -1)),
            rivalry=float(rng.uniform(0, 0.9)),
        )
        logit = sum(true[name] * value for name, value in terms(evidence).items())
        found.append(outcome(evidence, bool(rng.random() < 1 / (1 + np.exp(-logit)))))
    chance = PoseEvidence(5, 5, 2.0, num_places=5, instability=0.001)
    fitted = fit_weights([*found, *[outcome(chance, False)] * 500, outcome(None, False)])
    assert fitted.keys() == true.keys()
    for name, weight in true.items():
        assert abs(fitted[name] - weight) < 0.25 * abs(weight)


def test_precision_is_of_accepted_poses_alone() -> None:
    found = [
        *[outcome(CERTAIN, True)] * 9,
        outcome(CERTAIN, False),
        outcome(DOUBTFUL, False),
        outcome(None, False, "night"),
    ]
    head, of_all, of_day, of_night = (line.split() for line in precision_table(found))
    assert head[:2] == ["feature", "queries"]
    assert of_all[1:8] == ["all", "10", "of", "12", "9", "90.0", "%"]
    assert of_day[1:8] == ["day", "10", "of", "11", "9", "90.0", "%"]
    assert of_night[1:6] == ["night", "0", "of", "1", "0"]


def test_outcomes_are_read_from_logs() -> None:
    pose = np.eye(4)[:3]
    entry: dict[str, Any] = {"cam_from_world": pose.tolist(), "evidence": vars(CERTAIN)}
    log = {"query/day/a.jpg": entry, "query/night/b.jpg": {"cam_from_world": None}}
    near, far = pose.copy(), pose.copy()
    near[0, 3], far[0, 3] = 0.4, 0.6
    for truth, is_right in ((near, True), (far, False)):
        found = list(read_outcomes("sift", log, dict.fromkeys(log, truth)))
        assert found == [
            Outcome("sift", "day", CERTAIN, is_right),
            Outcome("sift", "night", None, False),
        ]
