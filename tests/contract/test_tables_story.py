"""Why a thing is as it is: what may be asked for, and how stored decisions are told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.revisions import revision

from interlock.cli.output import Line
from interlock.cli.show import format_time
from interlock.cli.story import (
    SHOWN,
    Thing,
    cost_lines,
    event_lines,
    expected_lines,
    flatten,
    format_value,
    gate_story,
    headline,
    of_stage,
    parse_thing,
    run_story,
    stage_story,
)
from interlock.delivery.analysis.engine import observe
from interlock.delivery.analysis.ticks import Counts, Tick
from interlock.delivery.environment import Environment
from interlock.delivery.release import Release
from interlock.delivery.rollout import begin
from interlock.errors import NotFound, Refused
from interlock.gate.judgement import Checked, GateResult, Judgement, Override
from interlock.pipeline.canaries.plan import AnalysisMetricPlan, AnalysisPlan, StrategyPlan
from interlock.pipeline.plan import EnvironmentPlan, GatePlan, Plan
from interlock.registry.version import ModelVersion
from interlock.run.run import Run, StageRun
from interlock.run.scheduling.estimate import Estimate
from interlock.run.stage import Problem
from interlock.source.commit import Commit, Occasion
from interlock.vocabulary import Digest, Event, Json, Kind, Phase, Row, Verdict

NOW = 1_700_000_000.0
DIGEST = Digest("blake3:" + "ab" * 32)
COMMIT = Commit(repository="shop", git_directory="/r", ref="refs/heads/main", sha="0123456789abcdef", tree="t")
GATES = (GatePlan(metric="auc", min=0.7), GatePlan(metric="accuracy", min=0.5))
TITLE = "run 12 of shop (push): refs/heads/main 0123456789"


def a_run(**changes: object) -> Run:
    values = {
        "number": 12,
        "commit": COMMIT,
        "occasion": Occasion(kind="push"),
        "plan": Plan(gates=GATES),
        "plan_digest": DIGEST,
        "driver": "server",
        "is_trusted": True,
        "because": "as it is",
    }
    return Run.model_validate({**values, **changes})


def an_event(because: str = "so", phase: str = "running", **observed: Json) -> Event:
    return Event(number=1, kind=Kind.RUN, key="12", version=1, phase=phase, at=NOW, because=because, observed=observed)


@pytest.mark.parametrize(
    ("words", "thing"),
    [
        ("run/12", Thing(Kind.RUN, "12")),
        ("train", Thing(Kind.RUN, "", "train")),
        ("run 12", Thing(Kind.RUN, "12")),
        ("12", Thing(Kind.RUN, "12")),
        ("12/train", Thing(Kind.RUN, "12", "train")),
        ("/run//12/", Thing(Kind.RUN, "12")),
        ("run/12/train", Thing(Kind.RUN, "12", "train")),
        ("run 12 train", Thing(Kind.RUN, "12", "train")),
        ("gate run/12", Thing(Kind.RUN, "12", None, True)),
        ("gate 12", Thing(Kind.RUN, "12", None, True)),
        ("gate/run/12", Thing(Kind.RUN, "12", None, True)),
        ("rollout/3", Thing(Kind.ROLLOUT, "3")),
        ("release 2", Thing(Kind.RELEASE, "2")),
        ("version/flights/3", Thing(Kind.VERSION, "flights/3")),
        ("version flights 3", Thing(Kind.VERSION, "flights/3")),
        ("flights/3", Thing(Kind.VERSION, "flights/3")),
        ("version/flights", Thing(Kind.ENVIRONMENT, "version/flights")),  # a model may have this name
        ("flights/production", Thing(Kind.ENVIRONMENT, "flights/production")),
        ("environment flights/production", Thing(Kind.ENVIRONMENT, "flights/production")),
    ],
)
def test_a_thing_is_known_however_it_is_written(words: str, thing: Thing) -> None:
    assert parse_thing(words.split()) == thing


@pytest.mark.parametrize(
    "words",
    [
        "",
        "/",
        "run",
        "run/train",
        "run/12/train/1",
        "rollout",
        "rollout/x",
        "release/2/3",
        "a/b/c",
        "gate",
        "gate rollout/3",
        "gate flights/production",
        "gate run/x",
    ],
)
def test_what_is_none_of_them_is_refused_with_what_can_be_written(words: str) -> None:
    with pytest.raises(Refused, match="not a") as refused:
        parse_thing(words.split())
    assert "run/12" in refused.value.remedy


@given(words=st.lists(st.text(alphabet="run/12gate ", max_size=8), max_size=4))
def test_whatever_is_asked_it_is_a_thing_or_refused(words: list[str]) -> None:
    try:
        thing = parse_thing(words)
    except Refused:
        return
    assert thing.key or thing.stage
    assert all(part in " ".join(words) for part in thing.key.split("/"))


RELEASE = Release(
    number=4,
    model="m",
    version="m/2",
    title="m v2",
    run="12",
    environments=(EnvironmentPlan(name="p"),),
)


AUC = GateResult(gate="auc min 0.7", verdict=Verdict.FAIL, because="0.6 < 0.7", evidence={"min": 0.7})
OVERRIDDEN = Judgement(results=(AUC,), overrides=(Override(gate=AUC.gate, by="ada", reason="old labels"),))
VERSION = ModelVersion(
    model="m",
    number=2,
    digest=DIGEST,
    lock=DIGEST,
    format="skops",
    judgement=OVERRIDDEN,
    repository="shop",
    ref="refs/heads/main",
    commit=COMMIT.sha,
    run="12",
    plan=DIGEST,
    serving=DIGEST,
    signature=DIGEST,
    provenance=DIGEST,
    is_trusted=True,
    made=NOW,
)


@pytest.mark.parametrize(
    ("kind", "key", "phase", "state", "first"),
    [
        (Kind.QUARANTINE, DIGEST, "quarantined", {}, f"quarantine {DIGEST}  quarantined"),
        (Kind.VERSION, "m/2", "registered", VERSION.model_dump(mode="json"), "version m/2  registered"),
        (Kind.ATTEMPT, "12/train/1", "running", {}, "attempt 12/train/1  running"),
        (Kind.ENVIRONMENT, "m/p", "empty", Environment(name="p", model="m").model_dump(mode="json"), "m/p"),
        (Kind.RELEASE, "4", "open", RELEASE.model_dump(mode="json"), "  release 4  m v2  open (next: p)  "),
    ],
)
def test_every_kind_of_row_has_a_headline(kind: Kind, key: str, phase: str, state: dict[str, Json], first: str) -> None:
    stored = Row(kind=kind, key=key, version=1, phase=phase, state=state, created=NOW, updated=NOW)
    assert headline(stored)[0].text == first


def test_a_rollout_tells_what_happened_in_each_of_its_slices() -> None:
    slices = AnalysisMetricPlan(metric="accuracy", slices={"carrier": ("AA", "UA")})
    strategy = StrategyPlan(kind="canary", analysis=AnalysisPlan(metrics=(slices,)))
    rollout = begin(
        3, revision(2), revision(1), EnvironmentPlan(name="production", strategy=strategy), release=4, now=NOW
    )
    counts = Counts(candidate_requests=8, candidate_events=6, stable_requests=9, stable_events=0)
    tick = Tick(number=1, seen={"accuracy": {"": counts, "carrier=UA": counts}})
    state = rollout.model_copy(update={"analysis": observe(rollout.analysis, tick)}).model_dump(mode="json")
    stored = Row(kind=Kind.ROLLOUT, key="3", version=1, phase="progressing", state=state, created=NOW, updated=NOW)
    assert [line.text for line in headline(stored)[1:]] == [
        "    accuracy of carrier=AA: candidate 0 wrong in 0 requests, stable 0 wrong in 0 requests",
        "    accuracy of carrier=UA: candidate 6 wrong in 8 requests (75.00 %), stable 0 wrong in 9 requests (0.00 %)",
    ]


def test_what_was_overridden_is_told_of_the_version_the_run_and_its_gates() -> None:
    state = VERSION.model_dump(mode="json")
    stored = Row(kind=Kind.VERSION, key="m/2", version=1, phase="registered", state=state, created=NOW, updated=NOW)
    assert headline(stored)[1:] == [Line("m/2 fail       auc min 0.7: overridden by ada: old labels", "warn")]
    told = ["  fail       auc min 0.7: 0.6 < 0.7", "    overridden by ada: old labels"]
    assert [line.text for line in gate_story(a_run(judgement=OVERRIDDEN))[1:]] == [*told, "      min: 0.7"]
    run = [line.text for line in run_story(a_run(judgement=OVERRIDDEN), [])]
    assert run[run.index("gates") + 1 :][:2] == told
    data = a_run(data=Checked(results=(AUC,)), judgement=OVERRIDDEN)
    assert [line.text for line in gate_story(data)[2:5]] == [*told, "      min: 0.7"]


def test_the_story_of_a_run_that_has_nothing_yet() -> None:
    assert [line.text for line in run_story(a_run(plan=Plan()), [])] == [
        TITLE,
        "stages",
        "  none",
        "decisions",
        "  no decision is stored",
    ]


def test_beside_what_a_run_was_expected_to_take_is_what_it_took() -> None:
    expected = Estimate(seconds=250.0, cpu_seconds=360.0, stages={"train": 240.0, "report": None, "plots": 9.0}, runs=5)
    run = a_run(
        estimate=expected,
        stages={
            "train": StageRun(phase=Phase.SUCCEEDED, attempt=1, seconds=231.4, cpu_seconds=351.2),
            "report": StageRun(phase=Phase.SUCCEEDED, attempt=1, seconds=2.0),
            "plots": StageRun(phase=Phase.RUNNING, attempt=1),
        },
    )
    assert [line.text for line in cost_lines(run, 242.0)] == [
        "cost",
        "  expected at least 4 min, 6 CPU-min (from 5 earlier runs; never measured: report)",
        "  took     4 min 2 s, 351.2 CPU-s",
        "    train          expected 4 min 0 s, took 3 min 51 s",
        "    report         expected unknown, took 2.0 s",
        "    plots          expected 9.0 s, took not yet",
    ]
    assert cost_lines(a_run(), 1.0) == []


def test_of_many_stages_those_that_take_long_are_told() -> None:
    many = {f"s{number}": float(number) for number in range(1000)}
    lines = expected_lines(Estimate(seconds=9.0, cpu_seconds=None, stages=many, runs=1))
    assert [len(line.text) < 300 for line in lines] == [True, True]
    assert lines[1].text.endswith("s988 16 min and 987 more")
    assert lines[1].text.startswith("         s999 17 min")
    run = a_run(
        estimate=Estimate(seconds=9.0, cpu_seconds=None, stages=many, runs=1), stages=dict.fromkeys(many, StageRun())
    )
    assert cost_lines(run, 1.0)[-1].text == "    and 988 more stages (--json shows all)"
    assert expected_lines(None) == expected_lines(Estimate(seconds=None, cpu_seconds=None)) == []


def test_the_story_of_a_run_goes_from_stages_over_gates_to_decisions() -> None:
    run = a_run(stages={"train": StageRun(phase=Phase.RUNNING, because="new")})
    assert [line.text for line in run_story(run, [an_event("train starts")])] == [
        TITLE,
        "stages",
        "  train          running    new",
        "gates",
        "  not judged auc min 0.7",
        "  not judged accuracy min 0.5",
        "decisions",
        f"  {format_time(NOW)}  running      train starts",
    ]


def test_the_story_of_a_stage_tells_what_it_used_as_far_as_that_is_known() -> None:
    known = StageRun(
        phase=Phase.FAILED,
        because="exit code 1",
        attempt=2,
        differences=("a.py changed", "params.lr: 1 is now 2"),
        problems=(Problem(message="no", path="a.py", line=1), Problem(message="slow", is_warning=True)),
        seconds=75.0,
        cpu_seconds=80.0,
        peak_memory=312_400_000,
        bytes_read=2_400_000_000,
        bytes_written=1_250_000,
        sandbox="namespace",
        products={"model/": DIGEST},
    )
    bare = StageRun(phase=Phase.RUNNING, attempt=1)
    run = a_run(stages={"known": known, "bare": bare, "queued": StageRun()})
    used = "1 min 15 s of wall time, 1 min 20 s of CPU, 312 MB at most"
    assert [(line.text.strip(), line.style) for line in stage_story(run, "known", [])[2:]] == [
        ("a.py changed", ""),
        ("params.lr: 1 is now 2", ""),
        ("a.py:1: no", "bad"),
        ("slow", "warn"),
        (f"attempt 2: {used}, read 2400.0 MB, wrote 1.2 MB, sandbox namespace", ""),
        (f"made model/: {DIGEST}", "dim"),
    ]
    assert [line.text for line in stage_story(run, "bare", [])[2:]] == ["  attempt 1: 0.0 s of wall time"]
    assert stage_story(run, "queued", [])[2:] == []
    assert [line.text for line in stage_story(run, "queued", [an_event()])][2] == "decisions"


@pytest.mark.parametrize(("stages", "has"), [({}, "it has none"), ({"a": StageRun(), "b": StageRun()}, "it has a, b")])
def test_a_stage_that_is_not_there_is_refused(stages: dict[str, StageRun], has: str) -> None:
    with pytest.raises(NotFound, match="no stage 'train'") as refused:
        stage_story(a_run(stages=stages), "train", [])
    assert refused.value.remedy == has


def test_of_a_decision_a_stage_is_told_only_what_was_seen_of_it() -> None:
    both = an_event("1", outcomes={"train": {"code": 1}, "check": {"code": 0}}, lookups={"train": "hit"}, twin=None)
    events = [both, an_event("2", outcomes={"check": 1}), an_event("3", lost=["train"]), an_event("4")]
    (found,) = of_stage(events, "train")
    assert found.observed == {"outcomes": {"code": 1}, "lookups": "hit"}
    assert found.because == "1"
    assert both.observed["twin"] is None
    assert [event.because for event in of_stage(events, "check")] == ["1", "2"]
    assert of_stage(events, "other") == []


def test_gates_that_nobody_judged_tell_why_and_what_they_will_ask() -> None:
    assert gate_story(a_run(phase=Phase.FAILED, because="train failed")) == [
        Line(TITLE, "title"),
        Line("not judged: the run is failed: train failed", "warn"),
        Line("  not judged auc min 0.7", "dim"),
        Line("  not judged accuracy min 0.5", "dim"),
    ]
    assert gate_story(a_run(judgement=Judgement()))[1:] == [Line("no gate was asked for", "warn")]


def test_a_judged_gate_tells_every_number() -> None:
    evidence: dict[str, Json] = {"n": 40, "interval": {"low": -0.0123456789, "high": 1}, "note": "", "none": None}
    results = (
        GateResult(gate="auc", verdict=Verdict.UNDECIDED, because="too few", evidence=evidence),
        GateResult(gate="accuracy", verdict=Verdict.PASS, because="0.9"),
    )
    assert [line.text for line in gate_story(a_run(judgement=Judgement(results=results)))[1:]] == [
        "  undecided  auc: too few",
        "      n: 40",
        "      interval.low: -0.0123457",
        "      interval.high: 1",
        "  pass       accuracy: 0.9",
    ]


def test_a_judged_gate_tells_what_it_can_be_computed_from_again() -> None:
    stages = {"train": StageRun(), "measurements": StageRun(phase=Phase.SUCCEEDED, report=Digest("blake3:m"))}
    result = GateResult(gate="accuracy", verdict=Verdict.PASS, because="0.9")
    run = a_run(stages=stages, judgement=Judgement(results=(result,)))
    assert gate_story(run)[-1].text == "  measured by measurements: blake3:m"


def test_checks_of_data_are_told_before_the_gates_and_once() -> None:
    objection = GateResult(gate="units of train", verdict=Verdict.FAIL, because="times 60", evidence={"max": 0.1})
    data = Checked(results=(objection,), left_out={"drift of train": "no data was accepted yet"})
    run = a_run(data=data, served=Checked(), judgement=Judgement(results=(objection,)))
    assert [line.text for line in gate_story(run)[1:]] == [
        "checks of data",
        "  fail       units of train: times 60",
        "      max: 0.1",
        "  not asked  drift of train: no data was accepted yet",
        "gates",
    ]


@pytest.mark.parametrize("count", [0, 1, SHOWN, SHOWN + 1, 40])
def test_of_many_observations_some_are_told_and_all_are_counted(count: int) -> None:
    lines = event_lines([an_event(**{f"n{number}": number for number in range(count)})])[1:]
    assert [line.text for line in lines[:SHOWN]] == [f"      n{number}: {number}" for number in range(count)][:SHOWN]
    rest = [f"      and {count - SHOWN} more observations (--json shows all)"] if count > SHOWN else []
    assert [line.text for line in lines[SHOWN:]] == rest


@pytest.mark.parametrize(
    ("phase", "style"),
    [
        ("promoted", "good"),
        ("rolled_back", "bad"),
        ("held", "warn"),
        ("stopped", "bad"),
        ("progressing", ""),
        ("superseded", "warn"),
    ],
)
def test_a_decision_has_the_colour_of_where_it_led(phase: str, style: str) -> None:
    (line,) = event_lines([an_event("x" * 400, phase)])
    assert line.style == style
    assert line.text == f"  {format_time(NOW)}  {phase:<11}  {'x' * 400}"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=300),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(alphabet="ab", min_size=1), inner, max_size=4),
    max_leaves=20,
)


@given(value=JSON)
def test_any_value_is_told_on_one_short_line(value: Json) -> None:
    text = format_value(value)
    assert len(text) <= 200
    assert len(text.splitlines()) <= 1


@given(value=st.dictionaries(st.sampled_from("abc"), JSON, max_size=3))
def test_flat_names_lead_to_the_values_they_stand_for(value: dict[str, Json]) -> None:
    for name, found in flatten(value):
        inner: Json = value
        for part in name.split("."):
            assert isinstance(inner, dict)
            inner = inner[part]
        assert inner is found
        assert not isinstance(found, dict)
        assert found is not None


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ({}, []),
        ({"a": {}}, []),
        ({"a": {"b": {"c": 0}}}, ["a.b.c"]),
        ({"a": None, "b": [], "c": ""}, []),
        ({"a": 0, "b": False, "c": 0.0, "d": " "}, ["a", "b", "c", "d"]),
        ({"b": 1, "a": {"z": 1, "y": 2}, "c": [1]}, ["b", "a.z", "a.y", "c"]),
    ],
)
def test_what_holds_nothing_is_left_out_and_nought_is_something(value: dict[str, Json], names: list[str]) -> None:
    assert [name for name, _ in flatten(value)] == names


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1 + 0.2, "0.3"),
        (1e-9, "1e-09"),
        (12345678.9, "1.23457e+07"),
        (7, "7"),
        (True, "True"),
        ("two\n  lines\t", "two lines"),
        ([1.0, "a", [2]], "1, a, 2"),
        ("x" * 200, "x" * 200),
        ("x" * 201, "x" * 199 + "…"),
        (["y" * 150] * 2, "y" * 150 + ", " + "y" * 47 + "…"),
    ],
)
def test_a_value_as_people_read_it(value: Json, text: str) -> None:
    assert format_value(value) == text


@pytest.mark.parametrize(("looks", "told"), [(1, 1), (2, 2), (3, 2), (1440, 2)])
def test_of_a_probation_the_first_and_the_last_decision_are_told(looks: int, told: int) -> None:
    probation = [an_event(f"on probation {number}", "progressing", on_probation_until=NOW) for number in range(looks)]
    lines = [line.text for line in event_lines([an_event("weight 100 %"), *probation, an_event("another rollout")])]
    assert sum("on probation" in line and "until" not in line for line in lines) == told
    assert any(f"on probation {looks - 1}" in line for line in lines)
    left = [line.strip() for line in lines if "more looks" in line]
    assert left == ([f"{looks - told} more looks in between (--json shows all)"] if looks > told else [])
    assert "weight 100 %" in lines[0]
    assert "another rollout" in lines[-1]
