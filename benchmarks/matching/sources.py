"""Where the matches of a method come from: its features and their matcher, files, or images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from benchmarks.choices import KeypointOptions
from benchmarks.matching.extraction import extract_cached
from benchmarks.matching.feature_pairs import (
    KnownMatches,
    MatchedFeatures,
    MatchedImages,
    PairSource,
)
from benchmarks.matching.image_pairs import ImagePair, PairSet
from benchmarks.matching.protocols import Protocol
from benchmarks.measured_method import MeasuredMethod, matcher_label
from featplug.base import Matcher, PairMatcher
from featplug.image_pairs import ImageMatcher
from featplug.methods import build_matcher, matcher_conf, matcher_conf_for


@dataclass(frozen=True)
class Source:
    """Matches of one method by one protocol."""

    matcher: str
    """Name of the matcher for tables."""
    open: Callable[[Sequence[ImagePair]], PairSource]
    """Opens the pairs that will be read, in their order."""
    weights: list[dict[str, Any]]
    """Name, origin and sha256 of each weights file."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Images without features, and why."""
    deviation: str | None = None
    """How the matches deviate from the protocol's."""


def open_source(
    method: MeasuredMethod,
    protocol: Protocol,
    pair_set: PairSet,
    options: KeypointOptions,
    known: dict[str, KnownMatches],
    progress: bool = False,
) -> Source:
    """Extract the features of a method that are not yet kept, and load its matcher.

    Args:
        method: the method.
        protocol: rules that say how many keypoints are kept, and how they are matched.
        pair_set: pairs to be matched.
        options: weights, device and output folder.
        known: matches of all keypoints by the same features and matcher, which are added to.
        progress: show a progress bar.

    Raises:
        FileNotFoundError: weights are missing.
        ValueError: the method does not fit the protocol, or no image could be used.
    """
    if method.matches_images:
        return _of_images(method, pair_set, options)
    if method.features is not None and protocol.size is not None:
        raise ValueError(
            f"{protocol.name} resizes the images, and {method.features} has features of others; "
            "measure it by another protocol."
        )
    max_keypoints = options.max_keypoints or protocol.max_keypoints
    name, matcher, deviation = "", None, None
    if method.matches is None:
        name, matcher, deviation = protocol_matcher(method, protocol.one_way)
    elif protocol.one_way:
        deviation = f"the matches of {method.matches} are as they are"
    extraction = replace(options.extraction(method), max_keypoints=max_keypoints)
    stem = _stem(method, protocol, max_keypoints)
    extracted = extract_cached(extraction, pair_set, options.output_dir, stem, progress)

    def opened(pairs: Sequence[ImagePair]) -> PairSource:
        return MatchedFeatures(
            extracted.path,
            matcher if matcher is not None else method.matches,
            pairs,
            pair_set.folder,
            known=known.setdefault(f"{extracted.path} {max_keypoints} {name}", {}),
            max_keypoints=max_keypoints,
            device=options.device,
        )

    weights = extracted.weights + ([] if matcher is None else _weights(matcher))
    return Source(name or str(method.matches), opened, weights, extracted.skipped, deviation)


def protocol_matcher(method: MeasuredMethod, one_way: bool) -> tuple[str, Matcher, str | None]:
    """Build the matcher of a protocol.

    Args:
        method: a feature, matched by the requested matcher, or by its own for two views, but by
            mutual nearest neighbours where that has a ratio test, which no protocol has.
        one_way: leave out the mutual check, so that every keypoint of image 0 has a match.

    Returns:
        Name of the matcher for tables, the matcher, and how it deviates from the protocol's.

    Raises:
        ValueError: no such matcher exists.
    """
    name = method.matcher_name(two_views=True)
    if method.matcher is None and matcher_conf(name)["model"].get("ratio_threshold") is not None:
        name = "NN-mutual"
    model = matcher_conf_for(method.conf, name)["model"]
    matcher = build_matcher(model)
    if not one_way:
        return matcher_label(name, model), matcher, None
    if "do_mutual_check" not in matcher.default_conf:
        return matcher_label(name, model), matcher, f"{name} has no matches of one way"
    model = {**model, "do_mutual_check": False}
    return f"{matcher_label(name, model)}, one way", build_matcher(model), None


def _of_images(method: MeasuredMethod, pair_set: PairSet, options: KeypointOptions) -> Source:
    matcher = ImageMatcher(options.pair_matcher_conf(method), device=options.device)
    deviation = f"{method.name} matches images, without keypoints of each"
    return Source(
        method.name,
        lambda _: MatchedImages(matcher, pair_set.folder),
        _weights(matcher.matcher),
        deviation=deviation,
    )


def _weights(method: Matcher | PairMatcher) -> list[dict[str, Any]]:
    return [
        {"name": record.name, "origin": record.origin, "sha256": record.sha256}
        for record in method.weights_records
    ]


def _stem(method: MeasuredMethod, protocol: Protocol, max_keypoints: int | None) -> str:
    number = "all" if max_keypoints in (None, -1) else f"n{max_keypoints}"
    size = "" if protocol.size is None else f"-{protocol.size[1]}x{protocol.size[0]}"
    return f"{method.conf.get('output', method.word)}-{number}{size}"
