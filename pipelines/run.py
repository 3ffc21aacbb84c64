"""What the pipelines have in common: options, features, pairs by retrieval, matches, the record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from featplug.base import choose_device
from featplug.cli.command_line import Unprefixed
from featplug.io.pair_lists import Pair
from featplug.io.results import SCHEMA_VERSION, StageRecorder, data_fingerprint, environment
from featplug.io.store import FeatureReader
from featplug.methods import feature_conf, matcher_conf, retrieval_conf
from featplug.stages.extract import extract_features
from featplug.stages.match import match_features
from featplug.stages.retrieve import RetrievalSummary, global_descriptors, pairs_from_retrieval
from featplug.stages.shared_options import NetworkOptions


@dataclass(frozen=True)
class FeatureOptions(NetworkOptions):
    """Which features, and how they are made."""

    feature: str = "sift"
    """Name of the feature."""
    features: Path | None = None
    """Feature file to use instead of extracting, such as one of hloc's; needs --matcher."""


@dataclass(frozen=True, kw_only=True)
class PipelineOptions:
    """What all pipelines can be asked for."""

    extraction: Unprefixed[FeatureOptions] = field(default_factory=FeatureOptions)
    """Which features, and how they are made."""
    matcher: str | None = None
    """Name of the matcher; by default the feature's own."""
    matches: Path | None = None
    """Match file to use instead of matching; needs --pairs with its list."""
    retrieval: str = "vlad"
    """Name of the global descriptor that selects pairs: vlad or netvlad."""
    outputs: Path | None = None
    """Folder for everything; by default outputs/PIPELINE/DATA-FEATURE, with the name of a given
    feature file for the feature, and with options that have results of their own."""
    seed: int = 0
    """Seed of everything random."""
    memory_gib: float = 1.0
    """Memory for matching, and for scans: one of 1600×1200 points takes 0.07."""

    @property
    def output_dir(self) -> Path:
        """Folder for everything."""
        raise NotImplementedError

    def default_outputs(self, pipeline: str, data: str, *settings: str) -> Path:
        """Return a folder that no other data's, feature's or setting's run has.

        Args:
            pipeline: name of the pipeline.
            data: name of what it is run on.
            settings: options that have results of their own.
        """
        extraction = self.extraction
        feature = extraction.feature if extraction.features is None else extraction.features.stem
        return Path("outputs") / pipeline / "-".join([data, feature, *settings])

    def check(self, has_pairs: bool) -> str:
        """Check whatever can be wrong with a request before the long work.

        Args:
            has_pairs: whether a pair list is given.

        Returns:
            The matcher's name: the one asked for, or the feature's own.

        Raises:
            ValueError: something does not exist, or a file is given without what belongs to it.
        """
        matcher = self.matcher or feature_conf(self.extraction.feature)["matcher"]
        matcher_conf(matcher)
        retrieval_conf(self.retrieval)
        choose_device(self.extraction.device)
        if self.matches is not None and not has_pairs:
            raise ValueError("--matches needs --pairs FILE, the list that the matches are of.")
        if self.matches is None and self.extraction.features is not None and self.matcher is None:
            raise ValueError("--features needs --matcher NAME, the matcher of that feature.")
        return matcher


@dataclass(frozen=True)
class Features:
    """The features of the images: what the later stages start from."""

    image_dir: Path
    path: Path
    name: str
    conf: dict[str, Any] | None
    """Conf of the feature; None where a file was given."""
    names: list[str]
    """Images that have features."""
    skipped: dict[str, str]
    """Images that have none, and why."""
    weights: list[dict[str, str]]

    def fingerprint(self) -> str:
        """Return a hash of the images that have features."""
        return data_fingerprint(self.image_dir, self.names)


