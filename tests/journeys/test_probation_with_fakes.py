"""Given fakes for the slow parts, when a candidate is on probation, then rows and world stay as they have to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.plant import ADA, Plant

from interlock.delivery.revision import CounterSeen
from interlock.pipeline.canaries.plan import AnalysisMetricPlan, AnalysisPlan, StepPlan, StrategyPlan
from interlock.pipeline.plan import EnvironmentPlan
from interlock.vocabulary import Kind

PRODUCTION = "small/production"
PROBATION, DELAY = 30.0, 10.0
ERRORS = AnalysisMetricPlan(metric="error_rate", margin=0.05, max=0.1)
SLICES = {"carrier": ("AA", "UA")}
LATE = AnalysisMetricPlan(metric="accuracy", margin=0.05, max=0.1, delay=DELAY, slices=SLICES)
CANARY = StrategyPlan(
    kind="canary",
    steps=(StepPlan(set_weight=20), StepPlan(analysis=5.0)),
    deadline=60.0,
    analysis=AnalysisPlan(metrics=(ERRORS, LATE)),
    probation=PROBATION,
    holdback=10,
)
DEPLOY = (
    EnvironmentPlan(name="staging", replicas=1),
    EnvironmentPlan(name="production", requires=("staging",), strategy=CANARY),
)


class Site(Plant):
    """Every answer of production gets its label at once; of the candidate a ``wrong`` share is wrong."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.wrong = 0.0
        self._judged: dict[str, list[int]] = {}

    def turn(self, seconds: int = 1, **more: Any) -> None:
        for _ in range(seconds):
            candidate = self.environment("production").candidate if self.store.rows(Kind.ROLLOUT) else None
            for key, counter in self.proxy.counters.items():
                judged, wrong = self._judged.get(key, [0, 0])
                new = counter.requests - judged
                share = self.wrong if candidate is not None and candidate.key == key else 0.0
                self._judged[key] = [counter.requests, wrong + round(new * share)]
            self.replicas.truths[PRODUCTION] = {
                key: CounterSeen(epoch="labels", requests=judged, errors=wrong)
                for key, (judged, wrong) in self._judged.items()
            }
            super().turn(1, **more)

    def rollout(self) -> Any:
        """The newest one."""
        return self.last(Kind.ROLLOUT).state

    def bring(self, number: int) -> None:
        """The version is on probation in production."""
        self.release(number)
        for _ in range(60):
            if self.rollout()["is_on_probation"]:
                return
            self.turn()
        pytest.fail(str(self.rollout()["because"]))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = Site(tmp_path)
    for number in range(1, 4):
        site.register(number, deploy=DEPLOY)
    site.release(1)
    Plant.turn(site, 15)
    assert site.environment("production").stable.version == 1
    assert site.environment("production").stable.slices == SLICES
    assert site.environment("staging").stable.slices == {}
    return site


def test_a_long_probation_renews_its_lease_at_every_pass_until_it_is_promoted(site: Site) -> None:
    site.bring(2)
    stable, candidate = site.environment("production").stable.key, site.environment("production").candidate.key
    seconds = 0
    while site.environment("production").rollout is not None:
        assert site.proxy.observe(PRODUCTION).weights == {candidate: 90, stable: 10}
        assert site.proxy.leases.pop(PRODUCTION) == (candidate, stable)
        assert {name.rpartition(".")[0] for name in site.replicas.observe(PRODUCTION)} == {candidate, stable}
        site.turn()
        seconds += 1
    assert abs(seconds - PROBATION) <= 2.0
    assert site.environment("production").stable.key == candidate
    site.turn(3)
    assert site.proxy.observe(PRODUCTION).weights == {candidate: 100}
    assert PRODUCTION not in site.proxy.leases
    assert site.phases(Kind.RELEASE)[-1] == "done"


def test_a_control_plane_that_dies_on_probation_changes_nothing(site: Site) -> None:
    site.bring(2)
    stable, candidate = site.environment("production").stable.key, site.environment("production").candidate.key
    began = site.now
    while site.environment("production").rollout is not None:
        site.loop, site.requests = site.begin(site.store, site.proxy, site.replicas)  # another one each second
        site.turn()
    assert abs(site.now - began - PROBATION) <= 2.0
    assert site.environment("production").stable.key == candidate
    site.turn(3)
    assert stable not in site.proxy.observe(PRODUCTION).weights


def test_without_a_control_plane_stable_gets_all_traffic_and_the_next_one_gives_the_weight_back(site: Site) -> None:
    site.bring(2)
    stable, candidate = site.environment("production").stable.key, site.environment("production").candidate.key
    version = site.store.version(Kind.ENVIRONMENT, PRODUCTION)
    site.proxy.ensure_weights(PRODUCTION, {stable: 100}, version)  # as supervise does after five minutes
    site.turn(2)
    assert site.proxy.observe(PRODUCTION).weights == {candidate: 90, stable: 10}
    assert site.rollout()["phase"] == "progressing"


def test_labels_that_speak_against_it_take_it_back_and_the_next_push_waits_for_a_person(site: Site) -> None:
    site.wrong = 0.4
    site.bring(2)
    site.turn(20)
    assert (site.rollout()["phase"], "accuracy" in site.rollout()["because"]) == ("rolled_back", True)
    environment = site.environment("production")
    assert environment.weights == {environment.stable.key: 100}
    assert environment.stable.version == 1
    assert [row.phase for row in site.store.rows(Kind.QUARANTINE)] == ["blocked"]
    site.wrong = 0.0
    site.release(3)
    site.turn(30)
    assert site.phases(Kind.RELEASE)[-1] == "waiting"
    assert (
        "frozen by interlock until it is unfrozen: rolled back on probation" in site.last(Kind.RELEASE).state["because"]
    )
    site.requests.unfreeze(ADA, PRODUCTION, "the fault is mended")
    site.turn(70)
    assert site.environment("production").stable.version == 3


def test_a_newer_release_waits_until_the_one_on_probation_is_stable(site: Site) -> None:
    site.bring(2)
    site.release(3)
    site.turn(1)
    assert site.phases(Kind.RELEASE)[-2] == "stopped"
    assert site.rollout()["phase"] == "progressing"
    numbers = [row.state["number"] for row in site.store.rows(Kind.ROLLOUT)]
    site.turn(10)
    second = site.store.load(Kind.ROLLOUT, str(numbers[-2]))
    assert second is not None
    assert (second.phase, "cut short for release 3" in second.state["because"]) == ("promoted", True)
    third = site.rollout()
    assert (third["environment"], third["stable"]["version"], third["candidate"]["version"]) == (PRODUCTION, 2, 3)


def test_the_next_environment_waits_until_a_probation_is_over(tmp_path: Path) -> None:
    site = Site(tmp_path)
    staging = EnvironmentPlan(
        name="staging", strategy=CANARY.model_copy(update={"analysis": AnalysisPlan(metrics=(ERRORS,))})
    )
    deploy = (staging, EnvironmentPlan(name="production", requires=("staging",)))
    for number in (1, 2):
        site.register(number, deploy=deploy)
    site.release(1)
    Plant.turn(site, 10)
    site.release(2)
    Plant.turn(site, 25)
    assert (site.rollout()["environment"], site.rollout()["is_on_probation"]) == ("small/staging", True)
    Plant.turn(site, 40)
    assert site.environment("production").stable.version == 2


def test_a_probation_does_not_keep_the_loop_busy(site: Site) -> None:
    site.bring(2)
    site.turn(3)
    assert not site.loop.one_pass()
