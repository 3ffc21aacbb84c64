"""Tests of the trainings, which are a few steps on small photographs."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def short_run(images: Path, outputs: Path, steps: int = 1, **changes: Any) -> dict[str, Any]:
    """Options of a run on the CPU that is validated once."""
    return {
        "images": images,
        "outputs": outputs,
        "steps": steps,
        "validate_every": steps,
        "validation_pairs": 1,
        "device": "cpu",
        "num_workers": 0,
        **changes,
    }
