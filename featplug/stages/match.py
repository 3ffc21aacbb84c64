"""The matching engine: pairs and a feature file to a match file.

Each image's features are read once where the memory budget holds all of them. Where it does not,
a block of images stays in memory while the others pass by.
"""

import time
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from featplug.api import FeatureMatcher
from featplug.base import Matcher
from featplug.io.hdf5_guard import UnusableDataError
from featplug.io.match_store import MatchWriter
from featplug.io.names import check_names_distinct, similar_name_hints
from featplug.io.pair_lists import Pair, read_pairs, unique_pairs
from featplug.io.parts.feature_parts import open_features
from featplug.io.parts.match_parts import MatchPartWriter
from featplug.io.store import FeatureReader
from featplug.methods import conf_of_features, matcher_conf_for
from featplug.stages.extract import made_by
from featplug.stages.matcher_inputs import MatcherInputs
from featplug.stages.shared_options import DeviceOptions, GuidedOptions, MatcherOptions
from featplug.utils.errors import described
from featplug.utils.progress import progress_bar

REVISION = 1
"""Revision of what this stage makes of a matcher's output, see :mod:`featplug.io.artifact`."""


@dataclass(frozen=True, kw_only=True)
class MatchOptions(GuidedOptions, DeviceOptions, MatcherOptions):
    """How pairs are matched."""

    features_ref: Path | None = None
    """Feature file of each pair's second image, where it is another than the first image's."""
    image_dir: Path | None = None
    """Folder of the photographs, for matchers that read these, or whose features lack their size.
    """
    memory_gib: float = 1.0
    """Memory in GiB for features and matching, half each."""


@dataclass(frozen=True)
class MatchSummary:
    """What a matching run did."""

    match_path: Path
    num_matched: int
    """Pairs matched by this run."""
    num_present: int
    """Pairs that were in the file before."""
    num_matches: int
    """Matches found by this run, over all its pairs."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Images without features that can be used, and pairs that could not be matched, and why."""
    seconds: float = 0.0


