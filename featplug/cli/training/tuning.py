"""The command that tunes trained weights."""

from __future__ import annotations

from pathlib import Path

import tyro

from featplug.cli.training.common import Run
from featplug.training.tasks.tune import TunableFeature, TuneOptions, TuneTask
from featplug.training.trainer import process_device


def tune(
    run: tyro.conf.OmitArgPrefixes[Run],
    feature: TunableFeature,
    start: Path,
    max_keypoints: int = 1000,
    temperature: float = 0.08,
    recall_weight: float = 0.0,
    learning_rate: float = 1e-4,
) -> None:
    """Tune trained descriptors so that keypoints without counterpart find no match.

    Args:
        run: where, how long, and how precisely.
        feature: what the weights are of.
        start: trained weights.
        max_keypoints: of a view, the strongest.
        temperature: of the softened nearest neighbours, in deviations of all similarities.
        recall_weight: of the part of right matches that are found, beside the part of matches
            that are right.
        learning_rate: of Adam; it falls to 0.
    """
    options = TuneOptions(
        feature,
        start,
        run.images,
        max_keypoints=max_keypoints,
        temperature=temperature,
        recall_weight=recall_weight,
        learning_rate=learning_rate,
    )
    run.train(TuneTask(options, run.seed, process_device(run.device)))
