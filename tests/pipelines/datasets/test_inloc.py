"""InLoc's files: names, alignments, scans, cameras, and a check that names what is missing."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from pipelines.datasets.inloc import (
    InLoc,
    benchmark_camera,
    parse_cutout,
    read_alignment,
)
from tests.scenes.scanned_room import ScannedRoom, alignment_text

AFTER = np.array([[0, -1, 0, 12.5], [1, 0, 0, -3.25], [0, 0, 1, 0.125], [0, 0, 0, 1]], float)


@pytest.fixture
def room(scanned_room: ScannedRoom, tmp_path: Path) -> ScannedRoom:
    """One to damage."""
    shutil.copytree(scanned_room.folder, tmp_path / "inloc")
    return replace(scanned_room, folder=tmp_path / "inloc")


def test_names_and_where_their_files_are(scanned_room: ScannedRoom) -> None:
    dataset = InLoc(scanned_room.folder)
    assert dataset.database_names() == sorted(scanned_room.database)
    assert dataset.query_names() == sorted(scanned_room.queries)
    name = "database/cutouts/DUC1/024/DUC_cutout_024_30_0.jpg"
    assert dataset.scan_path(name) == scanned_room.folder / f"{name}.mat"
    assert dataset.alignment_path(name) == (
        scanned_room.folder / "database/alignments/DUC1/transformations/DUC_trans_024.txt"
    )
    assert parse_cutout("database/cutouts/CSE3/001/cse_cutout_001_120_-30.jpg").building == "cse"
    for wrong in ("query/iphone7/IMG_0801.JPG", "DUC1/024/DUC_cutout_025_0_0.jpg", "a.jpg"):
        with pytest.raises(ValueError, match=f"{wrong!r} is not named as InLoc's"):
            parse_cutout(wrong)


@pytest.mark.parametrize(
    "text",
    [
        alignment_text(np.eye(4), AFTER),
        "024\n\n" + alignment_text(np.eye(4), AFTER),
        alignment_text(np.eye(4), AFTER).replace("\n", "\r\n"),
        # Blank lines and headings elsewhere than in the released files.
        alignment_text(np.eye(4), AFTER).replace("\n\n", "\n"),
        alignment_text(np.eye(4), AFTER).replace("\n", "\n\n"),
        # Without the first one, or without any heading.
        alignment_text(np.eye(4), AFTER).split("\n\n")[1],
        "\n".join(alignment_text(np.eye(4), AFTER).split("\n")[7:]),
    ],
)
def test_the_alignment_is_the_matrix_after_icp(tmp_path: Path, text: str) -> None:
    path = tmp_path / "DUC_trans_024.txt"
    path.write_bytes(text.encode())
    np.testing.assert_array_equal(read_alignment(path), AFTER)


def test_the_released_lines_are_those_that_hloc_takes(tmp_path: Path) -> None:
    path = tmp_path / "DUC_trans_024.txt"
    path.write_text(alignment_text(np.eye(4), AFTER))
    lines = path.read_text().splitlines()[7:11]
    np.testing.assert_array_equal([np.array(line.split(), float) for line in lines], AFTER)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no alignment"),
        ("<html></html>", "holds no alignment"),
        ("1 2 3 4\n" * 4, "holds no alignment"),
        ("After general icp:\n1 0 0 0\n0 1 0 0\n", "line 3: expected four rows"),
        (alignment_text(np.eye(4), AFTER).split("After")[0], "ends before the fine alignment"),
        (alignment_text(np.eye(4), AFTER).rsplit(" ", 1)[0], "line 11: expected 4 numbers, got 3"),
        (alignment_text(np.eye(4), np.diag([1, 0, 1, 1])), "can be inverted"),
        (alignment_text(np.eye(4), np.diag([1, 2, 1, 1])), "expected a rotation"),
        (alignment_text(np.eye(4), np.full((4, 4), np.nan)), "line 8: .*finite .* got nan"),
    ],
)
def test_a_file_without_alignment_is_rejected(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "DUC_trans_024.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"^{path}.*{message}"):
        read_alignment(path)


def test_scans_and_what_are_none(scanned_room: ScannedRoom, tmp_path: Path) -> None:
    dataset = InLoc(scanned_room.folder)
    scan = dataset.read_scan(scanned_room.folder / f"{scanned_room.database[0]}.mat")
    assert scan.shape == (120, 160, 3)
    assert np.isnan(scan[:4, :4]).all()
    assert np.isfinite(scan[4:]).all()
    with pytest.raises(FileNotFoundError, match=r"There is no scan .*gone.mat"):
        dataset.read_scan(tmp_path / "gone.mat")
    savemat(tmp_path / "flat.mat", {"XYZcut": np.zeros((4, 5))})
    with pytest.raises(ValueError, match=r"XYZcut of .*flat.mat has the shape \(4, 5\)"):
        dataset.read_scan(tmp_path / "flat.mat")
    savemat(tmp_path / "other.mat", {"RGBcut": np.zeros((4, 5, 3))})
    with pytest.raises(ValueError, match=r"other.mat has no array XYZcut"):
        dataset.read_scan(tmp_path / "other.mat")


def test_a_list_of_some_queries_leaves_none_out(scanned_room: ScannedRoom, tmp_path: Path) -> None:
    (queries,) = InLoc(scanned_room.folder).queries().values()
    assert [query.name for query in queries] == scanned_room.queries
    gone = "query/iphone7/IMG_9999.JPG"
    lines = [
        f"{name} SIMPLE_PINHOLE 160 120 99 80 60\n" for name in (gone, scanned_room.queries[1])
    ]
    (tmp_path / "queries.txt").write_text("".join(lines))
    (queries,) = InLoc(scanned_room.folder, tmp_path / "queries.txt").queries().values()
    focal = {query.name: query.camera.params[0] for query in queries}
    benchmark = 160 * 28 / 36
    others = dict.fromkeys(scanned_room.queries, benchmark)
    assert focal == {**others, scanned_room.queries[1]: 99, gone: 99}


def test_the_benchmarks_camera() -> None:
    camera = benchmark_camera(4032, 3024)
    assert camera.model.name == "SIMPLE_PINHOLE"
    np.testing.assert_array_equal(camera.params, [4032 * 28 / 36, 2016, 1512])
    np.testing.assert_array_equal(benchmark_camera(3024, 4032).params, [3136, 1512, 2016])
    np.testing.assert_allclose(benchmark_camera(1008, 756).params, [3136 / 4, 504, 378])


def test_another_folder_is_refused_with_where_to_get_it(room: ScannedRoom) -> None:
    with pytest.raises(FileNotFoundError, match=r"no dataset .*gone. Get InLoc.*https://"):
        InLoc(room.folder / "gone")
    shutil.rmtree(room.folder / "database/alignments")
    with pytest.raises(FileNotFoundError, match=r"lacks database/alignments; get .*https://cvpr17"):
        InLoc(room.folder)


def test_a_whole_dataset_has_no_problem(scanned_room: ScannedRoom) -> None:
    dataset = InLoc(scanned_room.folder)
    assert dataset.check(scanned_room.queries + scanned_room.database) == []


def test_every_missing_and_damaged_file_is_named(room: ScannedRoom) -> None:
    database, folder = room.database, room.folder
    (folder / database[0]).unlink()
    (folder / f"{database[1]}.mat").unlink()
    image = folder / database[2]
    image.write_bytes(image.read_bytes()[:500])
    scan = folder / f"{database[3]}.mat"
    scan.write_bytes(scan.read_bytes()[:-1000])
    savemat(folder / f"{database[4]}.mat", {"XYZcut": np.zeros((160, 120, 3))})
    savemat(folder / f"{database[5]}.mat", {"RGBcut": np.zeros((120, 160, 3))})
    alignments = folder / "database/alignments/DUC1/transformations"
    (alignments / "DUC_trans_025.txt").write_text("nothing")
    (alignments / "DUC_trans_026.txt").unlink()
    # A scan that is in no archive of cutouts, as with the damaged mirror.
    (alignments / "DUC_trans_099.txt").write_text(alignment_text(np.eye(4), AFTER))
    query = folder / room.queries[0]
    query.write_bytes(b"")
    found = InLoc(folder).check([*database, "query/iphone7/IMG_9999.JPG"])
    expected = {
        f"There is no image .*{database[0]}": "data.ciirc.cvut.cz",
        f"There is no scan .*{database[1]}.mat": "data.ciirc.cvut.cz",
        f"Cannot read .*{database[2]} ": "data.ciirc.cvut.cz",
        f"{database[3]}.mat is damaged or only half downloaded": "data.ciirc.cvut.cz",
        rf"{database[4]}.mat has the shape \(160, 120, 3\), its image \(120, 160\)": "ciirc",
        f"{database[5]}.mat has no array XYZcut": "data.ciirc.cvut.cz",
        "DUC_trans_025.txt holds no alignment": "cvpr17.wijmans.xyz",
        "There is no alignment .*DUC_trans_026.txt": "cvpr17.wijmans.xyz",
        "There is no image .*DUC_cutout_099_0_0.jpg": "711 cutouts",
        "There is no image .*DUC_cutout_099_30_0.jpg": "711 cutouts",
        "There is no scan .*DUC_cutout_099_0_0.jpg.mat": "711 cutouts",
        "There is no scan .*DUC_cutout_099_30_0.jpg.mat": "711 cutouts",
        "Cannot read .*IMG_0801.JPG": "data.ciirc.cvut.cz",
        "There is no image .*IMG_9999.JPG": "lists: write them",
    }
    for pattern, remedy in expected.items():
        matching = [problem for problem in found if re.search(pattern, problem.reason)]
        assert len(matching) == 1, pattern
        assert remedy in matching[0].remedy
    assert len(found) == len(expected)
