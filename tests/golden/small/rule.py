"""Rule-based ("golden") weights.  This file IS the specification, see README.md.

    value(name, shape) = float32 array, drawn only from the official parameter name.

Pure NumPy, no official weights, no official code.
"""

import re
import zlib

import numpy as np

F = np.float32
HELDOUT = "#heldout"  # tag of the held-out set; the main set uses tag ''


def z(name, shape, tag=""):
    """Standard normal float32 of `shape`, seeded by crc32 of (name + tag)."""
    g = np.random.Generator(np.random.PCG64(zlib.crc32((name + tag).encode())))
    return np.asarray(g.standard_normal(tuple(shape), dtype=np.float32), dtype=F)


# ---------------------------------------------------------------- exceptions
# (system, regex on the name) -> (a, s): value = F(a) + F(s) * z.
# They replace the general rule for the matching names.
EXCEPTIONS = {
    # D2-Net sees 0..255 data, so activations are of order 100: bigger biases,
    # otherwise a bias that is not loaded would hardly be noticed.
    "d2net": [(r"\.bias$", 0.0, 20.0)],
    # NetVLAD soft assignment: sharper than sqrt(2/128), as in trained networks.
    "lisrd": [(r"^vlad_\w+\.conv\.weight$", 0.0, 30.0)],
    # MTLDesc: official initial value of the fusion weights is a constant
    # (0.1, 0.2, 0.3, 0.4); the rule adds 0.1 z to it.
    "mtldesc": [
        (r"^fuse_weight_1$", 0.1, 0.1),
        (r"^fuse_weight_2$", 0.2, 0.1),
        (r"^fuse_weight_3$", 0.3, 0.1),
        (r"^fuse_weight_4$", 0.4, 0.1),
    ],
    # ContextDesc: the "fc" after the matchability logit is a 1x1 map, keep it away from 0.
    "contextdesc_loc": [(r"^kpt_m/fc_1/kernel$", 1.0, 0.1)],
    "contextdesc_aug": [],
    # ResNet-50 sees values of order 100: bring them to order 1.
    "contextdesc_reg": [(r"^conv1/kernel$", 0.0, 0.001)],
    "doap": [],
}
# Constants added to a named entry after the rule: (system, tag) -> {name: constant}.
SHIFTS = {
    # heatmap1.bias: so that about 1..10 % of the pixels exceed the detection threshold 0.9;
    # mask.bias: so that the gate of the transformer branch is open at part of the positions
    ("mtldesc", ""): {"heatmap1.bias": 9.0, "mask.bias": 0.6},
    ("mtldesc", HELDOUT): {"heatmap1.bias": 5.7},
}


def _finish(system, name, v, tag):
    c = SHIFTS.get((system, tag), {}).get(name)
    return v if c is None else (v + F(c)).astype(F)


def _exception(system, name, shape, tag):
    for rx, a, s in EXCEPTIONS.get(system, []):
        if re.search(rx, name):
            return (F(a) + F(s) * z(name, shape, tag)).astype(F)
    return None


def torch_state(system, shapes, tag=""):
    """shapes: dict official state_dict key -> shape.  Returns dict key -> numpy array."""
    out = {}
    for name, shape in shapes.items():
        shape = tuple(shape)
        mod, _, leaf = name.rpartition(".")
        w = shapes.get(mod + ".weight")
        norm = w is not None and len(w) == 1  # BatchNorm2d or LayerNorm
        v = _exception(system, name, shape, tag)
        if leaf == "num_batches_tracked":
            out[name] = np.zeros(shape, np.int64)
            continue
        if v is not None:
            pass
        elif leaf == "running_mean":
            v = F(0.1) * z(name, shape, tag)
        elif leaf == "running_var":
            v = F(0.5) + np.abs(z(name, shape, tag))
        elif leaf == "weight" and norm:
            v = F(1.0) + F(0.1) * z(name, shape, tag)
        elif leaf == "weight":
            fan_in = int(np.prod(shape[1:]))  # (out, in, kh, kw) or (out, in)
            v = F(np.sqrt(2.0 / fan_in)) * z(name, shape, tag)
        elif leaf == "bias":
            v = F(0.1 if norm else 0.05) * z(name, shape, tag)
        else:
            v = F(0.1) * z(name, shape, tag)
        out[name] = np.ascontiguousarray(_finish(system, name, v.astype(F), tag))
    return out


def tf_vars(system, shapes, tag=""):
    """shapes: dict TF variable name (without ':0') -> shape (TF layout)."""
    out = {}
    for name, shape in shapes.items():
        shape = tuple(shape)
        leaf = name.rpartition("/")[2]
        v = _exception(system, name, shape, tag)
        if v is not None:
            pass
        elif leaf == "moving_mean":
            v = F(0.1) * z(name, shape, tag)
        elif leaf == "moving_variance":
            v = F(0.5) + np.abs(z(name, shape, tag))
        elif leaf == "gamma":
            v = F(1.0) + F(0.1) * z(name, shape, tag)
        elif leaf == "beta":
            v = F(0.1) * z(name, shape, tag)
        elif leaf == "kernel":
            fan_in = int(np.prod(shape[:-1]))  # (kh, kw, in, out) or (in, out)
            v = F(np.sqrt(2.0 / fan_in)) * z(name, shape, tag)
        elif leaf == "bias":
            v = F(0.05) * z(name, shape, tag)
        else:
            raise KeyError(name)
        out[name] = np.ascontiguousarray(_finish(system, name, v.astype(F), tag))
    return out


def matconvnet_params(shapes, tag=""):
    """DOAP (own names, see doap/README.md): 'convK.filters' (h, w, in, out), 'convK.bias' (out,),
    'bnK.gamma', 'bnK.beta' (C,), 'bnK.moments' (C, 2) = columns (mean, sigma)."""
    out = {}
    for name, shape in shapes.items():
        leaf = name.rpartition(".")[2]
        v = z(name, shape, tag)
        if leaf == "filters":
            v = F(np.sqrt(2.0 / int(np.prod(shape[:-1])))) * v
        elif leaf == "bias":
            v = F(0.05) * v
        elif leaf == "gamma":
            v = F(1.0) + F(0.1) * v
        elif leaf == "beta":
            v = F(0.1) * v
        elif leaf == "moments":
            v = np.stack([F(0.1) * v[:, 0], np.sqrt(F(0.5) + np.abs(v[:, 1]))], 1)
        else:
            raise KeyError(name)
        out[name] = np.ascontiguousarray(v.astype(F))
    return out


def uniform(name, shape, tag=""):
    """Uniform [0, 1) float32, same seeding; used only for some test inputs."""
    g = np.random.Generator(np.random.PCG64(zlib.crc32((name + tag).encode())))
    return g.random(tuple(shape), dtype=np.float32)


def selftest():
    a = z("conv1a.weight", (2, 3))
    assert a.dtype == F and np.allclose(a, SELFTEST, rtol=0, atol=1e-7), a


SELFTEST = np.array(
    [[0.4894183, -2.3010707, 0.01622434], [-0.7412875, -1.3836792, 0.83146995]], dtype=F
)
