"""``python -m interlock.inference.export``: a graph of a model, where it is proven to answer the same, and faster.

Writes a report: ``is_exported``, ``because``, and how it was proven. With ``is_exported`` the folder ``--out`` holds
``model.onnx`` beside the ``original``. Exit code 0 either way; 2 wrong arguments; 3 these are not the admitted bytes.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from ..formats import load
from ..formats.estimators import Estimator
from ..inputs import Batch, Column, InvalidRequest, Signature
from ..model import DigestDiffers, Model, Unloadable, copy_checked, digest_of
from .boundaries import find_splits
from .converting import convert
from .graph import NotExportable
from .proving import BASES, TOLERANCE, Proof, Table, find_limits, made_rows, prove, rows_of
from .tables import join_golden, read_holdout

ASKED_ALONE = 200
"""Single rows that both are timed with, in turn."""
PACKAGES = ("scikit-learn", "numpy", "onnx", "onnxruntime")


def main(arguments: list[str]) -> int:
    """Exports, or tells why not."""
    options = _read_arguments(arguments)
    try:
        with copy_checked(options.model, options.digest) as copy:
            report = _export(copy, options)
    except DigestDiffers as fault:
        sys.stderr.write(f"interlock.inference.export: {fault}\n")
        return 3
    options.report.write_bytes(orjson.dumps(report))
    return 0


def _export(copy: Path, options: argparse.Namespace) -> dict[str, Any]:
    try:
        model = load(copy, options.format)
        if not isinstance(model, Estimator):
            raise NotExportable("it is no estimator of scikit-learn")
        signature, batches = _read_golden(options.golden)
        columns = [column for column in signature.columns.values() if _is_used(model.estimator, column)]
        golden = {column.name: join_golden(batches)[column.name] for column in columns}
        holdout = read_holdout(options.holdout, columns) if options.holdout else None
        base = _spread(holdout or golden)
        content = convert(model.estimator, columns, find_limits(model, _spread(golden, 1), columns))
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "model.onnx").write_bytes(content)
        exported = load(options.out / "model.onnx", "onnx")
        proof = prove(model, exported, _all_rows(golden, holdout, base, columns, find_splits(model.estimator, columns)))
        return _judge(copy, options.out, proof, _time(model, exported, golden), holdout)
    except (NotExportable, Unloadable, InvalidRequest) as reason:
        (options.out / "model.onnx").unlink(missing_ok=True)
        return {"is_exported": False, "because": f"no ONNX is made of it: {reason}"}


def _judge(copy: Path, out: Path, proof: Proof, seconds: tuple[float, float], holdout: Table | None) -> dict[str, Any]:
    before, after = seconds
    if proof.because is not None:
        raise NotExportable(f"as ONNX it would not answer the same: {proof.because}")
    if after >= before:
        raise NotExportable(f"as ONNX it is not faster ({after * 1e6:.0f} us a row, not {before * 1e6:.0f})")
    if copy.is_dir():
        shutil.copytree(copy, out / "original")
    else:
        (out / "original").mkdir()
        shutil.copyfile(copy, out / "original" / copy.name)
    return {
        "is_exported": True,
        "digest": digest_of(out),
        "because": f"as ONNX it gives the same answers to {proof.rows} rows, {before / after:.1f} times as fast",
        "rows": proof.rows,
        "holdout_rows": rows_of(holdout) if holdout else 0,
        "largest_difference": proof.largest,
        "tolerance": TOLERANCE,
        "microseconds_a_row": {"original": before * 1e6, "exported": after * 1e6},
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
    }


def _is_used(estimator: Any, column: Column) -> bool:
    names = getattr(estimator, "feature_names_in_", None)
    return names is None or column.name in names


def _read_golden(path: Path | None) -> tuple[Signature, list[Batch]]:
    if path is None:
        raise NotExportable("without golden requests the types of its inputs are not known")
    requests = orjson.loads(path.read_bytes())["requests"]
    signature = Signature.from_golden(requests)
    return signature, [signature.read(request) for request in requests]


def _spread(table: Table, rows: int = BASES) -> Table:
    """Some rows, evenly chosen."""
    chosen = np.unique(np.linspace(0, rows_of(table) - 1, rows).astype(int))
    return {name: array[chosen] for name, array in table.items()}


def _all_rows(golden: Table, holdout: Table | None, base: Table, columns: list[Column], splits: Any) -> Iterator[Table]:
    yield golden
    yield from made_rows(base, columns, splits)
    if holdout is not None:
        yield holdout


def _time(original: Model, exported: Model, golden: Table) -> tuple[float, float]:
    """Seconds of one row, medians of both asked in turn."""
    took: tuple[list[float], list[float]] = ([], [])
    for number in range(ASKED_ALONE):
        row = number % rows_of(golden)
        batch = Batch(1, {name: array[row : row + 1] for name, array in golden.items()}, None)
        for model, seconds in zip((original, exported), took, strict=True):
            began = time.perf_counter()
            model.answer(batch)
            seconds.append(time.perf_counter() - began)
    return float(np.median(took[0])), float(np.median(took[1]))


def _read_arguments(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="interlock.inference.export", description="Exports a model to ONNX.")
    parser.add_argument("--model", required=True, type=Path, help="the model's file or folder")
    parser.add_argument("--digest", required=True, help="the digest that --model must have")
    parser.add_argument("--format", required=True, help="how it was saved")
    parser.add_argument("--golden", type=Path, help="golden requests: the signature, and the first rows")
    parser.add_argument("--holdout", type=Path, help="a table of rows that both must answer alike")
    parser.add_argument("--out", required=True, type=Path, help="folder for the exported model")
    parser.add_argument("--report", required=True, type=Path, help="file for the report, as JSON")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
