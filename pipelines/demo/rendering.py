"""From a view to the faces that its pixels see, their depth, and the light that comes from them.

Seen from a camera, the inverse depth of a plane and the plane's coordinates over depth are linear
in the ray (x/z, y/z, 1). A face is found by comparing these with the inverse depths so far, within
the bounds of its image. Textures are reduced by powers of two along each axis (ripmaps), so that
what a texture shows looks the same from near and from far, straight and at a slant.
"""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from pipelines.demo.builder import Texture
from pipelines.demo.geometry import Faces, View, camera_rays

_SUPERSAMPLING = 2
_NEAR = 0.05
_SEAM = 1e-3  # metres by which faces are enlarged, so that no gap shows between neighbours
_BLOCK_ROWS = 64  # few enough for the arrays of a block to stay in the processor's cache
_DITHER = np.array([[0.125, 0.625], [0.875, 0.375]], np.float32)
_ATLAS_WIDTH, _NUM_LEVELS, _BORDERS = 4096, 7, (2, 2, 2, 2)


def pack(sizes: np.ndarray) -> tuple[np.ndarray, int, int]:
    """Place N×2 rectangles (width, height) side by side, on shelves of falling height.

    Return N×2 top-left corners (x, y), and the height and width of the whole.
    """
    width = max(_ATLAS_WIDTH, int(sizes[:, 0].max()))
    places = np.zeros_like(sizes)
    x = y = shelf = 0
    for i in np.argsort(-sizes[:, 1], kind="stable").tolist():
        columns, rows = sizes[i].tolist()
        if x + columns > width:
            x, y = 0, y + shelf
        if x == 0:
            shelf = rows
        places[i] = x, y
        x += columns
    return places, y + shelf, width


class Atlas:
    """The ripmaps of a world's textures, in one image."""

    def __init__(self, textures: Sequence[Texture]) -> None:
        levels = [level for texture in textures for level in _ripmaps(texture)]
        sizes = np.array([level.shape[1::-1] for level in levels])
        places, height, width = pack(sizes)
        self.pixels = np.zeros((height, width, 4), np.uint8)
        for (x, y), (columns, rows), level in zip(places, sizes, levels, strict=True):
            self.pixels[y : y + rows, x : x + columns] = level
        corners = places + _BORDERS[0] - 0.5
        self.levels = np.column_stack([corners, sizes - 2 * _BORDERS[0]]).astype(np.float32)
        """(x, y, width, height) of each level of each texture, the level along u running fastest,
        then that along v; (x, y) is the level's corner in OpenCV's coordinates."""
        self.sizes = np.array([texture.pixels.shape[1::-1] for texture in textures])
        self.wraps = np.array([texture.wraps for texture in textures])


def _ripmaps(texture: Texture) -> list[np.ndarray]:
    """Return all levels of a texture, with borders for the interpolation."""
    kind = cv2.BORDER_WRAP if texture.wraps else cv2.BORDER_REPLICATE
    levels = [level for reduced in _halvings(texture.pixels, 0) for level in _halvings(reduced, 1)]
    return [cv2.copyMakeBorder(level, *_BORDERS, kind) for level in levels]


