"""Names that README and docs of 0.1 show are importable for one release."""

from __future__ import annotations

import importlib
import sys

import pytest

from featplug.utils.moved import MODULES


@pytest.mark.parametrize("old", MODULES)
def test_an_old_module_name_warns_and_is_the_new_module(
    old: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, old, raising=False)
    with pytest.warns(DeprecationWarning, match=MODULES[old][0]):
        module = importlib.import_module(old)
    for new in map(importlib.import_module, MODULES[old]):
        public = [name for name in vars(new) if not name.startswith("_")]
        assert public
        assert all(getattr(module, name) is getattr(new, name) for name in public)


@pytest.mark.parametrize(
    ("package", "name", "new"),
    [
        ("featplug.colmap", "from_colmap_keypoints", "featplug.colmap.database"),
        ("featplug.colmap", "read_model", "featplug.colmap.model_files"),
        ("featplug.metrics", "absolute_pose_errors", "featplug.metrics.poses"),
        ("featplug.weights", "load_weights", "featplug.weights.loading"),
    ],
)
def test_a_function_that_moved_is_found_where_it_was(package: str, name: str, new: str) -> None:
    with pytest.warns(DeprecationWarning, match=new):
        assert getattr(importlib.import_module(package), name) is getattr(
            importlib.import_module(new), name
        )


def test_a_name_that_never_was_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        importlib.import_module("featplug.colmap").no_such_name  # noqa: B018
