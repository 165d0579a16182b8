"""The API of a running `comemory serve`: what it gives, what it refuses, and that nothing secret leaves it."""

from __future__ import annotations

import importlib.util
import json
import re
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from conftest import PASSWORD, TOKEN
from described import run_schemathesis
from serving import Running, served, wait_for

SECRETS = ("hunter2", "hunter3", PASSWORD, TOKEN)
CHANGES = (
    ("PUT", "/api/v1/cameras/gate/zones", {"zones": []}),
    ("PUT", "/api/v1/cameras/gate/sensitivity", {"false_alarms": "1/min"}),
    ("POST", "/api/v1/cameras/gate/reference-view", None),
    ("PUT", "/api/v1/events/{event}/verdict", {"verdict": None}),
    ("DELETE", "/api/v1/events/no-such-event", None),
)
READS = (
    "/api/v1/cameras",
    "/api/v1/cameras/gate",
    "/api/v1/cameras/gate/picture",
    "/api/v1/cameras/gate/video",
    "/api/v1/cameras/gate/scores",
    "/api/v1/cameras/gate/zones",
    "/api/v1/cameras/gate/sensitivity",
    "/api/v1/events",
    "/api/v1/events/x",
    "/api/v1/events/x/clip",
    "/api/v1/system",
    "/api/v1/nodes",
    "/api/v1/timeline",
    "/api/v1/stream",
    "/metrics",
)


@pytest.fixture
def client(running: Running) -> Iterator[httpx.Client]:
    """A program on the same machine that proves its changes."""
    with httpx.Client(base_url=running.url, timeout=60) as client:
        client.headers["X-CSRF-Token"] = client.get("/api/v1/session").json()["csrf"]
        yield client


@pytest.fixture
def event(client: httpx.Client) -> dict[str, Any]:
    """An event that is over, with all its files."""

    def whole() -> list[dict[str, Any]]:
        events = client.get("/api/v1/events?camera=gate&limit=200").json()["events"]
        return [one for one in events if one["end"] and all(one["media"].values())]

    wait_for(whole)
    return whole()[0]


class TestCameras:
    def test_one_camera_is_live_and_one_is_down_with_a_reason(self, client: httpx.Client) -> None:
        wait_for(lambda: client.get("/api/v1/cameras/gate").json()["last_score"] is not None)
        gate, yard = client.get("/api/v1/cameras").json()
        assert gate["state"] == "live"
        assert gate["size"] == [240, 360]
        assert yard["state"] in ("connecting", "down")
        assert yard["last_score"] is None

    def test_its_image_is_a_jpeg_that_changes(self, client: httpx.Client) -> None:
        wait_for(lambda: client.get("/api/v1/cameras/gate/picture").status_code == 200)
        plain = client.get("/api/v1/cameras/gate/picture?width=160")
        assert plain.headers["content-type"] == "image/jpeg"
        assert plain.content[:2] == b"\xff\xd8"
        tag = plain.headers["etag"]
        wait_for(lambda: client.get("/api/v1/cameras/gate/picture?width=160").headers["etag"] != tag)
        assert client.get("/api/v1/cameras/gate/picture?heat=true").headers["etag"].endswith('-1"')

    def test_a_camera_without_an_image_gives_204(self, client: httpx.Client) -> None:
        assert client.get("/api/v1/cameras/yard/picture").status_code == 204

    def test_its_video_goes_on(self, client: httpx.Client) -> None:
        wait_for(lambda: client.get("/api/v1/cameras/gate/picture").status_code == 200)
        with client.stream("GET", "/api/v1/cameras/gate/video?width=160") as answer:
            found = b""
            for chunk in answer.iter_bytes():
                found += chunk
                if found.count(b"--frame") == 2:
                    break
        assert answer.headers["content-type"].startswith("multipart/x-mixed-replace")

    def test_its_scores_are_those_of_the_last_seconds(self, client: httpx.Client) -> None:
        wait_for(lambda: len(client.get("/api/v1/cameras/gate/scores").json()["scores"]) > 3)
        given = client.get("/api/v1/cameras/gate/scores?seconds=600").json()
        assert given["times"] == sorted(given["times"])
        assert len(given["times"]) == len(given["scores"])

    def test_zones_are_stored(self, client: httpx.Client) -> None:
        zone = [[0.1, 0.1], [0.3, 0.1], [0.2, 0.4]]
        assert client.put("/api/v1/cameras/yard/zones", json={"zones": [zone]}).json() == {"zones": [zone]}
        assert client.get("/api/v1/cameras/yard").json()["zones"] == [zone]
        assert client.put("/api/v1/cameras/yard/zones", json={"zones": []}).json() == {"zones": []}

    @pytest.mark.parametrize(
        "zone", [[[0, 0], [1, 1]], [[0, 0], [2, 0], [1, 1]], [["a", 0], [1, 0], [1, 1]], "x", None]
    )
    def test_what_is_no_zone_is_refused(self, client: httpx.Client, zone: Any) -> None:
        answer = client.put("/api/v1/cameras/yard/zones", json={"zones": [zone]})
        assert answer.status_code == 422
        assert "zones" in answer.json()["detail"]

    def test_the_budget_moves_the_threshold(self, client: httpx.Client) -> None:
        before = client.get("/api/v1/cameras/yard/sensitivity").json()
        assert [step["threshold"] for step in before["steps"]] == sorted(
            (step["threshold"] for step in before["steps"]), reverse=True
        )
        chosen = before["steps"][-2]
        after = client.put("/api/v1/cameras/yard/sensitivity", json={"false_alarms": chosen["false_alarms"]}).json()
        assert after["threshold"] == pytest.approx(chosen["threshold"])
        refused = client.put("/api/v1/cameras/yard/sensitivity", json={"false_alarms": "often"})
        assert refused.status_code == 422
        assert "1/h or 2/day" in refused.json()["detail"]

    def test_there_is_no_other(self, client: httpx.Client) -> None:
        for path in ("", "/picture", "/video", "/scores", "/zones", "/sensitivity"):
            assert client.get(f"/api/v1/cameras/fence{path}").status_code == 404


