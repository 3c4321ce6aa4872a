"""Given fakes for the slow parts, when the loop meets rivals, faults and crashes, then rows and world agree."""

import json
import subprocess
from pathlib import Path

import pytest
from tests.workshop import NamedEnvironments

from interlock.access.caller import Caller, Role
from interlock.control.delivering.dataplane import Plane
from interlock.control.delivering.deliveries import Deliveries
from interlock.control.delivering.requests import Requests
from interlock.control.delivering.reverting import Reverting
from interlock.control.delivering.scaling import Scaling
from interlock.control.loop import Loop
from interlock.control.monitoring.monitoring import Monitoring
from interlock.control.monitoring.retraining import Retraining
from interlock.control.rows import load_state, write_state
from interlock.control.running.attempts import Attempts
from interlock.control.running.intake import Intake
from interlock.control.running.lookups import Lookups
from interlock.control.running.runs import SERVER, Runs
from interlock.control.running.sealing import Sealing
from interlock.delivery.environment import Environment
from interlock.delivery.looks.replaying import replay
from interlock.delivery.rollout import OrderName, Rollout
from interlock.edges.blobs import MemoryBlobs
from interlock.edges.executor import FakeExecutor
from interlock.edges.git import CommandGit
from interlock.edges.proxy import FakeProxy
from interlock.edges.serving import FakeReplicas
from interlock.edges.store import MemoryStore
from interlock.errors import NotFound, Refused, SignatureInvalid, StaleWrite
from interlock.run.run import Run
from interlock.run.stage import StageOutcome
from interlock.source.repository import Watched
from interlock.vocabulary import Json, Kind, Phase, canonical

PIPELINE = """\
version: 1
stages:
  train: {cmd: python train.py, outs: [model/]}
model: {name: small, path: model/, format: skops}
deploy:
  staging: {strategy: rolling, replicas: 1}
  production:
    requires: [staging]
    strategy:
      canary:
        steps: [{set_weight: 20}, {analysis: {for: 5s}}]
        deadline: 60s
        analysis: {metrics: [{metric: error_rate, margin: 0.05, max: 0.1}]}
"""


ADA = Caller(name="ada", role=Role.ADMIN)


class KeyedSigning:
    """Signs with a word; the real key is for the tests of signing."""

    def __init__(self) -> None:
        self.is_broken = False

    def sign(self, folder: str) -> bytes:
        return b"signed"

    def verify(self, folder: str, bundle: bytes) -> None:
        if self.is_broken or bundle != b"signed":
            raise SignatureInvalid("model.skops differs")

    def attest(self, statement: dict[str, Json]) -> bytes:
        return canonical(statement)

    def read(self, envelope: bytes) -> dict[str, Json]:
        statement: dict[str, Json] = json.loads(envelope)
        return statement


