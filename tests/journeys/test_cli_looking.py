"""What `status`, `explain`, `log` and `models` tell of rows in a real store."""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from interlock.app.folder import StateFolder
from interlock.app.reading import Reading
from interlock.cli import main
from interlock.control.delivering.quarantine import Quarantine
from interlock.control.rows import write_state
from interlock.delivery import release as releases
from interlock.delivery import rollout as rollouts
from interlock.delivery.environment import Environment, enter
from interlock.delivery.revision import Revision
from interlock.edges.blobs import LocalBlobs
from interlock.edges.executor import LogFiles
from interlock.edges.executor.log import CappedLog
from interlock.edges.signing import LocalSigning
from interlock.gate.judgement import GateResult, Judgement
from interlock.pipeline.plan import EnvironmentPlan, GatePlan, Plan, StagePlan
from interlock.registry.version import ModelVersion
from interlock.run.run import Run, StageRun
from interlock.run.stage import Problem
from interlock.source.commit import Commit, Occasion
from interlock.vocabulary import Digest, Kind, Phase, Verdict, Write

NOW = 1_700_000_000.0
DIGEST = Digest("blake3:" + "ab" * 32)
SHA = "c0ffee" * 6
COMMIT = Commit(
    repository="flights", git_directory="/r", ref="refs/heads/main", sha="c0ffee" * 6, tree="t", subject="Try"
)
JUDGED = Judgement(
    results=(
        GateResult(
            gate="auc min 0.7",
            verdict=Verdict.FAIL,
            because="0.6512 is below 0.7",
            evidence={"value": 0.6512, "n": 900},
        ),
        GateResult(gate="accuracy min 0.5", verdict=Verdict.PASS, because="0.9 is above 0.5"),
    )
)


def a_run(**changes) -> Run:
    stages = {
        "unit": StageRun(phase=Phase.SUCCEEDED, because="reused from run 7", reused="7/unit/1"),
        "train": StageRun(
            phase=Phase.SUCCEEDED,
            because="src/train.py changed",
            attempt=1,
            seconds=75.0,
            cpu_seconds=80.0,
            peak_memory=312_000_000,
            sandbox="namespace",
            differences=("src/train.py: 1a2b is now 3c4d",),
            products={"model/": DIGEST},
        ),
        "evaluate": StageRun(
            phase=Phase.FAILED,
            because="exit code 1",
            attempt=2,
            seconds=1.5,
            problems=(Problem(message="no column late", path="src/evaluate.py", line=12),),
        ),
    }
    plan = Plan(
        stages=tuple(StagePlan(name=name, kind="stage", command="true") for name in stages),
        gates=(GatePlan(metric="auc", min=0.7), GatePlan(metric="accuracy", min=0.5)),
    )
    values = {
        "number": 12,
        "commit": COMMIT,
        "occasion": Occasion(kind="push"),
        "plan": plan,
        "plan_digest": DIGEST,
        "driver": "server",
        "is_trusted": True,
        "phase": Phase.FAILED,
        "because": "evaluate failed: exit code 1",
        "stages": stages,
    }
    return Run(**{**values, **changes})


def a_version(number: int) -> ModelVersion:
    return ModelVersion(
        model="flights",
        number=number,
        digest=DIGEST,
        lock=DIGEST,
        format="skops",
        metrics={"auc": 0.7123456},
        judgement=Judgement(),
        repository="flights",
        ref="refs/heads/main",
        commit="c0ffee" * 6,
        run="12",
        plan=DIGEST,
        serving=DIGEST,
        signature=DIGEST,
        provenance=DIGEST,
        is_trusted=True,
        deploy=(EnvironmentPlan(name="production"),),
        made=NOW,
    )


def revision(number: int, version: int) -> Revision:
    return Revision(
        environment="flights/production",
        number=number,
        version=version,
        model="flights",
        model_digest=DIGEST,
        lock=DIGEST,
        format="skops",
    )


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    folder.mkdir()
    return folder