def _halvings(image: np.ndarray, axis: int) -> list[np.ndarray]:
    images = [image]
    for _ in range(_NUM_LEVELS - 1):
        size = list(images[-1].shape[1::-1])
        size[1 - axis] = max(2, -(-size[1 - axis] // 2))
        images.append(cv2.resize(images[-1], size, interpolation=cv2.INTER_AREA))
    return images


class Projection:
    """Faces as a view's camera sees them."""

    def __init__(self, faces: Faces, view: View) -> None:
        self.faces, self.camera = faces, view.camera
        rotation = view.cam_from_world[:, :3]
        origin = view.to_camera(faces.origin)
        axis_s, axis_t = faces.axis_s @ rotation.T, faces.axis_t @ rotation.T
        normal = np.cross(axis_t, axis_s)
        distance = (normal * origin).sum(1)
        facing = distance < -1e-6
        inverse_depth = normal / np.where(facing, distance, -1.0)[:, None]
        s, t = (a - inverse_depth * (origin * a).sum(1, keepdims=True) for a in (axis_s, axis_t))
        self.rows = np.stack([inverse_depth, s, t], 1)
        """F×3×3: inverse depth, metres along s and t over depth, as linear functions of a ray."""

        right, down = axis_s * faces.extent[:, :1], axis_t * faces.extent[:, 1:]
        corners = np.stack([origin, origin + right, origin + right + down, origin + down], 1)
        following = np.roll(corners, -1, axis=1)
        # Both ends of what lies of each edge beyond the near plane.
        z0, z1 = corners[..., 2:], following[..., 2:]
        crossing = (_NEAR - z0) / np.where(z0 == z1, 1.0, z1 - z0)
        clipped = corners + crossing * (following - corners)
        starts = np.where(z0 >= _NEAR, corners, clipped)
        ends = np.concatenate([starts, np.where(z1 >= _NEAR, following, clipped)], axis=1)
        beyond = np.tile(np.maximum(z0, z1) >= _NEAR, (1, 2, 1))
        xy = ends[..., :2] / np.maximum(ends[..., 2:], _NEAR)
        order = np.flatnonzero(facing & beyond.any((1, 2)))
        order = order[np.argsort(np.linalg.norm(corners[order].mean(1), axis=1), kind="stable")]
        self.order = order  # indices of the faces that may be seen, the nearest first
        self.low = np.where(beyond, xy, np.inf).min(1)  # F×2: least x/z and y/z of their images
        self.high = np.where(beyond, xy, -np.inf).max(1)

    def _boxes(self, per_pixel: int) -> list[list[int]]:
        """Return left, top, right and bottom of the samples that images may cover, in order."""
        camera = self.camera
        low, high = (bound[self.order].clip(-1e4, 1e4) for bound in (self.low, self.high))
        most = 1.5 * float((camera.unproject(np.zeros(2)) ** 2).sum()) + 1.0
        least_r2 = np.where((low < 0) & (high > 0), 0, np.minimum(low**2, high**2))
        r2 = np.stack([least_r2, np.maximum(low**2, high**2)], 1).sum(2).clip(max=most)
        scale = (1 + camera.distortion * r2)[:, None, :, None]
        ends = (np.stack([low, high], 1)[:, :, None] * scale).reshape(-1, 4, 2)
        first = np.floor((ends.min(1) * camera.focal + camera.centre) * per_pixel - 1)
        last = np.ceil((ends.max(1) * camera.focal + camera.centre) * per_pixel + 1)
        size = np.array([camera.width, camera.height] * 2) * per_pixel
        return np.concatenate([first, last], 1).clip(0, size).astype(int).tolist()

    def visible(self, per_pixel: int = 1) -> np.ndarray:
        """Return the index of the face that each of per_pixel² samples in a pixel sees, or −1."""
        rays_x, rays_y = camera_rays(self.camera, per_pixel)
        nearest = np.full(rays_x.shape, 1e-5, np.float32)
        index = np.full(rays_x.shape, -1, np.intp)
        rows, extent = self.rows.astype(np.float32), self.faces.extent.astype(np.float32)
        for face, box in zip(self.order.tolist(), self._boxes(per_pixel), strict=True):
            block = slice(box[1], box[3]), slice(box[0], box[2])
            x, y, known = rays_x[block], rays_y[block], nearest[block]
            (a, b, c), along_s, along_t = rows[face]
            inverse = a * x + (b * y + c)
            hit = inverse > known
            if not hit.any():
                continue
            width, height = extent[face]
            seam = np.float32(_SEAM) * inverse
            s = along_s[0] * x + (along_s[1] * y + along_s[2])
            t = along_t[0] * x + (along_t[1] * y + along_t[2])
            hit &= (t >= -seam) & (t <= height * inverse + seam)
            if self.faces.gable[face]:
                half = width / 2
                hit &= np.abs(s - half * inverse) <= (half / height) * t + seam
            else:
                hit &= (s >= -seam) & (s <= width * inverse + seam)
            np.copyto(known, inverse, where=hit)
            index[block][hit] = face
        return index


def depth_map(faces: Faces, view: View) -> np.ndarray:
    """Return the depth of what each pixel's centre sees: H×W float64 metres, 0 for the sky."""
    projection = Projection(faces, view)
    index = projection.visible()
    rays, row = view.camera.unproject(view.camera.samples()), projection.rows[index, 0]
    inverse = row[..., 0] * rays[..., 0] + row[..., 1] * rays[..., 1] + row[..., 2]
    return np.where(index >= 0, 1 / np.where(index >= 0, inverse, 1.0), 0.0)


class Lightmap(NamedTuple):
    """Light that falls on each face, on a grid of its own."""

    pixels: np.ndarray  # the grids of all faces in one image, H×W×3 float32, linear
    places: np.ndarray  # F×4: a face's corner (x, y) in OpenCV's coordinates, cells per metre

    def joined(self, others: "Lightmap") -> "Lightmap":
        """Return the light on these faces, followed by that on others."""
        below = others.places + np.array([0, len(self.pixels), 0, 0], np.float32)
        pixels = np.concatenate([self.pixels, others.pixels])
        return Lightmap(pixels, np.concatenate([self.places, below]))


def radiance(
    faces: Faces, atlas: Atlas, lightmap: Lightmap, emission: np.ndarray, view: View
) -> tuple[np.ndarray, np.ndarray]:
    """Return the linear light that comes into a camera, H×W×3 float32, 0 for the sky.

    Return also the sky's fraction of each pixel, H×W. ``emission`` is the linear colour, F×3, of
    what lit places of each face send out.
    """
    projection = Projection(faces, view)
    index = projection.visible(_SUPERSAMPLING)
    rays_x, rays_y = camera_rays(view.camera, _SUPERSAMPLING)
    spacing = 1 / (np.float32(view.camera.focal) * _SUPERSAMPLING)
    size, wraps, texture = atlas.sizes, atlas.wraps[:, None], faces.texture
    columns = [
        projection.rows.reshape(-1, 9),
        *(faces.uv_scale, faces.uv_offset, size[texture], wraps[texture], texture[:, None]),
        lightmap.places,
    ]
    # What a sample needs to know of its face, column by column.
    table = list(np.ascontiguousarray(np.concatenate(columns, axis=1).T, dtype=np.float32))
    emission, levels = emission.astype(np.float32), atlas.levels.T.copy()
    light = np.zeros((*index.shape, 3), np.float32)
    dither = np.tile(_DITHER, (_BLOCK_ROWS // 2, index.shape[1] // 2))
    for top in range(0, len(index), _BLOCK_ROWS):
        block = slice(top, top + _BLOCK_ROWS)
        ids = index[block]
        if not (ids >= 0).any():
            continue
        x, y = rays_x[block], rays_y[block]
        row = [np.take(column, ids) for column in table]
        depth, s, t = (row[k] * x + row[k + 1] * y + row[k + 2] for k in (0, 3, 6))
        depth = 1 / depth
        s, t = s * depth, t * depth
        su, sv, ou, ov, wide, high, wraps, texture, place_x, place_y, cells_s, cells_t = row[9:]
        key = texture.astype(np.intp)
        for k, along, density in ((6, t, sv * high), (3, s, su * wide)):
            steps = [np.abs(row[k + i] - along * row[i]) * spacing for i in (0, 1)]
            texels = np.maximum(*steps) * np.abs(depth) * density
            # The fraction becomes a choice between two levels, by the sample's place in its pixel.
            level = np.log2(np.maximum(texels, 1e-6)) + dither[: len(ids)]
            key = key * _NUM_LEVELS + level.clip(0, _NUM_LEVELS - 1).astype(np.intp)
        left, upper, across, down = (np.take(column, key) for column in levels)
        u, v = s * su + ou, t * sv + ov
        u, v = (np.where(wraps > 0, w - np.floor(w), w.clip(0, 1)) for w in (u, v))
        texels = cv2.remap(atlas.pixels, left + u * across, upper + v * down, cv2.INTER_LINEAR)
        # Displayed values are about the square root of light.
        texels = texels.astype(np.float32)
        texels *= texels / np.float32(255**2)
        place = place_x + s * cells_s, place_y + t * cells_t
        arriving = cv2.remap(lightmap.pixels, *place, cv2.INTER_LINEAR)
        result = texels[..., :3] * arriving + texels[..., 3:] * np.take(emission, ids, axis=0)
        result[ids < 0] = 0
        light[block] = result
    shape = (view.camera.width, view.camera.height)
    sky = cv2.resize((index < 0).astype(np.float32), shape, interpolation=cv2.INTER_AREA)
    return cv2.resize(light, shape, interpolation=cv2.INTER_AREA), sky
