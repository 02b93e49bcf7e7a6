"""Training of the learned residual (`costs.learned`) on measured GEMMs, and its few-shot adaptation to a new chip.

Trees are fitted to the log of measured over priced time, on rows of the fitting half whose time the device set. They
belong to the price that they were trained on: by default the one that ridgeline gives, residual tables included.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.errors import MissingExtraError
from ridgeline.costs.fits.common import is_fit_half, sampled
from ridgeline.costs.fits.gemm_cells import Cell, cells, matmul
from ridgeline.costs.gemm import price_matmul
from ridgeline.costs.learned import LIMIT, Learned, adapt, features
from ridgeline.costs.measurements import Measurements, need_rows
from ridgeline.costs.price import Price
from ridgeline.hardware import catalogue
from ridgeline.hardware.chip import ChipColumns

ROWS = 1000
"""Rows per chip by default: the same ones every time."""
LEAST_ROWS = 50
"""Fewer rows are for `few_shot`."""
TREES, DEPTH, RATE = 150, 4, 0.06
LEAF_ROWS, LEAF_SHARE = 20, 0.01
"""Small trees, many of them, slowly: a thousand rows bear no more."""
HOST_SHARE = 0.5
"""Rows of whose priced time the host makes more than this share say nothing about the chip."""

Array = NDArray[np.float64]
Pricer = Callable[[Cell], Price]


class Sample(NamedTuple):
    """Feature rows and the log of measured over priced time."""

    rows: Array
    log_ratio: Array


def bundled_price(cell: Cell) -> Price:
    """What ridgeline says of a cell's rows."""
    return price_matmul(matmul(cell.rows, cell.scheme), ChipColumns((cell.chip,)), cell.setting)


def train(table: Measurements, *chips: str, rows: int = ROWS, price: Pricer = bundled_price) -> Learned:
    """Trees on at most `rows` rows of each chip.

    Args:
        table: measured GEMMs, as `measurements.read` gives them.
        chips: names of the catalogue.
        rows: most rows per chip, spread over its formats and runtimes.
        price: what prices a cell; `Learned.factor` is for prices of this kind.
    Raises:
        MissingExtraError: scikit-learn is not installed.
        SpecError: no kernels of these chips that the device bound, or fewer than LEAST_ROWS.
    """
    parts = [_sample(_limited(of_chip(table, chip), rows), price) for chip in chips]
    data = Sample(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
    need_rows(table.rows(np.arange(len(data.log_ratio))), LEAST_ROWS, "trees")
    return as_arrays(boosted(data))


def few_shot(learned: Learned, table: Measurements, chip: str, *, price: Pricer = bundled_price) -> Learned:
    """`learned` moved to a chip that it was not trained on, by all rows of that chip in `table` (10 or more).

    Raises: SpecError: too few rows.
    """
    data = _sample(of_chip(table, chip), price)
    return adapt(learned, data.rows, data.log_ratio)


def of_chip(table: Measurements, chip: str) -> Measurements:
    """The rows of one chip, under whatever name the table gives it."""
    name = catalogue.chip(chip, at="chip").name
    labels, which = np.unique(table.label("chip"), return_inverse=True)
    return table.rows(np.array([catalogue.chip(label, at="chip").name == name for label in labels], bool)[which])


def boosted(data: Sample) -> Any:
    """The scikit-learn model. Raises MissingExtraError: scikit-learn is not installed."""
    try:
        from sklearn.ensemble import GradientBoostingRegressor
    except ImportError as error:
        raise MissingExtraError(
            "training trees needs scikit-learn", at="learned", fix="pip install ridgeline[learn]"
        ) from error
    model = GradientBoostingRegressor(
        loss="huber",
        init="zero",
        n_estimators=TREES,
        max_depth=DEPTH,
        learning_rate=RATE,
        min_samples_leaf=max(LEAF_ROWS, round(LEAF_SHARE * len(data.rows))),
        subsample=0.6,
        random_state=0,
    )
    return model.fit(data.rows, data.log_ratio)


def as_arrays(model: Any) -> Learned:
    """A fitted model's trees as our arrays, the learning rate folded into the leaves."""
    trees = [row[0].tree_ for row in model.estimators_]
    roots = np.concatenate([[0], np.cumsum([tree.node_count for tree in trees])[:-1]]).astype(np.int32)
    leaves = [tree.children_left < 0 for tree in trees]

    def children(side: str) -> NDArray[np.int32]:
        moved = [
            np.where(leaf, -1, getattr(tree, side) + root)
            for tree, leaf, root in zip(trees, leaves, roots, strict=True)
        ]
        return np.concatenate(moved).astype(np.int32)

    leaf = np.concatenate(leaves)
    return Learned(
        roots=roots,
        feature=np.where(leaf, -1, np.concatenate([tree.feature for tree in trees])).astype(np.int16),
        threshold=np.where(leaf, 0.0, np.concatenate([tree.threshold for tree in trees])),
        left=children("children_left"),
        right=children("children_right"),
        value=model.learning_rate * np.where(leaf, np.concatenate([tree.value[:, 0, 0] for tree in trees]), 0.0),
    )


def _limited(table: Measurements, rows: int) -> Measurements:
    """At most `rows` rows of the fitting half."""
    sizes = [table.size(name) for name in ("m", "n", "k")]
    return table.rows(sampled(is_fit_half(*sizes), rows, *sizes, table.time_s))


def _sample(table: Measurements, price: Pricer) -> Sample:
    found: Sequence[Cell] = [cell for cell in cells(table) if not cell.sustained]
    parts = [sample_of(cell, price(cell)) for cell in found]
    if not parts:
        need_rows(table.rows(np.zeros(len(table), bool)), 1, "trees")
    return Sample(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def sample_of(cell: Cell, price: Price) -> Sample:
    """Features and log ratio of the rows of a cell that the device bound."""
    time_s = np.broadcast_to(np.asarray(price.time_s, float), cell.rows.time_s.shape)
    device = np.broadcast_to(np.asarray(price.terms.get("host", 0.0)) < HOST_SHARE * time_s, time_s.shape)
    log_ratio = np.clip(np.log(cell.rows.time_s / time_s), -LIMIT, LIMIT)
    return Sample(features(matmul(cell.rows, cell.scheme), price)[device], log_ratio[device])
