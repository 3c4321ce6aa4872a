"""The demo's own parts: its traffic against a stand-in for production, its watch on a real store, its verdicts."""

import json
import os
import signal
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from interlock.app.reading import Reading
from interlock.cli.demo.acts import (
    ACTS,
    delivered,
    delivered_by_canary,
    nothing_to_do,
    rolled_back,
    stopped_by_gate,
    stopped_early,
)
from interlock.cli.demo.dataset import Sizes, make_data, read_records
from interlock.cli.demo.service import NO_TRAFFIC, Service, Traffic, free_ports
from interlock.cli.demo.summary import Played, pushes_table, traffic_lines, unexpected_failures
from interlock.cli.demo.watch import Journey, Watch
from interlock.delivery.release import Release, ReleasePhase
from interlock.delivery.revision import Revision
from interlock.delivery.rollout import RolloutPhase
from interlock.delivery.rollout import begin as begin_rollout
from interlock.errors import Fault, ServingFault
from interlock.gate.judgement import GateResult, Judgement
from interlock.pipeline.canaries.plan import StepPlan, StrategyPlan
from interlock.pipeline.plan import EnvironmentPlan, Plan, StagePlan
from interlock.run.run import StageRun
from interlock.run.run import begin as begin_run
from interlock.run.stage import Problem
from interlock.source.commit import Commit, Occasion
from interlock.vocabulary import Kind, Phase, Verdict, Write


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with ``live.csv``."""
    folder = tmp_path_factory.mktemp("made")
    make_data(folder, folder / "live.csv", Sizes(train=50, holdout=50, live=400))
    return folder


def test_the_acts_tell_the_whole_story():
    assert [act.number for act in ACTS] == ["1", "2", "3", "4a", "4b", "4c", "5", "6", "7"]
    assert [act.number for act in ACTS if act.is_in_fast_cut] == ["1", "2", "3", "4a", "6"]
    assert [act.number for act in ACTS if act.is_server_killed] == ["7"]


class Endpoint:
    """A stand-in for production: ready on demand, bad if told so, keeps what it was sent."""

    def __init__(self):
        self.is_ready, self.is_bad = False, False
        self.asked, self.labels = [], []
        outer = self

        class Asked(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def answer(self, status, body):
                content = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(content)))
                self.send_header(
                    "x-interlock-revision", "flights.production.r2" if outer.is_bad else "flights.production.r1"
                )
                self.end_headers()
                self.wfile.write(content)

            def do_GET(self):
                self.answer(200 if outer.is_ready else 503, {})

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                if self.path == "/labels/flights/production":
                    outer.labels += body["labels"]
                    return self.answer(200, {})
                outer.asked.append((self.path, body))
                plane = next(tensor for tensor in body["inputs"] if tensor["name"] == "engines")
                if outer.is_bad and plane["data"] == [None]:
                    return self.answer(500, {"error": "no plane has the tail number"})
                return self.answer(200, {"outputs": []})

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Asked)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def endpoint():
    made = Endpoint()
    yield made
    made.close()


def wait_for(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def test_the_traffic_waits_then_asks_then_tells_the_truth_later(endpoint, data, tmp_path):
    traffic = Traffic(endpoint.url, data / "live.csv", tmp_path / "traffic", rate=100)
    traffic.start()
    try:
        time.sleep(1)
        assert endpoint.asked == []
        assert traffic.tally() == NO_TRAFFIC
        endpoint.is_ready = True
        wait_for(lambda: endpoint.labels)
        endpoint.is_bad = True
        wait_for(lambda: len(traffic.failures()) >= 5)
    finally:
        traffic.stop()
    late = {row["id"]: int(row["late"]) for row in read_records(data / "live.csv")}
    identities = [body["id"] for _, body in endpoint.asked]
    assert len(set(identities)) == len(identities)
    assert {path for path, _ in endpoint.asked} == {"/v2/models/flights/infer"}
    assert all(late[label["id"].rpartition("-")[0]] == label["label"] for label in endpoint.labels)
    tally, failures = traffic.tally(), traffic.failures()
    assert tally["sent"] == len(identities) == sum(tally["served"].values()) + sum(tally["failed"].values())
    assert tally["failed"] == {"flights.production.r2": len(failures)}
    assert {(failure["status"], failure["reason"]) for failure in failures} == {(500, "no plane has the tail number")}
    assert tally["labels"] == len(endpoint.labels)
    assert tally["labels_failed"] == 0


def test_a_dead_endpoint_is_counted_and_never_stops_the_traffic(endpoint, data, tmp_path):
    traffic = Traffic(endpoint.url, data / "live.csv", tmp_path / "traffic", rate=50)
    endpoint.is_ready = True
    traffic.start()
    try:
        wait_for(lambda: endpoint.asked)
        endpoint.close()
        wait_for(lambda: len(traffic.failures()) >= 5)
    finally:
        traffic.stop()
    assert {(failure["status"], failure["revision"]) for failure in traffic.failures() if not failure["status"]} == {
        (0, "")
    }
    with pytest.raises(ProcessLookupError):
        os.kill(traffic.pid, signal.SIG_DFL)


def test_a_failure_is_forgiven_only_if_a_bad_revision_answered_it():
    failures = [{"revision": "r3", "status": 500, "reason": "x"}, {"revision": "", "status": 503, "reason": "y"}]
    assert unexpected_failures(failures, frozenset({"r3"})) == failures[1:]
    tally = NO_TRAFFIC | {"served": {"r2": 7}, "failed": {"r3": 1, "": 1}}
    text = "\n".join(line.text for line in traffic_lines(tally, failures, {"r3": "flights v3"}, frozenset({"r3"})))
    assert "7 served, 2 failed" in text
    assert "1 x 500 by flights v3: x" in text
    assert "1 x 503 by nobody: y" in text


def test_ports_are_different_and_free():
    assert len(set(free_ports(5))) == 5


def test_a_server_that_ends_at_once_is_told_with_its_last_words(tmp_path):
    (tmp_path / "server.yaml").write_text("repositories: 7\n")
    service = Service(tmp_path / "state", tmp_path / "server.yaml", tmp_path / "server.log")
    with pytest.raises(ServingFault, match="did not start"):
        service.start()


TREE = Commit(repository="flights", git_directory="/flights.git", ref="refs/heads/main", sha="a" * 40, tree="b" * 40)
PLAN = Plan(
    stages=(
        StagePlan(name="syntax", kind="check", builtin="syntax"),
        StagePlan(name="train", kind="stage", command="python src/train.py", needs=("syntax",)),
    )
)
REVISION = Revision(
    environment="flights/production",
    number=2,
    version=2,
    model="flights",
    model_digest="blake3:0",
    lock="blake3:1",
    format="skops",
    replicas=1,
)


def a_run(phase, **stages):
    run = begin_run(1, TREE, Occasion(kind="push"), PLAN, "blake3:2", driver="server", is_trusted=True)
    return run.model_copy(update={"phase": phase, "because": f"it is {phase}", "stages": {**run.stages, **stages}})


def a_rollout(phase, weight):
    environment = EnvironmentPlan(
        name="production", strategy=StrategyPlan(kind="canary", steps=(StepPlan(set_weight=10),))
    )
    stable = REVISION.model_copy(update={"number": 1, "version": 1})
    rollout = begin_rollout(1, REVISION, stable, environment, release=1, now=1.0)
    return rollout.model_copy(update={"phase": phase, "weight": weight, "because": f"weight {weight} %"})


def a_release(phase):
    return Release(
        number=1,
        model="flights",
        version="flights/2",
        title="flights v2",
        run="1",
        environments=(EnvironmentPlan(name="production"),),
        rollouts={"production": 1},
        phase=phase,
        because=f"it is {phase}",
    )


class World:
    """A state folder in which a test writes what a server would."""

    def __init__(self, state):
        self.reading = Reading.open(state)

    def save(self, kind, thing, **observed):
        row = self.reading.store.load(kind, thing.key)
        self.reading.store.save(
            Write(
                kind=kind,
                key=thing.key,
                expected=row.version if row else 0,
                phase=thing.phase,
                state=thing.model_dump(mode="json"),
                because=thing.because,
                observed=observed,
            )
        )


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path / "state")
    yield made
    made.reading.close()


def test_a_journey_is_followed_from_run_to_rollout_and_told_once(world, tmp_path):
    told = []
    done = StageRun(phase=Phase.SUCCEEDED, attempt=1, because="parsed", seconds=1.0)
    moves = iter(
        [
            lambda: world.save(Kind.RUN, a_run(Phase.RUNNING, syntax=done)),
            lambda: (
                world.save(Kind.RELEASE, a_release(ReleasePhase.OPEN)),
                world.save(Kind.RUN, a_run(Phase.SUCCEEDED)),
            ),
            lambda: world.save(Kind.ROLLOUT, a_rollout(RolloutPhase.PROGRESSING, 10), weight=10),
            lambda: world.save(Kind.ROLLOUT, a_rollout(RolloutPhase.PROGRESSING, 10), weight=10),
            lambda: (
                world.save(Kind.ROLLOUT, a_rollout(RolloutPhase.ROLLED_BACK, 0), weight=0),
                world.save(Kind.RELEASE, a_release(ReleasePhase.STOPPED)),
            ),
        ]
    )
    world.save(Kind.RUN, a_run(Phase.QUEUED))
    canaries = []

    def until(journey):
        canaries.append(journey.is_in_canary)
        move = next(moves, None)
        if move is not None:
            move()
        return journey.is_over

    with Watch(tmp_path / "state") as watch:
        journey = watch.follow("a" * 40, lambda line: told.append(line.text), 30, until)
    assert journey.release.phase == "stopped"
    assert journey.production.phase == "rolled_back"
    assert True in canaries
    assert not canaries[-1]
    text = "\n".join(told)
    assert text.count("weight 10 %") == 1
    assert text.count("parsed") == 1
    assert text.count("run 1 succeeded") == 1
    assert "release 1 stopped" in text
    assert list(rolled_back(journey)) == []
    assert list(delivered(journey)) != []


def test_a_commit_that_comes_to_no_end_is_a_fault(world, tmp_path):
    world.save(Kind.RUN, a_run(Phase.RUNNING))
    with Watch(tmp_path / "state") as watch:
        with pytest.raises(Fault, match="the run is running"):
            watch.follow("a" * 40, lambda _line: None, 0.3, lambda journey: journey.is_over)
        with pytest.raises(Fault, match="no run began"):
            watch.follow("c" * 40, lambda _line: None, 0.3, lambda journey: journey.is_over)


def journey_of(phase, **stages):
    return Journey(a_run(phase, **stages), 0.2)


def test_what_was_expected_of_each_act_is_not_met_by_another_end():
    bare = journey_of(Phase.SUCCEEDED)
    assert list(nothing_to_do(bare)) == []
    assert list(nothing_to_do(journey_of(Phase.SUCCEEDED, train=StageRun(phase=Phase.SUCCEEDED, attempt=1)))) != []
    assert list(nothing_to_do(bare._replace(run_seconds=5.0))) != []
    assert list(nothing_to_do(bare._replace(release=a_release(ReleasePhase.OPEN)))) != []
    for expected in (delivered, delivered_by_canary, stopped_by_gate, rolled_back):
        assert list(expected(bare)) != []


def test_a_stop_before_training_must_name_the_place():
    problem = Problem(message="invalid syntax", path="src/train.py", line=12)
    expected = stopped_early("check", "src/train.py", "syntax")
    failed = StageRun(phase=Phase.FAILED, attempt=1, problems=(problem,))
    assert list(expected(journey_of(Phase.FAILED, syntax=failed))) == []
    unnamed = failed.model_copy(update={"problems": (Problem(message="invalid syntax"),)})
    assert list(expected(journey_of(Phase.FAILED, syntax=unnamed))) != []
    trained = StageRun(phase=Phase.CANCELLED, attempt=1)
    assert list(expected(journey_of(Phase.FAILED, syntax=failed, train=trained))) != []
    assert list(expected(journey_of(Phase.SUCCEEDED))) != []


def test_the_comparison_with_production_is_what_stops_or_passes():
    def judged(phase, verdict):
        gate = GateResult(gate="auc against production, margin 0.005", verdict=verdict, because="0.71 against 0.75")
        run = a_run(phase).model_copy(update={"judgement": Judgement(results=(gate,))})
        return Journey(run, 1.0)

    assert list(stopped_by_gate(judged(Phase.FAILED, Verdict.FAIL))) == []
    assert list(stopped_by_gate(judged(Phase.FAILED, Verdict.PASS))) != []
    promoted = (
        a_rollout(RolloutPhase.PROMOTED, 100).model_copy(
            update={"steps": (StepPlan(set_weight=10), StepPlan(set_weight=100))}
        ),
    )
    arrived = judged(Phase.SUCCEEDED, Verdict.PASS)._replace(release=a_release(ReleasePhase.DONE), rollouts=promoted)
    assert list(delivered_by_canary(arrived)) == []
    assert list(delivered_by_canary(arrived._replace(rollouts=()))) != []


def test_the_table_names_each_push_and_what_differed():
    journey = journey_of(Phase.SUCCEEDED)
    good, bad = Played(ACTS[2], journey, 0.4, ()), Played(ACTS[6], journey, 12.0, ("nothing was judged",))
    lines = pushes_table([good, bad])
    assert len(lines) == 3
    assert (lines[1].style, lines[2].style) == ("good", "bad")
    assert "nothing was judged" in lines[2].text
