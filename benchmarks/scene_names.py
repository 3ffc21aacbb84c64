"""Names of data sets, and metrics by the conditions of their queries."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

DEMO_WORLDS = {"aachen": "demo-town", "inloc": "demo-room"}
"""Pipeline to the name of the world that it renders instead of reading a data set."""


def scene_folder(images: Path) -> Path:
    """Return the folder that names a scene: its folder of photographs, or the one above images/."""
    folder = Path(images).resolve()
    return folder.parent if folder.name == "images" else folder


def metrics_by_part(
    metrics: Mapping[str, Any], conditions: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Split a pipeline's metrics by the conditions that their names begin with.

    The first part, ``all``, has the metrics of no condition.
    """
    parts: dict[str, dict[str, Any]] = {part: {} for part in ("all", *conditions)}
    for name, entry in metrics.items():
        part = next((c for c in conditions if name.startswith(f"{c}_")), "all")
        parts[part][name.removeprefix(f"{part}_")] = entry
    return parts
