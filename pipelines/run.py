"""What the pipelines share: options, features, pairs by retrieval, matches and the record."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, NotRequired, TypedDict

from featplug.api import Feature, FeatureMatcher
from featplug.base import choose_device
from featplug.cli.command_line import Unprefixed
from featplug.io.artifact import files_hash
from featplug.io.match_store import MatchReader
from featplug.io.pair_lists import Pair
from featplug.io.results import (
    SCHEMA_VERSION,
    Metrics,
    StageCosts,
    StageRecorder,
    WeightsFiles,
    environment,
)
from featplug.io.store import FeatureReader
from featplug.io.typed_json import NonNegative
from featplug.method_names import MethodName, file_word, parse_method, path_word
from featplug.method_sources import source_records
from featplug.methods import feature_conf, matcher_conf, matcher_of, retrieval_conf
from featplug.stages.extract import (
    extract_features,
    other_photograph,
    raise_if_all_skipped,
    weights_files,
)
from featplug.stages.match import match_features
from featplug.stages.retrieve import RetrievalSummary, global_descriptors, pairs_from_retrieval
from featplug.stages.shared_options import MatcherOptions, NetworkOptions
from featplug.weights.loading import require_weights
from pipelines.output_folder import changed_settings, folder_name


@dataclass(frozen=True)
class _NamedFeature:
    """A base of its own, so that ``--help`` shows the feature before its options."""

    feature: str = "sift"
    """Name of the feature, or A+M for the feature A with the matcher M; `featplug list` shows them
    all. A class of your own is my_file.py:Class or package.module:Class."""
    features: Path | None = None
    """Feature file to use instead of extracting, such as one of hloc's; needs --matcher or
    --matches."""

    @property
    def method(self) -> MethodName:
        """The feature, and the matcher that is named with it."""
        return parse_method(self.feature)


@dataclass(frozen=True)
class FeatureOptions(NetworkOptions, _NamedFeature):
    """Options of features: their name, network and file."""


@dataclass(frozen=True, kw_only=True)
class MatchingOptions(MatcherOptions):
    """Options of matching, the same in pipelines and their benchmarks."""

    matcher: str | None = None
    """Name of the matcher; by default the feature's own."""
    retrieval: str = "vlad"
    """Name of the global descriptor that selects pairs: vlad or netvlad."""


@dataclass(frozen=True, kw_only=True)
class PipelineOptions(MatchingOptions):
    """Options of all pipelines."""

    pipeline: ClassVar[str]
    """Name of the pipeline in records and in the names of output folders."""

    extraction: Unprefixed[FeatureOptions] = field(default_factory=FeatureOptions)
    matches: Path | None = None
    """Match file to use instead of matching, such as one of hloc's; without --pairs, all its pairs
    of these images are used."""
    outputs: Path | None = None
    """Folder for everything; by default outputs/PIPELINE/DATA-FEATURE, with the name of a given
    feature file for the feature, and with options that have results of their own."""
    seed: int = 0
    """Seed of everything random."""
    memory_gib: float = 1.0
    """Memory for matching, and for scans: one of 1600×1200 points takes 0.07."""

    @property
    def data_name(self) -> str:
        """Name of the data, for the name of the output folder."""
        raise NotImplementedError

    @property
    def settings(self) -> list[str]:
        """Options that have results of their own, for the name of the output folder."""
        method = self.extraction.method
        named = replace(self, matcher=self.matcher or method.matcher)
        own = None if self.extraction.features else matcher_of(feature_conf(method.feature))
        return changed_settings(named, matcher=own)

    @property
    def pair_list(self) -> Path | None:
        """The given pair list, or None."""
        raise NotImplementedError

    @property
    def output_dir(self) -> Path:
        """Folder for everything."""
        extraction = self.extraction
        given = extraction.features
        feature = file_word(extraction.method.feature) if given is None else path_word(given)
        if self.outputs is not None:
            return self.outputs
        return Path("outputs") / self.pipeline / folder_name(self.data_name, feature, self.settings)

    def check(self) -> str:
        """Check the request before the long work.

        Returns:
            Name of the matcher: the requested one, or the feature's own.

        Raises:
            ValueError: something does not exist, or a file is given without what belongs to it.
        """
        method, has_features = self.extraction.method, self.extraction.features is not None
        if self.matcher and method.matcher:
            raise ValueError(
                f"--feature {self.extraction.feature} names a matcher, and --matcher another; give "
                "one."
            )
        matcher = self.matcher or method.matcher
        if has_features and matcher is None and self.matches is None:
            raise ValueError("--features needs --matcher NAME, or the matches by --matches FILE.")
        matcher = matcher or matcher_of(feature_conf(method.feature))
        if self.matches is None:
            matcher_conf(matcher)
        else:
            with MatchReader(self.matches):  # raises where it is no such file
                pass
        retrieval_conf(self.retrieval)
        choose_device(self.extraction.device)
        return matcher


