"""The service: what it answers, and what it does about bad, large and many uploads."""

from __future__ import annotations

import http.client
import io
import json
import socket
import struct
import tempfile
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pycolmap
import pytest
import uvicorn
from fastapi.testclient import TestClient
from PIL import Image

import featplug
from featplug.localization.queries import Query, read_queries
from featplug.serve.application import create_app
from featplug.serve.limits import Limits

JPEG = {"content-type": "image/jpeg"}


@pytest.fixture(scope="module")
def localizer(localized_room: Path) -> featplug.Localizer:
    return featplug.Localizer(localized_room, device="cpu")


@pytest.fixture(scope="module")
def client(localizer: featplug.Localizer) -> Iterator[TestClient]:
    with TestClient(create_app(localizer, Limits(max_upload_mib=1, max_megapixels=10))) as client:
        yield client


@pytest.fixture(scope="module")
def query(aachen_room: Path) -> Query:
    return read_queries(aachen_room / "queries" / "*_with_intrinsics.txt")[0]


@pytest.fixture(scope="module")
def photograph(aachen_room: Path, query: Query) -> bytes:
    return (aachen_room / "images_upright" / query.name).read_bytes()


@pytest.fixture(autouse=True)
def no_file_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """However a request ends, its photograph is deleted."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield
    until(lambda: not list(tmp_path.glob("featplug-*")))


def until(is_so: Callable[[], bool]) -> None:
    """Wait for what another thread does."""
    end = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)


class SlowLocalizer:
    """Stands for a localizer: answers when it is told to."""

    def __init__(self) -> None:
        self.may_answer = threading.Event()
        self.num_answers = 0

    def localize(self, *_: Any, **__: Any) -> featplug.Localization:
        assert self.may_answer.wait(20)
        self.num_answers += 1
        camera = pycolmap.Camera(model="PINHOLE", width=8, height=8, params=[8, 8, 4, 4])
        nothing = np.zeros((0, 2)), np.zeros((0, 3))
        return featplug.Localization(None, camera, 0, 0.0, "no image", None, *nothing, [])


def encoded(width: int, height: int, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.new("L", (width, height), 90).save(stream, kind)
    return stream.getvalue()


def bomb() -> bytes:
    """A PNG of 40,000×40,000 pixels in a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 0, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


def test_the_answer_is_that_of_the_localizer(
    client: TestClient,
    localizer: featplug.Localizer,
    photograph: bytes,
    query: Query,
    tmp_path: Path,
) -> None:
    path = tmp_path / "query.jpg"
    path.write_bytes(photograph)
    expected = localizer.localize(path, query.camera)
    fields = {
        "camera_model": query.camera.model.name,
        "camera_params": ",".join(map(repr, query.camera.params.tolist())),
    }
    of_body = client.post("/localize", content=photograph, headers=JPEG, params=fields)
    of_form = client.post("/localize", files={"image": ("a b.jpg", photograph)}, data=fields)
    assert of_body.status_code == of_form.status_code == 200
    answer = of_body.json()
    assert answer == of_form.json()
    assert answer["is_localized"]
    assert answer["reason"] is None
    assert answer["num_inliers"] == expected.num_inliers
    assert answer["confidence"] == expected.confidence
    assert answer["retrieved"] == expected.retrieved
    assert answer["camera"]["params"] == query.camera.params.tolist()
    w, x, y, z = answer["cam_from_world"]["quaternion_wxyz"]
    pose = pycolmap.Rigid3d(
        pycolmap.Rotation3d([x, y, z, w]), answer["cam_from_world"]["translation"]
    )
    assert expected.cam_from_world is not None
    np.testing.assert_allclose(pose.matrix(), expected.cam_from_world, atol=1e-12)
    centre = pose.inverse().translation
    np.testing.assert_allclose(answer["cam_from_world"]["centre"], centre, atol=1e-9)


def test_without_fields_the_camera_is_estimated(client: TestClient, photograph: bytes) -> None:
    answer = client.post("/localize", content=photograph, headers=JPEG).json()
    assert answer["camera"]["width"] > 0


