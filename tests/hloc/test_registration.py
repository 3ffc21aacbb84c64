"""What ``register()`` puts into hloc and ``unregister()`` takes out, and which hloc it refuses."""

from __future__ import annotations

import copy
import logging
import pickle
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import h5py
import numpy as np
import pycolmap
import pytest
from PIL import Image

import featplug
from featplug.methods import features, matchers, retrieval
from tests.hloc.conftest import forget_hloc
from tests.scenes.own_methods import CORNERS, install


def snapshot(hloc: ModuleType) -> list[object]:
    tables = (hloc.extract_features.confs, hloc.match_features.confs)
    paths = (hloc.extractors.__path__, hloc.matchers.__path__)
    models = sorted(name for name in sys.modules if name.startswith("hloc.extr"))
    models += sorted(name for name in sys.modules if name.startswith("hloc.match"))
    attributes = [sorted(vars(package)) for package in (hloc.extractors, hloc.matchers)]
    finders = [type(finder).__name__ for finder in sys.meta_path]
    return copy.deepcopy([*tables, *map(list, paths), models, attributes, finders])


def test_every_conf_is_added_and_nothing_of_hlocs_is_changed(standin: ModuleType) -> None:
    before = snapshot(standin)
    registration = featplug.register()
    extractors, table = registration.extractors, standin.extract_features.confs
    networks = {name for name, conf in retrieval.items() if "preprocessing" in conf}
    assert set(extractors) == {*features, *networks}
    assert set(matchers) <= set(registration.matchers)
    assert {"disk+lightglue", "sift+lightglue"} <= set(registration.matchers)
    assert {own for own, name in extractors.items() if own != name} == {"sift", "netvlad"}
    assert extractors["sift"] == "featplug-sift"
    assert registration.matchers["NN-mutual"] == "featplug-NN-mutual"
    assert table["contextdesc"]["model"]["name"] == "featplug_contextdesc"
    assert table["contextdesc"]["matcher"] == "NN-ratio"
    assert table["contextdesc"]["two_view_matcher"] == "featplug-NN-mutual"  # hloc's name of it
    for kept, now in zip(before[:2], snapshot(standin)[:2], strict=True):
        assert kept.items() <= now.items()  # type: ignore[attr-defined]


def test_files_are_neither_hlocs_nor_those_of_our_own_engines(standin: ModuleType) -> None:
    names = featplug.register().extractors.values()
    outputs = [standin.extract_features.confs[name]["output"] for name in names]
    assert all("featplug" in output for output in outputs)
    ours = {conf["output"] for table in (features, retrieval) for conf in table.values()}
    assert len({*outputs, *ours}) == len(outputs) + len(ours)


def test_hloc_finds_every_model_and_its_own(standin: ModuleType) -> None:
    from hloc.utils.base_model import dynamic_load

    featplug.register()
    for package, table in (
        (standin.extractors, standin.extract_features.confs),
        (standin.matchers, standin.match_features.confs),
    ):
        for conf in table.values():
            name = conf["model"]["name"]
            if name != "netvlad":  # the stand-in has no model of that conf
                model = dynamic_load(package, name)
                assert model.__module__ == f"{package.__name__}.{name}"
                assert pickle.loads(pickle.dumps(model)) is model
    for name in ("featplug_vlad", "featplug_describer", "featplug_surf"):
        with pytest.raises(ModuleNotFoundError, match=name):
            dynamic_load(standin.extractors, name)


