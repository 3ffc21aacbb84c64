"""Where photographs were taken: by GPS in their EXIF data, or by a file of positions.

A file has a line for each image: its name, then latitude, longitude (degrees, WGS84) and perhaps
altitude (metres), or x, y, z (metres). A first line with the names of the columns may give them in
any order, as the tables of drones, Metashape's and exiftool's do; COLMAP's ``ref_images.txt`` has
none, nor has Pix4D's. Columns are separated by commas, semicolons, tabs or spaces.
"""

import csv
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from featplug.io.exif import GpsPosition
from featplug.io.image_files import read_image_header
from featplug.io.names import checked_name, similar_name_hints
from featplug.io.text_files import MAX_BYTES, iterate_lines, number
from featplug.utils.parallel import NUM_READERS, map_ahead

logger = logging.getLogger(__name__)

PositionForm = Literal["auto", "gps", "metres"]

_COLUMNS = {
    "name": "name image imagename filename file imagefile label photo picture sourcefile",
    "latitude": "latitude lat gpslatitude latitudedeg ylatitude latitudey",
    "longitude": "longitude lon lng long gpslongitude longitudedeg xlongitude longitudex",
    "altitude": "altitude alt gpsaltitude height elevation ele altitudem zaltitude altitudez",
    "x": "x easting east tx xeasting eastingx",
    "y": "y northing north ty ynorthing northingy",
    "z": "z up tz",
}
_COLUMN_OF = {word: column for column, words in _COLUMNS.items() for word in words.split()}
_GPS = ("latitude", "longitude", "altitude")
_METRES = ("x", "y", "z")


@dataclass(frozen=True)
class Positions:
    """Where photographs were taken, by GPS or in metres."""

    source: str
    """Where the positions come from: ``EXIF``, or the name of a file."""
    gps: dict[str, GpsPosition] = field(default_factory=dict)
    """Image name to position by GPS."""
    metres: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    """Image name to position in metres, where it is not known by GPS."""

    @property
    def names(self) -> list[str]:
        """Images whose position is known."""
        return [*self.gps, *self.metres]

    def of_images(self, names: Sequence[str]) -> "Positions":
        """Return the positions of images, which may be listed without their folders.

        Raises:
            ValueError: none of them has a position, or the file has two for one of them.
        """
        known = {**self.gps, **self.metres}
        by_file: dict[str, list[str]] = {}
        for name in names:
            by_file.setdefault(name.rpartition("/")[2], []).append(name)
        images = set(names)
        found: dict[str, str] = {}
        for listed in known:
            of_file = [] if "/" in listed else by_file.get(listed, [])
            image = listed if listed in images else of_file[0] if len(of_file) == 1 else None
            if image is None:
                continue
            if image in found:
                raise ValueError(
                    f"{self.source} has two positions of {image!r}, as {found[image]!r} and as "
                    f"{listed!r}; remove one."
                )
            found[image] = listed
        if not found and known:
            example, image = next(iter(known)), next(iter(names), "none")
            hint = next(iter(similar_name_hints(known, names).values()), "")
            raise ValueError(
                f"{self.source} has positions of {len(known)} images such as {example!r}, but of "
                f"none of the {len(images)} photographs such as {image!r}; use the photographs' "
                f"names, with or without folders.{hint}"
            )
        used = set(found.values())
        if others := [listed for listed in known if listed not in used]:
            logger.warning(
                "%s: %d of %d positions are of no photograph, the first is %r; they are left out.",
                *(self.source, len(others), len(known), others[0]),
            )
        return Positions(
            self.source,
            {image: self.gps[found[image]] for image in names if found.get(image) in self.gps},
            {
                image: self.metres[found[image]]
                for image in names
                if found.get(image) in self.metres
            },
        )


def exif_positions(image_dir: Path, names: Iterable[str]) -> Positions:
    """Return the GPS positions that the EXIF data of photographs have.

    Images that cannot be read have none; reading them will say why.
    """

    def position(name: str) -> GpsPosition | None:
        with suppress(OSError, ValueError):
            return read_image_header(Path(image_dir) / name).gps
        return None

    names = list(names)
    found = zip(names, map_ahead(position, names, NUM_READERS), strict=True)
    return Positions("EXIF", {name: gps for name, gps in found if gps is not None})


