"""Options that the benchmarks share, the choice of features and seeds, and what failed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from benchmarks.record import Problem
from featplug.methods import feature_conf
from pipelines.run import FeatureOptions

FAILURES = (ValueError, OSError, RuntimeError)
"""Errors that cost one feature only; the last is torch's and COLMAP's, such as out of memory."""


@dataclass(frozen=True, kw_only=True)
class BenchmarkOptions:
    """Options of every benchmark."""

    benchmark: ClassVar[str]
    """Name of the benchmark, as in its record."""

    feature: tuple[str, ...] = ("sift",)
    """Names of the features."""
    weights: tuple[tuple[str, str], ...] = ()
    """Pairs of a feature and its weights, which are official, featplug or a file: --weights doap
    own.safetensors."""
    device: str | None = None
    """Device of torch, such as cpu or cuda:1; by default the best one."""
    outputs: Path | None = None
    """Folder for results.json, which benchmarks.report reads, and all other files; by default
    outputs/ and the name of the benchmark. Features, matches and models that it already has are
    used again."""

    @property
    def output_dir(self) -> Path:
        """Folder for everything."""
        return self.outputs or Path("outputs") / self.benchmark

    def weights_of(self, feature: str) -> str | None:
        """Return the choice of a feature's weights."""
        return dict(self.weights).get(feature)


@dataclass(frozen=True, kw_only=True)
class KeypointOptions(BenchmarkOptions):
    """Options of the benchmarks that extract features from photographs."""

    max_keypoints: int | None = None
    """Number of keypoints to keep of each image, the strongest by score; by default all that the
    feature finds."""

    def extraction(self, feature: str, overwrite: bool = False) -> FeatureOptions:
        """Return the options with which pipelines extract one of the features."""
        return FeatureOptions(
            feature,
            max_keypoints=self.max_keypoints,
            weights=self.weights_of(feature),
            device=self.device,
            overwrite=overwrite,
        )


@dataclass(frozen=True, kw_only=True)
class SeedOptions:
    """Options of the benchmarks that repeat what is random."""

    default_num_seeds: ClassVar[int] = 1

    seeds: tuple[int, ...] = ()
    """Seeds of everything random; the measurement is repeated with each."""
    num_seeds: int | None = None
    """Number of seeds, counted from 0, in place of --seeds; by default 3 for reconstructions, 1 for
    localization."""

    def chosen_seeds(self) -> tuple[int, ...]:
        """Return the seeds to use.

        Raises:
            ValueError: both options are given, a seed is given twice, or there are none.
        """
        if self.seeds and self.num_seeds is not None:
            raise ValueError("Give --seeds or --num-seeds, not both.")
        if self.num_seeds is not None and self.num_seeds < 1:
            raise ValueError(f"--num-seeds must be above 0, not {self.num_seeds}.")
        for seed in self.seeds:
            if self.seeds.count(seed) > 1:
                raise ValueError(f"The seed {seed} is given twice.")
        return tuple(self.seeds or range(self.num_seeds or self.default_num_seeds))


def problem_of(subject: str, error: Exception) -> Problem:
    """Turn an error into a problem: the first line of its message."""
    return Problem(subject, str(error).splitlines()[0] if str(error) else repr(error))


def choose_features(
    names: Sequence[str],
    weights: Mapping[str, str] | None = None,
    check: Callable[[str], object] | None = feature_conf,
) -> tuple[list[str], list[Problem]]:
    """Choose the features that can be measured, each once.

    Args:
        names: requested features.
        weights: feature to its weights.
        check: raises for an unknown feature; None checks nothing.

    Returns:
        The features, and the problems of the others.

    Raises:
        ValueError: no feature is requested, or there are weights for another one.
    """
    if not names:
        raise ValueError("Name at least one feature.")
    for name in weights or {}:
        if name not in names:
            raise ValueError(f"There are weights for {name}, which is not among the features.")
    known, problems = [], []
    for name in dict.fromkeys(names):
        try:
            if check is not None:
                check(name)
        except FAILURES as error:
            problems.append(problem_of(name, error))
            continue
        known.append(name)
        if names.count(name) > 1:
            problems.append(Problem(f"{name}, named again", "each feature is measured once"))
    return known, problems


def asked_for(**options: object) -> str | None:
    """Return why published numbers do not hold where a protocol's own settings were replaced.

    Args:
        options: name to the requested value; None where the protocol's own setting is used.
    """
    named = [f"{name} {value}" for name, value in options.items() if value is not None]
    return f"{', '.join(named)} asked for, in place of the protocol's" if named else None