def keep(state: Path, *writes: Write) -> None:
    with Reading.open(state) as reading:
        reading.store.save(*writes)


def keep_run(state: Path, run: Run, because: str = "it ended", **observed) -> None:
    keep(
        state,
        write_state(Kind.RUN, run.key, run, expected=0, phase=run.phase, because=because, observed=observed),
    )


def keep_canary(state: Path) -> None:
    """flights v1 is stable in production, v2 its candidate at 25 %."""
    stable, candidate = revision(1, 1), revision(2, 2)
    rollout = rollouts.begin(3, candidate, stable, EnvironmentPlan(name="production"), release=2, now=NOW)
    rollout = rollout.model_copy(update={"weight": 25, "because": "analysis at 25 %"})
    environment = Environment(
        name="production", model="flights", stable=stable, weights={stable.key: 75, candidate.key: 25}
    )
    environment = enter(environment, rollout)
    release = releases.begin(2, a_version(2), "12")
    seen = {"n": 40}
    release = release.model_copy(update={"rollouts": {"production": 3}})
    keep(
        state,
        write_state(Kind.VERSION, "flights/1", a_version(1), expected=0, phase="registered", because="made"),
        write_state(Kind.VERSION, "flights/2", a_version(2), expected=0, phase="registered", because="made"),
        write_state(Kind.ENVIRONMENT, environment.key, environment, expected=0, phase="serving", because="begun"),
        write_state(Kind.ROLLOUT, "3", rollout, expected=0, phase=rollout.phase, because="weight 25 %", observed=seen),
        write_state(Kind.RELEASE, "2", release, expected=0, phase=release.phase, because="begun"),
    )


def tell(capsys, *words: str, code: int = 0) -> str:
    assert main(list(words)) == code
    return capsys.readouterr().out


def test_status_tells_what_serves_what_moves_and_what_ran(state, capsys):
    keep_canary(state)
    keep_run(state, a_run())
    told = tell(capsys, "status", "--state", str(state))
    assert "flights/production" in told
    assert "stable     flights v1 (r1), weight 75 %, 2 replicas" in told
    assert "candidate  flights v2 (r2), weight 25 %, 2 replicas" in told
    assert "rollout 3  flights/production  flights v2  progressing  step 1 of 1, weight 25 %  analysis at 25 %" in told
    assert "release 2  flights v2  open" in told
    assert "failed  evaluate failed: exit code 1" in told


