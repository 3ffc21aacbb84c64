"""What files record of the code that made them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

import featplug
from featplug.io.artifact import Provenance
from featplug.io.store import FeatureReader
from featplug.methods import build_extractor, feature_conf
from featplug.methods.method_sources import source_records
from featplug.stages.extract import extract_features
from tests.scenes.own_methods import CORNERS, install
from tests.scenes.pictures import write_textured_images


def records(name: str) -> list[dict[str, str]]:
    return source_records(build_extractor(feature_conf(name)["model"]))


def test_featplugs_own_methods_have_its_version() -> None:
    own = {"package": "featplug", "version": featplug.__version__}
    assert records("sift") == [{"class": "featplug.extractors.sift:SIFT", **own}]


@pytest.mark.usefixtures("own_methods")
def test_a_class_of_a_file_has_the_hash_of_its_source() -> None:
    digest = hashlib.sha256(Path("corners.py").read_bytes()).hexdigest()
    assert records("corners.py:Corners") == [{"class": "corners.py:Corners", "sha256": digest}]


@pytest.mark.parametrize(
    "imports", ["import helper_of_corners", "from helper_of_corners import STEP"]
)
def test_what_a_file_uses_of_its_folder_is_its_source(own_methods: Path, imports: str) -> None:
    (own_methods / "helper_of_corners.py").write_text("STEP = 1\n")
    (own_methods / "helped.py").write_text(f"{imports}\n{CORNERS}")
    before = records("helped.py:Corners")[0]
    assert records("helped.py:Corners")[0] == before
    (own_methods / "helper_of_corners.py").write_text("STEP = 2\n")
    after = records("helped.py:Corners")[0]
    assert after["class"] == before["class"]
    assert after["sha256"] != before["sha256"]


def test_the_source_is_that_which_was_imported(own_methods: Path) -> None:
    loaded = build_extractor(feature_conf("corners.py:Corners")["model"])
    before = source_records(loaded)
    (own_methods / "corners.py").write_text(CORNERS + "\n# another\n")
    assert source_records(loaded) == before
    assert records("corners.py:Corners") != before


def test_files_of_two_folders_have_their_own_helpers(own_methods: Path) -> None:
    numbers = []
    for folder, step in (("a", 3), ("b", 4), ("a", 3)):
        (own_methods / folder).mkdir(exist_ok=True)
        (own_methods / folder / "helper_of_corners.py").write_text(f"STEP = {step}\n")
        code = CORNERS.replace('"max_keypoints": 5', '"max_keypoints": STEP')
        text = f"from helper_of_corners import STEP\n{code}"
        (own_methods / folder / "helped.py").write_text(text)
        conf = feature_conf(f"{folder}/helped.py:Corners")
        numbers.append(build_extractor(conf["model"]).conf["max_keypoints"])
    assert numbers == [3, 4, 3]


def test_another_version_of_a_package_is_another_method() -> None:
    def made(package: str, version: str) -> Provenance:
        method = {"class": "plug:Corners", "package": package, "version": version}
        return Provenance("features", {}, methods=[method])

    assert "plug:Corners" in (made("plug", "1.0").difference(made("plug", "2.0")) or "")
    assert made("plug", "1.0").difference(made("plug", "1.0")) is None
    assert made("featplug", "0.1").difference(made("featplug", "0.2")) is None  # has revisions


def test_weights_that_a_class_reads_itself_are_told_apart(own_methods: Path) -> None:
    write_textured_images(own_methods / "images", 1)
    code = CORNERS.replace('{"max_keypoints": 5}', '{"max_keypoints": 5, "weights": "a.txt"}')
    (own_methods / "corners.py").write_text(code)
    (own_methods / "a.txt").write_text("1")
    arguments = ("corners.py:Corners", own_methods / "images", own_methods)
    extract_features(*arguments)
    assert extract_features(*arguments).num_present == 1
    (own_methods / "a.txt").write_text("2")
    with pytest.raises(ValueError, match=r"weights.*--overwrite"):
        extract_features(*arguments)


def test_a_class_of_a_package_has_its_name_and_version(packages: Path) -> None:
    install(packages, "plug_z", CORNERS, features="corners = plug_z:Corners")
    (record,) = records("corners")
    assert record["class"] == "plug_z:Corners"
    assert (record["package"], record["version"]) == ("plug_z", "1.5")
    assert len(record["sha256"]) == 64  # it is not where packages are installed


def test_a_changed_source_is_another_method(own_methods: Path) -> None:
    write_textured_images(own_methods / "images", 2)
    arguments = ("corners.py:Corners", own_methods / "images", own_methods)
    done = extract_features(*arguments)
    assert extract_features(*arguments).num_present == 2
    with FeatureReader(done.feature_path) as reader:
        provenance = reader.provenance
    assert provenance is not None
    assert provenance.conf["model"]["name"] == "corners.py:Corners"
    (own_methods / "corners.py").write_text(
        CORNERS.replace("torch.ones(n, 2)", "torch.zeros(n, 2)")
    )
    with pytest.raises(ValueError, match=r"corners.py:Corners.*source.*--overwrite"):
        extract_features(*arguments)
    assert extract_features(*arguments, overwrite=True).num_extracted == 2


def test_files_from_before_sources_were_recorded_are_reused() -> None:
    new = Provenance("features", {}, methods=[{"class": "a.py:A", "sha256": "1"}])
    assert Provenance("features", {}).difference(new) is None
    assert new.difference(Provenance("features", {})) is None


@pytest.mark.parametrize("methods", ["[3]", '["a"]', '[{"class": 3}]', "[{}]", "3"])
def test_a_damaged_record_is_no_provenance(methods: str) -> None:
    text = json.loads(Provenance("features", {}).to_json()) | {"methods": json.loads(methods)}
    with pytest.raises(ValueError, match="not a provenance"):
        Provenance.from_json(json.dumps(text))