class Plant:
    """A control plane over fakes; ``restart`` gives it a new life on the same rows, as after ``kill -9``."""

    def __init__(self, folder: Path) -> None:
        self.now = 1000.0
        self.folder = folder
        self.store = MemoryStore(lambda: self.now)
        self.blobs = MemoryBlobs()
        self.signing = KeyedSigning()
        self.proxy = FakeProxy({"staging": "127.0.0.1:1", "production": "127.0.0.1:2"})
        self.replicas = FakeReplicas()
        self.git = CommandGit(folder / "snapshots")
        self.origin = folder / "small"
        self.faults: list[str] = []
        self.lives = 0
        self.origin.mkdir()
        self._git("init", "-q", "-b", "main")
        self.restart()

    def _git(self, *arguments: str) -> None:
        identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
        subprocess.run(["git", *identity, *arguments], cwd=self.origin, check=True, capture_output=True)

    def restart(self) -> None:
        self.lives += 1
        self.executor = FakeExecutor(on_demand=True)
        lookups = Lookups(self.store, self.git, self.blobs, NamedEnvironments(), platform="p", program="q")
        self.attempts = Attempts(self.store, self.executor, self.blobs, f"life {self.lives}", lambda: None)
        sealing = Sealing(self.store, self.blobs, self.signing, lookups, "test")
        self.runs = Runs(self.store, self.blobs, self.attempts, lookups, sealing, lambda: self.now)
        plane = Plane(self.store, self.replicas, self.proxy, Scaling(self.store, lambda: self.now, 2.0, 2.0**33))
        self.deliveries = Deliveries(self.store, self.attempts, sealing, plane, lambda: self.now)
        self.intake = Intake(self.store, self.git, self.blobs, NamedEnvironments(), lookups)
        watch = Monitoring(self.store, self.blobs, plane, lambda: self.now).step
        self.loop = Loop(self.store, self.runs, self.deliveries, plane, SERVER, self.faults.append, watch=watch)
        self.retraining = Retraining(self.store, self.intake, {"small": self.watched})
        self.requests = Requests(self.store, lambda: self.now)
        asked = self.watched.model_copy(update={"propose_reverts": True})
        self.reverting = Reverting(self.store, self.git, self.git.reverts, {"small": asked}, {}, lambda: self.now)
        self.reverting.one_pass()

    def commit(self, train: str, pipeline: str = PIPELINE) -> list[Run]:
        self.write(train, pipeline)
        return self.look()

    def write(self, train: str, pipeline: str = PIPELINE) -> None:
        """A commit that nobody has looked at yet."""
        (self.origin / "interlock.yaml").write_text(pipeline)
        (self.origin / "train.py").write_text(train)
        (self.origin / "requirements.txt").write_text("")
        self._git("add", "-A")
        self._git("commit", "-qm", train)

    def proposed(self) -> list[str]:
        """What the training would be with each of the reverts that are proposed by now."""
        self.reverting.one_pass()
        place = str(self.origin / ".git")
        refs = self.git.listing(None, place, "refs/heads/interlock/*")
        commits = [self.git.commit("small", place, ref) for ref in sorted(refs)]
        return [self.git.read(commit, ["train.py"])["train.py"].decode() for commit in commits]

    @property
    def watched(self) -> Watched:
        return Watched(name="small", git_directory=str(self.origin / ".git"))

    def look(self) -> list[Run]:
        return self.intake.look(self.watched)

    def finish(self, model: bytes = b"weights") -> None:
        """Every attempt that runs succeeds; training makes this model."""
        self.loop.one_pass()
        while self.executor.running():
            for attempt in sorted(self.executor.running()):
                reads = () if "/dependencies/" in attempt else ("train.py",)
                products = {"model": self.blobs.put_files({"model.skops": model})} if "/train/" in attempt else {}
                outcome = StageOutcome(
                    phase=Phase.SUCCEEDED, because="well", products=products, reads=reads, report={"ok": True}
                )
                self.executor.finish(attempt, outcome)
            self.loop.one_pass()

    def turn(self, seconds: int = 1, rate: int = 50, candidate_errors: float = 0.0, stable_errors: float = 0.0) -> None:
        for _ in range(seconds):
            self.now += 1.0
            for environment in ("small/staging", "small/production"):
                seen = self.proxy.observe(environment)
                for key, weight in seen.weights.items():
                    requests = rate * weight // 100
                    row, _ = load_state(self.store, Kind.ENVIRONMENT, environment, Environment)
                    is_candidate = row is not None and row.candidate is not None and row.candidate.key == key
                    errors = candidate_errors if is_candidate else stable_errors
                    self.proxy.count(key, requests, round(requests * errors))
            self.loop.one_pass()

    def state(self, name: str) -> Environment:
        environment, _ = load_state(self.store, Kind.ENVIRONMENT, f"small/{name}", Environment)
        assert environment is not None
        return environment

    def phases(self, kind: Kind) -> list[str]:
        return [row.phase for row in self.store.rows(kind)]


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    return Plant(tmp_path)


def delivered(plant: Plant, train: str = "one = 1", model: bytes = b"one") -> None:
    plant.commit(train)
    plant.finish(model)
    plant.turn(40)


def test_a_commit_becomes_a_served_version(plant: Plant) -> None:
    delivered(plant)
    assert plant.phases(Kind.RUN) == ["succeeded"]
    assert plant.phases(Kind.VERSION) == ["registered"]
    assert plant.phases(Kind.RELEASE) == ["done"]
    assert plant.phases(Kind.ROLLOUT) == ["promoted", "promoted"]
    assert plant.state("production").weights == plant.proxy.observe("small/production").weights
    assert plant.faults == []


