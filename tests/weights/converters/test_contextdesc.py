"""Conversion of ContextDesc's files: every container, every name, what does not fit."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from featplug.networks.caffe_resnet import CaffeResNet50
from featplug.networks.contextdesc import ContextDesc
from featplug.weights.converters.contextdesc import contextdesc, regional
from featplug.weights.importing import import_weights
from featplug.weights.loading import load_network, verify_weights
from tests.golden.golden_set import GoldenSet
from tests.networks.contextdesc_weights import (
    as_variables,
    resnet_variables,
    seeded_networks,
    seeded_state,
)
from tests.weights.converters import tensorflow_writer as writer

DATA = "model.ckpt-400000.data-00000-of-00001"
INDEX = "model.ckpt-400000.index"


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return seeded_state(ContextDesc(64))


@pytest.fixture(scope="module")
def variables(state: dict[str, Tensor]) -> dict[str, np.ndarray]:
    return as_variables(state)


def split(variables: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The variables of loc.pb and of aug.pb."""
    is_aug = {name: name.startswith(("vis_context/", "geo_context/")) for name in variables}
    loc, aug = (
        {name: value for name, value in variables.items() if is_aug[name] == wanted}
        for wanted in (False, True)
    )
    return loc, aug


def assert_same(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert list(actual) == list(expected)
    for key, value in expected.items():
        torch.testing.assert_close(actual[key], value, rtol=0, atol=1e-7)


def write_graphs(
    folder: Path, variables: dict[str, np.ndarray], scope: str = "", **options: object
) -> Path:
    for name, arrays in zip(("loc.pb", "aug.pb"), split(variables), strict=True):
        (folder / name).write_bytes(writer.frozen_graph(arrays, scope=scope, **options))
    return folder


@pytest.mark.parametrize("given", ["loc.pb", "aug.pb"])
@pytest.mark.parametrize("scope", ["", "siamese/net/"])
def test_graphs_beside_each_other(
    tmp_path: Path,
    state: dict[str, Tensor],
    variables: dict[str, np.ndarray],
    given: str,
    scope: str,
) -> None:
    assert_same(contextdesc(write_graphs(tmp_path, variables, scope) / given), state)


@pytest.mark.parametrize("fused", [True, False])
def test_another_epsilon_goes_into_the_variances(
    tmp_path: Path, state: dict[str, Tensor], variables: dict[str, np.ndarray], fused: bool
) -> None:
    write_graphs(tmp_path, variables, epsilon=1e-3, fused=fused)
    converted = contextdesc(tmp_path / "aug.pb")
    expected = {
        key: value + (1e-3 - 1e-5) if key.endswith("running_var") else value
        for key, value in state.items()
    }
    assert_same(converted, expected)


def test_checkpoint_without_what_the_optimiser_left(
    tmp_path: Path, state: dict[str, Tensor], variables: dict[str, np.ndarray]
) -> None:
    index = writer.write_checkpoint(tmp_path, "model.ckpt-400000", variables)
    assert_same(contextdesc(index), state)
    (tmp_path / DATA).unlink()
    with pytest.raises(ValueError, match=rf"{INDEX} needs {DATA} next to it"):
        contextdesc(index)


@pytest.mark.slow
def test_archives(
    tmp_path: Path, state: dict[str, Tensor], variables: dict[str, np.ndarray]
) -> None:
    write_graphs(tmp_path, variables)
    writer.write_checkpoint(tmp_path, "model.ckpt-400000", variables)
    graphs = {f"pp/{name}": (tmp_path / name).read_bytes() for name in ("aug.pb", "loc.pb")}
    checkpoint = {f"pp/{name}": (tmp_path / name).read_bytes() for name in (INDEX, DATA)}
    for members in (graphs, checkpoint, graphs | checkpoint):
        path = writer.write_tar(tmp_path / "contextdesc_pp.tar", members)
        assert_same(contextdesc(path), state)
    path.write_bytes(gzip.compress(path.read_bytes(), 1))
    assert_same(contextdesc(path), state)
    only_index = writer.write_tar(tmp_path / "a.tar", {INDEX: (tmp_path / INDEX).read_bytes()})
    with pytest.raises(ValueError, match=rf"a\.tar lacks {DATA}"):
        contextdesc(only_index)
    with pytest.raises(ValueError, match=r"holds neither reg\.pb nor a checkpoint"):
        regional(writer.write_tar(tmp_path / "b.tar", graphs))
    with pytest.raises(ValueError, match=r"another\s+system's file"):
        regional(writer.write_tar(tmp_path / "c.tar", checkpoint))


def test_damaged_archives(tmp_path: Path, variables: dict[str, np.ndarray]) -> None:
    index = writer.write_checkpoint(tmp_path, "model.ckpt-400000", variables)
    members = {DATA: (tmp_path / DATA).read_bytes(), INDEX: index.read_bytes()}
    whole = writer.write_tar(tmp_path / "whole.tar", members).read_bytes()
    path = tmp_path / "cut.tar"
    for length in (600, len(whole) // 2, len(members[DATA]) + 1100):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"cut\.tar"):
            contextdesc(path)
    compressed = gzip.compress(whole, 1)
    path.write_bytes(compressed[: len(compressed) // 2])
    with pytest.raises(ValueError, match=r"cut\.tar.*download it again"):
        contextdesc(path)
    flipped = bytearray(whole)
    flipped[len(members[DATA]) // 2] ^= 1
    path.write_bytes(flipped)
    with pytest.raises(ValueError, match=r"cut\.tar.*checksum.*download it again"):
        contextdesc(path)


def test_files_of_others_are_refused(tmp_path: Path, variables: dict[str, np.ndarray]) -> None:
    torch.save({"model": {"a": torch.zeros(3)}}, tmp_path / "d2_tf.pth")
    (tmp_path / "page.tar").write_bytes(b"<!doctype html>")
    (tmp_path / "empty.tar").write_bytes(b"")
    (tmp_path / "short.index").write_bytes(b"abc")
    loc, aug = split(variables)
    (tmp_path / "loc.pb").write_bytes(writer.frozen_graph(loc))
    for name, message in (
        ("d2_tf.pth", "is not a file of ContextDesc"),
        ("page.tar", "is a web page, not a checkpoint"),
        ("empty.tar", "is empty"),
        ("short.index", "is damaged"),
        ("loc.pb", r"loc\.pb needs aug\.pb next to it"),
    ):
        with pytest.raises(ValueError, match=message):
            contextdesc(tmp_path / name)
    with pytest.raises(ValueError, match="another system's file"):
        regional(tmp_path / "loc.pb")
    del aug["geo_context/cn3_conv1/kernel"]
    (tmp_path / "aug.pb").write_bytes(writer.frozen_graph(aug))
    with pytest.raises(ValueError, match="lacks the variables geo_context/cn3_conv1/kernel of"):
        contextdesc(tmp_path / "loc.pb")
    (tmp_path / "aug.pb").write_bytes(writer.frozen_graph(loc))
    with pytest.raises(ValueError, match=r"such as vis_context/conv1/kernel\), so it is another"):
        contextdesc(tmp_path / "loc.pb")


def test_retrieval_model(tmp_path: Path) -> None:
    state = seeded_networks()[1].state_dict()
    path = tmp_path / "reg.pb"
    path.write_bytes(writer.frozen_graph(resnet_variables(state), scope="reg/"))
    assert_same(regional(path), dict(state))
    with pytest.raises(ValueError, match="another system's file"):
        contextdesc(path)


def test_names_and_shapes_are_the_official_ones(golden_set: GoldenSet) -> None:
    table = "contextdesc/variables.csv"
    own = golden_set.shapes(table, graph="loc") | golden_set.shapes(table, graph="aug")
    ours = as_variables(ContextDesc().state_dict())
    assert {name: array.shape for name, array in ours.items()} == own
    ours = resnet_variables(CaffeResNet50().state_dict())
    shapes = {name: array.shape for name, array in ours.items()}
    assert shapes == golden_set.shapes(table, graph="reg")


def test_import_and_load(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    state: dict[str, Tensor],
    variables: dict[str, np.ndarray],
) -> None:
    """An archive under the authors' name, with another number of regional channels."""
    write_graphs(tmp_path, variables)
    members = {name: (tmp_path / name).read_bytes() for name in ("aug.pb", "loc.pb")}
    archive = writer.write_tar(tmp_path / "contextdesc_pp.tar", members)
    monkeypatch.setenv("FEATPLUG_WEIGHTS", str(tmp_path / "weights"))
    record = import_weights(archive)
    assert record.name == "contextdesc_pp"
    network, loaded = load_network("contextdesc", "auto", ContextDesc)
    assert loaded.sha256 == record.sha256
    assert_same(dict(network.state_dict()), state)
    (check,) = verify_weights(["contextdesc_pp"])
    assert check.ok
