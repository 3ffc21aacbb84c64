"""The code of CONTRIBUTING.md's recipes."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

from tests.conftest import REPOSITORY

_FLAGS = re.MULTILINE | re.DOTALL


def recipe_files() -> dict[str, str]:
    """Return the code of each new file of the recipes, by its path."""
    text = (REPOSITORY / "CONTRIBUTING.md").read_text("utf-8")
    pattern = r"^`([\w/.]+)`:\n<!--[^\n]*-->\n```(?:python|toml)\n(.*?)^```$"
    return dict(re.findall(pattern, text, _FLAGS))


def recipe_entries(path: str) -> list[str]:
    """Return the entries that recipes add to a file."""
    text = (REPOSITORY / "CONTRIBUTING.md").read_text("utf-8")
    pattern = rf"^Add to [^\n]*`{path}`:\n<!--[^\n]*-->\n```python\n(.*?)^```$"
    return re.findall(pattern, text, _FLAGS)


def import_recipe(path: str, folder: Path) -> ModuleType:
    """Write a new file of the recipes into a folder, and import it as if it were in its place."""
    name = path.removesuffix(".py").replace("/", ".")
    file = folder / Path(path).name
    file.write_text(recipe_files()[path], "utf-8")
    spec = importlib.util.spec_from_file_location(name, file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module
