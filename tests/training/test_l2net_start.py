"""ContextDesc's local network starts as DOAP's, of turned patches."""

from __future__ import annotations

import torch

from featplug.networks.contextdesc import ContextDesc
from featplug.networks.l2net import DOAP, l2_net
from featplug.training.l2net_start import is_l2_net, start_from_doap
from tests.networks.contextdesc_weights import seeded_state


@torch.no_grad()
def test_local_features_are_doaps_of_turned_patches() -> None:
    doap, network = DOAP().eval(), ContextDesc(16).eval()
    state = seeded_state(doap)
    # Gains of both signs, which training may leave.
    for key, value in state.items():
        layer, _, leaf = key.removeprefix("trunk.").partition(".")
        if layer.startswith("bn") and leaf == "weight":
            state[key] = torch.tensor([1.0, 0.7, -1.3, 1.1]).repeat(len(value) // 4)
    fixed = {key: doap.state_dict()[key] for key in ("sizes", "trunk.layers")}
    doap.load_state_dict({**state, **fixed})
    assert is_l2_net(doap)
    start_from_doap(network, doap)
    patches = torch.randn((5, 32, 32), generator=torch.Generator().manual_seed(1))
    local, _ = network.describe_patches(patches)
    expected = doap(patches.flip(1, 2))
    bias = network.geometric_context.context_trans.bias
    # DOAP divides by the deviation of the sample, GeoDesc by that of the patch, of 1024 pixels.
    torch.testing.assert_close(local + bias, expected, rtol=2e-3, atol=5e-3)
    assert (network.describe_patches(patches.flip(1, 2))[0] - local).abs().max() > 0.1


def test_other_networks_are_told_apart() -> None:
    assert not is_l2_net(DOAP(l2_net(256)))
    assert not is_l2_net(DOAP(l2_net()[:-1]))
