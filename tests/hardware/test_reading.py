"""Bad catalogue files: each fault is one error that says where it stands and what would be right."""

from __future__ import annotations

from pathlib import Path

import pytest

from ridgeline.core.errors import RidgelineError, SpecError, UnitError, UnknownNameError
from ridgeline.core.files import load_yaml
from ridgeline.hardware import chip, index, load_chip_file, machine_of
from ridgeline.hardware.reading import read_node, read_site

CHIP = """\
name: toy
title: Toy
vendor: Nobody
kind: gpu
generation: toys
aliases: []
sources:
  ds: {document: Toy datasheet, date: "2025", kind: datasheet}
facts:
  launch_year: {value: 2025, source: ds}
  compute_units: {value: 100, source: ds}
  clock: {value: 1.5 GHz, source: ds}
  tdp: {value: 300 W, source: ds}
  idle_power: {value: 30 W, source: ds}
matrix:
  bf16: {value: 300 TFLOP/s, source: ds}
vector:
  fp32: {value: 20 TFLOP/s, source: ds}
memory:
  dram:
    technology: HBM3
    capacity: {value: 80 GiB, source: ds}
    bandwidth: {value: 2 TB/s, source: ds}
ports:
  host:
    technology: PCIe
    bandwidth: {value: 64 GB/s, source: ds}
    latency: {value: 1 us, source: ds}
"""

FAULTS = {
    "unknown key": ("clock:", "clok:", "unknown key 'clok'", "clock"),
    "unknown key deep": ("{value: 300 W, source: ds}", "{value: 300 W, sauce: ds}", "unknown key 'sauce'", "source"),
    "unknown key at top": ("generation: toys", "generation: toys\ndefault_nod: x", "unknown key", "default_node"),
    "missing field": ("  tdp: {value: 300 W, source: ds}\n", "", "facts.tdp is missing", "add it"),
    "unknown source": ("{value: 300 W, source: ds}", "{value: 300 W, source: dss}", "no source 'dss'", "'ds'"),
    "unknown kind": ("source: ds}\nmatrix", "source: ds, kind: guessed}\nmatrix", "guessed", "measured"),
    "estimate without how": ("source: ds}\nmatrix", "source: ds, kind: estimated}\nmatrix", "says how", "how:"),
    "unknown number format": ("bf16:", "bf61:", "unknown key 'bf61'", "bf16"),
    "unknown tier": ("  dram:", "  drum:", "unknown key 'drum'", "dram"),
    "no unit": ("300 W", "300", "unit is missing", "700 W"),
    "wrong unit": ("300 W", "300 GB", "measures byte", "700 W"),
    "implausible": ("80 GiB", "80000000000 GiB", "not plausible", "digits and unit"),
    "zero": ("2 TB/s", "0 TB/s", "not plausible", "digits and unit"),
    "negative": ("300 TFLOP/s", "-300 TFLOP/s", "not plausible", "digits and unit"),
    "fraction of a unit": ("value: 100,", "value: 100.5,", "whole number", ""),
    "truth for a number": ("value: 100,", "value: true,", "not a quantity", "write it like"),
    "null for a number": ("value: 100,", "value: null,", "", ""),
    "list for a number": ("value: 100,", "value: [100],", "", ""),
    "idle above limit": ("30 W", "400 W", "idle < TDP", "datasheet"),
    "bad date": ('"2025"', '"May 2025"', "date", ""),
    "bad name": ("name: toy", "name: To Y", "name", ""),
    "not finite": ("300 TFLOP/s", ".inf", "", ""),
    "text for a mapping": ("{value: 300 W, source: ds}", "300 W", "facts.tdp", ""),
}


def _load(tmp_path: Path, text: str) -> None:
    path = tmp_path / "toy.yaml"
    path.write_text(text, encoding="utf-8")
    load_chip_file(path)


def test_the_toy_itself_is_good(tmp_path: Path) -> None:
    _load(tmp_path, CHIP)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_a_chip_file_names_its_place_and_its_cure(tmp_path: Path, fault: str) -> None:
    old, new, what, fix = FAULTS[fault]
    assert CHIP.count(old) >= 1, "the fault must change the file"
    with pytest.raises(RidgelineError) as caught:
        _load(tmp_path, CHIP.replace(old, new, 1))
    error = caught.value
    assert what in error.what or what in str(error.got)
    assert fix in error.fix
    assert error.at.startswith(f"{tmp_path / 'toy.yaml'}:"), error.at
    line = int(error.at.removeprefix(f"{tmp_path / 'toy.yaml'}:").split(":")[0])
    assert 1 <= line <= CHIP.count("\n") + 1
    assert len(error.screen().splitlines()) <= 4


