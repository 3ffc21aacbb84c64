"""The table, the reader of images and the writer of feature files."""

import argparse
from pathlib import Path

import cv2
import h5py
import numpy as np
import torch

from . import extractors
from .utils.base_model import dynamic_load

confs = {
    "sift": {"output": "feats-sift", "model": {"name": "dog"}, "preprocessing": {}},
    "netvlad": {
        "output": "global-feats-netvlad",
        "model": {"name": "netvlad"},
        "preprocessing": {"resize_max": 1024},
    },
}


class ImageDataset:
    default_conf = {  # noqa: RUF012
        "grayscale": False,
        "resize_max": None,
        "resize_force": False,
        "interpolation": "cv2_area",
    }

    def __init__(self, root, conf):
        self.conf = {**self.default_conf, **conf}  # an unknown option is passed over
        self.root = root

    def read(self, name):
        image = cv2.imread(str(self.root / name))[:, :, ::-1].astype(np.float32)
        size = image.shape[1::-1]
        longest = self.conf["resize_max"]
        if longest and (self.conf["resize_force"] or max(size) > longest):
            assert self.conf["interpolation"] == "cv2_area"
            smaller = tuple(round(side * longest / max(size)) for side in size)
            image = cv2.resize(image, smaller, interpolation=cv2.INTER_AREA)
        return torch.from_numpy(image.transpose(2, 0, 1) / 255)[None], np.array(size)


@torch.no_grad()
def main(conf, image_dir, export_dir=None, as_half=True, image_list=None, feature_path=None):
    dataset = ImageDataset(image_dir, conf["preprocessing"])
    model = dynamic_load(extractors, conf["model"]["name"])(conf["model"]).eval()
    feature_path = feature_path or Path(export_dir, conf["output"] + ".h5")
    names = image_list or sorted(path.name for path in image_dir.glob("*.png"))
    for name in names:
        image, original_size = dataset.read(name)
        features = {key: value[0].numpy() for key, value in model({"image": image}).items()}
        features["image_size"] = original_size
        if "keypoints" in features:
            scales = (original_size / np.array(image.shape[:1:-1])).astype(np.float32)
            features["keypoints"] = (features["keypoints"] + 0.5) * scales - 0.5
            if "scales" in features:
                features["scales"] *= scales.mean()
            uncertainty = getattr(model, "detection_noise", 1) * scales.mean()
        if as_half:
            features = {
                key: value.astype(np.float16) if value.dtype == np.float32 else value
                for key, value in features.items()
            }
        with h5py.File(feature_path, "a", libver="latest") as file:
            group = file.create_group(name)
            for key, value in features.items():
                group.create_dataset(key, data=value)
            if "keypoints" in features:
                group["keypoints"].attrs["uncertainty"] = uncertainty
    return feature_path


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--conf", default="sift", choices=list(confs))
    parser.add_argument("--image_dir", type=Path, required=True)
    parser.add_argument("--export_dir", type=Path, required=True)
    arguments = parser.parse_args()
    main(confs[arguments.conf], arguments.image_dir, arguments.export_dir, as_half=False)
