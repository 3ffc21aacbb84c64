"""What files record of the code that made them."""

from __future__ import annotations

import hashlib
import json
import sys
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

HELPED = f"""
import helper_of_corners
{CORNERS}
"""


def records(name: str) -> list[dict[str, str]]:
    return source_records(build_extractor(feature_conf(name)["model"]))


def test_featplugs_own_methods_have_its_version() -> None:
    own = {"package": "featplug", "version": featplug.__version__}
    assert records("sift") == [{"class": "featplug.extractors.sift:SIFT", **own}]


@pytest.mark.usefixtures("own_methods")
def test_a_class_of_a_file_has_the_hash_of_its_source() -> None:
    digest = hashlib.sha256(Path("corners.py").read_bytes()).hexdigest()
    assert records("corners.py:Corners") == [{"class": "corners.py:Corners", "sha256": digest}]


def test_what_a_file_uses_of_its_folder_is_its_source(own_methods: Path) -> None:
    (own_methods / "helper_of_corners.py").write_text("x = 1\n")
    (own_methods / "helped.py").write_text(HELPED)
    known = set(sys.modules)

    def record() -> dict[str, str]:
        for name in set(sys.modules) - known:  # as in another process
            del sys.modules[name]
        return records("helped.py:Corners")[0]

    before = record()
    assert record() == before
    (own_methods / "helper_of_corners.py").write_text("x = 2\n")
    assert record()["class"] == before["class"]
    assert record()["sha256"] != before["sha256"]


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
