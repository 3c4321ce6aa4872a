"""The model in production is asked for a holdout that it has not seen: by its real server, or nothing is compared.

Below the probe, what the control plane lets be asked: of real rows, reports and artifacts.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.production import NO_DIGEST, put_into_production
from tests.workshop import Workshop

from interlock.control.rows import write_state
from interlock.edges.blobs import LocalBlobs
from interlock.gate.judge import judge
from interlock.gate.judgement import Checked, GateResult
from interlock.pipeline.plan import GatePlan
from interlock.probes.measurements import measure
from interlock.run.run import Run
from interlock.run.stage import Baseline, StageOutcome
from interlock.vocabulary import Digest, Json, Kind, Phase, Verdict

SOURCE = Path(__file__).resolve().parents[2] / "src"
ROWS = 400

# A classifier of plain Python, wrong on every tenth row, and a regressor that refuses what is above 300.
CODE = """
class Classifier:
    def predict(self, table):
        return [int((x >= 200) != (x % 10 == 0)) for x in table["x"]]
    def predict_proba(self, table):
        import numpy
        return numpy.array([[1 - p, p] for p in (0.25 + 0.5 * one for one in self.predict(table))])

class Shy:
    def predict(self, table):
        if table["x"].max() >= 0:
            raise ValueError("only what is below")
        return table["x"] * 2.0

class Twofold:
    def predict(self, table):
        return table[["x", "x"]].to_numpy()

class Refusing:
    def predict(self, table):
        if table["x"].max() > 300 or table["note"].isna().any():
            raise ValueError("too far")
        return table["x"] * 2.0
"""
MAKE = """
import pathlib, sys, joblib
for name in ("Classifier", "Refusing", "Shy", "Twofold"):
    folder = pathlib.Path(sys.argv[1], name)
    folder.mkdir()
    (folder / "asked.py").write_text(sys.argv[2])
    sys.path[:0] = [str(folder)]
    import asked
    joblib.dump(getattr(asked, name)(), folder / "model.joblib")
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    subprocess.run([sys.executable, "-c", MAKE, str(root), CODE], check=True)
    return root


