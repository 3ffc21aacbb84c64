"""The light at a time of the day, and photographs: sky, exposure, blur, noise, colour, 8 bits."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from pipelines.demo import WORLD
from pipelines.demo.builder import Scene
from pipelines.demo.geometry import Camera, Faces, View, camera_rays, direction, look_towards
from pipelines.demo.rendering import Atlas, Lightmap, Projection, pack, radiance
from pipelines.demo.textures import Painter

Light3 = tuple[float, float, float]

_SUN_DISTANCE, _SHADOW_SIZE, _SHADOW_BIAS = 3000.0, 2048, 0.12
_CELLS_PER_METRE, _LAMP_REACH = 5.0, 18.0
_LAMP_GLARE = 14.0  # how much brighter a lamp is than a window of a lit room
_WHITE = 5.0


@dataclass(frozen=True)
class Light:
    """The light at a time of the day; colours are linear RGB."""

    sun_place: tuple[float, float]  # azimuth from x to y, and elevation, in degrees
    sun: Light3
    sky: Light3  # light from all over the sky, on a face that looks up
    bounce: Light3  # light from the ground, on a face that looks down
    zenith: Light3  # colours of the sky to look at: above, at the horizon, and of the clouds
    horizon: Light3
    clouds: Light3
    lamps: Light3 = (0.0, 0.0, 0.0)  # light one metre from a lamp
    windows: Light3 = (0.0, 0.0, 0.0)  # light from a window of a lit room


class LightGrid:
    """Cells on all faces of a scene, for which light is computed."""

    def __init__(self, scene: Scene) -> None:
        self.scene, faces = scene, scene.faces
        cells = np.maximum(2, np.ceil(faces.extent * _CELLS_PER_METRE)).astype(int)
        # One cell more on each side, with the light of the outermost.
        corners, *self._size = pack(cells + 2)
        self._places = np.concatenate([corners + 0.5, cells / faces.extent], axis=1)
        count = (cells + 2).prod(1)
        face = np.repeat(np.arange(len(faces)), count)
        number = np.arange(len(face)) - (np.cumsum(count) - count)[face]
        row, column = np.divmod(number, cells[face, 0] + 2)
        along = np.stack([column, row], 1)
        self._pixels = along + corners[face]
        st = (along - 0.5).clip(0.5, cells[face] - 0.5) / cells[face] * faces.extent[face]
        reach = st[:, :1] * faces.axis_s[face] + st[:, 1:] * faces.axis_t[face]
        self.points = faces.origin[face] + reach  # N×3, centres of the cells
        self.normals = faces.normals[face]  # N×3, normals of the faces below

    def under(self, illumination: "Illumination") -> Lightmap:
        """Return the light that falls on each face."""
        pixels = np.zeros((*self._size, 3), np.float32)
        arriving = illumination.arriving(self.points, self.normals)
        pixels[self._pixels[:, 1], self._pixels[:, 0]] = arriving
        return Lightmap(pixels, self._places.astype(np.float32))


class Illumination:
    """The light at a time of the day, anywhere in the scene of a grid."""

    def __init__(self, grid: LightGrid, light: Light) -> None:
        self._lamps, self._light = grid.scene.lamps, light
        self._to_sun = direction(*np.radians(light.sun_place))
        if any(light.sun):
            # A camera in the sun's place sees what hides the rest.
            points = grid.points[grid.normals @ self._to_sun > 0]
            points = points if len(points) else np.zeros((1, 3))
            middle, half = (points.min(0) + points.max(0)) / 2, _SHADOW_SIZE / 2
            radius = float(np.linalg.norm(points - middle, axis=1).max()) + 1
            focal = half * _SUN_DISTANCE / radius
            camera = Camera(_SHADOW_SIZE, _SHADOW_SIZE, focal, (half, half))
            pose = look_towards(middle + _SUN_DISTANCE * self._to_sun, -self._to_sun)
            self._sun = View("sun", camera, pose)
            seen = Projection(grid.scene.faces, self._sun)
            self._inverse_depth, self._first = seen.rows[:, 0], seen.visible()

    def arriving(self, points: np.ndarray, normals: np.ndarray) -> np.ndarray:
        """Return the linear light, N×3, on surfaces at N×3 places with N×3 normals outwards."""
        light = self._light
        up = normals[:, 2:]
        # In a street less of the sky is seen the lower one is.
        open_sky = 0.55 + 0.45 * np.clip(points[:, 2:] / 12, 0, 1)
        arriving = open_sky * (0.5 + 0.5 * up) * np.array(light.sky)
        arriving += (0.5 - 0.5 * up) * np.array(light.bounce)
        if any(light.sun):
            facing = normals @ self._to_sun
            lit = np.flatnonzero(facing > 0)
            sunlight = facing[lit] * self._sunlit(points[lit])
            arriving[lit] += sunlight[:, None] * np.array(light.sun)
        if any(light.lamps):
            arriving += _lamplight(self._lamps, points, normals)[:, None] * np.array(light.lamps)
        return arriving

    def _sunlit(self, points: np.ndarray) -> np.ndarray:
        """Return the fraction of the sun that each of N×3 points sees."""
        seen = self._sun.to_camera(points)
        xy = self._sun.camera.project(seen)
        rays = np.column_stack([seen[:, :2] / seen[:, 2:], np.ones(len(seen))])
        count = np.zeros(len(points))
        # Four places around each point soften the edges of shadows.
        for shift in ((-0.75, -0.25), (0.25, -0.75), (0.75, 0.25), (-0.25, 0.75)):
            x, y = (xy + shift).astype(int).clip(0, _SHADOW_SIZE - 1).T
            first = self._first[y, x]
            inverse = np.einsum("nk,nk->n", self._inverse_depth[first], rays)
            count += (first < 0) | (seen[:, 2] * inverse < 1 + _SHADOW_BIAS / _SUN_DISTANCE)
        return count / 4


def _lamplight(lamps: np.ndarray, points: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Return the light of all lamps, relative to that of one about a metre away."""
    points, normals = points.astype(np.float32), normals.astype(np.float32)
    total = np.zeros(len(points), np.float32)
    for lamp in lamps.astype(np.float32):
        near = np.flatnonzero((np.abs(points[:, :2] - lamp[:2]) < _LAMP_REACH).all(1))
        to_lamp = lamp - points[near]
        distance = np.sqrt(np.einsum("nk,nk->n", to_lamp, to_lamp)).clip(1e-3)
        cosine = (np.einsum("nk,nk->n", to_lamp, normals[near]) / distance).clip(0)
        fade = (1 - distance / np.float32(_LAMP_REACH)).clip(0)
        total[near] += cosine * fade / (0.35 + distance**2 / 8)
    return total


