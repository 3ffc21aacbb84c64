"""Options that the pipelines share: features, matching, files and the output folder."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar

from featplug.base import choose_device
from featplug.cli.command_line import Unprefixed
from featplug.methods import (
    feature_conf,
    is_pair_matcher,
    matcher_conf,
    matcher_of,
    pair_matcher_conf,
    retrieval_conf,
)
from featplug.methods.method_names import MethodName, file_word, parse_method, path_word
from featplug.stages.match_images import MatchImagesOptions
from featplug.stages.shared_options import (
    GuidedOptions,
    MatcherOptions,
    NetworkOptions,
    ReadingOptions,
)
from pipelines.given_files import (
    check_feature_of,
    check_matches_of,
)
from pipelines.output_folder import changed_settings, folder_name

DEFAULT_FEATURE = "sift"
_OF_EXTRACTION = (
    "resize_max",
    "option",
    "orientation",
    "masks",
    "max_keypoints",
    "weights",
    "precision",
    "batch_size",
)
"""Options that a given feature file leaves without effect."""


@dataclass(frozen=True)
class _NamedFeature:
    """A base of its own, so that ``--help`` shows the feature before its options."""

    feature: str | None = None
    """Name of the feature, sift by default, or A+M for the feature A with the matcher M; `featplug
    list` shows them all. A class of your own is my_file.py:Class or package.module:Class."""
    features: Path | None = None
    """Feature file to use instead of extracting, such as one of hloc's; needs --feature, which
    names the feature in it and so its own matcher, --matcher or --matches."""

    @property
    def method(self) -> MethodName:
        """The feature, and the matcher that is named with it."""
        return parse_method(DEFAULT_FEATURE if self.feature is None else self.feature)


@dataclass(frozen=True)
class FeatureOptions(NetworkOptions, _NamedFeature):
    """Options of features: their name, network and file."""

    def check(self) -> None:
        """Raise ValueError if a given feature file is of another feature, or has not an option."""
        if self.features is None:
            return
        default = FeatureOptions()
        for name in _OF_EXTRACTION:
            if getattr(self, name) != getattr(default, name):
                raise ValueError(
                    f"{self.features} is used as it is, without --{name.replace('_', '-')}; leave "
                    "out that option, or extract with it without --features."
                )
        if self.feature is not None:
            check_feature_of(self.features, self.method.feature)


@dataclass(frozen=True, kw_only=True)
class MatchingOptions(GuidedOptions, MatcherOptions):
    """Options of matching, the same in pipelines and their benchmarks."""

    matcher: str | None = None
    """Name of the matcher; by default the feature's own."""
    retrieval: str = "vlad"
    """Name of the retrieval method that selects pairs; `featplug list` shows them."""
    cell_size: float | None = None
    """For methods without keypoints: side of the cells whose points become one keypoint, in pixels
    of the images as they are matched; 2 by default, or the method's own."""


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
        if self.pair_matcher is not None:
            return changed_settings(replace(self, matcher=None))
        alike = replace(self, extraction=_with_max_keypoints(self.extraction))
        matcher, own = self.matcher or method.matcher, self.own_matcher
        if self.extraction.features is not None and self.matches is None:
            matcher, own = matcher or own, None  # any feature may be in the file
        return changed_settings(replace(alike, matcher=matcher), matcher=own)

    @property
    def own_matcher(self) -> str | None:
        """The feature's own matcher; None for a given file whose feature is not named."""
        if self.extraction.features is not None and self.extraction.feature is None:
            return None
        return matcher_of(feature_conf(self.extraction.method.feature))

    @property
    def pair_list(self) -> Path | None:
        """The given pair list, or None."""
        raise NotImplementedError

    @property
    def match_images_options(self) -> MatchImagesOptions:
        """The options of a method without keypoints."""
        extraction = self.extraction
        shared = values_of(ReadingOptions, extraction)
        return MatchImagesOptions(
            **shared | {"option": (*extraction.option, *self.matcher_option)},
            masks=extraction.masks,
            weights=extraction.weights,
            precision=extraction.precision,
            max_keypoints=extraction.max_keypoints,
            cell_size=self.cell_size,
            memory_gib=self.memory_gib,
        )

    @property
    def pair_matcher(self) -> str | None:
        """Name of a method without keypoints, which is given as the feature or as the matcher."""
        method = self.extraction.method
        if self.extraction.features is not None or self.matches is not None:
            return None
        names = (method.feature, self.matcher or method.matcher)
        return next((name for name in names if name and is_pair_matcher(name)), None)

    @property
    def output_dir(self) -> Path:
        """Folder for everything."""
        extraction = self.extraction
        given = extraction.features
        named = self.pair_matcher or extraction.method.feature
        feature = file_word(named) if given is None else path_word(given)
        if given is not None and extraction.feature is not None:
            feature += f"-{file_word(named)}"
        if self.outputs is not None:
            return self.outputs
        return Path("outputs") / self.pipeline / folder_name(self.data_name, feature, self.settings)

    def check(self) -> str:
        """Check the request before the long work.

        Returns:
            Name of the matcher: the requested one, or the feature's own; empty where matches are
            given of features that are not named.

        Raises:
            ValueError: something does not exist, or a file is given without what belongs to it.
        """
        self.extraction.check()
        method = self.extraction.method
        if self.matcher and method.matcher:
            raise ValueError(
                f"--feature {self.extraction.feature} names a matcher, and --matcher another; give "
                "one."
            )
        matcher = self.matcher or method.matcher
        pair_matcher = self.pair_matcher
        if pair_matcher is not None:
            _check_alone(pair_matcher, self.extraction.feature, matcher)
        matcher = pair_matcher or matcher or self.own_matcher
        if pair_matcher is not None:
            pair_matcher_conf(pair_matcher)
        elif self.matches is not None:
            check_matches_of(self.matches, self._present_features)
        elif matcher is None:
            raise ValueError(
                "--features needs --matcher NAME, --feature NAME for the matcher of the feature in "
                "the file, or the matches by --matches FILE."
            )
        else:
            matcher_conf(matcher)
        retrieval_conf(self.retrieval)
        choose_device(self.extraction.device)
        return matcher or ""

    @property
    def _present_features(self) -> Path | None:
        """The given feature file, or the one of an earlier run; None if it is to be made."""
        extraction = self.extraction
        if extraction.features is not None:
            return extraction.features
        path = self.output_dir / f"{feature_conf(extraction.method.feature)['output']}.h5"
        return path if path.is_file() and not extraction.overwrite else None


def _with_max_keypoints(extraction: FeatureOptions) -> FeatureOptions:
    """Return the options with a number of keypoints in ``max_keypoints`` only, not in ``option``.

    That of ``option`` is the one that counts.
    """
    number, others = extraction.max_keypoints, []
    for text in extraction.option:
        name, _, value = (part.strip() for part in text.partition("="))
        if name == "max_keypoints" and re.fullmatch(r"-?\d+", value):
            number = int(value)
        else:
            others.append(text)
    return replace(extraction, max_keypoints=number, option=tuple(others))


def _check_alone(pair_matcher: str, feature: str | None, matcher: str | None) -> None:
    """Raise ValueError if a method without keypoints is given with another method."""
    if feature not in (pair_matcher, None):
        raise ValueError(
            f"{pair_matcher} matches images without keypoints of a feature; leave out {feature}."
        )
    if matcher not in (pair_matcher, None):
        raise ValueError(f"{pair_matcher} matches images by itself; leave out {matcher}.")


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