def test_registering_again_adds_nothing_and_keeps_what_a_script_changed(
    standin: ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    first = featplug.register()
    standin.extract_features.confs["mtldesc"]["output"] += "-small"
    before = snapshot(standin)
    caplog.clear()
    assert featplug.register() == first
    assert snapshot(standin) == before
    assert not caplog.records


def test_unregister_leaves_hloc_as_it_was(standin: ModuleType) -> None:
    before = snapshot(standin)
    featplug.unregister()
    assert snapshot(standin) == before
    featplug.register("lisrd@mtldesc")
    from hloc.utils.base_model import dynamic_load

    dynamic_load(standin.extractors, "featplug_sift")
    featplug.unregister()
    assert snapshot(standin) == before
    with pytest.raises(ModuleNotFoundError):
        dynamic_load(standin.extractors, "featplug_sift")
    featplug.register()
    dynamic_load(standin.extractors, "featplug_sift")


def test_a_describer_at_other_keypoints_is_added_where_asked_for(standin: ModuleType) -> None:
    featplug.register("lisrd@d2net")
    conf = standin.extract_features.confs["lisrd@d2net"]
    assert conf["model"]["detector"]["name"] == "d2net"
    assert conf["output"] == "feats-featplug-hloc-lisrd@d2net"
    # hloc's reader has no limit for the sum of the sides, and would pass over it.
    assert conf["model"]["preprocessing"]["resize_max_sum"] == 2800
    assert conf["preprocessing"] == {"grayscale": False}
    with pytest.raises(ValueError, match="'surf'"):
        featplug.register("lisrd@surf")


OWN = """
import torch
from featplug.base import Extractor, Matcher

class Brightest(Extractor):
    default_conf = {"max_keypoints": 5}
    matcher = "MATCHER"
    def extract(self, image):
        values, index = image[0].flatten().topk(self.conf["max_keypoints"])
        width = image.shape[2]
        points = torch.stack([index % width, index // width], 1).float()
        return {"keypoints": points, "scores": values, "descriptors": torch.ones(2, len(points))}

class SamePlace(Matcher):
    required_keys = ("keypoints", "image_size")
    def match(self, features0, features1):
        assert features0["image_size"].tolist() == [40, 30]
        near = torch.cdist(features0["keypoints"], features1["keypoints"]) < 0.1
        matches = torch.where(near.any(1), near.int().argmax(1), -1)
        return {"matches0": matches, "matching_scores0": (matches >= 0).float()}
"""


def test_a_users_own_classes_run_in_hlocs_engines(standin: ModuleType, tmp_path: Path) -> None:
    file, images = tmp_path / "mine.py", tmp_path / "images"
    file.write_text(OWN.replace("MATCHER", f"{file}:SamePlace"))
    images.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8)
    for name in ("a.png", "b.png"):
        Image.fromarray(pixels).save(images / name)
    (tmp_path / "pairs.txt").write_text("a.png b.png\n")
    name = f"{file}:Brightest"
    registration = featplug.register(name)
    assert registration == featplug.register(name)
    conf = copy.deepcopy(standin.extract_features.confs[registration.extractors[name]])
    conf["model"]["max_keypoints"] = 7
    features = standin.extract_features.main(conf, images, tmp_path)
    assert "featplug-hloc" in features.name
    assert features.parent == tmp_path
    matcher = standin.match_features.confs[conf["matcher"]]
    matches = standin.match_features.main(
        matcher, tmp_path / "pairs.txt", features, tmp_path / "matches.h5"
    )
    with h5py.File(matches) as stored:
        assert stored["a.png/b.png/matches0"][()].tolist() == list(range(7))
    assert f"{file}:SamePlace" in featplug.register(f"{file}:SamePlace").matchers
    featplug.unregister()
    assert not any("mine.py" in name for name in standin.extract_features.confs)


