"""What people read of each kind of row: every phase, every verdict, every thing that may be missing."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.revisions import revision

from interlock.access.audit import GENESIS, Deed, chain
from interlock.access.tokens import Token
from interlock.cli import show
from interlock.cli.output import ExitCode, Line
from interlock.client.models import RunSummary
from interlock.control.reusing.production import Against
from interlock.control.rows import load_state, read_state, save_or_lose, write_environment, write_state
from interlock.delivery.environment import Environment
from interlock.delivery.release import Release, ReleasePhase
from interlock.delivery.revision import Revision
from interlock.delivery.rollout import Rollout, RolloutPhase
from interlock.edges.store import MemoryStore
from interlock.errors import AlreadyExists
from interlock.gate.judgement import GateResult, Judgement, Override
from interlock.inference.joined import Joined
from interlock.pipeline.canaries.plan import StepPlan
from interlock.pipeline.plan import EnvironmentPlan, GatePlan, ModelPlan, Plan, ScalingPlan, StagePlan
from interlock.pipeline.trace import KeyInputs, Lookup, Trace
from interlock.registry.version import ModelVersion
from interlock.run.run import Run, StageRun
from interlock.run.stage import Problem
from interlock.source.commit import Commit, Occasion
from interlock.vocabulary import Digest, Kind, Phase, Row, Stored, Verdict

NOW = 1_700_000_000.0
DIGEST = Digest("blake3:" + "ab" * 32)
COMMIT = Commit(
    repository="shop", git_directory="/r", ref="refs/heads/main", sha="0123456789abcdef", tree="t", subject="Try it"
)
TRACE = Trace(
    inputs=KeyInputs(stage="train", command="true"),
    reads={},
    listings={},
    products={},
    run="7",
    attempt="7/train/1",
    seconds=1.0,
    made=NOW,
)


def a_run(**changes: object) -> Run:
    values = {
        "number": 12,
        "commit": COMMIT,
        "occasion": Occasion(kind="push"),
        "plan": Plan(),
        "plan_digest": DIGEST,
        "driver": "server",
        "is_trusted": True,
        "because": "as it is",
    }
    return Run.model_validate({**values, **changes})


def a_version(number: int, **changes: object) -> ModelVersion:
    digests = dict.fromkeys(("digest", "lock", "plan", "serving", "signature", "provenance"), DIGEST)
    values = {
        "model": "flights",
        "number": number,
        "format": "skops",
        "judgement": Judgement(),
        "repository": "shop",
        "ref": "refs/heads/main",
        "commit": "0123456789abcdef",
        "run": "12",
        "is_trusted": True,
        "made": NOW,
        **digests,
    }
    return ModelVersion.model_validate({**values, **changes})


def row(kind: Kind, state: Stored, key: str = "1", phase: str = "any") -> Row:
    document = state.model_dump(mode="json")
    return Row(kind=kind, key=key, version=1, phase=phase, state=document, created=NOW, updated=NOW + 5)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (0.26, "0.3 s"),
        (9.94, "9.9 s"),
        (10, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (185, "3 min 5 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h 0 min"),
        (7800, "2 h 10 min"),
        (90_000, "25 h 0 min"),
    ],
)
def test_a_duration_is_told_in_the_units_people_use(seconds: float, text: str) -> None:
    assert show.format_seconds(seconds) == text


@given(seconds=st.floats(0, 10**7))
def test_a_duration_is_told_to_the_last_unit_shown(seconds: float) -> None:
    units = {"s": 1, "min": 60, "h": 3600}
    words = show.format_seconds(seconds).split()
    told = sum(float(number) * units[unit] for number, unit in zip(words[::2], words[1::2], strict=True))
    finest = 0.1 if seconds < 10 else units[words[-1]]
    assert abs(told - seconds) <= finest


@given(at=st.floats(0, 4e9))
def test_a_moment_is_told_with_its_date(at: float) -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", show.format_time(at))


CELL = st.text(alphabet="abcü ", max_size=8)


@given(cells=st.lists(st.tuples(CELL, CELL, CELL), max_size=6))
def test_columns_begin_at_the_same_place_in_every_line(cells: list[tuple[str, str, str]]) -> None:
    lines = show.table([(one, "") for one in cells])
    first = max((len(one[0]) for one in cells), default=0)
    second = first + 2 + max((len(one[1]) for one in cells), default=0)
    for one, line in zip(cells, lines, strict=True):
        text = line.text.ljust(second + 10)
        shown = (text[:first], text[first + 2 : second], text[second + 2 :])
        assert [cell.rstrip() for cell in shown] == [cell.rstrip() for cell in one]
        assert line.text == line.text.rstrip()


@pytest.mark.parametrize(
    ("phase", "code"),
    [
        (Phase.QUEUED, 0),
        (Phase.RUNNING, 0),
        (Phase.SUCCEEDED, 0),
        (Phase.SKIPPED, 0),
        (Phase.FAILED, 1),
        (Phase.HELD, 3),
        (Phase.ERRORED, 4),
        (Phase.CANCELLED, 130),
    ],
)
def test_a_phase_decides_what_the_command_ends_with(phase: Phase, code: int) -> None:
    assert show.exit_code_of(a_run(phase=phase)) == ExitCode(code)


def test_every_phase_of_every_thing_that_ended_has_a_colour() -> None:
    ended = [phase for phase in (*Phase, *RolloutPhase, *ReleasePhase) if phase.is_final]
    assert not [phase for phase in ended if phase not in show.PHASE_STYLES]
    assert {show.PHASE_STYLES[phase] for phase in (Phase.FAILED, RolloutPhase.ROLLED_BACK, ReleasePhase.STOPPED)} == {
        "bad"
    }
    assert set(show.VERDICT_STYLES) == set(Verdict)


@pytest.mark.parametrize("kind", list(Kind))
def test_a_row_as_json_holds_its_state_and_where_it_stands(kind: Kind) -> None:
    stored = Row(kind=kind, key="a/1", version=3, phase="held", state={"x": [1], "phase": 0}, created=1.0, updated=2.0)
    told = show.row_json(stored)
    assert told == {"x": [1], "kind": kind.value, "key": "a/1", "phase": "held", "created": 1.0, "updated": 2.0}
    assert json.loads(json.dumps(told)) == told


def test_a_plan_tells_what_is_reused_what_runs_and_what_nobody_knows_yet() -> None:
    stages = [StagePlan(name=name, kind="stage", command="true") for name in ("check", "train", "evaluate")]
    lookups = [
        Lookup(key="k", hit=TRACE, because="nothing it read has changed"),
        Lookup(key="k", hit=None, because="src/train.py changed", differences=("src/train.py",)),
        None,
    ]
    plan = Plan(
        stages=tuple(stages),
        model=ModelPlan(name="flights", path="model/", format="skops"),
        gates=(GatePlan(metric="auc", min=0.7), GatePlan(metric="auc", against="production", margin=0.01)),
        deploy=(EnvironmentPlan(name="staging"), EnvironmentPlan(name="production", requires=("staging", "a week"))),
        warnings=("no schema for late",),
    )
    asked = list(zip(stages, lookups, strict=True))
    assert show.plan_lines(plan, asked) == [
        Line("reuse    check     stage  nothing it read has changed", "dim"),
        Line("run      train     stage  src/train.py changed", "title"),
        Line("unknown  evaluate  stage  decided when the stages it needs have run", "warn"),
        Line("gate     auc min 0.7"),
        Line("gate     auc against production, margin 0.01"),
        Line("model    flights: model/ (skops)"),
        Line("deploy   staging: rolling"),
        Line("deploy   production: rolling, after staging, a week"),
        Line("warning  no schema for late", "warn"),
    ]
    told = show.plan_json(plan, asked)
    assert [stage["will"] for stage in told["stages"]] == ["reuse", "run", "unknown"]
    assert [stage["differences"] for stage in told["stages"]] == [[], ["src/train.py"], []]
    assert told["stages"][2]["because"] is None
    assert Plan.model_validate(told["plan"]) == plan


@pytest.mark.parametrize(
    ("wills", "against", "text"),
    [
        ("", None, "none of 0 stages would run"),
        ("hhh", None, "none of 3 stages would run"),
        ("hrr", None, "2 of 3 stages would run"),
        ("hr?", None, "up to 2 of 3 stages would run"),
        (
            "hr?",
            Against("flights v3", "41", ("src/features.py: function scale changed",)),
            "against flights v3 (run 41): src/features.py: function scale changed; up to 2 of 3 stages would run",
        ),
        (
            "hh",
            Against("flights v3", "41", ()),
            "against flights v3 (run 41): nothing that its stages use has changed; none of 2 stages would run",
        ),
        (
            "r",
            Against("m v1", "1", tuple("abcde")),
            "against m v1 (run 1): a; b; c; and 2 more; 1 of 1 stages would run",
        ),
    ],
)
def test_a_plan_ends_with_how_much_would_run_and_how_it_stands_against_production(
    wills: str, against: Against | None, text: str
) -> None:
    lookups = {"h": Lookup(key="k", hit=TRACE, because="x"), "r": Lookup(key="k", hit=None, because="y"), "?": None}
    stages = [(StagePlan(name=f"s{n}", kind="stage"), lookups[will]) for n, will in enumerate(wills)]
    assert show.plan_summary(stages, against) == Line(text)
    told = show.plan_json(Plan(), stages)["stages"]
    assert [one["reused"] for one in told] == ["7/train/1" if will == "h" else None for will in wills]


def test_a_plan_of_nothing_says_so() -> None:
    assert show.plan_lines(Plan(), []) == [Line("no stages", "warn")]


@pytest.mark.parametrize(
    ("stage", "line"),
    [
        (StageRun(), Line("  train          queued", "dim")),
        (StageRun(phase=Phase.RUNNING, because="new"), Line("  train          running    new")),
        (StageRun(phase=Phase.SUCCEEDED, seconds=75), Line("  train          succeeded  1 min 15 s", "good")),
        (
            StageRun(phase=Phase.SUCCEEDED, because="as in run 7", reused="7/train/1"),
            Line("  train          succeeded  as in run 7", "dim"),
        ),
        (
            StageRun(phase=Phase.FAILED, because="exit code 1", seconds=0.5),
            Line("  train          failed     0.5 s exit code 1", "bad"),
        ),
        (
            StageRun(phase=Phase.SKIPPED, because="check did not succeed"),
            Line("  train          skipped    check did not succeed", "dim"),
        ),
        (StageRun(phase=Phase.CANCELLED), Line("  train          cancelled", "warn")),
        (StageRun(phase=Phase.ERRORED, because="x" * 500), Line("  train          errored    " + "x" * 500, "bad")),
    ],
)
def test_a_stage_in_one_line(stage: StageRun, line: Line) -> None:
    assert show.stage_line("train", stage) == line


def test_a_run_is_told_once_and_then_only_what_moved() -> None:
    teller = show.RunTeller()
    queued, running = StageRun(), StageRun(phase=Phase.RUNNING, attempt=1, because="new")
    again = StageRun(phase=Phase.RUNNING, attempt=2, because="tried again")
    problems = (Problem(message="no column", path="a.py", line=3), Problem(message="slow", is_warning=True))
    failed = StageRun(phase=Phase.FAILED, attempt=2, because="exit code 1", problems=problems)
    title = "run 12 of shop (push): refs/heads/main 0123456789 Try it"
    told = [teller.tell(a_run(stages={"a": one, "b": queued})) for one in (queued, running, running, again, failed)]
    assert [[line.text.strip() for line in lines] for lines in told] == [
        [title],
        ["a              running    new"],
        [],
        ["a              running    tried again"],
        ["a              failed     exit code 1", "a.py:3: no column", "slow"],
    ]
    assert [line.style for line in told[-1]] == ["bad", "bad", "warn"]
    assert teller.tell(a_run(stages={"a": failed, "b": queued})) == []


def test_a_stage_that_waits_again_for_a_reason_is_told() -> None:
    lost = StageRun(attempt=1, because="attempt 1 was lost with its executor")
    lines = show.stage_changes({"a": StageRun(phase=Phase.RUNNING, attempt=1)}, {"a": lost})
    assert [line.text for line in lines] == ["  a              queued     attempt 1 was lost with its executor"]


@pytest.mark.parametrize(
    ("verdict", "style"), [(Verdict.PASS, "good"), (Verdict.FAIL, "bad"), (Verdict.UNDECIDED, "warn")]
)
def test_a_gate_in_one_line(verdict: Verdict, style: str) -> None:
    line = show.gate_line(GateResult(gate="auc min 0.7", verdict=verdict, because="n is 40"))
    assert (line.text, line.style) == (f"  {verdict:<10} auc min 0.7: n is 40", style)


def test_gates_are_asked_first_and_judged_then() -> None:
    asked = (GatePlan(metric="auc", min=0.7),)
    judged = Judgement(results=(GateResult(gate="auc min 0.7", verdict=Verdict.UNDECIDED, because="too few"),))
    assert show.gate_lines(None, asked) == [Line("  not judged auc min 0.7", "dim")]
    assert show.gate_lines(None) == []
    assert show.gate_lines(judged, asked) == [Line("  undecided  auc min 0.7: too few", "warn")]


def test_how_a_run_ended() -> None:
    judged = Judgement(results=(GateResult(gate="auc", verdict=Verdict.UNDECIDED, because="too few"),))
    held = a_run(phase=Phase.HELD, because="gates undecided", judgement=judged)
    assert [line.text for line in show.run_end(held)] == [
        "gates",
        "  undecided  auc: too few",
        "run 12 held: gates undecided",
    ]
    refused = a_run(phase=Phase.FAILED, because="refused", problems=(Problem(message="no stages", path="x.yaml"),))
    assert show.run_end(refused) == [Line("  x.yaml: no stages", "bad"), Line("run 12 failed: refused", "bad")]
    made = a_run(phase=Phase.SUCCEEDED, because="all good", version="flights/3", judgement=Judgement())
    assert show.run_end(made) == [Line("run 12 succeeded: all good", "good"), Line("model version flights/3")]


def test_a_title_leaves_out_what_a_commit_does_not_have() -> None:
    bare = a_run(commit=COMMIT.model_copy(update={"ref": "", "subject": ""}), occasion=Occasion(kind="local"))
    assert show.run_title(bare).text == "run 12 of shop (local): 0123456789"


def test_logs_are_those_of_what_was_executed() -> None:
    stages = {
        "check": StageRun(phase=Phase.SUCCEEDED, reused="7/check/1"),
        "train": StageRun(phase=Phase.FAILED, attempt=2),
        "evaluate": StageRun(),
    }
    run = a_run(stages=stages)
    assert show.logs_of(run, None, None) == [("check, reused from 7/check/1", "7/check/1"), ("train", "12/train/2")]
    assert show.logs_of(run, "train", 1) == [("train, attempt 1", "12/train/1")]
    assert show.logs_of(run, "evaluate", None) == show.logs_of(run, "other", None) == []


STABLE, CANDIDATE = revision(1), revision(2, replicas=3)


def test_an_environment_with_a_canary_tells_shares_and_how_right_each_is() -> None:
    environment = Environment(
        name="production",
        model="flights",
        stable=STABLE,
        candidate=CANDIDATE,
        weights={STABLE.key: 75, CANDIDATE.key: 25},
        because="analysis",
    )
    quality = {STABLE.key: Joined(STABLE.key, 90, 40, 0.875, 0.2, None), "other": Joined("other", 1, 1, 1.0, 1.0, 1.0)}
    assert show.environment_lines(row(Kind.ENVIRONMENT, environment), quality) == [
        Line("flights/production", "title"),
        Line("  stable     flights v1 (r1), weight 75 %, 2 replicas", "good"),
        Line("             live: accuracy 0.8750, 40 labels for 90 predictions", "dim"),
        Line("  candidate  flights v2 (r2), weight 25 %, 3 replicas", "warn"),
        Line("  because    analysis", "dim"),
    ]


def test_an_environment_tells_how_many_replicas_the_load_asks_for_and_why() -> None:
    stable = STABLE.model_copy(update={"scaling": ScalingPlan(most=8)})
    because = "2 -> 5 replicas: 140 requests/s are expected"
    environment = Environment(name="p", model="m", stable=stable, replicas=5, replicas_because=because)
    lines = [line.text for line in show.environment_lines(row(Kind.ENVIRONMENT, environment))]
    assert lines[1].endswith("5 replicas")
    assert f"  replicas   {because}" in lines


@pytest.mark.parametrize(("stable", "candidate"), [(None, None), (STABLE, None), (None, CANDIDATE)])
def test_an_environment_tells_only_what_is_there(stable: Revision | None, candidate: Revision | None) -> None:
    stored = row(Kind.ENVIRONMENT, Environment(name="p", model="m", stable=stable, candidate=candidate))
    text = "\n".join(line.text for line in show.environment_lines(stored))
    assert ("  stable  " in text, "  candidate  " in text) == (stable is not None, candidate is not None)
    assert ("nothing serves" in text) is (stable is candidate)
    assert text.endswith("nothing was delivered yet")
    assert show.stable_version(stored) == ("m/1" if stable else None)
    if candidate is not None:
        assert "weight 0 %" in text


@pytest.mark.parametrize(
    ("accuracy", "area", "numbers"),
    [
        (None, None, ""),
        (0.5, None, "accuracy 0.5000, "),
        (None, 0.0, "AUC 0.0000, "),
        (1.0, 0.71234, "accuracy 1.0000, AUC 0.7123, "),
    ],
)
def test_live_quality_tells_only_what_is_known(accuracy: float | None, area: float | None, numbers: str) -> None:
    line = show.quality_line(Joined("r", 10, 4, accuracy, None, area))
    assert line.text.strip() == f"live: {numbers}4 labels for 10 predictions"


@pytest.mark.parametrize(
    ("phase", "entered", "here", "style"),
    [
        (ReleasePhase.OPEN, {}, "staging", ""),
        (ReleasePhase.WAITING, {"staging": 1}, "production", "warn"),
        (ReleasePhase.OPEN, {"staging": 1, "production": 2}, "-", ""),
        (ReleasePhase.DONE, {"staging": 1, "production": 2}, "-", "good"),
        (ReleasePhase.STOPPED, {"staging": 1}, "-", "bad"),
    ],
)
def test_a_release_tells_where_it_goes_next(
    phase: ReleasePhase, entered: dict[str, int], here: str, style: str
) -> None:
    release = Release(
        number=4,
        model="flights",
        version="flights/2",
        title="flights v2",
        run="12",
        environments=(EnvironmentPlan(name="staging"), EnvironmentPlan(name="production")),
        rollouts=entered,
        phase=phase,
        because="told so",
    )
    line = show.release_line(row(Kind.RELEASE, release))
    assert line == Line(f"  release 4  flights v2  {phase} (next: {here})  told so", style)


@pytest.mark.parametrize("phase", list(RolloutPhase))
@pytest.mark.parametrize(("step", "shown"), [(0, 1), (1, 2), (2, 2), (9, 2)])
def test_a_rollout_tells_how_far_it_came(phase: RolloutPhase, step: int, shown: int) -> None:
    rollout = Rollout(
        number=3,
        environment="flights/production",
        release=None,
        stable=STABLE,
        candidate=CANDIDATE,
        steps=(StepPlan(set_weight=25), StepPlan(analysis=60.0)),
        deadline=60.0,
        started=NOW,
        since=NOW,
        step=step,
        weight=25,
        phase=phase,
        because="errors: 9 of 100",
    )
    line = show.rollout_line(row(Kind.ROLLOUT, rollout))
    assert f"{phase}  step {shown} of 2, weight 25 %  errors: 9 of 100" in line.text
    assert line.style == {"promoted": "good", "rolled_back": "bad", "progressing": ""}.get(phase, "warn")


def a_summary(**changes: object) -> RunSummary:
    values = {
        "number": 12,
        "repository": "shop",
        "ref": "refs/heads/main",
        "sha": "0123456789abcdef",
        "phase": "succeeded",
        "because": "for a reason",
        "created": NOW,
        "updated": NOW + 5,
    }
    return RunSummary.model_validate({**values, **changes})


@pytest.mark.parametrize("phase", list(Phase))
def test_a_run_in_a_list(phase: Phase) -> None:
    line = show.run_line(a_summary(phase=phase))
    assert line.text == f"  run 12  {show.format_time(NOW + 5)}  0123456789  {phase}  for a reason"


def test_runs_are_listed_with_where_they_came_from() -> None:
    tagged = a_summary(number=7, ref="refs/tags/v1", phase="failed", because="auc below 0.7")
    runs = [a_summary(), tagged, a_summary(number=3, ref="refs/pull/9/head", pull_request=9)]
    head, *cells = [re.split(" {2,}", line.text) for line in show.run_table(runs)]
    assert head == ["run", "repository", "ref", "commit", "changed", "phase", "because"]
    when = show.format_time(NOW + 5)
    assert cells == [
        ["12", "shop", "main", "0123456789", when, "succeeded", "for a reason"],
        ["7", "shop", "refs/tags/v1", "0123456789", when, "failed", "auc below 0.7"],
        ["3", "shop", "pull request 9", "0123456789", when, "succeeded", "for a reason"],
    ]
    assert [line.style for line in show.run_table(runs)] == ["title", "good", "bad", "good"]
    assert show.run_table([]) == []


def a_token(**changes: object) -> Token:
    return Token.model_validate({"key": "3", "name": "ada", "role": "viewer", "created": NOW, **changes})


@pytest.mark.parametrize(
    ("token", "told", "style"),
    [
        (a_token(), ["3", "ada", "viewer", "-", "never", "never"], ""),
        (a_token(expires=NOW + 9), ["3", "ada", "viewer", "-", show.format_time(NOW + 9), "never"], ""),
        (a_token(expires=NOW - 100), ["3", "ada", "viewer", "-", "the token has expired", "never"], "dim"),
        (a_token(revoked=NOW), ["3", "ada", "viewer", "-", "the token was revoked", "never"], "dim"),
        (
            a_token(repositories=("shop",), environments=("flights/production",), last_used=NOW),
            ["3", "ada", "viewer", "shop, flights/production", "never", show.format_time(NOW)],
            "",
        ),
    ],
)
def test_a_token_tells_what_it_is_good_for(token: Token, told: list[str], style: str) -> None:
    head, line = show.token_lines([token], NOW)
    assert [cell.strip() for cell in re.split(" {2,}", line.text)] == told
    assert (head.style, line.style) == ("title", style)


def test_no_token_says_so() -> None:
    assert show.token_lines([], NOW) == [Line("no token was made yet", "dim")]


def test_an_entry_of_the_audit_log_tells_who_did_what_to_what() -> None:
    deed = Deed(
        who="ada", action="roll back", thing="environment/flights/production", detail={"reason": "slow", "x": None}
    )
    entry = chain(4, NOW, deed, GENESIS)
    when = show.format_time(NOW)
    assert show.audit_line(entry) == Line(f"  4  {when}  ada  roll back  environment/flights/production  reason=slow")
    refused = chain(5, NOW, Deed(who="nobody", action="hook refused", thing="/hooks/github/shop"), entry.digest)
    assert show.audit_line(refused) == Line(f"  5  {when}  nobody  hook refused  /hooks/github/shop", "warn")


def test_versions_tell_where_they_are_stable() -> None:
    metrics = {"e": 5.0, "auc": 0.712345, "b": 2.0, "c": 3.0, "d": 1e-7}
    versions = [row(Kind.VERSION, a_version(1, metrics=metrics)), row(Kind.VERSION, a_version(12))]
    environments = [
        row(Kind.ENVIRONMENT, Environment(name=name, model="flights", stable=stable))
        for name, stable in (("staging", STABLE), ("production", STABLE), ("empty", None))
    ]
    head, first, last = show.version_lines(versions, environments)
    assert head.text.split() == ["version", "made", "run", "commit", "metrics", "stable", "in"]
    assert "auc=0.7123 b=2 c=3 d=1e-07  staging, production" in first.text
    assert (first.style, last.style, last.text[-1]) == ("good", "", "-")
    failed = GateResult(gate="auc", verdict=Verdict.FAIL, because="low")
    word = Override(gate="auc", by="ada", reason="old labels")
    past = row(Kind.VERSION, a_version(13, judgement=Judgement(results=(failed,), overrides=(word,))))
    told = Line("flights/13 fail       auc: overridden by ada: old labels", "warn")
    assert show.version_lines([*versions, past], environments)[-1] == told
    assert show.version_lines([], environments) == [Line("no model version is registered", "dim")]


@pytest.mark.parametrize(
    ("environment", "phase"),
    [
        (Environment(name="p", model="m"), "empty"),
        (Environment(name="p", model="m", stable=STABLE), "stable"),
        (Environment(name="p", model="m", rollout=3), "rolling"),
        (Environment(name="p", model="m", stable=STABLE, rollout=3), "rolling"),
    ],
)
def test_an_environment_is_saved_with_its_phase_and_read_back(environment: Environment, phase: str) -> None:
    store = MemoryStore()
    assert load_state(store, Kind.ENVIRONMENT, "m/p", Environment) == (None, 0)
    assert save_or_lose(store, write_environment(environment, 0, "it is new"))
    assert load_state(store, Kind.ENVIRONMENT, "m/p", Environment) == (environment, 1)
    (stored,) = store.rows(Kind.ENVIRONMENT)
    assert (stored.phase, read_state(stored, Environment)) == (phase, environment)
    assert [event.because for event in store.events()] == ["it is new"]


def test_who_comes_second_saves_nothing_of_what_it_wanted() -> None:
    store = MemoryStore()
    first, other = (Environment(name="p", model=model) for model in ("m", "n"))
    assert save_or_lose(store, write_environment(first, 0, "first"))
    assert save_or_lose(store, write_environment(first, 1, "again"))
    late = [write_environment(other, 0, "with it"), write_environment(first, 1, "too late")]
    assert not save_or_lose(store, *late)
    assert store.load(Kind.ENVIRONMENT, "n/p") is None
    assert [event.because for event in store.events()] == ["first", "again"]


def test_the_same_thing_made_twice_is_not_taken_for_a_lost_race() -> None:
    store = MemoryStore()
    writes = [
        write_state(Kind.RUN, key, a_run(), expected=0, phase="queued", because="push", identity="shop main 0123")
        for key in ("1", "2")
    ]
    assert save_or_lose(store, writes[0])
    with pytest.raises(AlreadyExists):
        save_or_lose(store, writes[1])


def test_what_was_observed_is_copied_and_may_be_left_out() -> None:
    observed = {"weight": 25}
    write = write_state(Kind.RUN, "12", a_run(), expected=0, phase="queued", because="so", observed=observed)
    observed["weight"] = 99
    assert write.observed == {"weight": 25}
    assert write_state(Kind.RUN, "12", a_run(), expected=0, phase="queued", because="so").observed == {}
