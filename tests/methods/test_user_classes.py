"""Classes of users, and the methods of packages that are installed."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from featplug import methods
from featplug.cli.command_line import run_command
from featplug.cli.program import PROGRAM
from featplug.methods import build_extractor, build_matcher, feature_conf, matcher_conf
from featplug.methods.method_table import MethodTable
from featplug.methods.user_classes import load_class, load_file
from featplug.utils.errors import has_own_traceback
from tests.conftest import REPOSITORY
from tests.scenes.own_methods import CORNERS, MATCHER, install


def test_a_class_of_a_file_is_a_feature(own_methods: Path) -> None:
    conf = feature_conf("corners.py:Corners")
    assert conf["output"].startswith("feats-featplug-corners=Corners-")
    assert conf["matcher"] == "NN-mutual"
    assert conf["preprocessing"] == methods.PREPROCESSING
    extractor = build_extractor({**conf["model"], "max_keypoints": 3})
    assert extractor({"image": torch.zeros(1, 1, 8, 8)})["keypoints"][0].shape == (3, 2)
    os.chdir("/")  # its model has the whole path
    build_extractor(conf["model"])


def test_attributes_of_a_class_are_its_conf(own_methods: Path) -> None:
    text = CORNERS.replace(
        "    default",
        "    matcher = 'NN-ratio'\n    paper = 'Me, 2030'\n"
        "    preprocessing = {'grayscale': True}\n    default",
    )
    (own_methods / "corners.py").write_text(text)
    conf = feature_conf("corners.py:Corners+none.py:None_")
    assert conf["matcher"] == "none.py:None_"
    assert feature_conf("corners.py:Corners")["matcher"] == "NN-ratio"
    assert conf["paper"] == "Me, 2030"
    assert conf["preprocessing"] == {**methods.PREPROCESSING, "grayscale": True}
    (own_methods / "corners.py").write_text(text.replace("'NN-ratio'", "3"))
    with pytest.raises(ValueError, match=r"corners.py:Corners: matcher must be"):
        feature_conf("corners.py:Corners")


def test_a_class_of_a_file_is_a_matcher(own_methods: Path) -> None:
    matcher = build_matcher(matcher_conf("none.py:None_")["model"])
    sides = [{"descriptors": torch.ones(2, num)} for num in (3, 4)]
    assert matcher.match_pair(*sides)["matches0"].tolist() == [-1] * 3


def test_a_module_of_the_working_folder_is_found(own_methods: Path) -> None:
    assert feature_conf("corners:Corners")["model"]["name"] == "corners:Corners"


def test_registered_confs_of_a_file_are_used(own_methods: Path) -> None:
    text = CORNERS.replace(
        "class", "@register_feature({'corn': {}}, paper='P', matcher='NN-ratio')\nclass", 1
    )
    (own_methods / "registered.py").write_text(
        f"from featplug.methods import register_feature\n{text}"
    )
    conf = feature_conf("registered.py:Corners")
    assert (conf["matcher"], conf["paper"]) == ("NN-ratio", "P")
    assert conf["output"].startswith("feats-featplug-registered=Corners-")


def test_a_file_is_imported_again_after_it_changed(own_methods: Path) -> None:
    first = load_file(own_methods / "corners.py")
    assert load_file(own_methods / "corners.py") is first
    (own_methods / "corners.py").write_text(CORNERS.replace("Corners(", "Edges("))
    assert hasattr(load_file(own_methods / "corners.py"), "Edges")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent.py:Corners", r"no file .*absent.py"),
        ("corners.py:Edges", r"corners.py:Edges.*no class 'Edges'.*Extractor.*use Corners"),
        ("none.py:None_", r"none.py:None_ is not .*Extractor.*a Matcher, for --matcher"),
        ("absent_module:Corners", r"'absent_module'"),
        ("corners.py:torch.Tensor", r"Extractor.*use Corners"),
        ("corners.py", r"corners.py.*corners.py:Class"),
        ("abstract.py:Half", r"abstract.py:Half does not implement extract"),
    ],
)
def test_a_class_that_will_not_do(own_methods: Path, name: str, message: str) -> None:
    (own_methods / "abstract.py").write_text(
        "from featplug.base import Extractor\nclass Half(Extractor):\n    pass\n"
    )
    with pytest.raises((ValueError, FileNotFoundError), match=message) as raised:
        feature_conf(name)
    assert not has_own_traceback(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("error", ["ValueError('of mine')", "OSError('of mine')"])
def test_a_module_that_raises_shows_its_own_traceback(own_methods: Path, error: str) -> None:
    (own_methods / "broken.py").write_text(f"x = 1\nraise {error}\n")
    arguments = ["extract", "--image_dir", ".", "--export_dir", ".", "--conf", "broken.py:A"]
    command = [sys.executable, "-m", "featplug", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    heading, place, _, last = ended.stderr.splitlines()  # and no frame of featplug
    assert heading == "Traceback (most recent call last):"
    assert re.search(r'broken.py", line 2, in <module>$', place)
    assert last == f"{error.partition('(')[0]}: of mine"


def test_a_module_that_does_not_compile_shows_where(
    own_methods: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (own_methods / "broken.py").write_text("x = 1\nimport (\n")
    with pytest.raises(SystemExit) as ended:
        run_command(PROGRAM, "featplug", ["list", "broken.py:A"])
    assert ended.value.code == 1
    printed = capsys.readouterr().err
    assert 'broken.py", line 2' in printed
    assert "SyntaxError" in printed.splitlines()[-1]
    assert "Traceback" not in printed


def test_a_missing_module_of_a_users_module_shows_its_own_traceback(own_methods: Path) -> None:
    (own_methods / "needs.py").write_text("import absent_too\n")
    for name in ("needs.py:A", "needs:A"):
        with pytest.raises(ModuleNotFoundError, match="absent_too"):
            load_class(name, object)


def test_a_class_of_an_installed_package_has_the_name_of_its_entry_point(packages: Path) -> None:
    install(packages, "plug_a", CORNERS, features="corners = plug_a:Corners")
    install(packages, "plug_b", MATCHER, matchers="none = plug_b:None_")
    conf = feature_conf("corners+none")
    assert conf["model"] == {"name": "plug_a:Corners"}
    assert conf["output"] == "feats-featplug-corners"
    assert "plug_b" not in sys.modules  # which is not asked for yet
    build_matcher(matcher_conf(conf["matcher"])["model"])
    assert "corners" in list(methods.features)
    assert "none" not in list(methods.pair_matchers)


def test_a_module_of_an_installed_package_registers_itself(packages: Path) -> None:
    code = CORNERS.replace(
        "class", "@register_feature({'corn-1': {}, 'corn-2': {}}, paper='P')\nclass", 1
    )
    code = f"from featplug.methods import register_feature\n{code}"
    install(packages, "plug_c", code, features="all = plug_c")
    assert feature_conf("corn-2")["output"] == "feats-featplug-corn-2"
    assert build_extractor(feature_conf("corn-1")["model"]).conf == {"max_keypoints": 5}
    with pytest.raises(ValueError, match="corn-1"):
        feature_conf("corn-3")


def test_two_packages_of_one_name_are_both_named(packages: Path) -> None:
    install(packages, "plug_d", CORNERS, features="corners = plug_d:Corners")
    install(packages, "plug_e", CORNERS, features="corners = plug_e:Corners")
    with pytest.raises(ValueError, match=r"plug_.*'corners'.*uninstall") as raised:
        feature_conf("corners")
    for package in ("plug_d", "plug_e"):
        assert f"{package}:Corners" in str(raised.value)
        feature_conf(f"{package}:Corners")
    assert "corners" not in list(methods.features)  # the others are listed


def test_a_broken_package_does_not_break_other_names(
    packages: Path, caplog: pytest.LogCaptureFixture
) -> None:
    install(packages, "plug_f", "raise ValueError('broken')", features="f = plug_f:F")
    install(packages, "plug_g", CORNERS, features="corners = plug_g:Corners")
    feature_conf("corners")
    assert not caplog.records
    for _ in range(2):
        assert "corners" in list(methods.features)
    assert [r.getMessage().partition(" ")[0] for r in caplog.records] == ["plug_f"]
    with pytest.raises(ValueError, match="broken") as raised:
        feature_conf("f")
    assert has_own_traceback(raised.value)


def test_featplugs_own_names_win(packages: Path, caplog: pytest.LogCaptureFixture) -> None:
    install(packages, "plug_h", CORNERS, features="early = plug_h:Corners")
    table: MethodTable = MethodTable(
        "feature", "featplug.matchers", "Extractor", "feats-featplug", "featplug.features"
    )
    table._confs["early"], table._places["early"] = {"model": {"name": "early"}}, 1
    with caplog.at_level(logging.WARNING):
        assert table["early"]["model"]["name"] == "early"
        assert next(iter(table)) == "early"
    assert len(caplog.records) == 1
    assert "plug_h" in caplog.text


@pytest.mark.parametrize("name", ["a+b", "a@b", "a/b", "a:b", "a b", "a=b", "", ".a"])
def test_a_name_with_an_operator_cannot_be_registered(name: str) -> None:
    with pytest.raises(ValueError, match="letters"):
        methods.register_feature({name: {}}, paper="P")(type("A", (), {"__module__": "mine"}))


def test_a_class_of_another_form_in_a_package(packages: Path) -> None:
    install(packages, "plug_i", "class A: pass", features="a = plug_i:A")
    with pytest.raises(ValueError, match=r"plug_i.*featplug.base.Extractor"):
        feature_conf("a")
