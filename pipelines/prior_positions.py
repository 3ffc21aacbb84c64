"""Prior positions of queries, within which they are matched and localized."""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from featplug.colmap.georeference import Georeference, read_georeference
from featplug.io.positions import PositionForm, Positions, exif_positions, read_positions
from featplug.metrics.poses import camera_centres
from pipelines.run_options import require_positive

_EXIF = "exif"


@dataclass(frozen=True, kw_only=True)
class PriorOptions:
    """Options of the queries' prior positions."""

    prior: str | None = None
    """Where the queries were taken, to match them with the map's photographs near there only: exif
    for the GPS positions of their EXIF data, or a file with a line for each query, its name, then
    latitude, longitude (and altitude), or x, y, z of the model. GPS needs a model in metres, such
    as by featplug sfm --georeference."""
    prior_form: PositionForm = "auto"
    """What the numbers of that file are, where its first line does not name the columns."""
    prior_radius: float = 50.0
    """Distance from the prior position, in metres or units of the model, within which photographs
    of the map are matched. A pose at more than twice that distance is not accepted."""

    def read_priors(self, folder: Path, names: Collection[str], model: Path) -> "Priors | None":
        """Read the prior positions, or return None without the option.

        Args:
            folder: folder that the names of queries are relative to.
            names: names of the queries.
            model: folder of the model.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is damaged, no query has a position, or they are by GPS and the
                model is not.
        """
        if self.prior is None:
            return None
        require_positive(prior_radius=self.prior_radius)
        if self.prior == _EXIF:
            positions = exif_positions(folder, names)
        else:
            positions = read_positions(Path(self.prior), self.prior_form).of_images(list(names))
        if not positions.names:
            raise ValueError(
                f"--prior {self.prior}: none of the {len(names)} queries has a position; leave out "
                "--prior, or give a file of positions."
            )
        return Priors(positions, read_georeference(model), self.prior_radius, model)


@dataclass(frozen=True)
class Priors:
    """Prior positions of queries in a model.

    Raises:
        ValueError: see :meth:`PriorOptions.read_priors`.
    """

    positions: Positions
    georeference: Georeference | None
    radius: float
    model: Path

    def __post_init__(self) -> None:
        is_in_metres = self.georeference is not None and self.georeference.origin is not None
        if self.positions.gps and not is_in_metres:
            raise ValueError(
                f"{self.model} has no georeference.json with a place on the earth, so that GPS "
                "positions say nothing in it; make the model by featplug sfm --georeference exif, "
                "or give positions in the model's coordinates by --prior FILE."
            )

    @cached_property
    def places(self) -> dict[str, np.ndarray]:
        """Query name to position in the model: x, y, z, or x, y by GPS without altitudes.

        The altitude of GPS, its least certain number, does not count.
        """
        if self.positions.gps and self.georeference is not None:
            found = self.georeference.from_gps(list(self.positions.gps.values()))
            return dict(zip(self.positions.gps, found[:, :2], strict=True))
        offset = np.array(self.georeference.offset if self.georeference else (0.0, 0.0, 0.0))
        return {name: np.array(p) - offset for name, p in self.positions.metres.items()}

    def distances(self, query: str, poses: np.ndarray) -> np.ndarray | None:
        """Return how far cameras are from a query's prior position; None where it has none.

        Args:
            query: name of the query.
            poses: N×3×4 ``cam_from_world``.
        """
        if (place := self.places.get(query)) is None:
            return None
        centres = camera_centres(poses)[:, : len(place)]
        return np.asarray(np.linalg.norm(centres - place, axis=1))

    def doubt(self, query: str, cam_from_world: np.ndarray) -> str | None:
        """Return the reason to reject a pose that is far from the prior position, or None."""
        distances = self.distances(query, cam_from_world[None])
        if distances is None or distances[0] <= 2 * self.radius:
            return None
        return f"its pose is {distances[0]:.0f} m from its prior position"
