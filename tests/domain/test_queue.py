"""Who goes first: tables for each rule of the queue, and a small machine on which nothing starves."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.pipeline.plan import ConcurrencyPlan, Plan, StagePlan
from interlock.run.run import Run, StageRun, begin
from interlock.run.scheduling.costs import GIB, Capacity, Claim
from interlock.run.scheduling.groups import ahead_of, superseded_by
from interlock.run.scheduling.queue import EXPRESS, Ticket, choose
from interlock.source.commit import Commit, Occasion
from interlock.vocabulary import Digest, Phase


def train(run: int, cpu: float = 1.0, repository: str = "a", since: float = 0.0) -> Ticket:
    return Ticket(run, repository, "train", "stage", Claim(cpu), since)


def check(run: int, repository: str = "a", since: float = 0.0) -> Ticket:
    return Ticket(run, repository, "unit", "check", Claim(1.0), since)


def started(
    waiting: list[Ticket],
    running: list[Ticket] | None = None,
    capacity: float = 4.0,
    most: dict[str, int] | None = None,
    under_way: set[tuple[str, int]] | None = None,
) -> list[Ticket]:
    answers = choose(waiting, running or [], Capacity(capacity), most or {}, under_way or set())
    assert set(answers) == set(waiting)
    return [ticket for ticket, because in answers.items() if not because]


def test_an_empty_queue_starts_nothing() -> None:
    assert started([]) == []


def test_what_has_waited_longest_goes_first_and_of_two_the_older_run() -> None:
    waiting = [train(3, since=5.0), train(1, since=9.0), train(2, since=5.0)]
    assert started(waiting, capacity=2) == [train(2, since=5.0), train(3, since=5.0)]


def test_the_repository_with_the_fewest_stages_running_goes_first() -> None:
    busy = [train(1), train(2)]
    waiting = [train(3, since=0.0), train(4, repository="b", since=100.0)]
    assert started(waiting, busy, capacity=3) == [train(4, repository="b", since=100.0)]


def test_repositories_take_turns() -> None:
    waiting = [train(number, since=float(number)) for number in range(1, 5)]
    waiting += [train(number, repository="b", since=float(number)) for number in range(5, 9)]
    assert Counter(ticket.repository for ticket in started(waiting, capacity=4)) == {"a": 2, "b": 2}


def test_a_stage_that_does_not_fit_says_what_is_in_its_way_and_holds_up_those_behind_it() -> None:
    running = [train(7, cpu=3)]
    waiting = [train(8, cpu=2, since=1.0), train(9, cpu=1, since=2.0)]
    answers = choose(waiting, running, Capacity(4.0), {}, set())
    assert answers[waiting[0]] == "waits for 2 cores, 1 free: run 7/train uses 3"
    assert answers[waiting[1]] == "waits for its turn, after run 8/train"


def test_many_users_are_not_all_named() -> None:
    running = [train(number) for number in range(1, 6)]
    assert choose([train(9)], running, Capacity(5.0), {}, set())[train(9)] == (
        "waits for 1 core, 0 free: run 1/train uses 1, run 2/train uses 1, run 3/train uses 1 and 2 more"
    )


def test_a_stage_that_wants_more_than_there_is_runs_alone() -> None:
    large = train(1, cpu=16)
    assert started([large], capacity=4) == [large]
    told = choose([large], [train(2)], Capacity(4.0), {}, set())[large]
    assert told == "waits for 16 cores, more than all 4: run 2/train uses 1"
    assert started([train(3)], [large], capacity=4) == []


def resource(run: int, memory: float = 0.0, gpu: int = 0, cpu: float = 1.0) -> Ticket:
    return Ticket(run, "a", "train", "stage", Claim(cpu, memory * GIB, gpu))


@pytest.mark.parametrize(
    ("ticket", "running", "told"),
    [
        (resource(8, 4), [resource(7, 20)], ""),
        (resource(8, 4), [resource(7, 22.8)], "waits for 4 GiB, 1.2 GiB free: run 7/train uses 22.8 GiB"),
        (resource(8, 0.5), [resource(7, 23.6)], "waits for 512 MiB, 410 MiB free: run 7/train uses 23.6 GiB"),
        (resource(8, 25), [resource(7, 1)], "waits for 25 GiB, more than all 24 GiB: run 7/train uses 1 GiB"),
        (resource(8, 25), [], ""),
        (resource(8), [resource(7, 25)], "waits for memory, 0 MiB free: run 7/train uses 25 GiB"),
        (resource(8, gpu=1), [resource(7, gpu=1)], ""),
        (resource(8, gpu=1), [resource(7, gpu=2)], "waits for 1 GPU, 0 free: run 7/train uses 2"),
        (resource(8, gpu=2), [resource(7, gpu=1), resource(6)], "waits for 2 GPUs, 1 free: run 7/train uses 1"),
        (resource(8, 30, 2, cpu=9), [resource(7)], "waits for 9 cores, more than all 8: run 7/train uses 1"),
    ],
)
def test_memory_and_graphics_processors_are_room_like_cores(ticket: Ticket, running: list[Ticket], told: str) -> None:
    assert choose([ticket], running, Capacity(8.0, 24 * GIB, ("0", "1")), {}, set())[ticket] == told


def test_the_longest_way_goes_first_within_a_run_and_the_longest_waiting_between_runs() -> None:
    short, long, longest = (
        Ticket(1, "a", name, "stage", Claim(1.0), since, way)
        for name, since, way in (("short", 0.0, 5.0), ("long", 3.0, 60.0), ("longest", 9.0, 600.0))
    )
    other = Ticket(2, "a", "other", "stage", Claim(1.0), 1.0, 9000.0)
    waiting = [other, short, longest, long]
    assert started(waiting, capacity=1) == [longest]
    assert started(waiting, capacity=2) == [longest, long]
    assert started(waiting, capacity=3) == [longest, long, short]  # run 1 waits since 0, run 2 since 1


def test_a_check_that_needs_much_memory_or_a_graphics_processor_does_not_overtake() -> None:
    filling = train(1, cpu=4)
    checks = [Ticket(2, "a", "unit", "check", claim) for claim in (Claim(1.0, 2 * GIB), Claim(1.0, 0, 1))]
    for ticket in checks:
        assert choose([ticket], [filling], Capacity(4.0, 24 * GIB, ("0",)), {}, set())[ticket]
    small = Ticket(2, "a", "unit", "check", Claim(1.0, GIB))
    assert not choose([small], [filling._replace(claim=Claim(4.0, 24 * GIB))], Capacity(4.0, 24 * GIB), {}, set())[
        small
    ]


def test_checks_of_a_new_commit_overtake_a_training_that_fills_the_machine() -> None:
    filling = [train(1, cpu=4)]
    checks = [check(number, since=float(number)) for number in range(2, 6)]
    assert started([train(9, cpu=1), *checks], filling) == checks[:EXPRESS]
    assert started(checks, [*filling, check(10), check(11)]) == []
    assert started(checks, [*filling, check(10)]) == checks[:1]


@pytest.mark.parametrize(
    ("kind", "cpu", "overtakes"),
    [("check", 1.0, True), ("data", 0.5, True), ("check", 2.0, False), ("stage", 0.5, False), ("measure", 1.0, False)],
)
def test_only_checks_and_data_of_one_core_at_most_overtake(kind: str, cpu: float, overtakes: bool) -> None:
    ticket = Ticket(2, "a", "x", kind, Claim(cpu))  # type: ignore[arg-type]
    assert bool(started([ticket], [train(1, cpu=4)])) is overtakes


def test_checks_beyond_the_express_lane_take_ordinary_room() -> None:
    checks = [check(number) for number in range(1, 9)]
    assert len(started(checks, capacity=3)) == EXPRESS + 3
    assert len(started([train(9, cpu=2, since=-1.0), *checks], capacity=3)) == 1 + EXPRESS + 1


def test_a_repository_has_no_more_runs_under_way_than_it_may() -> None:
    waiting = [train(1), train(2), train(3), train(4, repository="b")]
    answers = choose(waiting, [], Capacity(10.0), {"a": 2}, set())
    assert [because for because in answers.values() if because] == ["waits: 2 runs of a under way, at most 2"]
    assert answers[train(3)]
    assert started([train(1), train(2)], most={"a": 1}, under_way={("a", 2)}) == [train(2)]
    other = Ticket(1, "a", "profile", "stage", Claim(1.0))
    assert started([other], [train(1)], most={"a": 1}) == [other]
    assert (
        choose([train(5)], [], Capacity(1.0), {"a": 1}, {("a", 6)})[train(5)]
        == "waits: 1 run of a under way, at most 1"
    )


def test_a_run_over_the_limit_holds_up_nobody_else() -> None:
    waiting = [train(2, since=0.0), train(3, repository="b", since=1.0)]
    assert started(waiting, [train(1)], most={"a": 1}) == [train(3, repository="b", since=1.0)]


KINDS = st.sampled_from(["check", "data", "stage", "measure"])
TICKETS = st.lists(
    st.builds(
        Ticket,
        st.integers(1, 6),
        st.sampled_from("abc"),
        st.sampled_from("pqrs"),
        KINDS,
        st.sampled_from([0.5, 1.0, 2.0, 3.0, 9.0]).map(Claim),
        st.integers(0, 5).map(float),
    ),
    max_size=12,
    unique_by=lambda ticket: (ticket.run, ticket.stage),
)


def cores(tickets: list[Ticket]) -> float:
    return sum(ticket.claim.cpu for ticket in tickets)


@given(TICKETS, st.sampled_from([1.0, 2.0, 4.0]))
def test_the_machine_is_never_given_more_than_it_has_but_for_the_express_lane(
    waiting: list[Ticket], capacity: float
) -> None:
    begun = started(waiting, capacity=capacity)
    small = sorted(ticket.claim.cpu for ticket in begun if ticket.kind in ("check", "data") and ticket.claim.cpu <= 1)
    beyond = sum(small[-EXPRESS:])
    alone = [ticket for ticket in begun if ticket.claim.cpu > capacity]
    assert cores(begun) - beyond <= capacity or (len(alone) == 1 and cores(begun) - beyond == alone[0].claim.cpu)


@given(TICKETS, TICKETS, st.sampled_from([1.0, 2.0, 4.0]), st.integers(1, 3))
def test_no_repository_has_more_runs_than_it_may_and_a_free_machine_is_never_left_idle(
    waiting: list[Ticket], running: list[Ticket], capacity: float, most: int
) -> None:
    before = {(ticket.repository, ticket.run) for ticket in running}
    begun = started(waiting, running, capacity, {"a": most}, before)
    runs = {ticket.run for ticket in begun if ticket.repository == "a"}
    new = {run for run in runs if ("a", run) not in before}
    assert not new or len(new | {run for name, run in before if name == "a"}) <= most
    if waiting and not running:
        assert begun


@settings(max_examples=60)
@given(st.data())
def test_nothing_starves_however_much_arrives(data: st.DataObject) -> None:
    """A machine of two cores: each turn some stages end and new small ones arrive, for ever. One large stage of a busy
    repository waits among them; it starts all the same, and so does every other that was there in the beginning.
    """
    first = [Ticket(1, "a", "large", "stage", Claim(data.draw(st.sampled_from([2.0, 5.0])))), train(2, repository="b")]
    waiting, running, ends = list(first), [train(3), train(4, repository="b")], {3: 4, 4: 2}
    number, seen = 10, set(running)
    for turn in range(1, 120):
        for _ in range(data.draw(st.integers(0, 2))):
            number += 1
            kind = data.draw(KINDS)
            waiting.append(Ticket(number, data.draw(st.sampled_from("abcd")), "s", kind, Claim(1.0), float(turn)))
        for ticket in started(waiting, running, capacity=2.0):
            waiting.remove(ticket)
            running.append(ticket)
            seen.add(ticket)
            ends[ticket.run] = turn + data.draw(st.integers(1, 4))
        running = [ticket for ticket in running if ends[ticket.run] > turn]
        if set(first) <= seen:
            return
    raise AssertionError(f"still waiting after 120 turns: {set(first) - seen}")


# --- groups ---


def run_of(
    number: int,
    group: str | None = "g",
    *,
    cancels: bool = False,
    begun: bool = False,
    repository: str = "a",
    ref: str = "refs/heads/main",
    scope: str = "",
) -> Run:
    plan = Plan(
        stages=(StagePlan(name="train", kind="stage", command="t"),),
        concurrency=ConcurrencyPlan(group=group, cancel_superseded=cancels) if group else None,
    )
    commit = Commit(repository=repository, git_directory="/g", ref=ref, sha="a" * 40, tree="b" * 40)
    run = begin(number, commit, Occasion(kind="push"), plan, Digest("d"), driver="server", is_trusted=True)
    stages = {"train": StageRun(phase=Phase.RUNNING, attempt=1)} if begun else run.stages
    return run.model_copy(update={"scope": scope, "stages": stages})


@pytest.mark.parametrize(
    ("other", "ahead"),
    [
        (run_of(5), 5),
        (run_of(9), None),
        (run_of(9, begun=True), 9),
        (run_of(7), None),
        (run_of(5, "other"), None),
        (run_of(5, None), None),
        (run_of(5, repository="b"), None),
        (run_of(5, scope="pull/3@a"), None),
    ],
)
def test_of_one_group_the_earlier_goes_first_or_whoever_has_begun(other: Run, ahead: int | None) -> None:
    assert ahead_of(run_of(7), [run_of(7), other]) == ahead


def test_without_a_group_nobody_is_in_the_way() -> None:
    assert ahead_of(run_of(7, None), [run_of(5), run_of(5, None)]) is None
    assert superseded_by(run_of(7, None), [run_of(9, cancels=True)]) is None


@pytest.mark.parametrize(
    ("other", "by"),
    [
        (run_of(9, cancels=True), 9),
        (run_of(9), None),
        (run_of(5, cancels=True), None),
        (run_of(9, cancels=True, ref="refs/heads/feature"), None),
        (run_of(9, cancels=True, scope="pull/3@a"), None),
        (run_of(9, "other", cancels=True), None),
    ],
)
def test_a_newer_run_of_the_same_ref_takes_the_place_of_an_older_one_where_its_group_says_so(
    other: Run, by: int | None
) -> None:
    assert superseded_by(run_of(7), [run_of(7, cancels=True), other]) == by


def test_the_newest_takes_the_place() -> None:
    assert superseded_by(run_of(7), [run_of(number, cancels=True) for number in (8, 12, 10)]) == 12


@given(st.lists(st.booleans(), min_size=1, max_size=8))
def test_of_a_group_that_has_not_begun_just_one_may(begun: list[bool]) -> None:
    """Whatever has begun, at most one further run sees nobody ahead, and none does while one is under way."""
    runs = [run_of(number, begun=is_begun) for number, is_begun in enumerate(begun, start=1)]
    free = [run.number for run in runs if not run.has_begun and ahead_of(run, runs) is None]
    assert len(free) == (0 if any(begun) else 1)
