"""AKAZE, where OpenCV has it."""

from __future__ import annotations

import cv2
import pytest
from torch import Tensor

from featplug.methods import build_extractor
from tests.extractors.contract import ExtractorContract
from tests.extractors.places import corners, mirror_offset

HAS_AKAZE = hasattr(cv2, "AKAZE") or hasattr(getattr(cv2, "xfeatures2d", None), "AKAZE")
needs_akaze = pytest.mark.skipif(not HAS_AKAZE, reason="this build of OpenCV has no AKAZE")


@needs_akaze
class TestAKAZE(ExtractorContract):
    method = "akaze"

    def picture(self) -> Tensor:
        return corners(200, 160)


@needs_akaze
@pytest.mark.parametrize("size", [(320, 256), (309, 251)])
def test_points_lie_where_they_are(size: tuple[int, int]) -> None:
    assert abs(mirror_offset(build_extractor({"name": "akaze"}), corners(*size))) < 0.1


def test_a_build_of_opencv_without_it_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(cv2, "AKAZE", raising=False)
    monkeypatch.delattr(cv2, "xfeatures2d", raising=False)
    with pytest.raises(ValueError, match=r"OpenCV .* has no AKAZE.*`pip install [^`]+`"):
        build_extractor({"name": "akaze"})
