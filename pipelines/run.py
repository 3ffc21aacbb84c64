"""What the pipelines have in common: options, features, pairs by retrieval, matches, the record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from featplug.base import choose_device
from featplug.cli.command_line import Unprefixed
from featplug.io.pair_lists import Pair
from featplug.io.results import SCHEMA_VERSION, data_fingerprint, environment
from featplug.io.store import FeatureReader
from featplug.methods import feature_conf, matcher_conf, retrieval_conf
from featplug.stages.extract import extract_features
from featplug.stages.match import match_features
from featplug.stages.method_options import NetworkOptions
from featplug.stages.retrieve import RetrievalSummary, global_descriptors, pairs_from_retrieval


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
    weights: list[dict[str, str]] = field(default_factory=list)
    num_reused: int = 0
    """Number of images extracted by an earlier run."""

    def fingerprint(self) -> str:
        """Return a hash of the images that have features."""
        return data_fingerprint(self.image_dir, self.names)


def scene_features(
    options: PipelineOptions, image_dir: Path, names: Sequence[str], progress: bool = False
) -> Features:
    """Extract the features of images, or take those that were given.

    Raises:
        FileNotFoundError: a file does not exist.
        ValueError: something does not fit, or no image has features.
    """
    extraction = options.extraction
    if extraction.features is None:
        summary = extract_features(
            extraction.feature,
            image_dir,
            options.output_dir,
            image_list=names,
            progress=progress,
            **{entry.name: getattr(extraction, entry.name) for entry in fields(NetworkOptions)},
        )
        return Features(
            image_dir,
            summary.feature_path,
            extraction.feature,
            feature_conf(extraction.feature),
            summary.names,
            summary.skipped,
            summary.weights,
            summary.num_present,
        )
    path = extraction.features
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


def retrieve_pairs(
    options: PipelineOptions,
    features: Features,
    num_matched: int,
    queries: Sequence[str],
    database: Sequence[str],
    progress: bool = False,
) -> tuple[list[Pair], RetrievalSummary]:
    """Pair each query with the database images that look most like it.

    Args:
        options: the global descriptor, and whether it is made again.
        features: features of the images.
        num_matched: number of database images for a query.
        queries: images that have features.
        database: images that have features; an image may be both, and is not paired with itself.
        progress: show a progress bar.
    """
    described = global_descriptors(
        options.retrieval,
        features.image_dir,
        options.output_dir,
        list(dict.fromkeys([*queries, *database])),
        overwrite=options.extraction.overwrite,
        features=features.path,
        database=database,
        database_may_change=True,  # an image more is no reason to describe all again
        device=options.extraction.device,
        progress=progress,
    )
    usable = set(described.names)
    pairs = pairs_from_retrieval(
        described.descriptor_path,
        num_matched,
        [name for name in queries if name in usable],
        [name for name in database if name in usable],
    )
    return pairs, described


def match_pairs(
    options: PipelineOptions,
    matcher: str,
    pairs_path: Path,
    features: Features,
    progress: bool = False,
) -> tuple[Path, int]:
    """Match the pairs of a list, or take the matches that were given.

    Returns:
        The match file, and how many pairs an earlier run had matched.
    """
    if options.matches is not None:
        return options.matches, 0
    matched = match_features(
        matcher,
        pairs_path,
        features.path,
        options.output_dir,
        overwrite=options.extraction.overwrite,
        device=options.extraction.device,
        memory_gib=options.memory_gib,
        progress=progress,
    )
    return matched.match_path, matched.num_present


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


def stage_lines(results: Mapping[str, Any]) -> list[str]:
    """Return seconds and peak memory of a run's stages, a line each."""
    lines = []
    for name, stage in results["stages"].items():
        line = f"  {name:<28}{stage['seconds']:>12.1f} s, peak {stage['peak_memory_mib']:.0f} MiB"
        reused = results["reused"].get(name, 0)
        lines.append(line + (f" ({reused} reused)" if reused else ""))
    return lines