def test_the_same_push_seen_twice_is_one_run(plant: Plant) -> None:
    plant.commit("one = 1")
    assert plant.look() == []
    assert len(plant.store.rows(Kind.RUN)) == 1


def test_a_comment_runs_nothing_and_delivers_nothing(plant: Plant) -> None:
    delivered(plant)
    plant.commit("one = 1  # said")
    plant.finish()
    run, _ = load_state(plant.store, Kind.RUN, "2", Run)
    assert run is not None
    assert {name for name, stage in run.stages.items() if stage.attempt and stage.phase is Phase.SUCCEEDED} <= {
        "syntax",
        "imports",
    }
    assert run.version == "small v1"
    assert len(plant.store.rows(Kind.RELEASE)) == 1


def test_a_lost_control_plane_leaves_attempts_that_the_next_one_tries_again(plant: Plant) -> None:
    plant.commit("one = 1")
    plant.loop.one_pass()
    claimed = sorted(plant.executor.running())
    plant.restart()
    plant.loop.one_pass()
    again = sorted(plant.executor.running())
    assert [key.rpartition("/")[0] for key in claimed] == [key.rpartition("/")[0] for key in again]
    assert {key.rpartition("/")[2] for key in again} == {"2"}
    plant.finish(b"one")
    assert plant.phases(Kind.RUN) == ["succeeded"]


def test_a_restart_between_any_two_passes_changes_nothing_in_the_end(plant: Plant) -> None:
    delivered(plant)
    plant.commit("one = 2")
    plant.finish(b"two")
    for _ in range(40):
        plant.turn()
        plant.restart()
        assert sum(plant.proxy.observe("small/production").weights.values()) == 100
    assert plant.phases(Kind.RELEASE) == ["done", "done"]
    assert plant.state("production").stable.version == 2
    assert plant.faults == []


def test_a_bad_candidate_is_rolled_back_and_its_digest_comes_in_no_more(plant: Plant) -> None:
    delivered(plant)
    plant.commit("one = 2")
    plant.finish(b"two")
    plant.turn(40, candidate_errors=0.2)
    assert plant.phases(Kind.ROLLOUT)[-1] == "rolled_back"
    assert plant.phases(Kind.RELEASE)[-1] == "stopped"
    assert plant.state("production").stable.version == 1
    assert plant.phases(Kind.QUARANTINE) == ["blocked"]
    assert plant.proposed() == ["one = 1"]
    assert plant.look() == []  # the branch of the revert begins no run
    plant.requests.start_release(ADA, "small/2", "a person insists")
    plant.turn(3)
    assert plant.phases(Kind.RELEASE)[-1] == "stopped"
    assert "quarantined" in plant.store.rows(Kind.RELEASE)[-1].state["because"]
    plant.requests.lift_quarantine(ADA, "small/2", "it was the network")
    plant.requests.start_release(ADA, "small/2", "a person insists")
    plant.turn(40)
    assert plant.state("production").stable.version == 2
    with pytest.raises(NotFound):
        plant.requests.lift_quarantine(ADA, "small/2", "again")


WATCHED = (
    "        analysis: {metrics: [{metric: error_rate, margin: 0.05, max: 0.1}]}\n"
    "    monitoring: {period: 1m, rules: [{metric: error_rate, max: 0.05, on_breach: %s}]}\n"
)


def watched_pipeline(on_breach: str) -> str:
    return PIPELINE.replace(WATCHED.splitlines(keepends=True)[0], WATCHED % on_breach)


