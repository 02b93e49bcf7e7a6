"""docs/accuracy.md: what `ridgeline validate --markdown` writes, numbers from the run and words about what misses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from ridgeline.api.accuracy.accuracy import TARGETS, Accuracy, by_kind, calibrated, refused, share, worst_row
from ridgeline.api.accuracy.validate import Points, lines_apart, lines_of, worst
from ridgeline.core import units
from ridgeline.costs.coefficients import coefficient_file
from ridgeline.costs.validate import Line
from ridgeline.hardware import catalogue
from ridgeline.training.profile import fit_errors

WORST_SHOWN = 12
OTHER_KINDS = ", kind left out"

INTRODUCTION = """# Accuracy

Written by `ridgeline validate --data DIR --markdown docs/accuracy.md`; a test compares a sample of it with a committed
baseline and fails when a median gets worse by more than one percent (absolute). Errors are predicted over measured,
minus 1: **median** and **p90** are of its absolute value, **bias** is its median with the sign (+ is too slow for
times, too fast for rates).

Regimes are never mixed:

- **calibrated**: what `ridgeline predict` answers for a chip that was measured, on shapes that no fit saw (every second
  shape of the tables is kept from all fits, on every chip).
- **physics**: the same rows without the residual tables on top of the physics.
- **datasheet**: all rows of the chip were left out of the fits, so that it contributed nothing but its datasheet. The
  tables hold A100, H100, H200 and L40S only. H100 and H200 are twins, so a Hopper chip left out still has its twin in
  the fit; A100 and L40S are alone in their generation and show what a chip of a new generation may expect. They have a
  column of their own (**alone**).
- **extrapolated**: the chip was measured, but a whole family of shapes was left out of every step of the fit, the
  residual tables included, and is then predicted: other head widths, other experts, the ends of the sizes, another
  number of chips. This is what a model of new widths may expect. The fits are made anew for it
  (`costs/fits/shape_families.yaml` lists the families; `--no-shape-families` saves the minutes that it takes).

Every price carries an interval that should hold eight of ten measurements. **covered** is the share that it held. The
rows that no fit saw are halved again for it: one half sets the widths of the intervals, the other is counted.

The measurements are NVIDIA AIConfigurator's (Apache-2.0), made in hot loops (`weights_cache=hot`), and end-to-end
points and published results collected from public sources.
"""

KERNEL_WORDS = """
Targets are medians. Where **physics** and **calibrated** are equal, the kind has no residual tables.

What misses, and why:

- **p90 is far above the median** for attention and experts. The tails are kernels whose library switches between
  variants at sizes that we do not see (split counts, two-pass decode, untuned tile configurations). Most of the worst
  rows below are such shapes: they cost up to hundreds of times more than their neighbours, on one chip and release.
  At most two rows of a kernel on a chip are listed.
- **datasheet**: the medians over all chips flatter us, since most rows are of the Hopper twins. On a chip that is
  alone in its generation, a kernel's share of the peak and its overheads differ by more than clocks and unit counts
  tell, and the column **alone** says by how much. What was found to carry over, and is in the prices: launches in
  cycles of the clock; starts of decode CTAs in seconds (in cycles, decode was 6 points worse); expert tiles fed at so
  many bytes per clock and unit; passes over rows bound by memory and units together; TensorRT-LLM's grouped decode
  kernel for 8-bit caches as Hopper's alone. What is left is mostly TensorRT-LLM with 8-bit caches on L40S: prompts
  reach 0.12 to 0.16 of the peak with heads of 64 and 256 where Hopper reaches 0.6, ungrouped decode takes twice the
  predicted time, and no fact of the chip tells. Giving L40S the share of the peak that its power limit leaves to
  matrices would take about two points off prompts; it is left out, since by that law attention draws too little power
  to be held back. The terms and a few bounds were chosen, out of about ten variants, with the left-out errors of these
  two chips and the published rates below in view: **alone** is no longer an untouched test, and a third such chip may
  be missed by more.
- **power** is known for one chip (H200), and only long kernels count. Attention misses, and no law of its shape can do
  much: twice the batch at twice the time, the same work per second, reads 12 % more or less in the median and 40 % at
  p90; shapes that differ in nothing but the batch lie at 470 W and at 685 W, and prompts of 16,384 tokens draw 340 W
  where 4,096 draw 570 W at the same FLOP/s. Operand values, which the tables do not record, would explain it: arXiv
  2212.08805 measured up to 67 % between inputs. Exponentials and the bytes that tiles fetch from the last-level cache
  gain nothing within a kind.
- Kernels that only one chip measured cannot be left out of a fit; those rows are missing from **datasheet**, and the
  table of refused rows says how many.
