"""A small scikit-learn project of three scripts, for the benchmarks."""

from __future__ import annotations

import random
from pathlib import Path

from peers import Step

PROJECT = """
[project]
name = "bench"
version = "1"
requires-python = ">=3.11"
dependencies = ["scikit-learn>=1.7", "pandas>=2.3"]
"""
SCRIPTS = {
    "features.py": """
import numpy, pandas
rows = pandas.read_csv("rows.csv")
rows["ab"] = rows["a"] * rows["b"]
numpy.savez("features.npz", x=rows[["a", "b", "c", "ab"]].to_numpy(), y=rows["label"].to_numpy())
""",
    "train.py": """
import joblib, numpy
from sklearn.ensemble import HistGradientBoostingClassifier
data = numpy.load("features.npz")
model = HistGradientBoostingClassifier(max_iter=60, random_state=1).fit(data["x"][::2], data["y"][::2])
joblib.dump(model, "model.joblib")
""",
    "evaluate.py": """
import joblib, json, numpy
from sklearn.metrics import roc_auc_score
data, model = numpy.load("features.npz"), joblib.load("model.joblib")
auc = roc_auc_score(data["y"][1::2], model.predict_proba(data["x"][1::2])[:, 1])
json.dump({"auc": auc}, open("metrics.json", "w"))
""",
}
STAGES = [
    Step("features", "python features.py", ("rows.csv",), ("features.npz",)),
    Step("train", "python train.py", ("features.npz",), ("model.joblib",)),
    Step("evaluate", "python evaluate.py", ("features.npz", "model.joblib"), ("metrics.json",)),
]


def make_rows(path: Path, count: int) -> None:
    """The data: the same for everybody and every time."""
    made = random.Random(7)
    with path.open("w") as file:
        file.write("a,b,c,label\n")
        for _ in range(count):
            a, b, c = made.random(), made.random(), made.random()
            file.write(f"{a:.6f},{b:.6f},{c:.6f},{int(a * b + 0.2 * made.random() > 0.35)}\n")
