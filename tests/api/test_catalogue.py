"""The catalogue as people and programs read it."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from ridgeline.api.catalogue import entries, fact_in_words, kinds, view
from ridgeline.core.errors import UnknownNameError

KINDS = ("chips", "nodes", "models", "runtimes", "sites")


def text_of(kind: str, name: str = "") -> str:
    out = io.StringIO()
    Console(file=out, width=200).print(view(kind, name))
    return out.getvalue()


def test_the_kinds_are_those_of_the_contract() -> None:
    assert set(kinds()) == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_every_entry_is_listed_and_is_json(kind: str) -> None:
    names, _ = kinds()[kind]
    listed = text_of(kind)
    found = json.loads(json.dumps(entries(kind), allow_nan=False))
    assert len(found) == len(names()) > 0
    assert [each["name"] for each in found] == list(names())
    assert all(name in listed for name in names())


@pytest.mark.parametrize("kind", KINDS)
def test_one_entry_is_shown_by_its_name(kind: str) -> None:
    name = kinds()[kind][0]()[0]
    (entry,) = entries(kind, name)
    assert entry["name"] == name
    assert len(text_of(kind, name).splitlines()) > 3


def test_every_fact_of_every_chip_and_node_is_shown_with_its_unit_and_source() -> None:
    chip = text_of("chips", "h100-sxm")
    for words in ("814 mm2", "80", "989 TFLOP/s", "3.35 TB/s", "700 W", "datasheet", "whitepaper"):
        assert words in chip
    assert "0.000814" not in chip
    node = text_of("nodes", "dgx-h100")
    assert "450 GB/s" in node
    assert "2.00 TiB" in node


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("die_area", 0.000814, "814 mm2"),
        ("transistors", 8e10, "80.0B"),
        ("ports.scale_up.latency", 1.2e-6, "1.20 us"),
        ("rental", 3.0 / 3600, "$3.00/h"),
        ("price", 30000.0, "$30,000"),
        ("electricity_price", 0.08 / 3.6e6, "$0.08/kWh"),
        ("carbon_intensity", 0.4 / 3.6e6, "400 g/kWh"),
        ("launch_year", 2022.0, "2022"),
        ("process", "TSMC 4N", "TSMC 4N"),
    ],
)
def test_a_fact_reads_as_people_write_it(key: str, value: float | str, words: str) -> None:
    assert fact_in_words(key, value) == words


def test_an_unknown_kind_or_name_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="chips"):
        entries("chip")
    with pytest.raises(UnknownNameError, match="h100-sxm"):
        entries("chips", "h100-sxn")