"""

SHAPE_WORDS = """
**same rows** is the median of the whole fit on the same rows: the distance to it is what having measured such shapes
is worth. Intervals come from shapes between measured ones, so that they are too narrow here. A new number of heads,
experts or tokens costs little; a new **head width** costs most, since a kernel's share of the peak at that width is a
number of its own that nothing else tells. Latent attention was measured with the widths of one model and has no family.
"""

SYSTEM_WORDS = """
How these were mapped, and how far to trust them:

- **Serving points**: measured TTFT and TPOT of deployments at a concurrency. Ops are priced as above; a handful of
  numbers per runtime (host time per step and per sequence, memory reserve) were fitted on these same points, so this is
  *not* a held-out figure. TTFT depends on how the load generator starts its requests; each source's own procedure is
  imitated (`procedure`), and where the imitation is off, TTFT is off by far more than TPOT.
- Of the serving points, vLLM on H200 (21 rows, Llama-3.1-8B in fp8) is far off: the measured rates of prompt tokens
  would need more than 80 % of the chips' fp8 peak for the matrices alone. Prompts found in the prefix cache would
  explain that; the rows do not say, and we predict them without it.
- **Published saturated rates**: TensorRT-LLM's published tables, little fitted on them: the format of the cache, how
  ranks share PCIe in deployed servers (a power of 0.4 of the pairs on the bus; the host of the kernel tables is far
  slower and stands for itself alone), and the host time of a pipeline's stages (6 ms and 22 us per sequence, from the
  dense rows) were chosen with them in view. No batch size is given, it follows from memory. Rows that say that
  attention data parallelism is on are priced so, and caches are fp8 beside fp8 and nvfp4 weights, as NVIDIA's
  checkpoints state, where a row does not say. Most rows are within a fifth. Llama 4 in fp8 on Hopper is predicted 1.4
  to 2 times too fast: periods of its ranks are 20 ms longer than the work in them, whatever the batch, and prompts
  compute at half the rate of other mixtures; nothing published tells why. No fp4 kernel was measured on any chip that
  we may fit, so a family of 16-bit or fp8 kernels stands in.
- **Published times of other engines**: llama.cpp, eager Transformers, vLLM before 0.6 and Gaudi have no kernel tables
  of their own; libraries stand in, and what their own code differs in (`own_kernels`, `host_block`, `older` in
  `serving/runtimes/`) was chosen on these rows: a form with few numbers on many chips, not a forecast. For llama.cpp
  one number (bytes per cycle and unit) was set by A100 and H100; the other terms are bytes that its code moves, and
  hold on thirteen more chips. Pipelines of 70B gain less in it than its own of 8B, and than we predict.
- **Training speed**: published tokens/s per chip. Most rows are also what the training coefficients were fitted on;
  read it as how well the form fits, not as a forecast: the tables below leave frameworks and chips out. What recomputes
  is not stated for Megatron, NeMo and AutoModel, and follows from memory. The floor is the spread of one configuration
  over releases of its software: 6 % in the median, 29 % at p90.
- What misses in training: mixtures of experts, whose dispatch and host time changed from release to release (GPT-OSS
  on GB200 is 13 % too fast, Qwen3-235B there 18 % and Qwen3-30B on B300 17 % too slow); AutoModel's mixtures on H100
  (three rows, up to 33 % too slow); DeepSeek-V4 Flash (one row, 37 % too fast: its
  sparse attention and widened residual are priced as kernels that no run of it has told of); two LoRA runs of 70B that
  fit only with recomputation.
- **Vision speed**: images per second of networks that one script timed in PyTorch, on boards at large batches and on
  processors one by one. Factors by kind of op were fitted on the bundled networks among them (7 % in the median on
  networks left out; `vision.yaml` has them by chip). Half of the rows are of networks that are not bundled and are
  described by their totals alone, as a mean network of as much work (15 % on boards, 26 % on processors). Pictures and
  videos from diffusion transformers are predicted without any fit; linear attention (SANA) and Hunyuan-DiT are two
  times too fast, since their float32 passes are not drawn.
"""

TRAINING_WORDS = """
Tokens/s of published runs by fits that saw none of the framework, or of the chip, that a row is of: what a new stack or
chip may expect. **after three runs** is the same once one scalar was set (`rl.calibrate_training`) from three other
configurations of the framework or chip, drawn at random. It takes the bias away, and adds the scatter of three runs:
worth it for a stack that is slower throughout, less where one framework trains mixtures and dense models alike.
"""

ENERGY_WORDS = """
Runs of vLLM that ML.ENERGY measured (v3: H100 and B200, 1 to 8 chips, dense models, experts and multimodal ones); board
power alone. At the measured timing, so that only power is judged, **calibrated** predicts each run from the law and the
other measured runs of its chip (target: 5 %), **extrapolated** from a law and runs that saw no run of that model,
though of its siblings (target: 9 %). Energy per token comes from our own timing, by the law alone (target: 15 %); two
host times of that benchmark's server (`procedure: ml-energy`) were chosen by these very energies, so it is a fit of two
numbers to 291, not a forecast.