class TestEvents:
    def test_they_are_paged(self, client: httpx.Client, event: dict[str, Any]) -> None:
        first = client.get("/api/v1/events?limit=1").json()
        assert len(first["events"]) == 1
        assert first["next"] == first["events"][0]["id"]
        older = client.get(f"/api/v1/events?before={first['next']}&limit=1").json()["events"]
        assert all(one["id"] < first["next"] for one in older)
        assert client.get("/api/v1/events?since=2150-01-01T00:00:00Z").json() == {"events": [], "next": None}

    def test_those_that_follow_one_come_oldest_first(self, full: Running) -> None:
        def ids(query: str) -> list[str]:
            return [one["id"] for one in httpx.get(f"{full.url}/api/v1/{query}", timeout=60).json()["events"]]

        every = ids("timeline")
        assert every == sorted(every, reverse=True)
        assert ids(f"events?after={every[250]}&limit=1") == [every[249]]
        assert ids(f"events?after={every[250]}&limit=3") == every[249:246:-1]
        assert ids(f"events?after={every[250]}&before={every[247]}") == every[249:247:-1]
        assert ids(f"events?after={every[0]}") == []

    def test_the_timeline_counts_what_it_does_not_show(self, full: Running) -> None:
        whole = httpx.get(f"{full.url}/api/v1/timeline?camera=yard", timeout=60).json()
        assert len(whole["events"]) == whole["total"] > 100
        part = httpx.get(f"{full.url}/api/v1/timeline?camera=yard&limit=5", timeout=60).json()
        assert part == {"events": whole["events"][:5], "total": whole["total"]}
        assert httpx.get(f"{full.url}/api/v1/timeline?since=2150-01-01T00:00:00Z", timeout=60).json()["total"] == 0
        assert httpx.get(f"{full.url}/api/v1/timeline?limit=0", timeout=60).status_code == 422

    @pytest.mark.parametrize(
        "query",
        ["limit=0", "limit=x", "since=yesterday", "since=7", "verdict=maybe", "before=../x"],
    )
    def test_what_cannot_be_asked_is_refused(self, client: httpx.Client, query: str) -> None:
        assert client.get(f"/api/v1/events?{query}").status_code == 422

    def test_its_files_are_served_by_its_id(self, client: httpx.Client, event: dict[str, Any]) -> None:
        thumbnail = client.get(event["media"]["thumbnail"])
        assert thumbnail.headers["content-type"] == "image/jpeg"
        assert client.get(event["media"]["heat"]).status_code == 200
        clip = client.get(event["media"]["clip"])
        assert clip.headers["content-type"] == "video/mp4"
        assert clip.content[4:8] == b"ftyp"

    def test_parts_of_the_clip_can_be_asked_for(self, client: httpx.Client, event: dict[str, Any]) -> None:
        whole = client.get(event["media"]["clip"]).content
        part = client.get(event["media"]["clip"], headers={"Range": "bytes=100-199"})
        assert part.status_code == 206
        assert part.headers["content-range"] == f"bytes 100-199/{len(whole)}"
        assert part.content == whole[100:200]
        assert client.get(event["media"]["clip"], headers={"Range": f"bytes={len(whole)}-"}).status_code == 416

    @pytest.mark.parametrize(
        "path",
        [
            "/api/v1/events/..%2f..%2fevents.db/clip",
            "/api/v1/events/%2e%2e/clip",
            "/api/v1/events/x/..%2f..%2f..%2fetc%2fpasswd",
            "/..%2f..%2faccess.json",
            "/%2e%2e/%2e%2e/access.json",
            "/static/../app.py",
            "/app.py",
            "//etc/passwd",
        ],
    )
    def test_no_path_leads_out(self, running: Running, path: str) -> None:
        with socket.create_connection(("127.0.0.1", running.port), 30) as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        assert int(answer.split(b" ")[1]) in (404, 422)

    def test_a_verdict_is_stored_and_removed(self, client: httpx.Client, event: dict[str, Any]) -> None:
        place = f"/api/v1/events/{event['id']}/verdict"
        assert client.put(place, json={"verdict": "abnormal"}).json()["verdict"] == "abnormal"
        assert event["id"] in [one["id"] for one in client.get("/api/v1/events?verdict=abnormal").json()["events"]]
        assert client.put(place, json={"verdict": None}).json()["verdict"] is None
        assert client.put(place, json={"verdict": "odd"}).status_code == 422
        assert client.put("/api/v1/events/nothing/verdict", json={"verdict": None}).status_code == 404
        assert client.delete("/api/v1/events/nothing").status_code == 404


