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
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from ..formats import load
from ..golden import GoldenWrong, read_golden, signature_of
from ..inputs import Batch, Column, InvalidRequest, Signature
from ..model import DigestDiffers, Model, Unloadable, copy_checked, digest_of
from ..nodes.graph import NotExportable
from .boundaries import find_splits
from .converting import convert, source_of, used_columns
from .proving import BASES, TOLERANCE, Proof, Table, find_limits, made_rows, prove, rows_of
from .tables import join_golden, read_holdout

ASKED_ALONE, ASKED_TOGETHER, MANY = 200, 50, 64
"""Requests of a single row that both are timed with, in turn, and those of many rows."""

Times = Mapping[int, tuple[float, float]]
"""Seconds that the original and the graph take for so many rows."""
LIBRARIES = ("scikit-learn", "xgboost", "xgboost-cpu", "lightgbm", "numpy", "onnx", "onnxruntime")
"""Whose versions are recorded, of those that there are."""


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
        source = source_of(model)
        signature, batches = _read_golden(options.golden, model)
        columns = used_columns(source, list(signature.columns.values()))
        golden = {column.name: join_golden(batches)[column.name] for column in columns}
        holdout = read_holdout(options.holdout, columns) if options.holdout else None
        base = _spread(holdout or golden)
        content = convert(source, columns, find_limits(model, _spread(golden, 1), columns))
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "model.onnx").write_bytes(content)
        exported = load(options.out / "model.onnx", "onnx")
        proof = prove(model, exported, _all_rows(golden, holdout, base, columns, find_splits(source, columns)))
        return _judge(copy, options.out, proof, _time(model, exported, golden), holdout)
    except (NotExportable, Unloadable, InvalidRequest, GoldenWrong) as reason:
        (options.out / "model.onnx").unlink(missing_ok=True)
        return {"is_exported": False, "because": f"no ONNX is made of it: {reason}"}


def _judge(copy: Path, out: Path, proof: Proof, times: Times, holdout: Table | None) -> dict[str, Any]:
    if proof.because is not None:
        raise NotExportable(f"as ONNX it would not answer the same: {proof.because}")
    for rows, (before, after) in times.items():
        if after >= before:
            told = f"{after * 1e6:.0f} us for {rows} rows, not {before * 1e6:.0f}"
            raise NotExportable(f"as ONNX it is not faster ({told})")
    before, after = times[1]
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
        f"microseconds_of_{MANY}_rows": {"original": times[MANY][0] * 1e6, "exported": times[MANY][1] * 1e6},
        "packages": _versions(),
    }


def _read_golden(path: Path | None, model: Model) -> tuple[Signature, list[Batch]]:
    if path is None:
        raise NotExportable("without golden requests the types of its inputs are not known")
    golden = read_golden(path)
    signature = signature_of(model, golden)
    return signature, [signature.read(request) for request in golden.requests]


def _versions() -> dict[str, str]:
    there = {one.name.lower(): one.version for one in importlib.metadata.distributions()}
    return {name: there[name] for name in LIBRARIES if name in there}


def _spread(table: Table, rows: int = BASES) -> Table:
    """Some rows, evenly chosen."""
    chosen = np.unique(np.linspace(0, rows_of(table) - 1, rows).astype(int))
    return {name: array[chosen] for name, array in table.items()}


def _all_rows(golden: Table, holdout: Table | None, base: Table, columns: list[Column], splits: Any) -> Iterator[Table]:
    yield golden
    yield from made_rows(base, columns, splits)
    if holdout is not None:
        yield holdout


def _time(original: Model, exported: Model, golden: Table) -> Times:
    """Medians of both asked in turn."""
    found = {}
    for size, repeats in ((1, ASKED_ALONE), (MANY, ASKED_TOGETHER)):
        took: tuple[list[float], list[float]] = ([], [])
        for number in range(repeats):
            rows = np.arange(number, number + size) % rows_of(golden)
            batch = Batch(size, {name: array[rows] for name, array in golden.items()}, None)
            for model, seconds in zip((original, exported), took, strict=True):
                began = time.perf_counter()
                model.answer(batch)
                seconds.append(time.perf_counter() - began)
        found[size] = (float(np.median(took[0])), float(np.median(took[1])))
    return found


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
