"""Where the matches of a method come from: its features and their matcher, files, or images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.choices import FileOptions
from benchmarks.measured_method import MeasuredMethod, matcher_label
from benchmarks.pairs.extraction import ExtractedFeatures, extract_cached
from benchmarks.pairs.feature_pairs import (
    KnownMatches,
    MatchedFeatures,
    MatchedImages,
    PairSource,
)
from benchmarks.pairs.kept_rows import MEASURING, REVISION
from benchmarks.pairs.pair_protocol import PairProtocol
from benchmarks.pairs.pair_set import ImagePair, PairSet
from benchmarks.settings import method_settings
from featplug.api.image_matcher import ImageMatcher
from featplug.base import Matcher, PairMatcher
from featplug.io.artifact import Provenance, file_hash
from featplug.io.parts.feature_parts import open_features
from featplug.methods import Conf, build_matcher, matcher_conf, matchers
from featplug.methods.user_classes import class_name
from featplug.stages.extract import made_by
from featplug.stages.shared_options import MatcherOptions

_NO_OPTIONS = MatcherOptions()


@dataclass(frozen=True)
class Source:
    """Matches of one method by one protocol."""

    matcher: str
    """Name of the matcher for tables."""
    open: Callable[[Sequence[ImagePair]], PairSource]
    """Opens the pairs that will be read, in their order."""
    provenance: Provenance
    """What the matches are made from."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Images without features, and why."""
    deviation: str | None = None
    """How the matches deviate from the protocol's."""
    reuses_features: bool = False
    """Whether features of some images were there before."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Settings of the method (:mod:`benchmarks.settings`)."""


def open_source(
    method: MeasuredMethod,
    protocol: PairProtocol,
    pair_set: PairSet,
    options: FileOptions,
    known: dict[str, KnownMatches],
    progress: bool = False,
) -> Source:
    """Extract the features of a method that are not yet kept, and load its matcher.

    Args:
        method: the method.
        protocol: rules that say how many keypoints are kept, and how they are matched.
        pair_set: pairs to be matched.
        options: options of methods, device and output folder.
        known: matches of all keypoints by the same features and matcher, which are added to.
        progress: show a progress bar.

    Raises:
        FileNotFoundError: weights are missing.
        ValueError: the method does not fit the protocol, or no image could be used.
    """
    if method.matches_images:
        return _of_images(method, protocol, pair_set, options)
    if method.features is not None and protocol.size is not None:
        raise ValueError(
            f"{protocol.name} resizes the images, and {method.features} has features of others; "
            "measure it by another protocol."
        )
    max_keypoints = options.max_keypoints or protocol.max_keypoints
    name, matcher, deviation = str(method.matches), None, None
    if method.matches is None:
        name, matcher, deviation = protocol_matcher(method, protocol.one_way, options)
    else:
        method.check_number(options.max_keypoints)  # its matches have indices of all keypoints
        if protocol.one_way:
            deviation = f"the matches of {method.matches} are as they are"
    extraction = options.extraction(method)
    if method.features is None and extraction.resize_max is None:
        extraction = replace(extraction, resize_max=protocol.resize_max)
    extraction = replace(extraction, max_keypoints=max_keypoints)
    stem = _stem(method, protocol, max_keypoints)
    extracted = extract_cached(extraction, pair_set, options.features_folder, stem, progress)
    provenance, of_features = _provenance(matcher or method.matches, extracted, max_keypoints)

    def opened(pairs: Sequence[ImagePair]) -> PairSource:
        return MatchedFeatures(
            extracted.path,
            matcher or method.matches,
            pairs,
            pair_set.folder,
            known=known.setdefault(f"{extracted.path} {max_keypoints} {name}", {}),
            max_keypoints=max_keypoints,
            device=options.device,
        )

    return Source(
        name,
        opened,
        provenance,
        extracted.skipped,
        deviation,
        extracted.num_reused > 0,
        method_settings(of_features, None if matcher is None else matcher.conf, max_keypoints),
    )