def test_fields_are_options_of_the_localizer(client: TestClient, photograph: bytes) -> None:
    params = {"num_retrieved": "2"}
    answer = client.post("/localize", content=photograph, headers=JPEG, params=params).json()
    assert len(answer["retrieved"]) == 2
    params = {"near": "1000,0,0", "radius": "1"}
    answer = client.post("/localize", content=photograph, headers=JPEG, params=params).json()
    assert answer["retrieved"] == []
    assert not answer["is_localized"]
    assert answer["reason"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_retrieved", "many"),
        ("num_retrieved", "0"),
        ("num_retrieved", "2.5"),
        ("num_retrieved", "1000000"),
        ("numretrieved", "3"),
        ("radius", "-5"),
        ("near", "1,2"),
        ("near", "1,2,nan"),
        ("near", "1,2,3"),
        ("camera_model", "PINHOLE"),
        ("camera_params", "1,2,3"),
    ],
)
def test_a_wrong_field_is_named(
    client: TestClient, photograph: bytes, field: str, value: str
) -> None:
    answer = client.post("/localize", content=photograph, headers=JPEG, params={field: value})
    assert answer.status_code == 422
    assert field in answer.json()["detail"]


def test_a_fault_of_the_service_is_not_the_clients(
    photograph: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """The log has the cause; the answer has neither it nor any path."""

    class Faulty:
        summary: ClassVar[dict[str, str]] = {}

        def localize(self, *_: object, **__: object) -> None:
            raise FileNotFoundError(2, "No such file", "/srv/secret/feats.h5")

    app = create_app(Faulty())  # type: ignore[arg-type]
    with TestClient(app, raise_server_exceptions=False) as faulty:
        answer = faulty.post("/localize", content=photograph, headers=JPEG)
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert "/srv/secret/feats.h5" in caplog.text


@pytest.mark.parametrize("limit", [0, -1, float("inf"), float("nan")])
def test_a_limit_is_a_number_above_zero(limit: float) -> None:
    with pytest.raises(ValueError, match=r"--timeout.*above 0"):
        Limits(timeout=limit).check()


def test_the_state_and_the_model_are_reported(client: TestClient) -> None:
    assert client.get("/health").json() == {"status": "ok", "requests": 0}
    model = client.get("/model").json()
    assert model["images"] == 6
    assert model["points"] > 300
    assert model["feature"]["name"] == "sift"
    assert model["limits"]["max_upload_mib"] == 1


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"not a photograph", "image/jpeg", 415),
        (b"", "image/jpeg", 415),
        (b"not a photograph", "text/plain", 415),
        (b"GIF89a", "application/octet-stream", 415),
        (bomb(), "image/png", 422),
        (encoded(4000, 3000), "image/png", 422),
    ],
)
def test_bad_uploads_are_answered(
    client: TestClient, content: bytes, kind: str, status: int, tmp_path: Path
) -> None:
    answer = client.post("/localize", content=content, headers={"content-type": kind})
    assert answer.status_code == status
    assert answer.json()["detail"]
    assert str(tmp_path) not in answer.text
    assert client.get("/health").json()["requests"] == 0


