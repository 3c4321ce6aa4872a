"""`validate`, `plan` and `run`: what they print and end with, around a stand-in for the runner."""

import json
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest

from interlock.app.reading import Reading
from interlock.cli import main, show
from interlock.cli.group import run_command
from interlock.control.reusing.production import Against
from interlock.control.rows import write_state
from interlock.gate.judgement import GateResult, Judgement
from interlock.pipeline.plan import EnvironmentPlan, GatePlan, ModelPlan, Plan, StagePlan
from interlock.pipeline.trace import KeyInputs, Lookup, Trace
from interlock.run.run import Run, StageRun
from interlock.run.scheduling.estimate import Estimate
from interlock.run.stage import Problem
from interlock.source.commit import Commit, Occasion
from interlock.vocabulary import Digest, Kind, Phase, Verdict

DIGEST = Digest("blake3:" + "ab" * 32)
COMMIT = Commit(repository="flights", git_directory="/r", ref="", sha="c0ffee" * 6, tree="t")
PLAN = Plan(
    stages=tuple(StagePlan(name=name, kind="stage", command="true") for name in ("prepare", "train", "evaluate")),
    gates=(GatePlan(metric="auc", min=0.7),),
    model=ModelPlan(name="flights", path="model/", format="skops"),
    deploy=(EnvironmentPlan(name="staging"), EnvironmentPlan(name="production", requires=("staging",))),
    warnings=("nothing holds the holdout apart",),
)
TRACE = Trace(
    inputs=KeyInputs(stage="prepare", command="true"),
    reads={},
    listings={},
    products={},
    run="7",
    attempt="7/prepare/1",
    seconds=3.0,
    made=1.0,
)
HIT = Lookup(key="k1", hit=TRACE, because="nothing it read has changed")
MISS = Lookup(key="k2", hit=None, because="train.max_depth is now 4", differences=("params: 3 is now 4",))


def a_run(**changes) -> Run:
    values = {
        "number": 1,
        "commit": COMMIT,
        "occasion": Occasion(kind="local"),
        "plan": PLAN,
        "plan_digest": DIGEST,
        "driver": "local:1",
        "is_trusted": False,
        "stages": {stage.name: StageRun() for stage in PLAN.stages},
    }
    return Run(**{**values, **changes})


AGAINST = Against("flights v3", "41", ("src/train.py: function fit changed",))


@dataclass(frozen=True)
class Planned:
    plan: Plan
    commit: Commit
    stages: tuple
    estimate: Estimate
    against: Against = AGAINST


class Runner:
    """Stands in for the local runner: saves the states it is given, one decision each, and lets each be heard."""

    def __init__(self, state: Path, states: list[Run], asked: list) -> None:
        self._state = state
        self._states = states
        self._asked = asked

    def __enter__(self):
        self._state.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *_):
        self._asked.append("closed")

    def plan(self, folder, revision, overrides):
        self._asked.append((folder, revision, tuple(overrides)))
        stages = tuple(zip(PLAN.stages, (HIT, MISS, None), strict=True))
        expected = Estimate(seconds=240.0, cpu_seconds=360.0, stages={"train": 240.0, "evaluate": None}, runs=5)
        return Planned(PLAN, COMMIT, stages, expected)

    def run(self, folder, overrides, watch, secrets_from):
        self._asked.append((folder, tuple(overrides), *([secrets_from] if secrets_from else [])))
        with Reading.open(self._state) as reading:
            for version, run in enumerate(self._states):
                reading.store.save(
                    write_state(Kind.RUN, "1", run, expected=version, phase=run.phase, because=run.because)
                )
                watch(run)
        return self._states[-1]


def call(tmp_path: Path, words: list[str], *states: Run):
    asked: list = []
    code = run_command(
        [*words, "--state", str(tmp_path / "state")], lambda state, _sandbox_kind: Runner(state, list(states), asked)
    )
    return code, asked


def stages(**changes: StageRun) -> dict[str, StageRun]:
    return {stage.name: changes.get(stage.name, StageRun()) for stage in PLAN.stages}


