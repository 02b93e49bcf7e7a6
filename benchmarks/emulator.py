"""The emulated endpoint under many streams at once, client and server on the same cores.

    python benchmarks/emulator.py [--streams 300] [--seconds 20]

Prints tokens per second, errors, and how late tokens were, as the emulator itself measures it. The deployment emits
some 25 tokens per second and stream, so that 300 streams are 7,500 tokens per second.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

DEPLOYMENT = ("--model", "meta-llama/Llama-3.1-70B", "--on", "4x h100-sxm", "--tp", "4")
PROMPT_TOKENS = 64


def main() -> None:
    """Start an emulator, load it, ask it how it did."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=20.0)
    asked = parser.parse_args()
    command = [
        sys.executable,
        "-c",
        "from ridgeline.apps.cli import main; main()",
        "emulate",
        *DEPLOYMENT,
        "--port",
        "0",
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            url = re.search(r"http://\S+?(?=/v1)", server.stderr.readline()).group()
            streamed = asyncio.run(load(url, asked.streams, asked.seconds))
            page = urllib.request.urlopen(f"{url}/metrics").read().decode()
            cpu_s = _cpu_s(server.pid)
        finally:
            server.send_signal(signal.SIGINT)
    tokens, errors, took_s = streamed
    late = {name: float(re.search(rf"^ridgeline:{name}\{{.*\}} (\S+)$", page, re.MULTILINE)[1]) for name in LATE}
    print(f"{asked.streams} streams for {took_s:.0f} s: {tokens / took_s:,.0f} tokens/s, {errors} errors")
    print(f"{tokens / took_s / asked.streams:.1f} tokens/s and stream; the server took {cpu_s / took_s:.2f} of a core")
    print(f"late: p50 {late['lateness_p50_seconds'] * 1e3:.2f} ms, p99 {late['lateness_p99_seconds'] * 1e3:.2f} ms")
    print(f"p99 over the time between tokens: {late['lateness_p99_over_tpot']:.1%} (a run is valid up to 5 %)")
    if errors:
        sys.exit(1)


LATE = ("lateness_p50_seconds", "lateness_p99_seconds", "lateness_p99_over_tpot")


def _cpu_s(pid: int) -> float:
    """Seconds of processor that a process has used (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def load(url: str, streams: int, seconds: float) -> tuple[int, int, float]:
    """(tokens, errors, seconds) of so many streams at once, each a new request when its last has ended."""
    host, port = url.removeprefix("http://").split(":")
    started = time.perf_counter()
    counts = await asyncio.gather(*(stream(host, int(port), i, started + seconds) for i in range(streams)))
    return sum(c for c, _ in counts), sum(e for _, e in counts), time.perf_counter() - started


async def stream(host: str, port: int, number: int, until: float) -> tuple[int, int]:
    """(tokens, errors) of one client."""
    tokens = errors = 0
    await asyncio.sleep(0.005 * number)
    reader, writer = await asyncio.open_connection(host, port)
    while (left := until - time.perf_counter()) > 0:
        body = {"prompt": [number] * PROMPT_TOKENS, "max_tokens": max(min(int(left * 25), 2000), 1), "stream": True}
        data = json.dumps(body).encode()
        writer.write(b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(data) + data)
        errors += b" 200 " not in await reader.readline()
        while True:
            piece = await reader.read(65536)
            tokens += piece.count(b'"text"')
            if b"[DONE]" in piece:
                if not piece.endswith(b"0\r\n\r\n"):
                    await reader.readuntil(b"0\r\n\r\n")
                break
            if not piece:
                errors += 1
                return tokens, errors
    writer.close()
    return tokens, errors


if __name__ == "__main__":
    main()