def test_the_line_of_a_fault_is_the_line_it_stands_on(tmp_path: Path) -> None:
    with pytest.raises(UnitError) as caught:
        _load(tmp_path, CHIP.replace("300 W", "300 parsecs"))
    wanted = CHIP[: CHIP.index("300 W")].count("\n") + 1
    assert caught.value.at.startswith(f"{tmp_path / 'toy.yaml'}:{wanted}:")


def test_a_misspelt_key_is_reported_before_the_field_it_leaves_missing(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="unknown key 'tdb'"):
        _load(tmp_path, CHIP.replace("tdp", "tdb"))


def test_a_node_whose_outermost_level_has_a_size_is_refused(tmp_path: Path) -> None:
    text = (index.ROOT / "nodes" / "dgx-h100.yaml").read_text(encoding="utf-8")
    kept = text[: text.index("  - name: infiniband")]
    (tmp_path / "n.yaml").write_text(kept, encoding="utf-8")
    with pytest.raises(SpecError, match="end in one without size") as caught:
        read_node(load_yaml(tmp_path / "n.yaml"))
    assert str(tmp_path / "n.yaml") in caught.value.at


def test_a_level_with_an_unknown_kind_names_the_nearest(tmp_path: Path) -> None:
    text = (index.ROOT / "nodes" / "dgx-h100.yaml").read_text(encoding="utf-8")
    (tmp_path / "n.yaml").write_text(text.replace("kind: nvswitch", "kind: nvswich"), encoding="utf-8")
    with pytest.raises(SpecError) as caught:
        read_node(load_yaml(tmp_path / "n.yaml"))
    assert "nvswich" in caught.value.what and "nvswitch" in caught.value.fix


def test_a_template_needs_a_chip_and_takes_the_bandwidth_of_its_port() -> None:
    document = load_yaml(index.ROOT / "nodes" / "generic-pcie.yaml")
    with pytest.raises(SpecError, match="names its chip"):
        read_node(document)
    port = chip("rtx-4090").port("host")
    assert port is not None
    assert read_node(document, chip("rtx-4090")).levels[0].bandwidth_bytes_per_s == port.bandwidth_bytes_per_s
    with pytest.raises(SpecError, match="a port that its chip has"):
        read_node(document, chip("m2-ultra"))


def test_a_site_that_uses_less_than_its_machines_is_refused(tmp_path: Path) -> None:
    text = (index.ROOT / "sites" / "sweden.yaml").read_text(encoding="utf-8")
    (tmp_path / "s.yaml").write_text(text.replace("value: 1.09", "value: 0.9"), encoding="utf-8")
    with pytest.raises(SpecError, match="pue is not plausible"):
        read_site(load_yaml(tmp_path / "s.yaml"))


def test_a_chip_of_ones_own_stands_in_the_node_that_its_file_names(tmp_path: Path) -> None:
    path = tmp_path / "toy.yaml"
    path.write_text(CHIP.replace("generation: toys", "generation: toys\ndefault_node: dgx-h100"), encoding="utf-8")
    built = machine_of(load_chip_file(path), 16)
    assert [level.name for level in built.levels] == ["nvlink", "infiniband"]
    assert built.node is not None and built.node.chip == "toy"


def test_a_chip_of_ones_own_without_a_node_stands_in_a_template_for_its_ports(tmp_path: Path) -> None:
    plain, linked = tmp_path / "plain.yaml", tmp_path / "linked.yaml"
    plain.write_text(CHIP, encoding="utf-8")
    linked.write_text(
        CHIP.replace("  host:\n", "  scale_up:\n").replace("technology: PCIe", "technology: own"), "utf-8"
    )
    assert [level.kind for level in machine_of(load_chip_file(plain), 16).levels] == ["pcie", "roce"]
    assert [level.name for level in machine_of(load_chip_file(linked), 16).levels] == ["scale_up", "roce"]


def test_a_default_node_that_does_not_exist_is_an_error_with_the_nearest(tmp_path: Path) -> None:
    path = tmp_path / "toy.yaml"
    path.write_text(CHIP.replace("generation: toys", "generation: toys\ndefault_node: dgx-h10"), encoding="utf-8")
    with pytest.raises(UnknownNameError, match="dgx-h100"):
        machine_of(load_chip_file(path), 2)


def test_a_flag_or_a_name_that_is_a_number_is_refused(tmp_path: Path) -> None:
    text = (index.ROOT / "nodes" / "dgx-h100.yaml").read_text(encoding="utf-8")
    for old, new in (("value: true", "value: 1"), ("value: 2x Intel Xeon Platinum 8480C", "value: 8480")):
        assert old in text
        (tmp_path / "n.yaml").write_text(text.replace(old, new), encoding="utf-8")
        with pytest.raises(SpecError, match="this fact is"):
            read_node(load_yaml(tmp_path / "n.yaml"))
