"""The data that was accepted last: of a real row, report and artifact, through the loop that judges the next run."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.production import NO_DIGEST, put_into_production
from tests.workshop import ADA, Workshop

from interlock.run.run import Run
from interlock.run.stage import StageOutcome
from interlock.vocabulary import Json, Phase, Verdict

PIPELINE = """
version: 1
checks: []
data: {train: {path: d.csv, checks: {volume: {}}}}
stages: {train: {cmd: python train.py, outs: [model/]}}
model: {name: small, path: model/}
"""


def report(rows: int) -> Json:
    summary: Json = {"rows": rows, "label": None, "columns": {}, "repeated": None, "shared": {}}
    return {"train": {"rows": rows, "columns": [], "digest": NO_DIGEST, "summary": summary}}


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    shop = Workshop(tmp_path, PIPELINE)
    shop.write({"train.py": "x = 1\n", "d.csv": "a\n0\n"})
    return shop


def run_with(shop: Workshop, rows: int) -> Run:
    """A run of a new commit whose data has so many rows, as far as it gets."""
    shop.commit(f"{rows} rows", d_csv=f"a\n{rows}\n")
    shop.push()
    (begun,) = shop.look()
    shop.loop.one_pass()
    attempt = f"{begun.number}/data/1"
    outcome = StageOutcome(phase=Phase.SUCCEEDED, because="well", reads=("d.csv",), report=report(rows))
    shop.executor.finish(attempt, outcome)
    shop.loop.one_pass()
    return shop.run(begun.number)


def test_the_data_of_the_model_in_production_is_what_new_data_is_compared_with(shop: Workshop) -> None:
    first = run_with(shop, 1000)
    assert first.data is not None
    assert [(one.gate, one.verdict, one.because) for one in first.data.results] == [
        ("volume of train", Verdict.PASS, "no data was accepted yet")
    ]
    assert shop.executor.running() == {"1/train/1"}
    put_into_production(shop.store, first)
    fewer = run_with(shop, 400)
    assert fewer.phase is Phase.FAILED
    assert "volume of train: 400 rows, and 1000 in the accepted data: 0.40 times as many" in fewer.because
    assert fewer.stages["train"].phase is Phase.SKIPPED
    enough = run_with(shop, 900)
    assert (enough.phase, enough.data and enough.data.verdict) == (Phase.RUNNING, Verdict.PASS)


def test_data_that_was_stopped_is_trained_on_by_a_persons_word_and_the_verdict_stays(shop: Workshop) -> None:
    put_into_production(shop.store, run_with(shop, 1000))
    number = run_with(shop, 400).number
    shop.requests.override(ADA, number, ["volume"], "half of the routes were closed")
    shop.loop.one_pass()
    shop.finish(f"{number}/train/1", model=b"other weights")
    shop.loop.one_pass()
    shop.finish(f"{number}/served/1")
    while not shop.run(number).phase.is_final:
        shop.loop.one_pass()
    run = shop.run(number)
    assert (run.phase, run.version) == (Phase.SUCCEEDED, "small/2")
    assert run.judgement is not None
    assert run.judgement.verdict is Verdict.FAIL
    assert "volume of train overridden by ada: half of the routes were closed (fail: 400 rows" in run.because


def test_accepted_data_whose_report_is_not_kept_decides_nothing(shop: Workshop) -> None:
    first = run_with(shop, 1000)
    put_into_production(shop.store, first.model_copy(update={"number": 77}))
    second = run_with(shop, 10)
    assert second.data is not None
    assert second.data.verdict is Verdict.UNDECIDED
    assert "it is not known what data was accepted" in second.data.because
    assert second.phase is Phase.RUNNING
