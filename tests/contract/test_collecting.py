"""What may go: nothing that anything refers to, everything else once it is old."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from interlock.control.collecting import GRACE_SECONDS, Collected, Collecting, Retention, digests_in
from interlock.control.rows import write_state
from interlock.delivery.environment import Environment
from interlock.delivery.revision import Revision
from interlock.delivery.rollout import begin
from interlock.edges.blobs import LocalBlobs, MemoryBlobs
from interlock.edges.environments import UvEnvironments
from interlock.edges.store import MemoryStore
from interlock.errors import ArtifactFault, Refused
from interlock.pipeline.plan import EnvironmentPlan, Plan, PythonPlan
from interlock.ports import Blobs
from interlock.run import run as runs
from interlock.run.run import Run, StageRun
from interlock.run.stage import Baseline
from interlock.source.commit import Commit, Occasion
from interlock.vocabulary import Digest, Fact, Json, Kind, Phase, Write

DAY = 86400.0
RETENTION = Retention(logs=90 * DAY, artifacts=30 * DAY, environments=10 * DAY)
NO_DIGEST = Digest("blake3:" + "0" * 64)
COMMIT = Commit(repository="small", git_directory="/r", ref="refs/heads/main", sha="a" * 40, tree="b" * 40)


class NamedEnvironments:
    """Environments that are named by their files and never built."""

    def lock_files(self, python: PythonPlan, read: Callable[[Sequence[str]], Mapping[str, bytes]]) -> dict[str, bytes]:
        raise AssertionError("nothing is read here")

    def version(self, python: PythonPlan) -> str:
        return "3.12.0"

    def identify(self, python: PythonPlan, files: Mapping[str, bytes], purpose: str) -> str:
        if python.version == "none":
            raise Refused("no such Python is installed here")
        return f"{purpose} {b''.join(files.values()).decode()}"

    def ensure(self, python: PythonPlan, files: Mapping[str, bytes], purpose: str, say: Callable[[str], None]) -> str:
        raise AssertionError("nothing is built here")

    def check(self, python: PythonPlan, files: Mapping[str, bytes]) -> None:
        raise AssertionError("nothing is checked here")


class World:
    """A store and artifacts at a moment that a test moves."""

    def __init__(self, blobs: Blobs | None = None) -> None:
        self.now = 1000 * DAY
        self.store = MemoryStore(lambda: self.now)
        self.blobs = blobs or MemoryBlobs(lambda: self.now)
        self.logs: dict[str, float] = {}
        self.environments: dict[str, float] = {}
        self.wanted: set[str] = set()

    def pass_days(self, days: float) -> None:
        self.now += days * DAY

    def file(self, text: str) -> Digest:
        return self.blobs.put_files({"file": text.encode()})

    def row(self, kind: Kind, key: str, phase: str, state: dict[str, Json], expected: int = 0) -> None:
        self.store.save(
            Write(kind=kind, key=key, expected=expected, phase=phase, state=state, because="a test", repository="small")
        )

    def run(self, number: int, phase: Phase, **update: object) -> Run:
        occasion = Occasion(kind="push", detail=str(number))
        begun = runs.begin(number, COMMIT, occasion, Plan(), NO_DIGEST, driver="server", is_trusted=True)
        run = begun.model_copy(update={"phase": phase, **update})
        self.store.save(write_state(Kind.RUN, run.key, run, expected=0, phase=phase, because="a test"))
        return run

    def collecting(self, retention: Retention = RETENTION) -> Collecting:
        return Collecting(
            self.store,
            self.blobs,
            NamedEnvironments(),
            retention,
            lambda: self.now,
            collect_logs=self.collect_logs,
            collect_environments=self.collect_environments,
        )

    def collect_logs(self, keep: Callable[[str], bool], older_than: float) -> tuple[int, int]:
        going = [attempt for attempt, written in self.logs.items() if written < older_than and not keep(attempt)]
        for attempt in going:
            del self.logs[attempt]
        return len(going), 10 * len(going)

    def collect_environments(self, wanted: Collection[str], older_than: float) -> tuple[int, int]:
        self.wanted = set(wanted)
        going = [name for name, used in self.environments.items() if used < older_than and name not in wanted]
        for name in going:
            del self.environments[name]
        return len(going), 100 * len(going)


@pytest.fixture
def world() -> World:
    return World()


def revision(number: int, model: Digest, lock: Digest, python: PythonPlan | None = None) -> Revision:
    return Revision(
        environment="small/production",
        number=number,
        version=number,
        model="small",
        model_digest=model,
        lock=lock,
        python=python or PythonPlan(),
        format="skops",
    )


# --- artifacts ---


def test_what_anything_refers_to_stays_and_the_rest_goes(world: World) -> None:
    names = "version stable previous candidate open waiting progressing queued running held product seal nothing"
    names += " done stopped promoted succeeded failed plain"
    files = {name: world.file(name) for name in names.split()}
    world.row(Kind.VERSION, "small/1", "registered", {"digest": files["version"]})
    three = {name: revision(1, files[name], files[name]) for name in ("stable", "previous", "candidate")}
    environment = Environment(name="production", model="small", **three)
    world.store.save(
        write_state(Kind.ENVIRONMENT, environment.key, environment, expected=0, phase="stable", because="a test")
    )
    for number, phase in enumerate(("open", "waiting", "done", "stopped"), 1):
        world.row(Kind.RELEASE, str(number), phase, {"deep": [{"within": f"as {files[phase]}, told"}]})
    for number, phase in enumerate(("progressing", "promoted"), 1):
        candidate = revision(number, files[phase], files[phase]).model_dump(mode="json")
        world.row(Kind.ROLLOUT, str(number), phase, {"candidate": candidate})
    for number, phase in enumerate((Phase.QUEUED, Phase.RUNNING, Phase.HELD, Phase.SUCCEEDED, Phase.FAILED), 1):
        world.run(number, phase, lock=files[phase.value])
    world.row(Kind.ATTEMPT, "2/train/1", "finished", {"outcome": {"products": {"model/": files["product"]}}})
    world.row(Kind.ATTEMPT, "4/train/1", "finished", {"outcome": {"products": {"model/": files["plain"]}}})
    world.store.save(facts=[Fact("seal", "2", {"signature": files["seal"], "provenance": files["seal"]})])
    world.pass_days(31)
    young = world.file("young")
    world.run(6, Phase.SUCCEEDED, stages={"train": StageRun(products={"model/": files["nothing"]})})
    collected = world.collecting().one_pass()
    gone = {name for name, digest in files.items() if not world.blobs.has(digest)}
    assert gone == {"done", "stopped", "promoted", "succeeded", "failed", "plain"}
    assert world.blobs.has(young)
    assert collected.artifacts == 2 * len(gone)
    assert world.collecting().one_pass().artifacts == 0


def test_a_runs_products_stay_as_long_as_the_run_is_young(world: World) -> None:
    digest = world.file("product")
    for number in range(1, 451):  # several pages
        world.run(number, Phase.SUCCEEDED, lock=digest if number == 1 else None)
    world.pass_days(29)
    world.run(451, Phase.SUCCEEDED)
    world.collecting().one_pass()
    assert world.blobs.files(digest)
    world.pass_days(2)
    world.collecting().one_pass()
    with pytest.raises(ArtifactFault, match="missing"):
        world.blobs.files(digest)


def test_what_was_stored_or_asked_for_within_the_hour_stays_whatever_the_settings_say(world: World) -> None:
    none = Retention(logs=0, artifacts=0, environments=0)
    digest, asked = world.file("about to be referred to"), world.file("reused")
    world.now += GRACE_SECONDS - 1
    assert world.blobs.has(asked)
    assert world.collecting(none).one_pass().artifacts == 0
    world.now += 2
    assert world.collecting(none).one_pass().artifacts == 2
    assert not world.blobs.has(digest)
    assert world.blobs.has(asked)


PLACES = (
    "version",
    "environment",
    "open",
    "done",
    "running",
    "ended",
    "attempt of running",
    "attempt of ended",
    "none",
)


@given(
    placed=st.lists(st.tuples(st.sampled_from(PLACES), st.integers(0, 60), st.integers(0, 5)), max_size=12),
)
@settings(max_examples=150)
def test_of_any_store_what_is_referred_to_stays_and_the_old_rest_goes(placed: list[tuple[str, int, int]]) -> None:
    """Each is (where a digest is written, how many days ago, which content)."""
    world = World()
    start = world.now
    stored: dict[Digest, float] = {}
    referred: set[Digest] = set()
    for number, (place, days, content) in enumerate(sorted(placed, key=lambda one: -one[1]), 1):
        world.now = start - days * DAY
        digest = world.file(f"content {content}")
        stored[digest] = world.now
        write_down(world, place, number, digest)
        is_young = days <= 30
        if place in ("version", "environment", "open", "running", "attempt of running") or (
            place == "ended" and is_young
        ):
            referred.add(digest)
    world.now = start
    world.collecting().one_pass()
    for digest, when in stored.items():
        is_there = digest in referred or when >= start - 30 * DAY
        assert world.blobs.has(digest) == is_there
        if is_there:
            assert world.blobs.read(world.blobs.files(digest)["file"]).startswith(b"content")


def write_down(world: World, place: str, number: int, digest: Digest) -> None:
    key = str(number)
    if place == "version":
        world.row(Kind.VERSION, f"small/{key}", "registered", {"golden": digest})
    elif place == "environment":
        environment = Environment(name=key, model="small", previous=revision(1, digest, NO_DIGEST))
        world.store.save(
            write_state(Kind.ENVIRONMENT, environment.key, environment, expected=0, phase="stable", because="a test")
        )
    elif place in ("open", "done"):
        world.row(Kind.RELEASE, key, place, {"version": digest})
    elif place in ("running", "ended"):
        phase = Phase.RUNNING if place == "running" else Phase.FAILED
        world.run(number, phase, stages={"a": StageRun(report=digest)})
    elif place.startswith("attempt"):
        world.run(number, Phase.RUNNING if place.endswith("running") else Phase.SUCCEEDED)
        world.row(Kind.ATTEMPT, f"{key}/a/1", "finished", {"outcome": {"report": digest}})


class Interrupted(BaseException):
    pass


class Interrupting(LocalBlobs):
    """Artifacts whose collection is interrupted after so many questions."""

    left = 0

    def collect(self, keep: Callable[[Digest], bool], older_than: float) -> tuple[int, int]:
        def asked(digest: Digest) -> bool:
            if self.left == 0:
                raise Interrupted
            self.left -= 1
            return keep(digest)

        return super().collect(asked, older_than)


def is_whole_or_gone(blobs: Blobs, digest: Digest) -> bool:
    try:
        files = blobs.files(digest)
    except ArtifactFault:
        return True
    return all(blobs.read(one) for one in files.values())


def test_a_collection_that_is_interrupted_leaves_a_readable_store(tmp_path: Path) -> None:
    blobs = Interrupting(tmp_path / "artifacts")
    world = World(blobs)
    world.now = time.time()
    kept = [world.blobs.put_files({"a": b"%d" % number, "shared": b"x"}) for number in range(3)]
    gone = [world.blobs.put_files({"b": b"%d" % number, "shared": b"x"}) for number in range(3)]
    for number, digest in enumerate(kept):
        world.row(Kind.VERSION, f"small/{number}", "registered", {"digest": digest})
    then = time.time() - 31 * DAY
    for path in (tmp_path / "artifacts").rglob("*"):
        if path.is_file():
            os.utime(path, (then, then))
    for left in range(20):
        blobs.left = left
        with suppress(Interrupted):
            world.collecting().one_pass()
        assert all(is_whole_or_gone(world.blobs, digest) for digest in gone)
        assert all(world.blobs.files(digest) and is_whole_or_gone(world.blobs, digest) for digest in kept)
    assert all(world.blobs.has(digest) for digest in kept)
    assert not any(world.blobs.has(digest) for digest in gone)


# --- logs ---


def test_logs_of_ended_runs_go_when_they_are_old(world: World) -> None:
    for number, phase in enumerate((Phase.SUCCEEDED, Phase.RUNNING, Phase.HELD, Phase.FAILED), 1):
        world.run(number, phase)
        world.logs[f"{number}/train/1"] = world.now
    for number, phase in enumerate(("progressing", "rolled_back"), 1):
        world.row(Kind.ROLLOUT, str(number), phase, {})
        world.logs[f"rollout-{number}/contract/1"] = world.now
    world.logs["77/train/1"] = world.now  # of a run that nobody knows
    world.pass_days(89)
    run = world.store.load(Kind.RUN, "4")
    assert run is not None
    world.row(Kind.RUN, "4", Phase.FAILED, dict(run.state), expected=1)  # it ended only now
    assert world.collecting().one_pass().logs == 0
    world.pass_days(2)
    collected = world.collecting().one_pass()
    assert set(world.logs) == {"2/train/1", "3/train/1", "4/train/1", "rollout-1/contract/1"}
    assert (collected.logs, collected.log_bytes) == (3, 30)


# --- environments ---


def test_environments_of_what_serves_or_runs_stay_however_old(world: World) -> None:
    locks = {name: world.file(name) for name in ("stable", "previous", "running", "baseline", "ended", "odd")}
    served = Environment(
        name="production",
        model="small",
        stable=revision(1, NO_DIGEST, locks["stable"]),
        previous=revision(2, NO_DIGEST, locks["previous"]),
        candidate=revision(3, NO_DIGEST, locks["odd"], PythonPlan(version="none")),
    )
    world.store.save(write_state(Kind.ENVIRONMENT, served.key, served, expected=0, phase="stable", because="a test"))
    baseline = Baseline(name="small v1", model=NO_DIGEST, lock=locks["baseline"], format="skops")
    world.run(1, Phase.RUNNING, lock=locks["running"], baseline=baseline)
    world.run(2, Phase.SUCCEEDED, lock=locks["ended"])
    world.run(3, Phase.QUEUED, lock=NO_DIGEST)  # its artifact is lost: there is nothing to build any more
    world.run(4, Phase.QUEUED)
    in_use = {"serve stable", "serve previous", "serve baseline", "build running", "serve running"}
    world.environments = dict.fromkeys([*in_use, "build ended", "build forgotten"], world.now)
    world.pass_days(11)
    world.environments["build lately"] = world.now
    collected = world.collecting().one_pass()
    assert world.wanted == in_use
    assert set(world.environments) == {*in_use, "build lately"}
    assert (collected.environments, collected.environment_bytes) == (2, 200)


def test_uv_environments_that_nobody_asks_for_go(tmp_path: Path) -> None:
    environments = UvEnvironments(tmp_path)
    python, names = PythonPlan(lock="requirements.txt"), ("wanted", "named", "young", "old")
    files = {name: {"requirements.txt": f"# {name}\n".encode()} for name in names}
    said: list[str] = []
    folders = {name: Path(environments.ensure(python, files[name], "build", said.append)) for name in names}
    half = tmp_path / ("f" * 40)  # a build that was killed
    half.mkdir()
    (half / "file").write_bytes(b"123")
    then = time.time() - DAY
    for folder in (folders["wanted"], folders["named"], folders["old"]):
        os.utime(folder / "interlock-complete.json", (then, then))
    os.utime(half, (then, then))
    wanted = [environments.identify(python, files["wanted"], "build")]
    text = f'{{"argv": ["{folders["named"]}/bin/python"]}}'
    count, size = environments.collect(wanted, text, time.time() - DAY / 2)
    assert count == 2
    assert size > 3
    assert [name for name, folder in folders.items() if folder.exists()] == ["wanted", "named", "young"]
    assert not half.exists()
    again = environments.ensure(python, files["old"], "build", said.append)
    assert Path(again, "bin", "python").exists()
    environments.ensure(python, files["wanted"], "build", said.append)  # it is young again
    assert environments.collect([], text, time.time() - DAY / 2) == (0, 0)


# --- what is told ---


def test_what_was_removed_is_told_in_one_line() -> None:
    collected = Collected(artifacts=3, artifact_bytes=2048, logs=2, log_bytes=10, environments=0, environment_bytes=0)
    assert collected.because.startswith("removed 3 artifact files (2048 bytes), 2 logs (10 bytes), 0 environments")


def test_a_digest_is_found_wherever_it_is_written(world: World) -> None:
    one, other = Digest("blake3:" + "1" * 64), Digest("blake3:" + "2" * 64)
    world.row(Kind.VERSION, "small/1", "registered", {"a": {one: [1, None, {"b": f"x{other}"}]}, "c": "blake3:short"})
    assert digests_in(world.store.rows(Kind.VERSION)) == {one, other}


# --- what may be gone back to ---


@given(
    promoted=st.lists(
        st.tuples(st.sampled_from(("production", "staging")), st.integers(1, 6)), min_size=1, max_size=14
    ),
    bad=st.sets(st.integers(1, 6), max_size=3),
)
@example(promoted=[("production", number) for number in (2, 3, 4, 1)], bad={1})
@settings(max_examples=60)
def test_what_serves_and_two_good_ones_before_it_stay_whole_for_ever(
    promoted: list[tuple[str, int]], bad: set[int]
) -> None:
    """Each is (where it was promoted, which version); of those before, the bad ones are quarantined by now."""
    world, made = World(), dict[int, dict[str, Digest]]()
    parts = ("model_digest", "lock", "golden", "reference", "provenance")
    for number in range(1, 7):
        made[number] = {part: world.file(f"{part} {number}") for part in parts}
        state: dict[str, Json] = {**made[number]}
        world.row(Kind.VERSION, f"small/{number}", "registered", state)
        if number in bad:
            world.row(Kind.QUARANTINE, made[number]["model_digest"], "blocked", {})
    served: dict[str, list[int]] = {}
    for count, (name, number) in enumerate(promoted, 1):
        what = revision(count, NO_DIGEST, NO_DIGEST).model_copy(update={**made[number], "environment": f"small/{name}"})
        begun = begin(count, what, None, EnvironmentPlan(name=name), release=count, now=world.now)
        world.row(Kind.ROLLOUT, str(count), "promoted", begun.model_dump(mode="json"))
        served.setdefault(name, []).append(number)
    for name, numbers in served.items():
        last = revision(99, NO_DIGEST, NO_DIGEST).model_copy(update=made[numbers[-1]])
        environment = Environment(name=name, model="small", stable=last)
        world.store.save(
            write_state(Kind.ENVIRONMENT, environment.key, environment, expected=0, phase="stable", because="a test")
        )
    world.environments = {f"serve lock {number}": world.now for number in range(1, 7)}
    world.pass_days(400)
    world.collecting().one_pass()
    for numbers in served.values():
        good = [number for number in dict.fromkeys(reversed(numbers[:-1])) if number not in {numbers[-1], *bad}]
        for number in (numbers[-1], *good[:2]):
            assert f"serve lock {number}" in world.environments
            assert all(world.blobs.read(world.blobs.files(digest)["file"]) for digest in made[number].values())
    assert len(world.environments) <= sum(3 + (numbers[-1] in bad) for numbers in served.values())