@dataclass(frozen=True)
class Look:
    """How cameras take photographs at a time of the day; ranges are drawn from uniformly."""

    light: Light
    level: tuple[float, float]  # value in [0, 1] below which six tenths of the pixels lie
    blur: tuple[float, float] = (0.25, 0.5)  # standard deviation in pixels
    shake: tuple[float, float] = (0.0, 0.0)  # pixels that the camera moves during the exposure
    read_noise: float = 0.004  # standard deviation, as a fraction of white
    shot_noise: float = 0.0004  # variance per light, as a fraction of white
    tint: float = 0.03  # standard deviation of the colours' gains
    glow: float = 0.0  # fraction of the light that the lens scatters around what is bright
    quality: int = 93  # quality of the JPEG file


LOOKS = {
    name: Look(Light(**WORLD["lights"][values["light"]]), **values["camera"])
    for name, values in WORLD["looks"].items()
}


class Shot(NamedTuple):
    """A photograph to be taken."""

    look: str
    view: View
    number: int  # what makes it differ from others of the same view


class Photographer:
    """Takes photographs of a scene.

    ``moving`` stands in it in one photograph only, by the name of its view, and casts no shadow.
    """

    def __init__(self, scene: Scene, seed: int, moving: Mapping[str, Faces] | None = None) -> None:
        self.scene, self.seed, self.moving = scene, seed, moving or {}
        self.atlas, self.grid = Atlas(scene.textures), LightGrid(scene)
        painter = Painter(np.random.default_rng(7))
        self._clouds = np.zeros((256, 256), np.float32)
        for cell in (4, 9, 20, 45):
            self._clouds += cell**0.7 * painter.noise((256, 256), cell)
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
        colour = colour + cover[..., None] * (np.array(light.clouds) - colour)
        return colour.astype(np.float32)


def expose(image: np.ndarray, look: Look, rng: np.random.Generator) -> np.ndarray:
    """Turn the light on a camera's sensor, H×W×3 float32, into a photograph, H×W×3 uint8 RGB."""
    height, width = image.shape[:2]
    level = rng.uniform(*look.level)
    metered = image[::6, ::6].mean(-1)
    image = image * np.float32(level**2 / max(float(np.quantile(metered, 0.6)), 1e-9))
    if look.glow:
        small = (width // 4, height // 4)
        small = cv2.resize(np.minimum(image, 30.0), small, interpolation=cv2.INTER_AREA)
        near, far = (cv2.GaussianBlur(small, (0, 0), width / part) for part in (320, 70))
        image += np.float32(look.glow) * cv2.resize(0.6 * near + 0.4 * far, (width, height))
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
    write_picture(path, picture, cv2.IMWRITE_JPEG_QUALITY, quality)


def write_picture(path: Path, picture: np.ndarray, *parameters: int) -> None:
    """Write H×W×3 uint8 RGB in the format of the suffix, and make the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Python, unlike OpenCV, raises an error where the disk is full.
    path.write_bytes(cv2.imencode(path.suffix, picture[..., ::-1], parameters)[1].tobytes())