def match_features(
    conf: str | Mapping[str, Any] | FeatureMatcher,
    pairs: Path,
    features: Path | str,
    export_dir: Path | None = None,
    *,
    matches: Path | None = None,
    options: MatchOptions | None = None,
    progress: bool = False,
    **changes: Any,
) -> MatchSummary:
    """Match the pairs of a list; what is in the file already is kept.

    Args:
        conf: a matcher conf, its name, or a matcher on the same device, loaded
            before with its own ``strongest``.
        pairs: a pair list.
        features: a feature file, or its name without ``.h5`` in ``export_dir``.
        export_dir: folder of the match file, by default that of the features.
        matches: the match file, instead of ``export_dir``.
        options: how pairs are matched.
        progress: show a progress bar.
        changes: fields of :class:`MatchOptions` that replace those of ``options``.

    Raises:
        FileNotFoundError: a file does not exist.
        ValueError: a file does not fit, or no pair at all could be matched.
    """
    start = time.perf_counter()
    options = replace(options or MatchOptions(), **changes)
    features_ref, memory_budget = options.features_ref, int(options.memory_gib * 2**30)
    loaded = None
    if isinstance(conf, FeatureMatcher):
        loaded, conf = conf, conf.conf
    else:
        conf = options.matcher_conf(conf)
    pairs = Path(pairs)
    listed = read_pairs(pairs, with_itself=features_ref is not None)
    features = _feature_file(features, export_dir)
    if loaded is None:
        with open_features(features) as reader:
            conf = matcher_conf_for(conf_of_features(reader.model), conf)
    two_files = features_ref is not None and not features.samefile(_existing(features_ref))
    # The same name is another image in another file, and so is the other order.
    listed = list(dict.fromkeys(listed)) if two_files else unique_pairs(listed)
    check_names_distinct(name for pair in listed for name in pair)
    if matches is None:
        folder = features.parent if export_dir is None else Path(export_dir)
        matches = folder / f"{features.stem}_{conf['output']}_{pairs.stem}.h5"
    matches = Path(matches)
    if any(matches.exists() and matches.samefile(f) for f in (features, features_ref or features)):
        raise ValueError(f"The matches cannot be written to the feature file {matches}.")
    loaded = loaded or FeatureMatcher(conf, device=options.device, strongest=options.strongest)
    matcher, torch_device = loaded.matcher, loaded.device
    matcher.memory_budget = memory_budget // 2
    with open_features(features) as reader, open_features(features_ref or features) as reader_ref:
        inputs, inputs_ref = (
            MatcherInputs(file, matcher, torch_device, options.image_dir)
            for file in (reader, reader_ref)
        )
        provenance = replace(
            made_by("matches", conf["model"]["name"], matcher, {"match": REVISION}),
            inputs={"features": reader.file_id, "features_ref": reader_ref.file_id},
        )
        present, absent = _with_features(listed, reader, reader_ref)
        if not listed:
            raise ValueError(f"{pairs} has only pairs of an image with itself.")
        hints = similar_name_hints(absent, reader.names() + reader_ref.names()) if absent else {}
        if not present:
            first = next(iter(absent))
            raise ValueError(
                f"None of the {len(listed)} pairs of {pairs} has features in {features}; the "
                f"first image missing is {first!r}.{hints.get(first, '')}"
            )
        with MatchWriter(matches, provenance, options.overwrite) as writer:
            writer.forget_rewritten(reader, reader_ref)
            todo = writer.missing(present, directed=two_files)
            budget = memory_budget // (4 if two_files else 2)
            cache0 = FeatureCache(inputs, budget)
            cache1 = FeatureCache(inputs_ref, budget) if two_files else cache0
            done = match_into(writer, matcher, (cache0, cache1), todo, progress)
            if done.failed and len(todo) == len(present) and not done.num_matched:
                first = next(iter(done.failed.values()))
                raise ValueError(f"None of the {len(todo)} pairs could be matched: {first}")
    skipped = {
        name: f"the image {name!r} of {count} pairs has no features{hints.get(name, '')}"
        for name, count in absent.items()
    }
    return MatchSummary(
        matches,
        done.num_matched,
        len(present) - len(todo),
        done.num_matches,
        {**skipped, **done.failed},
        time.perf_counter() - start,
    )


@dataclass
class Matched:
    """What was matched into a file."""

    num_matched: int = 0
    num_matches: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    """Images whose features cannot be used, and pairs that could not be matched, and why."""


def match_into(
    writer: MatchWriter | MatchPartWriter,
    matcher: Matcher,
    caches: "tuple[FeatureCache, FeatureCache]",
    pairs: Sequence[Pair],
    progress: bool = False,
) -> Matched:
    """Match pairs into an open file, in an order in which features are read once.

    Args:
        writer: the file.
        matcher: the matcher.
        caches: features of the first and of the second images, which may be the same.
        pairs: the pairs.
        progress: show a progress bar.
    """
    done = Matched()
    ordered = in_blocks(pairs, caches[0].capacity(pairs))
    for name0, name1 in progress_bar(ordered, "match", len(ordered), "pair", progress):
        try:
            data0, data1 = caches[0].load(name0), caches[1].load(name1)
            matches0, scores0 = _match_pair(matcher, (name0, name1), data0, data1)
            writer.write(name0, name1, matches0, scores0, matcher.num_keypoints(data1))
        except UnusableImageError as error:
            done.failed[error.name] = str(error)
        except (_UnmatchedPairError, UnusableDataError) as error:  # such as scores of NaN
            done.failed[f"{name0} {name1}"] = str(error)
        else:
            done.num_matches += int((matches0 >= 0).sum())
            done.num_matched += 1
    return done


