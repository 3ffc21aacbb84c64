"""The command ``featplug serve``."""

import logging
import socket
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from featplug.api.localizer import Localizer
from featplug.cli.command_line import Unprefixed
from featplug.serve.limits import Limits

if TYPE_CHECKING:
    import uvicorn

logger = logging.getLogger(__name__)
_LOOPBACK = "127.0.0.1", "::1", "localhost"


@dataclass(frozen=True, kw_only=True)
class ServedMap:
    """What photographs are localized in, and by which methods."""

    model: Path
    """Output folder of `featplug sfm` or `featplug localize`, or folder of a COLMAP model."""
    feature: str | None = None
    """Name of the feature; by default the one that the feature file records."""
    features: Path | None = None
    """Feature file of the model's images, for a COLMAP model."""
    images: Path | None = None
    """Folder of the model's images, where retrieval or the matcher reads them."""
    matcher: str | None = None
    """Name of the matcher; by default that of the run, or the feature's own."""
    retrieval: str | None = None
    """Name of the retrieval method; by default that of the run, or vlad."""
    device: str | None = None
    """Device of the computation, for example cpu or cuda:1; the best available one by default."""
    memory_gib: float = 2.0
    """Memory in GiB for the features of the model's images; others are read when needed."""


def serve(
    served: Unprefixed[ServedMap],
    limits: Unprefixed[Limits],
    host: str = "127.0.0.1",
    port: int = 8000,
) -> None:
    """Answer photographs with their poses, by HTTP.

    POST a photograph to /localize; GET /model and /health. Requests are neither authenticated nor
    encrypted: serve other machines through a proxy that does so.

    Args:
        served: what photographs are localized in.
        limits: what a request may take.
        host: address to answer on; by default this machine alone can ask.
        port: port to answer on; 0 is a free one.
    """
    limits.check()
    try:
        import uvicorn

        from featplug.serve.application import create_app
    except ImportError as error:
        raise ValueError(
            f"featplug serve needs FastAPI and uvicorn ({error}); run `pip install "
            "featplug[serve]`."
        ) from error
    try:
        listening = socket.create_server((host, port))
    except (OSError, OverflowError) as error:
        raise ValueError(
            f"{host}:{port} cannot be listened on ({error}); choose another --host or --port."
        ) from error
    with listening:
        if host not in _LOOPBACK:
            logger.warning("%s: every machine that reaches this address can ask.", host)
        localizer = Localizer(
            served.model,
            served.feature,
            features=served.features,
            images=served.images,
            matcher=served.matcher,
            retrieval=served.retrieval,
            device=served.device,
            memory_gib=served.memory_gib,
        )
        config = uvicorn.Config(
            create_app(localizer, limits),
            log_level="warning",
            timeout_graceful_shutdown=int(limits.timeout) + 1,
        )
        print(f"http://{host}:{listening.getsockname()[1]} answers; Ctrl-C ends it.", flush=True)
        _run(uvicorn.Server(config), listening)


def _run(server: "uvicorn.Server", listening: socket.socket) -> None:
    """Run a server until a signal; a second one does not wait for the requests."""
    # In a thread, so that signals come to the main thread, as in all commands.
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    while thread.is_alive():
        try:
            thread.join()
        except KeyboardInterrupt:
            server.force_exit = server.should_exit
            server.should_exit = True
