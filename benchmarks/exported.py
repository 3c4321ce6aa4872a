"""What the export to ONNX gains for models of each library: how it is proven, and the times of one row and of 64.

Each model is exported by the program that a run uses, which asks both in turn, in one process and on one thread; each
is exported several times, the middle of the ratios counts. ``python benchmarks/exported.py [--repeats N]``
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import joblib
import lightgbm
import numpy as np
import xgboost
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from interlock.edges.blobs import LocalBlobs

SOURCE = Path(__file__).resolve().parents[1] / "src"
COLUMNS, ROWS, TREES = 12, 2000, 100


def make(folder: Path) -> dict[str, tuple[str, Path]]:
    """Models of the same table, by name: the format and the file."""
    random = np.random.default_rng(3)
    table = random.normal(size=(ROWS, COLUMNS))
    label = (table[:, 0] + table[:, 1] * table[:, 2] + random.normal(size=ROWS) > 0).astype(int)
    rows = [{"name": "x", "datatype": "FP64", "shape": [1, COLUMNS], "data": row.tolist()} for row in table[:100]]
    (folder / "golden.json").write_text(json.dumps({"requests": [{"inputs": [row]} for row in rows]}))
    found: dict[str, tuple[str, Path]] = {}
    estimators: dict[str, Any] = {
        "scikit-learn, logistic": LogisticRegression(),
        "scikit-learn, 100 boosted trees": HistGradientBoostingClassifier(max_iter=TREES),
        "scikit-learn, forest of 100": RandomForestClassifier(TREES, max_depth=8, random_state=0),
    }
    for number, (name, estimator) in enumerate(estimators.items()):
        joblib.dump(estimator.fit(table, label), folder / f"{number}.joblib")
        found[name] = "joblib", folder / f"{number}.joblib"
    xgboost.XGBClassifier(n_estimators=TREES).fit(table, label).save_model(folder / "m.ubj")
    found["XGBoost, 100 trees"] = "xgboost", folder / "m.ubj"
    light = lightgbm.LGBMClassifier(n_estimators=TREES, verbose=-1).fit(table, label)
    light.booster_.save_model(folder / "m.lgb")
    found["LightGBM, 100 trees"] = "lightgbm", folder / "m.lgb"
    joblib.dump(light, folder / "light.joblib")
    found["LightGBM's classifier in a pickle"] = "joblib", folder / "light.joblib"
    return found


def export(folder: Path, kind: str, model: Path) -> dict[str, Any]:
    """The report of one export."""
    digest = LocalBlobs(folder / "blobs").put(str(model))
    command = [sys.executable, "-m", "interlock.inference.export", "--model", str(model), "--format", kind]
    command += ["--digest", str(digest), "--golden", "golden.json", "--out", "out", "--report", "report.json"]
    env = {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}
    subprocess.run(command, cwd=folder, env=env, check=True)
    shutil.rmtree(folder / "out")
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return report


def main() -> int:
    """Prints a line for each model; exit code 1 where one is not exported."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    is_right = True
    print("| model | rows proven | largest difference | 1 row, us | 64 rows, us |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for title, (kind, model) in make(folder).items():
            reports = [export(folder, kind, model) for _ in range(repeats)]
            if any(not report["is_exported"] for report in reports):
                is_right = False
                print(f"| {title} | {reports[0]['because']} | | | |")
                continue
            cells = [_shown(reports, key) for key in ("microseconds_a_row", "microseconds_of_64_rows")]
            print(f"| {title} | {reports[0]['rows']} | {reports[0]['largest_difference']:.0e} | {' | '.join(cells)} |")
    return 0 if is_right else 1


def _shown(reports: list[dict[str, Any]], key: str) -> str:
    """The times of the report whose ratio is in the middle, the lower of two."""
    by_ratio = sorted((one[key] for one in reports), key=lambda times: times["original"] / times["exported"])
    times = by_ratio[(len(by_ratio) - 1) // 2]
    return f"{times['original']:.0f} to {times['exported']:.0f}: {times['original'] / times['exported']:.1f}x"


if __name__ == "__main__":
    sys.exit(main())