class UnusableImageError(ValueError):
    """The features of an image cannot be used."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(reason)
        self.name = name


class _UnmatchedPairError(ValueError):
    """A pair cannot be matched; the message begins with its names."""


def _match_pair(
    matcher: Matcher, pair: Pair, data0: Mapping[str, Tensor], data1: Mapping[str, Tensor]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the matches of a pair and their scores.

    Raises:
        _UnmatchedPairError: the pair cannot be matched.
    """
    names = f"{pair[0]!r} and {pair[1]!r}"
    lengths = [len(data["descriptors"]) for data in (data0, data1) if "descriptors" in data]
    if len(set(lengths)) > 1 and all(data["descriptors"].numel() for data in (data0, data1)):
        raise _UnmatchedPairError(
            f"{names} have descriptors of {lengths[0]} and {lengths[1]} dimensions; extract both "
            "with one feature."
        )
    try:
        result = matcher.match_pair(data0, data1)
        return result["matches0"].cpu().numpy(), result["matching_scores0"].cpu().numpy()
    except Exception as error:  # whatever a pair makes a method raise, the others are matched
        raise _UnmatchedPairError(f"{names} cannot be matched: {described(error)}") from error


def _feature_file(features: Path | str, export_dir: Path | None) -> Path:
    path = Path(features)
    if not path.exists() and export_dir is not None:
        path = Path(export_dir) / f"{features}.h5"
    return _existing(path)


def _existing(path: Path) -> Path:
    if not path.exists():
        raise FileNotFoundError(f"There is no feature file {path}; extract the features first.")
    return path


def _with_features(
    pairs: Sequence[Pair], reader: FeatureReader, reader_ref: FeatureReader
) -> tuple[list[Pair], Counter[str]]:
    """Split pairs into those with features, and a count of each image that has none."""
    has0, has1 = cache(reader.__contains__), cache(reader_ref.__contains__)
    absent: Counter[str] = Counter()
    present = []
    for name0, name1 in pairs:
        missing = [name for name, has in ((name0, has0), (name1, has1)) if not has(name)]
        absent.update(missing)
        if not missing:
            present.append((name0, name1))
    return present, absent


class FeatureCache:
    """Features of the images used last, as float32 tensors on the device, within a budget."""

    def __init__(self, inputs: MatcherInputs, budget: int) -> None:
        self._inputs = inputs
        self._budget = budget
        self._images: OrderedDict[str, dict[str, Tensor]] = OrderedDict()
        self._unusable: dict[str, str] = {}
        """Images whose features cannot be used, and why."""
        self._bytes = 0

    def capacity(self, pairs: Sequence[Pair]) -> int:
        """Return how many images the budget holds, judged by some first images of the pairs."""
        names = list(dict.fromkeys(pair[0] for pair in pairs))
        sample = names[:: max(1, len(names) // 100)]
        sizes = [self._inputs.num_bytes(name) for name in sample]
        return max(1, int(self._budget / max(1.0, float(np.mean(sizes))))) if sizes else 1

    def load(self, name: str) -> dict[str, Tensor]:
        """Return an image's features; those of the image before it stay in memory.

        Raises:
            UnusableImageError: they cannot be used.
        """
        if name in self._images:
            self._images.move_to_end(name)
            return self._images[name]
        if name in self._unusable:
            raise UnusableImageError(name, self._unusable[name])
        try:
            tensors = self._inputs.read(name)
        except (FileNotFoundError, ValueError) as error:
            self._unusable[name] = str(error)
            raise UnusableImageError(name, str(error)) from error
        self._images[name] = tensors
        self._bytes += _tensor_bytes(tensors)
        while self._bytes > self._budget and len(self._images) > 2:
            self._bytes -= _tensor_bytes(self._images.popitem(last=False)[1])
        return tensors


def _tensor_bytes(tensors: Mapping[str, Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors.values())


def in_blocks(pairs: Sequence[Pair], capacity: int) -> list[Pair]:
    """Order pairs so that a block of images stays in memory while the others pass by.

    A block's images are each used with every passing image, and so never the least recently used.
    """
    names = dict.fromkeys(name for pair in pairs for name in pair)
    order = {name: i for i, name in enumerate(names)}
    block = max(1, capacity - 3)  # the passing image, the one before it, and one to spare

    def place(pair: Pair) -> tuple[int, int, int]:
        i, j = order[pair[0]], order[pair[1]]
        return i // block, j, i

    return sorted(pairs, key=place)