def test_a_promoted_revision_that_goes_wrong_is_rolled_back_and_its_environment_is_frozen(plant: Plant) -> None:
    for number, model in enumerate((b"one", b"two"), start=1):
        plant.commit(f"one = {number}", watched_pipeline("rollback"))
        plant.finish(model)
        plant.turn(40)
    assert plant.state("production").stable.version == 2
    plant.turn(20, stable_errors=0.4)
    production = plant.state("production")
    assert production.stable.version == 1
    assert production.freeze is not None
    assert "error_rate: 40 % of the requests fail" in production.freeze.reason
    assert plant.phases(Kind.QUARANTINE) == ["blocked"]
    told = [row.state["state"] for row in plant.store.rows(Kind.ALERT, prefix="small/production")]
    assert told[:2] == ["firing", "resolved"]  # then it is told of the one before, which fails as often here
    assert plant.proposed() == ["one = 1"]
    assert plant.faults == []


def test_a_breach_trains_the_model_anew_once(plant: Plant) -> None:
    plant.commit("one = 1", watched_pipeline("retrain"))
    plant.finish(b"one")
    plant.turn(40)
    plant.turn(20, stable_errors=0.4)
    (begun,) = plant.retraining.one_pass()
    assert begun.occasion.kind == "breach"
    assert begun.occasion.detail.startswith("small/production ")
    assert plant.store.rows(Kind.MONITOR, prefix="small/production")[0].state["alerts"]["error_rate"]["acted"] == (
        "run 2 trains it anew"
    )
    plant.turn(20, stable_errors=0.4)
    assert plant.retraining.one_pass() == []
    assert len(plant.store.rows(Kind.RUN)) == 2
    assert plant.state("production").stable.version == 1
    assert plant.faults == []


def test_traffic_is_given_back_in_the_very_step_that_decides(plant: Plant) -> None:
    delivered(plant)
    plant.commit("one = 2")
    plant.finish(b"two")
    while len(plant.proxy.observe("small/production").weights) < 2:
        plant.turn()
    stable, candidate = plant.state("production").stable, plant.state("production").candidate
    assert stable is not None
    assert candidate is not None
    key = plant.store.rows(Kind.ROLLOUT)[-1].key
    begun = plant.store.events(Kind.ROLLOUT, key)[0].because
    assert "at 3e+03 requests/min 20 % for 0.0833 min shows" in begun  # measured while nothing was under way
    for _ in range(20):
        plant.now += 1.0
        plant.proxy.count(stable.key, 40)
        plant.proxy.count(candidate.key, 10, 8)
        plant.deliveries.step_rollout(key)
        if plant.phases(Kind.ROLLOUT)[-1] == "rolled_back":
            break
    assert plant.proxy.observe("small/production").weights == {stable.key: 100}
    plant.turn(5)  # and what else differs follows, at versions that are not refused
    assert set(plant.proxy.observe("small/production").endpoints) == {stable.key}
    assert plant.faults == []


def test_who_slept_on_a_weight_gives_none_to_what_was_taken_back_meanwhile(plant: Plant) -> None:
    delivered(plant)
    stable = plant.state("production").stable
    plant.commit("one = 2")
    plant.finish(b"two")
    key = "small/production"
    while True:
        plant.now += 1.0
        for row in plant.store.rows(Kind.ROLLOUT):
            plant.deliveries.step_rollout(row.key)
        saved, version = load_state(plant.store, Kind.ENVIRONMENT, key, Environment)
        if len(saved.weights) == 2:
            break
        plant.loop.one_pass()
    assert plant.proxy.observe(key).weights == {stable.key: 100}  # saved, and not yet done
    plant.requests.roll_back(ADA, key, "not this one")
    plant.deliveries.step_rollout(str(saved.rollout))
    assert plant.phases(Kind.ROLLOUT)[-1] == "rolled_back"
    with pytest.raises(StaleWrite):
        plant.proxy.ensure_weights(key, saved.weights, version)
    assert plant.proxy.observe(key).weights == {stable.key: 100}


def test_a_check_is_given_the_secrets_of_its_environment(plant: Plant) -> None:
    checked = "staging: {strategy: rolling, replicas: 1, checks: [{name: contract, cmd: x, secrets: [MODEL_KEY]}]}"
    plant.commit("one = 1", PIPELINE.replace("staging: {strategy: rolling, replicas: 1}", checked))
    plant.finish(b"one")
    plant.turn(3)
    (request,) = (one for one in plant.executor.started if one.stage.name == "contract")
    assert (request.stage.secrets, request.secrets_of) == (("MODEL_KEY",), "small/small/staging")


