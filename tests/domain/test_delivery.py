"""Releases, environments and admission, as tables of what is seen and what follows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.revisions import revision

from interlock.delivery import release as releases
from interlock.delivery.environment import Act, Environment, desired, differences, enter, follow
from interlock.delivery.release import Release, ReleasePhase, ReleaseSeen
from interlock.delivery.revision import DataPlaneSeen, EndpointSeen, ReplicaSeen, Revision
from interlock.delivery.rollout import Rollout, RolloutPhase
from interlock.delivery.rollout import begin as begin_rollout
from interlock.errors import Refused
from interlock.gate.judgement import GateResult, Judgement, Override
from interlock.pipeline.plan import EnvironmentPlan
from interlock.registry.admission import Admission, Evidence, admit
from interlock.registry.version import ModelVersion
from interlock.vocabulary import Verdict

STAGING = EnvironmentPlan(name="staging")
PRODUCTION = EnvironmentPlan(name="production", requires=("staging",))


def version(**changes: object) -> ModelVersion:
    fields: dict[str, object] = {
        "model": "flights",
        "number": 3,
        "digest": "blake3:m",
        "lock": "blake3:l",
        "format": "skops",
        "judgement": Judgement(results=(GateResult(gate="auc", verdict=Verdict.PASS, because="0.76"),)),
        "repository": "flights",
        "ref": "refs/heads/main",
        "commit": "a" * 40,
        "run": "7",
        "plan": "blake3:p",
        "serving": "blake3:s",
        "signature": "blake3:g",
        "provenance": "blake3:v",
        "is_trusted": True,
        "deploy": (STAGING, PRODUCTION),
        "made": 1.0,
    }
    return ModelVersion.model_validate({**fields, **changes})


OVERRIDE = Override(gate="auc", by="ada", reason="old labels")
OVERRIDDEN = Judgement(
    results=(GateResult(gate="auc", verdict=Verdict.FAIL, because="0.6 < 0.7"),), overrides=(OVERRIDE,)
)
UNDECIDED = Judgement(results=(GateResult(gate="auc", verdict=Verdict.UNDECIDED, because="no rows"),))


@pytest.mark.parametrize(
    ("changes", "evidence", "reason"),
    [
        ({}, Evidence(signature_problem=None, served_in=("staging",)), None),
        ({"is_trusted": False}, Evidence(signature_problem=None, served_in=("staging",)), "not trusted"),
        ({"judgement": UNDECIDED}, Evidence(signature_problem=None, served_in=("staging",)), "undecided"),
        ({}, Evidence(signature_problem="model.skops differs", served_in=("staging",)), "model.skops differs"),
        ({}, Evidence(signature_problem=None, quarantine="14 % errors", served_in=("staging",)), "quarantined"),
        ({}, Evidence(signature_problem=None, provenance_problem="of another"), "its provenance does not hold: of an"),
        ({}, Evidence(signature_problem=None, summary_problem="it says FAILED"), "its summary does not hold: it says"),
        ({}, Evidence(signature_problem=None, copy_of="flights v1"), "it is flights v1 under another number"),
        ({}, Evidence(signature_problem=None), "not promoted in staging"),
        (
            {},
            Evidence(signature_problem=None, retired="retired by ada"),
            "flights is retired by ada; interlock models re",
        ),
        (
            {},
            Evidence(signature_problem=None, served_in=("staging",), owner="another"),
            "is that of a model of another",
        ),
        ({"repository": "r"}, Evidence(signature_problem=None, served_in=("staging",), owner="r"), None),
    ],
)
def test_admission(changes: dict[str, object], evidence: Evidence, reason: str | None) -> None:
    admission = admit("production", PRODUCTION.requires, version(**changes), evidence)
    assert admission.is_admitted is (reason is None)
    assert (reason or "admitted") in admission.because


def test_what_was_overridden_is_admitted_and_told_by_admission_and_release() -> None:
    past = version(judgement=OVERRIDDEN)
    admission = admit("staging", (), past, Evidence(signature_problem=None))
    assert admission.is_admitted
    for told in (admission.because, releases.begin(5, past, "7").because):
        assert "auc overridden by ada: old labels (fail: 0.6 < 0.7)" in told
    other = GateResult(gate="f1", verdict=Verdict.FAIL, because="0.1 < 0.2")
    more = OVERRIDDEN.model_copy(update={"results": (*OVERRIDDEN.results, other)})
    refused = admit("staging", (), version(judgement=more), Evidence(signature_problem=None))
    assert not refused.is_admitted
    assert "its gates say fail: f1: 0.1 < 0.2" in refused.because


def new_release() -> Release:
    return releases.begin(5, version(), "7")


YES = Admission(is_admitted=True, because="welcome")
NO = Admission(is_admitted=False, because="quarantined")


@pytest.mark.parametrize(
    ("entered", "seen", "phase", "told"),
    [
        ({}, ReleaseSeen(admission=YES, next_rollout=9), ReleasePhase.OPEN, "rollout 9 begins"),
        ({}, ReleaseSeen(admission=NO, next_rollout=9), ReleasePhase.STOPPED, "quarantined"),
        ({}, ReleaseSeen(busy_with=4), ReleasePhase.WAITING, "busy with rollout 4"),
        ({}, ReleaseSeen(held="frozen by ada"), ReleasePhase.WAITING, "flights/staging is frozen by ada"),
        ({}, ReleaseSeen(newer=6), ReleasePhase.STOPPED, "superseded by release 6"),
        ({}, ReleaseSeen(), ReleasePhase.OPEN, "not yet asked"),
        ({"staging": 9}, ReleaseSeen(rollout=RolloutPhase.PROGRESSING), ReleasePhase.OPEN, "under way"),
        ({"staging": 9}, ReleaseSeen(rollout=RolloutPhase.ROLLED_BACK), ReleasePhase.STOPPED, "rolled_back"),
        ({"staging": 9}, ReleaseSeen(rollout=RolloutPhase.SUPERSEDED), ReleasePhase.STOPPED, "superseded"),
        (
            {"staging": 9},
            ReleaseSeen(rollout=RolloutPhase.PROMOTED, admission=YES, next_rollout=10),
            ReleasePhase.OPEN,
            "rollout 10 begins",
        ),
        (
            {"staging": 9, "production": 10},
            ReleaseSeen(rollout=RolloutPhase.PROMOTED),
            ReleasePhase.DONE,
            "promoted in every environment",
        ),
    ],
)
def test_a_release_goes_through_its_environments(
    entered: dict[str, int], seen: ReleaseSeen, phase: ReleasePhase, told: str
) -> None:
    decision = releases.advance(new_release().model_copy(update={"rollouts": entered}), seen)
    assert decision.state.phase is phase
    assert told in decision.because


def test_a_release_enters_environments_in_order_and_each_once() -> None:
    release = new_release()
    assert release.here == STAGING
    release = releases.advance(release, ReleaseSeen(admission=YES, next_rollout=9)).state
    assert release.rollouts == {"staging": 9}
    assert release.here == PRODUCTION
    done = ReleaseSeen(rollout=RolloutPhase.PROMOTED, admission=YES, next_rollout=10)
    release = releases.advance(release, done).state
    assert release.rollouts == {"staging": 9, "production": 10}
    assert release.here is None
    assert release.environment_key("staging") == "flights/staging"
    assert ReleasePhase.DONE.is_final
    assert not ReleasePhase.WAITING.is_final
    assert release.key == "5"


@pytest.mark.parametrize("phase", [RolloutPhase.ROLLED_BACK, RolloutPhase.SUPERSEDED, RolloutPhase.CANCELLED])
def test_a_release_begins_anew_where_its_rollout_ended(phase: RolloutPhase) -> None:
    stopped = new_release().model_copy(
        update={"rollouts": {"staging": 3, "production": 4}, "phase": ReleasePhase.STOPPED, "because": "superseded"}
    )
    again = releases.again(6, stopped, rollout(0, phase), "the newer one was bad")
    assert (again.number, again.rollouts, again.phase) == (6, {"staging": 3}, ReleasePhase.OPEN)
    assert (again.version, again.environments) == (stopped.version, stopped.environments)
    assert again.because == f"rollout 4 of {stopped.title} anew: the newer one was bad"


@pytest.mark.parametrize(
    ("phase", "why"), [(RolloutPhase.PROGRESSING, "it is under way"), (RolloutPhase.PROMOTED, "it was promoted")]
)
def test_what_goes_on_or_went_well_is_not_begun_anew(phase: RolloutPhase, why: str) -> None:
    with pytest.raises(Refused, match=why):
        releases.again(6, new_release(), rollout(0, phase), "again")


OLD, NEW = revision(1), revision(2)


def rollout(weight: int, phase: RolloutPhase = RolloutPhase.PROGRESSING, stable: Revision | None = OLD) -> Rollout:
    begun = begin_rollout(4, NEW, stable, EnvironmentPlan(name="production"), release=5, now=0.0)
    return begun.model_copy(update={"weight": weight, "phase": phase, "because": "so"})


def served_by_old() -> Environment:
    return Environment(name="production", model="flights", stable=OLD, weights={OLD.key: 100}, revisions=1)


def test_an_environment_follows_its_rollout_and_no_other() -> None:
    entered = enter(served_by_old(), rollout(0))
    assert (entered.candidate, entered.rollout, entered.revisions) == (NEW, 4, 2)
    assert follow(entered, rollout(25)).weights == {OLD.key: 75, NEW.key: 25}
    promoted = follow(entered, rollout(100, RolloutPhase.PROMOTED))
    assert (promoted.stable, promoted.previous, promoted.candidate, promoted.rollout) == (NEW, OLD, None, None)
    assert promoted.weights == {NEW.key: 100}
    assert follow(promoted, rollout(0, RolloutPhase.ROLLED_BACK)) == promoted


@pytest.mark.parametrize("phase", [RolloutPhase.ROLLED_BACK, RolloutPhase.SUPERSEDED, RolloutPhase.CANCELLED])
def test_an_ended_rollout_gives_all_traffic_back(phase: RolloutPhase) -> None:
    entered = enter(served_by_old(), rollout(0))
    back = follow(entered, rollout(0, phase))
    assert (back.stable, back.candidate, back.weights) == (OLD, None, {OLD.key: 100})


def test_a_first_rollout_that_fails_leaves_an_environment_that_serves_nothing() -> None:
    empty = enter(Environment(name="production", model="flights"), rollout(0, stable=None))
    assert empty.key == "flights/production"
    assert desired(empty).revisions == (NEW,)
    assert follow(empty, rollout(0, RolloutPhase.ROLLED_BACK, stable=None)).weights == {}
    assert follow(empty, rollout(100, stable=None)).weights == {NEW.key: 100}


def plane(
    *revisions: Revision,
    ready: bool = True,
    known: bool = True,
    healthy: bool = True,
    draining: bool = False,
    active: int = 0,
    weights: dict[str, int] | None = None,
    problem: str | None = None,
) -> DataPlaneSeen:
    endpoint = EndpointSeen(is_healthy=healthy, is_draining=draining, active=active)
    return DataPlaneSeen(
        replicas={r.replica(i): ReplicaSeen(is_running=True, is_ready=ready) for r in revisions for i in range(2)},
        endpoints={r.key: {r.replica(i): endpoint for i in range(2)} for r in revisions} if known else {},
        weights=weights or {},
        problem=problem,
    )


def names(acts: tuple[Act, ...]) -> list[str]:
    return [f"{act.name} {act.revision}".strip() for act in acts]


KEEP = ["ensure_replicas flights.production.r1", "ensure_endpoints flights.production.r1"]


@pytest.mark.parametrize(
    ("environment", "seen", "expected"),
    [
        (served_by_old(), plane(OLD, weights={OLD.key: 100}), [*KEEP, "end_lease"]),
        (served_by_old(), plane(OLD), [*KEEP, "ensure_weights", "end_lease"]),
        (served_by_old(), plane(OLD, healthy=False), [*KEEP, "end_lease"]),
        (served_by_old(), plane(OLD, ready=False, known=False), [KEEP[0], "end_lease"]),
        (served_by_old(), plane(OLD, known=False), [*KEEP, "end_lease"]),
        (
            served_by_old(),
            plane(OLD, NEW, weights={OLD.key: 100}),
            [*KEEP, "end_lease", "drain_endpoints flights.production.r2"],
        ),
        (
            served_by_old(),
            plane(OLD, NEW, weights={OLD.key: 90, NEW.key: 10}),
            [*KEEP, "ensure_weights", "end_lease"],
        ),
        (
            served_by_old(),
            plane(OLD, NEW, weights={OLD.key: 100}, problem="no answer"),
            [*KEEP, "end_lease"],
        ),
    ],
)
def test_what_differs_is_mended_and_nothing_is_taken_away_too_early(
    environment: Environment, seen: DataPlaneSeen, expected: list[str]
) -> None:
    assert names(differences(environment, seen)) == expected


@pytest.mark.parametrize(
    ("leaving", "expected"),
    [
        (EndpointSeen(is_healthy=True, is_draining=False), ["drain_endpoints"]),
        (EndpointSeen(is_healthy=True, is_draining=True, active=2), []),
        (EndpointSeen(is_healthy=True, is_draining=True), ["remove_endpoints"]),
        (None, ["remove_replicas"]),
    ],
)
def test_a_revision_leaves_one_act_at_a_time(leaving: EndpointSeen | None, expected: list[str]) -> None:
    seen = plane(OLD, weights={OLD.key: 100})
    endpoints = {**seen.endpoints, **({NEW.key: {NEW.replica(0): leaving}} if leaving else {})}
    replicas = {**seen.replicas, NEW.replica(0): ReplicaSeen(is_running=True, is_ready=True)}
    acts = differences(served_by_old(), seen.model_copy(update={"endpoints": endpoints, "replicas": replicas}))
    assert [act.name for act in acts if act.revision == NEW.key] == expected


@pytest.mark.parametrize(
    ("weights", "lease"), [({OLD.key: 75, NEW.key: 25}, "renew_lease"), ({OLD.key: 100}, "end_lease")]
)
def test_a_candidate_with_traffic_has_a_lease(weights: dict[str, int], lease: str) -> None:
    environment = enter(served_by_old(), rollout(0)).model_copy(update={"weights": weights})
    assert lease in [act.name for act in differences(environment, plane(OLD, NEW, weights=weights))]


WORLD = st.fixed_dictionaries(
    {
        "ready": st.booleans(),
        "known": st.booleans(),
        "healthy": st.booleans(),
        "draining": st.booleans(),
        "active": st.integers(0, 2),
        "weights": st.sampled_from([{}, {OLD.key: 100}, {OLD.key: 90, NEW.key: 10}, {NEW.key: 100}]),
        "problem": st.sampled_from([None, "no answer"]),
    }
)


@given(WORLD, st.sampled_from([0, 10, 100]))
def test_whatever_the_world_looks_like_traffic_goes_only_where_somebody_is_healthy_or_was_before(
    world: dict[str, object], weight: int
) -> None:
    environment = follow(enter(served_by_old(), rollout(0)), rollout(weight))
    seen = plane(OLD, NEW, **world)  # type: ignore[arg-type]
    for act in differences(environment, seen):
        if act.name == "ensure_weights":
            assert sum(act.weights.values()) == 100
            for key in act.weights:
                somebody = any(e.is_healthy for e in seen.endpoints.get(key, {}).values())
                assert somebody or seen.weights.get(key, 0) > 0
        if act.name in ("drain_endpoints", "remove_endpoints", "remove_replicas"):
            assert act.revision not in {r.key for r in desired(environment).revisions}
            assert seen.problem is None
