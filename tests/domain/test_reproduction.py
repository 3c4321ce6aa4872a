"""Reproducing: the run that does it, where it differs first, and the cause that executions show."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from interlock.errors import Conflict
from interlock.pipeline.plan import (
    CheckPlan,
    ConcurrencyPlan,
    DataPlan,
    EnvironmentPlan,
    GatePlan,
    ModelPlan,
    Plan,
    StagePlan,
)
from interlock.run.advance import advance
from interlock.run.conditions import Conditions, changed_conditions
from interlock.run.reproduction.comparison import (
    Compared,
    Difference,
    compare_runs,
    conclude,
    on_one_core,
    plan_to_reproduce,
    reproduce,
)
from interlock.run.reproduction.diagnosis import Cause, Execution, StageSeen, diagnose, next_execution
from interlock.run.reproduction.suspects import Suspect, suspects_in
from interlock.run.run import Run, RunSeen, StageRun, begin
from interlock.run.sameness import WHY_REWRITTEN, Differences, compare, compared, contents_of_archive, essence_of
from interlock.run.stage import StageOutcome
from interlock.source.commit import Commit, Occasion
from interlock.vocabulary import Digest, Phase

COMMIT = Commit(repository="small", git_directory="/r", ref="refs/heads/main", sha="a" * 40, tree="b" * 40)
HERE = Conditions(
    system="Linux x86_64 glibc 2.36",
    processor="Some 7",
    flags=("avx", "avx2"),
    cores=4,
    threads=1,
    python="3.12.1",
    packages={"numpy": "2.1.0", "six": "1.17.0"},
)


class Shelf:
    """Artifacts in memory: folders of files, and lone files."""

    def __init__(self) -> None:
        self.folders: dict[Digest, dict[str, Digest]] = {}
        self.contents: dict[Digest, bytes] = {}

    def file(self, content: bytes) -> Digest:
        digest = Digest(f"blake3:{blake3(content).hexdigest()}")
        self.contents[digest] = content
        self.folders[digest] = {"": digest}
        return digest

    def folder(self, files: Mapping[str, bytes]) -> Digest:
        listed = {name: self.file(content) for name, content in files.items()}
        digest = Digest(f"blake3:{blake3(json.dumps(listed, sort_keys=True).encode()).hexdigest()}")
        self.folders[digest] = listed
        return digest

    def files(self, digest: Digest) -> dict[str, Digest]:
        return self.folders[digest]

    def read(self, digest: Digest) -> bytes:
        return self.contents[digest]

    def has(self, digest: Digest) -> bool:
        return digest in self.folders


def archive(address: int, weights: bytes, *, named: str = "schema.json", content: str = "1.0") -> bytes:
    """What skops writes, in short: a part that is named by an address, and a schema that refers to it."""
    schema = {"__id__": address, "content": [{"file": f"{address}.npy", "__id__": address + 8}, {"value": content}]}
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as file:
        file.writestr(zipfile.ZipInfo(f"{address}.npy", (2020 + address % 7, 1, 1, 0, 0, 0)), weights)
        file.writestr(named, json.dumps(schema))
    return made.getvalue()


# --- the same, or not ---


def test_files_are_compared_one_by_one_and_only_what_differs_is_named() -> None:
    shelf = Shelf()
    before = {
        "model/": shelf.folder({"a": b"1", "b": b"2", "c": b"3"}),
        "size": shelf.file(b"6"),
        "same": shelf.file(b"s"),
    }
    after = {
        "model/": shelf.folder({"a": b"1", "b": b"9", "d": b"3"}),
        "size": shelf.file(b"7"),
        "same": shelf.file(b"s"),
    }
    assert compare(before, after, shelf) == Differences(("model/b", "model/c", "model/d", "size"), ())
    assert compare(before, before, shelf) == Differences((), ())
    assert compare({}, {"size": before["size"]}, shelf).files == ("size",)
    gone = {**before, "model/": Digest("blake3:gone")}
    assert compare(gone, after, shelf).files == ("model/", "size")


def test_an_archive_is_the_same_whatever_its_parts_are_called_and_whenever_they_were_written() -> None:
    shelf = Shelf()
    one, other = ({"model/": shelf.folder({"m.skops": archive(at, b"weights")})} for at in (1400, 99311))
    assert one != other
    assert compare(one, other, shelf) == Differences((), ("model/m.skops",))
    assert essence_of(one, shelf) == essence_of(other, shelf)
    assert list(essence_of(one, shelf)) == ["model/m.skops"]
    for changed in (archive(1400, b"other"), archive(1400, b"weights", content="2.0")):
        assert compare(one, {"model/": shelf.folder({"m.skops": changed})}, shelf).files == ("model/m.skops",)
    lone = {"m.skops": shelf.file(archive(1, b"w"))}
    assert compare(lone, {"m.skops": shelf.file(archive(2, b"w"))}, shelf).rewritten == ("m.skops",)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no archive",
        archive(1, b"w", named="other.json"),
        archive(1, b"w").replace(b"__id__", b'__"__'),
        archive(1, b"w" * 50)[:60],
    ],
    ids=["empty", "none", "nothing of skops", "unreadable", "broken off"],  # an archive has the time in it
)
def test_what_is_no_archive_is_compared_by_its_bytes(content: bytes) -> None:
    assert contents_of_archive(content) is None


def test_an_archive_that_would_fill_the_memory_or_the_stack_is_not_looked_into(monkeypatch: pytest.MonkeyPatch) -> None:
    nested = io.BytesIO()
    with zipfile.ZipFile(nested, "w") as file:
        file.writestr("schema.json", "[" * 200_000 + "]" * 200_000)
    assert contents_of_archive(nested.getvalue()) is None
    assert contents_of_archive(archive(1, b"w" * 1000)) is not None
    monkeypatch.setattr("interlock.run.sameness.MOST_BYTES", 1000)
    assert contents_of_archive(archive(1, b"w" * 1000)) is None


# --- determinism: check ---


def outcome(shelf: Shelf, content: bytes, **update: object) -> StageOutcome:
    made = StageOutcome(
        phase=Phase.SUCCEEDED,
        because="finished in 1.0 s",
        seconds=1.0,
        cpu_seconds=0.5,
        peak_memory=10,
        products={"model/": shelf.folder({"m.skops": content})},
    )
    return made.model_copy(update=update)


def test_a_stage_that_made_the_same_twice_is_deterministic() -> None:
    shelf = Shelf()
    first, second = outcome(shelf, b"1"), outcome(shelf, b"1", seconds=2.0, cpu_seconds=None, peak_memory=30)
    found = compared(first, second, shelf)
    assert (found.phase, found.is_deterministic, found.products) == (Phase.SUCCEEDED, True, first.products)
    assert (found.seconds, found.cpu_seconds, found.peak_memory) == (3.0, 0.5, 30)
    assert found.because == "finished in 1.0 s; executed again, it made the same"
    other = outcome(shelf, archive(1, b"w")), outcome(shelf, archive(2, b"w"))
    assert WHY_REWRITTEN in compared(*other, shelf).because
    assert compared(*other, shelf).products == other[0].products


def test_a_stage_that_made_something_else_fails_and_names_the_file() -> None:
    shelf = Shelf()
    found = compared(outcome(shelf, b"1"), outcome(shelf, b"2"), shelf)
    assert (found.phase, found.is_deterministic, found.products) == (Phase.FAILED, False, {})
    assert found.because.endswith("executed twice, it made different model/m.skops")
    assert [problem.path for problem in found.problems] == ["model/m.skops"]


def test_a_second_execution_that_fails_is_how_the_stage_ends() -> None:
    shelf = Shelf()
    for phase in (Phase.FAILED, Phase.CANCELLED):
        second = StageOutcome(phase=phase, because="killed", seconds=1.0)
        found = compared(outcome(shelf, b"1"), second, shelf)
        assert (found.phase, found.is_deterministic, found.seconds) == (phase, None, 2.0)
        assert found.because == "executed again, to see whether it is deterministic: killed"


# --- the run that reproduces ---

PLAN = Plan(
    stages=(
        StagePlan(name="unit", kind="check", command="pytest"),
        StagePlan(name="train", kind="stage", command="python train.py", outs=("model/",), determinism="check"),
        StagePlan(name="evaluate", kind="stage", command="python e.py", metrics=("m.json",), needs=("train",)),
        StagePlan(name="served", kind="measure", builtin="served", needs=("train",)),
    ),
    concurrency=ConcurrencyPlan(group="all"),
    data=(DataPlan(name="train", path="train.csv", checks=(CheckPlan(name="volume"),)),),
    model=ModelPlan(name="small", path="model/", format="skops"),
    gates=(GatePlan(metric="auc", min=0.5),),
    deploy=(EnvironmentPlan(name="production"),),
)


def made_run(shelf: Shelf, model: bytes = b"1", metrics: bytes = b"m", **phases: Phase) -> Run:
    products = {"train": {"model/": shelf.folder({"m.skops": model})}, "evaluate": {"m.json": shelf.file(metrics)}}
    begun = begin(7, COMMIT, Occasion(kind="push"), PLAN, Digest("p"), driver="server", is_trusted=True)
    stages = {
        stage.name: StageRun(
            phase=phases.get(stage.name, Phase.SUCCEEDED), products=products.get(stage.name, {}), because="told"
        )
        for stage in PLAN.stages
    }
    return begun.model_copy(update={"stages": stages, "lock": Digest("l")})


def again_of(run: Run) -> Run:
    return reproduce(run, 9, Occasion(kind="reproduce", detail="small v1"), driver="local:1", plan_digest=Digest("q"))


def test_a_reproduction_executes_everything_anew_and_can_neither_register_nor_deliver() -> None:
    run = made_run(Shelf())
    again = again_of(run)
    assert [stage.name for stage in again.plan.stages] == ["unit", "train", "evaluate"]
    assert again.fresh == ("unit", "train", "evaluate")
    assert (again.plan.model, again.plan.deploy, again.plan.gates, again.plan.concurrency) == (None, (), (), None)
    assert again.plan.data == (DataPlan(name="train", path="train.csv"),)
    assert all(stage.determinism is None for stage in again.plan.stages)
    assert (again.lock, again.commit, again.is_trusted) == (run.lock, run.commit, True)
    assert again.scope == "reproduction 9"
    assert run.may_deliver
    assert not again.may_deliver
    assert plan_to_reproduce(again.plan) == again.plan


def test_the_reason_of_each_stage_is_what_is_reproduced() -> None:
    again = again_of(made_run(Shelf()))
    assert again.occasion.why_anew("unit") == "executed anew, to reproduce small v1"
    done = {name: StageRun(phase=Phase.SUCCEEDED) for name in again.stages}
    ended = advance(again.model_copy(update={"stages": done}), RunSeen(), 0.0)
    assert ended.state.judgement is not None
    assert advance(ended.state, RunSeen(), 0.0).state.phase is Phase.SUCCEEDED


def test_data_that_no_commit_holds_is_that_of_the_run_and_not_fetched_again() -> None:
    shelf = Shelf()
    run = made_run(shelf)
    rows = {"rows.csv": shelf.file(b"rows")}
    fetch = StagePlan(
        name="fetch", kind="data", builtin="fetch", outs=("rows.csv",), sources={"rows.csv": "/srv/rows.csv"}
    )
    plan = run.plan.model_copy(update={"stages": (fetch, *run.plan.stages)})
    for before in (
        StageRun(phase=Phase.SUCCEEDED, attempt=1, products=rows),
        StageRun(reused="3/fetch/1", products=rows),
    ):
        brought = before.model_copy(update={"phase": Phase.SUCCEEDED})
        again = again_of(run.model_copy(update={"plan": plan, "stages": {**run.stages, "fetch": brought}}))
        assert again.fresh == ("unit", "train", "evaluate")
        pinned = again.stages["fetch"]
        assert (pinned.phase, pinned.products, pinned.because) == (Phase.SUCCEEDED, rows, "the data that run 7 used")
        assert pinned.reused == (before.reused or "7/fetch/1")


@pytest.mark.parametrize("phases", [{"train": Phase.FAILED}, {"evaluate": Phase.SKIPPED}])
def test_a_run_that_did_not_make_everything_cannot_be_compared(phases: dict[str, Phase]) -> None:
    with pytest.raises(Conflict, match=f"{next(iter(phases))} did not succeed"):
        again_of(made_run(Shelf(), **phases))


def test_a_run_without_products_cannot_be_compared() -> None:
    run = made_run(Shelf())
    plan = PLAN.model_copy(update={"stages": PLAN.stages[:1]})
    with pytest.raises(Conflict, match="no stage of it makes anything"):
        again_of(run.model_copy(update={"plan": plan}))


# --- where it differs first ---


def compare_made(model: bytes = b"1", metrics: bytes = b"m", first: bytes = b"1", **phases: Phase) -> Compared:
    shelf = Shelf()
    original, again = made_run(shelf, first), made_run(shelf, model, metrics, **phases)
    plan = plan_to_reproduce(PLAN)
    return compare_runs(original, again.model_copy(update={"plan": plan}), shelf)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (compare_made(), Compared()),
        (compare_made(b"2", b"n"), Compared(difference=Difference(stage="train", files=("model/m.skops",)))),
        (compare_made(metrics=b"n"), Compared(difference=Difference(stage="evaluate", files=("m.json",)))),
        (
            compare_made(b"2", unit=Phase.FAILED),
            Compared(difference=Difference(stage="unit", phase=Phase.FAILED, because="told")),
        ),
        (
            compare_made(archive(2, b"w"), b"n", archive(1, b"w")),
            Compared(difference=Difference(stage="evaluate", files=("m.json",)), rewritten=("model/m.skops",)),
        ),
        (
            compare_made(archive(2, b"w"), b"m", archive(1, b"w"), evaluate=Phase.ERRORED),
            Compared(
                difference=Difference(stage="evaluate", phase=Phase.ERRORED, because="told"),
                rewritten=("model/m.skops",),
            ),
        ),
    ],
)
def test_the_first_difference_in_the_order_of_the_plan_counts(found: Compared, expected: Compared) -> None:
    assert found == expected


@pytest.mark.parametrize(
    ("compared_runs", "result", "cause", "said"),
    [
        (Compared(), "identical", None, "bit by bit the same"),
        (Compared(rewritten=("m.skops",)), "rewritten", None, WHY_REWRITTEN),
        (Compared(difference=Difference(stage="train", files=("a", "b"))), "different", None, "differs, in a, b"),
        (
            Compared(difference=Difference(stage="train", phase=Phase.FAILED, because="exit code 1")),
            "different",
            Cause.FAILURE,
            "train failed this time: exit code 1",
        ),
        (
            Compared(difference=Difference(stage="train", phase=Phase.ERRORED, because="no disk")),
            "unknown",
            Cause.FAILURE,
            "train errored this time: no disk",
        ),
    ],
)
def test_what_became_of_it_as_far_as_comparing_tells(
    compared_runs: Compared, result: str, cause: Cause | None, said: str
) -> None:
    run = made_run(Shelf())
    found = conclude("small v1", run, again_of(run), compared_runs)
    assert (found.of, found.original, found.run, found.result, found.cause) == ("small v1", 7, 9, result, cause)
    assert said in found.because


# --- why ---

A, B, C, D = (Execution(made={"m": letter}) for letter in "abcd")
BROKEN = Execution(problem="exit code 1")
CHANCE = Suspect(path="t.py", line=3, what="x() without random_state", kind="chance")
TIME = Suspect(path="t.py", line=4, what="time.time() depends on when it runs", kind="time")
OTHER = HERE.model_copy(update={"python": "3.12.2", "packages": {"numpy": "2.2.0"}})


def seen(same: tuple[Execution, ...], single: tuple[Execution, ...] = (), **more: object) -> StageSeen:
    return StageSeen.model_validate({"same": same, "single": single, "before": HERE, "after": HERE, **more})


@pytest.mark.parametrize(
    ("known", "setting"),
    [
        (seen((A,)), "same"),
        (seen((A,), uses_network=True, after=OTHER), "same"),
        (seen((A, B)), "single"),
        (seen((A, B), (C,)), "single"),
        (seen((A, B), (BROKEN,)), None),
        (seen((A, B), (C, C)), None),
        (seen((A, BROKEN)), "single"),
        (seen((A, A)), "same"),
        (seen((A, A, A)), "same"),
        (seen((A, A, B)), "single"),
        (seen((A, A, A, A)), None),
        (seen((A, A), uses_network=True), None),
        (seen((A, A), after=OTHER), None),
        (seen((A, A), before=None), "same"),
        (seen((A, A), after=None), "same"),
    ],
)
def test_the_stage_is_executed_as_often_as_its_cause_takes(known: StageSeen, setting: str | None) -> None:
    assert next_execution(known) == setting


@pytest.mark.parametrize(
    ("known", "cause", "said"),
    [
        (seen((A, B), (C, C)), Cause.THREADS, "on one core with one thread the same one twice"),
        (seen((A, B), (C, D), suspects=(CHANCE,)), Cause.CHANCE, "unseeded randomness: executed 2 times"),
        (seen((A, B), (C, D), suspects=(CHANCE,)), Cause.CHANCE, "suspects: t.py:3 x() without random_state"),
        (seen((A, B), (C, D), suspects=(TIME,)), Cause.CHANCE, "unseeded randomness or the time of day"),
        (seen((A, B), (C, D)), Cause.CHANCE, "unseeded randomness or the time of day"),
        (seen((A, B), (BROKEN,)), Cause.UNKNOWN, "on one core with one thread it did not succeed: exit code 1"),
        (
            seen((A, A), after=OTHER),
            Cause.CONDITIONS,
            "package numpy 2.1.0 -> 2.2.0; package six 1.17.0 is gone; python",
        ),
        (seen((A, A), uses_network=True), Cause.NETWORK, "it may use the network"),
        (seen((A, A, A, A)), Cause.UNKNOWN, "nothing that is recorded has changed"),
        (seen((A, A, A, A), before=None), Cause.UNKNOWN, "the first conditions were not recorded"),
    ],
)
def test_the_cause_is_what_the_executions_showed(known: StageSeen, cause: Cause, said: str) -> None:
    assert next_execution(known) is None
    found = diagnose(known)
    assert found.cause is cause
    assert said in found.because


@given(
    chance=st.booleans(),
    races=st.booleans(),
    numbers=st.lists(st.integers(0, 3), min_size=9, max_size=9),
    is_old=st.booleans(),
)
def test_a_stage_that_is_executed_for_real_is_never_asked_for_more_than_it_takes(
    chance: bool, races: bool, numbers: list[int], is_old: bool
) -> None:
    """Whatever a stage does, it is executed six times at most, and a deterministic one is never called random."""
    draws = iter(numbers)

    def execute(single: bool) -> Execution:
        drawn = next(draws) if chance or (races and not single) else 0
        return Execution(made={"m": str(drawn)})

    known = seen((execute(False),), before=None if is_old else HERE)
    while (setting := next_execution(known)) is not None:
        made = execute(setting == "single")
        known = known.model_copy(update={setting: (*getattr(known, setting), made)})
    assert len(known.same) + len(known.single) <= 6
    cause = diagnose(known).cause
    if not chance and not races:
        assert cause is Cause.UNKNOWN
    if not chance:
        assert cause in (Cause.UNKNOWN, Cause.THREADS)


@pytest.mark.parametrize(
    ("update", "told"),
    [
        ({}, []),
        ({"packages": {**HERE.packages, "attrs": "24"}}, ["package attrs 24 is new"]),
        ({"system": "Linux aarch64"}, ["system Linux x86_64 glibc 2.36 -> Linux aarch64"]),
        ({"processor": "Other 9"}, ["processor Some 7 -> Other 9"]),
        ({"cores": 8, "threads": 2}, ["threads 1 -> 2", "cores 4 -> 8"]),
        ({"flags": ("avx", "sse")}, ["processor flags: now without avx2 and with sse"]),
        ({"flags": ("avx",)}, ["processor flags: now without avx2"]),
        ({"flags": ("avx", "avx2", "avx512f")}, ["processor flags: now with avx512f"]),
    ],
)
def test_what_has_changed_between_two_executions_is_told(update: dict[str, object], told: list[str]) -> None:
    assert list(changed_conditions(HERE, HERE.model_copy(update=update))) == told


def test_one_core_means_one_for_the_system_and_for_libraries() -> None:
    stage = StagePlan(
        name="train",
        kind="stage",
        command="python train.py --name 'a b'",
        env={"OMP_NUM_THREADS": "4", "MODE": "x"},
        resources={"cpu": 4.0},  # type: ignore[arg-type]
    )
    single = on_one_core(stage)
    assert (single.env, single.resources.cpu) == ({"MODE": "x"}, 1.0)
    assert "sched_setaffinity" in (single.command or "")
    assert (single.command or "").endswith("'python train.py --name '\"'\"'a b'\"'\"''")


# --- suspects ---


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("import random\nrandom.random()", ["a.py:2 random.random() without random.seed()"]),
        ("import random\nrandom.seed(1)\nrandom.random()", []),
        ("import random\nrandom.seed()\nrandom.random()", ["a.py:3 random.random() without random.seed()"]),
        ("from random import choice as pick\npick([1])", ["a.py:2 random.choice() without random.seed()"]),
        ("import random\nrandom.Random()\nrandom.Random(3)", ["a.py:2 random.Random() without a seed"]),
        ("import numpy as np\nnp.random.rand(3)", ["a.py:2 numpy.random.rand() without numpy.random.seed()"]),
        ("import numpy as np\nnp.random.seed(0)\nnp.random.rand(3)", []),
        ("import numpy as np\nnp.random.default_rng()", ["a.py:2 numpy.random.default_rng() without a seed"]),
        ("import numpy as np\nnp.random.default_rng(None)", ["a.py:2 numpy.random.default_rng() without a seed"]),
        ("import numpy as np\nnp.random.default_rng(seed=4).normal()", []),
        ("import torch\ntorch.randn(3)", ["a.py:2 torch.randn() without torch.manual_seed()"]),
        ("import torch\ntorch.manual_seed(1)\ntorch.randn(3)", []),
        (
            "from sklearn.ensemble import RandomForestClassifier\nRandomForestClassifier(5)",
            ["a.py:2 RandomForestClassifier() without random_state"],
        ),
        (
            "from sklearn import ensemble\nensemble.ExtraTreesRegressor(random_state=None)",
            ["a.py:2 ExtraTreesRegressor() without random_state"],
        ),
        ("from sklearn.model_selection import train_test_split\ntrain_test_split(x, random_state=1)", []),
        ("from sklearn.cluster import KMeans\nKMeans(**settings)", []),
        ("from sklearn.cluster import KMeans\nimport numpy\nnumpy.random.seed(1)\nKMeans()", []),
        ("from sklearn.linear_model import LinearRegression\nLinearRegression()", []),
        ("from elsewhere import KMeans\nKMeans()", []),
        ("frame.sample(3)", ["a.py:1 sample() without random_state"]),
        ("read()[0].sample(3, random_state=2)", []),
        ("import os\nos.urandom(8)", ["a.py:2 os.urandom() cannot be seeded"]),
        ("import secrets\nsecrets.token_hex()", ["a.py:2 secrets.token_hex() cannot be seeded"]),
        ("import time\ntime.time()", ["a.py:2 time.time() depends on when it runs"]),
        ("from datetime import datetime\ndatetime.now()", ["a.py:2 datetime.datetime.now() depends on when it runs"]),
        ("from . import helper\nhelper.random()", []),
        ("(lambda: 1)()\nx[0]()", []),
        ("def broken(", []),
        ("\0", []),
    ],
)
def test_lines_that_may_make_another_result_are_found(source: str, told: list[str]) -> None:
    assert [str(suspect) for suspect in suspects_in({"a.py": source.encode()})] == told


def test_a_seed_anywhere_counts_and_chance_comes_before_time() -> None:
    sources = {
        "a.py": b"import time\ntime.time()\n",
        "b.py": b"import random, uuid\nrandom.random()\nuuid.uuid4()\n",
        "c.py": b"import random\nrandom.seed(3)\n",
    }
    assert [f"{one.path}:{one.line} {one.kind}" for one in suspects_in(sources)] == ["b.py:3 chance", "a.py:2 time"]
