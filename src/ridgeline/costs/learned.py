"""The optional learned residual: boosted trees over an op's sizes and the terms of its price, as plain arrays.

Off unless a caller asks for it: no room reads it, and what it gives is a factor on a price, reported beside the price.
`fits.learned` trains it (scikit-learn, extra `learn`); here numpy evaluates it and reads and writes its `.npz` file,
whose strings and numbers are checked and never run.

Sources: random forest on GEMM features, literature n=90; few measurements of a new chip, literature n=2.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.errors import FileFormatError, SpecError
from ridgeline.core.files import write_atomic
from ridgeline.costs.price import Price
from ridgeline.workloads.ops import Matmul

Array = NDArray[np.float64]

DIMS = ("m", "n", "k", "batch")
TERMS = ("compute", "memory", "l2", "dequantise", "launch", "split_k", "quantise", "host")
DETAIL = ("tile_m", "tile_n", "splits", "waves")
FEATURES = (
    *(f"log2 {name}" for name in DIMS),
    "weight bits",
    "activation bits",
    "log2 time_s",
    "log2 time/floor",
    *(f"{name}/time" for name in TERMS),
    *(f"log2 {name}" for name in DETAIL),
)
"""What the trees see, in this order. Files name their features; other names or another order are refused."""
LIMIT = 0.7
"""Largest log of the factor: 2 either way, as far as one measurement moves a residual table."""
SMALLEST = 1e-12
"""Stands for zero under a logarithm."""
CHUNK_ROWS = 2048
"""Rows evaluated at a time: one node per row and tree is held."""
MAX_BYTES = 2**26
MAX_NODES, MAX_TREES = 2**20, 2**13

FEW_SHOT_ROWS = 10
"""Measurements of a chip from which `adapt` takes a scale."""
OFFSET_SPREAD, SHARE_SPREAD, NOISE = 0.05, 0.3, 0.2
"""How far a new chip's log scale lies from 0 and its share of the trees from `SHARE`, and one measurement's error: the
weights by which ten measurements move either (chosen on the fitting half, each chip left out in turn)."""
SHARE = 0.5
"""Share of the trees' log factor believed on a chip that they never saw."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """Trees one after another in node arrays; log of measured over priced time = offset + share * sum over trees.

    Attributes:
        roots: index of each tree's first node, ascending from 0.
        feature: column of FEATURES that a node splits on; -1 in leaves.
        threshold: rows whose feature (as float32) is <= this go left.
        left, right: children, always later in the same tree; -1 in leaves.
        value: what a leaf adds.
        offset, share: 0 and 1 on the chips of the training rows; `adapt` moves them for another.
    """

    roots: NDArray[np.int32]
    feature: NDArray[np.int16]
    threshold: Array
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    value: Array
    offset: float = 0.0
    share: float = 1.0

    def factor(self, op: Matmul, price: Price) -> Array:
        """What to multiply `price.time_s` by: within a factor of 2, and never to below the hardware floor.

        Raises: SpecError: an op other than a matmul.
        """
        time_s, floor_s = np.asarray(price.time_s, float), np.asarray(price.floor_s, float)
        shape = np.broadcast_shapes(time_s.shape, *(np.shape(getattr(op, name, 0.0)) for name in DIMS))
        raw = np.exp(np.clip(self.log_factor(features(op, price)), -LIMIT, LIMIT)).reshape(shape)
        lowest = np.divide(floor_s, time_s, out=np.zeros(np.broadcast(floor_s, time_s).shape), where=time_s > 0)
        result: Array = np.where(time_s > 0, np.maximum(raw, np.minimum(lowest, 1.0)), 1.0)
        return result

    def log_factor(self, rows: Array) -> Array:
        """Log of the factor for feature rows [row, feature], before limits."""
        return self.offset + self.share * self.trees(rows)

    def trees(self, rows: Array) -> Array:
        """The sum of the trees, per feature row."""
        cast = rows.astype(np.float32)
        parts = [self._walk(cast[start : start + CHUNK_ROWS]) for start in range(0, len(cast), CHUNK_ROWS)]
        return np.concatenate(parts) if parts else np.zeros(0)

    def _walk(self, rows: NDArray[np.float32]) -> Array:
        place = np.broadcast_to(self.roots.astype(np.intp), (len(rows), len(self.roots))).copy()
        number = np.arange(len(rows))[:, None]
        while True:
            column = self.feature[place]
            inner = column >= 0
            if not np.any(inner):
                total: Array = self.value[place].sum(axis=1)
                return total
            below = rows[number, column] <= self.threshold[place]
            place = np.where(inner, np.where(below, self.left[place], self.right[place]), place)

    def save(self, path: Path) -> None:
        """Write the arrays as `.npz`; the same trees give the same bytes. Raises FileFormatError."""
        arrays = {f.name: np.asarray(getattr(self, f.name)) for f in fields(self)}
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, names=np.array(FEATURES), **arrays)
        write_atomic(path, buffer.getvalue())


def features(op: Matmul, price: Price) -> Array:
    """[row, feature] in the order of FEATURES; dims and prices broadcast, then ravel."""
    if not isinstance(op, Matmul):
        raise SpecError(
            "the learned residual knows matmuls only", at=op.name, got=type(op).__name__, fix="leave it off"
        )
    time_s = np.maximum(np.asarray(price.time_s, float), SMALLEST)
    columns = [
        *(_log2(getattr(op, name)) for name in DIMS),
        op.scheme.weight.bits,
        op.scheme.activation.bits,
        _log2(time_s),
        _log2(time_s / np.maximum(price.floor_s, SMALLEST)),
        *(np.asarray(price.terms.get(name, 0.0)) / time_s for name in TERMS),
        *(_log2(price.detail.get(name, 0.0)) for name in DETAIL),
    ]
    stacked: Array = np.stack(np.broadcast_arrays(*columns), axis=-1).reshape(-1, len(FEATURES))
    return stacked


def adapt(learned: Learned, rows: Array, log_ratio: Array) -> Learned:
    """The trees for a chip that they never saw: a scale, and how much of them to believe, from a few measurements.

    Ridge regression of `log_ratio` (measured over priced, per feature row) on the trees' sum, pulled to no scale and to
    SHARE, so that ten measurements that say nothing change little.

    Raises: SpecError: fewer than FEW_SHOT_ROWS rows.
    """
    if len(log_ratio) < FEW_SHOT_ROWS:
        raise SpecError(
            "too few measurements of the new chip", at="few_shot", got=len(log_ratio), fix=f"give {FEW_SHOT_ROWS} rows"
        )
    base = learned.trees(rows)
    left = np.clip(log_ratio, -LIMIT, LIMIT) - SHARE * base
    design = np.stack([np.ones_like(base), base], axis=1)
    pull = np.diag([(NOISE / OFFSET_SPREAD) ** 2, (NOISE / SHARE_SPREAD) ** 2])
    offset, more = np.linalg.solve(design.T @ design + pull, design.T @ left)
    return replace(learned, offset=float(offset), share=float(np.clip(SHARE + more, 0.0, 1.0)))


def load(path: Path) -> Learned:
    """Read trees that `save` wrote. Raises FileFormatError for every file that is not such trees."""
    try:
        size = path.stat().st_size
        content = path.read_bytes() if size <= MAX_BYTES else b""
        if size > MAX_BYTES:
            raise _refused(path, "the file is too large", f"{size} bytes")
        arrays = _arrays(path, content)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise _refused(path, "not a file of trees", str(error).splitlines()[0] if str(error) else "") from error
    except (NotImplementedError, RuntimeError, MemoryError, SyntaxError) as error:
        raise _refused(path, "not a file of trees", type(error).__name__) from error
    return _checked(path, arrays)


def _arrays(path: Path, content: bytes) -> dict[str, NDArray[np.generic]]:
    wanted = {"names", *(f.name for f in fields(Learned))}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = archive.infolist()
        if {m.filename for m in members} != {f"{name}.npy" for name in wanted} or len(members) != len(wanted):
            raise _refused(path, "not the arrays of trees", sorted(m.filename for m in members)[:12])
        if sum(m.file_size for m in members) > MAX_BYTES:
            raise _refused(path, "the arrays are too large", f"over {MAX_BYTES} bytes")
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        return {name: file[name] for name in wanted}


def _checked(path: Path, arrays: dict[str, NDArray[np.generic]]) -> Learned:
    """Types, lengths, finite numbers, and children that come later in their tree: so that every walk ends."""
    if arrays["names"].dtype.kind != "U" or arrays.pop("names").tolist() != list(FEATURES):
        raise _refused(path, "trees over other features", "other names")
    kinds = dict.fromkeys(("roots", "feature", "left", "right"), "i") | dict.fromkeys(("offset", "share"), "f0")
    for name, array in arrays.items():
        kind = kinds.get(name, "f")
        if array.dtype.kind != kind[0] or array.ndim != (0 if kind == "f0" else 1):
            raise _refused(path, f"{name} has the wrong type or shape", f"{array.dtype} {array.shape}")
        if not np.all(np.isfinite(array.astype(np.float64))):
            raise _refused(path, f"{name} must be finite", "NaN or infinity")
    roots, feature, left, right = (arrays[name].astype(np.int64) for name in ("roots", "feature", "left", "right"))
    count = feature.size
    sizes = {arrays[name].size for name in ("feature", "threshold", "left", "right", "value")}
    if sizes != {count} or not 0 < count <= MAX_NODES or not 0 < roots.size <= MAX_TREES:
        raise _refused(path, "node arrays differ in length, or there are too many", sorted(sizes))
    if roots[0] != 0 or np.any(np.diff(roots) <= 0) or roots[-1] >= count:
        raise _refused(path, "roots must ascend from 0", roots[:8].tolist())
    node, inner = np.arange(count), feature >= 0
    end = np.append(roots[1:], count)[np.searchsorted(roots, node, side="right") - 1]
    linked = (left > node) & (right > node) & (left < end) & (right < end) & (feature < len(FEATURES))
    if not np.all(np.where(inner, linked, (feature == -1) & (left == -1) & (right == -1))):
        raise _refused(path, "a node leads outside its tree or back", int(np.count_nonzero(inner & ~linked)))
    return Learned(
        roots=roots.astype(np.int32),
        feature=feature.astype(np.int16),
        threshold=arrays["threshold"].astype(np.float64),
        left=left.astype(np.int32),
        right=right.astype(np.int32),
        value=arrays["value"].astype(np.float64),
        offset=float(arrays["offset"].astype(np.float64)),
        share=float(arrays["share"].astype(np.float64)),
    )


def _refused(path: Path, what: str, got: object) -> FileFormatError:
    return FileFormatError(
        what, at=str(path), got=got, fix="train again and save, or take the file from its author anew"
    )


def _log2(value: object) -> Array:
    result: Array = np.log2(np.maximum(np.asarray(value, float), SMALLEST))
    return result


__all__ = ["FEATURES", "FEW_SHOT_ROWS", "Learned", "adapt", "features", "load"]
