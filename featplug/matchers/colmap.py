"""COLMAP's own matchers: ``colmap/bruteforce``, ``colmap/lightglue`` and what else pycolmap has.

Schönberger and Frahm, "Structure-from-Motion Revisited", CVPR 2016. The names are made of
pycolmap's enumeration: each kind has one, such as ``colmap/aliked-lightglue``, and kinds that exist
for several features share one, such as ``colmap/lightglue``.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pycolmap
import torch
from torch import Tensor

from featplug.base import Matcher
from featplug.colmap.cameras import camera_rig, image_frame
from featplug.colmap.database import to_colmap_keypoints
from featplug.colmap.database_rows import open_database
from featplug.colmap.model_tables import create_camera
from featplug.colmap.own_features import (
    asked_of_colmap,
    extractor_types,
    family_of,
    matcher_types,
    set_options,
    typed_options,
    word,
)
from featplug.methods import Conf, matchers, name_of, register_family, register_matcher
from featplug.utils.suggestions import unknown_name

_IMAGES = ("0", "1")


def _kinds() -> dict[str, dict[str, str]]:
    """Return the matcher type for each kind of feature, by the names of matchers."""
    own: dict[str, dict[str, str]] = {}
    shared: dict[str, dict[str, str]] = {}
    for kind in matcher_types():
        family, _, variant = kind.partition("_")
        if kind in extractor_types():  # LOMA_B matches LOMA_B, and colmap/loma chooses
            own[word(kind)] = {kind: kind}
            own.setdefault(word(family), {})[kind] = kind
            continue
        own[word(kind)] = {f: kind for f in extractor_types() if family_of(f) == family}
        shared.setdefault(word(variant), {}).update(own[word(kind)])
    several = {n: k for n, k in shared.items() if len({family_of(f) for f in k}) > 1}
    return {**several, **own}


def _names() -> list[str]:
    return list(_kinds())


def _conf(name: str) -> Conf:
    if not matcher_types():
        raise ValueError(
            f"colmap/{name} needs pycolmap 4.0 or newer, not {pycolmap.__version__}; upgrade it."
        )
    if name not in _kinds():
        raise unknown_name("matcher of COLMAP's own", name, _kinds())
    return {"model": {"name": "colmap", "type": name}}


@register_matcher({})
class ColmapMatcher(Matcher):
    """One of COLMAP's matchers, with COLMAP's options and without its geometric verification.

    Each pair passes through a database of COLMAP in a temporary folder, as its matchers read sizes
    of images from there. COLMAP returns no scores, so that those of all matches are 1.

    Conf:
        type: name of the matcher, such as ``lightglue`` or ``sift-bruteforce``.
        feature: one of pycolmap's ``FeatureExtractorType``; the commands fill in what the feature
            conf has as ``colmap``.
        options: entries of pycolmap's options for this kind of feature, such as ``max_ratio`` of
            ``SiftMatchingOptions``.
    """

    default_conf: ClassVar[dict[str, Any]] = {"type": "bruteforce", "feature": None, "options": {}}
    required_keys = ("descriptors", "keypoints", "image_size")
    optional_keys = ("scales", "oris")

    def __init__(self, conf: Mapping[str, Any] | None = None) -> None:
        super().__init__(conf)
        name, feature = f"colmap/{self.conf['type']}", self.conf["feature"]
        kinds = _kinds().get(self.conf["type"])
        if kinds is None:
            raise unknown_name("matcher of COLMAP's own", self.conf["type"], _kinds())
        if feature is None and len({family_of(kind) for kind in kinds}) == 1:
            feature = self.conf["feature"] = next(iter(kinds))
        if feature not in kinds:
            unknown = "needs to know the feature" if feature is None else f"has none for {feature}"
            raise ValueError(
                f"{name} {unknown}; name one that it matches: --matcher-option feature=NAME (in "
                f"Python, load_matcher's feature), NAME being one of {', '.join(kinds)}."
            )
        self._options = typed_options(
            pycolmap.FeatureMatchingOptions, "FeatureMatcherType", kinds[feature]
        )
        instead = self.conf["type"] if self.conf["type"] in matchers else "NN-mutual"
        with asked_of_colmap(name, instead):
            pycolmap.FeatureMatcher.create(self._options, pycolmap.Device.cpu)
        set_options(getattr(self._options, family_of(feature).lower()), self.conf["options"], name)
        self._options.skip_geometric_verification = True

    @classmethod
    def model_for(cls, model: Mapping[str, Any], feature: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options with the kind of feature that a feature conf names by ``colmap``.

        Raises:
            ValueError: the matcher is not for this kind of feature.
        """
        kinds = _kinds().get(model["type"], {})
        given = model.get("feature")
        kind = feature.get("colmap") if given is None else given
        if kind not in kinds:
            raise ValueError(
                f"{name_of(feature)} cannot be matched with colmap/{model['type']}, which is for "
                f"{', '.join(kinds)}; use its matcher {feature.get('matcher', 'NN-mutual')}."
            )
        return {**model, "feature": kind}

    def match(
        self, features0: Mapping[str, Tensor], features1: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Match one pair; see :class:`featplug.base.Matcher`.

        Raises:
            ValueError: the descriptors are not SIFT's where these are matched, or COLMAP fails.
        """
        sides = [
            {key: value.numpy(force=True) for key, value in side.items()}
            for side in (features0, features1)
        ]
        numbers = [side["descriptors"].shape[1] for side in sides]
        matches = torch.full((numbers[0],), -1)
        if min(numbers) > 0:
            with tempfile.TemporaryDirectory(prefix="featplug-colmap-") as folder:
                pairs = torch.from_numpy(self._match(sides, Path(folder)).astype(np.int64))
            matches[pairs[:, 0]] = pairs[:, 1]
        matches = matches.to(features0["descriptors"].device)
        return {"matches0": matches, "matching_scores0": (matches >= 0).float()}

    def _match(self, sides: list[dict[str, np.ndarray]], folder: Path) -> np.ndarray:
        """Return the pairs of indices K×2 that COLMAP finds."""
        database_path, list_path = folder / "database.db", folder / "pairs.txt"
        self._options.max_num_matches = max(
            self._options.max_num_matches, *(side["descriptors"].shape[1] for side in sides)
        )
        with open_database(database_path) as database:
            for number, (name, side) in enumerate(zip(_IMAGES, sides, strict=True), start=1):
                _write_image(database, number, name, side["image_size"])
                frames = to_colmap_keypoints(side)
                if frames.shape[1] == 3:  # COLMAP knows no keypoints with a scale alone
                    frames = np.ascontiguousarray(frames[:, :2])
                database.write_keypoints(number, frames)
                database.write_descriptors(number, self._typed(side["descriptors"].T))
        list_path.write_text(" ".join(_IMAGES) + "\n", encoding="utf-8")
        pairing = pycolmap.ImportedPairingOptions()
        pairing.match_list_path = list_path
        with asked_of_colmap(f"colmap/{self.conf['type']}", ""):
            pycolmap.match_image_pairs(
                database_path, self._options, pairing, device=pycolmap.Device.cpu
            )
        with open_database(database_path) as database:
            return np.asarray(database.read_matches(1, 2)).reshape(-1, 2)

    def _typed(self, descriptors: np.ndarray) -> Any:
        """Return descriptors N×D as COLMAP keeps them: SIFT's as bytes, others as float32."""
        kind = pycolmap.FeatureExtractorType.__members__[self.conf["feature"]]
        if family_of(self.conf["feature"]) != "SIFT":
            floats = np.ascontiguousarray(descriptors, np.float32)
            return pycolmap.FeatureDescriptors(kind, floats.view(np.uint8))
        if descriptors.shape[1] != 128 or descriptors.min() < 0:
            raise ValueError(
                f"colmap/{self.conf['type']} takes SIFT's descriptors, 128 numbers that are not "
                "negative; use the feature's own matcher."
            )
        return pycolmap.FeatureDescriptors(
            kind, np.clip(np.round(512 * descriptors), 0, 255).astype(np.uint8)
        )


def _write_image(
    database: pycolmap.Database, number: int, name: str, image_size: np.ndarray
) -> None:
    width, height = (int(value) for value in image_size)
    pinhole = pycolmap.CameraModelId.SIMPLE_PINHOLE
    camera = create_camera(number, pinhole, float(max(width, height)), (width, height))
    database.write_camera(camera, use_camera_id=True)
    database.write_rig(camera_rig(camera), use_rig_id=True)
    image = pycolmap.Image(name, np.zeros((0, 2)), number, number)
    database.write_image(image, use_image_id=True)
    database.write_frame(image_frame(image), use_frame_id=True)


register_family(matchers, "colmap", _names, _conf)