class TestMessages:
    def test_they_begin_with_the_state_of_things_and_go_on(self, client: httpx.Client) -> None:
        kinds: list[str] = []
        with client.stream("GET", "/api/v1/stream") as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            for line in answer.iter_lines():
                if line.startswith("event: "):
                    kinds.append(line.removeprefix("event: "))
                if line.startswith("data: ") and len(kinds) == 1:
                    cameras = json.loads(line.removeprefix("data: "))["cameras"]
                if "scores" in kinds and kinds.count("status") > 1:
                    break
        assert kinds[0] == "status"
        assert [camera["name"] for camera in cameras] == ["gate", "yard"]

    def test_one_listener_too_many_is_refused(self, running: Running) -> None:
        def listen() -> tuple[socket.socket, bytes]:
            connection = socket.create_connection(("127.0.0.1", running.port), 30)
            connection.sendall(b"GET /api/v1/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
            return connection, connection.recv(15)

        open_, refused = [], b""
        while not refused and len(open_) < 100:
            connection, answer = listen()
            open_.append(connection)
            if answer != b"HTTP/1.1 200 OK":
                refused = answer
        for connection in open_:
            connection.close()
        assert refused.startswith(b"HTTP/1.1 503")
        assert len(open_) <= 65
        assert "Traceback" not in (running.out.parent / "log").read_text()

        def is_heard_again() -> bool:
            connection, answer = listen()
            connection.close()
            return answer == b"HTTP/1.1 200 OK"

        wait_for(is_heard_again, 60)


class TestProbes:
    def test_it_is_well(self, client: httpx.Client) -> None:
        assert client.get("/healthz").json() == {"status": "ok"}
        assert client.get("/readyz").json() == {"engine": True, "store": True}

    def test_prometheus_can_read_the_metrics(self, client: httpx.Client) -> None:
        from prometheus_client.parser import text_string_to_metric_families

        wait_for(lambda: 'comemory_frames_scored_total{camera="gate"}' in client.get("/metrics").text)
        families = {family.name: family for family in text_string_to_metric_families(client.get("/metrics").text)}
        for name in (
            "frames_received",
            "frames_dropped",
            "frames_not_due",
            "frames_filling",
            "frames_faulty",
            "frames_scored",
            "latency_seconds",
            "queue_depth",
            "camera_state",
            "events",
            "alerts",
            "store_up",
            "changes_unstored",
            "writes_dropped",
            "quarantine_files",
            "quarantine_bytes",
        ):
            assert f"comemory_{name}" in families
        states = {
            sample.labels["state"]: sample.value
            for sample in families["comemory_camera_state"].samples
            if sample.labels["camera"] == "gate"
        }
        assert sum(states.values()) == 1
        buckets = [
            sample.value
            for sample in families["comemory_latency_seconds"].samples
            if sample.name.endswith("_bucket") and sample.labels["camera"] == "gate"
        ]
        assert buckets == sorted(buckets)

    def test_the_description_names_every_operation(self, client: httpx.Client) -> None:
        document = client.get("/api/v1/openapi.json").json()
        assert document["info"]["title"] == "comemory"
        assert {"/api/v1/cameras/{name}/zones", "/api/v1/events/{id}/verdict", "/metrics"} <= set(document["paths"])


class TestFiles:
    def test_only_the_owner_can_read_what_was_written(self, running: Running, event: dict[str, Any]) -> None:
        modes: dict[str, int] = {}
        for path in running.out.rglob("*"):
            with suppress(FileNotFoundError):  # files in the making move on
                modes[str(path.relative_to(running.out))] = path.stat().st_mode
        assert len(modes) > 8, event["id"]
        assert {name for name, mode in modes.items() if mode & 0o077} == set()


class TestSecrets:
    def test_none_is_in_an_answer_or_in_the_log(self, client: httpx.Client, running: Running) -> None:
        texts = [client.get(path).text for path in ("/api/v1/cameras", "/api/v1/system", "/metrics", "/api/v1/events")]
        texts.append((running.out.parent / "log").read_text())
        assert not any(secret in text for secret in SECRETS for text in texts)
        assert "rtsp://operator:***@" in texts[0]


class TestUnknownCallers:
    @pytest.mark.parametrize("path", READS)
    def test_they_see_nothing(self, locked: Running, path: str) -> None:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Cookie": "comemory_session=wrong"}):
            answer = httpx.get(locked.url + path, headers=headers, timeout=60)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"

    @pytest.mark.parametrize(("method", "path", "body"), CHANGES)
    def test_they_change_nothing(self, locked: Running, method: str, path: str, body: Any) -> None:
        assert httpx.request(method, locked.url + path, json=body, timeout=60).status_code == 401

    def test_they_see_the_page_and_that_it_lives(self, locked: Running) -> None:
        assert httpx.get(f"{locked.url}/", timeout=60).status_code == 200
        assert httpx.get(f"{locked.url}/healthz", timeout=60).status_code == 200
        session = httpx.get(f"{locked.url}/api/v1/session", timeout=60).json()
        assert session == {"required": True, "authenticated": False, "role": None, "csrf": None, "version": None}


class TestCallers:
    def test_a_password_begins_a_session_and_logging_out_ends_it(self, locked: Running) -> None:
        with httpx.Client(base_url=locked.url, timeout=60) as client:
            begun = client.post("/api/v1/session", json={"password": PASSWORD})
            cookie = begun.headers["set-cookie"]
            assert "HttpOnly" in cookie
            assert "SameSite=strict" in cookie
            assert client.get("/api/v1/cameras").status_code == 200
            copied = client.cookies["comemory_session"]
            proof = {"X-CSRF-Token": begun.json()["csrf"]}
            assert client.delete("/api/v1/session").status_code == 403
            assert client.delete("/api/v1/session", headers=proof).status_code == 204
            again = httpx.get(
                f"{locked.url}/api/v1/cameras", headers={"Cookie": f"comemory_session={copied}"}, timeout=60
            )
            assert again.status_code == 401

    def test_logging_out_ends_what_is_open(self, locked: Running) -> None:
        with httpx.Client(base_url=locked.url, timeout=60) as client:
            proof = {"X-CSRF-Token": client.post("/api/v1/session", json={"password": PASSWORD}).json()["csrf"]}
            wait_for(lambda: client.get("/api/v1/cameras/gate/picture").status_code == 200)
            with (
                client.stream("GET", "/api/v1/cameras/gate/video") as video,
                client.stream("GET", "/api/v1/stream") as stream,
            ):
                assert client.delete("/api/v1/session", headers=proof).status_code == 204
                for _ in video.iter_bytes():
                    pass
                for _ in stream.iter_bytes():
                    pass

    def test_a_change_without_proof_is_refused(self, locked: Running) -> None:
        with httpx.Client(base_url=locked.url, timeout=60) as client:
            proof = client.post("/api/v1/session", json={"password": PASSWORD}).json()["csrf"]
            for method, path, body in CHANGES:
                assert client.request(method, path, json=body).status_code == 403
            headers = {"X-CSRF-Token": proof}
            zones = "/api/v1/cameras/gate/zones"
            assert client.put(zones, json={"zones": []}, headers=headers).status_code == 200
            foreign = {**headers, "Origin": "https://evil.example"}
            assert client.put(zones, json={"zones": []}, headers=foreign).status_code == 403

    def test_a_token_needs_no_proof(self, locked: Running) -> None:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        answer = httpx.put(f"{locked.url}/api/v1/cameras/gate/zones", json={"zones": []}, headers=headers, timeout=60)
        assert answer.status_code == 200
        assert httpx.get(f"{locked.url}/metrics", headers=headers, timeout=60).status_code == 200

    def test_without_a_password_a_change_needs_proof_too(self, running: Running) -> None:
        for method, path, body in CHANGES:
            assert httpx.request(method, running.url + path, json=body, timeout=60).status_code == 403

    def test_another_name_is_refused(self, running: Running) -> None:
        answer = httpx.get(f"{running.url}/api/v1/session", headers={"Host": "evil.example"}, timeout=60)
        assert answer.status_code == 421

    def test_guessing_is_slowed(self, locked: Running) -> None:
        elsewhere = httpx.HTTPTransport(local_address="127.0.0.2")
        with httpx.Client(base_url=f"http://127.0.0.1:{locked.port}", transport=elsewhere, timeout=60) as client:
            guesses = [client.post("/api/v1/session", json={"password": "wrong guess"}) for _ in range(8)]
            assert [answer.status_code for answer in guesses] == [401] * 6 + [429] * 2
            assert int(guesses[-1].headers["retry-after"]) > 0
            assert client.post("/api/v1/session", json={"password": PASSWORD}).status_code == 429
        assert httpx.post(f"{locked.url}/api/v1/session", json={"password": PASSWORD}, timeout=60).status_code == 200
        log = (locked.out.parent / "log").read_text()
        assert not any(secret in log for secret in SECRETS)


def fuzzer() -> ModuleType:
    folder = Path(__file__).resolve().parents[2] / "benchmarks"
    spec = importlib.util.spec_from_file_location("fuzz_api", folder / "fuzz_api.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fuzz_api"] = module
    sys.path.insert(0, str(folder))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(folder))
    return module


