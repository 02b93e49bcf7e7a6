"""The catalogue as a whole: every file loads, every fact has its evidence, every name leads to one thing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ridgeline.core.errors import UnknownNameError
from ridgeline.core.files import load_yaml
from ridgeline.hardware import (
    catalogue,
    chip,
    chip_names,
    chips,
    index,
    load_chip_file,
    node,
    nodes,
    site,
    sites,
)

KINDS = {"datasheet", "measured", "estimated", "assumed"}
FILES = sorted((index.ROOT).glob("*/*.yaml"))


def test_the_index_is_what_the_files_say() -> None:
    assert index.INDEX.read_text(encoding="utf-8") == index.render(), "run python -m ridgeline.hardware.build_index"


@pytest.mark.parametrize("name", chips())
def test_every_chip_loads_and_each_fact_has_source_and_kind(name: str) -> None:
    loaded = chip(name)
    assert {"launch_year", "compute_units", "clock", "tdp", "idle_power"} <= set(loaded.facts)
    for key, fact in loaded.facts.items():
        assert fact.source and fact.kind in KINDS, key
        assert fact.how or fact.kind in {"datasheet", "measured"}, f"{key} is {fact.kind} and does not say how"


@pytest.mark.parametrize("name", chips())
def test_every_rate_tier_and_port_of_a_chip_is_among_its_facts(name: str) -> None:
    loaded = chip(name)
    wanted = {f"matrix.{t}": v for t, v in loaded.matrix_flops_per_s.items()}
    wanted |= {f"vector.{t}": v for t, v in loaded.vector_flops_per_s.items()}
    wanted |= {f"memory.{t.name}.capacity": t.capacity_bytes for t in loaded.tiers}
    wanted |= {f"memory.{t.name}.bandwidth": t.bandwidth_bytes_per_s for t in loaded.tiers}
    wanted |= {f"ports.{p.name}.bandwidth": p.bandwidth_bytes_per_s for p in loaded.ports}
    wanted |= {"tdp": loaded.tdp_w, "idle_power": loaded.idle_w, "clock": loaded.clock_hz}
    assert wanted.items() <= {key: fact.value for key, fact in loaded.facts.items()}.items()


@pytest.mark.parametrize("name", nodes())
def test_every_node_loads_holds_a_known_chip_and_ends_in_a_fabric(name: str) -> None:
    loaded = node(name)
    assert loaded.chip in chips()
    assert all(fact.source and fact.kind in KINDS for fact in loaded.facts.values())
    assert {f"levels.{level.name}.bandwidth" for level in loaded.levels} <= set(loaded.facts)


@pytest.mark.parametrize("name", sites())
def test_every_site_loads_with_sourced_facts(name: str) -> None:
    loaded = site(name)
    assert {"pue", "carbon_intensity", "electricity_price"} <= set(loaded.facts)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_no_file_lists_a_source_that_no_fact_uses(path: Path) -> None:
    data = load_yaml(path).data
    text = json.dumps({key: value for key, value in data.items() if key != "sources"})
    assert [key for key in data["sources"] if f'"source": "{key}"' not in text] == []


@pytest.mark.parametrize("name", chips())
def test_a_chip_with_links_of_its_own_stands_in_a_node_that_holds_it(name: str) -> None:
    loaded = chip(name)
    if loaded.port("scale_up"):
        assert loaded.default_node, "name the node whose levels use the scale_up port"
    assert catalogue.default_node(loaded).chip == name


@pytest.mark.parametrize("name", nodes())
def test_no_level_of_a_node_is_faster_than_what_its_chip_can_send(name: str) -> None:
    loaded = node(name)
    best = max((port.bandwidth_bytes_per_s for port in chip(loaded.chip).ports), default=float("inf"))
    # A module's inner links are not always counted in its outward port.
    inside = [level for level in loaded.levels if level.kind != "on-package"]
    assert all(level.bandwidth_bytes_per_s <= best * 1.0001 for level in inside)


def test_every_spelling_resolves_and_spellings_of_all_kinds_do_not_clash() -> None:
    for name, entry in index.entries()["chips"].items():
        for spelling in (name, *entry["aliases"], name.upper(), name.replace("-", "_")):
            assert chip_names().resolve(spelling) == name
    assert set(chips()) | set(nodes()) == {catalogue.machine_names().resolve(n) for n in (*chips(), *nodes())}


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("H100", "h100-sxm"),
        ("A100", "a100-80gb-sxm"),
        ("NVIDIA H100 80GB HBM3", "h100-sxm"),
        ("h100_pcie", "h100-pcie"),
        ("A100-SXM-40GB", "a100-40gb-sxm"),
        ("GH200-480GB", "gh200-96gb"),
        ("V100", "v100-sxm2-32gb"),
        ("V100-16GB", "v100-sxm2-16gb"),
        ("Intel Gaudi2", "gaudi2"),
        ("TPU v6e (Trillium)", "tpu-v6e"),
        ("AMD Instinct MI300X-NPS1-SPX-192GB-750W", "mi300x"),
    ],
)
def test_a_name_that_says_less_than_a_part_number_leads_where_the_readme_says(alias: str, name: str) -> None:
    assert chip(alias).name == name


def test_an_unknown_name_is_an_error_with_the_nearest_ones_and_never_a_default() -> None:
    with pytest.raises(UnknownNameError) as caught:
        chip("h10_sxm", at="cases.csv:3 chip")
    assert caught.value.at == "cases.csv:3 chip"
    assert "h100" in caught.value.fix.casefold()
    assert "ridgeline catalogue chips" in caught.value.fix


def test_a_template_is_not_a_node_that_one_can_name() -> None:
    assert not any(name.startswith("generic") for name in nodes())
    with pytest.raises(UnknownNameError):
        node("generic-pcie")


def test_a_file_of_ones_own_loads_like_one_of_the_catalogue() -> None:
    assert load_chip_file(str(index.ROOT / "chips" / "l4.yaml")) == chip("l4")


def test_resolving_names_loads_neither_pydantic_nor_yaml_files() -> None:
    code = (
        "import sys; from ridgeline.hardware import chip_names, chips, nodes; chip_names().resolve('H100');"
        "print('pydantic' in sys.modules, len(chips()) > 90, len(nodes()) > 50)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert out == ["False", "True", "True"]
