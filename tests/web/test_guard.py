"""Who may talk to the page, how much and how long; and what it never reads, whatever a form says."""

from __future__ import annotations

import http.client
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.web.conftest import Client, served
from tests.web.test_server import IMPACT, PLAN, PREDICT, SIMULATE, TRAIN

from ridgeline.apps.web import guard
from ridgeline.apps.web.guard import HEADERS, MOST_BODY_BYTES
from ridgeline.apps.web.jobs import Told
from ridgeline.apps.web.patience import Patient
from ridgeline.apps.web.server import application
from ridgeline.apps.web.views import VIEWS
from ridgeline.core.errors import RidgelineError

BASES: dict[str, dict[str, str]] = {"predict": PREDICT, "train": TRAIN, "simulate": {**SIMULATE, "requests": "100"}}
BASES |= {"plan": PLAN, "impact": IMPACT, "layouts": {"model": "meta-llama/Llama-3.1-8B", "on": "8x h100-sxm"}}
BASES["layouts"] |= {"seq": "4096", "global_batch": "64"}
SECRET = "token with ünusual 🜁 marks".encode().hex()
WRITE = {"method": "POST", "path": "/api/views/catalogue"}


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:{port}", 200),
        ("localhost:{port}", 200),
        ("LOCALHOST", 200),
        ("[::1]:{port}", 200),
        ("evil.example", 421),
        ("evil.example:{port}", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost.evil.example", 421),
        ("evil.example#localhost", 421),
        ("0.0.0.0", 421),
        ("", 421),
        ("[::1", 421),
    ],
)
def test_the_page_answers_to_its_own_names_only(page: Client, host: str, status: int) -> None:
    told = page.ask("GET", "/api/views", headers={"host": host.format(port=page.port)})
    assert told[0] == status, told[2]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"origin": "http://127.0.0.1:{port}"}, 200),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://127.0.0.1:1"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://127.0.0.1:{port}.evil.example"}, 403),
        ({"origin": "http://[::1"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "same-origin", "origin": "http://127.0.0.1:{port}"}, 200),
    ],
)
def test_other_sites_write_nothing(page: Client, headers: dict[str, str], status: int) -> None:
    sent = {name: value.format(port=page.port) for name, value in headers.items()}
    assert page.ask("POST", "/api/views/catalogue", {"kind": "sites"}, sent)[0] == status
    job = page.start("simulate", SIMULATE)
    assert page.ask("DELETE", f"/api/jobs/{job}", headers=sent)[0] == status
    page.events(job)