class Stages:
    """The stages that pipelines share, what they cost, and what they took from an earlier run.

    Args:
        options: options of the run.
        has_pairs: whether a pair list is given.
        progress: show progress bars.

    Raises:
        ValueError: see :meth:`PipelineOptions.check`.
    """

    def __init__(self, options: PipelineOptions, has_pairs: bool, progress: bool) -> None:
        self.options = options
        self.matcher = options.check(has_pairs)
        self.progress = progress
        self.recorder = StageRecorder()
        self.reused: dict[str, int] = {}
        """Stage to the number of images or pairs that an earlier run had made."""
        self.retrieval: RetrievalSummary | None = None
        """What retrieval did, where it selected pairs."""

    def extract(self, image_dir: Path, names: Sequence[str]) -> Features:
        """Extract the features of images, or take those that were given.

        Raises:
            FileNotFoundError: a file does not exist.
            ValueError: something does not fit, or no image has features.
        """
        extraction = self.options.extraction
        if extraction.features is not None:
            self.reused["extract"] = 0
            return _given_features(extraction.features, image_dir, names)
        summary = extract_features(
            extraction.feature,
            image_dir,
            self.options.output_dir,
            image_list=names,
            progress=self.progress,
            **{entry.name: getattr(extraction, entry.name) for entry in fields(NetworkOptions)},
        )
        self.reused["extract"] = summary.num_present
        return Features(
            image_dir,
            summary.feature_path,
            extraction.feature,
            feature_conf(extraction.feature),
            summary.names,
            summary.skipped,
            summary.weights,
        )

    def retrieve(
        self, features: Features, num_matched: int, queries: Sequence[str], database: Sequence[str]
    ) -> list[Pair]:
        """Pair each query with the database images that look most like it.

        Args:
            features: features of the images.
            num_matched: number of database images for a query.
            queries: images that have features.
            database: images that have features; one that is a query, too, is not paired with
                itself.
        """
        extraction = self.options.extraction
        self.retrieval = described = global_descriptors(
            self.options.retrieval,
            features.image_dir,
            self.options.output_dir,
            list(dict.fromkeys([*queries, *database])),
            overwrite=extraction.overwrite,
            features=features.path,
            database=database,
            database_may_change=True,  # an image more is no reason to describe all again
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
        """Match the pairs of a list, or take the matches that were given; return their file."""
        options = self.options
        self.reused[stage] = 0
        if options.matches is not None:
            return options.matches
        with self.recorder.stage(stage):
            matched = match_features(
                self.matcher,
                pairs_path,
                features.path,
                options.output_dir,
                overwrite=options.extraction.overwrite,
                device=options.extraction.device,
                memory_gib=options.memory_gib,
                progress=self.progress,
            )
        self.reused[stage] = matched.num_present
        return matched.match_path


def _given_features(path: Path, image_dir: Path, names: Sequence[str]) -> Features:
    with FeatureReader(path) as reader:
        present = [name for name in names if name in reader]
        provenance = reader.provenance
        if not present:
            raise ValueError(
                f"No image of {image_dir} is in {path}, which has for example "
                f"{next(iter(reader.names()), 'nothing')!r}; names are relative to that folder."
            )
    absent = sorted(set(names) - set(present))
    skipped = {name: f"{path} has no features of {name!r}" for name in absent}
    weights = provenance.weights if provenance else []
    return Features(image_dir, path, str(path), None, present, skipped, weights)


def run_record(
    pipeline: str,
    options: PipelineOptions,
    features: Features,
    matcher: str,
    retrieval: RetrievalSummary | None = None,
) -> dict[str, Any]:
    """Return what was run, the first part of ``results.json``.

    Args:
        pipeline: name of the pipeline.
        options: its options.
        features: what the later stages started from.
        matcher: name of the matcher.
        retrieval: what retrieval did, where it selected pairs.
    """
    matches = options.matches
    return {
        "schema_version": SCHEMA_VERSION,
        "pipeline": pipeline,
        "options": plain(asdict(options)),
        "feature": features.name,
        "feature_conf": features.conf,
        "matcher": matcher if matches is None else str(matches),
        "matcher_conf": matcher_conf(matcher) if matches is None else None,
        "retrieval_conf": retrieval_conf(options.retrieval) if retrieval else None,
        "weights": features.weights + (retrieval.weights if retrieval else []),
        "environment": environment(),
    }


def plain(value: Any) -> Any:
    """Return options in values that JSON has."""
    if isinstance(value, Mapping):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, tuple | list):
        return [plain(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value


def require_positive(**numbers: float | None) -> None:
    """Check options that must be above zero where they are given.

    Raises:
        ValueError: one is not.
    """
    for name, value in numbers.items():
        if value is not None and not value > 0:
            raise ValueError(f"--{name.replace('_', '-')} must be above 0, not {value}.")


def metric_lines(metrics: Mapping[str, Any]) -> list[str]:
    """Return metrics as text, a line each."""
    lines = []
    for name, entry in metrics.items():
        value = entry["value"]
        shown = f"{value:,.0f}" if value == int(value) or value >= 1000 else f"{value:.4g}"
        lines.append(f"  {name.replace('_', ' '):<28}{shown:>12} {entry['unit']}")
    return lines


def outcome_lines(results: Mapping[str, Any]) -> list[str]:
    """Return what a run's stages cost, and what could not be used, a line each."""
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
