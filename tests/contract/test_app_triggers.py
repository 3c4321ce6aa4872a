"""What begins runs without a person: notices, schedules and data, with everything that can come between."""

import itertools
import random
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.workshop import PIPELINE, Workshop

from interlock.control.running.triggers import LONGEST_PAUSE, Arrivals, Clockwork
from interlock.edges.store import SqlStore
from interlock.edges.watch import ObjectWatch
from interlock.errors import GitFault, Refused, WatchFault
from interlock.run.run import Run
from interlock.source.notice import Notice
from interlock.source.repository import Watched
from interlock.vocabulary import Kind, Phase, Write

NIGHTLY = 'on: {schedule: "0 3 * * *"}\n' + PIPELINE
DAY = 86400.0


class Post(Workshop):
    """A workshop with what takes up notices and looks at the clock."""

    def restart(self) -> None:
        super().restart()
        self.said: list[str] = []
        self.arrivals = Arrivals(self.store, self.intake, self.said.append, lambda: self.now)
        self.clockwork = Clockwork(self.store, self.intake, ObjectWatch(), lambda: self.now)

    def settle(self) -> list[Run]:
        return self.arrivals.settle_pending([self.watched])

    def tick(self) -> list[Run]:
        begun = self.clockwork.tick([self.watched])
        return begun + self.clockwork.look_at_data([self.watched])


def pushed(sha: str = "", ref: str = "refs/heads/main", repository: str = "small") -> Notice:
    return Notice(repository=repository, source="github", kind="push", ref=ref, sha=sha)


@pytest.fixture
def post(tmp_path: Path) -> Post:
    made = Post(tmp_path)
    made.commit("first")
    made.push()
    return made


# --- notices ---


def test_a_notice_makes_interlock_look_and_is_settled(post: Post) -> None:
    post.store.note(pushed())
    assert [run.commit.ref for run in post.settle()] == ["refs/heads/main"]
    assert post.store.pending(10) == []
    assert post.settle() == []


def test_a_thousand_replays_are_one_run(post: Post) -> None:
    sha = post.command("rev-parse", "HEAD")
    post.store.note(*(pushed(sha).model_copy(update={"delivery": str(number)}) for number in range(2500)))
    begun = [run for _ in range(4) for run in post.settle()]
    assert len(begun) == len(post.all_runs()) == 1
    assert post.store.pending(10) == []