@pytest.fixture
def rows_of(models: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """The rows that the probe reports of a holdout of ROWS rows, whose labels are what the candidate predicts."""

    def run(model: str, columns: tuple[str, ...] = ("x", "note"), digest: str | None = None) -> dict[str, Any]:
        lines = [f"r{x},{x},{'' if x == 7 else 'some'},{int(x >= 200)}" for x in range(ROWS)]
        (tmp_path / "holdout.csv").write_text("\n".join(["key,x,note,late", *lines]) + "\n")
        predictions = [f"r{x},{int(x >= 200)},{0.2 + 0.6 * (x >= 200)}" for x in range(ROWS)]
        (tmp_path / "predictions.csv").write_text("\n".join(["id,prediction,probability", *predictions]) + "\n")
        values: dict[str, tuple[str, list[Any]]] = {"x": ("INT64", [-5]), "note": ("BYTES", ["some"])}
        inputs = [
            {
                "name": name,
                "shape": [1],
                "datatype": values.get(name, ("FP64",))[0],
                "data": values.get(name, ("", [1.0]))[1],
            }
            for name in columns
        ]
        (tmp_path / "golden.json").write_text(json.dumps({"requests": [{"inputs": inputs}]}))
        known = str(LocalBlobs(tmp_path / "blobs").put(str(models / model)))
        served = {"name": "flights v3", "path": str(models / model), "format": "joblib", "python": sys.executable}
        served |= {"digest": digest or known, "golden": str(tmp_path / "golden.json")}
        found = measure(
            {
                "metrics": [],
                "predictions": str(tmp_path / "predictions.csv"),
                "holdout": {"path": str(tmp_path / "holdout.csv"), "id": "key", "label": "late"},
                "baseline_served": {"model": served, "inference_folder": str(SOURCE / "interlock" / "inference")},
                "baseline_name": "flights v3",
            }
        )
        report: dict[str, Any] = json.loads(json.dumps(found["report"], allow_nan=False))
        return report

    return run


def judged(report: dict[str, Any], metric: str) -> GateResult:
    gate = GatePlan(metric=metric, against="production", margin=0.02)
    (result,) = judge([gate], {"measurements": report}, "flights v3").results
    return result


def test_production_answers_for_the_very_rows_that_the_candidate_is_judged_on(
    rows_of: Callable[..., dict[str, Any]],
) -> None:
    report = rows_of("Classifier")
    by_accuracy, by_auc = judged(report, "accuracy"), judged(report, "auc")
    assert (by_accuracy.verdict, by_auc.verdict) == (Verdict.PASS, Verdict.PASS)
    assert by_accuracy.evidence["production"] == 0.9
    assert by_accuracy.evidence["candidate"] == 1.0
    assert by_auc.evidence["production"] == pytest.approx(0.9)
    assert by_accuracy.evidence["production_was_asked"] is True
    assert by_accuracy.evidence["rows"] == ROWS


def test_rows_that_it_does_not_answer_are_missing_and_nothing_is_compared(
    rows_of: Callable[..., dict[str, Any]],
) -> None:
    report = rows_of("Refusing")
    answered = report["rows"]["baseline"]["prediction"]
    assert report["rows"]["baseline"]["missing"] == ROWS - 301 + 1
    assert {row for row in answered if row is not None} == {2.0 * x for x in range(301) if x != 7}
    assert judged(report, "rmse").verdict is Verdict.UNDECIDED
    assert "flights v3 has no rmse for 100 of 400 rows" in judged(report, "rmse").because


@pytest.mark.parametrize(
    ("asked", "because"),
    [
        ({"model": "Shy"}, "its server answers 0 of 400 rows"),
        ({"model": "Twofold"}, "its server answers 400 of 400 rows, none with one prediction"),
        ({"columns": ("x", "wind")}, "the holdout has no column wind, which the golden requests name"),
        ({"digest": "blake3:" + "0" * 64}, "the model server ended with exit code"),
    ],
)
def test_what_cannot_be_asked_is_undecided_and_says_why(
    asked: dict[str, Any], because: str, rows_of: Callable[..., dict[str, Any]]
) -> None:
    result = judged(rows_of(**{"model": "Classifier", **asked}), "accuracy")
    assert result.verdict is Verdict.UNDECIDED
    assert f"flights v3 left no predictions of these rows: {because}" in result.because


PIPELINE = """
version: 1
checks: []
data: {holdout: {path: h.csv, id: key, label: late}}
stages: {train: {cmd: python train.py, outs: [model/], predictions: p.csv}}
model: {name: small, path: model/}
gates: [{metric: accuracy, against: production, margin: 0.02}]
"""
OTHER, PREDICTED, GOLDEN = (Digest("blake3:" + figure * 64) for figure in "123")
SHOWN = GateResult(gate="offline of small", verdict=Verdict.PASS, because="alike")
NOT_SHOWN = GateResult(gate="offline of small", verdict=Verdict.UNDECIDED, because="no row was answered")


def run_on(shop: Workshop, digest: Digest) -> Run:
    """A run of a new commit whose holdout has these rows, until it is measured."""
    shop.commit(f"{digest}", train_py=f"x = {len(shop.all_runs())}\n", h_csv=f"key,late\n{digest},0\n")
    shop.push()
    (begun,) = shop.look()
    shop.loop.one_pass()
    report: Json = {"holdout": {"rows": 1, "columns": [], "digest": digest, "summary": None}}
    outcome = StageOutcome(phase=Phase.SUCCEEDED, because="well", reads=("h.csv",), report=report)
    while (attempt := f"{begun.number}/measurements/1") not in shop.executor.running():
        if f"{begun.number}/data/1" in shop.executor.running():
            shop.executor.finish(f"{begun.number}/data/1", outcome)
        else:
            shop.finish(*(one for one in shop.executor.running() if one != attempt and "/served/" not in one))
        shop.loop.one_pass()
    return shop.run(begun.number)


def deliver(shop: Workshop, run: Run, offline: GateResult) -> None:
    """The run's model is in production; what it was served like is in its row."""
    row = shop.store.load(Kind.RUN, "1")
    assert row is not None
    served = shop.run(1).model_copy(update={"served": Checked(results=(offline,))})
    shop.store.save(write_state(Kind.RUN, "1", served, expected=row.version, phase=row.phase, because="measured"))
    put_into_production(shop.store, run, golden=GOLDEN, predictions=PREDICTED)


@pytest.mark.parametrize(
    ("rows", "offline", "is_remembered", "predictions", "golden"),
    [
        (NO_DIGEST, SHOWN, True, PREDICTED, None),  # the same rows: what it predicted of them in its own run is known
        (OTHER, SHOWN, True, None, GOLDEN),
        (OTHER, NOT_SHOWN, True, None, None),
        (OTHER, SHOWN, False, PREDICTED, None),  # nobody knows that the rows are others: they are joined by id
    ],
)
def test_it_is_asked_where_the_rows_are_others_and_its_run_has_shown_that_it_may_be(
    rows: Digest,
    offline: GateResult,
    is_remembered: bool,
    predictions: Digest | None,
    golden: Digest | None,
    tmp_path: Path,
) -> None:
    shop = Workshop(tmp_path, PIPELINE)
    first = run_on(shop, NO_DIGEST)
    assert first.baseline is None
    deliver(shop, first if is_remembered else first.model_copy(update={"number": 77}), offline)
    baseline = run_on(shop, rows).baseline
    assert isinstance(baseline, Baseline)
    assert (baseline.predictions, baseline.golden) == (predictions, golden)