def test_status_tells_how_right_each_revision_was(state, capsys):
    keep_canary(state)
    predictions = state / "data" / "predictions" / "flights.production"
    labels = state / "data" / "labels" / "flights" / "production.jsonl"
    predictions.mkdir(parents=True)
    labels.parent.mkdir(parents=True)
    answers = [("a", 1), ("b", 0), ("c", 1), ("d", 1)]
    records = [
        {"id": name, "revision": "flights.production.r1", "status": 200, "prediction": [answer]}
        for name, answer in answers
    ]
    (predictions / "r1-1.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records))
    labels.write_text("".join(f'{{"id": "{name}", "label": 1}}\n' for name in "abc"))
    told = tell(capsys, "status", "--state", str(state))
    assert "live: accuracy 0.6667, 3 labels for 4 predictions" in told
    answer = json.loads(tell(capsys, "status", "--json", "--state", str(state)))
    assert answer["environments"][0]["quality"]["flights.production.r1"]["labelled"] == 3


def test_status_of_an_empty_state_says_so(state, capsys):
    assert "no environment yet" in tell(capsys, "status", "--state", str(state))


def test_status_as_json_holds_the_rows(state, capsys):
    keep_canary(state)
    answer = json.loads(tell(capsys, "status", "--json", "--state", str(state)))
    assert answer["environments"][0]["weights"] == {"flights.production.r1": 75, "flights.production.r2": 25}
    assert [row["key"] for row in answer["rollouts"]] == ["3"]
    assert answer["runs"] == []


@pytest.mark.parametrize("words", [("run/12",), ("run", "12"), ("12",)])
def test_a_run_is_explained_by_its_stages_gates_and_decisions(state, capsys, words):
    keep_run(state, a_run(judgement=JUDGED), "gates fail: auc", seen={"auc": 0.6512, "twin": None})
    told = tell(capsys, "explain", *words, "--state", str(state))
    assert "run 12 of flights (push): refs/heads/main c0ffeec0ff Try" in told
    assert "unit           succeeded  reused from run 7" in told
    assert "train          succeeded  1 min 15 s src/train.py changed" in told
    assert "fail       auc min 0.7: 0.6512 is below 0.7" in told
    assert "failed       gates fail: auc" in told
    assert "seen.auc: 0.6512" in told
    assert "twin" not in told


def test_a_run_without_verdict_shows_what_its_gates_will_ask(state, capsys):
    keep_run(state, a_run())
    told = tell(capsys, "explain", "run/12", "--state", str(state))
    assert "not judged auc min 0.7" in told


def test_a_stage_is_explained_by_what_differed_and_what_it_used(state, capsys):
    keep_run(state, a_run())
    told = tell(capsys, "explain", "run/12/train", "--state", str(state))
    assert "src/train.py: 1a2b is now 3c4d" in told
    assert "attempt 1: 1 min 15 s of wall time, 1 min 20 s of CPU, 312 MB at most, sandbox namespace" in told
    assert f"made model/: {DIGEST}" in told
    told = tell(capsys, "explain", "run/12/evaluate", "--state", str(state))
    assert "src/evaluate.py:12: no column late" in told


def test_a_stage_is_explained_by_the_decisions_that_looked_at_it(state, capsys):
    run = a_run()
    keep_run(state, run, "unit starts; train starts", lookups={"unit": "never ran before", "train": "train.py changed"})
    ended = write_state(
        Kind.RUN,
        "12",
        run,
        expected=1,
        phase="failed",
        because="evaluate failed",
        observed={"outcomes": {"evaluate": "x"}},
    )
    claim = Write(kind=Kind.ATTEMPT, key="12/train/1", expected=0, phase="running", state={}, because="claimed")
    other = Write(kind=Kind.ATTEMPT, key="12/training/1", expected=0, phase="running", state={}, because="not mine")
    keep(state, claim, other, ended)
    told = tell(capsys, "explain", "run/12/train", "--state", str(state))
    assert "lookups: train.py changed" in told
    assert "claimed" in told
    for foreign in ("never ran before", "evaluate failed", "not mine"):
        assert foreign not in told


def test_a_stage_that_is_not_there_is_refused_with_those_that_are(state, capsys):
    keep_run(state, a_run())
    assert main(["explain", "run/12/fit", "--state", str(state)]) == 2
    assert "it has unit, train, evaluate" in capsys.readouterr().err


def test_a_stage_alone_is_that_of_the_newest_run_of_this_folders_repository(state, capsys, tmp_path, monkeypatch):
    elsewhere = COMMIT.model_copy(update={"repository": "shop"})
    keep_run(state, a_run())
    keep_run(state, a_run(number=13, commit=elsewhere))
    keep_run(state, a_run(number=14, stages={}))
    assert "run 13 of shop" in tell(capsys, "explain", "train", "--state", str(state))
    here = tmp_path / "flights"
    here.mkdir()
    monkeypatch.chdir(here)
    told = tell(capsys, "explain", "train", "--state", str(state))
    assert "run 12 of flights" in told
    assert "src/train.py: 1a2b is now 3c4d" in told
    assert main(["explain", "fit", "--state", str(state)]) == 2
    assert "none of the last 100 runs has a stage 'fit'" in capsys.readouterr().err


def test_a_reused_stage_names_the_run_that_executed_it(state, capsys):
    keep_run(state, a_run())
    assert "executed in" not in tell(capsys, "explain", "run/12/unit", "--state", str(state))
    keep_run(state, a_run(number=7))
    told = tell(capsys, "explain", "run/12/unit", "--state", str(state))
    assert "reused from run 7" in told
    assert "executed in run 7 of flights (push): refs/heads/main" in told


def test_a_gate_is_explained_by_every_number(state, capsys):
    keep_run(state, a_run(judgement=JUDGED))
    told = tell(capsys, "explain", "gate", "run/12", "--state", str(state))
    assert "value: 0.6512" in told
    assert "n: 900" in told
    answer = json.loads(tell(capsys, "explain", "gate", "run/12", "--json", "--state", str(state)))
    assert answer["judgement"]["results"][0]["evidence"] == {"value": 0.6512, "n": 900}


def test_gates_that_were_not_judged_say_why(state, capsys):
    keep_run(state, a_run())
    told = tell(capsys, "explain", "gate", "run/12", "--state", str(state))
    assert "not judged: the run is failed: evaluate failed" in told
    keep_run(state, a_run(number=13, judgement=Judgement()))
    assert "no gate was asked for" in tell(capsys, "explain", "gate", "13", "--state", str(state))


@pytest.mark.parametrize(
    ("thing", "expected"),
    [
        ("rollout/3", ["analysis at 25 %", "weight 25 %", "n: 40"]),
        ("release/2", ["release 2  flights v2", "begun"]),
        ("flights/production", ["stable     flights v1", "begun"]),
        ("environment/flights/production", ["candidate  flights v2"]),
        ("flights/2", ["version flights/2", "made"]),
        ("version/flights/2", ["version flights/2"]),
    ],
)
def test_other_things_are_explained_by_their_decisions(state, capsys, thing, expected):
    keep_canary(state)
    told = tell(capsys, "explain", thing, "--state", str(state))
    assert [part for part in expected if part not in told] == []


@pytest.mark.parametrize("thing", ["run/x", "rollout", "gate/rollout/3", "nothing", "run/1/train/2", "a/b/c"])
def test_what_cannot_be_explained_is_refused_with_what_can(state, capsys, thing):
    assert main(["explain", thing, "--state", str(state)]) == 2
    assert "run/12" in capsys.readouterr().err


def test_what_is_not_there_is_refused(state, capsys):
    keep_run(state, a_run())
    for thing in ("run/99", "rollout/1", "release/1", "flights/production", "flights/7"):
        assert main(["explain", thing, "--state", str(state)]) == 2
        assert "there is no" in capsys.readouterr().err


def test_many_observations_are_cut_short_and_whole_in_json(state, capsys):
    keep_run(state, a_run(), "looked", **{f"metric_{number}": number for number in range(20)})
    told = tell(capsys, "explain", "run/12", "--state", str(state))
    assert "and 8 more observations" in told
    answer = json.loads(tell(capsys, "explain", "run/12", "--json", "--state", str(state)))
    assert len(answer["events"][0]["observed"]) == 20


def write_log(state: Path, attempt: str, text: str) -> None:
    path = LogFiles(StateFolder(state).execution).path(attempt)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())


