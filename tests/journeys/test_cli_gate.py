"""``interlock gate``: predictions in files, judged without a run, a server or a state folder."""

from __future__ import annotations

import json
import random

import pyarrow
import pyarrow.parquet
import pytest

from interlock.cli import main

ROWS = 1500


def model(seed, share, rows=ROWS, header="id,prediction,probability,label,carrier,age,row_loss"):
    """Predictions of which so many are right; the labels are the same for every seed."""
    labels, generator = random.Random(0), random.Random(seed)
    lines = [header]
    for row in range(rows):
        label = int(labels.random() < 0.5)
        prediction = label if generator.random() < share else 1 - label
        chance = 0.5 + (prediction - 0.5) * generator.random()
        lines.append(f"{row},{prediction},{chance:.5f},{label},{'ABCDE'[row % 5]},{row % 40},{abs(label - chance):.5f}")
    return "\n".join(lines) + "\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INTERLOCK_STATE", str(tmp_path / "state"))
    for name, seed, share in (("good.csv", 1, 0.93), ("bad.csv", 2, 0.8), ("like.csv", 3, 0.93)):
        (tmp_path / name).write_text(model(seed, share))
    yield tmp_path
    assert not (tmp_path / "state").exists()


def gate(capsys, *words):
    code = main(["gate", *words])
    return code, *capsys.readouterr()


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["--candidate", "good.csv", "--baseline", "bad.csv"], 0, "pass       auc against production, margin 0"),
        (["--candidate", "bad.csv", "--baseline", "good.csv"], 1, "fail       accuracy against production, margin 0"),
        (["--candidate", "like.csv", "--baseline", "good.csv"], 3, "undecided  accuracy against production, margin 0"),
        (["--candidate", "like.csv", "--baseline", "good.csv", "--margin", "0.03"], 0, "margin 0.03"),
        (["--candidate", "good.csv", "--metric", "f1", "--min", "0.5"], 0, "pass       f1 min 0.5"),
        (["--candidate", "good.csv", "--metric", "f1", "--metric", "auc", "--max", "0.5"], 1, "fail       auc max 0.5"),
        (["--candidate", "good.csv", "--metric", "acuracy", "--min", "0.5"], 3, "did you mean accuracy?"),
        (["--candidate", "good.csv", "--metric", "recall", "--gap-between", "carrier", "--max", "0.2"], 0, "a gap of"),
        (
            ["--candidate", "good.csv", "--baseline", "bad.csv", "--metric", "row_loss"],
            0,
            "row_loss against production",
        ),
        (
            ["--candidate", "bad.csv", "--baseline", "good.csv", "--slice", "carrier", "--slice", "age/3"],
            1,
            "Holm over 16 tests",
        ),
        (["--candidate", "good.csv", "--baseline", "bad.csv", "--slice", "found"], 0, "none of 9 slices"),
        (["--candidate", "good.csv", "--baseline", "bad.csv", "--slice", "sex"], 3, "have a column sex"),
    ],
)
def test_verdicts(folder, capsys, words, code, told):
    found, out, _ = gate(capsys, *words)
    assert found == code, out
    assert told in out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--candidate", "good.csv"], "there is nothing to judge by"),
        (["--candidate", "good.csv", "--min", "0", "--slice", "carrier"], "there is nothing to judge by"),
        (["--candidate", "gone.csv", "--min", "0"], "there is no such file"),
        (["--candidate", "bare.csv", "--min", "0"], "no file has a column label"),
        (["--candidate", "wide.csv", "--min", "0"], "column prediction is missing"),
        (["--candidate", "few.csv", "--baseline", "good.csv", "--holdout", "gone.csv"], "there is no such file"),
        (["--candidate", "few.csv", "--baseline", "unlabelled.csv"], "the baseline has 500 rows that have no label"),
        (["--candidate", "good.csv", "--baseline", "bad.csv", "--slice", "age/1"], "1 is no number of parts"),
        (["--baseline", "good.csv"], "Missing option '--candidate'"),
    ],
)
def test_refusals(folder, capsys, words, told):
    (folder / "bare.csv").write_text("id,prediction\n1,1\n")
    (folder / "wide.csv").write_text("id,label\n1,1\n")
    (folder / "few.csv").write_text(model(1, 0.93, rows=1000))
    lines = model(2, 0.8).replace(",label,", ",truth,", 1)
    (folder / "unlabelled.csv").write_text(lines)
    code, _, told_there = gate(capsys, *words)
    assert code == 2
    assert told in told_there


