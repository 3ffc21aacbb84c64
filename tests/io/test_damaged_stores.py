"""Stores that are damaged, hostile or of other tools: one sentence each, and nothing silent."""

from __future__ import annotations

import errno
import json
import os
import re
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from featplug.io.artifact import Provenance
from featplug.io.hdf5_guard import UnusableDataError
from featplug.io.match_store import MatchReader, MatchWriter
from featplug.io.store import (
    FeatureReader,
    FeatureWriter,
    GlobalDescriptorReader,
    GlobalDescriptorWriter,
)
from tests.io.test_store import FEATURES, MATCHES, hloc_get_matches, some_features, write_features

NAME = "a.jpg"
NUM = 5


def write_foreign(path: Path, name: str = NAME, **changes: object) -> None:
    """Write a feature file as hloc does, with other arrays in place of some."""
    arrays = {**some_features(NUM), "image_size": np.array([640, 480]), **changes}
    with h5py.File(path, "a") as file:
        group = file.create_group(name)
        for key, value in arrays.items():
            if value is not None:
                group.create_dataset(key, data=value)


def with_value(key: str, value: float, dtype: type = np.float32) -> np.ndarray:
    array = some_features(NUM)[key].astype(dtype)
    array[0, 1] = value
    return array


BAD_ARRAYS = [
    ("keypoints", with_value("keypoints", np.nan), "finite"),
    ("keypoints", with_value("keypoints", np.inf, np.float64), "finite"),
    ("keypoints", np.zeros((NUM, 2), complex), "real numbers, not complex128"),
    ("keypoints", np.zeros((NUM, 3)), r"5×2, not 5×3"),
    ("keypoints", np.zeros(NUM), r"keypoints must be .*×2, not 5"),
    ("keypoints", np.float32(3), "keypoints must be"),
    ("keypoints", np.array([b"a", b"b"]), "real numbers"),
    ("keypoints", np.zeros(3, [("x", float), ("y", float)]), "real numbers"),
    ("descriptors", with_value("descriptors", np.nan, np.float16), "finite"),
    ("descriptors", with_value("descriptors", -np.inf), "finite"),
    ("descriptors", with_value("descriptors", 1e300, np.float64), "finite"),
    ("descriptors", np.zeros((128, NUM), complex), "real numbers"),
    ("descriptors", np.zeros((128, NUM + 1)), "descriptors must be D×5, not 128×6"),
    ("descriptors", np.zeros((NUM, 128)), "N×D and must be transposed to D×N"),
    ("descriptors", np.zeros((128, NUM, 1)), "D×5"),
    ("descriptors", np.zeros((128, NUM), bool), "real numbers, not bool"),
    ("scores", np.zeros(NUM + 1), "scores must be 5, not 6"),
    ("scores", np.full(NUM, np.nan), "scores must be finite"),
]


@pytest.mark.parametrize(("key", "array", "expected"), BAD_ARRAYS)
def test_arrays_are_checked_when_they_are_read(
    tmp_path: Path, key: str, array: np.ndarray, expected: str
) -> None:
    path = tmp_path / "feats.h5"
    write_foreign(path, **{key: array})
    write_foreign(path, "good.jpg")
    with FeatureReader(path) as reader:
        with pytest.raises(UnusableDataError, match=rf"feats\.h5.*{NAME}.*{expected}"):
            reader.read(NAME, [key])
        assert NAME in reader
        assert reader.read("good.jpg").keys() == {
            "keypoints",
            "scores",
            "descriptors",
            "image_size",
        }


def test_arrays_are_checked_before_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "feats.h5"
    features = some_features(NUM) | {"descriptors": with_value("descriptors", np.inf, np.float16)}
    with FeatureWriter(path, FEATURES) as writer:
        with pytest.raises(UnusableDataError, match=rf"feats\.h5.*{NAME}.*descriptors.*finite"):
            writer.write(NAME, features, (10, 10), 1.0, "")
        writer.write("good.jpg", some_features(NUM), (10, 10), 1.0, "")
    with MatchWriter(tmp_path / "matches.h5", MATCHES) as writer:
        for matches0 in (np.array([3]), np.array([-2]), np.array([0.5]), np.array([[0]])):
            with pytest.raises(UnusableDataError, match=r"matches\.h5.*a\.jpg/b\.jpg.*matches0"):
                writer.write(NAME, "b.jpg", matches0, np.ones(len(matches0)), 3)
    with FeatureReader(path) as reader:
        assert reader.names() == ["good.jpg"]


