"""Damaged and crafted images in a folder of good ones, through extraction, ``sfm`` and all lists.

A trial is one image. A fault is a good image whose features are not those of an undamaged folder, a
bad one that is neither named nor decoded to its size, or an exception of another kind than the two
that callers expect.
"""

from __future__ import annotations

import random
import re
import shutil
import tempfile
from pathlib import Path

import h5py
import numpy as np
import tyro
from PIL import Image
from pillow_heif import register_heif_opener

import pipelines.sfm  # imported before the first fork
from featplug.io.image_files import IMAGE_FORMATS, IMAGE_SUFFIXES, read_image_header
from featplug.io.image_folder import list_images
from featplug.io.images import read_image, read_image_size
from featplug.methods import build_extractor, feature_conf
from tests.attacks.crafted_images import CRAFTED, no_file
from tests.attacks.harness import Outcome, Tally, attempt, command, damage
from tests.scenes.pictures import textured_image, write_textured_images

IMPORTED = pipelines.sfm
BATCH = 10  # as many reasons are printed
NUM_GOOD = 4
SUFFIXES = sorted(IMAGE_SUFFIXES)


def write_bases(folder: Path) -> list[Path]:
    """Write an undamaged image of each format and variant."""
    folder.mkdir()
    register_heif_opener()
    grey = Image.fromarray(textured_image(99))
    colour = Image.merge(
        "RGB", [grey, grey.rotate(180), grey.transpose(Image.Transpose.ROTATE_180)]
    )
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "Maker", "Model"
    exif[0x8769] = {0xA405: 28, 0x920A: 4.2, 0xA20E: 3000.0, 0xA210: 2}
    variants = {
        "JPEG": [{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_blocks": 2}],
        "PNG": [{}, {"compress_level": 0}, {"icc_profile": bytes(500)}],
        "TIFF": [
            {"compression": c} for c in ("raw", "tiff_lzw", "tiff_deflate", "packbits", "jpeg")
        ],
        "WEBP": [{}, {"lossless": True}, {"save_all": True, "append_images": [grey]}],
    }
    paths = []
    for kind in IMAGE_FORMATS:
        for number, options in enumerate(variants.get(kind.name, [{}])):
            path = folder / f"{kind.name}{number}{kind.suffixes[0]}"
            with_exif = {} if kind.name in ("BMP", "PPM", "TIFF") else {"exif": exif.tobytes()}
            colour.save(path, kind.name, **with_exif, **options)
            paths.append(path)
    for name, picture in {
        "grey.jpg": grey,
        "cmyk.jpg": colour.convert("CMYK"),
        "alpha.png": colour.convert("RGBA"),
        "palette.png": colour.convert("P"),
        "one_bit.png": grey.convert("1"),
        "deep.png": Image.fromarray(textured_image(9).astype(np.uint16) * 257),
        "deep.tif": Image.fromarray(textured_image(9).astype(np.uint16) * 257),
        "float.tif": grey.convert("F"),
    }.items():
        picture.save(folder / name)
        paths.append(folder / name)
    colour.save(folder / "exif.tif", exif=exif.tobytes())
    colour.save(folder / "two.jpg", "MPO", save_all=True, append_images=[colour], exif=exif)
    paths += [folder / "exif.tif", folder / "two.jpg"]
    return paths


def write_bad(folder: Path, number: int, bases: list[Path], rng: random.Random) -> tuple[str, str]:
    """Write an image that is damaged or crafted; return its name and what was done."""
    draw = rng.random()
    if draw < 0.5:
        base = rng.choice(bases)
        path = folder / f"bad{number}{rng.choice((base.suffix, base.suffix, *SUFFIXES))}"
        shutil.copy(base, path)
        done = [damage(path, rng) for _ in range(rng.choice((1, 1, 3))) if path.stat().st_size]
        return path.name, f"{base.name}: {', '.join(done)}"
    path = folder / f"bad{number}{rng.choice(SUFFIXES)}"
    if draw > 0.92:
        no_file(path, rng)
        return path.name, "no file"
    craft = rng.choice(CRAFTED)
    path.write_bytes(craft(rng))
    return path.name, craft.__name__


def read_headers(folder: Path, names: list[str]) -> None:
    """Read everything in every way that callers have, with the exceptions that they expect."""
    for name in {*list_images(folder), *names}:
        for read in (read_image_header, read_image_size, read_image):
            try:
                read(folder / name)
            except (FileNotFoundError, ValueError) as error:
                if name not in str(error):
                    raise SystemExit(f"{name} is not named: {error}") from error


def compare(clean: Path, attacked: Path, bad: list[str], outcome: Outcome) -> str | None:
    """Return what is wrong with the features of a folder, or None."""
    skipped = re.findall(r"bad\d+\.\w+", outcome.output)
    with h5py.File(clean) as old, h5py.File(attacked) as new:
        for name, group in old.items():
            if name not in new or any(
                not np.array_equal(values[()], new[name][key][()]) for key, values in group.items()
            ):
                return f"the features of {name} changed"
        for name in bad:
            if name not in new:
                if name not in skipped:
                    return f"{name} is not named"
                continue
            keypoints, size = new[name]["keypoints"][()], new[name]["image_size"][()]
            if not np.isfinite(keypoints).all() or (np.abs(keypoints) > size + 1).any():
                return f"{name} has keypoints outside the image"
    return None


def main(trials: int = 600, seed: int = 0) -> None:
    """Attack batches of images, and print the line of the table."""
    tally = Tally("images", seed)
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        bases = write_bases(root / "bases")
        good = write_textured_images(root / "good", NUM_GOOD)
        extract = ("extract", "--conf", "sift", "--quiet", "--num-workers", "4", "--image-dir")
        sfm = ("sfm", "--quiet", "--max-keypoints", "200", "--images")
        build_extractor(feature_conf("sift")["model"])  # imported before the first fork
        clean = attempt(command(*extract, root / "good", "--feature-path", root / "clean.h5"))
        if clean.exit_code:
            raise SystemExit(clean.output)
        for batch in range(-(-trials // BATCH)):
            rng = random.Random(f"{seed} {batch}")
            folder = root / str(batch)
            shutil.copytree(root / "good", folder)
            written = dict(write_bad(folder, number, bases, rng) for number in range(BATCH))
            names = [*good, *written]
            rng.shuffle(names)
            (root / "list.txt").write_text("\n".join(names))
            features = root / f"{batch}.h5"
            words = (
                *extract,
                folder,
                "--feature-path",
                features,
                "--image-list",
                root / "list.txt",
            )
            outcome = attempt(command(*words))
            fault = f"exit code {outcome.exit_code}" if outcome.exit_code else None
            if not (outcome.exit_code or outcome.fault):
                fault = compare(root / "clean.h5", features, list(written), outcome)
            label = f"batch {batch}: {written}"
            tally.add(label, outcome, fault)
            listed = attempt(lambda: read_headers(folder, names))  # noqa: B023
            tally.add(f"headers of {label}", listed, listed.message if listed.exit_code else None)
            whole = attempt(command(*sfm, folder, "--outputs", root / "sfm"))
            # The good images show different scenes, and so there may be no model.
            tally.add(f"sfm of {label}", whole, None if whole.exit_code in (0, 2) else "exit code")
            shutil.rmtree(root / "sfm", ignore_errors=True)
            tally.trials += BATCH - 3
            shutil.rmtree(folder)
            features.unlink(missing_ok=True)
    tally.finish()


if __name__ == "__main__":
    tyro.cli(main)
