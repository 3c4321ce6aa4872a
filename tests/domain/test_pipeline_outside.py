"""Where data lives that no commit holds, and when what is read over the network grows old."""

from __future__ import annotations

from collections.abc import Collection

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.errors import SeveralRefused
from interlock.pipeline.outside.refresh import ALWAYS, how_old, young_enough
from interlock.pipeline.plan import Plan, RefreshPlan, StagePlan
from interlock.pipeline.pull_requests import trim
from interlock.pipeline.resolve import read_pipeline, resolve
from interlock.pipeline.trace import KeyInputs, Trace

CODE = ("train.py", "query.py")


def plan(text: str, there: Collection[str] = (), beside: Collection[str] = ()) -> Plan:
    file = read_pipeline(f"version: 1\nchecks: []\n{text}".encode())
    return resolve(file, project="", paths=[*CODE, *there], params={}, overrides={}, repository="small", beside=beside)


def sources(text: str, there: Collection[str] = (), beside: Collection[str] = ()) -> dict[str, str]:
    fetch = [stage for stage in plan(text, there, beside).stages if stage.builtin == "fetch"]
    return fetch[0].sources if fetch else {}


def refusals(text: str, there: Collection[str] = (), beside: Collection[str] = ()) -> list[str]:
    with pytest.raises(SeveralRefused) as refused:
        plan(text, there, beside)
    return [str(one) for one in refused.value.refusals]


DATA = "data: {train: {path: data/train.csv}}\n"
FROM = "data: {train: {path: data/train.csv, from: 's3://bucket/train.csv'}}\n"
DEPS = "stages: {train: {cmd: python train.py, deps: [data/images, data/train.csv]}}\n"


@pytest.mark.parametrize(
    ("text", "there", "beside", "found"),
    [
        (DATA, ["data/train.csv"], [], {}),
        (DATA, ["data/train.csv.dvc"], [], {"data/train.csv": "data/train.csv.dvc"}),
        (DATA, ["data.dvc"], [], {"data": "data.dvc"}),
        (DATA, ["data/train.csv", "data/train.csv.dvc"], [], {}),
        (DATA, [], ["data/train.csv"], {"data/train.csv": "data/train.csv"}),
        (DATA, ["data/train.csv.dvc"], ["data/train.csv"], {"data/train.csv": "data/train.csv"}),
        (DATA, [], ["data"], {"data": "data"}),
        (DATA, ["data/train.csv"], ["scratch", "data/other"], {}),
        (FROM, [], [], {"data/train.csv": "s3://bucket/train.csv"}),
        (FROM, ["data/train.csv.dvc"], ["data/train.csv"], {"data/train.csv": "s3://bucket/train.csv"}),
        (DEPS, ["data/images/.gitignore"], ["data/images/a.png", "data/train.csv"],
         {"data/images/a.png": "data/images/a.png", "data/train.csv": "data/train.csv"}),
        (DEPS, ["data/images.dvc", "data/train.csv"], [], {"data/images": "data/images.dvc"}),
        (FROM + DEPS, ["data/images.dvc"], [],
         {"data/images": "data/images.dvc", "data/train.csv": "s3://bucket/train.csv"}),
    ],
)  # fmt: skip
def test_where_data_is_looked_for(text: str, there: list[str], beside: list[str], found: dict[str, str]) -> None:
    assert sources(text, there, beside) == found


@given(st.permutations(["data/a.csv", "data", "data/b", "data/b/c", "d"]))
def test_no_source_is_a_part_of_another(beside: list[str]) -> None:
    text = "stages: {train: {cmd: x, deps: [data/a.csv, data/b/c, d, data]}}\n"
    found = list(sources(text, [], beside))
    assert not [(one, other) for one in found for other in found if one != other and one.startswith(f"{other}/")]
    assert all(any(path == one or path.startswith(f"{one}/") for one in found) for path in beside)


