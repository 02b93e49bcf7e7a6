"""Engines by name."""

from __future__ import annotations

from collections.abc import Mapping

from ridgeline.serving.launch.engine import Engine
from ridgeline.serving.launch.sglang import Sglang
from ridgeline.serving.launch.trtllm import Trtllm
from ridgeline.serving.launch.vllm import Vllm

ENGINES: Mapping[str, Engine] = {engine.name: engine for engine in (Vllm(), Sglang(), Trtllm())}
