"""The service itself: photographs to poses, one after the other, within its limits.

``POST /localize`` takes a photograph as its body or as the file ``image`` of a form;
``GET /health`` and ``GET /model`` report the state of the service and what it localizes in.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from scipy.spatial.transform import Rotation

from featplug import __version__
from featplug.api.localizer import Localization, Localizer
from featplug.colmap.camera_lines import camera_from_words
from featplug.io.image_files import read_image_header
from featplug.localization.queries import camera_log
from featplug.metrics.poses import camera_centres
from featplug.serve.limits import Limits
from featplug.serve.uploads import Upload, read_upload
from featplug.utils.errors import described

_RETRY_SECONDS = 2
"""Seconds after which a client that was sent away may try again."""
Json = dict[str, Any]


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
    num_retrieved, near, radius = (
        upload.numbers(name, count)
        for name, count in (("num_retrieved", 1), ("near", 3), ("radius", 1))
    )
    try:
        words = [*upload.words("camera_model"), *map(str, size), *upload.words("camera_params")]
        camera = None
        if len(words) > 2:
            camera = camera_from_words(words, "camera_model and camera_params")
        found = localizer.localize(
            upload.path,
            camera,
            *map(int, num_retrieved),
            near=near or None,
            radius=radius[0] if radius else None,
        )
    except Exception as error:  # of a damaged photograph; the service goes on
        raise HTTPException(422, _without_path(error, upload.path)) from error
    return as_json(found)


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
