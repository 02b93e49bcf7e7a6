"""`ridgeline bench` from flags to files that calibration's reader takes; an interruption leaves whole files or none."""

from __future__ import annotations

from pathlib import Path

import pytest

from ridgeline.apps.cli import main
from ridgeline.bench import backends, chip_of, open_backend, torch_kernels
from ridgeline.bench.chips import plain_name
from ridgeline.bench.numpy_backend import NumpyBackend
from ridgeline.core import _duck
from ridgeline.core.errors import MissingExtraError, SpecError, UnknownNameError
from ridgeline.costs.measurements import read

# A CPU of the catalogue: which one does not matter for how rows are written.
ON_CPU = ["bench", "--backend", "numpy", "--chip", "xeon-8480", "--quick"]


def exit_code(*words: str) -> int:
    try:
        main([*words])
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return 0


@pytest.fixture(autouse=True)
def _there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_tables_are_what_calibration_reads(suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = f"mine.{suffix}"
    assert exit_code(*ON_CPU, "--kinds", "gemm,copy,elementwise", "--budget", "1.5s", "--out", out) == 0
    for kind in ("gemm", "copy", "elementwise"):
        table = read(tmp_path / f"mine-{kind}.{suffix}")
        assert table.kind == kind
        assert len(table) >= 1
        assert set(table.label("chip")) == {"xeon-8480"}
        assert set(table.label("runtime")) == {"numpy"}
        assert (table.time_s > 0).all()
    printed = capsys.readouterr().out
    assert "gemm fp32" in printed
    assert "kernels measured" in printed


def test_one_kind_goes_into_the_file_that_was_named(tmp_path: Path) -> None:
    assert exit_code(*ON_CPU, "--kinds", "copy", "--budget", "300ms", "--out", "mine.parquet") == 0
    assert [path.name for path in tmp_path.iterdir()] == ["mine.parquet"]


def test_an_interrupted_run_writes_the_rows_measured_so_far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare, seen = NumpyBackend.prepare, []

    def interrupted(self: NumpyBackend, *arguments: object) -> object:
        seen.append(arguments)
        if len(seen) == 4:
            raise KeyboardInterrupt
        return prepare(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(NumpyBackend, "prepare", interrupted)
    assert exit_code(*ON_CPU, "--kinds", "copy", "--budget", "60s", "--out", "mine.parquet") == 130
    assert len(read(tmp_path / "mine.parquet")) == 3


def test_an_interruption_before_the_first_row_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(NumpyBackend, "prepare", interrupted)
    assert exit_code(*ON_CPU, "--kinds", "copy", "--out", "mine.parquet") == 130
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_while_writing_leaves_no_part_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(connection: object, query: str, path: Path, options: str, title: str) -> None:
        path.write_bytes(b"PAR1 and no more")
        raise KeyboardInterrupt

    monkeypatch.setattr(_duck, "_copy", interrupted)
    assert exit_code(*ON_CPU, "--kinds", "copy", "--budget", "300ms", "--out", "mine.parquet") != 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--chip", "xeon-8481"], "xeon-8480"),
        (["--chip", "absent.yaml"], "absent.yaml"),
        (["--chip", "xeon-8480", "--kinds", "gem"], "gemm"),
        (["--chip", "xeon-8480", "--kinds", "attention", "--backend", "numpy"], "it measures gemm, elementwise, copy"),
        (["--chip", "xeon-8480", "--backend", "nunpy"], "numpy"),
        (["--chip", "xeon-8480", "--backend", "numpy", "--out", "mine.xlsx"], ".parquet or .csv"),
        (["--chip", "xeon-8480", "--backend", "numpy", "--out", "absent/mine.csv"], "folder"),
        (["--chip", "xeon-8480", "--backend", "numpy", "--budget", "60"], "unit"),
        (["--chip", "xeon-8480", "--backend", "numpy", "--budget", "-3s"], "positive"),
        (["--chip", "xeon-8480", "--backend", "numpy", "--weights", "tepid"], "hot"),
    ],
)
def test_bad_input_is_one_error_and_nothing_is_measured(
    words: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NumpyBackend, "prepare", lambda *_: pytest.fail("measured"))
    assert exit_code("bench", *words) == 2
    error = capsys.readouterr().err
    assert error.startswith("error RL")
    assert says in error
    assert list(tmp_path.iterdir()) == []


def test_an_accelerator_without_torch_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"ridgeline\[bench\]"):
        open_backend("auto", "gpu")
    with pytest.raises(MissingExtraError, match=r"ridgeline\[bench\]"):
        open_backend("torch", "cpu")
    assert open_backend("auto", "cpu").name == "numpy"


def test_numpy_does_not_measure_accelerators(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "find_spec", lambda name: object())
    with pytest.raises(SpecError, match="CPUs only"):
        open_backend("numpy", "gpu")


@pytest.mark.parametrize(
    ("device", "name"),
    [
        ("NVIDIA H200", "h200-sxm"),
        ("NVIDIA A100-SXM4-80GB", "a100-80gb-sxm"),
        ("Intel(R) Xeon(R) Platinum 8480+", "xeon-8480"),
        ("AMD EPYC 9654 96-Core Processor", "epyc-9654"),
        ("Intel(R) Xeon(R) Platinum 8380 CPU @ 2.30GHz", "xeon-8380"),
    ],
)
def test_a_device_is_known_by_the_name_that_its_driver_gives(device: str, name: str) -> None:
    assert chip_of("", device).name == name, plain_name(device)


def test_an_unknown_device_is_an_error_that_says_how_to_add_a_chip() -> None:
    with pytest.raises(UnknownNameError, match=r"--chip FILE\.yaml"):
        chip_of("", "Imaginary Accelerator 9000")


def test_every_table_has_a_torch_kernel() -> None:
    assert set(torch_kernels.BUILDERS) == {
        "gemm", "attention_prefill", "attention_decode", "elementwise", "copy", "collectives",
    }  # fmt: skip
