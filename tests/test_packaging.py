"""What pyproject.toml says of the package, its version and its dependencies."""

from __future__ import annotations

import re
import tomllib

import featplug
from tests.conftest import REPOSITORY

PYPROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))


def test_the_version_stands_in_one_place() -> None:
    assert PYPROJECT["project"]["dynamic"] == ["version"]
    source = (REPOSITORY / PYPROJECT["tool"]["hatch"]["version"]["path"]).read_text("utf-8")
    assert re.findall(r'^__version__ = "(.*)"$', source, re.MULTILINE) == [featplug.__version__]
    assert f"\n## {featplug.__version__}" in (REPOSITORY / "CHANGELOG.md").read_text("utf-8")


def test_each_dependency_has_a_lower_bound_and_a_version_it_is_tested_with() -> None:
    project = PYPROJECT["project"]
    requirements = project["dependencies"] + project["optional-dependencies"]["train"]
    bounds = dict(requirement.split(">=") for requirement in requirements)
    lines = (REPOSITORY / "constraints.txt").read_text("utf-8").splitlines()
    tested = dict(line.split("==") for line in lines if "==" in line)
    assert bounds.keys() <= tested.keys()
    for name, bound in bounds.items():
        numbers = ([int(n) for n in version.split(".")] for version in (bound, tested[name]))
        lowest, newest = numbers
        assert lowest <= newest, name


def test_type_checkers_find_the_marker() -> None:
    assert (REPOSITORY / "featplug" / "py.typed").is_file()
