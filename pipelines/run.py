"""What the commands have in common: features, pairs by retrieval, matches, the record of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pycolmap

from featplug.base import choose_device
from featplug.io.pair_lists import Pair
from featplug.io.results import SCHEMA_VERSION, environment
from featplug.io.store import FeatureReader
from featplug.methods import feature_conf, matcher_conf, retrieval_conf
from featplug.stages.extract import extract_features
from featplug.stages.match import match_features
from featplug.stages.retrieve import RetrievalSummary, global_descriptors, pairs_from_retrieval
from pipelines.datasets.problem import Problem, image_problem


@dataclass(frozen=True)
class FeatureOptions:
    """Which features, and how they are made."""

    feature: str = "sift"
    """Name of the feature."""
    features: Path | None = None
    """Feature file to use instead of extracting, such as one of hloc's; needs --matcher."""
    max_keypoints: int | None = None
    """Keep that many of each image, the strongest by score."""
    weights: str | None = None
    """official, featplug, or a file; by default the authors' where they are found."""
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    """Of the network."""
    device: str | None = None
    """Such as cpu or cuda:1; the best one by default."""
    overwrite: bool = False
    """Make features, matches and global descriptors anew."""


def default_outputs(pipeline: str, scene: str, options: FeatureOptions, *settings: str) -> Path:
    """Name the folder of a run, so that no other scene's, feature's or setting's run has the same.

    Args:
        pipeline: name of the command.
        scene: name of what it is run on.
        options: which features; a given file counts by its name.
        settings: others that have results of their own.
    """
    feature = options.feature if options.features is None else options.features.stem
    return Path("outputs") / pipeline / "-".join([scene, feature, *settings])


@dataclass(frozen=True)
class Features:
    """The features of the images: what the later stages start from."""

    path: Path
    name: str
    conf: dict[str, Any] | None
    """None where a file was given."""
    names: list[str]
    """Images that have features."""
    skipped: dict[str, str]
    """Images that have none, and why."""
    weights: list[dict[str, str]] = field(default_factory=list)
    num_reused: int = 0
    """Images extracted by an earlier run."""


def scene_features(
    options: FeatureOptions,
    image_dir: Path,
    names: Sequence[str],
    outputs: Path,
    progress: bool = False,
) -> Features:
    """Extract the features of images, or take those that were given.

    Raises:
        FileNotFoundError: a file is not there.
        ValueError: something does not fit, or no image has features.
    """
    if options.features is None:
        summary = extract_features(
            options.feature,
            image_dir,
            outputs,
            image_list=names,
            overwrite=options.overwrite,
            max_keypoints=options.max_keypoints,
            weights=options.weights,
            precision=options.precision,
            device=options.device,
            progress=progress,
        )
        return Features(
            summary.feature_path,
            options.feature,
            feature_conf(options.feature),
            summary.names,
            summary.skipped,
            summary.weights,
            summary.num_present,
        )
    with FeatureReader(options.features) as reader:
        present = [name for name in names if name in reader]
        provenance = reader.provenance
        if not present:
            raise ValueError(
                f"No image of {image_dir} is in {options.features}, which has for example "
                f"{next(iter(reader.names()), 'nothing')!r}; names are relative to that folder."
            )
    skipped = {
        name: f"{options.features} has no features of {name!r}"
        for name in sorted(set(names) - set(present))
    }
    weights = provenance.weights if provenance else []
    return Features(options.features, str(options.features), None, present, skipped, weights)


def readable_images(
    image_dir: Path, cameras: Mapping[str, pycolmap.Camera]
) -> tuple[list[str], dict[str, str]]:
    """Look at the headers of images whose cameras are known.

    Returns:
        The names of those that are there and have their cameras' sizes; why the others cannot be
        used.
    """
    names, skipped = [], {}
    for name, camera in cameras.items():
        reason = image_problem(image_dir / name, (camera.width, camera.height))
        if reason is None:
            names.append(name)
        else:
            skipped[name] = reason
    return names, skipped


def check_request(
    extraction: FeatureOptions,
    matcher: str | None,
    retrieval: str,
    pairs_given: bool,
    matches: Path | None = None,
) -> str:
    """Look at whatever can be wrong with a request before the long work.

    Returns:
        The matcher's name: the one asked for, or the feature's own.

    Raises:
        ValueError: something does not exist, or a file was given without what belongs to it.
    """
    chosen = matcher or feature_conf(extraction.feature)["matcher"]
    matcher_conf(chosen)
    retrieval_conf(retrieval)
    choose_device(extraction.device)
    if matches is not None and not pairs_given:
        raise ValueError("--matches needs --pairs FILE, the list that the matches are of.")
    if matches is None and extraction.features is not None and matcher is None:
        raise ValueError("--features needs --matcher NAME, the matcher of that feature.")
    return chosen


