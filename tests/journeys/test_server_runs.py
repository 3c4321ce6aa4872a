"""What begins runs on a real server, in which order they go, and how they are ended."""

import base64
import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.small_server import SmallRepository, SmallServer, executed, files_with, marked, wait_for

from interlock.client.api import Client
from interlock.vocabulary import Phase

pytestmark = pytest.mark.xdist_group("quiet servers")

MARK = f"journey-{os.getpid()}-mark"
CANARY = "canary-7f3b9d1e5a"
QUICK = "version: 1\nchecks: []\nstages:\n  only: {cmd: 'cat number > made', outs: [made]}\n"
LONG = f"{{cmd: '(setsid sleep 300 &); sleep 300', env: {{MARK: {MARK}}}, resources: {{cpu: {os.cpu_count()}}}}}"
PRINTS = (
    'echo "$API_KEY" | cut -c1-9 | tr -d "\\n"; sleep 0.4; echo "$API_KEY" | cut -c10-; '
    'printf %s "$API_KEY" | base64; echo over > out'
)
PIPELINES = {
    "clock": f"on: {{schedule: '* * * * *', push: {{branches: [none]}}}}\n{QUICK}",
    "fed": f"on: {{data: [WATCHED], push: {{branches: [none]}}}}\n{QUICK}",
    "asked": """
version: 1
on: {push: {branches: [none]}}
checks: []
stages:
  one: {cmd: "cat number > one", outs: [one]}
  two: {cmd: "cat one > two", deps: [one], outs: [two]}
  three: {cmd: "cat two > three", deps: [two], outs: [three]}
""",
    "tree": f"version: 1\nchecks: []\nstages:\n  long: {LONG}\n",
    "group": f"""
version: 1
concurrency: {{group: train, cancel_superseded: true}}
checks: []
stages:
  train: {{cmd: "if grep -q slow number; then sleep 300; fi; echo > out", outs: [out], env: {{MARK: {MARK}}}}}
""",
    "large": f"version: 1\nchecks: []\nstages:\n  long: {LONG}\n",
    "small": f"{QUICK}".replace("checks: []", "checks: [{name: looks, cmd: 'test -s number'}]"),
    "moved": f"on: {{push: {{branches: ['**']}}}}\n{QUICK}",
    "far": QUICK,
    "keeper": f"version: 1\nchecks: []\nstages:\n  tell: {{cmd: '{PRINTS}', outs: [out], secrets: [API_KEY]}}\n",
}


class Place:
    """A server that looks every second, and its repositories: ``far`` is a remote, the others are of this machine."""

    def __init__(self, folder: Path) -> None:
        self.watched = folder / "watched"
        self.watched.mkdir()
        (self.watched / "old.csv").write_text("0,1\n")
        texts = {name: text.replace("WATCHED", str(self.watched)) for name, text in PIPELINES.items()}
        self.repositories = {name: SmallRepository(folder, name, text) for name, text in texts.items()}
        settings: dict[str, dict[str, object]] = {
            name: {"path": str(one.bare)} for name, one in self.repositories.items()
        }
        settings["far"] = {"url": f"file://{self.repositories['far'].bare}"}
        self.server = SmallServer(folder, settings)
        for name in ("clock", "fed", "asked"):
            self.repositories[name].commit("one", number="1\n")
            self.repositories[name].arrive()


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with tempfile.TemporaryDirectory(prefix="ij-") as folder:
        made = Place(Path(folder))
        try:
            made.server.start()
            yield made
        finally:
            made.server.end()
        wait_for(lambda: marked(MARK) == [], "the end of every stage")


def test_a_push_is_told_what_became_of_it(place: Place) -> None:
    repository = place.repositories["moved"]
    repository.commit("one", number="1\n")
    told = repository.push()
    assert "run" in told
    runs = place.server.until("moved", 1, Phase.SUCCEEDED)
    assert f"run {runs[0].number}" in told


def test_a_push_that_no_hook_told_of_is_found(place: Place) -> None:
    # Given a remote that calls nobody, and a repository here whose hook did not run
    for name in ("far", "moved"):
        repository = place.repositories[name]
        before = len(place.server.runs(name))
        sha = repository.commit("quiet", number="quiet\n")
        repository.arrive()
        # Then the next look finds the commit
        assert place.server.until(name, before + 1, Phase.SUCCEEDED)[-1].commit.sha == sha


def test_a_ref_that_is_moved_back_is_run_again_and_one_that_is_deleted_is_not(place: Place) -> None:
    server, repository = place.server, place.repositories["moved"]
    before = len(server.runs("moved"))
    first = repository.commit("first", number="first\n")
    repository.arrive("refs/heads/topic")
    server.until("moved", before + 1, Phase.SUCCEEDED)
    second = repository.commit("second", number="second\n")
    repository.arrive("refs/heads/topic")
    server.until("moved", before + 2, Phase.SUCCEEDED)
    # When the branch is forced back
    repository.arrive("refs/heads/topic", first)
    # Then that is a run of its own, which reuses what was made
    runs = server.until("moved", before + 3, Phase.SUCCEEDED)[before:]
    assert [run.commit.sha for run in runs] == [first, second, first]
    assert executed(runs[-1]) == []
    # When it is deleted
    repository.delete("refs/heads/topic")
    # Then nothing runs, and that is on record
    server.stays("moved", before + 3)
    assert any("topic was deleted" in event.because for event in server.store.events())


