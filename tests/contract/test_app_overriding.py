"""Past a gate by an operator's word, over real rows, artifacts and keys: sealed, registered, released, never silent."""

import base64
import json
from pathlib import Path

import pytest
from tests.workshop import ADA, Workshop

from interlock.access.caller import Caller, Role
from interlock.cli.show import run_end
from interlock.cli.story import gate_story, run_story
from interlock.control.rows import load_state, read_state, write_environment
from interlock.delivery.environment import Environment
from interlock.delivery.release import Release
from interlock.delivery.revision import Revision
from interlock.errors import Conflict, Forbidden, NotFound, Refused
from interlock.feedback.statuses import run_statuses
from interlock.registry.version import ModelVersion
from interlock.run.run import Run
from interlock.run.stage import StageOutcome
from interlock.vocabulary import Json, Kind, Phase, Verdict

PIPELINE = """\
version: 1
checks: []
stages:
  train: {cmd: python train.py, outs: [model/], metrics: [metrics.json]}
model: {name: small, path: model/}
gates: [{metric: auc, min: 0.7}, {metric: gain, min: 0.5}]
deploy: {production: {strategy: rolling}}
"""
EARLY = PIPELINE.replace("model:", "  slow: {cmd: python slow.py, outs: [slow/]}\nmodel:", 1)
OLGA = Caller(name="olga", role=Role.OPERATOR)
WHY = "the holdout has last year's labels"
AUC = "auc min 0.7"


def measured(auc: float, gain: float = 0.6) -> Json:
    return {"metrics": {"auc": auc, "gain": gain}, "invalid": {}}


def judged(tmp_path: Path, report: Json, pipeline: str = PIPELINE) -> Workshop:
    """A run of one commit, as far as it gets by itself when this was measured."""
    shop = Workshop(tmp_path, pipeline)
    push(shop, report, 1)
    return shop


def push(shop: Workshop, report: Json, number: int) -> None:
    shop.commit(f"number {number}")
    shop.push()
    shop.look()
    go_on(shop, report)


def go_on(shop: Workshop, report: Json, *, but: str = "slow") -> None:
    """Passes until nothing runs but that stage: the measurements are these, the others succeed."""
    shop.loop.one_pass()
    while attempts := [one for one in sorted(shop.executor.running()) if f"/{but}/" not in one]:
        for attempt in attempts:
            if "/measurements/" in attempt:
                done = StageOutcome(phase=Phase.SUCCEEDED, because="well", report=report)
                shop.executor.finish(attempt, done)
            else:
                shop.executor.finish(attempt, trained(shop, attempt))
        shop.loop.one_pass()
    for _ in range(3):  # a good model is sealed in one pass, registered in the next, and its release begins
        shop.loop.one_pass()


def trained(shop: Workshop, attempt: str) -> StageOutcome:
    """What no other attempt makes."""
    content = attempt.encode()
    products = {"model": shop.blobs.put_files({"model.skops": content}), "metrics.json": shop.blobs.put_bytes(content)}
    is_train = "/train/" in attempt
    return StageOutcome(
        phase=Phase.SUCCEEDED, because="well", products=products if is_train else {}, reads=("train.py",)
    )


def versions(shop: Workshop) -> list[ModelVersion]:
    return [read_state(row, ModelVersion) for row in shop.store.rows(Kind.VERSION)]


def release_of(shop: Workshop) -> Release:
    (row,) = shop.store.rows(Kind.RELEASE)
    return read_state(row, Release)


def test_an_overridden_run_is_sealed_registered_and_released_and_says_so_everywhere(tmp_path: Path) -> None:
    shop = judged(tmp_path, measured(0.6))
    assert shop.run(1).phase is Phase.FAILED
    assert versions(shop) == []
    shop.requests.override(OLGA, 1, ["auc"], WHY)
    go_on(shop, None)
    run = shop.run(1)
    assert (run.phase, run.version) == (Phase.SUCCEEDED, "small/1")
    (version,) = versions(shop)
    assert version.judgement.verdict is Verdict.FAIL
    (kept,) = version.judgement.overrides
    assert (kept.gate, kept.by, kept.reason) == (AUC, "olga", WHY)
    envelope = json.loads(shop.blobs.read(version.provenance))
    statement = json.loads(base64.b64decode(envelope["payload"]))
    made = statement["predicate"]["buildDefinition"]["internalParameters"]
    assert made["overrides"] == [{"gate": AUC, "by": "olga", "reason": WHY}]
    release = release_of(shop)
    assert "production" in release.rollouts  # it was admitted
    for told in (run.because, release.because, shop.store.events(Kind.VERSION)[-1].because):
        assert f"{AUC} overridden by olga: {WHY}" in told
    begun = shop.store.events(Kind.RELEASE)[0].because
    assert f"{AUC} overridden by olga: {WHY}" in begun
    statuses = {status.context: status for status in run_statuses(run, "")}
    assert statuses["interlock"].state == "success"
    gate = statuses[f"interlock/gate: {AUC}"]
    assert gate.state == "failure"
    assert gate.description.startswith("fail, overridden: olga")
    (deed,) = [entry.deed for entry in shop.store.audit()]
    assert (deed.who, deed.action, deed.thing) == ("olga", "override run", "run/1")
    assert deed.detail == {"repository": "small", "gates": ["auc"], "reason": WHY}


