"""Calibrations of one's own join the bundled ones when the environment names their files."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ridgeline.costs.coefficients import OWN_CALIBRATIONS, merged

CASE = ("predict", "ops", "--kind", "gemm", "--chip", "b200-sxm", "--m", "8192", "--n", "8192", "--k", "8192", "--json")


def run(calibrations: str) -> subprocess.CompletedProcess[str]:
    code = "import sys; from ridgeline.apps.cli import main; main(sys.argv[1:])"
    environment = {**os.environ, OWN_CALIBRATIONS: calibrations}
    return subprocess.run([sys.executable, "-c", code, *CASE], env=environment, capture_output=True, text=True)


def write(path: Path, kernel: str = "cublas") -> Path:
    """A calibration of b200-sxm with the numbers of h100-sxm and half the share of peak."""
    numbers = dict(merged("gemm", "cublas", "h100-sxm", "hopper"))
    numbers["compute_share"] /= 2.0
    lines = [f"      {name}: {value!r}" for name, value in numbers.items()]
    path.write_text("\n".join(["kind: gemm", "kernels:", f"  {kernel}:", "    chips:", "     b200-sxm:", *lines, ""]))
    return path


def test_a_chip_that_one_measured_is_calibrated(tmp_path: Path) -> None:
    bundled = json.loads(run("").stdout)["results"]
    own = json.loads(run(str(write(tmp_path / "b200.yaml"))).stdout)["results"]
    assert (bundled["regime"], own["regime"]) == ("datasheet", "calibrated")
    assert own["time_s"] > bundled["time_s"]


@pytest.mark.parametrize(("kernel", "words"), [("cublass", "unknown kernel 'cublass'"), ("", "b200.yaml")])
def test_a_calibration_that_cannot_be_read_is_refused(tmp_path: Path, kernel: str, words: str) -> None:
    path = tmp_path / "b200.yaml"
    if kernel:
        write(path, kernel)
    result = run(str(path))
    assert result.returncode == 2
    assert words in result.stderr
    assert "Traceback" not in result.stderr


def test_a_coefficient_of_another_version_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "b200.yaml")
    path.write_text(path.read_text().replace("compute_share:", "compute_shares:"))
    result = run(str(path))
    assert result.returncode == 2
    assert "compute_shares" in result.stderr
    assert "calibrate again" in result.stderr