def test_what_is_neither_feature_nor_matcher_is_rejected(
    standin: ModuleType, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text("class Other: ...")
    with pytest.raises(ValueError, match=r"mine\.py:Other"):
        featplug.register(f"{tmp_path}/mine.py:Other")
    with pytest.raises(FileNotFoundError, match=r"none\.py"):
        featplug.register(f"{tmp_path}/none.py:Other")


def test_a_matcher_has_the_weights_of_each_feature(standin: ModuleType) -> None:
    matchers = featplug.register().matchers
    models = {
        name: standin.match_features.confs[matchers[name]]["model"]
        for name in ("disk+lightglue", "aliked-n16+lightglue")
    }
    assert models["disk+lightglue"]["feature"] != models["aliked-n16+lightglue"]["feature"]
    assert "doap+lightglue" not in matchers


def test_a_name_that_is_taken_is_not_overwritten(
    standin: ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    table = standin.extract_features.confs
    own = {"output": "feats-own", "model": {"name": "dog"}, "preprocessing": {}}
    table["doap"] = table["featplug-sift"] = own
    registration = featplug.register()
    assert registration.extractors["doap"] == "featplug-doap"
    assert "sift" not in registration.extractors
    assert table["doap"] is own
    assert table["featplug-sift"] is own
    assert "confs 'sift' and 'featplug-sift' already" in caplog.text
    featplug.unregister()
    assert table["featplug-sift"] is own


def written_configurations(triangulation: ModuleType, **given: Any) -> list[Any]:
    """Configurations of the geometries of three pairs, the last of which has no matches."""
    matches = np.zeros((2, 2), np.uint32)
    with pycolmap.Database.open(":memory:") as database:
        triangulation.import_matches(database, {(1, 2): matches, (1, 3): matches}, **given)
        triangulation.import_matches(database, {(2, 3): matches[:0]}, **given)
        return [database.read_two_view_geometry(*ids).config for ids in ((1, 2), (1, 3), (2, 3))]


def test_geometries_of_hlocs_triangulation_have_a_configuration_and_it_is_said_once(
    standin: ModuleType, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from hloc import triangulation

    monkeypatch.setattr("pycolmap.__version__", "4.2.1")
    kinds = pycolmap.TwoViewGeometryConfiguration
    without = [kinds.UNDEFINED] * 3
    assert written_configurations(triangulation) == without
    assert featplug.register().problems == featplug.register().problems == ()
    assert not caplog.records
    for _ in range(2):
        assert written_configurations(triangulation) == [*[kinds.CALIBRATED] * 2, kinds.UNDEFINED]
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert "pycolmap 4.2.1" in record.getMessage()
    assert isinstance(pycolmap.TwoViewGeometry(), triangulation.pycolmap.TwoViewGeometry.__base__)
    matches = np.zeros((1, 2), np.uint32)
    assert pycolmap.TwoViewGeometry(inlier_matches=matches).config == kinds.UNDEFINED
    featplug.unregister()
    assert triangulation.pycolmap is pycolmap
    assert written_configurations(triangulation) == without


def test_hlocs_triangulation_is_imported_only_where_pycolmap_needs_it(
    standin: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = "hloc.triangulation"

    def fail(name: str) -> NoReturn:
        raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)

    monkeypatch.setattr("featplug.hloc.registration.import_module", fail)
    monkeypatch.setattr("pycolmap.__version__", "4.2.1")
    featplug.register()  # an hloc without it
    missing = "plyfile"
    with pytest.raises(ImportError, match=r"cannot be imported.*plyfile"):
        featplug.register()
    monkeypatch.setattr("pycolmap.__version__", "4.1.0")
    featplug.register()


def test_an_hloc_that_writes_configurations_is_left_alone(
    standin: ModuleType, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from hloc import triangulation

    monkeypatch.setattr("pycolmap.__version__", "4.2.1")
    featplug.register()
    kind = pycolmap.TwoViewGeometryConfiguration.UNCALIBRATED
    assert written_configurations(triangulation, config=kind) == [kind] * 3
    assert not caplog.records


def test_a_pycolmap_that_needs_no_configurations_is_left_alone(
    standin: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hloc import triangulation

    monkeypatch.setattr("pycolmap.__version__", "4.1.1")
    featplug.register()
    assert triangulation.pycolmap is pycolmap


def test_hloc_from_before_todays_pycolmap_is_told(
    standin: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "database.py").touch()
    monkeypatch.setattr("pycolmap.__version__", "4.1.1")
    assert featplug.register().problems == ()
    sys.modules["hloc.utils"].__path__.append(str(tmp_path))
    (problem,) = featplug.register().problems
    assert "older than September 2025" in problem
    assert "git pull" in problem


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({}, r"There is no hloc here; .*clone https://github\.com/cvg"),
        ({"imcui/__init__.py": ""}, "the copy inside imcui is a fork"),
        ({"hloc/notes.txt": ""}, "The folder hloc is not the localization toolbox"),
        ({"hloc/__init__.py": ""}, r"hloc is not the localization toolbox; .*1\.5 or later"),
        ({"hloc/__init__.py": "__version__ = '1.4'"}, r"hloc is 1\.4, too old"),
        ({"hloc/__init__.py": "__version__ = '1.4rc1'"}, r"hloc is 1\.4rc1, too old"),
        ({"hloc/__init__.py": "import surf"}, "cannot be imported: No module named 'surf'"),
        ({"hloc/__init__.py": "__version__ = '1.5'"}, "cannot be imported: .*extract_features"),
        (
            {
                "hloc/__init__.py": "__version__ = '1.5'",
                "hloc/utils/base_model.py": "dynamic_load = None",
                "hloc/extract_features.py": "confs = {}\nclass ImageDataset: default_conf = {}",
                "hloc/match_features.py": "confs = {}",
            },
            "fork, which reads images by other options, as imcui's",
        ),
        (
            {
                "hloc/__init__.py": "__version__ = '1.5'",
                "hloc/utils/base_model.py": "dynamic_load = None",
                "hloc/extract_features.py": "",
                "hloc/match_features.py": "",
            },
            r"fork: its hloc\.extract_features has no table of confs",
        ),
    ],
)
def test_another_hloc_is_refused_by_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], sentence: str
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    here = [path for path in sys.path if not (Path(path) / "hloc").is_dir()]
    monkeypatch.setattr(sys, "path", [str(tmp_path), *here])
    forget_hloc()
    with pytest.raises(ImportError, match=sentence) as refused:
        featplug.register()
    assert "\n" not in str(refused.value)
    featplug.unregister()  # has nothing to do and says nothing
    forget_hloc()


def test_featplug_imports_neither_hloc_nor_torch() -> None:
    code = (
        "import sys, featplug, featplug.hloc, featplug.methods; featplug.register\n"
        "assert not {'hloc', 'torch', 'h5py'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_class_of_a_file_is_added_with_its_matcher(
    standin: ModuleType, own_methods: Path
) -> None:
    name = "corners.py:Corners+none.py:None_"
    registration = featplug.register(name)
    conf = standin.extract_features.confs[registration.extractors[name]]
    assert conf["output"].startswith("feats-featplug-hloc-corners=Corners-")
    from hloc.utils.base_model import dynamic_load

    extractor = dynamic_load(standin.extractors, conf["model"]["name"])(conf["model"])
    assert type(extractor.extractor).__name__ == "Corners"
    matching = standin.match_features.confs[conf["matcher"]]
    matcher = dynamic_load(standin.matchers, matching["model"]["name"])(matching["model"])
    assert type(matcher.matcher).__name__ == "None_"
    before = len(standin.extract_features.confs)
    featplug.unregister()
    assert len(standin.extract_features.confs) < before
    assert name not in standin.match_features.confs


def test_methods_of_packages_are_added(standin: ModuleType, packages: Path) -> None:
    install(packages, "plug_hloc", CORNERS, features="corners = plug_hloc:Corners")
    conf = standin.extract_features.confs[featplug.register().extractors["corners"]]
    from hloc.utils.base_model import dynamic_load

    assert dynamic_load(standin.extractors, conf["model"]["name"]).__name__ == "Corners"
