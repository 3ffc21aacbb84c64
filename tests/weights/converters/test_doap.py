"""DOAP's MatConvNet files: every container and form, layers as listed, what is no such file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from featplug.networks.l2net import DOAP
from featplug.weights.checkpoints import git_blob_id
from featplug.weights.converters.doap import doap
from featplug.weights.importing import import_weights
from featplug.weights.loading import load_network, verify_weights
from featplug.weights.registry import read_registry
from tests.golden.golden_set import GoldenSet
from tests.golden.parity import Parity
from tests.weights.converters.matlab_writer import (
    FORMS,
    VERSIONS,
    HandleObject,
    StructArray,
    localisation_layers,
    network,
    seeded_params,
    trunk_layers,
    write_mat,
)

PARAMS = seeded_params()


def write(path: Path, net: Any, version: str = "5") -> Path:
    return write_mat(path, version, {"net": net})


def build(state: dict[str, Tensor]) -> DOAP:
    """The network in float64, where an epsilon too much would show."""
    built = DOAP.from_state(state).double().eval()
    built.load_state_dict(state)
    return built


def outputs(state: dict[str, Tensor], patches: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return build(state)(torch.from_numpy(patches).double()).numpy()


@pytest.mark.parametrize("last", ["7", "7b"])
def test_all_containers_and_forms_give_the_same_network(tmp_path: Path, last: str) -> None:
    states = [
        doap(write(tmp_path / "net.mat", network(form, trunk_layers(PARAMS, last)), version))
        for version in VERSIONS
        for form in FORMS
    ]
    expected = DOAP.from_state(states[0]).state_dict()
    for state in states:
        assert state.keys() == expected.keys()
        assert all(torch.equal(state[key], states[0][key]) for key in state)
    filters = torch.from_numpy(PARAMS["conv3.filters"])
    assert torch.equal(states[0]["trunk.conv3.weight"], filters.permute(3, 2, 0, 1))
    assert states[0]["sizes"].tolist() == [32, 32]
    assert DOAP.from_state(states[0]).is_binary == (last == "7b")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("version", VERSIONS)
def test_golden_outputs(
    tmp_path: Path,
    golden_set: GoldenSet,
    parity: Parity,
    version: str,
    form: str,
) -> None:
    golden = golden_set.arrays("doap/l2net")
    params = golden_set.matconvnet_params()
    for last, name in (("7", "logits"), ("7b", "logits_binary")):
        state = doap(
            write(tmp_path / "net.mat", network(form, trunk_layers(params, last)), version)
        )
        found = outputs(state, golden["patches32"])
        parity.compare("doap", f"{name} from .mat in float64", found, golden[name], 1e-9)


@pytest.mark.parametrize("version", VERSIONS)
def test_transformer_is_read_with_its_geometry(tmp_path: Path, version: str) -> None:
    net = network("dagnn", trunk_layers(PARAMS), localisation_layers())
    built = build(doap(write(tmp_path / "net.mat", net, version)))
    assert (built.patch_size, built.sampled_size) == (42, 32)
    rows = built.localisation.layers.tolist()
    # kind, channels, size, stride, padding (top, bottom, left, right), dilation, bias
    assert rows[0] == [0, 1, 8, 5, 3, 2, 1, 2, 1, 0, 1, 1, 1, 0]
    assert rows[2] == [3, 0, 0, 3, 2, 2, 2, 0, 1, 1, 0, 1, 1, 0]
    assert rows[3] == [0, 8, 12, 3, 3, 1, 1, 1, 1, 1, 1, 1, 2, 1]
    assert rows[6] == [4, 0, 0, 3, 3, 2, 3, 1, 0, 0, 1, 1, 1, 0]
    assert len(rows) == 8


def test_variance_contains_the_epsilon_of_the_file_once(tmp_path: Path) -> None:
    state = doap(write(tmp_path / "net.mat", network("dagnn", trunk_layers(PARAMS))))
    sigma = PARAMS["bn4.moments"][:, 1].astype(float)
    deviation = (state["trunk.bn4.running_var"] + build(state).trunk.bn4.eps).sqrt()
    np.testing.assert_allclose(deviation.numpy(), sigma, rtol=1e-14)


def assert_same_state(changed: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert changed.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(changed[key], value, rtol=0, atol=0)


def shuffled(net: dict[str, Any]) -> None:
    """DagNN sorts its layers by what they read, not by their order."""
    net["layers"] = StructArray(net["layers"][::-1])


def bn7_as_output(net: dict[str, Any]) -> None:
    for layer in net["layers"]:
        for side in ("inputs", "outputs"):
            layer[side] = ["bn7" if name == "logits" else name for name in layer[side]]


def names_without_cells(net: dict[str, Any]) -> None:
    for layer in net["layers"]:
        layer["inputs"] = layer["inputs"][0] if len(layer["inputs"]) == 1 else layer["inputs"]
        layer["outputs"] = layer["outputs"][0]


def squeezed_filters(net: dict[str, Any]) -> None:
    for param in net["params"]:
        param["value"] = np.squeeze(param["value"])


def size_of_training_patches(net: dict[str, Any]) -> None:
    net["meta"]["normalization"] = {"imageSize": np.array([[64.0, 64.0, 1.0]])}


@pytest.mark.parametrize(
    "change",
    [shuffled, bn7_as_output, names_without_cells, squeezed_filters, size_of_training_patches],
)
def test_variants_of_a_dagnn_are_the_same_network(
    tmp_path: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    net = network("dagnn", trunk_layers(PARAMS), localisation_layers())
    expected = doap(write(tmp_path / "net.mat", net))
    change(net)
    assert_same_state(doap(write(tmp_path / "net.mat", net)), expected)


def test_variants_of_a_simplenn_are_the_same_network(tmp_path: Path) -> None:
    net = network("simplenn", trunk_layers(PARAMS))
    expected = doap(write(tmp_path / "net.mat", net))
    # Saved with -struct, and with a layer after the descriptor that is no part of it.
    net["layers"].insert(-1, {"type": "normalize", "param": np.array([[256.0, 0.0, 1.0, 0.5]])})
    assert_same_state(doap(write_mat(tmp_path / "struct.mat", "7.3", net)), expected)


def test_convolution_may_lack_its_bias(tmp_path: Path) -> None:
    for form in FORMS:
        layers = trunk_layers(PARAMS)
        layers[0]["weights"] = layers[0]["weights"][:1]
        state = doap(write(tmp_path / "net.mat", network(form, layers)))
        assert "trunk.conv1.bias" not in state
        assert build(state).trunk.conv1.bias is None


def test_recorded_patch_size_is_taken_where_it_fits(tmp_path: Path) -> None:
    layers = trunk_layers(PARAMS)
    net = network("dagnn", layers, meta={"normalization": {"imageSize": np.array([[30.0, 30, 1]])}})
    assert doap(write(tmp_path / "net.mat", net))["sizes"].tolist() == [30, 30]


# ---------------------------------------------------------------- what is not a network of DOAP


def refusal(path: Path) -> str:
    with pytest.raises(ValueError, match=path.name) as caught:
        doap(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert message.endswith(".")
    assert "\n" not in message
    return message


@pytest.mark.parametrize("form", FORMS)
def test_unknown_layer_is_named(tmp_path: Path, form: str) -> None:
    layers = trunk_layers(PARAMS)
    layers[5] = {"kind": "lrn", "type": "dagnn.LRN", "name": "norm"}
    message = refusal(write(tmp_path / "net.mat", network(form, layers)))
    name, kind = ("lrn1", "dagnn.LRN") if form == "dagnn" else ("norm", "dagnn.LRN")
    assert f"the layer {name} is of type {kind}" in message


def test_other_sampler_is_named(tmp_path: Path) -> None:
    net = network("dagnn", trunk_layers(PARAMS), localisation_layers())
    for layer in net["layers"]:
        layer["type"] = layer["type"].replace("models.Padded", "dagnn.")
    message = refusal(write(tmp_path / "net.mat", net))
    assert "the layer st is of type dagnn.Bilinear" in message


def edited(edit: Callable[[list[dict[str, Any]]], None]) -> dict[str, Any]:
    layers = trunk_layers(PARAMS)
    edit(layers)
    return network("dagnn", layers)


def without_moments(layers: list[dict[str, Any]]) -> None:
    del layers[4]["weights"][2]


def of_other_width(layers: list[dict[str, Any]]) -> None:
    layers[3]["weights"][0] = np.zeros((3, 3, 16, 32), np.float32)


def with_short_bias(layers: list[dict[str, Any]]) -> None:
    layers[3]["weights"][1] = np.zeros(31, np.float32)


def with_transposed_moments(layers: list[dict[str, Any]]) -> None:
    layers[4]["weights"][2] = layers[4]["weights"][2].T.copy()


def with_three_paddings(layers: list[dict[str, Any]]) -> None:
    layers[3]["pad"] = (1, 1, 1)


def leaky(layers: list[dict[str, Any]]) -> None:
    layers[2]["leak"] = 0.1


def without_stride(layers: list[dict[str, Any]]) -> None:
    layers[6]["stride"] = 1


def without_a_layer(layers: list[dict[str, Any]]) -> None:
    del layers[6]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (without_moments, r"bn2 \(dagnn.BatchNorm\) has no moments"),
        (of_other_width, r"the filters of conv2 are 3×3×16×32 and get 32 channels"),
        (with_short_bias, r"the bias of conv2 is 31 and not 32 numbers"),
        (with_transposed_moments, r"the moments of bn2 are 2×32 and not 32×2"),
        (with_three_paddings, r"pad of the layer conv2 is not 1 or 4 numbers"),
        (leaky, r"relu1 \(dagnn.ReLU\) is leaky"),
        (without_stride, r"gives 128×9×9 and not one descriptor"),
        (without_a_layer, r"the moments of bn3 are 64×2 and not 32×2"),
    ],
)
def test_layers_that_do_not_fit_are_named(
    tmp_path: Path, edit: Callable[[list[dict[str, Any]]], None], message: str
) -> None:
    found = refusal(write(tmp_path / "net.mat", edited(edit)))
    assert found.startswith(f"{tmp_path / 'net.mat'} is not a network of DOAP: ")
    with pytest.raises(ValueError, match=message):
        raise ValueError(found)


@pytest.mark.parametrize("version", VERSIONS)
def test_other_files_are_refused(tmp_path: Path, version: str) -> None:
    path = tmp_path / "file.mat"
    write_mat(path, version, {"mean": np.zeros((2, 2)), "std": np.zeros((2, 2))})
    assert "no layers of a MatConvNet network (it holds mean, std)" in refusal(path)
    write_mat(path, version, {"net": {"layers": np.zeros((3, 3))}})
    assert "another system's file" in refusal(path)
    write_mat(path, version, {"net": HandleObject()})
    assert "keeps its network as a MATLAB object; save it as a struct" in refusal(path)
    layers = [{"type": "relu", "name": "relu1"}]
    write_mat(path, version, {"net": {"layers": layers}})
    assert "has no convolution" in refusal(path)
    resnet = network("dagnn", trunk_layers(PARAMS))
    for layer in resnet["layers"]:
        layer["outputs"] = [name.replace("logits", "prob") for name in layer["outputs"]]
    write_mat(path, version, {"net": resnet})
    assert "neither of the variables logits and bn7" in refusal(path)


def test_loop_of_layers_is_refused(tmp_path: Path) -> None:
    net = network("dagnn", trunk_layers(PARAMS))
    net["layers"][0]["inputs"] = ["conv2_out"]
    assert "reads what is computed from it" in refusal(write(tmp_path / "net.mat", net))


# ---------------------------------------------------------------- the registry's entries


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where weights are searched and imported."""
    monkeypatch.setenv("FEATPLUG_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda _: str(tmp_path / "cache"))
    (tmp_path / "weights").mkdir()
    return tmp_path / "weights"


@pytest.mark.parametrize("kind", ["", "-st", "-binary", "-st-binary"])
def test_file_is_imported_and_loaded(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    entry = next(e for e in read_registry().values() if e.feature == f"doap{kind}" and e.automatic)
    (source,) = entry.sources
    localisation = localisation_layers() if "st" in kind else []
    layers = trunk_layers(PARAMS, "7b" if "binary" in kind else "7")
    path = write(tmp_path / source.file, network("dagnn", layers, localisation))
    with pytest.raises(ValueError, match="git blob id"):
        import_weights(path)
    monkeypatch.setattr("featplug.weights.verification.git_blob_id", lambda _: source.git_blob)
    record = import_weights(path.rename(tmp_path / "download.mat"))
    assert record.name == entry.name
    loaded, found = load_network(entry.feature, "auto", DOAP)
    assert found == record
    assert verify_weights([entry.name])[0].ok
    state = doap(tmp_path / "download.mat")
    patches = np.random.default_rng(1).random(
        (3, 42 if localisation else 32, 42 if localisation else 32)
    )
    with torch.no_grad():
        single = loaded.eval()(torch.from_numpy(patches).float()).numpy()
    np.testing.assert_allclose(single, outputs(state, patches), rtol=0, atol=1e-4)


def test_hosted_liberty_st_is_recognised_as_the_hpatches_network(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # kunhe.github.io has HPatches_ST_LM_128d.mat under both names, byte for byte.
    registry = read_registry()
    (right,), (wrong,) = (
        registry["doap_hpatches_st_lm"].sources,
        registry["doap_liberty_st"].sources,
    )
    net = network("dagnn", trunk_layers(PARAMS), localisation_layers())
    path = write(tmp_path / wrong.file, net)
    blob = git_blob_id(path)
    monkeypatch.setattr(
        "featplug.weights.verification.git_blob_id",
        lambda file: right.git_blob if git_blob_id(file) == blob else git_blob_id(file),
    )
    message = (
        r"Liberty_ST_128d\.mat holds doap_hpatches_st_lm by its hash, not doap_liberty_st, for it "
        r"is a copy of HPatches_ST_LM_128d\.mat; run `featplug weights import .*mat` to use it as "
        r"doap_hpatches_st_lm, or get Liberty_ST_128d\.mat from https://cs-people\.bu\.edu/.*mat\.$"
    )
    with pytest.raises(ValueError, match=message):
        import_weights(path, "doap_liberty_st")
    with pytest.raises(ValueError, match=message):
        load_network("doap-st", str(path), DOAP)
    with pytest.raises(ValueError, match=message):
        load_network("doap", str(path), DOAP)
    (folder / path.name).write_bytes(path.read_bytes())
    with pytest.raises(ValueError, match=message):
        load_network("doap-st", "doap_liberty_st", DOAP)
    assert import_weights(path).name == "doap_hpatches_st_lm"
    assert load_network("doap-st", "official", DOAP)[1].name == "doap_hpatches_st_lm"
    # The right file, whose hash nobody knows, is taken.
    real = network("dagnn", trunk_layers(seeded_params(1)), localisation_layers())
    assert import_weights(write(path, real)).name == "doap_liberty_st"
    assert load_network("doap-st", "doap_liberty_st", DOAP)[1].name == "doap_liberty_st"


def test_another_systems_safetensors_do_not_fit(tmp_path: Path, folder: Path) -> None:

    save_file({"conv.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(
        ValueError,
        match=r"other\.safetensors does not fit doap: missing sizes, trunk\.layers; give",
    ):
        load_network("doap", str(tmp_path / "other.safetensors"), DOAP)