@pytest.mark.parametrize("size", [[0, 480], [640], [640, -1], [[640, 480]], 3])
def test_an_image_size_is_two_positive_integers(tmp_path: Path, size: object) -> None:
    write_foreign(tmp_path / "feats.h5", image_size=np.array(size))
    with (
        FeatureReader(tmp_path / "feats.h5") as reader,
        pytest.raises(UnusableDataError, match=rf"feats\.h5: image_size of '{NAME}'.*positive"),
    ):
        reader.image_size(NAME)


def test_a_missing_image_size_is_not_known(tmp_path: Path) -> None:
    """deep-image-matching's is (height, width), rounded to float16."""
    path = tmp_path / "feats.h5"
    write_foreign(path, "none.jpg", image_size=None)
    write_foreign(path, "rounded.jpg", image_size=np.array([3023, 4031], np.float16))
    with FeatureReader(path) as reader:
        for name in reader.names():
            assert reader.known_image_size(name) is None
            with pytest.raises(
                UnusableDataError, match=rf"feats\.h5 has no image_size of '{name}'"
            ):
                reader.image_size(name)


def test_keypoints_with_a_shape_are_read_without_it(tmp_path: Path) -> None:
    frames = np.arange(4 * NUM, dtype=np.float64).reshape(NUM, 4)
    write_foreign(tmp_path / "feats.h5", keypoints=frames, im_path="/home/x/a.jpg")
    with FeatureReader(tmp_path / "feats.h5") as reader:
        np.testing.assert_array_equal(reader.keypoints(NAME), frames[:, :2])
        assert reader.keypoints(NAME).dtype == np.float32
        assert "im_path" not in reader.read(NAME)


@pytest.mark.parametrize("dtype", [">f4", np.longdouble, np.uint8, np.int64, ">i2"])
def test_numbers_of_any_type_are_read_as_this_machine_has_them(
    tmp_path: Path, dtype: object
) -> None:
    descriptors = np.arange(2 * NUM).reshape(2, NUM)
    write_foreign(tmp_path / "feats.h5", descriptors=descriptors.astype(dtype))
    with FeatureReader(tmp_path / "feats.h5") as reader:
        found = reader.read(NAME)["descriptors"]
    assert found.dtype.isnative
    assert found.dtype.itemsize <= 8
    np.testing.assert_array_equal(found, descriptors)


def test_matches_need_no_scores_and_may_be_a_list(tmp_path: Path) -> None:
    """The second is deep-image-matching's layout and that of notebooks for Kaggle."""
    path = tmp_path / "matches.h5"
    with h5py.File(path, "w") as file:
        file["a.jpg/b.jpg/matches0"] = np.array([1, -1, 0])
        file["c.jpg/b.jpg"] = np.array([[0, 2], [1, 1]])
    with MatchReader(path) as reader:
        matches, scores = reader.read("b.jpg", "a.jpg")
        assert matches.tolist() == [[1, 0], [0, 2]]
        assert scores.tolist() == [1, 1]
        assert reader.read("c.jpg", "b.jpg")[0].tolist() == [[0, 2], [1, 1]]
        assert reader.read("b.jpg", "c.jpg")[0].tolist() == [[2, 0], [1, 1]]
        found, others = reader.pairs(["a.jpg", "b.jpg", "c.jpg"])
        assert found == [("a.jpg", "b.jpg"), ("c.jpg", "b.jpg")]
        assert others == []


@pytest.mark.parametrize(
    "arrays",
    [
        {"matches0": np.array([0.0, 1.0])},
        {"matches0": np.array([-2, 1])},
        {"matches0": np.array([2**40, 1])},
        {"matches0": np.array([[0, 1]])},
        {"matches0": np.array([0, 1]), "matching_scores0": np.array([np.nan, 0])},
        {"matches0": np.array([0, 1]), "matching_scores0": np.zeros(3)},
        {"matches": np.array([0, 1])},
    ],
)
def test_matches_are_checked_when_they_are_read(
    tmp_path: Path, arrays: dict[str, np.ndarray]
) -> None:
    with h5py.File(tmp_path / "matches.h5", "w") as file:
        for key, array in arrays.items():
            file[f"a.jpg/b.jpg/{key}"] = array
    with (
        MatchReader(tmp_path / "matches.h5") as reader,
        pytest.raises(UnusableDataError, match=r"matches\.h5.*'a\.jpg/b\.jpg'.*(matches|scores)0"),
    ):
        reader.read("a.jpg", "b.jpg")