def test_a_person_rolls_back_a_rollout_and_a_promoted_version(plant: Plant) -> None:
    delivered(plant)
    with pytest.raises(Refused):
        plant.requests.roll_back(ADA, "small/production", "nothing before")
    with pytest.raises(NotFound):
        plant.requests.roll_back(ADA, "small/elsewhere", "no such place")
    plant.commit("one = 2")
    plant.finish(b"two")
    plant.turn(40)
    assert plant.state("production").stable.version == 2
    assert "back to small v1" in plant.requests.roll_back(ADA, "small/production", "odd numbers")
    plant.turn(10)
    assert plant.state("production").stable.version == 1
    with pytest.raises(Refused, match="quarantined"):
        plant.requests.roll_back(ADA, "small/production", "and forth")
    assert plant.proposed() == []  # a person knows what to do
    plant.commit("one = 3")
    plant.finish(b"three")
    plant.turn(40)  # a push after a rollback waits for a person: it may bring the same fault again
    assert plant.state("staging").stable.version == 3
    assert plant.phases(Kind.RELEASE)[-1] == "waiting"
    assert "frozen by ada until it is unfrozen: rolled back" in plant.store.rows(Kind.RELEASE)[-1].state["because"]
    assert plant.state("production").rollout is None
    plant.requests.unfreeze(ADA, "small/production", "the fault is mended")
    plant.turn(3)
    assert plant.state("production").rollout is not None
    where = "small/production" if plant.state("production").rollout else "small/staging"
    plant.requests.roll_back(ADA, where, "not this one")
    plant.turn(5)
    assert plant.phases(Kind.ROLLOUT)[-1] == "rolled_back"


def test_a_person_pauses_a_rollout_for_longer_than_its_deadline_and_promotes_it(plant: Plant) -> None:
    delivered(plant)
    plant.commit("one = 2")
    plant.finish(b"two")
    plant.turn(6, rate=0)
    number = plant.state("production").rollout
    assert number is not None
    plant.requests.steer(ADA, number, OrderName.PAUSE, "lunch")
    plant.turn(100, rate=0)
    assert plant.state("production").rollout == number
    assert sorted(plant.state("production").weights.values()) == [20, 80]
    plant.requests.steer(ADA, number, OrderName.RESUME, "back")
    plant.turn(20, rate=0)
    assert plant.state("production").rollout == number  # without a request it stays at its first step
    plant.requests.steer(ADA, number, OrderName.PROMOTE, "we know it from staging")
    plant.turn(5, rate=0)
    assert plant.state("production").stable.version == 2
    row = plant.store.load(Kind.ROLLOUT, str(number))
    assert row is not None
    assert "promoted past its further steps by ada: we know it" in row.state["because"]
    again = replay(Rollout.model_validate(row.state), plant.store.events(Kind.ROLLOUT, row.key))
    assert (again.differences, again.unknown) == ((), 0)


def test_a_paused_rollout_goes_back_for_harm_and_an_aborted_one_at_once(plant: Plant) -> None:
    delivered(plant)
    for train in ("one = 2", "one = 3"):
        plant.commit(train)
        plant.finish(train.encode())
        plant.turn(6)
        number = plant.state("production").rollout
        assert number is not None
        plant.requests.steer(ADA, number, OrderName.PAUSE, "I want to look at it")
        if train == "one = 2":
            plant.turn(60, candidate_errors=0.5)
        else:
            plant.requests.steer(ADA, number, OrderName.ABORT, "I looked at it")
            plant.turn(1)
        assert plant.phases(Kind.ROLLOUT)[-1] == "rolled_back"
        assert plant.proxy.observe("small/production").weights == {plant.state("production").stable.key: 100}
    assert plant.state("production").stable.version == 1
    assert plant.phases(Kind.QUARANTINE) == ["blocked", "blocked"]