def test_what_is_fetched_comes_before_all_that_uses_it() -> None:
    planned = plan(
        FROM + "stages:\n"
        "  features: {cmd: python train.py, outs: [f]}\n"
        "  train: {cmd: python train.py, deps: [f], outs: [m]}\n"
    )
    assert [stage.name for stage in planned.stages] == ["fetch", "data", "features", "train"]
    fetch, data, features, train = planned.stages
    assert (fetch.kind, fetch.products, fetch.needs) == ("data", ("data/train.csv",), ())
    assert data.needs == ("fetch",)
    assert features.deps == ("data/train.csv",)  # it lists none: it gets all that is above it
    assert train.deps == ("f",)
    assert {"fetch", "data"} <= set(features.needs) & set(train.needs)


def test_a_pull_request_that_ends_early_fetches_too() -> None:
    planned = plan(FROM + "stages: {a: {cmd: x, outs: [f]}, b: {cmd: x}}\n")
    assert [stage.name for stage in trim(planned, "a").stages] == ["fetch", "data", "a"]


def test_what_is_no_table_is_fetched_and_not_validated() -> None:
    planned = plan("data: {images: {path: data/images, from: /srv/images}, train: {path: t.csv}}\n", ["t.csv"])
    assert [dataset.name for dataset in planned.data] == ["train"]
    assert "the dataset images is no CSV or Parquet file: it is not validated" in planned.warnings