def test_logs_are_those_of_the_attempts_that_were_executed(state, capsys):
    keep_run(state, a_run())
    write_log(state, "7/unit/1", "3 passed\n")
    write_log(state, "12/train/1", "epoch 1\nepoch 2\n")
    write_log(state, "12/evaluate/1", "first try\n")
    write_log(state, "12/evaluate/2", "second try")
    told = tell(capsys, "log", "12", "--state", str(state)).splitlines()
    assert told == [
        "--- unit, reused from 7/unit/1",
        "3 passed",
        "--- train",
        "epoch 1",
        "epoch 2",
        "--- evaluate",
        "second try",
    ]
    assert "first try" in tell(capsys, "log", "run/12/evaluate/1", "--state", str(state))
    lines = tell(capsys, "log", "12/train", "--json", "--state", str(state)).splitlines()
    assert [json.loads(line) for line in lines] == [
        {"attempt": "12/train/1", "line": "epoch 1"},
        {"attempt": "12/train/1", "line": "epoch 2"},
    ]


def test_following_an_ended_run_tells_all_of_it_once(state, capsys):
    keep_run(state, a_run())
    write_log(state, "12/train/1", "epoch 1\nno end of line")
    told = tell(capsys, "log", "12/train", "--follow", "--state", str(state))
    assert told == "--- train\nepoch 1\nno end of line\n"


