"""What the training commands have in common."""

from __future__ import annotations

from pathlib import Path

import pytest

from featplug.cli.training.common import Run
from featplug.training.data.sift_pairs import SIFTPairs
from tests.scenes.pictures import write_textured_images
from tests.training.processes import run_two_processes


def test_of_two_processes_one_prepares_the_data(tmp_path: Path) -> None:
    write_textured_images(tmp_path / "images", 2, width=340, height=260)
    code = (
        "from pathlib import Path\n"
        "from featplug.cli.training.common import Run\n"
        "from featplug.training.data.sift_pairs import SIFTPairs, make_sift_pairs\n"
        f"root = Path({str(tmp_path)!r})\n"
        "run = Run(root / 'images', root / 'run', device='cpu')\n"
        "made = make_sift_pairs(run.images, root / 'pairs.h5', run.names(), num_workers=0)\n"
        "run.prepare('pairs', made)\n"
        "SIFTPairs(root / 'pairs.h5').require(run.names())\n"
    )
    first, second = run_two_processes(code)
    assert (first.returncode, second.returncode) == (0, 0), first.errors + second.errors
    assert "photograph" in first.errors
    assert "photograph" not in second.errors
    assert SIFTPairs(tmp_path / "pairs.h5").names() == ["000.png", "001.png"]


def test_one_photograph_is_refused_before_anything_is_made_of_it(tmp_path: Path) -> None:
    write_textured_images(tmp_path / "images", 1, width=64, height=48)
    with pytest.raises(ValueError, match="at least two photographs; there are 1"):
        Run(tmp_path / "images", tmp_path / "run").names()
