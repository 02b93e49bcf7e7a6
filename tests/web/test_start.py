"""`ridgeline web` as people start it: how soon it answers, where it listens, what it asks of others."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ridgeline.apps.cli import app as cli
from ridgeline.apps.web import server

START = [sys.executable, "-c", "from ridgeline.apps.cli import main; main()", "web"]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextmanager
def started(*flags: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A server of its own process, once it answers; no proxy of the machine is asked."""
    port = free_port()
    with subprocess.Popen([*START, "--port", str(port), *flags], stderr=subprocess.PIPE) as process:
        try:
            until = time.monotonic() + 60
            while time.monotonic() < until:
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=5).close()
                    break
                except OSError:
                    time.sleep(0.02)
            yield process, port
        finally:
            process.terminate()
            process.wait(20)


def fetched(url: str) -> bytes:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return bytes(opener.open(url, timeout=20).read())


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads the processor time of another process in /proc")
def test_it_answers_within_two_seconds_of_processor_time_and_ends_when_asked() -> None:
    spent = []
    for _ in range(3):  # others may disturb one or two
        with started() as (process, port):
            assert b"<nav" in fetched(f"http://127.0.0.1:{port}/")
            assert b'"predict"' in fetched(f"http://127.0.0.1:{port}/api/views")
            stat = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
            spent.append((int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK"))
        assert process.returncode is not None
        if spent[-1] < 2.0:
            break
    assert min(spent) < 2.0, spent


def test_it_listens_on_this_machine_alone_and_draws_a_token_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, object]] = []
    monkeypatch.setattr(server, "serve", lambda **given: asked.append(given))
    runner = CliRunner()
    for flags in ([], ["--host", "localhost"], ["--host", "::1"], ["--host", "0.0.0.0"], ["--host", "192.0.2.1"]):
        assert runner.invoke(cli, ["web", *flags]).exit_code == 0
    local, others = asked[:3], asked[3:]
    assert [given["host"] for given in local] == ["127.0.0.1", "localhost", "::1"]
    assert all(given["token"] == "" for given in local)
    tokens = {str(given["token"]) for given in others}
    assert len(tokens) == len(others)
    assert all(len(token) >= 24 for token in tokens)


def test_a_port_that_is_taken_is_said_in_a_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run([*START, "--port", port], capture_output=True, timeout=60, check=False)
    assert done.returncode != 0
    assert b"Traceback" not in done.stderr
    assert b"address already in use" in done.stderr