def test_following_goes_on_until_the_run_ends(state, capsys):
    """Lines that are written meanwhile are told once and whole, of a stage that starts meanwhile too."""
    training = {"train": StageRun(phase=Phase.RUNNING, attempt=1), "evaluate": StageRun()}
    keep_run(state, a_run(phase=Phase.RUNNING, stages=training))
    logs = LogFiles(StateFolder(state).execution)
    log = CappedLog(logs.path("12/train/1"))
    log.write(b"epoch 1\nepo")
    done = StageRun(phase=Phase.SUCCEEDED, attempt=1)
    evaluating = {"train": done, "evaluate": StageRun(phase=Phase.RUNNING, attempt=1)}

    def keep_again(expected: int, **changes) -> None:
        run = a_run(**changes)
        keep(state, write_state(Kind.RUN, "12", run, expected=expected, phase=run.phase, because="it moved"))

    def go_on() -> None:
        time.sleep(0.6)
        log.write(b"ch 2\n")
        log.close()
        keep_again(1, phase=Phase.RUNNING, stages=evaluating)
        time.sleep(0.6)
        write_log(state, "12/evaluate/1", "auc 0.7\n")
        keep_again(2, phase=Phase.SUCCEEDED, stages={"train": done, "evaluate": done})

    writer = threading.Thread(target=go_on)
    writer.start()
    told = tell(capsys, "log", "12", "-f", "--state", str(state))
    writer.join()
    assert told == "--- train\nepoch 1\nepoch 2\n--- evaluate\nauc 0.7\n"
    assert tell(capsys, "log", "12", "--state", str(state)) == told


def test_what_a_stage_printed_steers_no_terminal_and_is_there_as_it_was(state, capsys):
    keep_run(state, a_run())
    printed = "\x1b[31mred\x1b[0m\x1b[2J\x1b]0;title\x07 10%\r 20%\n"
    write_log(state, "12/train/1", printed)
    told = tell(capsys, "log", "12/train", "--state", str(state))
    assert told == "--- train\nred\\x1b[2J\\x1b]0;title\\x07 10%\n 20%\n"
    words = ["log", "12/train", "--raw", "--state", str(state)]
    code = f"import sys; from interlock.cli import main; sys.exit(main({words!r}))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == printed.encode()
    line = json.loads(tell(capsys, "log", "12/train", "--json", "--state", str(state)))["line"]
    assert line == printed.removesuffix("\n")


def test_runs_are_listed_newest_first_and_filtered(state, capsys):
    for number, (ref, phase) in enumerate([("main", "succeeded"), ("main", "failed"), ("try", "failed")], 1):
        run = a_run(number=number, phase=Phase(phase), commit=COMMIT.model_copy(update={"ref": f"refs/heads/{ref}"}))
        write = write_state(Kind.RUN, run.key, run, expected=0, phase=run.phase, because="it ended")
        keep(state, write.model_copy(update={"repository": "flights", "ref": run.commit.ref}))

    def listed(*words: str) -> list[int]:
        answer = json.loads(tell(capsys, "runs", *words, "--json", "--state", str(state)))
        return [run["number"] for run in answer["runs"]]

    assert listed() == [3, 2, 1]
    assert listed("-n", "2") == [3, 2]
    assert listed("--ref", "main") == [2, 1]
    assert listed("--ref", "refs/heads/try", "--phase", "failed") == [3]
    assert listed("--phase", "failed", "--phase", "succeeded", "--repository", "flights") == [3, 2, 1]
    assert listed("--repository", "other") == []
    told = tell(capsys, "runs", "--ref", "main", "--state", str(state)).splitlines()
    assert [line.split()[:3] for line in told] == [
        ["run", "repository", "ref"],
        ["2", "flights", "main"],
        ["1", "flights", "main"],
    ]
    assert "no such run" in tell(capsys, "runs", "--repository", "other", "--state", str(state))