def test_a_file_with_an_array_for_each_image_is_named(tmp_path: Path) -> None:
    path = tmp_path / "keypoints.h5"
    with h5py.File(path, "w") as file:
        file[NAME] = np.zeros((NUM, 2))
    with FeatureReader(path) as reader:
        for look in (reader.names, lambda: reader.read(NAME), lambda: reader.keypoints(NAME)):
            with pytest.raises(UnusableDataError, match=r"keypoints\.h5: 'a.jpg' .*Kaggle.*group"):
                look()


def test_names_that_nothing_can_carry_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "feats.h5"
    for name in ("../../x.jpg", "with space.jpg", NAME, "\tb.jpg"):
        write_foreign(path, name)
    with h5py.File(path, "a") as file:
        file.create_group(b"\xff.jpg").create_dataset("keypoints", data=np.zeros((NUM, 2)))
    with FeatureReader(path) as reader:
        assert reader.names() == [NAME]
        assert "a\0.jpg" not in reader
    assert caplog.text.count("left out") == 3


def loop(file: h5py.File) -> None:
    file["loop/again"] = file["/"]


def twice(file: h5py.File) -> None:
    group = file["/"]
    for depth in range(40):  # 2**40 ways to the end
        inner = file.create_group(f"level{depth}")
        group["x"], group["y"] = inner, inner
        group = inner


def dangling(file: h5py.File) -> None:
    file["b.jpg"] = h5py.SoftLink("/nowhere")


def missing_part(file: h5py.File) -> None:
    file["b.jpg"] = h5py.ExternalLink("part-00007.h5", "/b.jpg")


def pipe(file: h5py.File) -> None:
    os.mkfifo(Path(file.filename).with_name("pipe.h5"))
    file["folder"] = h5py.ExternalLink("pipe.h5", "/")


@pytest.mark.parametrize("damage", [loop, twice, dangling, missing_part, pipe])
def test_links_that_lead_nowhere_are_one_sentence(
    tmp_path: Path, damage: Callable[[h5py.File], None]
) -> None:
    path = tmp_path / "feats.h5"
    write_foreign(path)
    with h5py.File(path, "a") as file:
        damage(file)
    with FeatureReader(path) as reader:
        with pytest.raises(UnusableDataError, match=r"feats\.h5"):
            reader.names()
        assert len(reader.keypoints(NAME)) == NUM


def test_a_file_of_links_to_parts_is_read(tmp_path: Path) -> None:
    write_features(tmp_path / "part.h5", ["db/b.jpg"])
    with h5py.File(tmp_path / "all.h5", "w") as file:
        file["db/b.jpg"] = h5py.ExternalLink("part.h5", "/db/b.jpg")
    with FeatureReader(tmp_path / "all.h5") as reader:
        assert reader.names() == ["db/b.jpg"]
        assert len(reader.keypoints("db/b.jpg")) == NUM


def announced(group: h5py.Group, path: Path) -> None:
    group.create_dataset("keypoints", (2**28, 2), np.float32)


def chunked(group: h5py.Group, path: Path) -> None:
    group.create_dataset("keypoints", (2**28, 2), np.float32, chunks=(2**20, 2), compression="gzip")


def unwritten(group: h5py.Group, path: Path) -> None:
    group.create_dataset("keypoints", (NUM, 2), np.float32)


def outside(group: h5py.Group, path: Path) -> None:
    other = path.with_name("secret")
    other.write_bytes(bytes(8 * NUM))
    group.create_dataset("keypoints", (NUM, 2), np.float32, external=[(str(other), 0, 8 * NUM)])


def virtual(group: h5py.Group, path: Path) -> None:
    layout = h5py.VirtualLayout((NUM, 2), np.float32)
    layout[:] = h5py.VirtualSource(str(path.with_name("other.h5")), "x", (NUM, 2))
    group.create_virtual_dataset("keypoints", layout)


@pytest.mark.parametrize("write", [announced, chunked, unwritten, outside, virtual])
def test_arrays_without_data_of_their_own_are_not_read(
    tmp_path: Path, write: Callable[[h5py.Group, Path], None]
) -> None:
    path = tmp_path / "feats.h5"
    write_foreign(path, keypoints=None)
    with h5py.File(path, "a") as file:
        write(file[NAME], path)
    with (
        FeatureReader(path) as reader,
        pytest.raises(UnusableDataError, match=r"feats\.h5: /a\.jpg/keypoints"),
    ):
        reader.keypoints(NAME)


