"""From light to a photograph: sky, exposure, blur, noise, colour, 8 bits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from pipelines.demo import lighting
from pipelines.demo.builder import Scene
from pipelines.demo.geometry import Faces, View, camera_rays
from pipelines.demo.lighting import Illumination, Light, LightGrid
from pipelines.demo.rendering import Atlas, Lightmap, radiance
from pipelines.demo.textures import noise

_LAMP_GLARE = 14.0
"""How much brighter a lamp is than a window of a lit room."""
_METERED = 0.6
_WHITE = 5.0


@dataclass(frozen=True)
class Look:
    """How cameras take photographs at a time of the day; ranges are drawn from uniformly."""

    light: Light
    level: tuple[float, float]
    """Value in [0, 1] below which six tenths of the pixels lie."""
    blur: tuple[float, float] = (0.25, 0.5)
    """Standard deviation in pixels."""
    shake: tuple[float, float] = (0.0, 0.0)
    """Length in pixels of the camera's movement while the shutter is open."""
    read_noise: float = 0.004
    """Standard deviation, as a fraction of white."""
    shot_noise: float = 0.0004
    """Variance per light, as a fraction of white."""
    tint: float = 0.03
    """Standard deviation of the colours' gains."""
    glow: float = 0.0
    """Fraction of the light that the lens scatters around what is bright."""
    quality: int = 93
    """Quality of the JPEG file."""


LOOKS = {
    "noon": Look(lighting.NOON, (0.5, 0.56)),
    "day": Look(
        lighting.AFTERNOON, (0.44, 0.58), (0.3, 0.6), (0.0, 1.5), 0.006, 0.0006, 0.05, 0.0, 88
    ),
    "dusk": Look(
        lighting.DUSK, (0.34, 0.44), (0.4, 0.8), (0.0, 2.5), 0.012, 0.0015, 0.06, 0.05, 86
    ),
    "night": Look(
        lighting.NIGHT, (0.16, 0.26), (0.5, 0.9), (0.5, 3.5), 0.012, 0.003, 0.08, 0.1, 84
    ),
    "room": Look(lighting.INDOORS, (0.5, 0.56)),
    "phone": Look(
        lighting.INDOORS, (0.42, 0.58), (0.3, 0.6), (0.0, 1.5), 0.008, 0.0008, 0.06, 0.02, 88
    ),
}
"""Looks by name; the database's photographs are taken at noon."""


class Shot(NamedTuple):
    """A photograph to be taken."""

    look: str
    view: View
    number: int
    """What makes it differ from others of the same view."""