def test_a_thousand_looks_at_once_are_one_run_and_leave_no_gap_in_the_numbers(post: Post) -> None:
    begun: list[Run] = []

    def look() -> None:
        for _ in range(50):
            begun.extend(post.look(pushed()))

    threads = [threading.Thread(target=look) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [run.number for run in begun] == [1]
    post.commit("second")
    post.push()
    assert [run.number for run in post.look()] == [2]


def test_processes_that_take_up_the_same_notices_begin_one_run(tmp_path: Path) -> None:
    posts = []
    for number in range(4):
        folder = tmp_path / str(number)
        folder.mkdir()
        post = Post(folder)
        post.store = SqlStore(f"sqlite:///{tmp_path / 'interlock.db'}")
        posts.append(post)
    posts[0].commit()
    posts[0].push()
    for post in posts:
        post.set_up(git_directory=str(posts[0].origin))
        post.restart()
    posts[0].store.note(*(pushed() for _ in range(100)))
    gate = threading.Barrier(4, timeout=60)

    def settle(post: Post) -> None:
        gate.wait()
        post.settle()

    threads = [threading.Thread(target=settle, args=(post,)) for post in posts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(posts[0].all_runs()) == 1
    assert [line for post in posts for line in post.said] == []
    assert posts[0].store.pending(10) == []
    for post in posts:
        assert isinstance(post.store, SqlStore)
        post.store.close()


def test_a_notice_of_a_commit_that_no_ref_has_begins_nothing(post: Post) -> None:
    post.look()
    post.command("checkout", "-q", "--detach")
    loose = post.commit("only in an object, on no branch")
    post.push("HEAD:refs/hidden/x")
    post.store.note(pushed(loose), pushed("f" * 40, "refs/heads/never"), pushed(loose, "refs/hidden/x"))
    assert post.settle() == []


@pytest.mark.parametrize("seed", range(50))
def test_two_pushes_whose_notices_come_in_any_order_end_with_the_newest(post: Post, seed: int) -> None:
    order = random.Random(seed)
    post.look()
    shas = [post.commit(f"push {number}") for number in (1, 2)]
    rest = order.choices(["tell 0", "tell 1", "settle"], k=6)
    cuts = sorted(order.choices(range(len(rest) + 1), k=2))
    steps = [*rest[: cuts[0]], "push 0", *rest[cuts[0] : cuts[1]], "push 1", *rest[cuts[1] :], "tell 1", "settle"]
    begun: list[str] = []
    for step in steps:
        verb, _, number = step.partition(" ")
        if verb == "push":
            post.push("-f", f"{shas[int(number)]}:main")
        elif verb == "tell":
            post.store.note(pushed(shas[int(number)]))
        else:
            begun += [run.commit.sha for run in post.settle()]
    assert begun in ([shas[1]], shas)
    assert post.repository().refs["refs/heads/main"] == shas[1]


def test_a_crash_between_the_look_and_the_settling_is_a_harmless_second_look(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    post.store.note(pushed())

    def crash(_numbers: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(post.store, "settle", crash)
    with pytest.raises(KeyboardInterrupt):
        post.settle()
    monkeypatch.undo()
    assert len(post.store.pending(10)) == 1
    post.restart()
    assert post.settle() == []
    assert post.store.pending(10) == []
    assert len(post.all_runs()) == 1


def test_pings_unknown_repositories_and_other_news_cost_no_look(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    ping = pushed().model_copy(update={"kind": "ping"})
    post.store.note(ping, ping.model_copy(update={"kind": "other"}), pushed(repository="elsewhere"))
    monkeypatch.setattr(post.intake, "look", None)
    assert post.settle() == []
    assert post.store.pending(10) == []


def test_a_repository_that_does_not_answer_holds_up_no_other_and_is_asked_ever_more_rarely(
    post: Post, tmp_path: Path
) -> None:
    gone = Watched(name="gone", git_directory=str(tmp_path / "gone.git"))
    post.store.note(pushed(repository="gone"), pushed())
    assert len(post.arrivals.settle_pending([gone, post.watched])) == 1
    assert len(post.said) == 1
    assert post.said[0].startswith("repository gone: ")
    assert post.store.pending(10) == []  # a poll finds what it has, once it answers
    pull = post.pull_request(4).model_copy(update={"repository": "gone"})
    asked = []
    for _ in range(40):
        post.store.note(pull, pushed(repository="gone"))
        before = len(post.said)
        post.arrivals.settle_pending([gone, post.watched])
        asked += [post.now] if len(post.said) > before else []
        assert len(post.store.pending(10)) == 1  # what only the notice tells is kept, once
        post.now += 10.0
    pauses = [later - earlier for earlier, later in itertools.pairwise(asked)]
    assert pauses == sorted(pauses)
    assert max(pauses) <= LONGEST_PAUSE + 10.0


@pytest.mark.parametrize("trouble", [GitFault("the remote hung up"), Refused("not allowed", "the address", "mend it")])
def test_what_only_a_notice_tells_is_kept_while_its_repository_cannot_be_looked_at(
    post: Post, monkeypatch: pytest.MonkeyPatch, trouble: Exception
) -> None:
    def broken(_directory: str) -> dict[str, str]:
        raise trouble

    post.look()
    post.command("push", "-q", "origin", "HEAD:refs/pull/4/head")
    post.store.note(post.pull_request(4, is_open=False), pushed())
    monkeypatch.setattr(post.git, "refs", broken)
    for _ in range(3):
        assert post.settle() == []
        assert len(post.store.pending(10)) == 1
        post.now += LONGEST_PAUSE
    monkeypatch.undo()
    post.settle()
    assert post.store.pending(10) == []
    assert [row.phase for row in post.store.rows(Kind.PULL_REQUEST)] == ["closed"]


def test_a_pause_that_ends_while_notices_are_taken_up_loses_none(post: Post) -> None:
    """The clock moves on at every look at it: whether a repository is paused is decided once."""
    clock = iter(range(1_000_000))
    arrivals = Arrivals(post.store, post.intake, post.said.append, lambda: next(clock) / 2)
    elsewhere = post.watched.model_copy(update={"git_directory": str(post.folder / "gone.git")})
    post.store.note(post.pull_request(4), pushed())
    for _ in range(30):
        arrivals.settle_pending([elsewhere])
        assert len(post.store.pending(10)) == 1
    for _ in range(300):
        arrivals.settle_pending([post.watched])
    assert post.store.pending(10) == []
    assert [row.key for row in post.store.rows(Kind.PULL_REQUEST)] == ["small/4"]


def test_a_repository_that_may_not_be_asked_is_told_and_what_only_a_notice_tells_is_kept(post: Post) -> None:
    odd = Watched(name="odd", git_directory=str(post.folder / "odd.git"), url="ext::sh -c date")
    post.store.note(post.pull_request(4).model_copy(update={"repository": "odd"}))
    assert post.arrivals.settle_pending([odd]) == []
    assert "ext" in post.said[0]
    assert [notice.kind for _, notice in post.store.pending(10)] == ["pull_request"]


# --- branches, tags, paths ---


def test_tags_that_the_file_names_begin_runs_of_their_own(tmp_path: Path) -> None:
    post = Post(tmp_path, "on: {push: {branches: [main], tags: ['v*']}}\n" + PIPELINE)
    post.commit()
    post.command("tag", "v0")
    post.push("HEAD:main", "v0")
    assert [run.commit.ref for run in post.look()] == ["refs/heads/main"]  # the tag was there before us
    post.command("tag", "-a", "v1", "-m", "one")
    post.command("tag", "nightly")
    post.push("v1", "nightly")
    (run,) = post.look()
    assert (run.commit.ref, run.occasion.kind, run.is_trusted) == ("refs/tags/v1", "tag", False)
    assert "nightly" in post.told()
    assert "not run" in post.told()
    post.set_up(trusted=("main", "refs/tags/v*"))
    post.command("tag", "v2")
    post.push("v2")
    assert [run.is_trusted for run in post.look()] == [True]


def test_at_the_first_look_only_trusted_branches_and_what_a_notice_names_are_news(tmp_path: Path) -> None:
    post = Post(tmp_path, "on: {push: {branches: ['**'], tags: ['**']}}\n" + PIPELINE)
    post.commit()
    post.command("tag", "v1")
    post.push("HEAD:main", "HEAD:a", "HEAD:b", "v1")
    notice = pushed(ref="refs/tags/v1")
    assert {run.commit.ref for run in post.look(notice, pushed(ref="refs/heads/b"))} == {
        "refs/heads/main",
        "refs/heads/b",
        "refs/tags/v1",
    }
    assert post.look() == []


def test_only_what_touches_its_paths_runs_a_project_and_the_others_say_why_not(tmp_path: Path) -> None:
    text = "on: {push: {branches: [main], paths: ['**.py', '!docs/**']}}\n" + PIPELINE
    post = Post(tmp_path, text)
    post.write({"b/interlock.yaml": text, "b/train.py": "", "b/requirements.txt": ""})
    post.commit()
    post.push()
    assert {run.plan.project for run in post.look()} == {"", "b"}
    post.write({"b/train.py": "x = 2\n"})
    post.commit()
    post.push()
    assert {run.plan.project for run in post.look()} == {"", "b"}
    post.write({"train.py": "x = 2\n"})
    post.commit()
    post.push()
    assert {run.plan.project for run in post.look()} == {""}
    post.write({"docs/x.py": "x = 2\n", "README.md": "x"})
    post.commit()
    post.push()
    assert post.look() == []
    assert post.told().count("not run: ") == 2


def test_a_commit_that_asks_for_no_run_gets_none_and_it_is_said(post: Post) -> None:
    post.look()
    post.commit("typo\n\nIt is nothing. [skip ci]")
    post.push()
    assert post.look() == []
    assert "[skip ci]" in post.told()


def test_a_ref_that_cannot_be_read_holds_up_no_other_and_is_tried_again(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    post.look()
    good = post.commit("good", interlock_yaml="on: {push: {branches: ['**']}}\n" + PIPELINE)
    post.push("HEAD:a", "HEAD:c")
    bad = post.commit("bad")
    post.push("HEAD:b")
    commit = post.git.commit

    def broken(repository: str, git_directory: str, ref: str, revision: str = "") -> object:
        if revision == bad:
            raise GitFault("object file is empty")
        return commit(repository, git_directory, ref, revision)

    monkeypatch.setattr(post.git, "commit", broken)
    assert {run.commit.ref for run in post.look()} == {"refs/heads/a", "refs/heads/c"}
    assert "b cannot be read: object file is empty" in post.told()
    assert {run.commit.sha for run in post.all_runs()[1:]} == {good}
    before = len(post.store.events())
    assert post.look() == []
    assert len(post.store.events()) == before
    monkeypatch.undo()
    assert [run.commit.ref for run in post.look()] == ["refs/heads/b"]
    assert post.repository().unread == {}


def test_of_very_many_refs_the_trusted_and_the_branches_are_watched_and_it_is_said(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    post.look()
    sha = post.command("rev-parse", "HEAD")
    many = {f"refs/tags/t{number:06}": sha for number in range(100_000)}
    refs = {**many, "refs/heads/zebra": sha, "refs/heads/main": sha}
    monkeypatch.setattr(post.git, "refs", lambda _: refs)
    monkeypatch.setattr(post.intake._branches, "look_at", lambda look, ref: None)
    post.look()
    kept = post.repository().refs
    assert len(kept) == 10_000
    assert {"refs/heads/main", "refs/heads/zebra"} <= kept.keys()
    assert "90002 refs are not watched" in post.told()
    before = len(post.store.events())
    post.look()
    assert len(post.store.events()) == before


# --- schedules ---


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.fixture
def nightly(tmp_path: Path) -> Post:
    post = Post(tmp_path, NIGHTLY)
    post.now = at("2026-03-01T12:00")
    post.commit()
    post.push()
    post.look()
    assert post.tick() == []
    return post


def test_a_schedule_begins_a_run_of_the_default_branch_at_each_of_its_times(nightly: Post) -> None:
    nightly.now = at("2026-03-02T02:59")
    assert nightly.tick() == []
    nightly.now = at("2026-03-02T03:00")
    (run,) = nightly.tick()
    assert (run.occasion.kind, run.occasion.detail) == ("schedule", f"{at('2026-03-02T03:00'):.0f}")
    assert (run.commit.ref, run.is_trusted) == ("refs/heads/main", True)
    assert nightly.tick() == []
    nightly.now += DAY
    assert len(nightly.tick()) == 1
    assert nightly.row_phase(run.number) == Phase.QUEUED


def test_after_a_week_without_a_server_the_newest_slot_alone_is_made_up_for(nightly: Post) -> None:
    nightly.now += 7 * DAY
    nightly.restart()
    (run,) = nightly.tick()
    assert run.occasion.detail == f"{at('2026-03-08T03:00'):.0f}"
    assert nightly.tick() == []


def test_a_slot_runs_once_however_many_look_at_the_clock(nightly: Post) -> None:
    nightly.now += DAY
    begun: list[Run] = []
    threads = [threading.Thread(target=lambda: begun.extend(nightly.tick())) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(begun) == 1
    assert len([run for run in nightly.all_runs() if run.occasion.kind == "schedule"]) == 1


def test_a_new_schedule_begins_with_its_next_time_and_one_that_is_gone_ends(nightly: Post) -> None:
    nightly.now = at("2026-03-01T18:00")
    nightly.commit(interlock_yaml=NIGHTLY.replace("0 3", "0 15"))
    nightly.push()
    nightly.look()
    assert nightly.tick() == []  # today's time of the new schedule is over
    nightly.now = at("2026-03-02T14:00")
    assert nightly.tick() == []  # and the old one counts no more
    nightly.now = at("2026-03-02T15:00")
    assert len(nightly.tick()) == 1
    nightly.commit(interlock_yaml=PIPELINE)
    nightly.push()
    nightly.look()
    nightly.now += 3 * DAY
    assert nightly.tick() == []


def test_a_push_does_not_wind_a_schedule_back(nightly: Post) -> None:
    nightly.now = at("2026-03-02T04:00")
    nightly.commit(train_py="x = 2\n")
    nightly.push()
    nightly.look()
    (run,) = nightly.tick()
    assert run.commit.sha == nightly.command("rev-parse", "HEAD")


def test_a_schedule_on_another_branch_or_an_untrusted_default_branch_counts_nothing(tmp_path: Path) -> None:
    post = Post(tmp_path)
    post.commit()
    post.push()
    post.look()
    post.commit(interlock_yaml=NIGHTLY)
    post.push("HEAD:topic")
    post.look()
    post.push("HEAD:main")
    post.set_up(trusted=("release/*",))
    post.look()
    for _ in range(3):
        post.now += DAY
        assert post.tick() == []


def test_a_row_from_before_there_were_schedules_is_read_at_the_next_look(nightly: Post) -> None:
    (row,) = nightly.store.rows(Kind.REPOSITORY)
    old = {name: row.state[name] for name in ("name", "git_directory", "refs")}
    write = {"kind": row.kind, "key": row.key, "expected": row.version, "phase": row.phase, "state": old}
    nightly.store.save(Write.model_validate({**write, "because": "saved by an older version"}))
    assert nightly.look() == []
    assert nightly.tick() == []
    nightly.now += DAY
    assert len(nightly.tick()) == 1


def test_a_slot_whose_commit_cannot_be_planned_is_told_and_does_not_come_again(
    nightly: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> list[Run]:
        raise Refused("the lock is missing", "uv.lock")

    monkeypatch.setattr(nightly.intake, "begin", refuse)
    nightly.now += DAY
    assert nightly.tick() == []
    assert nightly.told() == "schedule of small not run: the lock is missing"
    monkeypatch.undo()
    assert nightly.tick() == []


def test_a_repository_that_cannot_be_read_keeps_its_slot_and_holds_up_no_other(
    nightly: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = nightly.intake.begin
    other = nightly.watched.model_copy(update={"name": "other"})

    def broken(repository: Watched, *more: object) -> list[Run]:
        if repository.name == "other":
            raise GitFault("no such object")
        return begin(repository, *more)  # type: ignore[arg-type]

    nightly.intake.look(other)
    nightly.clockwork.tick([other])
    monkeypatch.setattr(nightly.intake, "begin", broken)
    nightly.now += DAY
    with pytest.raises(GitFault):
        nightly.clockwork.tick([other, nightly.watched])
    assert [run.commit.repository for run in nightly.all_runs() if run.occasion.kind == "schedule"] == ["small"]
    monkeypatch.undo()
    assert [run.commit.repository for run in nightly.clockwork.tick([other, nightly.watched])] == ["other"]


# --- data ---


@pytest.fixture
def fed(tmp_path: Path) -> Post:
    """A repository that watches a folder."""
    data = tmp_path / "lake"
    data.mkdir()
    (data / "a.csv").write_text("1\n")
    post = Post(tmp_path, f"on: {{data: [{data}]}}\n" + PIPELINE)
    post.commit()
    post.push()
    post.look()
    return post


def test_data_that_changes_begins_a_run_and_what_is_first_seen_does_not(fed: Post) -> None:
    lake = fed.folder / "lake"
    assert fed.tick() == []
    assert fed.tick() == []
    seen = []
    for text in ("1\n2\n", "1\n2\n3\n"):
        (lake / "b.csv").write_text(text)
        (run,) = fed.tick()
        seen.append(run.occasion)
        assert fed.tick() == []
    (lake / "b.csv").unlink()
    (run,) = fed.tick()
    assert run.occasion.kind == "data"
    assert len({run.occasion.detail, *(occasion.detail for occasion in seen)}) == 3


def test_data_that_goes_back_and_forth_begins_a_run_each_time(fed: Post) -> None:
    lake = fed.folder / "lake"
    fed.tick()
    for _ in range(3):
        (lake / "b.csv").touch()
        assert len(fed.tick()) == 1
        (lake / "b.csv").unlink()
        assert len(fed.tick()) == 1


def test_data_that_cannot_be_listed_is_a_fault_and_changes_nothing(fed: Post) -> None:
    lake = fed.folder / "lake"
    fed.tick()
    lake.rename(fed.folder / "away")
    with pytest.raises(WatchFault):
        fed.tick()
    (fed.folder / "away").rename(lake)
    assert fed.tick() == []
    assert [run.occasion.kind for run in fed.all_runs()] == ["push"]


def test_a_repository_that_was_never_looked_at_has_nothing_due(tmp_path: Path) -> None:
    post = Post(tmp_path, NIGHTLY)
    assert post.tick() == []
    post.look()
    assert post.tick() == []
