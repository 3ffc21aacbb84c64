"""COLMAP's own features, as ``colmap/sift``, ``colmap/aliked-n32`` and what else pycolmap has.

Schönberger and Frahm, "Structure-from-Motion Revisited", CVPR 2016. The names are made of
pycolmap's enumeration.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pycolmap
import torch
from torch import Tensor

from featplug.base import Extractor
from featplug.colmap.database import from_colmap_keypoints
from featplug.colmap.own_features import (
    asked_of_colmap,
    extractor_types,
    family_of,
    set_options,
    typed_options,
    word,
)
from featplug.io.images import to_grey, to_uint8
from featplug.keypoints.detection import strongest
from featplug.methods import Conf, features, register_family, register_feature
from featplug.utils.suggestions import unknown_name

_ALL = 2**24
"""Number of features that stands for all; COLMAP needs one."""
_PAPERS = {"SIFT": "Lowe, IJCV 2004; COLMAP", "ALIKED": "Zhao et al., IEEE TIM 2023; COLMAP"}
_MATCHING: dict[str, Conf] = {
    "SIFT": {"matcher": "NN-ratio", "lightglue": "sift"},
    "ALIKED": {"matcher": "NN-mutual", "lightglue": "aliked"},
}


def _names() -> list[str]:
    return [word(kind) for kind in extractor_types()]


def _conf(name: str) -> Conf:
    kinds = {word(kind): kind for kind in extractor_types()}
    if name not in kinds:
        raise unknown_name("feature of COLMAP's own", name, kinds)
    kind, family = kinds[name], family_of(kinds[name])
    longest_side = getattr(_options(kind), "eff_max_image_size", lambda: 3200)()
    return {
        "model": {"name": "colmap", "type": kind},
        "preprocessing": {"grayscale": False, "resize_max": longest_side},
        "paper": _PAPERS.get(family, "COLMAP"),
        "dimensions": "128" if family in _PAPERS else "",
        "colmap": kind,
        **_MATCHING.get(family, {"matcher": "colmap/bruteforce"}),
    }


def _options(kind: str) -> Any:
    return typed_options(pycolmap.FeatureExtractionOptions, "FeatureExtractorType", kind)


@register_feature({}, paper="COLMAP")
class ColmapExtractor(Extractor):
    """One of COLMAP's feature extractors, with COLMAP's options.

    ``colmap/sift`` differs from ``sift`` in the implementation (VLFeat's or SiftGPU's, not
    OpenCV's), in the thresholds, in descriptors of whole 512ths, and in how many keypoints a budget
    keeps: COLMAP prefers large ones. pycolmap does not return COLMAP's responses, so that
    ``scores`` are the scales, which are all 1 for features without a scale.

    Conf:
        type: one of pycolmap's ``FeatureExtractorType``.
        max_keypoints: keep this many with the largest scales; -1 keeps all. None: COLMAP's default.
        options: entries of pycolmap's options of this type, such as ``estimate_affine_shape`` of
            ``SiftExtractionOptions``.
    """

    default_conf: ClassVar[dict[str, Any]] = {"type": "SIFT", "max_keypoints": None, "options": {}}

    def __init__(self, conf: Mapping[str, Any] | None = None) -> None:
        super().__init__(conf)
        kind = self.conf["type"]
        if kind not in extractor_types():
            raise unknown_name("feature type of pycolmap", kind, extractor_types())
        self._options = _options(kind)
        self._devices: dict[str, Any] = {}
        self._extractor("cpu")  # raises where pycolmap cannot
        own = getattr(self._options, family_of(kind).lower())
        set_options(own, self.conf["options"], f"colmap/{word(kind)}")
        if self.conf["max_keypoints"] is None:
            self.conf["max_keypoints"] = own.max_num_features
        budget = self.conf["max_keypoints"]
        own.max_num_features = _ALL if budget < 0 else max(1, budget)
        self._devices.clear()

    def _extractor(self, device: str) -> Any:
        """Return COLMAP's extractor on a device of torch's name."""
        on_gpu = device == "cuda" and pycolmap.has_cuda
        if device not in self._devices:
            name = word(self.conf["type"])
            place = pycolmap.Device.cuda if on_gpu else pycolmap.Device.cpu
            create = getattr(getattr(pycolmap, "FeatureExtractor", None), "create", None)
            with asked_of_colmap(f"colmap/{name}", name if name in features else ""):
                self._devices[device] = (create or pycolmap.Sift)(self._options, place)
        return self._devices[device]

    def extract(self, image: Tensor) -> dict[str, Tensor]:
        """Extract from one image; see :class:`Extractor`."""
        in_colour = getattr(self._options, "requires_rgb", bool)()
        pixels = _rgb(image) if in_colour else to_grey(image)
        extractor = self._extractor(image.device.type)
        with asked_of_colmap(f"colmap/{word(self.conf['type'])}", ""):
            if hasattr(extractor, "extract_from_uint8_array"):
                frames, descriptors = _arrays(*extractor.extract_from_uint8_array(pixels))
            else:
                frames, descriptors = extractor.extract(pixels)
        arrays = from_colmap_keypoints(frames)
        if family_of(self.conf["type"]) == "SIFT":
            arrays = {"scales": np.zeros(0, np.float32), "oris": np.zeros(0, np.float32), **arrays}
            scores = arrays["scales"]
        else:
            arrays = {"keypoints": arrays["keypoints"]}
            scores = np.ones(len(frames), np.float32)
        arrays |= {"scores": scores, "descriptors": descriptors}
        height, width = pixels.shape[:2]
        x, y = arrays["keypoints"].T
        (inside,) = np.nonzero((x >= -0.5) & (y >= -0.5) & (x <= width - 0.5) & (y <= height - 0.5))
        keep = inside[strongest(scores[inside], self.conf["max_keypoints"])]
        kept = {key: np.ascontiguousarray(value[keep]) for key, value in arrays.items()}
        kept["descriptors"] = np.ascontiguousarray(kept["descriptors"].T)
        return {key: torch.from_numpy(value).to(image.device) for key, value in kept.items()}


def _rgb(image: Tensor) -> np.ndarray:
    return to_uint8(image.expand(3, -1, -1))


def _arrays(keypoints: Any, descriptors: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return frames N×4 and descriptors N×D float32 of pycolmap's own types."""
    floats = descriptors.to_float().data
    # SIFT's bytes are of vectors of length 512.
    length = 512 if floats.shape == descriptors.data.shape else 1
    return pycolmap.keypoints_to_matrix(keypoints), floats / np.float32(length)


register_family(features, "colmap", _names, _conf)