def test_the_word_is_of_one_run_and_the_next_one_of_the_same_model_is_judged_again(tmp_path: Path) -> None:
    shop = judged(tmp_path, measured(0.6))
    shop.requests.override(OLGA, 1, [AUC], WHY)
    go_on(shop, measured(0.6))
    assert shop.run(1).phase is Phase.SUCCEEDED
    push(shop, measured(0.6), 2)
    again = shop.run(2)
    assert (again.phase, again.version, again.overrides) == (Phase.FAILED, None, ())
    assert len(versions(shop)) == 1


def test_an_older_run_that_is_overridden_is_released_over_a_newer_one(tmp_path: Path) -> None:
    shop = judged(tmp_path, measured(0.6))
    shop.write({"train.py": "x = 2\n"})
    push(shop, measured(0.8), 2)
    assert shop.run(2).version == "small/1"
    shop.requests.override(OLGA, 1, ["auc"], WHY)
    go_on(shop, measured(0.6))
    newest = read_state(shop.store.rows(Kind.RELEASE, newest=1)[0], Release)
    assert (newest.run, newest.version) == ("1", "small/2")


def test_a_run_that_a_limit_ended_early_goes_on_and_another_gate_still_stops_it(tmp_path: Path) -> None:
    shop = Workshop(tmp_path, EARLY)
    shop.write({"slow.py": "x = 1\n"})
    push(shop, measured(0.6), 1)
    assert (shop.run(1).phase, shop.run(1).stages["slow"].phase) == (Phase.FAILED, Phase.CANCELLED)
    shop.requests.override(OLGA, 1, ["auc"], WHY)
    shop.loop.one_pass()
    assert shop.run(1).stages["slow"].phase is Phase.RUNNING
    go_on(shop, measured(0.6), but="nothing")
    assert (shop.run(1).phase, shop.run(1).version) == (Phase.SUCCEEDED, "small/1")


def test_all_that_stopped_it_has_to_be_named(tmp_path: Path) -> None:
    shop = judged(tmp_path, measured(0.6, gain=0.1))
    with pytest.raises(Conflict, match=r"gain min 0\.5 did not pass either"):
        shop.requests.override(OLGA, 1, ["auc"], WHY)
    shop.requests.override(OLGA, 1, ["auc", "gain"], WHY)
    go_on(shop, None)
    assert shop.run(1).version == "small/1"


@pytest.mark.parametrize(
    "caller",
    [
        Caller(name="mia", role=Role.MAINTAINER),
        Caller(name="oto", role=Role.OPERATOR, repositories=("large",)),
        Caller(name="oda", role=Role.OPERATOR, environments=("small/staging",)),
    ],
)
def test_who_may_not_changes_nothing(tmp_path: Path, caller: Caller) -> None:
    shop = judged(tmp_path, measured(0.6))
    before = shop.run(1)
    with pytest.raises(Forbidden):
        shop.requests.override(caller, 1, ["auc"], WHY)
    assert shop.run(1) == before
    assert list(shop.store.audit()) == []


def test_a_refusal_changes_nothing_and_asking_twice_is_asking_once(tmp_path: Path) -> None:
    shop = judged(tmp_path, measured(0.6))
    before: Run = shop.run(1)
    for gates, reason, problem in (
        (["f1"], WHY, NotFound),
        (["gain"], WHY, Conflict),
        (["auc"], " ", Refused),
    ):
        with pytest.raises(problem):
            shop.requests.override(OLGA, 1, gates, reason)
    with pytest.raises(NotFound, match="no run 2"):
        shop.requests.override(ADA, 2, ["auc"], WHY)
    assert shop.run(1) == before
    first = shop.requests.override(OLGA, 1, ["auc"], WHY)
    assert shop.requests.override(OLGA, 1, ["auc"], WHY) == first
    assert len(list(shop.store.audit())) == 1