def test_a_person_begins_a_run_and_repeats_its_end(place: Place) -> None:
    server = place.server
    assert server.runs("asked") == []
    server.interlock("trigger", "asked", "main")
    (run,) = server.until("asked", 1, Phase.SUCCEEDED)
    assert (executed(run), run.occasion.kind) == (["one", "two", "three"], "person")
    server.interlock("rerun", run.number, "--from", "two")
    again = server.until("asked", 2, Phase.SUCCEEDED)[-1]
    assert (executed(again), again.commit.sha) == (["two", "three"], run.commit.sha)
    assert again.stages["one"].reused
    server.interlock("rerun", run.number)
    assert executed(server.until("asked", 3, Phase.SUCCEEDED)[-1]) == []
    assert server.try_interlock("trigger", "asked", "mian").returncode == 2


def test_new_data_begins_a_run(place: Place) -> None:
    wait_for(lambda: "schedules and data are watched" in "".join(told_of(place, "fed")), "the first look at the data")
    assert place.server.runs("fed") == []
    (place.watched / "rows.csv").write_text("1,2\n")
    (run,) = place.server.until("fed", 1, Phase.SUCCEEDED)
    assert run.occasion.kind == "data"
    place.server.stays("fed", 1)


def told_of(place: Place, repository: str) -> list[str]:
    return [event.because for event in place.server.store.events() if event.key == repository]


def test_a_cancelled_run_leaves_no_process(place: Place) -> None:
    # Given a stage with a child in a session of its own
    server, repository = place.server, place.repositories["tree"]
    repository.arrive()
    (run,) = server.until("tree", 1, Phase.RUNNING)
    wait_for(lambda: len(marked(MARK)) >= 2, "the processes of the stage")
    # When it is cancelled
    server.interlock("cancel", run.number, "--reason", "a mistake")
    # Then the run says by whom and why, and all its processes are gone
    (run,) = server.until("tree", 1, Phase.CANCELLED)
    assert "a mistake" in run.because
    wait_for(lambda: marked(MARK) == [], "the end of its processes")


def test_a_newer_commit_takes_the_place_of_an_older_one(place: Place) -> None:
    server, repository = place.server, place.repositories["group"]
    repository.commit("slow", number="slow\n")
    repository.arrive()
    server.until("group", 1, Phase.RUNNING)
    repository.commit("quick", number="quick\n")
    repository.arrive()
    old, new = server.until("group", 2, Phase.SUCCEEDED)
    assert old.phase is Phase.CANCELLED
    assert f"superseded by run {new.number}" in old.because
    wait_for(lambda: marked(MARK) == [], "the end of its processes")


def test_checks_of_a_new_commit_do_not_wait_for_a_long_stage(place: Place) -> None:
    # Given a stage that fills the machine
    server = place.server
    place.repositories["large"].arrive()
    (large,) = server.until("large", 1, Phase.RUNNING)
    # When a commit comes somewhere else
    repository = place.repositories["small"]
    repository.commit("small", number="small\n")
    repository.arrive()
    # Then its check passes, and its stage waits and says for whom
    (run,) = server.until("small", 1, Phase.RUNNING)
    wait_for(lambda: server.runs("small")[0].stages["looks"].phase is Phase.SUCCEEDED, "the check")
    wait_for(lambda: f"run {large.number}/long uses" in server.runs("small")[0].stages["only"].because, "the reason")
    assert server.runs("small")[0].stages["only"].phase is Phase.QUEUED
    # When there is room, it goes on
    server.interlock("cancel", large.number)
    server.until("small", 1, Phase.SUCCEEDED)
    assert server.runs("large")[0].phase is Phase.CANCELLED
    assert run.number == server.runs("small")[0].number


def test_a_secret_reaches_its_stage_and_is_shown_to_nobody(place: Place) -> None:
    # Given a secret, typed into the command line
    server, repository = place.server, place.repositories["keeper"]
    server.interlock("secret", "set", "keeper", "API_KEY", typed=f"{CANARY}\n")
    token = server.token("reader", "viewer")
    seen: list[str] = []

    def follow() -> None:
        with Client(server.url, token) as client:
            seen.extend(client.runs.follow_log(run.number, "tell", 1))

    # When a trusted stage prints it, in two pieces and in base64
    repository.arrive()
    (run,) = server.until("keeper", 1, Phase.RUNNING, Phase.SUCCEEDED)
    wait_for(lambda: server.runs("keeper")[0].stages["tell"].attempt, "the stage")
    follower = threading.Thread(target=follow)
    follower.start()
    server.until("keeper", 1, Phase.SUCCEEDED)
    follower.join(60)
    # Then it had it, and what is kept, streamed and answered shows a mask in its place
    assert seen.count("***") == 2
    answers = [server.get(path, token).body.decode() for path in paths_about(run.number)]
    shown = ["\n".join(seen), *answers, server.interlock("log", run.number), server.log]
    encoded = base64.b64encode(CANARY.encode()).decode()
    for text in shown:
        assert CANARY not in text
        assert encoded not in text
    for form in (CANARY, encoded):
        assert files_with(form, [server.state]) == []


def paths_about(number: int) -> list[str]:
    run = f"/api/v1/runs/{number}"
    about = [run, f"{run}/stages/tell/attempts/1/log", "/api/v1/events", "/api/v1/runs", "/metrics"]
    return [*about, "/api/v1/audit"]


def test_a_slot_of_the_schedule_begins_a_run(place: Place) -> None:
    runs = place.server.until("clock", 1, Phase.SUCCEEDED, seconds=120)
    assert {run.occasion.kind for run in runs} == {"schedule"}
    slots = [run.occasion.detail for run in runs]
    assert len(set(slots)) == len(slots)
    assert all(float(slot) % 60 == 0 for slot in slots)
