"""The service itself: photographs to poses, one after the other, within its limits.

``POST /localize`` takes a photograph as its body or as the file ``image`` of a form;
``GET /health`` and ``GET /model`` report the state of the service and what it localizes in.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pycolmap
from fastapi import FastAPI, HTTPException, Request
from scipy.spatial.transform import Rotation
from starlette.requests import ClientDisconnect

from featplug import __version__
from featplug.api.localizer import Localization, Localizer
from featplug.colmap.camera_lines import camera_from_words
from featplug.io.image_files import read_image_header
from featplug.localization.queries import camera_log
from featplug.metrics.poses import camera_centres
from featplug.serve.limits import Limits
from featplug.serve.uploads import Upload, read_upload
from featplug.utils.errors import described

FIELDS = "camera_model", "camera_params", "num_retrieved", "near", "radius"
"""Fields of a request, in its address or form."""
_NUM_RETRIEVED = 20.0
_RETRY_SECONDS = 2
"""Seconds after which a client that was sent away may try again."""
Json = dict[str, Any]
logger = logging.getLogger(__name__)


def create_app(localizer: Localizer, limits: Limits | None = None) -> FastAPI:
    """Return the service as an ASGI application.

    Args:
        localizer: localizes the photographs.
        limits: what a request may take.

    Raises:
        ValueError: a limit is not above zero.
    """
    limits = limits or Limits()
    limits.check()
    worker = _Worker(limits)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        worker.close()

    app = FastAPI(title="featplug", version=__version__, lifespan=lifespan)

    @app.get("/health")
    async def health() -> Json:
        """Report that the service answers, and how many requests it has."""
        return {"status": "ok", "requests": worker.num_requests}

    @app.get("/model")
    async def model() -> Json:
        """Report what photographs are localized in, how, and the limits of a request."""
        return {**localizer.summary, "limits": asdict(limits)}

    @app.post("/localize")
    async def localize(request: Request) -> Json:
        """Return the pose of a photograph: the body, or the file ``image`` of a form.

        Fields of the address or the form: ``camera_model`` and ``camera_params``, intrinsics as in
        COLMAP; ``num_retrieved``; ``near``, the x,y,z of a prior position, and ``radius``.
        """
        return await worker.answer(request, lambda upload: _localize(localizer, upload, limits))

    return app


class _Worker:
    """Works on one request after the other, in a thread, and counts those that it has."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.num_requests = 0
        """Requests that are read, wait or are worked on."""
        self._thread = ThreadPoolExecutor(1, "localize")

    async def answer(self, request: Request, work: Callable[[Upload], Json]) -> Json:
        """Read an upload and return what is made of it.

        Raises:
            HTTPException: 503, too many requests wait; 504, the time is over; see also
                :func:`read_upload`.
        """
        if self.num_requests > self.limits.max_waiting:
            raise HTTPException(
                503,
                f"{self.num_requests} requests are waiting; try again later.",
                {"Retry-After": str(_RETRY_SECONDS), "Connection": "close"},
            )
        self.num_requests += 1
        begun: Future[Json] | None = None
        try:
            async with asyncio.timeout(self.limits.timeout):
                upload = await read_upload(request, self.limits)
                begun = self._begin(work, upload)
                return await asyncio.wrap_future(begun)
        except ClientDisconnect:
            raise HTTPException(400, "The upload was not finished.") from None
        except TimeoutError:
            raise HTTPException(
                504, f"There was no answer within {self.limits.timeout:g} s; try again later."
            ) from None
        finally:
            if begun is None:
                self.num_requests -= 1

    def _begin(self, work: Callable[[Upload], Json], upload: Upload) -> "Future[Json]":
        """Queue the work, which counts until it ends, also where its client is gone."""
        loop = asyncio.get_running_loop()

        def end(_: "Future[Json]") -> None:
            upload.remove()
            loop.call_soon_threadsafe(self._leave)

        begun = self._thread.submit(work, upload)
        begun.add_done_callback(end)
        return begun

    def _leave(self) -> None:
        self.num_requests -= 1

    def close(self) -> None:
        """Wait for the request that is worked on."""
        self._thread.shutdown(cancel_futures=True)