def test_a_rollout_that_met_its_deadline_is_begun_anew_and_staging_is_left_alone(plant: Plant) -> None:
    delivered(plant)
    plant.commit("one = 2")
    plant.finish(b"two")
    plant.turn(80, rate=0)
    ended = plant.store.rows(Kind.ROLLOUT)[-1]
    assert (ended.phase, ended.state["environment"]) == ("rolled_back", "small/production")
    assert "deadline of 60 s passed" in ended.state["because"]
    with pytest.raises(Refused, match="quarantined: deadline"):
        plant.requests.retry(ADA, int(ended.key), "there is traffic again")
    release = plant.requests.retry(ADA, int(ended.key), "there is traffic again", "it only had no traffic")
    plant.turn(40)
    assert plant.state("production").stable.version == 2
    assert plant.phases(Kind.RELEASE) == ["done", "stopped", "done"]
    entered = plant.store.load(Kind.RELEASE, release.key).state["rollouts"]
    assert entered["staging"] == int(ended.key) - 1  # as it was
    assert entered["production"] == int(ended.key) + 1


def test_every_rollout_is_decided_again_from_what_the_store_kept(plant: Plant) -> None:
    delivered(plant)
    plant.commit("one = 2")
    plant.finish(b"two")
    plant.turn(40, candidate_errors=0.2)
    rows = plant.store.rows(Kind.ROLLOUT)
    assert {row.phase for row in rows} == {"promoted", "rolled_back"}
    for row in rows:
        again = replay(Rollout.model_validate(row.state), plant.store.events(Kind.ROLLOUT, row.key))
        assert (again.differences, again.unknown) == ((), 0)
        assert again.decisions >= 2


def test_a_version_whose_bytes_do_not_match_their_signature_is_not_admitted(plant: Plant) -> None:
    plant.commit("one = 1")
    plant.signing.is_broken = True
    plant.finish(b"one")
    plant.turn(3)
    assert plant.phases(Kind.RELEASE) == ["stopped"]
    assert "model.skops differs" in plant.store.rows(Kind.RELEASE)[0].state["because"]
    assert plant.store.rows(Kind.ROLLOUT) == []


def test_a_newer_release_takes_over_from_one_under_way(plant: Plant) -> None:
    delivered(plant)
    plant.commit("one = 2")
    plant.finish(b"two")
    plant.turn(4)
    plant.commit("one = 3")
    plant.finish(b"three")
    plant.turn(60)
    assert plant.phases(Kind.RELEASE) == ["done", "stopped", "done"]
    assert plant.state("production").stable.version == 3
    assert set(plant.proxy.observe("small/production").endpoints) == {plant.state("production").stable.key}


def test_a_proxy_that_cannot_be_read_delays_everything_and_breaks_nothing(plant: Plant) -> None:
    delivered(plant)
    plant.proxy.problem = "no answer"
    plant.commit("one = 2")
    plant.finish(b"two")
    plant.turn(10)
    assert plant.phases(Kind.ROLLOUT)[-1] == "progressing"
    plant.proxy.problem = None
    plant.turn(40)
    assert plant.state("production").stable.version == 2


def test_a_rival_that_saved_first_wins_and_the_loser_does_nothing(plant: Plant) -> None:
    delivered(plant)
    plant.commit("one = 2")
    plant.finish(b"two")
    plant.turn(4)
    row = plant.store.rows(Kind.ROLLOUT)[-1]
    rollout = Rollout.model_validate(row.state)
    rival = rollout.model_copy(update={"wish": "a rival decided"})
    plant.store.save(
        write_state(Kind.ROLLOUT, row.key, rival, expected=row.version, phase=rival.phase, because="a rival decided")
    )
    plant.turn(3)
    assert plant.phases(Kind.ROLLOUT)[-1] == "rolled_back"


def test_an_untrusted_branch_runs_nothing_that_main_would(plant: Plant) -> None:
    plant.commit("one = 1")
    plant._git("checkout", "-qb", "feature")
    assert plant.commit("one = 2") == []
    plant._git("branch", "-qD", "main")
    assert plant.look() == []


def test_a_pipeline_file_that_cannot_be_planned_is_a_failed_run_with_lines(plant: Plant) -> None:
    (run,) = plant.commit("one = 1", pipeline="version: 1\nstagez: {}\n")
    assert run.phase is Phase.FAILED
    assert any(problem.line == 2 for problem in run.problems)
