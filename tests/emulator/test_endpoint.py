"""The endpoint as clients meet it: over a socket, with good requests and bad ones."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.emulator.conftest import Client

import ridgeline as rl
from ridgeline.apps.emulator import http
from ridgeline.apps.emulator.run import Options
from ridgeline.apps.emulator.service import Limits
from ridgeline.apps.emulator.text import Lorem
from ridgeline.core.errors import RidgelineError
from ridgeline.workloads.traffic import Traffic

Play = Callable[..., None]
PROMPT = {"prompt": [7] * 100, "max_tokens": 6}


def test_what_is_there_is_told(play: Play) -> None:
    async def scene(client: Client) -> None:
        assert (await client.ask("/health"))[0] == 200
        assert await client.ask("/metrics", method="HEAD") == (200, b"")
        _, models = await client.json("/v1/models")
        (one,) = models["data"]
        assert one["id"] == "meta-llama/Llama-3.1-8B" and one["max_model_len"] == 131072
        for path in ("/v1/models/meta-llama/Llama-3.1-8B", "/v1/models/meta-llama%2FLlama-3.1-8B"):
            assert await client.json(path) == (200, one)
        assert (await client.json("/v1/models/other"))[0] == 404
        assert (await client.ask("/ping", {}))[0] == 200
        assert await client.json("/load") == (200, {"server_load": 0})
        _, page = await client.ask("/metrics")
        for name in (
            "vllm:num_requests_running",
            "vllm:kv_cache_usage_perc",
            "vllm:time_to_first_token_seconds_bucket",
        ):
            assert name.encode() in page

    play(scene)


def test_a_completion_has_its_tokens_and_its_usage(play: Play) -> None:
    async def scene(client: Client) -> None:
        status, answer = await client.json("/v1/completions", PROMPT)
        assert status == 200
        assert answer["usage"] == {"prompt_tokens": 100, "completion_tokens": 6, "total_tokens": 106}
        assert answer["choices"][0]["finish_reason"] == "length"
        assert len(answer["choices"][0]["text"].split()) == 6
        chat = {"messages": [{"role": "user", "content": "say something"}], "max_tokens": 3}
        _, answer = await client.json("/v1/chat/completions", chat)
        assert answer["object"] == "chat.completion" and answer["choices"][0]["message"]["role"] == "assistant"

    play(scene)


def test_a_stream_brings_one_token_per_event_and_then_its_usage(play: Play) -> None:
    async def scene(client: Client) -> None:
        events = await client.events("/v1/completions", {**PROMPT, "stream_options": {"include_usage": True}})
        words, last = events[:-1], events[-1]
        assert len(words) == 6 and all(event["choices"][0]["text"] for event in words)
        assert [event["choices"][0]["finish_reason"] for event in words] == [None] * 5 + ["length"]
        assert last["choices"] == [] and last["usage"]["completion_tokens"] == 6
        chat = {"messages": [{"role": "user", "content": "a b c"}], "max_completion_tokens": 4}
        events = await client.events("/v1/chat/completions", chat)
        assert events[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
        assert len(events) == 5

    play(scene)


def test_words_are_those_that_a_tokenizer_takes_for_one_token() -> None:
    known = Lorem(seed=1, count=lambda text: len(text) - 2)
    assert {len(known.word(0, i)) for i in range(100)} == {3}
    none = Lorem(seed=1, count=lambda _: 7)
    assert len({none.word(0, i) for i in range(100)}) > 10


# As vLLM's vllm/benchmarks/lib/endpoint_request_func.py fills them in (commit 02cfb53).
LOAD_GENERATOR = {"model": "meta-llama/Llama-3.1-8B", "stream": True, "stream_options": {"include_usage": True}}
COMPLETIONS = {"repetition_penalty": 1.0, "max_tokens": 8, "logprobs": None, "ignore_eos": True, "temperature": 0.0}
PARTS = [{"role": "user", "content": [{"type": "text", "text": "some words"}]}]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"prompt": "some words", **COMPLETIONS}),
        ("/v1/completions", {"prompt": [1, 2, 3], **COMPLETIONS}),
        ("/v1/chat/completions", {"messages": PARTS, "max_completion_tokens": 8, "ignore_eos": True, "top_p": 1.0}),
    ],
)
def test_bodies_of_vllm_bench_serve_bring_a_token_per_event_and_the_usage_last(
    play: Play, path: str, body: dict[str, object]
) -> None:
    async def scene(client: Client) -> None:
        events = await client.events(path, {**LOAD_GENERATOR, **body})
        texts = [c.get("text") or c["delta"].get("content") for event in events[:-1] for c in event["choices"]]
        assert len([text for text in texts if text]) == 8
        assert not events[-1]["choices"] and events[-1]["usage"]["completion_tokens"] == 8

    play(scene)


def test_several_completions_of_a_request_come_together(play: Play) -> None:
    async def scene(client: Client) -> None:
        body = {"prompt": ["a b", [7] * 50], "n": 2, "max_tokens": 5}
        _, answer = await client.json("/v1/completions", {**body, "echo": True})
        assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3]
        assert [choice["text"].startswith("a b ") for choice in answer["choices"]] == [True, True, False, False]
        assert answer["usage"] == {"prompt_tokens": 51, "completion_tokens": 20, "total_tokens": 71}
        events = await client.events("/v1/completions", {**body, "stream_options": {"include_usage": True}})
        for index in range(4):
            own = [event["choices"][0] for event in events[:-1] if event["choices"][0]["index"] == index]
            assert [choice["finish_reason"] for choice in own] == [None] * 4 + ["length"]
        assert events[-1]["usage"] == answer["usage"]
        chat = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 3, "n": 2}
        events = await client.events("/v1/chat/completions", chat)
        assert sorted(event["choices"][0]["index"] for event in events) == [0] * 4 + [1] * 4
        assert client.emulator.live.running == 0 and not client.emulator._answers

    play(scene)


def test_none_of_several_completions_is_begun_where_one_cannot_be(play: Play) -> None:
    async def scene(client: Client) -> None:
        status, answer = await client.json("/v1/completions", {"prompt": [[1] * 50, [1] * 100_000], "max_tokens": 9000})
        assert status == 400 and "never fit" in answer["message"]
        for _ in range(200):
            await asyncio.sleep(0.01)
            if not client.emulator.live.running + client.emulator.live.waiting:
                break
        assert client.emulator.live.cache_used_frac == pytest.approx(0.0, abs=1e-9)
        assert (await client.json("/v1/completions", PROMPT))[0] == 200

    play(scene, case={"on": "1x l4", "weights": "fp8"})


def test_an_echo_says_the_words_of_the_prompt(play: Play) -> None:
    async def scene(client: Client) -> None:
        _, answer = await client.json("/v1/completions", {"prompt": 'say "no" \\ ünï', "max_tokens": 5})
        assert answer["choices"][0]["text"] == ' say "no" \\ ünï say'
        events = await client.events("/v1/completions", {"prompt": 'a "b"', "max_tokens": 2})
        assert [event["choices"][0]["text"] for event in events] == [" a", ' "b"']

    play(scene, echo=True)


def test_equal_seeds_give_equal_words(play: Play) -> None:
    said: list[str] = []

    async def scene(client: Client) -> None:
        said.append((await client.json("/v1/completions", PROMPT))[1]["choices"][0]["text"])

    for seed in (1, 1, 2):
        play(scene, seed=seed)
    assert said[0] == said[1] != said[2]


@pytest.mark.parametrize(
    ("path", "body", "method", "status"),
    [
        ("/v1/completions", b"{", "", 400),
        ("/v1/completions", {"prompt": "a", "model": "other"}, "", 404),
        ("/v1/embeddings", {"input": "a"}, "", 404),
        ("/v1/completions", None, "GET", 405),
        ("/health", {}, "DELETE", 405),
        ("/v1/completions", {"prompt": "a" * (9 << 20)}, "", 413),
        ("/v1/completions", {"prompt": "a", "max_tokens": 1 << 20}, "", 400),
    ],
)
def test_bad_requests_get_an_error_and_do_no_harm(
    play: Play, path: str, body: object, method: str, status: int
) -> None:
    async def scene(client: Client) -> None:
        got, answer = await client.ask(path, body, method)
        assert got == status
        assert json.loads(answer)["error"]["message"]
        assert (await client.json("/v1/completions", PROMPT))[0] == 200

    play(scene)


def test_garbage_on_the_wire_ends_only_its_own_connection(play: Play) -> None:
    async def scene(client: Client) -> None:
        for junk in (
            b"\x16\x03\x01\x02\x00",
            b"GET\r\n\r\n",
            b"GET / HTTP/9\r\n\r\n",
            b"A" * 40_000,
            b"\r\n" * 9,
            b"\0",
        ):
            answer = await client.raw(junk + b"\r\n\r\n", ends=True)
            assert answer == b"" or answer.split()[1] in (b"400", b"431", b"505")
        assert (await client.json("/v1/completions", PROMPT))[0] == 200

    play(scene)


def test_requests_follow_each_other_on_a_connection(play: Play) -> None:
    async def scene(client: Client) -> None:
        body = json.dumps(PROMPT).encode()
        one = b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body
        answer = await client.raw(one * 3 + b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert answer.count(b"HTTP/1.1 200") == 4
        old = await client.raw(b"POST /v1/completions HTTP/1.0\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        assert b'"completion_tokens":6' in old

    play(scene)


def test_a_client_that_hangs_up_frees_its_cache(play: Play) -> None:
    async def scene(client: Client) -> None:
        live = client.emulator.live
        body = json.dumps({"prompt": [3] * 4000, "max_tokens": 5000, "stream": True}).encode()
        head = b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body)
        await client.raw(head + body, until=b'"text"')
        for _ in range(200):
            await asyncio.sleep(0.02)
            if not live.running:
                break
        assert live.running == 0 and live.cache_used_frac == pytest.approx(0.0, abs=1e-9)
        assert client.emulator.metrics.ended["abort"] == 1
        assert not client.emulator._answers and not client.emulator._wires

    play(scene)


def test_a_request_that_is_never_finished_times_out(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "READ_S", 0.2)

    async def scene(client: Client) -> None:
        answer = await client.raw(b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
        assert answer.startswith(b"HTTP/1.1 408")
        assert await client.raw(b"POST /v1/comp") == b""

    play(scene)


def test_hundreds_of_idle_connections_cost_nothing(play: Play) -> None:
    async def scene(client: Client) -> None:
        idle = [await asyncio.open_connection("127.0.0.1", client.port) for _ in range(400)]
        assert (await client.json("/v1/completions", PROMPT))[0] == 200
        assert len(client.emulator.connections) >= 400
        for _, writer in idle:
            writer.close()
            await writer.wait_closed()
        for _ in range(100):
            await asyncio.sleep(0.02)
            if not client.emulator.connections:
                break
        assert not client.emulator.connections

    play(scene)


def test_equal_beginnings_are_found_in_the_cache(play: Play) -> None:
    async def scene(client: Client) -> None:
        for _ in range(2):
            await client.json("/v1/completions", {"prompt": list(range(1000)), "max_tokens": 2})
        assert await client.metric("vllm:prefix_cache_hits_total") >= 900
        assert await client.metric("vllm:prompt_tokens_total") == 2000

    play(scene)


def test_too_many_are_turned_away_as_asked(play: Play) -> None:
    async def scene(client: Client) -> None:
        body = {"prompt": [1] * 100, "max_tokens": 400}
        answers = await asyncio.gather(*(client.ask("/v1/completions", body) for _ in range(12)))
        assert {status for status, _ in answers} == {200, 503}
        assert (await client.json("/v1/completions", PROMPT))[0] == 200

    play(scene, case={"max_batch": 2}, limits=Limits(waiting=3, status=503), speed=20.0)

    async def many(client: Client) -> None:
        answers = await asyncio.gather(*(client.ask("/v1/completions", PROMPT) for _ in range(8)))
        assert [status for status, _ in answers].count(429) >= 4

    play(many, limits=Limits(rate_per_s=2.0))


def test_a_key_is_asked_for(play: Play) -> None:
    async def scene(client: Client) -> None:
        assert (await client.ask("/v1/completions", PROMPT))[0] == 401
        assert (await client.ask("/v1/completions", PROMPT, authorization="Bearer wrong"))[0] == 401
        assert (await client.ask("/v1/completions", PROMPT, authorization="Bearer right"))[0] == 200
        assert (await client.ask("/health"))[0] == 200

    play(scene, limits=Limits(key="right"))
    with pytest.raises(RidgelineError, match="needs a key"):
        Options(arguments={}, host="0.0.0.0")


def test_a_scenario_takes_replicas_away_and_brings_them_back(play: Play, tmp_path: Path) -> None:
    path = tmp_path / "scenario.yaml"
    path.write_text(
        "events: [{at: 1 s, fail: 0, for: 2 s}, {at: 4 s, slow: 0, factor: 10, for: 2 s}, {at: 7 s, replicas: 0}]"
    )

    async def scene(client: Client) -> None:
        clock, emulator = client.emulator.clock, client.emulator

        async def until(time_s: float) -> None:
            await asyncio.sleep(max(clock.wall_s(time_s - clock.now_s), 0))

        await until(1.5)
        assert (await client.ask("/health"))[0] == 503
        assert (await client.ask("/v1/completions", PROMPT))[0] == 503
        await until(3.5)
        assert (await client.ask("/v1/completions", PROMPT))[0] == 200
        await until(4.5)
        usual = emulator.live.fleet.members[0].engine.times.host_s
        await until(6.5)
        assert usual == pytest.approx(10 * emulator.live.fleet.members[0].engine.times.host_s)
        await until(7.5)
        assert (await client.ask("/health"))[0] == 503

    play(scene, scenario=path, speed=2.0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("events: [{at: 1 s}]", "does one thing"),
        ("events: [{at: 1 s, fail: 0, slow: 0}]", "does one thing"),
        ("events: [{at: 1 s, fail: 9}]", "not there"),
        ("events: [{at: 1, fail: 0}]", "at"),
        ("events: [{at: 1 s, fial: 0}]", "fail"),
        ("events: [{at: 1 s, replicas: 1, for: 2 s}]", "stays"),
        ("event: []", "events"),
    ],
)
def test_bad_scenarios_are_named(play: Play, tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "scenario.yaml"
    path.write_text(text)
    with pytest.raises(RidgelineError, match=words):
        play(None, scenario=path)


TOLERANCE = 0.15
"""Of medians over the wire: the machine may be busy. `benchmarks/emulator.py` says how near they come on an idle
one."""


def test_clients_see_what_was_simulated(play: Play) -> None:
    """Eight requests of one second, against the simulation of the same arrivals."""
    rng = np.random.default_rng(4)
    arrivals = np.cumsum(rng.exponential(0.1, 8))
    prompts, outputs = rng.integers(200, 3000, 8), rng.integers(20, 40, 8)
    seen: list[tuple[float, float]] = []

    async def scene(client: Client) -> None:
        async def one(i: int) -> None:
            await asyncio.sleep(arrivals[i])
            body = {"prompt": [i] * int(prompts[i]), "max_tokens": int(outputs[i]), "stream": True}
            data = json.dumps(body).encode()
            reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
            head = b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(data)
            started = time.perf_counter()
            writer.write(head + data)
            await reader.readuntil(b'"text"')
            first = time.perf_counter()
            await reader.readuntil(b"[DONE]")
            seen.append((first - started, (time.perf_counter() - first) / (outputs[i] - 1)))
            writer.close()
            await writer.wait_closed()

        await asyncio.gather(*(one(i) for i in range(8)))

    case = {"model": "meta-llama/Llama-3.1-70B", "on": "2x h100-sxm", "tp": 2, "weights": "fp8"}
    play(scene, case=case)
    answers = rl.simulate(trace=Traffic.of(arrivals, prompts, outputs), **case)
    played = answers.played
    first = np.median(played.first_s - played.arrival_s)
    between = np.median((played.last_s - played.first_s) / (outputs - 1))
    ttft, tpot = np.median(np.array(seen), axis=0)
    assert ttft == pytest.approx(first, rel=TOLERANCE, abs=0.01)
    assert tpot == pytest.approx(between, rel=TOLERANCE)
