"""Data sets of installed packages."""

from __future__ import annotations

from pathlib import Path

import pytest

from featplug.cli.command_line import run_command
from featplug.cli.program import PROGRAM
from featplug.methods.packages import Packages
from pipelines.datasets import pipeline_names
from pipelines.datasets.aachen import AachenOptions
from pipelines.datasets.pipeline_names import find_options
from tests.scenes.own_methods import install

OPTIONS = """
from dataclasses import dataclass
from pathlib import Path
from pipelines.datasets.aachen import Aachen
from pipelines.datasets.protocol import ModelOptions

@dataclass(frozen=True)
class CornerOptions(ModelOptions):
    \"\"\"Localize in a corner.\"\"\"
    pipeline = "corner"
    dataset: Path = Path("corner")

    def open(self, progress=False):
        return Aachen(self.dataset)
"""


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline_names, "PACKAGES", Packages("featplug.datasets"))


def test_a_data_set_of_a_package_is_a_command(
    packages: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    install(packages, "plug_corner", OPTIONS, datasets="corner = plug_corner:CornerOptions")
    assert find_options("corner").__name__ == "CornerOptions"
    with pytest.raises(SystemExit) as ended:
        run_command(PROGRAM, "featplug", ["corner", "--help"])
    assert ended.value.code == 0
    assert "Localize in a corner." in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        run_command(PROGRAM, "featplug", ["corner", "--dataset", "absent", "--outputs", "out"])
    assert ended.value.code == 2
    assert "no dataset absent" in capsys.readouterr().err
    run_command(PROGRAM, "featplug", ["list"])
    assert "plug_corner, package with datasets: corner" in capsys.readouterr().out


def test_a_module_with_data_sets_is_found(packages: Path) -> None:
    code = OPTIONS.replace('"corner"\n', '"corner-2"\n')
    install(packages, "plug_module", code, datasets="any = plug_module")
    assert find_options("corner-2").__module__ == "plug_module"


def test_of_two_packages_none_is_used(packages: Path) -> None:
    for name in ("plug_one", "plug_two"):
        install(packages, name, OPTIONS, datasets=f"corner = {name}:CornerOptions")
    with pytest.raises(ValueError, match=r"plug_.* and plug_.*'corner'.*uninstall"):
        find_options("corner")
    assert find_options("aachen") is AachenOptions


def test_featplugs_own_data_set_wins(
    packages: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    code = OPTIONS.replace('"corner"\n', '"aachen"\n')
    install(packages, "plug_other", code, datasets="aachen = plug_other:CornerOptions")
    for _ in range(2):
        assert find_options("aachen") is AachenOptions
    assert len(caplog.records) == 1
    assert "plug_other" in caplog.text


def test_another_class_is_no_data_set(
    packages: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    install(packages, "plug_none", "class A: pass", datasets="corner-3 = plug_none:A")
    with pytest.raises(ValueError, match="'corner-3'"):
        find_options("corner-3")
    assert "ModelOptions" in caplog.text
