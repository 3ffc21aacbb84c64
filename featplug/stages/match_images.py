"""The engine of detector-free methods: images and pairs to a feature file and a match file.

The points that a pair matcher finds are kept pair by pair in a file of their own, so that a run can
be killed and started again at any time, and another list of pairs costs its new pairs only. From
this file the points of each image over all its pairs are gathered into keypoints, see
:mod:`featplug.stages.gather`.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from featplug.api.image_matcher import ImageCache, ImageMatcher, PreparedImage
from featplug.io.artifact import Provenance
from featplug.io.h5file import OtherContentsError
from featplug.io.masks import Masks, mask_of
from featplug.io.names import check_names_distinct
from featplug.io.orientation import Orientation
from featplug.io.pair_lists import Pair, read_pairs, unique_pairs
from featplug.io.pair_points_store import PairPointsWriter
from featplug.methods import pair_matchers, resolve_pair_matcher_conf
from featplug.methods.method_options import resized, with_options
from featplug.stages.extract import listed_names, made_by, turned_otherwise, weights_files
from featplug.stages.gather import GatheredFiles, GatherOptions, gather_points
from featplug.stages.match import in_blocks
from featplug.stages.shared_options import MaskOptions, ReadingOptions
from featplug.utils.errors import described
from featplug.utils.parallel import map_ahead
from featplug.utils.progress import progress_bar

REVISION = 1
"""Revision of the points of a pair, see :mod:`featplug.io.artifact`."""


@dataclass(frozen=True, kw_only=True)
class MatchImagesOptions(GatherOptions, MaskOptions, ReadingOptions):
    """How pairs of images are matched, and their points gathered."""

    features: Path | None = None
    """Feature file to write, instead of one in the folder of the outputs."""
    matches: Path | None = None
    """Match file to write, instead of one in the folder of the outputs."""
    weights: str | None = None
    """Weights of the network: official, or a file."""
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    """Floating-point type of the network's products."""
    memory_gib: float = 1.0
    """Memory in GiB for images that wait for their pairs."""

    def load(self, method: str | Mapping[str, Any]) -> ImageMatcher:
        """Load a pair matcher, by its name or conf, with these options.

        Raises:
            FileNotFoundError: weights are missing.
            ValueError: no such method or option exists.
        """
        conf = resolve_pair_matcher_conf(method)
        conf = resized(with_options(pair_matchers, conf, self.option, "option"), self.resize_max)
        weights: dict[str, Any] = {} if self.weights is None else {"weights": self.weights}
        return ImageMatcher(
            conf,
            device=self.device,
            precision=self.precision,
            orientation=self.orientation,
            **weights,
        )


@dataclass(frozen=True)
class MatchImagesSummary:
    """What a run did."""

    feature_path: Path
    match_path: Path
    names: list[str]
    """Requested images whose keypoints are in the feature file now."""
    num_matched: int
    """Pairs matched by this run."""
    num_present: int
    """Pairs that were matched before."""
    num_keypoints: int
    """Keypoints that this run gathered."""
    num_matches: int
    """Matches of keypoints that this run gathered."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Images that cannot be used, and pairs that could not be matched, and why."""
    weights: list[dict[str, str]] = field(default_factory=list)
    """Name, origin and sha256 of each weights file."""
    seconds: float = 0.0


