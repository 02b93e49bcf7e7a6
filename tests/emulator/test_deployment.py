"""What stands in deploy/ agrees with the emulator: names of metrics, flags, files that are mounted."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

from tests.emulator.test_endpoint import Client, Play
from typer.testing import CliRunner

from ridgeline.apps.cli import app
from ridgeline.apps.emulator.metrics import Metrics
from ridgeline.core.files import load_yaml

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"


def test_every_metric_of_the_dashboard_is_exported(play: Play) -> None:
    dashboard = json.loads((DEPLOY / "grafana/dashboards/emulator.json").read_text())
    asked = {
        name
        for panel in dashboard["panels"]
        for target in panel["targets"]
        for name in re.findall(r"(?:vllm|ridgeline):\w+", target["expr"])
    }
    assert len(asked) >= 12
    assert Metrics("m").first.name in {name.removesuffix("_bucket") for name in asked}

    async def scene(client: Client) -> None:
        await client.ask("/nowhere")
        _, page = await client.ask("/metrics")
        exported = set(re.findall(r"^((?:vllm|ridgeline):\w+)\{", page.decode(), re.MULTILINE))
        assert asked <= exported

    play(scene)


def test_the_compose_file_gives_flags_that_there_are_and_mounts_files_that_there_are() -> None:
    services = load_yaml(DEPLOY / "compose.yaml").data["services"]
    flags = {word.partition("=")[0] for word in services["emulator"]["command"][1:]}
    told = CliRunner().invoke(app, ["emulate", "--help"]).output
    assert flags and all(flag in told for flag in flags)
    for service in services.values():
        for mount in service.get("volumes", ()):
            assert (DEPLOY / mount.split(":")[0]).exists(), mount
    targets = load_yaml(DEPLOY / "prometheus.yaml").data["scrape_configs"][0]["static_configs"][0]["targets"]
    assert targets == ["emulator:8000"]


def test_the_image_holds_what_the_build_needs() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = re.findall(r"^COPY (?!--)(.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert {name for line in copied for name in line.split()} == kept
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    forced = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    needed = {*forced, *project["project"]["license-files"], project["project"]["readme"], "src", "pyproject.toml"}
    assert needed <= kept, "a wheel is built of them"