class Photographer:
    """Takes photographs of a scene.

    ``moving`` stands in the scene in one photograph only, by the name of its view; it is under the
    same light, and casts no shadow.
    """

    def __init__(self, scene: Scene, seed: int, moving: Mapping[str, Faces] | None = None) -> None:
        self.scene, self.seed, self.moving = scene, seed, moving or {}
        self.atlas, self.grid = Atlas(scene.textures), LightGrid(scene)
        rng = np.random.default_rng(7)
        self._clouds = np.zeros((256, 256), np.float32)
        for cell in (4, 9, 20, 45):
            self._clouds += cell**0.7 * noise(rng, (256, 256), cell)
        self._lit: dict[str, tuple[Illumination, Lightmap]] = {}

    def take(self, shot: Shot) -> np.ndarray:
        """Take a photograph, H×W×3 uint8 RGB."""
        name, view, number = shot
        look, faces = LOOKS[name], self.scene.faces
        if name not in self._lit:
            illumination = Illumination(self.grid, look.light)
            self._lit[name] = illumination, self.grid.under(illumination)
        illumination, lightmap = self._lit[name]
        rng = np.random.default_rng([number + self.seed * 1_000_003, 2])
        emission = np.outer(rng.uniform(0.4, 1.2, len(faces)), look.light.windows)
        emission[faces.texture == self.scene.lamp_texture] *= _LAMP_GLARE
        moving = self.moving.get(view.name)
        if moving is not None:
            grid = LightGrid(replace(self.scene, faces=moving))
            lightmap = lightmap.joined(grid.under(illumination))
            faces = faces.joined(moving)
            emission = np.concatenate([emission, np.zeros((len(moving), 3))])
        image, sky = radiance(faces, self.atlas, lightmap, emission, view)
        image += sky[..., None] * self._sky(view, look.light, rng)
        return expose(image, look, rng)

    def _sky(self, view: View, light: Light, rng: np.random.Generator) -> np.ndarray:
        """Return the sky's colour in each pixel's direction, with clouds of this photograph."""
        x, y = camera_rays(view.camera)
        to_world = view.cam_from_world[:, :3].astype(np.float32).T
        world = [row[0] * x + row[1] * y + row[2] for row in to_world]
        up = (world[2] / np.sqrt(x**2 + y**2 + 1)).clip(0.02, 1)
        high = np.sqrt(up)[..., None]
        colour = high * np.array(light.zenith) + (1 - high) * np.array(light.horizon)
        shift = rng.uniform(0, 256, 2)
        scale = 40 / np.maximum(world[2], 0.06)
        column, row = ((world[k] * scale + shift[k]).astype(np.float32) for k in (0, 1))
        clouds = cv2.remap(self._clouds, column, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        cover = (0.5 + clouds / (2.2 * self._clouds.std()) - rng.uniform(0, 0.5)).clip(0, 0.9)
        cover *= np.minimum(1, up * 6)
        mixed = colour + cover[..., None] * (np.array(light.clouds) - colour)
        return mixed.astype(np.float32)


def expose(image: np.ndarray, look: Look, rng: np.random.Generator) -> np.ndarray:
    """Turn the light on a camera's sensor, H×W×3 float32, into a photograph, H×W×3 uint8 RGB."""
    height, width = image.shape[:2]
    level = rng.uniform(*look.level)
    metered = image[::6, ::6].mean(-1)
    image = image * np.float32(level**2 / max(float(np.quantile(metered, _METERED)), 1e-9))
    if look.glow:
        bright = np.minimum(image, 30.0)
        small = cv2.resize(bright, (width // 4, height // 4), interpolation=cv2.INTER_AREA)
        halo = 0.6 * cv2.GaussianBlur(small, (0, 0), width / 320)
        halo += 0.4 * cv2.GaussianBlur(small, (0, 0), width / 70)
        image += np.float32(look.glow) * cv2.resize(halo, (width, height))
    image = cv2.GaussianBlur(image, (0, 0), rng.uniform(*look.blur))
    image = _shake(image, rng.uniform(*look.shake), rng.uniform(0, np.pi))
    y, x = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    vignette = (1 - 0.16 * (x**2 + y**2))[..., None].astype(np.float32)
    image *= vignette * np.exp(rng.normal(0, look.tint, 3)).astype(np.float32)
    grains = rng.standard_normal(image.shape, np.float32)
    image += grains * np.sqrt(look.read_noise**2 + look.shot_noise * np.maximum(image, 0))
    image = np.maximum(image, 0)
    # Reinhard's curve: highlights are compressed, white is reached at _WHITE.
    image *= (1 + image / np.float32(_WHITE**2)) / (1 + image) * np.float32(1.25)
    return (np.sqrt(image) * 255 + 0.5).clip(0, 255).astype(np.uint8)


def _shake(image: np.ndarray, length: float, angle: float) -> np.ndarray:
    if length < 0.3:
        return image
    size = 2 * int(np.ceil(length / 2)) + 1
    kernel = np.zeros((size + 1, size + 1), np.float32)
    along = np.linspace(-length / 2, length / 2, 33)
    for x, y in size // 2 + along[:, None] * (np.cos(angle), np.sin(angle)):
        # Bilinear weights of the pixels around the place.
        across, down = (np.array([1 - place % 1, place % 1]) for place in (x, y))
        weights = np.outer(down, across)
        kernel[int(y) : int(y) + 2, int(x) : int(x) + 2] += np.where(weights > 1e-9, weights, 0)
    kernel = kernel[:size, :size]
    return cv2.filter2D(image, -1, kernel / kernel.sum())


def write_jpeg(path: Path, picture: np.ndarray, quality: int) -> None:
    """Write H×W×3 uint8 RGB as a JPEG file, and make its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    _, content = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    path.write_bytes(content.tobytes())