def test_a_truncated_photograph_is_answered(client: TestClient, photograph: bytes) -> None:
    half = photograph[: len(photograph) // 2]
    answer = client.post("/localize", content=half, headers=JPEG)
    assert answer.status_code == 422
    assert "photograph" in answer.json()["detail"]


def test_forms_without_a_photograph_are_answered(client: TestClient, photograph: bytes) -> None:
    for form in ({"files": {"other": b"x"}}, {"files": {"image": (None, "text")}}):
        answer = client.post("/localize", **form)
        assert answer.status_code == 422
        assert "image" in answer.json()["detail"]
    damaged = {"content-type": "multipart/form-data; boundary=x"}
    assert client.post("/localize", content=photograph, headers=damaged).status_code in (400, 422)


def test_an_image_of_one_pixel_is_not_localized(client: TestClient) -> None:
    answer = client.post("/localize", content=encoded(1, 1), headers=JPEG)
    assert answer.status_code == 200
    assert not answer.json()["is_localized"]


def test_too_large_uploads_are_refused(client: TestClient) -> None:
    large = bytes(2**20 + 1)
    assert client.post("/localize", content=large, headers=JPEG).status_code == 413
    pieces = (bytes(2**16) for _ in range(100))  # of no announced length
    assert client.post("/localize", content=pieces, headers=JPEG).status_code == 413
    answer = client.post("/localize", files={"image": ("a.jpg", bytes(2**21))})
    assert answer.status_code == 413
    assert "MiB" in answer.json()["detail"]


def test_nothing_above_zero_is_no_limit(localizer: featplug.Localizer) -> None:
    with pytest.raises(ValueError, match="max-waiting"):
        create_app(localizer, Limits(max_waiting=0))


class Server:
    """The service on a free port of this machine."""

    def __init__(self, localizer: Any, limits: Limits) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.server = uvicorn.Server(
            uvicorn.Config(create_app(localizer, limits), log_level="error")
        )
        self.thread = threading.Thread(target=self.server.run, args=([self.socket],))

    def __enter__(self) -> Server:
        self.thread.start()
        until(lambda: self.server.started)
        return self

    def __exit__(self, *_: object) -> None:
        self.server.should_exit = True
        self.thread.join(20)
        assert not self.thread.is_alive()
        self.socket.close()

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def post(self, content: bytes) -> tuple[int, dict[str, str], dict[str, Any]]:
        connection = self.connection()
        connection.request("POST", "/localize", content, JPEG)
        answer = connection.getresponse()
        body = json.loads(answer.read())
        connection.close()
        return answer.status, {k.lower(): v for k, v in answer.headers.items()}, body

    def num_requests(self) -> int:
        connection = self.connection()
        connection.request("GET", "/health")
        number = json.loads(connection.getresponse().read())["requests"]
        connection.close()
        return int(number)


def test_a_hundred_at_once_are_answered(localizer: featplug.Localizer, photograph: bytes) -> None:
    """Those above the limit at once, the others with the same pose."""
    limits = Limits(max_waiting=9, timeout=60)
    with Server(localizer, limits) as server, ThreadPoolExecutor(100) as pool:
        answers = list(pool.map(server.post, [photograph] * 100))
        assert server.num_requests() == 0
        assert server.post(photograph)[0] == 200
    counts = Counter(status for status, _, _ in answers)
    assert set(counts) == {200, 503}
    assert counts[200] >= 10
    assert len({json.dumps(body) for status, _, body in answers if status == 200}) == 1
    assert all(int(h["retry-after"]) > 0 for status, h, _ in answers if status == 503)


def test_those_who_wait_are_answered_in_the_end() -> None:
    slow = SlowLocalizer()
    picture = encoded(8, 8)
    with Server(slow, Limits(max_waiting=2)) as server, ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(server.post, picture) for _ in range(3)]
        until(lambda: server.num_requests() == 3)
        status, headers, body = server.post(picture)
        assert status == 503
        assert int(headers["retry-after"]) > 0
        assert "waiting" in body["detail"]
        slow.may_answer.set()
        assert [each.result()[0] for each in waiting] == [200, 200, 200]
        until(lambda: server.num_requests() == 0)


def test_the_time_of_a_request_is_bounded() -> None:
    slow = SlowLocalizer()
    picture = encoded(8, 8)
    with Server(slow, Limits(timeout=0.3)) as server:
        with ThreadPoolExecutor(3) as pool:
            answers = list(pool.map(server.post, [picture] * 3))
        assert [status for status, _, _ in answers] == [504] * 3
        assert server.num_requests() == 1  # the one that is worked on; the others are given up
        slow.may_answer.set()
        until(lambda: server.num_requests() == 0)
        assert slow.num_answers == 1
        assert server.post(picture)[0] == 200


def test_a_slow_upload_is_ended() -> None:
    slow = SlowLocalizer()
    with Server(slow, Limits(timeout=0.3)) as server:
        connection = server.connection()
        connection.putrequest("POST", "/localize")
        connection.putheader("Content-Type", "image/jpeg")
        connection.putheader("Content-Length", "1000")
        connection.endheaders(b"\xff\xd8")
        assert connection.getresponse().status == 504
        connection.close()
        until(lambda: server.num_requests() == 0)


def test_a_gigabyte_is_refused_before_it_is_sent() -> None:
    with Server(SlowLocalizer(), Limits()) as server:
        connection = server.connection()
        connection.putrequest("POST", "/localize")
        connection.putheader("Content-Type", "image/jpeg")
        connection.putheader("Content-Length", str(2**30))
        connection.endheaders(b"\xff\xd8")
        answer = connection.getresponse()
        assert answer.status == 413
        assert "MiB" in json.loads(answer.read())["detail"]
        connection.close()


def test_a_client_that_goes_away_is_forgotten() -> None:
    slow = SlowLocalizer()
    with Server(slow, Limits()) as server:
        connection = server.connection()
        connection.putrequest("POST", "/localize")
        connection.putheader("Content-Type", "image/jpeg")
        connection.putheader("Content-Length", "1000")
        connection.endheaders(b"\xff\xd8")
        until(lambda: server.num_requests() == 1)
        connection.close()
        until(lambda: server.num_requests() == 0)


def test_the_end_waits_for_what_is_worked_on() -> None:
    slow = SlowLocalizer()
    with ThreadPoolExecutor(1) as pool, Server(slow, Limits()) as server:
        last = pool.submit(server.post, encoded(8, 8))
        until(lambda: server.num_requests() == 1)
        server.server.should_exit = True
        slow.may_answer.set()
        assert last.result()[0] == 200
