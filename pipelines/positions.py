"""Where the photographs of a scene were taken, which puts its models into metres."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap

from featplug.colmap.georeference import (
    Placement,
    local_positions,
    place_model,
    write_georeference,
)
from featplug.colmap.mapping import Mapper
from featplug.io.positions import PositionForm, Positions, exif_positions, read_positions

_EXIF = "exif"


@dataclass(frozen=True, kw_only=True)
class PositionOptions:
    """Options of the photographs' positions."""

    georeference: str | None = None
    """Put the model into metres, east-north-up: exif for the GPS positions of the photographs, or a
    file with a line for each image, its name, latitude, longitude (and altitude), or x, y, z."""
    position_form: PositionForm = "auto"
    """What the numbers of that file are, where its first line does not name the columns."""
    position_noise: float | None = None
    """Standard deviation of the positions, in metres: the incremental mapper then adjusts poses to
    them, too, against the drift of long sequences. By default they only place the model."""

    def check_positions(self, mapper: Mapper) -> None:
        """Raise ValueError if an option has no effect, or does not fit."""
        noise = self.position_noise
        if noise is not None and not 0 < noise < np.inf:
            raise ValueError(f"--position-noise must be above 0 m, not {noise:g}.")
        if noise is not None and (self.georeference is None or mapper != "incremental"):
            raise ValueError(
                "--position-noise lets the incremental mapper use positions; add --georeference "
                "exif or a file, and leave out other mappers, or leave it out."
            )
        if self.georeference in (None, _EXIF) and self.position_form != "auto":
            raise ValueError(
                "--position-form belongs to a file of positions; set --georeference FILE, or leave "
                "it out."
            )

    def read_positions(self, image_dir: Path, names: Sequence[str]) -> Positions:
        """Return the positions of images, by default those of their EXIF data.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is damaged, or has a position of none of the images.
        """
        if self.georeference in (None, _EXIF):
            return exif_positions(image_dir, names)
        return read_positions(Path(self.georeference or ""), self.position_form).of_images(names)


class ModelPlacer:
    """Puts the models of a scene into metres, the largest one first.

    Args:
        positions: positions of the images.
        seed: seed of the robust fit.

    Raises:
        ValueError: the positions do not say how a model stands in the world.
    """

    def __init__(self, positions: Positions, seed: int = 0) -> None:
        self.positions = positions
        self.georeference, self._places = local_positions(positions)
        self._seed = seed
        self.placements: list[Placement | str] = []
        """What became of each model, or why it stays as it is."""

    def __call__(self, model: pycolmap.Reconstruction) -> bool:
        """Put a model into metres, and return whether that was possible."""
        try:
            self.placements.append(place_model(model, self._places, self._seed))
        except ValueError as error:
            self.placements.append(str(error))
            return False
        return True

    def write(self, models: Iterable[Path], largest: Iterable[Path]) -> None:
        """Write the frame into the folders of the models that are in it.

        Args:
            models: folders, in the order in which the models were placed.
            largest: more folders of the first one.
        """
        placed = [isinstance(placement, Placement) for placement in self.placements]
        folders = [*compress(models, placed), *(largest if placed[0] else ())]
        for folder in dict.fromkeys(folder.resolve() for folder in folders):
            write_georeference(folder, self.georeference)

    def record(self) -> dict[str, Any]:
        """Return what ``results.json`` has of the largest model, with metres as the unit."""
        placement = self.placements[0]
        if isinstance(placement, str):
            return {"source": self.positions.source, "problem": placement}
        origin = self.georeference.origin
        return {
            "source": self.positions.source,
            "frame": self.georeference.frame,
            "unit": "m",
            "origin": None if origin is None else vars(origin),
            "offset": list(self.georeference.offset),
            "images": len(placement.names),
            "wrong": placement.wrong,
            "median_residual": float(np.median(placement.residuals)),
            "residual_90": float(np.quantile(placement.residuals, 0.9)),
            "scale_uncertainty": placement.scale_uncertainty,
            "rotation_uncertainty": placement.rotation_uncertainty,
        }


def georeference_lines(record: dict[str, Any] | None) -> list[str]:
    """Return how the model stands in the world as lines of text."""
    if record is None:
        return []
    if "problem" in record:
        return [f"  not in metres: {record['problem']} (positions of {record['source']})"]
    lines = [
        f"  in metres by the positions of {record['images']} images ({record['source']}): "
        f"residuals {record['median_residual']:.2g} m (median), {record['residual_90']:.2g} m "
        f"(90 %); scale known to {record['scale_uncertainty']:.1%}, direction to "
        f"{record['rotation_uncertainty']:.1f}°"
    ]
    if (origin := record["origin"]) is not None:
        place = f"{origin['latitude']:.6f}, {origin['longitude']:.6f}"
        known = origin["altitude"] is not None
        height = f"{origin['altitude']:.1f} m" if known else "the cameras' height"
        lines.append(f"  x is east, y north, z up of {place}, {height}")
    elif any(record["offset"]):
        offset = ", ".join(f"{each:.0f}" for each in record["offset"])
        lines.append(f"  ({offset}) m is subtracted from the given positions")
    if wrong := record["wrong"]:
        lines.append(f"  positions that contradict the others: {', '.join(wrong[:10])}")
    return lines
