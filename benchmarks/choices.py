"""Options that the benchmarks share, and the start of a run: its methods and its record."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, TypeVar

from benchmarks.measured_method import (
    NO_FILES,
    MeasuredMethod,
    find_method,
    given_files,
)
from benchmarks.record import Problem, Run
from featplug.io.files import write_whole_text
from featplug.methods import Conf, is_pair_matcher, matcher_conf, pair_matchers
from featplug.methods.method_names import option_word
from featplug.methods.method_options import resized, with_options
from featplug.stages.shared_options import MatcherOptions, MethodOptions
from featplug.utils.errors import described, first_line
from pipelines.run_options import FeatureOptions, plain

FAILURES = (Exception, SystemExit)
"""Errors that end one method's measurement only: methods of others may raise any."""
DEFAULT = "sift"
"""Feature that is measured where no method is requested."""

MEASURED_NOW = ".measuring"
"""File in the folder of a run with the name of the method that is being measured."""

_Subject = TypeVar("_Subject", bound=MeasuredMethod | str)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class BenchmarkOptions(MethodOptions):
    """Options of every benchmark."""

    benchmark: ClassVar[str]
    """Name of the benchmark, as in its record."""
    runs_alone: ClassVar[bool] = False
    """Whether a suite measures nothing else at the same time, since its figures are times."""

    feature: tuple[str, ...] = ()
    """Names of the methods, such as sift, aliked-n16+lightglue, lisrd@mtldesc, loftr or
    my_file.py:Class; by default sift."""
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

    @property
    def without_effect(self) -> tuple[str, ...]:
        """Options that change nothing as the others are; a suite leaves out those it shares."""
        return ()

    def weights_of(self, feature: str) -> str | None:
        """Return the weights requested for a feature, or None."""
        return dict(self.weights).get(feature)


@dataclass(frozen=True, kw_only=True)
class KeypointOptions(BenchmarkOptions):
    """Options of the benchmarks that extract features from photographs."""

    max_keypoints: int | None = None
    """Number of keypoints to keep of each image, the strongest by score; by default all that the
    feature finds. Models, queries and given matches need feature files that have no more."""
    resize_max: int | None = None
    """Longest side in pixels that larger photographs are reduced to before anything is extracted;
    -1 keeps their size, the default is each method's own."""
    option: tuple[tuple[str, str], ...] = ()
    """Pairs of a method and an option of it: --option mtldesc detection_threshold=0.1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_max_keypoints("--max-keypoints", self.max_keypoints)

    @property
    def features_folder(self) -> Path:
        """Folder for extracted features."""
        return self.output_dir / "features"

    def options_of(self, name: str) -> tuple[str, ...]:
        """Return the options requested for a method, each as NAME=VALUE."""
        return tuple(value for method, value in self.option if method == name)

    def extraction(self, method: MeasuredMethod, overwrite: bool = False) -> FeatureOptions:
        """Return the options with which pipelines extract the features of a method."""
        return FeatureOptions(
            method.feature,
            features=method.features,
            max_keypoints=None if method.features else self.max_keypoints,
            resize_max=None if method.features else self.resize_max,
            option=self.options_of(method.name),
            weights=self.weights_of(method.name),
            device=self.device,
            overwrite=overwrite,
        )

    def pair_matcher_conf(self, method: MeasuredMethod) -> Conf:
        """Return the conf of a matcher of two images with the requested options.

        Raises:
            ValueError: it has no such option.
        """
        conf, weights = method.conf, self.weights_of(method.name)
        if weights is not None:
            conf = {**conf, "model": {**conf["model"], "weights": weights}}
        conf = with_options(pair_matchers, conf, self.options_of(method.name), "option")
        return resized(conf, self.resize_max)

    def variant(self, method: MeasuredMethod) -> str:
        """Return the end of a file's name that tells these options from the default ones."""
        words = [] if self.max_keypoints is None else [f"n{self.max_keypoints}"]
        words += [] if self.resize_max is None else [f"resize{self.resize_max}"]
        words += map(option_word, self.options_of(method.name))
        return "".join(f"-{word}" for word in words)