@pytest.mark.parametrize(
    ("text", "there", "problem"),
    [
        (FROM, ["data/train.csv"], "lives at s3://bucket/train.csv, and the commit has data/train.csv too"),
        ("data: {i: {path: i, from: /srv/i}}", ["i/a", "i/.gitkeep"], "the commit has i/a too"),
        (DATA, [], "the commit has no data/train.csv"),
        (DEPS, ["data/train.csv"], "the commit has no data/images and no stage makes it"),
        ("data: {i: {path: images}}", ["images/a"], "images is of a kind that is not supported yet"),
        ("data: {i: {path: i, from: /i, id: k}}", [], "i is no table, so it has no id"),
        ("data: {i: {path: i, from: /i, schema: s}}", [], "i is no table, so it has no schema"),
        ("data: {a: {path: x, from: /a}, b: {path: x/y, from: /b}}", [], "x/y is a part of x, which the dataset a"),
        ("data: {a: {path: x, from: /a}, b: {path: x, from: /b}}", [], "x is a part of x"),
        ("data: {a: {path: x, from: ../b}}", [], "the path ../b leaves the project"),
        ("data: {a: {path: x, from: 'http://b/c'}}", [], "is no prefix of an object store"),
        ("data: {a: {path: x, from: 's3://b/../c'}}", [], "is no prefix of an object store"),
        ("data: {a: {path: x, from: /a/../etc}}", [], "is no whole path"),
        ("data: {a: {path: x.csv, from: /a}}\nstages: {s: {cmd: x, outs: [x.csv]}}", [], "is made by the stage s"),
        ("stages: {fetch: {cmd: x}}", [], "the stage name fetch is taken by a part of Interlock"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(text: str, there: list[str], problem: str) -> None:
    assert any(problem in one for one in refusals(text, there))


def test_keepers_of_empty_folders_are_no_data() -> None:
    assert sources("data: {i: {path: i, from: /srv/i}}", ["i/.gitignore", "i/.gitkeep"]) == {"i": "/srv/i"}


# --- refresh ---


def query(refresh: str) -> tuple[StagePlan, ...]:
    return plan(f"stages: {{query: {{cmd: python query.py, network: true{refresh}, outs: [q.csv]}}}}\n").stages


def test_what_refresh_may_be() -> None:
    assert [query(text)[-1].refresh for text in ("", ", refresh: always", ", refresh: 24h", ", refresh: 90s")] == [
        None,
        None,
        RefreshPlan(after=86400.0),
        RefreshPlan(after=90.0),
    ]


@pytest.mark.parametrize(
    ("refresh", "problem"),
    [
        ("24", "24 is no duration (write always, 24h, or {cmd: python version.py})"),
        ("never", "never is no duration (write always, 24h, or"),
        ("{}", "the key cmd is missing"),
        ("{cmd: x, after: 24h}", "the key after is unknown"),
        ("[always]", "refresh must be a mapping, not a list"),
    ],
)
def test_what_refresh_may_not_be(refresh: str, problem: str) -> None:
    assert any(problem in one for one in refusals(f"stages: {{q: {{cmd: x, network: true, refresh: {refresh}}}}}"))


@pytest.mark.parametrize("refresh", ["always", "24h", "{cmd: x}"])
def test_only_what_uses_the_network_grows_old(refresh: str) -> None:
    assert any(
        "q does not use the network" in one for one in refusals(f"stages: {{q: {{cmd: x, refresh: {refresh}}}}}")
    )


def test_a_command_that_tells_a_version_is_a_stage_of_its_own() -> None:
    text = ", refresh: {cmd: python query.py --version}, secrets: [API_TOKEN], timeout: 5m, env: {A: b}"
    asking, asked = query(text)
    assert (asking.name, asked.name) == ("query.version", "query")
    assert (asking.network, asking.secrets, asking.timeout, asking.env) == (True, ("API_TOKEN",), 300.0, {"A": "b"})
    assert asking.refresh is None  # it always runs
    assert asking.products == (".interlock/query.version",)
    assert "python query.py --version" in (asking.command or "")
    assert asked.needs == ("query.version",)
    assert ".interlock/query.version" in asked.deps


STAGE = StagePlan(name="query", kind="stage", command="x", network=True)
DAY = STAGE.model_copy(update={"refresh": RefreshPlan(after=86400.0)})
ASKED = STAGE.model_copy(update={"refresh": RefreshPlan(command="x")})
PLAIN = STAGE.model_copy(update={"network": False})
NOW = 1_000_000.0


def trace(run: int, age: float, seconds: float = 0.0) -> Trace:
    return Trace(
        inputs=KeyInputs(stage="query", command="x"),
        reads={}, listings={}, products={}, run=str(run), attempt="a", seconds=seconds, made=NOW - age,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("stage", "traces", "reruns", "kept", "because"),
    [
        (PLAIN, [trace(1, 1e6)], [], ["1"], ""),
        (ASKED, [trace(1, 1e6)], [], ["1"], ""),
        (STAGE, [trace(1, 1.0)], [], [], ALWAYS),
        (STAGE, [], [], [], ALWAYS),
        (STAGE, [trace(2, 1.0), trace(1, 1e6)], [1], ["1"], ""),
        (DAY, [trace(2, 60.0), trace(1, 90_000.0)], [], ["2"], ""),
        (DAY, [trace(1, 90_000.0)], [], [], "what it read over the network is 1.0d old (refresh: 1d)"),
        (DAY, [trace(1, 86_000.0, seconds=1_000.0)], [], [], "what it read over the network is 1.0d old (refresh: 1d)"),
        (DAY, [trace(1, -60.0)], [], [], "what it read over the network is -1m old (refresh: 1d)"),
        (DAY, [trace(1, 90_000.0)], [1], ["1"], ""),
        (DAY, [], [], [], ""),
    ],
)  # fmt: skip
def test_which_executions_are_young_enough(
    stage: StagePlan, traces: list[Trace], reruns: list[int], kept: list[str], because: str
) -> None:
    found, told = young_enough(stage, traces, reruns, NOW)
    assert [one.run for one in found] == kept
    assert told == because


def test_a_reuse_tells_its_age() -> None:
    assert how_old(DAY, trace(1, 9_000.0), NOW) == ", read 2.5h ago (refresh: 1d)"
    assert how_old(DAY, trace(1, 0.0), NOW) == ", read 0s ago (refresh: 1d)"
    assert (
        how_old(STAGE, trace(1, 1.0), NOW) == how_old(ASKED, trace(1, 1.0), NOW) == how_old(PLAIN, trace(1, 1.0), NOW)
    )
    assert how_old(PLAIN, trace(1, 1.0), NOW) == ""


@given(age=st.floats(-1e6, 1e6), after=st.floats(1.0, 1e6), seconds=st.floats(0.0, 1e5))
def test_nothing_older_than_it_may_be_is_reused(age: float, after: float, seconds: float) -> None:
    """The age is counted from the moment at which it began to read."""
    stage = STAGE.model_copy(update={"refresh": RefreshPlan(after=after)})
    one = trace(1, age, seconds)
    kept, because = young_enough(stage, [one], (), NOW)
    began = one.made - one.seconds
    assert bool(kept) == (began <= NOW < began + after or (NOW - began < after and began <= NOW))
    assert bool(because) == (not kept)