- What the law needs: joules per byte that are equal on both generations (a share of TDP per share of bandwidth is not:
  it costs a point); shares of the bf16 peak; and, for experts with 8-bit block-scaled weights, whole tiles of 128 rows
  however few tokens an expert has, without which they are predicted 20 to 60 % too low. Time in collectives, prompts as
  a share of the time, and activations gained nothing.
- Prompts are not published; the lengths that were assumed stand in `costs/fits/energy_runs.yaml`. Encoders of images
  and videos and the preprocessing on hosts are not modelled: multimodal runs have the largest errors.
- Diffusion runs (xDiT, images and videos, 1 to 8 chips) are predicted at their measured timing by the same law, from
  their operations alone; it was fitted on no such run. A constant share of TDP is off by 11 % in the median and 50 % at
  p90. What misses is one image on eight chips, which wait for each other more than the law thinks.
- Rows of reasoning runs on B200 that run up to seven times slower than chat of the same model are marked suspect by the
  data set and stand apart.
"""


def markdown_page(accuracy: Accuracy) -> str:
    """The whole page. It names no path of the machine that it was written on."""
    parts = [INTRODUCTION, "## Kernels\n", _targets(accuracy), KERNEL_WORDS]
    if any(points.kind == "power" for points in accuracy.kernels):
        parts.append(_power_of_other_kinds())
    parts += ["### By chip\n", _lines(lines_of(accuracy.kernels, ("chip",)), ("chip",))]
    if accuracy.left_out:
        parts += ["### Shapes left out of the fit\n", _left_out(accuracy), SHAPE_WORDS]
    parts += ["### By measured duration\n", _lines(lines_of(accuracy.kernels, ("size",)), ("size",))]
    parts += ["### By format\n", _lines(_calibrated_only(accuracy), ("dtype",))]
    apart = lines_apart(accuracy.kernels)
    if apart:
        parts += ["### Kept apart\n", _apart(apart)]
    if rows := refused(accuracy.kernels):
        parts += ["### Refused\n", _refused(rows)]
    parts += [f"### The {WORST_SHOWN} rows that are furthest off\n", _worst(accuracy)]
    if accuracy.systems:
        parts += ["## Whole systems\n", _lines(lines_of(accuracy.systems), ()), SYSTEM_WORDS]
        chosen = ("chip", "runtime")
        parts += ["### By chip and runtime\n", _lines(lines_of(accuracy.systems, chosen), chosen)]
        parts += ["### Training: frameworks and chips left out\n", _training_left_out(), TRAINING_WORDS]
        if rows := refused(accuracy.systems):
            parts += ["### Refused\n", _refused(rows)]
    if accuracy.energy:
        parts += ["## Power and energy of serving\n", _lines(lines_of(accuracy.energy), ()), ENERGY_WORDS]
        parts += [
            "### By chip and model kind\n",
            _lines(lines_of(accuracy.energy, ("chip", "dtype")), ("chip", "dtype")),
        ]
        parts += ["### By task\n", _lines(lines_of(accuracy.energy, ("size",)), ("size",))]
    return "\n".join(parts).rstrip() + "\n"


def _power_of_other_kinds() -> str:
    """How far power laws carry: what one fitted on all other kinds of kernel says of a kind, as the fit wrote it."""
    scores = coefficient_file("power")["provenance"]["errors"]
    words = [
        f"{label.removesuffix(OTHER_KINDS).partition(' ')[2]} {found['median_pct']:.0f} %"
        for label, found in scores.items()
        if label.endswith(OTHER_KINDS)
    ]
    return f"""Power of a chip that was never measured has no figure, since only one chip was. What can be tested is how