REUSED = StageRun(phase=Phase.SUCCEEDED, reused="7/prepare/1", because="reused from run 7")
RUNNING = StageRun(phase=Phase.RUNNING, attempt=1, because="train.max_depth is now 4")
DONE = StageRun(phase=Phase.SUCCEEDED, attempt=1, because="exit code 0", seconds=12.3)
BROKEN = StageRun(
    phase=Phase.FAILED,
    attempt=1,
    because="exit code 1",
    problems=(
        Problem(message="deprecated", path="a.py", line=1, is_warning=True),
        Problem(message="no column x", path="a.py", line=7),
    ),
)


def test_a_plan_tells_for_each_stage_what_would_happen_and_why(tmp_path, capsys):
    code, asked = call(tmp_path, ["plan", str(tmp_path), "-S", "train.max_depth=4", "--revision", "HEAD~1"])
    assert code == 0
    assert asked == [(tmp_path, "HEAD~1", ("train.max_depth=4",)), "closed"]
    assert capsys.readouterr().out.splitlines() == [
        "reuse    prepare   stage  nothing it read has changed",
        "run      train     stage  train.max_depth is now 4",
        "unknown  evaluate  stage  decided when the stages it needs have run",
        "gate     auc min 0.7",
        "model    flights: model/ (skops)",
        "deploy   staging: rolling",
        "deploy   production: rolling, after staging",
        "warning  nothing holds the holdout apart",
        "expected at least 4 min, 6 CPU-min (from 5 earlier runs; never measured: evaluate)",
        "         train 4 min",
        "against flights v3 (run 41): src/train.py: function fit changed; up to 2 of 3 stages would run",
    ]