def match_images(
    conf: str | Mapping[str, Any] | ImageMatcher,
    pairs: Path,
    image_dir: Path,
    export_dir: Path,
    *,
    image_list: Path | Sequence[str] | None = None,
    options: MatchImagesOptions | None = None,
    progress: bool = False,
    **changes: Any,
) -> MatchImagesSummary:
    """Match the pairs of a list of images, and gather their points into keypoints.

    Args:
        conf: a conf of a pair matcher, its name, or one loaded before.
        pairs: a pair list.
        image_dir: folder of the images.
        export_dir: folder of the files, among them ``points-NAME.h5`` with the points of pairs.
        image_list: images of the feature file, where those of no pair have no keypoints; the
            images of the pairs if None.
        options: how pairs are matched.
        progress: show progress bars.
        changes: fields of :class:`MatchImagesOptions` that replace those of ``options``.

    Raises:
        FileNotFoundError: a file does not exist.
        ValueError: a file does not fit, a photograph changed since its pairs were matched, or no
            pair at all could be matched.
    """
    start = time.perf_counter()
    options = replace(options or MatchImagesOptions(), **changes)
    pairs, image_dir, export_dir = Path(pairs), Path(image_dir), Path(export_dir)
    listed = unique_pairs(read_pairs(pairs))
    of_pairs = list(dict.fromkeys(name for pair in listed for name in pair))
    check_names_distinct(of_pairs)
    names = of_pairs if image_list is None else listed_names(image_list)
    matcher = conf if isinstance(conf, ImageMatcher) else options.load(conf)
    method = matcher.conf["output"].removeprefix("matches-")
    files = GatheredFiles(
        Path(options.features or export_dir / f"feats-{method}_{pairs.stem}.h5"),
        Path(options.matches or export_dir / f"matches-{method}_{pairs.stem}.h5"),
        *options.resolved(matcher.conf),
        options.overwrite,
    )
    points = export_dir / f"points-{method}.h5"
    cache_bytes = int(options.memory_gib * 2**30)
    masks = Masks(options.masks, names) if options.masks is not None else None
    images = ImageCache(matcher, image_dir, cache_bytes, options.max_megapixels, masks)
    lonely = set(names).difference(of_pairs)
    skipped = {name: images.unusable[name] for name in lonely if images.load(name) is None}
    with PairPointsWriter(points, _provenance(matcher), options.overwrite) as writer:
        skipped |= {
            name: f"There is no image {image_dir / name}."
            for name in of_pairs
            if not (image_dir / name).is_file()
        }
        existing = [pair for pair in listed if skipped.keys().isdisjoint(pair)]
        todo = _not_yet_matched(writer, image_dir, existing, matcher.orientation, masks)
        failed = _match_pairs(matcher, writer, images, todo, progress)
        skipped |= images.unusable
        skipped |= {" ".join(pair): why for pair, why in failed.items() if why}
        if len(failed) == len(existing):  # within this block, so that a file to overwrite stays
            first = next(iter(skipped.values()))
            raise ValueError(f"None of the {len(listed)} pairs could be matched: {first}")
    names = [name for name in names if name not in skipped]
    usable = [pair for pair in existing if images.unusable.keys().isdisjoint(pair)]
    num_keypoints, num_matches = gather_points(points, usable, image_dir, names, files, progress)
    return MatchImagesSummary(
        files.features,
        files.matches,
        names,
        len(todo) - len(failed),
        len(existing) - len(todo),
        num_keypoints,
        num_matches,
        skipped,
        weights_files(matcher.matcher),
        time.perf_counter() - start,
    )


def _provenance(matcher: ImageMatcher) -> Provenance:
    return made_by(
        "points of pairs",
        matcher.conf["model"]["name"],
        matcher.matcher,
        {"match_images": REVISION},
        preprocessing=matcher.preprocessing,
        precision=matcher.precision,
    )


def _not_yet_matched(
    writer: PairPointsWriter,
    image_dir: Path,
    pairs: Sequence[Pair],
    orientation: Orientation,
    masks: Masks | None,
) -> list[Pair]:
    """List the pairs that the file lacks, or has with other masks.

    Raises:
        OtherContentsError: a photograph was exchanged since its pairs were matched, or turned
            otherwise when they were.
    """
    todo = writer.missing(pairs)
    lacking = set(todo)
    present = [pair for pair in pairs if pair not in lacking]
    changed = writer.changed_images(present, image_dir)
    if changed:
        raise OtherContentsError(
            f"{image_dir / changed[0]} is another photograph than the one {writer.path} was made "
            "from"
        )
    turned = writer.turned_images(present, image_dir, orientation)
    if turned:
        raise OtherContentsError(turned_otherwise(image_dir / turned[0], writer.path, orientation))
    return todo + writer.otherwise_masked(present, lambda name: mask_of(masks, name))


def _match_pairs(
    matcher: ImageMatcher,
    writer: PairPointsWriter,
    images: ImageCache,
    pairs: Sequence[Pair],
    progress: bool,
) -> dict[Pair, str]:
    """Match pairs; return those that could not be, and why, or "" for an image's sake."""

    def load(pair: Pair) -> tuple[PreparedImage | None, PreparedImage | None]:
        return images.load(pair[0]), images.load(pair[1])

    failed = {}
    names = dict.fromkeys(name for pair in pairs for name in pair)
    ordered = in_blocks(pairs, images.capacity(names))
    # One thread reads ahead: the next pair while this one is matched.
    bar = progress_bar(map_ahead(load, ordered, 1), "match", len(ordered), "pair", progress)
    for pair, (image0, image1) in zip(ordered, bar, strict=True):
        if image0 is None or image1 is None:
            failed[pair] = ""
            continue
        try:
            found = matcher.match_prepared(image0, image1)
        except Exception as error:  # whatever a pair makes a method raise, the others are matched
            failed[pair] = f"{pair[0]!r} and {pair[1]!r} cannot be matched: {described(error)}"
            continue
        kept = image0.shows(found.points0) & image1.shows(found.points1)
        points = (found.points0[kept], found.points1[kept], found.scores[kept])
        fingerprints = image0.fingerprint, image1.fingerprint
        writer.write(pair, points, fingerprints, (image0.origin, image1.origin))
    return failed