def test_every_answer_says_what_a_browser_may_do_with_it(page: Client) -> None:
    asked = [page.ask("GET", path) for path in ("/", "/static/app.js", "/api/views", "/none", "/api/jobs/none/events")]
    asked += [page.ask("POST", "/api/views/predict", {}), page.ask("GET", "/", headers={"host": "evil.example"})]
    for _, headers, _ in asked:
        for name, value in HEADERS:
            assert headers[name.decode()] == value.decode()
        assert "access-control-allow-origin" not in headers
        assert "server" not in headers
    policy = asked[0][1]["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy


def test_no_file_of_the_page_names_another_host_or_holds_a_script() -> None:
    folder = Path(guard.__file__).parent / "static"
    for path in folder.iterdir():
        text = path.read_text().replace("http://www.w3.org/", "")
        assert "http:" not in text, path
        assert "https:" not in text, path
    page = (folder / "index.html").read_text()
    assert page.count("<script") == 1
    assert 'src="/static/app.js"' in page
    assert "onclick" not in page


@pytest.fixture(scope="module")
def behind() -> Iterator[Client]:
    """A page that others can reach, so that it asks for a token."""
    with served(application(host="0.0.0.0", token=SECRET)) as client:
        yield client


@pytest.mark.parametrize("way", ["", "?token=", "?token=wrong", "?token=%C3%BC", f"?tokens={SECRET}", "?token=\xfc"])
def test_without_the_token_nothing_is_told(behind: Client, way: str) -> None:
    for method, path in (
        ("GET", "/"),
        ("GET", "/api/views"),
        ("GET", "/static/app.js"),
        ("POST", "/api/views/predict"),
    ):
        status, headers, data = behind.raw_ask(method, f"{path}{way}", {"host": "elsewhere.example"})
        assert status in (400, 401)
        assert SECRET.encode() not in data
        assert "set-cookie" not in headers
    for cookie in ("ridgeline=", "ridgeline=wrong", "ridgeline=\xfc", f"other={SECRET}"):
        assert behind.raw_ask("GET", "/", {"cookie": cookie})[0] == 401


def test_the_token_is_asked_once_and_then_remembered(behind: Client) -> None:
    status, headers, _ = behind.ask("GET", f"/?token={SECRET}", headers={"host": "elsewhere.example"})
    assert status == 200
    kept = headers["set-cookie"]
    assert "HttpOnly" in kept
    assert "SameSite=Strict" in kept
    cookie = kept.partition(";")[0]
    status, _, data = behind.ask("POST", "/api/views/catalogue", {"kind": "sites"}, {"cookie": f"a=b; {cookie}"})
    assert status == 200
    assert SECRET.encode() not in data


def test_a_body_beyond_the_limit_is_refused_before_it_is_read(page: Client) -> None:
    said = page.raw(_head(page, f"content-length: {MOST_BODY_BYTES + 1}") + b"x" * 1000)
    assert b" 413 " in said.partition(b"\r\n")[0]


def test_a_body_that_grows_without_saying_so_ends_at_the_limit(page: Client) -> None:
    chunk = b"40000\r\n" + b" " * 0x40000 + b"\r\n"
    with socket.create_connection(("127.0.0.1", page.port), timeout=20) as sock:
        sock.sendall(_head(page, "transfer-encoding: chunked"))
        try:
            for _ in range(MOST_BODY_BYTES // 0x40000 + 4):
                sock.sendall(chunk)
        except (BrokenPipeError, ConnectionResetError):
            return  # the server has answered and closed
        assert b" 413 " in sock.recv(4096).partition(b"\r\n")[0]


def test_a_body_at_the_limit_is_read(page: Client) -> None:
    body = json.dumps({"kind": "sites", "name": ""}).encode()
    status, _, _ = page.ask("POST", "/api/views/catalogue", body + b" " * (MOST_BODY_BYTES - len(body)))
    assert status == 200


def test_a_head_beyond_the_limit_is_refused(page: Client) -> None:
    for path, size in (("/api/views", 17_000), ("/api/views", 400_000), (f"/api/views?{'q' * 17_000}", 1)):
        head = f"GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nx: {'y' * size}\r\n\r\n"
        try:
            said = page.raw(head.encode())
        except ConnectionResetError:
            continue  # closed before all of it was read
        assert said.partition(b"\r\n")[0].split()[1] in (b"400", b"431")
        assert b"views" not in said


@pytest.mark.parametrize("length", ["-1", "1e3", "x", "9" * 40])
def test_a_length_that_is_none_is_refused(page: Client, length: str) -> None:
    said = page.raw(_head(page, f"content-length: {length}") + b"{}")
    assert said.partition(b"\r\n")[0].split()[1] in (b"400", b"413")


def test_who_is_slow_is_let_go() -> None:
    class Hasty(Patient):
        read_s = 0.4

    inner = application()
    inner._read_s = 0.4
    with served(inner, http=Hasty) as client:
        start = time.monotonic()
        assert client.raw(b"GET / HTTP/1.1\r\nhost: loc") == b""
        assert client.raw(b"") == b""
        assert b" 408 " in client.raw(_head(client, "content-length: 10") + b"{").partition(b"\r\n")[0]
        assert time.monotonic() - start < 10
        with socket.create_connection(("127.0.0.1", client.port), timeout=20) as sock:  # byte by byte
            began = time.monotonic()
            try:
                for byte in b"GET /api/views HTTP/1.1\r\nhost: localhost\r\n" * 20:
                    sock.sendall(bytes([byte]))
                    time.sleep(0.02)
            except (BrokenPipeError, ConnectionResetError):
                pass
            assert time.monotonic() - began < 8
        connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=20)
        for _ in range(3):  # who is quick keeps the connection
            connection.request("GET", "/api/views")
            assert connection.getresponse().read()
            time.sleep(0.2)
        connection.close()


def test_a_crowd_is_answered_and_hangers_on_hold_nothing_up(page: Client) -> None:
    idle = [socket.create_connection(("127.0.0.1", page.port), timeout=20) for _ in range(100)]
    found: list[int] = []

    def asks() -> None:
        found.append(page.ask("POST", "/api/views/train", TRAIN)[0])

    threads = [threading.Thread(target=asks) for _ in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for sock in idle:
        sock.close()
    assert found == [200] * 24


def _head(page: Client, *lines: str) -> bytes:
    head = ["POST /api/views/catalogue HTTP/1.1", f"host: 127.0.0.1:{page.port}", "connection: close", *lines]
    return "\r\n".join(head).encode() + b"\r\n\r\n"


HERE = "127.0.0.1"


class Watch:
    """Files that this process opens while it is on."""

    def __init__(self) -> None:
        self.on, self.opened = False, []  # type: ignore[var-annotated]
        sys.addaudithook(self._heard)

    def _heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.on and event in ("open", "os.listdir", "os.scandir", "socket.getaddrinfo") and arguments[0] != HERE:
            self.opened.append(str(arguments[0]))


@pytest.fixture(scope="module")
def watch() -> Watch:
    """Set once: an audit hook cannot be taken away."""
    return Watch()


def traversals(canary: Path) -> list[str]:
    """Spellings of files that no form may reach: 200 and more."""
    targets = ["/etc/passwd", str(canary), str(canary / "config.json"), "/proc/self/environ", "~/.ssh/id_rsa"]
    found = list(targets)
    for depth in range(1, 9):
        up = "../" * depth
        found += [f"{up}etc/passwd", f"{up}etc/passwd\x00", f".{os.sep}{up}etc/passwd", f"h100-sxm/{up}etc/passwd"]
        found += [up.replace("/", "\\") + "windows\\win.ini", up.replace("../", "....//") + "etc/passwd"]
        found += [up.replace("../", "%2e%2e%2f") + "etc%2fpasswd", up.replace("../", "%252e%252e%252f") + "etc/passwd"]
        found += [up.replace("../", "..%c0%af") + "etc/passwd", up.replace("../", "\uff0e\uff0e\uff0f") + "etc/passwd"]
    for target in targets:
        found += [f"file://{target}", f"file:{target}", f"{target}\x00.json", f"\\\\host\\share{target}", f"//{target}"]
        found += [
            f"hub:{target}",
            f"hub:..{target}",
            f"hub:OWNER/{target}",
            f"{target}/",
            f"{target}.json",
            f" {target}",
        ]
        found += [f"8x {target}", f"8x {target} + h100-sxm", f"{target}@1", f"vllm/{target}", f"{target}:1"]
        found += [f"empirical({target})", f"empirical(file={target})", f'empirical(file="{target}")']
        found += [
            f"Empirical(file={target})",
            f"mix(empirical({target}))",
            f"lognormal(file={target})",
            f"trace({target})",
        ]
    found += ["hub:meta-llama/Llama-3.1-8B", "hub:", "hub:a/../../b", ".", "..", "/", "~", "./", "C:\\", "CON", "\x00"]
    return found


class Mute:
    """Where a job tells how far it is, and nobody listens."""

    def send(self, told: object) -> None:
        pass


def played(view: str, values: dict[str, str]) -> None:
    """A job in this process, where what it opens is seen."""
    run = VIEWS[view].job
    assert run is not None
    with suppress(RidgelineError):
        run(values, Told(Mute()))


def test_whatever_a_form_says_no_file_of_this_machine_is_read(page: Client, watch: Watch, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    canary.mkdir()
    (canary / "config.json").write_text('{"model_type": "llama", "hidden_size": 12345}')
    corpus = traversals(canary)
    assert len(corpus) >= 200
    forms = []
    for name in BASES:
        texts = [f.name for f in VIEWS[name].fields if f.kind == "text" or f.suggestions]
        few = {field: corpus[i :: len(texts)][:3] for i, field in enumerate(texts)}
        whole = {"model": corpus[::4], "on": corpus} if name == "predict" else {}
        files = dict.fromkeys([f for f in ("prompt", "output") if name == "simulate"], corpus[-70::2])
        for field, words in {**few, **whole, **files}.items():
            forms += [(name, {**BASES[name], field: word}) for word in words]
    forms += [("catalogue", {"kind": "models", "name": word}) for word in corpus]
    forms += [("catalogue", {"kind": "chips", "name": word}) for word in corpus[::4]]
    own = {field.name: field.default for field in VIEWS["chip"].fields if field.default}
    forms += [("chip", {**own, field: word}) for field in own for word in corpus[::20]]
    forms += [("studies", {"name": word}) for word in corpus[::4]]
    forms += [("catalogue", {"kind": word}) for word in corpus[:20]]
    page.answer("predict", PREDICT)
    played("simulate", BASES["simulate"])
    watch.opened.clear()
    watch.on = True
    try:
        for view, values in forms:
            if VIEWS[view].job is not None:
                played(view, values)
                continue
            status, told = page.json("POST", f"/api/views/{view}", values)
            assert status in (200, 422), (view, values, told)
        for word in corpus:
            if word.isascii() and word.isprintable() and " " not in word:
                assert page.raw_ask("GET", f"/static/{word}", {})[0] == 404
                assert page.raw_ask("GET", f"/{word.lstrip('/')}", {})[0] in (200, 404)
                page.raw_ask("POST", f"/api/exports/{word}", {})
    finally:
        watch.on = False
    own = (str(Path(guard.__file__).parents[2]), sys.prefix, sys.base_prefix)
    opened = {str(Path(name).absolute()) for name in watch.opened}
    opened -= {str(Path(name).absolute()) for name in sys.path}  # a late import lists them anew when they have changed
    outside = {name for name in opened if not name.startswith(own) and not name.endswith("/entry_points.txt")}
    assert outside == set()


@pytest.mark.parametrize(
    "path", ["/static/%2e%2e/server.py", "/static/..%2fserver.py", "/static/../server.py", "/..%2f"]
)
def test_no_address_leaves_the_folder_of_static_files(page: Client, path: str) -> None:
    status, _, data = page.raw_ask("GET", path, {})
    assert status == 404
    assert b"import" not in data


def test_no_answer_and_no_error_holds_the_environment(page: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RIDGELINE_CANARY", "canary-of-the-environment")
    told = [page.ask("POST", f"/api/views/{name}", BASES.get(name, {}))[2] for name in VIEWS]
    told += [page.ask("POST", "/api/views/predict", {**PREDICT, "isl": "$RIDGELINE_CANARY"})[2]]
    told.append(json.dumps(page.events(page.start("simulate", BASES["simulate"]))).encode())
    for data in told:
        assert b"canary-of-the-environment" not in data
        assert str(Path.home()).encode() + b"/" not in data