def _provenance(
    matcher: Matcher | Path | None, extracted: ExtractedFeatures, max_keypoints: int | None
) -> tuple[Provenance, Conf | None]:
    """Return what matches of features are made from, and the conf of these where it is known."""
    inputs: dict[str, str | None] = {}
    if isinstance(matcher, Matcher):
        made = _made_by(matcher)
    else:
        made = Provenance("figures", {}, revisions={MEASURING: REVISION})
        inputs["matches"] = None if matcher is None else file_hash(matcher)
    with open_features(extracted.path) as reader:
        of_features = reader.provenance
        inputs["features"] = reader.file_id
    whole = replace(
        made,
        conf={**made.conf, "max_keypoints": max_keypoints},
        weights=extracted.weights + made.weights,
        inputs=inputs,
        methods=([] if of_features is None else of_features.methods) + made.methods,
    )
    return whole, None if of_features is None else of_features.conf


def _made_by(method: Matcher | PairMatcher) -> Provenance:
    name = class_name(type(method))
    return made_by("figures", name, method, {MEASURING: REVISION})


def protocol_matcher(
    method: MeasuredMethod, one_way: bool, options: MatcherOptions = _NO_OPTIONS
) -> tuple[str, Matcher, str | None]:
    """Build the matcher of a protocol.

    Args:
        method: a feature, matched by the requested matcher, or by its own for two views, but
            without the ratio test of that, which no protocol has.
        one_way: leave out the mutual check, so that every keypoint of image 0 has a match.
        options: options of the matcher.

    Returns:
        Name of the matcher for tables, the matcher, and how it deviates from the protocol's.

    Raises:
        ValueError: no such matcher exists.
    """
    name = method.matcher_name(two_views=True)
    conf = matcher_conf(name)
    if method.matcher is None and conf["model"].get("ratio_threshold") is not None:
        name, conf = _without_ratio_test(name, conf)
    model = options.matcher_conf(conf, method.conf)["model"]
    matcher = build_matcher(model)
    if not one_way:
        return matcher_label(name, model), matcher, None
    if "do_mutual_check" not in matcher.default_conf:
        return matcher_label(name, model), matcher, f"{name} has no matches of one way"
    model = {**model, "do_mutual_check": False}
    return f"{matcher_label(name, model)}, one way", build_matcher(model), None


def _without_ratio_test(name: str, conf: Conf) -> tuple[str, Conf]:
    """Return the conf of a matcher without its ratio test, and the name of that matcher."""
    same = {key: value for key, value in conf["model"].items() if key != "ratio_threshold"}
    names = (other for other, known in matchers.items() if known["model"] == same)
    model = {**same, "ratio_threshold": None}
    return next(names, f"{name} without its ratio test"), {**conf, "model": model}


def _of_images(
    method: MeasuredMethod, protocol: PairProtocol, pair_set: PairSet, options: FileOptions
) -> Source:
    deviation = f"{method.name} matches images, without keypoints of each"
    matcher = ImageMatcher(options.pair_matcher_conf(method), device=options.device)
    conf = {"model": matcher.conf["model"], "preprocessing": matcher.preprocessing}
    return Source(
        method.name,
        lambda _: MatchedImages(matcher, pair_set.folder),
        replace(_made_by(matcher.matcher), conf=conf),
        deviation=None if protocol.leaves_settings else deviation,
        settings=method_settings({**conf, "model": matcher.matcher.conf}),
    )


def _stem(method: MeasuredMethod, protocol: PairProtocol, max_keypoints: int | None) -> str:
    number = "all" if max_keypoints in (None, -1) else f"n{max_keypoints}"
    size = "" if protocol.size is None else f"-{protocol.size[1]}x{protocol.size[0]}"
    size += "" if protocol.resize_max is None else f"-max{protocol.resize_max}"
    return f"{method.conf.get('output', method.word)}-{number}{size}"