@pytest.fixture(scope="module")
def hardy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server of its own for what may break one, with a token."""
    settings = ("--set", "web.token=env:API_TOKEN")
    with served(tmp_path_factory.mktemp("hardy"), *settings, environment={"API_TOKEN": TOKEN}) as server:
        yield server


class TestWhatNobodyShouldSend:
    @pytest.mark.parametrize(
        ("phases", "n_cases"), [("fuzzing,stateful", 150), pytest.param("coverage", 1000, marks=pytest.mark.slow)]
    )
    def test_every_answer_is_as_described(self, hardy: Running, tmp_path: Path, phases: str, n_cases: int) -> None:
        pytest.importorskip("schemathesis", reason="needs schemathesis: pip install '.[dev]'")
        done = run_schemathesis(hardy.url, TOKEN, tmp_path, per_operation=6, seed=1, phases=phases)
        assert done.failures == ""
        assert done.n_cases > n_cases

    def test_damaged_requests_never_give_a_5xx_and_a_signal_ends_it(self, hardy: Running) -> None:
        outcome = fuzzer().fuzz(hardy.port, TOKEN, 400, seed=3)
        assert outcome.failures == []
        assert sum(outcome.statuses.values()) + outcome.n_ended_without_an_answer == 400
        assert len(outcome.statuses) > 5
        hardy.stop()
        assert hardy.process.returncode == 0
        assert not re.search("Traceback", (hardy.out.parent / "log").read_text())
