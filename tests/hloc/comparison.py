"""Feature files of hloc's engines beside our own."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from featplug.io.store import FeatureReader


def assert_same_features(path: Path, own: Path, names: Iterable[str]) -> None:
    """All data sets, within the rounding to float16 of hloc's engine; keypoints within float32."""
    with FeatureReader(path) as reader, FeatureReader(own) as expected:
        for name in names:
            theirs, ours = reader.read(name), expected.read(name)
            assert theirs.keys() == ours.keys()
            assert len(ours["keypoints"]) > 20
            assert reader.uncertainty(name) == pytest.approx(expected.uncertainty(name))
            for key, value in ours.items():
                largest = float(np.abs(value).max())
                tolerance = 1e-4 if key == "keypoints" else 1e-3 * max(1.0, largest)
                np.testing.assert_allclose(theirs[key], value, rtol=0, atol=tolerance, err_msg=key)