def require_positive(**numbers: float | None) -> None:
    """Refuse options that must be above zero where they are given.

    Raises:
        ValueError: one is not.
    """
    for name, value in numbers.items():
        if value is not None and not value > 0:
            raise ValueError(f"--{name.replace('_', '-')} must be above 0, not {value}.")


def retrieve_pairs(
    retrieval: str,
    num_matched: int,
    image_dir: Path,
    outputs: Path,
    features: Features,
    options: FeatureOptions,
    *,
    queries: Sequence[str],
    database: Sequence[str],
    progress: bool = False,
) -> tuple[list[Pair], RetrievalSummary]:
    """Pair each query with the database images that look most like it.

    Args:
        retrieval: name of the global descriptor.
        num_matched: database images of a query.
        image_dir: folder of the images.
        outputs: gets the descriptors.
        features: of the images.
        options: what to make anew, and where.
        queries: images that have features.
        database: the same; an image may be both, and is not paired with itself.
        progress: show it.
    """
    described = global_descriptors(
        retrieval,
        image_dir,
        outputs,
        list(dict.fromkeys([*queries, *database])),
        overwrite=options.overwrite,
        features=features.path,
        database=database,
        database_may_change=True,  # an image more is no reason to describe all anew
        device=options.device,
        progress=progress,
    )
    there = set(described.names)
    chosen = pairs_from_retrieval(
        described.descriptor_path,
        num_matched,
        [name for name in queries if name in there],
        [name for name in database if name in there],
    )
    return chosen, described


def match_pairs(
    matcher: str,
    pairs_path: Path,
    features: Features,
    outputs: Path,
    options: FeatureOptions,
    memory_gib: float,
    progress: bool = False,
) -> tuple[Path, int]:
    """Match the pairs of a list.

    Returns:
        The match file, and how many pairs an earlier run had matched.
    """
    matched = match_features(
        matcher,
        pairs_path,
        features.path,
        outputs,
        overwrite=options.overwrite,
        device=options.device,
        memory_gib=memory_gib,
        progress=progress,
    )
    return matched.match_path, matched.num_present


def run_record(
    pipeline: str,
    options: Mapping[str, Any],
    features: Features,
    matcher: str,
    matches: Path | None = None,
    retrieval: RetrievalSummary | None = None,
) -> dict[str, Any]:
    """Give what was run, the first part of ``results.json``.

    Args:
        pipeline: name of the command.
        options: its options, as a dict.
        features: what the later stages started from.
        matcher: name of the matcher.
        matches: match file that was given instead.
        retrieval: what it did, where it chose pairs.
    """
    return {
        "schema_version": SCHEMA_VERSION,
        "pipeline": pipeline,
        "options": plain(options),
        "feature": features.name,
        "feature_conf": features.conf,
        "matcher": matcher if matches is None else str(matches),
        "matcher_conf": matcher_conf(matcher) if matches is None else None,
        "retrieval_conf": retrieval_conf(options["retrieval"]) if retrieval else None,
        "weights": features.weights + (retrieval.weights if retrieval else []),
        "environment": environment(),
    }


def plain(value: Any) -> Any:
    """Give options in values that JSON has."""
    if isinstance(value, Mapping):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, tuple | list):
        return [plain(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value


def problem_lines(root: Path, problems: Sequence[Problem]) -> list[str]:
    """Say what is wrong with a dataset, and once for all of a kind where to get the files."""
    remedies = dict.fromkeys(problem.remedy for problem in problems)
    lines = [problem.reason for problem in problems]
    lines += [f"Where to get {remedy}." for remedy in remedies]
    return lines or [f"{root} is complete."]


def require_no_problems(root: Path, problems: Sequence[Problem]) -> None:
    """Refuse a dataset that is not complete.

    Raises:
        ValueError: there is a problem.
    """
    if problems:
        raise ValueError(f"{root} has {len(problems)} missing or damaged files.")


def stage_lines(results: Mapping[str, Any]) -> list[str]:
    """Give seconds and peak memory of a run's stages, a line each."""
    lines = []
    for name, stage in results["stages"].items():
        line = f"  {name:<28}{stage['seconds']:>12.1f} s, peak {stage['peak_memory_mib']:.0f} MiB"
        reused = results["reused"].get(name, 0)
        lines.append(line + (f" ({reused} were there)" if reused else ""))
    return lines
