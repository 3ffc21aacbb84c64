"""The measurement of single photographs in a large model."""

from __future__ import annotations

import re

import pytest

from benchmarks.localizer_speed import LocalizerSpeed, main


def test_queries_of_the_measured_model_are_localized(capsys: pytest.CaptureFixture[str]) -> None:
    """Otherwise it would measure how long it takes to find nothing."""
    main(LocalizerSpeed(num_images=24, num_keypoints=300, num_retrieved=8, num_queries=2))
    text = capsys.readouterr().out
    assert "2 queries in 24 images" in text
    assert "2 localized" in text
    error = re.search(r"largest error ([\d.]+) m", text)
    assert error is not None
    assert float(error[1]) < 0.02
