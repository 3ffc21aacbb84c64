"""Features and matches that the user gives as files, of featplug or of another tool."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from featplug.io.artifact import files_hash
from featplug.io.pair_lists import Pair
from featplug.io.parts.feature_parts import open_features
from featplug.io.parts.verified_parts import open_matches_or_inliers
from featplug.methods import conf_of_features, feature_conf, name_of
from featplug.methods.user_classes import recorded_name
from featplug.shards.stage_record import check_whole
from featplug.stages.extract import other_photograph, raise_if_all_skipped


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


def pairs_of_matches(path: Path, names: Iterable[str]) -> list[Pair]:
    """Return the pairs of images that a given match file has.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: no pair of these images is in the file.
    """
    names = list(names)
    with open_matches_or_inliers(path) as reader:
        pairs, others = reader.pairs(names)
    if not pairs:
        example = f" for example those of {others[0]!r}" if others else " none"
        raise ValueError(
            f"{path} has no matches of two images such as {next(iter(names), 'none')!r}, but"
            f"{example}; give the match file of these images, with names relative to their folder."
        )
    return pairs


def check_matches_of(path: Path, features: Path | None) -> None:
    """Raise ValueError if a given match file was made from other features, or lacks parts.

    Args:
        path: the match file.
        features: the feature file; None is one that is to be made, which no match file is of.
    """
    check_whole(path)
    with open_matches_or_inliers(path) as matches:
        if features is not None:
            with open_features(features) as reader:
                matches.check_features(reader)
        elif matches.feature_ids:
            raise ValueError(
                f"{path} has matches of a feature file, not of the features that this run "
                "extracts; give that file by --features."
            )


def check_feature_of(path: Path, name: str) -> None:
    """Raise ValueError if a given feature file records another feature than a name is of."""
    with open_features(path) as reader:
        recorded = reader.model
    if recorded and _differ(recorded, feature_conf(name)["model"]):
        raise ValueError(
            f"{path} has features of {_name_of_model(recorded)}, not of {name}; leave out "
            f"--feature, or give a file of {name}."
        )


def _differ(model: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether two models are of other methods or networks, whatever their options."""
    if recorded_name(model["name"]) != recorded_name(other["name"]):
        return True
    if (
        "checkpoint" in model
        and "checkpoint" in other
        and model["checkpoint"] != other["checkpoint"]
    ):
        return True
    detectors = [each["detector"] for each in (model, other) if each.get("detector")]
    return len(detectors) == 2 and _differ(*detectors)


def _name_of_model(model: Mapping[str, Any]) -> str:
    """Return the name of the feature that a feature file records, as far as it is known here."""
    conf = conf_of_features(model)
    if conf is None:
        return str(model["name"])
    detector = model.get("detector")
    if not detector or not _differ(conf["model"], model):
        return name_of(conf)
    return f"{name_of(conf)}@{_name_of_model(detector)}"


def given_features(path: Path, image_dir: Path, names: Sequence[str]) -> Features:
    """Return those of images that a given file has.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: it has none of the images, or all are other photographs.
    """
    with open_features(path) as reader:
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