# --- gates of the model in production ---


def in_production(shop: Workshop, number: int) -> None:
    """The version of this number is stable in production."""
    version = read_state(shop.store.rows(Kind.VERSION, prefix=f"small/{number}")[0], ModelVersion)
    stable = Revision(
        environment="small/production",
        number=number,
        version=number,
        model="small",
        model_digest=version.digest,
        lock=version.lock,
        format=version.format,
    )
    environment = Environment(name="production", model="small", stable=stable, revisions=number)
    _, expected = load_state(shop.store, Kind.ENVIRONMENT, environment.key, Environment)
    shop.store.save(write_environment(environment, expected, "a test"))


def softened(shop: Workshop, number: int, auc: float, least: str = "0.4") -> Run:
    """A push that lowers the limit on auc, to a model of another training."""
    shop.write({"train.py": f"x = {number}\n", "interlock.yaml": PIPELINE.replace("min: 0.7", f"min: {least}")})
    push(shop, measured(auc), number)
    return shop.run(number)


def test_a_push_that_softens_a_gate_is_told_and_judged_by_that_of_production_too(tmp_path: Path) -> None:
    shop = judged(tmp_path, measured(0.8))
    assert (shop.run(1).guards, shop.run(1).problems) == ((), ())
    in_production(shop, 1)
    run = softened(shop, 2, 0.6)
    told = "the gate auc min 0.7 is not as production's run had it, min 0.7 -> 0.4: it is judged all the same"
    assert [(problem.message, problem.is_warning) for problem in run.problems] == [(told, True)]
    assert (run.phase, run.version) == (Phase.FAILED, None)
    assert run.judgement is not None
    assert [(result.gate, result.verdict) for result in run.judgement.results] == [
        ("auc min 0.4", Verdict.PASS),
        ("gain min 0.5", Verdict.PASS),
        ("auc min 0.7, as in production", Verdict.FAIL),
    ]
    again = shop.requests.rerun(ADA, 2)
    assert (again.guards, again.problems) == (run.guards, run.problems)
    assert any(told in line.text for line in gate_story(run))
    assert any(told in line.text for line in run_story(run, []))
    assert any(told in line.text for line in run_end(run))


def test_a_push_that_turns_checks_off_is_told_and_they_are_asked_all_the_same(tmp_path: Path) -> None:
    shop = judged(tmp_path, measured(0.8))
    in_production(shop, 1)
    off = "checks: {row_order: off, nulls: off}"
    shop.write({"train.py": "x = 2\n", "interlock.yaml": PIPELINE.replace("path: model/}", f"path: model/, {off}}}")})
    push(shop, measured(0.8), 2)
    run = shop.run(2)
    assert [check.name for check in run.model_guards] == ["row_order", "nulls"]
    assert run.data_guards == ()
    told = "the checks of the model are not as production's run had them: its own are asked all the same"
    assert [problem.message for problem in run.problems] == [told]
    assert run.served is not None
    assert list(run.served.left_out)[-2:] == [f"{name} of small, as in production" for name in ("row_order", "nulls")]
    again = shop.requests.rerun(ADA, 2)
    assert again.model_guards == run.model_guards


def test_once_a_model_with_the_new_gates_is_in_production_they_alone_count(tmp_path: Path) -> None:
    shop = judged(tmp_path, measured(0.8))
    in_production(shop, 1)
    softened(shop, 2, 0.6)
    shop.requests.override(OLGA, 2, ["auc min 0.7, as in production"], "the old limit was a guess")
    go_on(shop, None)
    assert shop.run(2).version == "small/2"
    in_production(shop, 2)
    run = softened(shop, 3, 0.5)
    assert (run.guards, run.problems, run.phase) == ((), (), Phase.SUCCEEDED)


def test_a_better_model_passes_with_a_softened_gate_and_an_untrusted_branch_is_judged_by_its_own(
    tmp_path: Path,
) -> None:
    shop = judged(tmp_path, measured(0.8))
    in_production(shop, 1)
    run = softened(shop, 2, 0.9)
    assert (run.phase, len(run.problems), run.version) == (Phase.SUCCEEDED, 1, "small/2")
    shop.push("HEAD:topic")
    elsewhere = shop.requests.trigger(ADA, "small", "topic")
    assert (elsewhere.is_trusted, elsewhere.guards, elsewhere.problems) == (False, (), ())
