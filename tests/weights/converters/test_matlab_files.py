"""MATLAB's files: what MATLAB itself wrote, both versions alike, and damage."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io
from scipy.io import loadmat

from featplug.weights.converters.matlab_files import mat_array_shapes, read_mat, read_mat_array
from tests.weights.converters.matlab_writer import VERSIONS, HandleObject, StructArray, write_mat

WRITTEN_BY_MATLAB = Path(scipy.io.__file__).parent / "matlab" / "tests" / "data"

VARIABLES: dict[str, Any] = {
    "matrix": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "scalar": np.array([[2.5]]),
    "flag": np.array([[True]]),
    "empty": np.zeros((0, 0)),
    "text": "größer",
    "no_text": "",
    "cell": ["a", np.array([[1, 2]], np.int32), []],
    "struct": {"name": "x", "inner": {"value": np.array([[1.0, 2.0]])}, "handle": HandleObject()},
    "structs": StructArray(
        {"name": n, "value": np.array([[float(i)]])} for i, n in enumerate("ab")
    ),
}


def assert_same(found: Any, expected: Any) -> None:
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert_same(found[key], value)
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    elif isinstance(expected, HandleObject):
        assert found is None
    elif isinstance(expected, np.ndarray):
        np.testing.assert_array_equal(found, expected)
        assert found.shape == expected.shape
    else:
        assert found == expected


@pytest.mark.parametrize("version", VERSIONS)
def test_both_versions_give_the_same_values(tmp_path: Path, version: str) -> None:
    assert_same(read_mat(write_mat(tmp_path / "file.mat", version, VARIABLES)), VARIABLES)


@pytest.mark.parametrize(("version", "compressed"), [("5", True), ("5", False), ("7.3", False)])
def test_one_array_and_the_shapes_of_all(tmp_path: Path, version: str, compressed: bool) -> None:
    path = tmp_path / "file.mat"
    write_mat(path, version, VARIABLES)
    if version == "5" and not compressed:
        plain = {name: VARIABLES[name] for name in ("matrix", "text", "scalar")}
        scipy.io.savemat(path, plain, do_compression=False)
    for name in ("matrix", "scalar"):
        array = read_mat_array(path, name)
        np.testing.assert_array_equal(array, VARIABLES[name])
        assert array.dtype == VARIABLES[name].dtype
    shapes = mat_array_shapes(path)
    assert shapes["matrix"] == (2, 3, 4)
    assert shapes["scalar"] == (1, 1)
    for name in ("text", "absent"):
        with pytest.raises(ValueError, match=rf"file.mat.*{name}"):
            read_mat_array(path, name)


def test_a_half_download_is_found_without_reading(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).random((20, 30, 3))
    for compressed in (True, False):
        path = tmp_path / f"{compressed}.mat"
        scipy.io.savemat(path, {"first": noise, "second": noise}, do_compression=compressed)
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) * 3 // 4])
        with pytest.raises(ValueError, match="download it again"):
            mat_array_shapes(path)
        # What lies before the end can be read all the same.
        np.testing.assert_array_equal(read_mat_array(path, "first"), noise)
        with pytest.raises(ValueError, match="download it again"):
            read_mat_array(path, "second")
        path.write_bytes(whole)
        assert mat_array_shapes(path) == {"first": (20, 30, 3), "second": (20, 30, 3)}


def as_plain(value: Any) -> Any:
    """What scipy reads, in the form of read_mat."""
    if value.dtype.names:
        structs = [
            {name: as_plain(element[name]) for name in value.dtype.names}
            for element in value.ravel(order="F")
        ]
        return structs[0] if value.size == 1 else structs
    if value.dtype.kind == "O":
        return [as_plain(element) for element in value.ravel(order="F")]
    if value.dtype.kind == "U":
        return str(value.item()) if value.size else ""
    return value.real


@pytest.mark.skipif(not WRITTEN_BY_MATLAB.is_dir(), reason="scipy comes without its test files")
@pytest.mark.parametrize(
    "name",
    [
        "big_endian",
        "test3dmatrix_7.4_GLNX86",
        "testbool_8_WIN64",
        "testcell_6.1_SOL2",
        "testcellnest_7.4_GLNX86",
        "testcomplex_6.5.1_GLNX86",
        "testemptycell_7.4_GLNX86",
        "teststring_7.1_GLNX86",
        "teststruct_7.4_GLNX86",
        "teststructarr_6.1_SOL2",
        "teststructnest_7.1_GLNX86",
        "testmulti_7.4_GLNX86",
    ],
)
def test_reads_what_matlab_wrote_as_scipy_does(name: str) -> None:
    path = WRITTEN_BY_MATLAB / f"{name}.mat"
    expected = {k: as_plain(v) for k, v in loadmat(path).items() if not k.startswith("__")}
    assert expected
    assert_same(read_mat(path), expected)


@pytest.mark.skipif(not WRITTEN_BY_MATLAB.is_dir(), reason="scipy comes without its test files")
def test_objects_and_functions_are_passed_over() -> None:
    assert read_mat(WRITTEN_BY_MATLAB / "testobject_7.4_GLNX86.mat") == {"testobject": None}
    functions = read_mat(WRITTEN_BY_MATLAB / "some_functions.mat")
    assert functions["parabola"] is None
    assert functions["a"].shape == (1, 1)


@pytest.mark.skipif(not WRITTEN_BY_MATLAB.is_dir(), reason="scipy comes without its test files")
def test_reads_the_hdf5_that_matlab_wrote() -> None:
    (values,) = read_mat(WRITTEN_BY_MATLAB / "testhdf5_7.4_GLNX86.mat").values()
    np.testing.assert_allclose(values, np.linspace(0, 2 * np.pi, 9)[None])


@pytest.mark.parametrize("version", VERSIONS)
def test_damaged_file_never_gives_another_error(tmp_path: Path, version: str) -> None:
    data = write_mat(tmp_path / "whole.mat", version, VARIABLES).read_bytes()
    path = tmp_path / "damaged.mat"
    chance = random.Random(0)
    messages = []
    for trial in range(300):
        content = bytearray(data)
        if trial % 2:
            del content[chance.randrange(len(data)) :]
        else:
            for _ in range(4):
                content[chance.randrange(len(data))] = chance.randrange(256)
        path.write_bytes(content)
        try:
            read_mat(path)
        except ValueError as error:
            messages.append(str(error))
    assert len(messages) > 100
    assert all(str(path) in message and message.endswith(".") for message in messages)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("part", [0.3, 0.9])
def test_truncated_file_says_so(tmp_path: Path, version: str, part: float) -> None:
    path = write_mat(tmp_path / "net.mat", version, {"values": np.random.rand(50, 50)})
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(ValueError, match=r"net\.mat.*download it again"):
        read_mat(path)


def test_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file.mat"
    for content, message in (
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>404</html>", "is a web page"),
        (b"MATLAB 7.3 MAT-file, Platform: GLNXA64", "download it again"),
        (b"\x80\x02}q\x00.", "is not a MATLAB file of version 5 or 7.3"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            read_mat(path)


def test_references_to_nothing_are_damage(tmp_path: Path) -> None:
    path = tmp_path / "file.mat"
    with h5py.File(path, "w") as file:
        item = file.create_dataset("cell", (2, 1), h5py.ref_dtype)
        item.attrs["MATLAB_class"] = np.bytes_("cell")
    with pytest.raises(ValueError, match="download it again"):
        read_mat(path)