def test_rows_that_only_the_baseline_has_fail_the_candidate(folder, capsys):
    (folder / "few.csv").write_text(model(1, 0.93, rows=1000))
    code, out, _ = gate(capsys, "--candidate", "few.csv", "--baseline", "good.csv")
    assert (code, "the predictions miss 500 of 1500" in out) == (1, True)


def test_labels_may_be_in_a_holdout_of_their_own(folder, capsys):
    truth = [line.split(",") for line in model(1, 0.93).splitlines()[1:]]
    (folder / "holdout.csv").write_text("key,late\n" + "\n".join(f"{row[0]},{row[3]}" for row in truth))
    words = ["--candidate", "good.csv", "--baseline", "bad.csv", "--holdout", "holdout.csv", "--id", "key"]
    assert gate(capsys, *words, "--label", "late")[0] == 0


def test_json_holds_every_number(folder, capsys):
    code, out, _ = gate(capsys, "--candidate", "good.csv", "--baseline", "bad.csv", "--metric", "accuracy", "--json")
    found = json.loads(out)
    assert (code, found["verdict"]) == (0, "pass")
    evidence = found["results"][0]["evidence"]
    assert evidence["production_name"] == "bad.csv"
    assert evidence["rows"] == ROWS
    assert evidence["interval"][0] < evidence["estimate"] < evidence["interval"][1]


def test_parquet_and_numbers_are_judged_alike(folder, capsys):
    for name, shift in (("near", 0.1), ("far", 0.5)):
        columns = {"id": list(range(400)), "label": [row / 7 for row in range(400)]}
        columns["prediction"] = [label + shift * (-1) ** row for row, label in enumerate(columns["label"])]
        pyarrow.parquet.write_table(pyarrow.table(columns), folder / f"{name}.parquet")
    code, out, _ = gate(capsys, "--candidate", "near.parquet", "--baseline", "far.parquet")
    assert (code, "rmse against production" in out) == (0, True)


def test_classes_without_probabilities_are_counted(folder, capsys):
    text = "id,prediction,label\n" + "\n".join(f"{row},{'yes' if row % 3 else 'no'},yes" for row in range(400))
    (folder / "words.csv").write_text(text + "\n400,no,no\n")
    code, out, _ = gate(capsys, "--candidate", "words.csv", "--min", "0.6")
    assert (code, "accuracy min 0.6" in out, "auc" in out) == (0, True, False)


def test_conditions_are_judged_without_a_run(folder, capsys):
    both = ["--candidate", "good.csv", "--baseline", "bad.csv"]
    code, out, _ = gate(capsys, *both, "--condition", "n - o > 0 +/- 0.09", "--condition", "n > 0.9 +/- 0.1")
    assert (code, out.count(": not shown on 1500 rows"), out.count(": shown on")) == (1, 1, 1)  # unknown is not shown
    assert "accuracy against" not in out
    code, out, _ = gate(capsys, "--candidate", "good.csv", "--condition", "n > 0.7 +/- 0.1")
    assert (code, "pass       n > 0.7 +/- 0.1" in out) == (0, True)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--condition", "n - o > 0 +/- 0.1"], "--baseline FILE, or a limit: --min, --max or --condition"),
        (["--condition", "x > 0.5"], "`x > 0.5` is no clause"),
        (["--min", "nan"], "--min: nan is no finite number"),
        (["--baseline", "bad.csv", "--margin", "nan"], "--margin: nan is no finite number"),
        (["--max", "inf"], "--max: inf is no finite number"),
    ],
)
def test_what_cannot_be_judged_by_is_refused(folder, capsys, words, told):
    code, _, error = gate(capsys, "--candidate", "good.csv", *words)
    assert (code, told in error) == (2, True)
