"""Who has asked a holdout: counted over runs, restarts and repeats, until it is spent."""

from pathlib import Path

import pytest
from tests.workshop import ADA, Workshop

from interlock.control.running.asking import SPACE
from interlock.run.run import Run
from interlock.run.stage import StageOutcome
from interlock.vocabulary import Json, Phase, Verdict

PIPELINE = """\
version: 1
on: {push: {branches: ["*"]}}
checks: []
data: {holdout: {path: h.csv, id: id, label: late}}
stages: {evaluate: {cmd: python evaluate.py, deps: [evaluate.py], predictions: p.csv}}
gates: [{metric: accuracy, min: 0.7, reuse: {commits: 2}}]
"""
FIRST, SECOND = "blake3:" + "1" * 64, "blake3:" + "2" * 64
SUMMARY: Json = {"rows": 100, "label": None, "columns": {}, "repeated": None, "shared": {}}


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    shop = Workshop(tmp_path, PIPELINE)
    shop.write({"evaluate.py": "", "h.csv": "id,late\n"})
    return shop


def measured(right: int) -> Json:
    """The report on 100 rows, so many of them predicted right."""
    labels: list[Json] = [float(row % 2) for row in range(100)]
    prediction: list[Json] = [float((row + (row >= right)) % 2) for row in range(100)]
    rows: Json = {
        "holdout": 100,
        "candidate_missing": 0,
        "unknown_ids": 0,
        "duplicate_ids": 0,
        "labels": labels,
        "candidate": {"prediction": prediction},
    }
    return {"metrics": {}, "invalid": {}, "rows": rows}


def end_all(shop: Workshop, holdout: str, right: int) -> None:
    reports: dict[str, Json] = {
        "data": {"holdout": {"rows": 100, "columns": [], "digest": holdout, "summary": SUMMARY}},
        "measurements": measured(right),
    }
    shop.loop.one_pass()
    while running := sorted(shop.executor.running()):
        for attempt in running:
            stage = attempt.split("/")[1]
            made = {"p.csv": shop.blobs.put_bytes(attempt.encode())} if stage == "evaluate" else {}
            outcome = StageOutcome(
                phase=Phase.SUCCEEDED, because="well", products=made, reads=("evaluate.py",), report=reports.get(stage)
            )
            shop.executor.finish(attempt, outcome)
        shop.loop.one_pass()


def pushed(shop: Workshop, text: str, holdout: str = FIRST, right: int = 80, to: str = "main") -> Run:
    shop.commit(text, evaluate_py=text)
    shop.write({"h.csv": holdout})
    shop.commit(text)
    shop.push(f"HEAD:{to}")
    (begun,) = shop.look()
    end_all(shop, holdout, right)
    return shop.run(begun.number)


def told_of(run: Run) -> dict[str, Json]:
    assert run.judgement is not None
    told = run.judgement.results[0].evidence["test_set"]
    assert isinstance(told, dict)
    return told


def verdict(run: Run) -> Verdict:
    assert run.judgement is not None
    return run.judgement.verdict


def test_commits_are_counted_until_the_test_set_is_spent_and_new_rows_begin_anew(shop: Workshop) -> None:
    first, second = pushed(shop, "one"), pushed(shop, "two", right=60)
    assert (verdict(first), verdict(second)) == (Verdict.PASS, Verdict.FAIL)
    assert [told_of(run)["commits"] for run in (first, second)] == [1, 2]
    assert told_of(first)["holdout"] == FIRST
    shop.restart()
    third = pushed(shop, "three", right=99)
    assert (third.phase, verdict(third)) == (Phase.HELD, Verdict.UNDECIDED)
    assert "this test set is spent: 2 commits were judged with it by accuracy" in third.because
    assert third.judgement is not None
    assert set(third.judgement.results[0].evidence) == {"test_set"}
    assert told_of(pushed(shop, "four", holdout=SECOND))["commits"] == 1
    assert len(shop.store.recall(SPACE, f"{FIRST} accuracy")) == 2


def test_a_commit_that_is_run_again_is_no_new_use(shop: Workshop) -> None:
    pushed(shop, "one")
    second = pushed(shop, "two")
    again = shop.requests.rerun(ADA, second.number, "evaluate")
    end_all(shop, FIRST, 80)
    told = told_of(shop.run(again.number))
    assert verdict(shop.run(again.number)) is Verdict.PASS
    assert (told["commits"], "is among them: pass" in str(told["because"])) == (2, True)
    assert len(shop.store.recall(SPACE, f"{FIRST} accuracy")) == 2


def test_a_ref_that_is_not_trusted_cannot_spend_the_test_set(shop: Workshop) -> None:
    first = pushed(shop, "one")
    shop.command("push", "-q", "origin", "HEAD:feature")
    shop.look()
    shop.run_all()
    for number in range(3):
        run = pushed(shop, f"try {number}", to="feature")
        assert (verdict(run), told_of(run)["commits"]) == (Verdict.PASS, 1)
        assert not run.is_trusted
        assert "this run is none" in str(told_of(run)["because"])
    assert [use["commit"] for use in shop.store.recall(SPACE, f"{FIRST} accuracy")] == [first.commit.sha]


def test_two_gates_of_one_metric_are_one_use(tmp_path: Path) -> None:
    shop = Workshop(tmp_path, PIPELINE.replace("gates: [", "gates: [{metric: accuracy, max: 0.99}, "))
    shop.write({"evaluate.py": ""})
    run = pushed(shop, "one")
    assert run.judgement is not None
    assert [result.verdict for result in run.judgement.results] == [Verdict.PASS] * 2
    assert told_of(run) == {"holdout": FIRST, "commits": 1, "because": "1 use of this test set by accuracy"}
    assert len(shop.store.recall(SPACE, f"{FIRST} accuracy")) == 1
