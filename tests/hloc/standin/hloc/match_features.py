"""The table, and the writer of match files."""

import h5py
import torch

from . import matchers
from .utils.base_model import dynamic_load

confs = {
    "NN-mutual": {
        "output": "matches-NN-mutual",
        "model": {"name": "nearest_neighbor", "do_mutual_check": True},
    },
}


@torch.no_grad()
def main(conf, pairs, features, matches):
    model = dynamic_load(matchers, conf["model"]["name"])(conf["model"]).eval()
    with h5py.File(features) as file, h5py.File(matches, "a", libver="latest") as target:
        for names in (line.split() for line in pairs.read_text().splitlines()):
            data = {}
            for suffix, name in zip("01", names, strict=True):
                for key, value in file[name].items():
                    data[key + suffix] = torch.from_numpy(value[()]).float()[None]
                width, height = file[name]["image_size"][()]
                data["image" + suffix] = torch.empty(1, 1, height, width)
            result = model(data)
            group = target.create_group("/".join(name.replace("/", "-") for name in names))
            group.create_dataset("matches0", data=result["matches0"][0].short().numpy())
            scores = result["matching_scores0"][0].half().numpy()
            group.create_dataset("matching_scores0", data=scores)
    return matches