def test_a_log_that_is_not_kept_says_so(state, capsys):
    keep_run(state, a_run())
    assert "(no output is kept)" in tell(capsys, "log", "12/train", "--state", str(state))
    keep_run(state, a_run(number=13, phase=Phase.QUEUED, stages={}))
    assert "nothing was executed yet: the run is queued" in tell(capsys, "log", "13", "--state", str(state))


@pytest.mark.parametrize("thing", ["x", "12/train/one", "1/2/3/4", "../../etc/passwd"])
def test_a_log_of_no_run_is_refused(state, capsys, thing):
    assert main(["log", thing, "--state", str(state)]) == 2
    assert "12/train" in capsys.readouterr().err


def test_models_tell_where_each_serves(state, capsys):
    keep_canary(state)
    for words in (["models"], ["models", "list"]):
        told = tell(capsys, *words, "--state", str(state))
        (first,) = [line for line in told.splitlines() if line.startswith("flights/1")]
        (second,) = [line for line in told.splitlines() if line.startswith("flights/2")]
        assert first.endswith("auc=0.7123  production")
        assert second.endswith("auc=0.7123  -")
    answer = json.loads(tell(capsys, "models", "--json", "list", "--state", str(state)))
    assert [row["number"] for row in answer["versions"]] == [1, 2]


def test_an_environment_that_serves_nothing_says_why(state, capsys):
    environment = Environment(name="staging", model="flights")
    keep(state, write_state(Kind.ENVIRONMENT, "flights/staging", environment, expected=0, phase="empty", because="x"))
    told = tell(capsys, "status", "--state", str(state))
    assert "nothing serves: nothing was delivered yet" in told


def test_no_models_say_so(state, capsys):
    assert "no model version is registered" in tell(capsys, "models", "--state", str(state))


def test_what_cannot_be_pulled_is_refused_before_anything_is_written(state, capsys, tmp_path):
    keep_canary(state)
    keep(
        state,
        write_state(
            Kind.ENVIRONMENT,
            "flights/staging",
            Environment(name="staging", model="flights"),
            expected=0,
            phase="empty",
            because="begun",
        ),
    )
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine").write_text("precious")
    for name, folder, told in (
        ("flights@production", full, "not empty"),
        ("flights", tmp_path / "new", "flights@production"),
        ("flights@nowhere", tmp_path / "new", "there is no environment flights/nowhere"),
        ("flights@staging", tmp_path / "new", "nothing is stable in flights/staging yet"),
        ("flights@9", tmp_path / "new", "there is no model version flights/9"),
    ):
        assert main(["models", "pull", name, str(folder), "--state", str(state)]) == 2
        assert told in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
    assert (full / "mine").read_text() == "precious"


def keep_signed_version(state: Path, tmp_path: Path, signed: dict[str, bytes], kept: dict[str, bytes]) -> None:
    """flights/1, whose signature is over ``signed`` while its artifact holds ``kept``."""
    folder = StateFolder(state)
    blobs = LocalBlobs(folder.artifacts)
    original = tmp_path / "signed"
    original.mkdir()
    for name, content in signed.items():
        (original / name).write_bytes(content)
    signature = blobs.put_bytes(LocalSigning(folder.keys).sign(str(original)))
    version = a_version(1).model_copy(update={"digest": blobs.put_files(kept), "signature": signature})
    keep(state, write_state(Kind.VERSION, "flights/1", version, expected=0, phase="registered", because="made"))


