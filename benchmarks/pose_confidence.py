"""The confidence of poses in demo towns: its calibration, and the precision of accepted poses.

``python -m benchmarks.pose_confidence`` renders ten towns, 60 photographs in the database and 60
queries by day, dusk and night each, localizes the queries with ``sift`` and with 2,000 keypoints of
``mtldesc``, fits the weights of :mod:`featplug.localization.confidence` to the first towns, and
reports precision and recall in the others.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.console import table_lines
from featplug.cli.command_line import run_command
from featplug.io.typed_json import read_json
from featplug.localization.confidence import LEAST_CONFIDENCE, PoseEvidence, confidence, terms
from featplug.localization.log import LOGS
from featplug.metrics.poses import absolute_pose_errors
from pipelines.datasets.aachen import AachenOptions
from pipelines.datasets.demo import DemoOptions, make_demo_world
from pipelines.localize import localize
from pipelines.run_options import FeatureOptions

METHODS = {"sift": None, "mtldesc": 2000}
"""Features, and the number of their keypoints; None for their own."""
_NUM_DATABASE, _NUM_QUERIES, _NUM_RETRIEVED = 60, 20, 20
_RIGHT = 0.5, 5.0
"""Errors in metres and degrees up to which a pose is right."""


@dataclass(frozen=True)
class Outcome:
    """A query, and the evidence for its pose."""

    feature: str
    condition: str
    evidence: PoseEvidence | None
    """None where no pose was found."""
    is_right: bool

    @property
    def is_accepted(self) -> bool:
        """Whether the query is localized."""
        return self.evidence is not None and self.evidence.doubt is None


def outcomes(seed: int, outputs: Path, progress: bool = False) -> Iterator[Outcome]:
    """Localize the queries of a town with each feature."""
    options = DemoOptions(seed=seed, num_database=_NUM_DATABASE, num_queries=_NUM_QUERIES)
    town = make_demo_world(outputs / f"town-{seed}", options, progress=progress)
    for feature, num_keypoints in METHODS.items():
        run = AachenOptions(
            town,
            extraction=FeatureOptions(feature=feature, max_keypoints=num_keypoints),
            outputs=outputs / f"{feature}-{seed}",
            num_loc=_NUM_RETRIEVED,
        )
        localize(run, progress)
        log, truth = read_json(run.output_dir / LOGS)["loc"], run.open().truth() or {}
        yield from read_outcomes(feature, log, truth)


def read_outcomes(
    feature: str, log: Mapping[str, Mapping[str, object]], truth: Mapping[str, np.ndarray]
) -> Iterator[Outcome]:
    """Read the outcomes of a run.

    Args:
        feature: name of the feature.
        log: query, named ``query/CONDITION/…``, to its entry in ``logs.json``.
        truth: query to its true pose.
    """
    for name, entry in log.items():
        evidence, is_right = None, False
        if entry.get("evidence") is not None:
            evidence = PoseEvidence(**entry["evidence"])  # type: ignore[arg-type]
            pose = np.array(entry["cam_from_world"])
            errors = absolute_pose_errors({name: pose}, {name: truth[name]})
            is_right = errors.position[0] <= _RIGHT[0] and errors.rotation[0] <= _RIGHT[1]
        yield Outcome(feature, name.split("/")[1], evidence, bool(is_right))


def fit_weights(found: Sequence[Outcome]) -> dict[str, float]:
    """Fit the weights of the confidence to poses that chance does not explain."""
    from sklearn.linear_model import LogisticRegression  # which takes a second to import

    weighed = [(o.evidence, o.is_right) for o in found if o.evidence and not o.evidence.is_chance]
    rows = [terms(evidence) for evidence, _ in weighed]
    names = list(rows[0])
    values = np.array([[row[name] for name in names] for row in rows])
    fitted = LogisticRegression(C=100, fit_intercept=False).fit(values, [ok for _, ok in weighed])
    return dict(zip(names, fitted.coef_[0].round(2).tolist(), strict=True))


def precision_table(found: Sequence[Outcome]) -> list[str]:
    """Return precision and recall of the accepted poses, and the mean confidence of the poses."""
    cells = [["feature", "queries", "accepted", "right", "precision", "right of all", "confidence"]]
    for feature in dict.fromkeys(outcome.feature for outcome in found):
        of_feature = [outcome for outcome in found if outcome.feature == feature]
        for condition in dict.fromkeys(["all", *(o.condition for o in of_feature)]):
            chosen = [o for o in of_feature if condition in ("all", o.condition)]
            accepted = [outcome for outcome in chosen if outcome.is_accepted]
            num_right = sum(outcome.is_right for outcome in accepted)
            means = [confidence(o.evidence) for o in accepted if o.evidence is not None]
            cells.append(
                [
                    feature,
                    condition,
                    f"{len(accepted)} of {len(chosen)}",
                    str(num_right),
                    f"{100 * num_right / max(len(accepted), 1):.1f} %",
                    f"{100 * num_right / len(chosen):.1f} %",
                    f"{np.mean(means):.3f}" if means else "",
                ]
            )
    return table_lines(cells, "<<")


def main(
    outputs: Path = Path("outputs/pose-confidence"),
    calibration: tuple[int, ...] = (0, 1, 2, 3, 4),
    reported: tuple[int, ...] = (5, 6, 7, 8, 9),
) -> None:
    """Calibrate the confidence of poses in some towns, and measure it in others.

    Args:
        outputs: folder of towns and runs, which are resumed.
        calibration: seeds of the towns that the weights are fitted to; none to fit none.
        reported: seeds of the towns that precision is measured in.
    """
    for title, seeds in (("calibration", calibration), ("reported", reported)):
        found = [o for seed in seeds for o in outcomes(seed, outputs, progress=True)]
        if found and title == "calibration":
            print("weights:", fit_weights(found))
        if found:
            print(f"{title}, seeds {', '.join(map(str, seeds))}, from {LEAST_CONFIDENCE:g} on:")
            print("\n".join(precision_table(found)))


if __name__ == "__main__":
    run_command(main, prog="python -m benchmarks.pose_confidence")