def test_a_plan_as_json_names_the_differences(tmp_path, capsys):
    code, _ = call(tmp_path, ["plan", str(tmp_path), "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert code == 0
    assert [(stage["name"], stage["will"]) for stage in answer["stages"]] == [
        ("prepare", "reuse"),
        ("train", "run"),
        ("evaluate", "unknown"),
    ]
    assert answer["stages"][1]["differences"] == ["params: 3 is now 4"]
    assert answer["commit"]["repository"] == "flights"
    told = {"title": "flights v3", "run": "41", "differences": ["src/train.py: function fit changed"]}
    assert answer["production"] == told
    assert answer["summary"].endswith("up to 2 of 3 stages would run")


def test_a_run_is_given_the_file_of_secrets(tmp_path):
    done = a_run(stages=stages(prepare=REUSED, train=DONE, evaluate=DONE), phase=Phase.SUCCEEDED)
    code, asked = call(tmp_path, ["run", str(tmp_path), "--secrets-from", ".env"], done)
    assert code == 0
    assert asked == [(tmp_path, (), Path(".env")), "closed"]


def test_a_run_tells_each_stage_as_it_happens_and_once(tmp_path, capsys):
    judgement = Judgement(results=(GateResult(gate="auc min 0.7", verdict=Verdict.PASS, because="0.71 of 900 rows"),))
    code, asked = call(
        tmp_path,
        ["run", str(tmp_path), "-S", "train.max_depth=4"],
        a_run(because="local of c0ffee"),
        a_run(stages=stages(prepare=REUSED, train=RUNNING), phase=Phase.RUNNING),
        a_run(stages=stages(prepare=REUSED, train=RUNNING), phase=Phase.RUNNING, because="the same"),
        a_run(stages=stages(prepare=REUSED, train=DONE, evaluate=RUNNING), phase=Phase.RUNNING),
        a_run(
            stages=stages(prepare=REUSED, train=DONE, evaluate=DONE),
            phase=Phase.SUCCEEDED,
            because="2 of 3 stages ran; all 1 gates passed",
            judgement=judgement,
            version="flights/1",
        ),
    )
    assert code == 0
    assert asked == [(tmp_path, ("train.max_depth=4",)), "closed"]
    assert capsys.readouterr().out.splitlines() == [
        "run 1 of flights (local): c0ffeec0ff",
        "  prepare        succeeded  reused from run 7",
        "  train          running    train.max_depth is now 4",
        "  train          succeeded  12 s exit code 0",
        "  evaluate       running    train.max_depth is now 4",
        "  evaluate       succeeded  12 s exit code 0",
        "gates",
        "  pass       auc min 0.7: 0.71 of 900 rows",
        "run 1 succeeded: 2 of 3 stages ran; all 1 gates passed",
        "model version flights/1",
    ]


@pytest.mark.parametrize(
    ("phase", "code"),
    [
        (Phase.SUCCEEDED, 0),
        (Phase.FAILED, 1),
        (Phase.HELD, 3),
        (Phase.ERRORED, 4),
        (Phase.CANCELLED, 130),
    ],
)
def test_a_run_ends_with_the_code_of_its_phase(tmp_path, capsys, phase, code):
    assert call(tmp_path, ["run", str(tmp_path)], a_run(phase=phase, because="so it is"))[0] == code
    assert f"run 1 {phase}: so it is" in capsys.readouterr().out


def test_a_failed_stage_shows_its_problems_with_their_places(tmp_path, capsys):
    ended = a_run(stages=stages(prepare=BROKEN), phase=Phase.FAILED, because="prepare failed: exit code 1")
    call(tmp_path, ["run", str(tmp_path)], ended)
    told = capsys.readouterr().out
    assert "  prepare        failed     exit code 1\n      a.py:1: deprecated\n      a.py:7: no column x\n" in told


def test_a_run_as_json_is_one_document_and_its_progress_goes_elsewhere(tmp_path, capsys):
    code, _ = call(tmp_path, ["run", str(tmp_path), "--json"], a_run(phase=Phase.HELD, because="undecided"))
    captured = capsys.readouterr()
    answer = json.loads(captured.out)
    assert code == 3
    assert (answer["number"], answer["phase"], answer["because"]) == (1, "held", "undecided")
    assert "run 1 of flights" in captured.err


def test_a_retried_stage_is_told_with_its_new_attempt():
    first = {"train": StageRun(phase=Phase.RUNNING, attempt=1, because="a")}
    again = {"train": StageRun(phase=Phase.QUEUED, attempt=1, because="attempt 1 errored and is tried again")}
    second = {"train": StageRun(phase=Phase.RUNNING, attempt=2, because="a")}
    assert "tried again" in show.stage_changes(first, again)[0].text
    assert len(show.stage_changes(again, second)) == 1
    assert show.stage_changes(second, second) == []


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (42.4, "42 s"), (185, "3 min 5 s"), (7800, "2 h 10 min"), (59.6, "1 min 0 s")],
)
def test_durations_are_told_for_people(seconds, expected):
    assert show.format_seconds(seconds) == expected


def test_a_valid_file_is_told_so(tmp_path, capsys):
    path = tmp_path / "interlock.yaml"
    path.write_text(
        textwrap.dedent(
            """
            version: 1
            stages:
              train: {cmd: python train.py, outs: [model/]}
            model: {name: flights, path: model/}
            """
        )
    )
    for where in (path, tmp_path):
        assert main(["validate", str(where)]) == 0
        assert capsys.readouterr().out == f"{path}: the pipeline file is valid\n"
    assert main(["validate", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"file": str(path), "is_valid": True}


def test_a_broken_file_is_refused_with_every_problem_its_line_and_remedy(tmp_path, capsys):
    path = tmp_path / "interlock.yaml"
    path.write_text("version: 1\nstagez:\n  train: {cmd: python train.py}\nchecks: [syntaxx]\n")
    assert main(["validate", str(path)]) == 2
    err = capsys.readouterr().err
    assert f"{path}:2:1" in err
    assert "stages" in err
    assert f"{path}:4:10" in err
    assert main(["validate", str(path), "--json"]) == 2
    problems = json.loads(capsys.readouterr().out)["error"]["problems"]
    assert len(problems) == 2
    assert all(problem["remedy"] for problem in problems)


def test_a_file_that_is_not_there_names_the_command_that_writes_one(tmp_path, capsys):
    assert main(["validate", str(tmp_path)]) == 2
    assert "interlock init" in capsys.readouterr().err