def test_a_model_is_pulled_with_the_files_that_were_signed(state, capsys, tmp_path):
    files = {"model.skops": b"a model", "columns.json": b"[]"}
    keep_signed_version(state, tmp_path, files, files)
    target = tmp_path / "pulled"
    told = tell(capsys, "models", "pull", "flights@1", str(target), "--state", str(state))
    assert "its files are those that were signed" in told
    assert {path.name: path.read_bytes() for path in target.iterdir()} == files
    empty = tmp_path / "empty"
    empty.mkdir()
    answer = json.loads(tell(capsys, "models", "pull", "flights@1", str(empty), "--json", "--state", str(state)))
    assert (answer["number"], answer["folder"]) == (1, str(empty))


def test_a_model_that_is_not_the_signed_one_is_not_pulled(state, capsys, tmp_path):
    keep_signed_version(state, tmp_path, {"model.skops": b"a model"}, {"model.skops": b"another"})
    target = tmp_path / "pulled"
    assert main(["models", "pull", "flights@1", str(target), "--state", str(state)]) == 1
    assert "signature_invalid" in capsys.readouterr().err
    assert not target.exists()


def test_what_is_signed_of_a_version_is_written_for_other_tools(state, capsys, tmp_path):
    files = {"model.skops": b"a model"}
    keep_signed_version(state, tmp_path, files, files)
    aim = tmp_path / "attested"
    assert main(["models", "attestations", "flights@1", str(aim), "--state", str(state)]) == 4  # its provenance is none
    assert "missing" in capsys.readouterr().err
    assert not aim.exists()
    folder = StateFolder(state)
    statement = LocalBlobs(folder.artifacts).put_bytes(LocalSigning(folder.keys).attest({"_type": "x"}))
    version = a_version(1).model_copy(update={"provenance": statement, "signature": statement})
    keep(state, write_state(Kind.VERSION, "flights/1", version, expected=1, phase="registered", because="made"))
    told = tell(capsys, "models", "attestations", "flights@1", str(aim), "--state", str(state))
    assert "model.sig, provenance.dsse.json, signing-key.pub.pem" in told
    assert sorted(path.name for path in aim.iterdir()) == ["model.sig", "provenance.dsse.json", "signing-key.pub.pem"]


def test_a_release_is_asked_for_and_told(state, capsys):
    keep_canary(state)
    assert main(["release", "flights/1", "--state", str(state)]) == 0
    captured = capsys.readouterr()
    assert "of flights/1 has begun" in captured.out
    assert "no server is there" in captured.out
    with Reading.open(state) as reading:
        newest = reading.store.rows(Kind.RELEASE, newest=1)[0]
        assert (newest.state["version"], newest.phase) == ("flights/1", "open")
        assert "asked for it" in reading.store.events(Kind.RELEASE, newest.key)[0].because
    assert main(["release", "flights/9", "--state", str(state)]) == 2
    assert main(["release", "flights/1", "--lift-quarantine", "it was us", "--state", str(state)]) == 2
    assert "not quarantined" in capsys.readouterr().err


def test_a_rollback_is_asked_for_with_its_reason(state, capsys):
    keep_canary(state)
    told = tell(capsys, "rollback", "flights@production", "--reason", "too slow", "--state", str(state))
    assert "rollout 3 of flights v2 is rolled back" in told
    with Reading.open(state) as reading:
        assert "too slow" in str(reading.store.load(Kind.ROLLOUT, "3").state["wish"])
    assert main(["rollback", "flights/nowhere", "--state", str(state)]) == 2
    assert "frozen by local:" in tell(capsys, "status", "--state", str(state))