far coefficients in units of TDP carry to a kind of kernel that was left out of the fit. Median errors:
{", ".join(words)}.
An experiment with the bytes that tiles fetch from the last-level cache as a further term brought that to 0.4 % for
matrices, 18 % for attention and 17 % for experts; prices do not count those bytes yet.
"""


def _calibrated_only(accuracy: Accuracy) -> list[Line]:
    return lines_of([each for each in accuracy.kernels if each.regime == "calibrated"], ("dtype",))


def _targets(accuracy: Accuracy) -> str:
    head = ["kind", "rows", "calibrated", "target", "p90", "physics", "extrapolated"]
    head += ["datasheet", "target", "p90", "alone"]
    lonely = {line.kind: line for line in lines_of(_alone(accuracy.kernels))}
    rows = []
    for kind, regimes in by_kind(lines_of(accuracy.kernels)).items():
        known, guessed = TARGETS[kind]
        mine, physics, datasheet, beyond = (
            regimes.get(name) for name in ("calibrated", "physics", "datasheet", "extrapolated")
        )
        rows.append(
            [
                kind,
                f"{mine.count:,}" if mine else "-",
                _met(mine, known),
                f"<= {known:.0%}",
                f"{mine.p90:.1%}" if mine else "-",
                f"{physics.median:.1%}" if physics else "-",
                f"{beyond.median:.1%}" if beyond else "-",
                _met(datasheet, guessed),
                f"<= {guessed:.0%}",
                f"{datasheet.p90:.1%}" if datasheet else "-",
                _met(lonely.get(kind), guessed),
            ]
        )
    return _table(head, rows, numbers=10)


def _alone(kernels: Sequence[Points]) -> list[Points]:
    """The regime `datasheet` on chips that are the only measured ones of their generation."""
    chips = sorted({str(chip) for points in kernels for chip in points.labels["chip"]})
    generation = {chip: catalogue.chip(chip).generation for chip in chips}
    others = Counter(generation.values())
    lonely = [chip for chip in chips if others[generation[chip]] == 1]
    return [points.rows(np.isin(points.labels["chip"], lonely)) for points in kernels if points.regime == "datasheet"]


def _met(line: Line | None, target: float) -> str:
    if line is None:
        return "not measured"
    return f"{line.median:.1%}" if line.median <= target else f"**{line.median:.1%}**, missed"


def _lines(lines: Sequence[Line], by: Sequence[str]) -> str:
    covered = any(line.covered is not None for line in lines)
    rows = [
        [
            line.kind,
            line.regime,
            *(getattr(line, name) or "-" for name in by),
            f"{line.count:,}",
            f"{line.median:.1%}",
            f"{line.p90:.1%}",
            f"{line.bias:+.1%}",
            *([share(line.covered)] * covered),
        ]
        for line in lines
    ]
    numbers = ["rows", "median", "p90", "bias", *(["covered"] * covered)]
    return _table(["kind", "regime", *by, *numbers], rows, numbers=len(numbers))


def _left_out(accuracy: Accuracy) -> str:
    rows = [
        [
            line.kind,
            line.shapes,
            f"{line.count:,}",
            f"{line.median:.1%}",
            f"{line.p90:.1%}",
            f"{line.bias:+.1%}",
            share(line.covered),
            "-" if line.known is None else f"{line.known:.1%}",
        ]
        for line in lines_of(accuracy.left_out, ("shapes",))
    ]
    return _table(["kind", "shapes", "rows", "median", "p90", "bias", "covered", "same rows"], rows, numbers=6)


def _apart(lines: Sequence[tuple[str, Line]]) -> str:
    rows = [
        [reason, line.kind, line.regime, f"{line.count:,}", f"{line.median:.1%}", f"{line.p90:.1%}"]
        for reason, line in lines
    ]
    return _table(["why", "kind", "regime", "rows", "median", "p90"], rows, numbers=3)


def _training_left_out() -> str:
    """What the fit of the training coefficients wrote down of groups that it left out."""
    errors = fit_errors()
    rows = []
    for what in ("framework", "chip"):
        left_out, scaled = errors.get(f"left_out_{what}", {}), errors.get(f"left_out_{what}_after_three_runs", {})
        for name, found in left_out.items():
            after = scaled.get(name)
            shown = [f"{found['n']:,}", *(f"{found[key] / 100:.1%}" for key in ("median", "p90"))]
            told = [f"{after['median'] / 100:.1%}", f"{after['p90'] / 100:.1%}"] if after else ["-", "-"]
            rows.append([what, name, *shown, f"{found['bias'] / 100:+.1%}", *told])
    head = ["left out", "", "rows", "median", "p90", "bias", "after three runs", "p90"]
    return _table(head, rows, numbers=6)


def _refused(rows: Sequence[dict[str, object]]) -> str:
    cells = [[str(row["kind"]), str(row["regime"]), f"{row['rows']:,}", str(row["mostly"])] for row in rows]
    return _table(["kind", "regime", "rows", "mostly because"], cells, numbers=0)


def _worst(accuracy: Accuracy) -> str:
    rows = []
    for points, row in worst(calibrated(accuracy.kernels), WORST_SHOWN):
        told = worst_row(points, row)
        times = [units.duration(told["measured"]), units.duration(told["predicted"])]
        where = f"{told['chip']}, {told['runtime']} {told['version']}"
        rows.append([told["kind"], where, told["dtype"], told["case"], *times, told["bound"], told["kernel"]])
    return _table(["kind", "where", "format", "case", "measured", "predicted", "bound", "kernel"], rows, numbers=0)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: int) -> str:
    """A table whose last `numbers` columns are flush right."""
    marks = ["---"] * (len(head) - numbers) + ["---:"] * numbers
    lines = [head, marks, *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"
