"""The methods that benchmarks measure: names, and files that stand in for them."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from featplug.io.hdf5_guard import UnusableDataError
from featplug.io.parts.feature_parts import open_features
from featplug.methods import (
    Conf,
    feature_conf,
    is_pair_matcher,
    matcher_conf_for,
    matcher_of,
    pair_matcher_conf,
)
from featplug.methods.method_names import file_word, parse_method


@dataclass(frozen=True)
class MeasuredMethod:
    """A method with a name of its own in tables."""

    name: str
    """Name as it was given, such as ``aliked-n16+lightglue``."""
    feature: str | None
    """Name of the feature, or of the matcher of two images; None where a file's is not known."""
    matcher: str | None = None
    """Requested matcher; None for the feature's own, and where there is none."""
    features: Path | None = None
    """Feature file that is used instead of extraction."""
    matches: Path | None = None
    """Match file that is used instead of matching."""

    @property
    def word(self) -> str:
        """Name as part of a file's name."""
        return file_word(self.name)

    @property
    def other_matcher(self) -> str | None:
        """Requested matcher that the name does not tell; published numbers are of the name's."""
        return None if parse_method(self.name).matcher else self.matcher

    @cached_property
    def matches_images(self) -> bool:
        """Whether it matches two images, without keypoints of each."""
        return self.features is None and self.feature is not None and is_pair_matcher(self.feature)

    @cached_property
    def conf(self) -> Conf:
        """Conf of the feature or of the matcher of two images; empty where it is not known."""
        if self.feature is None:
            return {}
        return (pair_matcher_conf if self.matches_images else feature_conf)(self.feature)

    def matcher_name(self, two_views: bool = False) -> str:
        """Return the name of the matcher: the requested one, or the feature's own.

        Raises:
            ValueError: neither is known.
        """
        own = matcher_of(self.conf, two_views) if self.conf and not self.matches_images else None
        name = self.matcher or own
        if name is None:
            raise ValueError(
                f"{self.name} has no matcher: {self.name!r} is no feature of featplug; write "
                f"{self.name}+MATCHER=FILE, or add --matcher."
            )
        return name

    def check_number(self, max_keypoints: int | None) -> None:
        """Check that a feature file, which is used whole, has no more keypoints than requested.

        Raises:
            ValueError: an image has more.
        """
        if self.features is None or max_keypoints in (None, -1):
            return
        with open_features(self.features) as reader:
            for name in reader.names():
                with suppress(UnusableDataError):  # whoever uses the image reports it
                    num = reader.shapes(name)["keypoints"][0]
                    if num > max_keypoints:
                        raise ValueError(
                            f"{self.features} has {num} keypoints of {name!r}, more than "
                            f"{max_keypoints}; make it with fewer, or use --max-keypoints -1."
                        )

    @property
    def pipeline_matcher(self) -> str | None:
        """Matcher to request of a pipeline; None is the feature's own."""
        needed = self.features is not None and self.matches is None
        return self.matcher_name() if needed else self.matcher

    def matcher_conf(self, two_views: bool = False) -> Conf:
        """Return the conf of the matcher, with its weights for the feature.

        Raises:
            ValueError: the matcher does not exist, or none is known.
        """
        return matcher_conf_for(self.conf, self.matcher_name(two_views))


def matcher_label(name: str, model: Mapping[str, Any]) -> str:
    """Return the name of a matcher for tables, with its ratio test."""
    ratio = model.get("ratio_threshold")
    return name if ratio is None else f"{name} (ratio {ratio:g})"


def recorded_matcher(results: Mapping[str, Any]) -> str:
    """Return the name for tables of the matcher in the record of a pipeline."""
    conf = results.get("matcher_conf") or {"model": {}}
    return matcher_label(results["matcher"], conf["model"])


class GivenFiles(NamedTuple):
    """Files that stand in for a method."""

    features: Path | None = None
    matches: Path | None = None


NO_FILES = GivenFiles()


def find_method(
    name: str, matcher: str | None = None, files: GivenFiles = NO_FILES
) -> MeasuredMethod:
    """Find a method by its name.

    Args:
        name: a name of :mod:`featplug.methods.method_names`; for a feature file, of a feature or
            any other.
        matcher: matcher of a method that has none in its name.
        files: files that stand in for it.

    Raises:
        FileNotFoundError: the file of a class does not exist.
        ValueError: no such feature or matcher exists, or none is known.
    """
    feature, of_name = parse_method(name).feature, parse_method(name).matcher
    is_known = files.features is None or _is_feature(feature)
    method = MeasuredMethod(name, feature if is_known else None, of_name or matcher, *files)
    if method.matches_images:
        method = replace(method, matcher=None)
    elif method.matches is None:
        method.matcher_conf()  # raises where there is none
    _ = method.conf  # raises where there is none
    return method


def _is_feature(name: str) -> bool:
    try:
        feature_conf(name)
    except (ValueError, OSError):
        return False
    return True


def given_files(features: Sequence[str], matches: Sequence[str]) -> dict[str, GivenFiles]:
    """Return the files that stand in for methods, by the names of these.

    Args:
        features: feature files, each as ``NAME=FILE``.
        matches: match files, each as ``NAME=FILE``.

    Raises:
        FileNotFoundError: a file does not exist.
        ValueError: an entry has another form, or a name has two files.
    """
    of_features = _named_files("--features", features)
    of_matches = _named_files("--matches", matches)
    names = of_features | of_matches
    return {name: GivenFiles(of_features.get(name), of_matches.get(name)) for name in names}


def _named_files(option: str, entries: Sequence[str]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for entry in entries:
        name, equals, file = entry.partition("=")
        if not (name and equals and file):
            raise ValueError(f"{option} takes NAME=FILE, such as sift=file.h5, not {entry!r}.")
        if name in files:
            raise ValueError(f"{option} has two files of {name}; give each a name of its own.")
        path = Path(file)
        if not path.exists():
            raise FileNotFoundError(f"There is no file {path}, which {option} names for {name}.")
        files[name] = path
    return files