def test_a_rollout_is_paused_resumed_promoted_and_aborted(state, capsys):
    keep_canary(state)
    where = ("--state", str(state), "--reason", "lunch")
    assert "rollout 3 of flights v2 is paused by local:" in tell(capsys, "rollout", "pause", "3", *where)
    assert "until it is resumed: lunch" in tell(capsys, "status", "--state", str(state))
    assert main(["rollout", "pause", "rollout/3", *where]) == 2
    assert "rollout 3: it is paused by" in capsys.readouterr().err
    assert "is resumed by" in tell(capsys, "rollout", "resume", "rollout/3", *where)
    assert "is promoted past its further steps by" in tell(capsys, "rollout", "promote", "3", *where)
    answer = json.loads(tell(capsys, "rollout", "abort", "3", *where, "--json"))
    told = "rollout 3 of flights v2 is rolled back by a person: lunch"
    assert answer == {"asked": "rollout/3", "told": told, "is_server_there": False}
    story = tell(capsys, "explain", "rollout/3", "--state", str(state))
    assert story.count("order.reason: lunch") == 4
    assert "order.name: promote" in story
    assert main(["rollout", "resume", "3", *where]) == 2
    assert main(["rollout", "pause", "flights@production", *where]) == 2
    assert "not a rollout" in capsys.readouterr().err
    assert main(["rollout", "pause", "3", "--state", str(state)]) == 2  # who holds others up says why


def test_a_rollout_that_was_aborted_is_begun_anew_once_its_quarantine_is_lifted(state, capsys):
    keep_canary(state)
    where = ("--state", str(state), "--reason", "there is traffic now")
    assert main(["rollout", "retry", "3", *where]) == 2
    assert "rollout 3: it is under way" in capsys.readouterr().err
    assert main(["rollout", "pause", "3", "--lift-quarantine", "no", *where]) == 2
    assert "pause lifts no quarantine" in capsys.readouterr().err
    with Reading.open(state) as reading:
        row = reading.store.load(Kind.ROLLOUT, "3")
        ended = rollouts.Rollout.model_validate(row.state).model_copy(
            update={"phase": rollouts.RolloutPhase.ROLLED_BACK}
        )
        expected = row.version
    blocked = Quarantine(digest=ended.candidate.model_digest, title="flights v2", because="deadline passed")
    keep(
        state,
        write_state(Kind.ROLLOUT, "3", ended, expected=expected, phase="rolled_back", because="deadline passed"),
        write_state(Kind.QUARANTINE, blocked.digest, blocked, expected=0, phase="blocked", because="deadline passed"),
    )
    assert main(["rollout", "retry", "3", *where]) == 2
    assert "say why that is lifted: --lift-quarantine REASON" in capsys.readouterr().err
    told = tell(capsys, "rollout", "retry", "3", "--lift-quarantine", "nothing was wrong", *where)
    assert "begins rollout 3 anew" in told
    assert "rollout 3 of flights v2 anew: there is traffic now" in tell(capsys, "status", "--state", str(state))


def test_a_freeze_is_asked_for_until_a_moment(state, capsys):
    keep_canary(state)
    where = ("flights@production", "--state", str(state))
    told = tell(capsys, "freeze", *where, "--until", "12h", "--reason", "holidays")
    assert "flights/production is frozen by local:" in told
    assert ": holidays" in tell(capsys, "status", "--state", str(state))
    told = tell(capsys, "freeze", *where, "--until", "2200-01-31T18:00+01:00", "--reason", "holidays")
    assert "until 2200-01-31 17:00 UTC" in told
    for moment, wrong in (("soon", "is no moment"), ("2001-01-31", "has passed")):
        assert main(["freeze", *where, "--until", moment, "--reason", "holidays"]) == 2
        assert wrong in capsys.readouterr().err
    assert "may go forward again" in tell(capsys, "unfreeze", *where)
    assert "frozen" not in tell(capsys, "status", "--state", str(state))
    assert main(["unfreeze", *where]) == 2
