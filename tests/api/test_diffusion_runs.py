"""Power of diffusion runs: operations by hand, runs made by the law itself, and the measured ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ridgeline.api.accuracy.diffusion_runs import KIND, diffusion_points, item_flops
from ridgeline.costs.serving_power import ServingLoad, serving_power_w
from ridgeline.hardware import catalogue
from ridgeline.hardware.chip import ChipColumns

HEAD = "case_id,group,version,engine,task,model,gpu,n_gpus,batch,metric,value,notes"
MEDIAN, P90 = 0.08, 0.25
"""Bars of a law that saw no diffusion run; a constant share of TDP is 0.11 and 0.50 off."""


WAN = "Wan-AI/Wan2.1-T2V-1.3B-Diffusers"


def test_operations_of_a_video_are_those_by_hand() -> None:
    """Weights on every token and attention among them; text, patches and the decoder are the rest."""
    tokens = 21 * 52 * 30
    by_hand = 50 * 2 * (2 * 1.3e9 * tokens + 4 * tokens**2 * 1536 * 30)
    assert by_hand < item_flops(WAN) < 1.1 * by_hand


def test_a_run_that_the_law_made_is_given_back(tmp_path: Path) -> None:
    seconds, chips = 40.0, 2
    load = ServingLoad(
        weight_bytes_per_s=0.0, kv_bytes_per_s=0.0, flops_per_s=item_flops(WAN) / seconds / chips, chips=2.0
    )
    watts = float(serving_power_w(load, ChipColumns((catalogue.chip("h100-sxm"),)), measured=False))
    notes = "GPU energy only (Zeus); 50 steps; 832x480; 81 frames; ulysses=1 ring=2; params=1.3B"
    start = "g1,ML.ENERGY v3 (2025-12),xDiT,text-to-video"
    named = f"{start},{WAN},H100-SXM-80GB,{chips},4"
    other = f"{start},somebody/else,H100-SXM-80GB,1,4"
    rows = [f"a,{named},W,{watts * chips},{notes}", f"b,{named},J/video,{watts * chips * seconds},{notes}"]
    rows += [f"c,{other},W,500,{notes}x", f"d,{other},J/video,5000,{notes}x"]
    path = tmp_path / "energy.csv"
    path.write_text("\n".join([HEAD, *rows, ""]), encoding="utf-8")
    points = diffusion_points(path)
    assert points is not None
    assert points.kind == KIND
    np.testing.assert_allclose(points.predicted, points.measured, rtol=1e-6)
    path.write_text("\n".join([HEAD, *rows[2:], ""]), encoding="utf-8")
    assert diffusion_points(path) is None


@pytest.mark.shared_data
def test_the_law_of_serving_meets_runs_of_images_and_videos_that_it_never_saw(shared_data: Path) -> None:
    points = diffusion_points(shared_data / "published" / "energy.csv")
    assert points is not None
    error = np.abs(points.error)
    assert error.size > 300
    assert np.median(error) < MEDIAN
    assert np.quantile(error, 0.9) < P90