def _localize(localizer: Localizer, upload: Upload, limits: Limits) -> Json:
    """Localize an uploaded photograph.

    Raises:
        HTTPException: 415, it is no photograph; 422, it cannot be used, or a field is wrong.
    """
    try:
        size = read_image_header(upload.path).size
    except (OSError, ValueError) as error:
        raise HTTPException(415, _without_path(error, upload.path)) from error
    megapixels = size[0] * size[1] / 1e6
    if megapixels > limits.max_megapixels:
        raise HTTPException(
            422,
            f"The photograph has {megapixels:.4g} megapixels, above the limit of "
            f"{limits.max_megapixels:g}; reduce it.",
        )
    upload.check_fields(FIELDS)
    (num_retrieved,) = upload.numbers("num_retrieved", 1) or [_NUM_RETRIEVED]
    if not (num_retrieved.is_integer() and 1 <= num_retrieved <= limits.max_retrieved):
        raise HTTPException(
            422,
            f"num_retrieved must be a whole number from 1 to {limits.max_retrieved}, not "
            f"{num_retrieved:g}.",
        )
    near, radius = upload.numbers("near", 3), upload.numbers("radius", 1)
    if bool(near) != bool(radius) or not all(value > 0 for value in radius):
        raise HTTPException(422, "near, a position x,y,z, and radius, above 0, belong together.")
    camera = _camera(upload, size)
    try:
        found = localizer.localize(
            upload.path,
            camera,
            int(num_retrieved),
            near=near or None,
            radius=radius[0] if radius else None,
        )
    except ValueError as error:  # the photograph cannot be used, or a field does not fit it
        raise HTTPException(422, _without_path(error, upload.path)) from error
    except Exception as error:  # a fault of the service, which goes on
        logger.exception("A photograph of %d×%d pixels could not be worked on.", *size)
        raise HTTPException(
            500, "The service failed with this photograph; its log has the cause."
        ) from error
    return as_json(found)


def _camera(upload: Upload, size: tuple[int, int]) -> pycolmap.Camera | None:
    """Return the intrinsics that a request has, or None.

    Raises:
        HTTPException: 422, one of the two fields is missing, or they do not fit each other.
    """
    model, params = upload.words("camera_model"), upload.words("camera_params")
    if not model and not params:
        return None
    if len(model) != 1 or not params:
        raise HTTPException(
            422,
            "camera_model, such as PINHOLE, and camera_params, its parameters between commas, "
            "belong together.",
        )
    try:
        return camera_from_words([*model, *map(str, size), *params], "intrinsics")
    except ValueError as error:
        raise HTTPException(
            422,
            f"camera_model {model[0]} and camera_params {','.join(params)[:80]} are no intrinsics "
            f"of a photograph of {size[0]}×{size[1]} pixels: give a model of COLMAP's and its "
            "parameters, with the principal point in the photograph.",
        ) from error


def as_json(found: Localization) -> Json:
    """Return an outcome as values of JSON, with the pose as quaternion and translation, too."""
    pose: Json | None = None
    if found.cam_from_world is not None:
        matrix = found.cam_from_world
        qx, qy, qz, qw = Rotation.from_matrix(matrix[:, :3]).as_quat(canonical=True).tolist()
        pose = {
            "quaternion_wxyz": [qw, qx, qy, qz],
            "translation": matrix[:, 3].tolist(),
            "centre": camera_centres(matrix[None])[0].tolist(),
        }
    return {
        "is_localized": found.is_localized,
        "reason": found.reason,
        "warning": found.warning,
        "confidence": found.confidence,
        "num_inliers": found.num_inliers,
        "cam_from_world": pose,
        "camera": camera_log(found.camera),
        "retrieved": found.retrieved,
    }


def _without_path(error: Exception, path: Path) -> str:
    """Return what an error says, without the name of the temporary file."""
    return described(error).replace(str(path), "the photograph")
