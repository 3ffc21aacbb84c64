"""Options that the benchmarks share, and the start of a run: its features and its record."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

from benchmarks.record import Problem, Run
from featplug.methods import feature_conf
from pipelines.run import FeatureOptions, plain

FAILURES = (ValueError, OSError, RuntimeError)
"""Errors that end one feature's measurement only; torch and COLMAP raise `RuntimeError` when they
run out of memory."""


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
    outputs/ and the name of the benchmark. Features, matches and models of an earlier run are
    reused."""

    @property
    def output_dir(self) -> Path:
        """Folder for everything."""
        return self.outputs or Path("outputs") / self.benchmark

    def weights_of(self, feature: str) -> str | None:
        """Return the weights requested for a feature, or None."""
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
    """Options of the benchmarks that use random numbers."""

    default_num_seeds: ClassVar[int] = 1

    seeds: tuple[int, ...] = ()
    """Seeds of all random numbers; the measurement is repeated with each."""
    num_seeds: int | None = None
    """Number of seeds, counted from 0, instead of --seeds; by default 3 for reconstructions, 1 for
    localization."""

    def chosen_seeds(self) -> tuple[int, ...]:
        """Return the seeds to use.

        Raises:
            ValueError: both options are given, a seed is given twice, or none is left.
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


def start_run(
    options: BenchmarkOptions, check: Callable[[str], object] | None = feature_conf
) -> tuple[list[str], Run]:
    """Choose the features that can be measured, each once, and begin the record of the run.

    Features that ``check`` raises an error for become problems of the run; None checks nothing.

    Raises:
        ValueError: no feature is requested, or weights are given for one that is not.
    """
    names = options.feature
    if not names:
        raise ValueError("--feature needs at least one name.")
    for name, _ in options.weights:
        if name not in names:
            raise ValueError(f"--weights has weights for {name}, which is not among the features.")
    run = Run(options.benchmark, plain(asdict(options)), data={})
    known = []
    for name in dict.fromkeys(names):
        try:
            if check is not None:
                check(name)
        except FAILURES as error:
            run.problems.append(problem_of(name, error))
            continue
        known.append(name)
        if names.count(name) > 1:
            run.problems.append(Problem(f"{name}, named again", "each feature is measured once"))
    return known, run


def deviation(**options: tuple[object, object]) -> str | None:
    """Return which options, pairs of a value and the protocol's, deviate; None does not."""
    deviating = [
        f"{name} {value} instead of {protocols}"
        for name, (value, protocols) in options.items()
        if value not in (None, protocols)
    ]
    return ", ".join(deviating) or None
