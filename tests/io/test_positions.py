"""Positions of photographs: files in all their forms, EXIF data, names with and without folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from featplug.io.exif import GpsPosition
from featplug.io.positions import Positions, exif_positions, read_positions
from tests.scenes.positioned import write_gps_image

ZURICH = GpsPosition(47.37, 8.54, 408.5)


def write(folder: Path, *lines: str) -> Path:
    path = folder / "positions.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize(
    "lines",
    [
        ["name latitude longitude altitude", "a.jpg 47.37 8.54 408.5"],
        ["image,alt,lon,lat", "a.jpg,408.5,8.54,47.37"],
        ["SourceFile,GPSLatitude,GPSLongitude,GPSAltitude", "./a.jpg,47.37,8.54,408.5"],
        ["#Label;X/Longitude;Y/Latitude;Z/Altitude;Yaw", "a.jpg;8.54;47.37;408.5;90"],
        ["# of the drone", "# name lat lng ele", "", "# the first", "a.jpg 47.37 8.54 408.5"],
        ['"Filename"\t"Latitude [deg]"\t"Longitude [deg]"\t"Altitude [m]"',
         "a.jpg\t47.37\t8.54\t408.5"],
    ],
)  # fmt: skip
def test_tables_with_named_columns(tmp_path: Path, lines: list[str]) -> None:
    assert read_positions(write(tmp_path, *lines)).gps == {"a.jpg": ZURICH}


def test_files_without_names_of_columns(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jpg 47.37 8.54", "b/c.jpg 47.38 -8.55")
    expected = {"a.jpg": GpsPosition(47.37, 8.54), "b/c.jpg": GpsPosition(47.38, -8.55)}
    assert read_positions(path).gps == expected
    path = write(tmp_path, "a.jpg 47.37 8.54 408.5")
    assert read_positions(path, "gps").gps == {"a.jpg": ZURICH}
    assert read_positions(path, "metres").metres == {"a.jpg": (47.37, 8.54, 408.5)}
    with pytest.raises(ValueError, match=r"positions.txt, line 1: .*--position-form"):
        read_positions(path)
    # Pix4D's: accuracies follow, and an altitude may be missing.
    path = write(tmp_path, "a.jpg,47.37,8.54,408.5,5,10", "b.jpg,47.37,8.54,,5,10")
    assert read_positions(path, "gps").gps["b.jpg"].altitude is None
    path = write(tmp_path, "image x y z", "a.jpg 1 2 3e3")
    assert read_positions(path).metres == {"a.jpg": (1, 2, 3000)}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["n lat lon", "a.jpg 91 8"], "line 2: expected a latitude of .* at most 90, got 91"),
        (["n lat lon", "a.jpg 47 190"], "line 2: expected a longitude"),
        (["n lat lon", "a.jpg nan 8"], "line 2: expected a latitude that is finite"),
        (["n lat lon alt", "a.jpg 4 8 high"], "line 2: expected an altitude, got 'high'"),
        (["n x y z", "a.jpg 1 2 inf"], "line 2: expected z in metres"),
        (["n lat lon", "a.jpg 4 8", "a.jpg 5 8"], "line 3: a second position of 'a.jpg'"),
        (["n lat lon", "a.jpg 4"], "line 2: expected 3 columns, got 2"),
        (["n lat lon", "../a.jpg 4 8"], "line 2: the image name"),
        (["n x y", "a.jpg 4 8"], "line 1: the columns are .* x, y and z"),
        (["n lat lon"], "no position"),
        ([""], "no position"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_positions(write(tmp_path, *lines))


def test_a_form_that_contradicts_the_columns_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--position-form"):
        read_positions(write(tmp_path, "name lat lon", "a.jpg 4 8"), "metres")
    with pytest.raises(ValueError, match="--position-form"):
        read_positions(write(tmp_path, "name x y z", "a.jpg 4 8 9"), "gps")
    with pytest.raises(FileNotFoundError, match="no file of positions"):
        read_positions(tmp_path / "gone.txt")


def test_positions_are_those_of_the_photographs() -> None:
    here, there = GpsPosition(1, 2), GpsPosition(3, 4)
    listed = Positions("drone.csv", {"A.jpg": here, "x/B.jpg": there, "other.jpg": here})
    names = ["x/A.jpg", "x/B.jpg", "y/B.jpg"]
    assert listed.of_images(names).gps == {"x/A.jpg": here, "x/B.jpg": there}
    # Without its folder, a name that two folders have says nothing.
    assert Positions("f", {"B.jpg": here, "A.jpg": here}).of_images(names).names == ["x/A.jpg"]
    with pytest.raises(ValueError, match=r"drone.csv has two positions of 'x/B.jpg'"):
        Positions("drone.csv", metres={"x/B.jpg": (1, 2, 3), "B.jpg": (1, 2, 3)}).of_images(
            names[:2]
        )
    with pytest.raises(ValueError, match=r"drone.csv has .* 'a.JPG'.*none of the 3 photographs"):
        Positions("drone.csv", {"a.JPG": here}).of_images(names)
    assert Positions("EXIF").of_images(names).names == []


def test_exif_positions_of_the_photographs_that_have_one(tmp_path: Path) -> None:
    write_gps_image(tmp_path / "a.jpg", ZURICH)
    write_gps_image(tmp_path / "b.jpg", GpsPosition(-33.5, -70.25))
    write_gps_image(tmp_path / "c.jpg", None)
    (tmp_path / "d.jpg").write_bytes(b"damaged")
    found = exif_positions(tmp_path, ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]).gps
    assert list(found) == ["a.jpg", "b.jpg"]
    assert found["a.jpg"].latitude == pytest.approx(47.37, abs=1e-7)
    assert found["a.jpg"].altitude == pytest.approx(408.5)
    assert found["b.jpg"].longitude == pytest.approx(-70.25)
    assert found["b.jpg"].altitude is None


def test_photographs_without_a_fix_have_no_position(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As exiftool's tables list them."""
    path = tmp_path / "exif.csv"
    path.write_text("SourceFile,GPSLatitude,GPSLongitude\na.jpg,47.1,8.1\nb.jpg,,\n")
    assert read_positions(path).names == ["a.jpg"]
    assert "1 of its lines have no position" in caplog.text


def test_decimal_commas_between_semicolons(tmp_path: Path) -> None:
    path = tmp_path / "positions.csv"
    path.write_text("name;latitude;longitude\na.jpg;47,1;-8,25\n")
    assert read_positions(path).gps["a.jpg"] == GpsPosition(47.1, -8.25, None)


def test_a_table_of_both_forms_has_the_one_that_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "both.csv"
    path.write_text("name,x,y,z,lat,lon\na.jpg,1,2,3,47,8\n")
    assert read_positions(path, "metres").metres["a.jpg"] == (1, 2, 3)
    assert read_positions(path, "gps").gps["a.jpg"] == GpsPosition(47, 8, None)
    path.write_text("name,x,y,z\na.jpg,1,2,3\n")
    with pytest.raises(ValueError, match=r"both.csv, line 1"):
        read_positions(path, "gps")