def read_positions(path: Path, form: PositionForm = "auto") -> Positions:
    """Read a file of positions.

    Args:
        path: the file.
        form: what the numbers are. By default the names of the columns say it; two numbers are
            latitude and longitude.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: it is no such file, a number is out of range, an image is listed twice, or the
            form is unknown.
    """
    path, columns, positions = Path(path), None, Positions(Path(path).name)
    num_blank = 0
    for at, line in iterate_lines(path, "file of positions", MAX_BYTES):
        text, where = line.strip(), f"{path}, line {at}"
        if not positions.names and (header := _header(_words(text.lstrip("# ")))) is not None:
            form, columns = _form_of(header, form, where), header
        elif text and not text.startswith("#"):
            words = _words(text)
            if columns is None:
                form, columns = _without_header(words, form, where)
            if len(words) <= max(columns.values()):
                raise ValueError(
                    f"{where}: expected {max(columns.values()) + 1} columns, got {len(words)}: "
                    f"{text[:60]!r}; correct the line."
                )
            values = {column: words[i] for column, i in columns.items()}
            if any(value for column, value in values.items() if column != "name"):
                _add(positions, form, values, where)
            else:  # as tables have them of photographs without a fix
                num_blank += 1
    if num_blank:
        logger.warning("%s: %d of its lines have no position.", path, num_blank)
    if not positions.names:
        raise ValueError(f"The file of positions {path} has no position; add lines of them.")
    return positions


_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")


def _words(line: str) -> list[str]:
    delimiter = next((mark for mark in "\t;," if mark in line), None)
    if delimiter is None:
        return line.split()
    words = [word.strip() for word in next(csv.reader([line], delimiter=delimiter))]
    if delimiter == ",":
        return words
    # Where commas do not separate, they are decimal ones, as tables of some countries have them.
    return [word.replace(",", ".") if _DECIMAL_COMMA.fullmatch(word) else word for word in words]


def _header(words: Sequence[str]) -> dict[str, int] | None:
    """Return the columns that a line names, or None if it has a position."""
    columns: dict[str, int] = {}
    for i, word in enumerate(words):
        if (column := _COLUMN_OF.get(re.sub("[^a-z]", "", word.lower()))) is not None:
            columns.setdefault(column, i)
    if not any({*axes} <= set(columns) for axes in (_GPS[:2], _METRES[:2])):
        return None
    return {"name": 0} | columns


def _form_of(columns: dict[str, int], form: PositionForm, where: str) -> PositionForm:
    """Return what the columns that a header names have; columns that are not used are removed."""
    has_gps, has_metres = {*_GPS[:2]} <= set(columns), {*_METRES} <= set(columns)
    is_gps = has_gps and form != "metres"
    if not (has_gps if form == "gps" or is_gps else has_metres):
        raise ValueError(
            f"{where}: the columns are {', '.join(columns)}, expected a name and "
            f"{'latitude and longitude' if form == 'gps' else 'x, y and z'}; correct the line, or "
            "leave out --position-form."
        )
    for column in set(columns) - {"name", *(_GPS if is_gps else _METRES)}:
        del columns[column]
    return "gps" if is_gps else "metres"


def _without_header(
    words: Sequence[str], form: PositionForm, where: str
) -> tuple[PositionForm, dict[str, int]]:
    """Return the form and the columns of a file whose first line is a position."""
    if form == "auto" and len(words) > 3:
        raise ValueError(
            f"{where}: three numbers may be latitude, longitude and altitude, or x, y and z; set "
            "--position-form to gps or metres, or name the columns in the first line."
        )
    axes = _METRES if form == "metres" else _GPS[: max(2, len(words) - 1)]
    return "metres" if form == "metres" else "gps", {
        column: i for i, column in enumerate(("name", *axes))
    }


def _add(positions: Positions, form: PositionForm, values: Mapping[str, str], where: str) -> None:
    name = checked_name(values["name"], where)
    if name in positions.gps or name in positions.metres:
        raise ValueError(f"{where}: a second position of {name!r}; remove one of them.")
    if form == "metres":
        x, y, z = (number(values[axis], where, f"{axis} in metres") for axis in _METRES)
        positions.metres[name] = x, y, z
        return
    latitude = number(values["latitude"], where, "a latitude", minimum=-90, maximum=90)
    longitude = number(values["longitude"], where, "a longitude", minimum=-180, maximum=180)
    altitude = values.get("altitude", "")
    positions.gps[name] = GpsPosition(
        latitude, longitude, number(altitude, where, "an altitude") if altitude else None
    )
