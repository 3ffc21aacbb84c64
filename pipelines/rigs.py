"""Rigs of the cameras that took the photographs of a scene."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featplug.colmap.rigs import Rigs, read_rigs


@dataclass(frozen=True, kw_only=True)
class RigOptions:
    """Options of rigs."""

    rig: Path | None = None
    """Cameras that are fixed to each other, in COLMAP's rig_config.json: images of one name after
    the prefixes of two cameras were taken at one time."""
    fix_rig: bool = False
    """Keep the poses of the cameras in that file; by default bundle adjustment refines them."""

    def read_rigs(self) -> Rigs | None:
        """Return the rigs, or None.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is damaged, or an option has no effect.
        """
        if self.rig is None:
            if self.fix_rig:
                raise ValueError("--fix-rig keeps the poses of a rig; add --rig FILE.")
            return None
        rigs = read_rigs(self.rig)
        if self.fix_rig and not rigs.has_poses:
            raise ValueError(
                f"{self.rig} has no cam_from_rig of some cameras, so that --fix-rig has nothing to "
                "keep; give these poses, or leave out --fix-rig."
            )
        return rigs


def rig_record(rigs: Rigs, names: list[str], problem: str | None) -> dict[str, Any]:
    """Return what ``results.json`` has of the rigs of images."""
    frames = [frame for sequence in rigs.sequences(names) for frame in sequence]
    return {
        "file": str(rigs.path),
        "cameras": [camera.image_prefix for rig in rigs.rigs for camera in rig],
        "frames": len(frames),
        "poses": "given" if rigs.has_poses else "estimated",
        **({} if problem is None else {"problem": problem}),
    }


def rig_lines(record: dict[str, Any] | None) -> list[str]:
    """Return the rigs of a model as lines of text."""
    if record is None:
        return []
    if "problem" in record:
        return [f"  without rigs: {record['problem']}"]
    return [
        f"  rigs: {len(record['cameras'])} cameras in {record['frames']} frames, poses in the rig "
        f"{record['poses']}"
    ]