@dataclass(frozen=True)
class Features:
    """The features of the images."""

    image_dir: Path
    path: Path
    names: list[str]
    """Images that have features."""
    skipped: dict[str, str]
    """Images that have none, and why."""
    weights: list[dict[str, str]]

    fingerprint: str = field(init=False)
    """Hash of the images that have features, when they were extracted."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "fingerprint", files_hash(self.image_dir, self.names))


class Stages:
    """The stages that pipelines share, what they cost, and what they took from an earlier run.

    Networks are loaded here, before anything is written.

    Raises:
        FileNotFoundError: weights are missing.
        ValueError: see :meth:`PipelineOptions.check`; or weights are damaged.
    """

    def __init__(self, options: PipelineOptions, progress: bool) -> None:
        self.options = options
        self.matcher = options.check()
        extraction = options.extraction
        self.feature: Feature | None = None
        self.feature_matcher: FeatureMatcher | None = None
        if extraction.features is None:
            self.feature = Feature(
                extraction.conf(extraction.method.feature),
                device=extraction.device,
                precision=extraction.precision,
            )
        if options.matches is None:
            conf = options.matcher_conf(self.matcher, self.feature.conf if self.feature else None)
            self.feature_matcher = FeatureMatcher(conf, device=extraction.device)
        self.progress = progress
        self.recorder = StageRecorder()
        self.reused: dict[str, int] = {}
        """Stage to the number of images or pairs that an earlier run had made."""
        self.retrieval: RetrievalSummary | None = None
        """Outcome of retrieval, where it selected pairs."""

    def extract(self, image_dir: Path, names: Sequence[str]) -> Features:
        """Extract the features of images, or use the given feature file.

        Raises:
            FileNotFoundError: a file does not exist.
            ValueError: a file does not fit, or no image has features.
        """
        extraction = self.options.extraction
        if self.feature is None:
            self.reused["extract"] = 0
            return _given_features(Path(extraction.features or ""), image_dir, names)
        summary = extract_features(
            self.feature,
            image_dir,
            self.options.output_dir,
            image_list=names,
            progress=self.progress,
            **values_of(NetworkOptions, extraction),
        )
        self.reused["extract"] = summary.num_present
        return Features(
            image_dir, summary.feature_path, summary.names, summary.skipped, summary.weights
        )

    def require_retrieval(self) -> None:
        """Raise FileNotFoundError if the weights are missing that retrieval needs."""
        require_weights(retrieval_conf(self.options.retrieval)["model"])

    def retrieve(
        self, features: Features, num_matched: int, queries: Sequence[str], database: Sequence[str]
    ) -> list[Pair]:
        """Pair each query with other database images that look most like it."""
        extraction = self.options.extraction
        self.retrieval = described = global_descriptors(
            self.options.retrieval,
            features.image_dir,
            self.options.output_dir,
            list(dict.fromkeys([*queries, *database])),
            overwrite=extraction.overwrite,
            max_megapixels=extraction.max_megapixels,
            features=features.path,
            database=database,
            database_may_change=True,  # one more image is no reason to describe all again
            device=extraction.device,
            progress=self.progress,
        )
        usable = set(described.names)
        return pairs_from_retrieval(
            described.descriptor_path,
            num_matched,
            [name for name in queries if name in usable],
            [name for name in database if name in usable],
        )

    def match(self, stage: str, features: Features, pairs_path: Path) -> Path:
        """Match the pairs of a list, or use the given match file; return the file."""
        options = self.options
        self.reused[stage] = 0
        if self.feature_matcher is None:
            return Path(options.matches or "")
        with self.recorder.stage(stage):
            matched = match_features(
                self.feature_matcher,
                pairs_path,
                features.path,
                options.output_dir,
                overwrite=options.extraction.overwrite,
                device=options.extraction.device,
                image_dir=features.image_dir,
                memory_gib=options.memory_gib,
                progress=self.progress,
            )
        self.reused[stage] = matched.num_present
        return matched.match_path


def pairs_of_matches(path: Path, names: Iterable[str]) -> list[Pair]:
    """Return the pairs of images that a given match file has.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: no pair of these images is in the file.
    """
    names = list(names)
    with MatchReader(path) as reader:
        pairs, others = reader.pairs(names)
    if not pairs:
        example = f" for example those of {others[0]!r}" if others else " none"
        raise ValueError(
            f"{path} has no matches of two images such as {next(iter(names), 'none')!r}, but"
            f"{example}; give the match file of these images, with names relative to their folder."
        )
    return pairs


def _given_features(path: Path, image_dir: Path, names: Sequence[str]) -> Features:
    with FeatureReader(path) as reader:
        present = [name for name in names if name in reader]
        provenance = reader.provenance
        if not present:
            raise ValueError(
                f"No image of {image_dir} is in {path}, which has for example "
                f"{next(iter(reader.names()), 'nothing')!r}; names are relative to that folder."
            )
        changed = {
            name: reason
            for name in present
            if reader.fingerprint(name)  # files of other tools have none
            and (reason := other_photograph(reader, name, image_dir / name))
        }
    absent = sorted(set(names) - set(present))
    skipped = {name: f"{path} has no features of {name!r}" for name in absent}
    skipped |= {name: f"{reason}; extract it again" for name, reason in changed.items()}
    weights = provenance.weights if provenance else []
    usable = [name for name in present if name not in changed]
    raise_if_all_skipped(present, changed)
    return Features(image_dir, path, usable, skipped, weights)


class _RecordedOptions(TypedDict):
    seed: NotRequired[int | None]


class _DataRecord(TypedDict):
    fingerprint: str
    images: NotRequired[str]
    dataset: NotRequired[str]
    conditions: NotRequired[list[str]]
    skipped: NotRequired[dict[str, str]]
    not_registered: NotRequired[list[str]]
    not_localized: NotRequired[dict[str, str]]
    not_drawn: NotRequired[dict[str, str]]


class _RecordedModel(TypedDict):
    points: Annotated[int, NonNegative]
    images: list[str]


class PipelineRecord(TypedDict):
    """Record of a pipeline: the keys of ``results.json`` that are read again (docs/results.md)."""

    pipeline: str
    options: Annotated[dict[str, Any], _RecordedOptions]
    feature: str
    matcher: str
    methods: NotRequired[list[dict[str, str]]]
    weights: WeightsFiles
    environment: dict[str, Any]
    data: Annotated[dict[str, Any], _DataRecord]
    stages: StageCosts
    metrics: Metrics
    models: NotRequired[list[Annotated[dict[str, Any], _RecordedModel]]]
    verified_pairs_by_inliers: NotRequired[dict[str, Annotated[int, NonNegative]]]


def run_record(stages: Stages, options: PipelineOptions, features: Features) -> dict[str, Any]:
    """Return the head of ``results.json``: options, feature, matcher, weights and machine."""
    retrieval, extraction = stages.retrieval, options.extraction
    feature, matcher = stages.feature, stages.feature_matcher
    return {
        "schema_version": SCHEMA_VERSION,
        "pipeline": options.pipeline,
        "options": plain(asdict(options)),
        "feature": extraction.method.feature if feature else str(extraction.features),
        "feature_conf": feature.conf if feature else None,
        "matcher": stages.matcher if matcher else str(options.matches),
        "matcher_conf": matcher.conf if matcher else None,
        "methods": [
            record
            for loaded in (feature and feature.extractor, matcher and matcher.matcher)
            if loaded
            for record in source_records(loaded)
        ],
        "retrieval_conf": retrieval_conf(options.retrieval) if retrieval else None,
        "weights": [
            *features.weights,
            *(weights_files(matcher.matcher) if matcher else []),
            *(retrieval.weights if retrieval else []),
        ],
        "environment": environment(),
    }


def values_of(kind: type[Any], options: object) -> dict[str, Any]:
    """Return the values that options have for the fields of a dataclass, one of their bases."""
    return {entry.name: getattr(options, entry.name) for entry in fields(kind)}


def plain(value: Any) -> Any:
    """Return options as values of JSON."""
    if isinstance(value, Mapping):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, tuple | list):
        return [plain(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value


def require_positive(**numbers: float | None) -> None:
    """Raise ValueError if an option that is given is not above zero."""
    for name, value in numbers.items():
        if value is not None and not value > 0:
            raise ValueError(f"--{name.replace('_', '-')} must be above 0, not {value}.")


def metric_lines(metrics: Mapping[str, Any]) -> list[str]:
    """Return metrics as lines of text."""
    lines = []
    for name, entry in metrics.items():
        value = entry["value"]
        shown = f"{value:,.0f}" if value == int(value) or value >= 1000 else f"{value:.4g}"
        lines.append(f"  {name.replace('_', ' '):<28}{shown:>12} {entry['unit']}")
    return lines


def outcome_lines(results: Mapping[str, Any]) -> list[str]:
    """Return the cost of a run's stages, and what could not be used, as lines of text."""
    lines, data = [], results["data"]
    for name, stage in results["stages"].items():
        line = f"  {name:<28}{stage['seconds']:>12.1f} s, peak {stage['peak_memory_mib']:.0f} MiB"
        reused = results["reused"].get(name, 0)
        lines.append(line + (f" ({reused} reused)" if reused else ""))
    lines += [f"  skipped: {reason}" for reason in data["skipped"].values()]
    for kind in ("not_localized", "not_drawn"):
        failed = data.get(kind, {}).items()
        lines += [f"  {kind.replace('_', ' ')}: {name}: {reason}" for name, reason in failed]
    return lines
