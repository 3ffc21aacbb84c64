"""The measurement of methods on a data set of image pairs, one protocol at a time."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.choices import (
    FAILURES,
    FileOptions,
    deviation,
    in_turn,
    problem_of,
    start_methods,
)
from benchmarks.measured_method import MeasuredMethod
from benchmarks.pairs.demo_sets import find_pairs
from benchmarks.pairs.failures import failures_text, measured_failures
from benchmarks.pairs.feature_pairs import KnownMatches, PairSource
from benchmarks.pairs.kept_matches import KeptMatches, kept_matches
from benchmarks.pairs.kept_rows import pairs_hash, read_rows, with_pair_values, write_rows
from benchmarks.pairs.pair_protocol import (
    Chosen,
    MeasuredPair,
    NotDefinedError,
    PairProtocol,
    choose_protocols,
)
from benchmarks.pairs.pair_set import ImagePair, PairSet
from benchmarks.pairs.resizing import resized_pairs
from benchmarks.pairs.sources import Source, open_source
from benchmarks.record import Picture, Problem, Row, Run, benchmark_folder, write_run
from featplug.base import choose_device
from featplug.cli.command_line import leave_config
from featplug.io.artifact import Artifact
from featplug.io.images import read_image
from featplug.io.results import StageRecorder
from featplug.plots import write_match_picture
from featplug.utils.progress import progress_bar

_RIGHT = 3.0
"""Largest error in pixels of a match that pictures show as right."""


@dataclass(frozen=True)
class PairOptions(FileOptions):
    """Image pairs to match, and the rules to measure by."""

    dataset: Path
    """Folder of the data set, or a list of pairs with intrinsics and poses; demo and demo-SEED
    render one."""
    protocol: tuple[str, ...] = ()
    """Rules to measure by; by default the first one of the layout."""
    layout: str | None = None
    """Layout of the folder, where its files do not show it."""
    matcher: str | None = None
    """Name of the matcher of the features that have none in their names; by default each feature's
    own for two views, without a ratio test, which no protocol has."""
    max_keypoints: int | None = field(default=None, kw_only=True)
    """Number of keypoints to keep of each image, the strongest by score, instead of the protocol's;
    -1 keeps all."""
    pictures: bool = True
    """Draw the matches of two pairs, by the first protocol."""
    feature_dir: Path | None = None
    """Folder for extracted features, which runs on the same images can share; by default features/
    in the folder of the run."""

    @property
    def features_folder(self) -> Path:
        """Folder for extracted features."""
        return self.feature_dir or super().features_folder

    def check(self) -> None:
        """Check the request, before the long work.

        Raises:
            ValueError: the device does not exist.
        """
        choose_device(self.device)


class PairBenchmark:
    """A data set on which methods are measured."""

    def __init__(self, pair_set: PairSet, options: PairOptions, progress: bool = False) -> None:
        self.pair_set = pair_set
        self.options = options
        self._progress = progress
        self._resized: dict[tuple[int, int], PairSet] = {}
        self._known: dict[str, KnownMatches] = {}
        """Matches of all keypoints of one method's pairs, for the next protocol."""

    def measure(
        self, method: MeasuredMethod, protocols: Sequence[PairProtocol]
    ) -> Iterator[tuple[list[Row], list[Problem]]]:
        """Measure one method; yield the rows and the problems of each protocol."""
        measured: dict[tuple[object, ...], MeasuredPair] = {}  # protocols may share their rules
        self._known.clear()
        for protocol in protocols:
            # Other protocols have much the same matches as the first one.
            with_pictures = self.options.pictures and protocol is protocols[0]
            try:
                yield self._rows(method, protocol, measured, with_pictures)
            except NotDefinedError as error:
                yield [], [problem_of(f"{method.name}, {protocol.name}", error)]
            except FAILURES as error:
                yield [], [problem_of(method.name, error)]

    def _pair_set(self, protocol: PairProtocol) -> PairSet:
        size = protocol.size
        if size is None:
            return self.pair_set
        if size not in self._resized:
            folder = self.options.output_dir / f"images-{size[1]}x{size[0]}"
            self._resized[size] = resized_pairs(self.pair_set, size, folder, self._progress)
        return self._resized[size]

    def _rows(
        self,
        method: MeasuredMethod,
        protocol: PairProtocol,
        measured: dict[tuple[object, ...], MeasuredPair],
        with_pictures: bool,
    ) -> tuple[list[Row], list[Problem]]:
        pair_set = self._pair_set(protocol)
        pairs = protocol.pairs(pair_set)
        if not pairs:
            raise ValueError(f"{pair_set.folder} has no pair that {protocol.name} measures.")
        recorder = StageRecorder()
        with recorder.stage("extract"):
            source = open_source(
                method,
                protocol,
                replace(pair_set, pairs=pairs),
                self.options,
                self._known,
                self._progress,
            )
        problems = [
            Problem(f"{method.name}, {name}", reason) for name, reason in source.skipped.items()
        ]
        skipped = set(source.skipped)
        able = {i: p for i, p in enumerate(pairs) if not {p.name0, p.name1} & skipped}
        if not able:
            raise ValueError(f"No pair has features of both images; {problems[0].reason}")
        artifact = self._artifact(
            method, protocol, pair_set, list(able.values()), source, with_pictures
        )
        kept = read_rows(artifact, self.options.output_dir)
        if kept is not None:
            rows = [replace(row, reused=list(row.stages)) for row in kept["rows"]]
            return rows, kept["problems"]
        reused = ["extract"] if source.reuses_features else []
        with (
            recorder.stage("match and measure"),
            self._opened(method, protocol, source, list(able.values())) as opened,
        ):
            results, failed = self._measure_pairs(method, protocol, able, opened, measured)
            if isinstance(opened, KeptMatches) and not opened.num_matched:
                reused.append("match and measure")
        problems += failed
        if not results:
            raise ValueError(f"No pair could be measured; {problems[-1].reason}")
        others = {i: pair for i, pair in enumerate(pairs) if i not in results}
        failures = measured_failures(
            protocol, others, pair_set.folder, is_detected=not method.matches_images
        )
        reasons = [
            protocol.deviation(pair_set),
            self._deviation(method, protocol),
            source.deviation,
            failures_text(len(failures), len(others) - len(failures)),
        ]
        row = Row(
            method.name,
            pair_set.name,
            protocol.name,
            matcher=source.matcher,
            settings=source.settings,
            weights=source.provenance.weights,
            methods=source.provenance.methods,
            not_comparable="; ".join(filter(None, reasons)) or None,
        )
        both = results | failures
        counting, measures = [pairs[i] for i in sorted(both)], [both[i] for i in sorted(both)]
        if protocol.second_stage is not None:
            with recorder.stage(protocol.second_stage):
                completed = protocol.complete(counting, measures)
                label, num = f"{protocol.name}, {protocol.second_stage}", len(measures)
                measures = list(progress_bar(completed, label, num, "pair", self._progress))
        rows = with_pair_values(
            protocol,
            protocol.rows(row, counting, measures),
            counting,
            measures,
            [place for place, i in enumerate(sorted(both)) if i in failures],
            self.options.output_dir / "pairs" / self._word(method, protocol),
        )
        drawn = self._pictures(method, protocol, pair_set, pairs, results) if with_pictures else []
        rows[0] = replace(rows[0], stages=recorder.stages, reused=reused, pictures=drawn)
        write_rows(artifact, rows, problems)
        return rows, problems

    def _opened(
        self,
        method: MeasuredMethod,
        protocol: PairProtocol,
        source: Source,
        pairs: Sequence[ImagePair],
    ) -> AbstractContextManager[PairSource | KeptMatches]:
        """Open the pairs of a source, or the file of their matches where the protocol keeps it."""
        if not protocol.keeps_matches:
            return source.open(pairs)
        name = f"{method.word}{self.options.variant(method)}.h5"
        path = self.options.output_dir / "matches" / name
        return kept_matches(path, source.provenance, pairs, self.pair_set.folder, source.open)

    def _artifact(
        self,
        method: MeasuredMethod,
        protocol: PairProtocol,
        pair_set: PairSet,
        pairs: Sequence[ImagePair],
        source: Source,
        with_pictures: bool,
    ) -> Artifact:
        """Return the file of the rows of a method by a protocol."""
        made = source.provenance
        provenance = replace(
            made,
            conf={
                **made.conf,
                **protocol.settings,
                "matcher": source.matcher,
                "pictures": with_pictures,
            },
            inputs={**made.inputs, "pairs": pairs_hash(pair_set, pairs)},
        )
        name = f"{self._word(method, protocol)}.json"
        return Artifact(self.options.output_dir / "measured" / name, provenance)

    def _word(self, method: MeasuredMethod, protocol: PairProtocol) -> str:
        """Return the name of the files of a method by a protocol."""
        return f"{method.word}-{protocol.name}{self.options.variant(method)}"

    def _measure_pairs(
        self,
        method: MeasuredMethod,
        protocol: PairProtocol,
        pairs: Mapping[int, ImagePair],
        opened: PairSource | KeptMatches,
        measured: dict[tuple[object, ...], MeasuredPair],
    ) -> tuple[dict[int, MeasuredPair], list[Problem]]:
        """Measure pairs by their number; what fails becomes a problem."""
        results, problems = {}, []
        bar = progress_bar(pairs.items(), protocol.name, len(pairs), "pair", self._progress)
        for number, pair in bar:
            key = (*protocol.rules, pair.name0, pair.name1)
            try:
                if key not in measured:
                    measured[key] = protocol.measure(pair, opened.read_pair(pair))
            except NotDefinedError:
                raise
            except FAILURES as error:  # whatever a pair makes a method raise
                problems.append(problem_of(f"{method.name}, {pair.name0} {pair.name1}", error))
                continue
            results[number] = measured[key]
        return results, problems

    def _deviation(self, method: MeasuredMethod, protocol: PairProtocol) -> str | None:
        if protocol.leaves_settings:
            return None
        number = self.options.max_keypoints
        # A protocol without a limit keeps all keypoints, as -1 does.
        return deviation(
            max_keypoints=("all" if number == -1 else number, protocol.max_keypoints or "all"),
            matcher=(method.other_matcher, "the feature's own"),
        )

    def _pictures(
        self,
        method: MeasuredMethod,
        protocol: PairProtocol,
        pair_set: PairSet,
        pairs: Sequence[ImagePair],
        results: Mapping[int, MeasuredPair],
    ) -> list[Picture]:
        """Draw the pairs a third and two thirds through the list, the same for each method."""
        pictures = []
        for index in sorted({len(pairs) // 3, 2 * len(pairs) // 3} & results.keys()):
            pair, result = pairs[index], results[index]
            right = None if result.errors is None else result.errors <= _RIGHT
            count, counts = f"{len(result.points[0])} matches", {"matches": len(result.points[0])}
            if right is not None:
                count = f"{right.sum()} of {count} within {_RIGHT:g} px"
                counts = {"right": int(right.sum()), "wrong": int((~right).sum())}
            title = f"{method.name}, {pair.name0} and {Path(pair.name1).name}: {count}"
            name = f"pictures/{method.word}-{protocol.name}-{index}.jpg"
            image0, image1 = (read_image(pair_set.folder / n) for n in (pair.name0, pair.name1))
            path = self.options.output_dir / name
            write_match_picture(path, image0, image1, *result.points, inliers=right)
            pictures.append(Picture(name, title, [pair.name0, pair.name1], counts))
        return pictures


Plan = Callable[[MeasuredMethod, Run], Sequence[PairProtocol]]
"""Returns the protocols that a method is measured by, and may add to the record of the run."""


def run_pair_benchmark(
    options: PairOptions,
    protocols: Mapping[str, Chosen],
    progress: bool = False,
    plan: Callable[[Sequence[Chosen], PairSet], Plan] | None = None,
) -> tuple[Run, list[Chosen]]:
    """Measure all methods by all requested protocols; what fails becomes a problem of the run.

    Args:
        options: methods, data set and rules.
        protocols: name to protocol; the first one of each layout is the default.
        progress: show progress bars.
        plan: returns, for the requested protocols and the data set, the plan by which they are
            made those of a method; by default, all methods are measured by the protocols as they
            are.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: the folder has no pairs, or the request does not fit.
    """
    methods, run = start_methods(options, options.matcher)
    options.check()
    layouts = {protocol.layout for protocol in protocols.values()}
    data = find_pairs(options.dataset, options.layout, layouts, progress)
    chosen = choose_protocols(protocols, data.layout, options.protocol)
    pair_set = data.read()
    if not options.protocol and not chosen[0].pairs(pair_set):  # such as scenes for validation only
        able = (p for p in protocols.values() if p.layout == data.layout and p.pairs(pair_set))
        chosen = [next(able, chosen[0])]
    run.options["protocol"] = [protocol.name for protocol in chosen]
    run.add_data(pair_set.name, pair_set.folder, pair_set.names)
    run.problems += pair_set.problems
    plan_method = None if plan is None else plan(chosen, pair_set)
    with benchmark_folder(options.output_dir, run) as folder:
        leave_config(options, folder)
        benchmark = PairBenchmark(pair_set, options, progress)
        for method in in_turn(methods, options.output_dir):
            try:
                planned = chosen if plan_method is None else plan_method(method, run)
            except FAILURES as error:
                run.problems.append(problem_of(method.name, error))
                continue
            for rows, problems in benchmark.measure(method, planned):
                run.rows += rows
                run.problems += [problem for problem in problems if problem not in run.problems]
                write_run(folder, run)
        write_run(folder, run)
    return run, chosen