@pytest.mark.parametrize(
    "value",
    ['{"a":1}', "[]", "3", "[" * 100_000, b"\xff", 7, np.arange(3), np.array(["a", "b"], "S1"),
     json.dumps({"kind": 3, "conf": {}}), json.dumps({"kind": "features", "conf": []}),
     json.dumps({"kind": "features", "conf": {}, "weights": [{}]}),
     json.dumps({"kind": "features", "conf": {}, "version": None})],
)  # fmt: skip
def test_a_damaged_record_of_what_made_the_file_is_one_sentence(
    tmp_path: Path, value: object
) -> None:
    path = tmp_path / "feats.h5"
    write_features(path, [NAME])
    with h5py.File(path, "r+") as file:
        file.attrs["featplug"] = value
    for access in (lambda: FeatureReader(path), lambda: FeatureWriter(path, FEATURES)):
        with pytest.raises(UnusableDataError, match=r"feats\.h5.*'featplug'.*make it again"):
            access()
    FeatureWriter(path, FEATURES, overwrite=True).__exit__(None)
    with FeatureReader(path) as reader:
        assert reader.names() == []


def test_pipes_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.h5")
    for access in (FeatureReader, lambda path: FeatureWriter(path, FEATURES)):
        with pytest.raises(ValueError, match=r"pipe\.h5 is not a file"):
            access(tmp_path / "pipe.h5")


def test_an_array_that_unpacks_to_more_than_its_size_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "feats.h5"
    write_foreign(path, keypoints=None)
    with h5py.File(path, "r+") as file:
        bomb = file[NAME].create_dataset("keypoints", (NUM, 2), chunks=(NUM, 2), compression="gzip")
        bomb.id.write_direct_chunk((0, 0), zlib.compress(bytes(2 * 10**8), 1))
    with (
        FeatureReader(path) as reader,
        pytest.raises(
            UnusableDataError, match=r"feats\.h5: /a\.jpg/keypoints.*make the file again"
        ),
    ):
        reader.read(NAME)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_scores_beyond_float16_can_be_read_again(tmp_path: Path, dtype: type) -> None:
    path = tmp_path / "matches.h5"
    scores = np.array([70000, -(10**6), 3], dtype)
    with MatchWriter(path, MATCHES) as writer:
        writer.write("a.jpg", "b.jpg", np.arange(3), scores, 3)
    with MatchReader(path) as reader:
        matches, read = reader.read("a.jpg", "b.jpg")
    assert matches.tolist() == [[0, 0], [1, 1], [2, 2]]
    assert read.tolist() == [65504, -65504, 3]


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (MemoryError(), "feats.h5.*close other programs"),
        (OSError(errno.EIO, "Input/output error"), "feats.h5.*see to its disk"),
        (OSError("file read failed: time = 0, errno = 5, error message = 'x'"), "see to its disk"),
    ],
)
def test_a_failing_disk_or_full_memory_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, remedy: str
) -> None:
    path = tmp_path / "feats.h5"
    write_features(path, [NAME])

    def fail(*_: object) -> None:
        raise error

    with FeatureReader(path) as reader:
        monkeypatch.setattr("featplug.io.h5file.read_array", fail)
        with pytest.raises(ValueError, match=remedy) as raised:
            reader.read(NAME)
        assert not isinstance(raised.value, UnusableDataError)  # which is written again
        error = NameError("a mistake of ours")
        with pytest.raises(NameError):
            reader.read(NAME)


def test_a_disk_without_locks_is_no_other_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HDF5 says that it is unable to lock the file, whatever the cause."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOLCK, "unable to lock file, errno = 37")

    monkeypatch.setattr(h5py, "File", fail)
    with pytest.raises(ValueError, match=r"feats\.h5.*HDF5_USE_FILE_LOCKING=FALSE"):
        FeatureReader(tmp_path / "feats.h5")


@pytest.mark.parametrize(
    "descriptor", [np.full(4, np.nan, np.float32), np.zeros((2, 2)), np.zeros(4, complex)]
)
def test_global_descriptors_are_checked_before_they_are_written(
    tmp_path: Path, descriptor: np.ndarray
) -> None:
    path = tmp_path / "global.h5"
    with GlobalDescriptorWriter(path, Provenance("global descriptors", {})) as writer:
        with pytest.raises(UnusableDataError, match=rf"global\.h5: '{NAME}'.*global_descriptor"):
            writer.write(NAME, descriptor, (10, 10), "")
        assert writer.fingerprint(NAME) is None