@dataclass(frozen=True, kw_only=True)
class FileOptions(MatcherOptions, KeypointOptions):
    """Options of the benchmarks that measure files of any tool as well."""

    features: tuple[str, ...] = ()
    """Feature files to measure, each as NAME=FILE: sift=feats.h5, mine+NN-ratio=own.h5. A NAME that
    is no feature needs +MATCHER, --matcher, or --matches."""
    matches: tuple[str, ...] = ()
    """Match files to measure instead of matching, each as NAME=FILE."""


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


def check_max_keypoints(subject: str, number: int | None) -> None:
    """Raise ValueError if a number of keypoints is none; ``subject`` begins the message."""
    if number is not None and number < 1 and number != -1:
        raise ValueError(f"{subject} must be 1 or more, or -1 for all, not {number}.")


def problem_of(subject: str, error: BaseException) -> Problem:
    """Turn an error into a problem: the first line of its message."""
    logger.debug("%s", subject, exc_info=error)
    is_explained = isinstance(error, ValueError | OSError | RuntimeError)
    return Problem(subject, first_line(error) if is_explained else described(error))


def start_run(
    options: BenchmarkOptions, find: Callable[[str], _Subject]
) -> tuple[list[_Subject], Run]:
    """Find what can be measured, each once, and begin the record of the run.

    Names that ``find`` raises an error for become problems of the run.

    Raises:
        ValueError: weights are given for a method that is not requested.
    """
    return _start(options, options.feature or (DEFAULT,), find)


def start_methods(
    options: FileOptions, matcher: str | None = None
) -> tuple[list[MeasuredMethod], Run]:
    """Find the methods that can be measured, and begin the record; see :func:`start_run`.

    Args:
        options: options of the benchmark, which name methods and files.
        matcher: matcher of the methods that have none of their own in their names.

    Raises:
        FileNotFoundError: a feature or match file does not exist.
        ValueError: an option is not as it must be, or the matcher does not exist.
    """
    files = given_files(options.features, options.matches)
    names = (*options.feature, *(name for name in files if name not in options.feature))
    if matcher is not None and not names and is_pair_matcher(matcher):
        names, matcher = (matcher,), None
    if matcher is not None:
        matcher_conf(matcher)
    return _start(
        options,
        names or (DEFAULT,),
        lambda name: find_method(name, matcher, files.get(name, NO_FILES)),
    )


def _start(
    options: BenchmarkOptions, names: Sequence[str], find: Callable[[str], _Subject]
) -> tuple[list[_Subject], Run]:
    for name, _ in options.weights:
        if name not in names:
            raise ValueError(f"--weights has weights for {name}, which is not among the methods.")
    for name, _ in getattr(options, "option", ()):
        if name not in names:
            raise ValueError(f"--option has an option of {name}, which is not among the methods.")
    run = Run(options.benchmark, plain(asdict(options)), data={})
    known = []
    for name in dict.fromkeys(names):
        try:
            known.append(find(name))
        except FAILURES as error:
            run.problems.append(problem_of(name, error))
            continue
        if names.count(name) > 1:
            run.problems.append(Problem(f"{name}, named again", "each method is measured once"))
    return known, run


def in_turn(methods: Iterable[_Subject], folder: Path) -> Iterator[_Subject]:
    """Yield methods; a file in the folder names the one that is being measured.

    Where the process dies, as in native code or without memory, a suite reads there which method
    it was.
    """
    path = folder / MEASURED_NOW
    try:
        for method in methods:
            write_whole_text(path, method if isinstance(method, str) else method.name)
            yield method
    finally:
        path.unlink(missing_ok=True)


def deviation(**options: tuple[object, object]) -> str | None:
    """Return which options, pairs of a value and the protocol's, deviate; None does not."""
    deviating = [
        f"{name} {value} instead of {protocols}"
        for name, (value, protocols) in options.items()
        if value not in (None, protocols)
    ]
    return ", ".join(deviating) or None
