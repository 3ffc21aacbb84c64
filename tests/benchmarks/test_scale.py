"""The measurement of what stores cost."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.scale import ScaleOptions, main


@pytest.mark.slow
def test_a_small_set_is_measured_and_removed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(ScaleOptions(images=(60,), pairs_per_image=2, size=20, outputs=tmp_path / "out"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["images", "pairs", "manifest"]
    assert lines[1].split()[:2] == ["60", "120"]
    of_hloc, packed = (line.split() for line in lines[-2:])
    assert (of_hloc[0], packed[0]) == ("hloc's", "packed")
    assert float(of_hloc[2].replace(",", "")) > 3 * float(packed[2].replace(",", ""))
    assert not (tmp_path / "out").exists()