def test_global_descriptors_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "global.h5"
    bad = [
        np.full(3, np.nan),
        np.zeros((3, 1)),
        np.array(1.0),
        np.array([b"x"]),
        np.zeros(3, complex),
    ]
    with h5py.File(path, "w") as file:
        for i, array in enumerate(bad):
            file[f"{i}.jpg/global_descriptor"] = array
    with GlobalDescriptorReader(path) as reader:
        for name in reader.names():
            with pytest.raises(UnusableDataError, match=rf"global\.h5.*{re.escape(name)}"):
                reader.read_one(name)


# Checksums


def scale_values(file: h5py.File) -> None:
    raw = file["a.jpg/keypoints"]
    values = raw[()]
    del file["a.jpg/keypoints"]
    file["a.jpg"].create_dataset("keypoints", data=np.nextafter(values, np.float32(1e9)))


def rename_image(file: h5py.File) -> None:
    file.move("a.jpg", "c.jpg")
    file.move("good.jpg", "a.jpg")


def rename_array(file: h5py.File) -> None:
    file.move("a.jpg/scores", "a.jpg/scorez")


def other_type(file: h5py.File) -> None:
    values = file["a.jpg/keypoints"][()]
    del file["a.jpg/keypoints"]
    file["a.jpg"].create_dataset("keypoints", data=values.view(np.uint32))


def other_shape(file: h5py.File) -> None:
    values = file["a.jpg/descriptors"][()]
    del file["a.jpg/descriptors"]
    file["a.jpg"].create_dataset("descriptors", data=values.reshape(64, -1)[:, :NUM])


def other_noise(file: h5py.File) -> None:
    file["a.jpg/keypoints"].attrs["uncertainty"] = 2.0


def other_photograph(file: h5py.File) -> None:
    file["a.jpg"].attrs["image_fingerprint"] = "another"


def read_everything(reader: FeatureReader, name: str) -> None:
    reader.read(name, ["keypoints", "descriptors", "scores"])
    reader.uncertainty(name)
    reader.fingerprint(name)


@pytest.mark.parametrize(
    "change",
    [scale_values, rename_image, rename_array, other_type, other_shape, other_noise,
     other_photograph],
)  # fmt: skip
def test_what_changed_on_the_disk_is_noticed(
    tmp_path: Path, change: Callable[[h5py.File], None]
) -> None:
    path = tmp_path / "feats.h5"
    write_features(path, [NAME, "good.jpg", "better.jpg"])
    with h5py.File(path, "r+") as file:
        change(file)
    with FeatureReader(path) as reader:
        read_everything(reader, "better.jpg")
        with pytest.raises(UnusableDataError, match=r"feats\.h5.*'a\.jpg' is damaged.*checksum"):
            read_everything(reader, NAME)


def test_a_lost_group_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "feats.h5"
    write_features(path, [NAME, "b.jpg"])
    with h5py.File(path, "r+") as file:
        del file["b.jpg"]
    with (
        FeatureReader(path) as reader,
        pytest.raises(UnusableDataError, match=r"feats\.h5 is damaged.*1 of 2 groups"),
    ):
        reader.names()


def test_any_program_notices_damaged_values(tmp_path: Path) -> None:
    features, matches = tmp_path / "feats.h5", tmp_path / "matches.h5"
    write_features(features, [NAME], num=0)
    write_features(features, ["b.jpg"], num=50)
    values = np.arange(4000)
    with MatchWriter(matches, MATCHES) as writer:
        writer.write(NAME, "b.jpg", values, np.ones(4000), 4000)
    with h5py.File(features, "r") as file:
        assert file["b.jpg/descriptors"].fletcher32
        assert not file["b.jpg/scores"].fletcher32  # its index would be larger than the array
        assert file["a.jpg/descriptors"].shape == (128, 0)
    content = bytearray(matches.read_bytes())
    at = content.find(values.astype(np.int16).tobytes())
    assert at > 0
    assert hloc_get_matches(matches, NAME, "b.jpg").shape == (4000, 2)
    content[at + 10] ^= 1
    matches.write_bytes(content)
    with pytest.raises(OSError, match=r"fletcher32|filter"):
        hloc_get_matches(matches, NAME, "b.jpg")


def test_files_without_checksums_are_read_and_continued(tmp_path: Path) -> None:
    path = tmp_path / "feats.h5"
    provenance = Provenance("features", FEATURES.conf)
    write_foreign(path)
    with h5py.File(path, "r+") as file:
        file.attrs["featplug"] = provenance.to_json()
        file[NAME].attrs["image_fingerprint"] = "1000-0"
    write_features(path, ["b.jpg"])
    with FeatureReader(path) as reader:
        assert reader.names() == [NAME, "b.jpg"]
        for name in reader.names():
            read_everything(reader, name)
