"""What a run will take: small plans worked out by hand, and the estimate against the queue itself, played."""

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.pipeline.plan import Resources, StageKind, StagePlan
from interlock.run.scheduling.costs import GIB, Capacity, Cost, claim_of, longest_ways
from interlock.run.scheduling.estimate import Estimate, estimate, roughly
from interlock.run.scheduling.queue import Ticket, choose


def stage(name: str, *needs: str, kind: StageKind = "stage", cpu: float = 1.0, gpu: int = 0) -> StagePlan:
    return StagePlan(name=name, kind=kind, command="x", needs=needs, resources=Resources(cpu=cpu, gpu=gpu))


def costs(**seconds: float) -> dict[str, Cost]:
    return {name: Cost(seconds=one, cpu_seconds=2 * one, runs=4) for name, one in seconds.items()}


DIAMOND = [stage("features"), stage("train", "features"), stage("plots", "features"), stage("report", "train", "plots")]
KNOWN = costs(features=1.0, train=9.0, plots=2.0, report=1.0)
ALL = {one.name for one in DIAMOND}


@pytest.mark.parametrize(
    ("capacity", "executed", "seconds"),
    [
        (Capacity(1.0), ALL, 13.0),
        (Capacity(2.0), ALL, 11.0),
        (Capacity(9.0), ALL, 11.0),
        (Capacity(1.0), {"plots", "report"}, 3.0),
        (Capacity(1.0), {"report"}, 1.0),
    ],
)
def test_the_wall_time_is_that_of_the_machine_with_nobody_else_on_it(
    capacity: Capacity, executed: set[str], seconds: float
) -> None:
    found = estimate(DIAMOND, executed, KNOWN, capacity)
    assert found.seconds == seconds
    assert found.cpu_seconds == 2 * sum(KNOWN[name].seconds for name in executed)
    assert set(found.stages) == executed
    assert not found.unknown


def test_the_longest_way_goes_first_so_that_the_whole_ends_sooner() -> None:
    stages = [stage("a"), stage("b"), stage("c"), stage("long"), stage("longer", "long")]
    known = costs(a=4.0, b=4.0, c=4.0, long=6.0, longer=6.0)
    assert estimate(stages, set(known), known, Capacity(2.0)).seconds == 12.0


def test_memory_and_graphics_processors_bound_what_runs_side_by_side() -> None:
    stages = [stage("a", gpu=1), stage("b", gpu=1), stage("c")]
    known = costs(a=5.0, b=5.0, c=5.0)
    assert estimate(stages, set(known), known, Capacity(9.0, gpus=("0",))).seconds == 10.0
    large = {name: cost.model_copy(update={"peak_memory": 4 * GIB}) for name, cost in known.items()}
    assert estimate(stages, set(known), large, Capacity(9.0, 11 * GIB, ("0", "1"))).seconds == 10.0


def test_checks_run_beside_a_full_machine() -> None:
    stages = [stage("train", cpu=2.0), stage("unit", kind="check"), stage("plots")]
    known = costs(train=10.0, unit=10.0, plots=1.0)
    assert estimate(stages, set(known), known, Capacity(2.0)).seconds == 11.0


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (estimate(DIAMOND, set(), KNOWN, Capacity(2.0)), "nothing is executed"),
        (estimate(DIAMOND, ALL, KNOWN, Capacity(2.0)), "about 11 s, 26 CPU-s (from 4 earlier runs)"),
        (
            estimate(DIAMOND, ALL, costs(train=240.0), Capacity(2.0)),
            "at least 4 min, 8 CPU-min (from 4 earlier runs; never measured: features, plots, report)",
        ),
        (
            estimate([*DIAMOND, stage("more")], {*ALL, "more"}, {}, Capacity(2.0)),
            "unknown (never measured: features, train, plots and 2 more)",
        ),
        (
            estimate([stage("a")], {"a"}, {"a": Cost(seconds=3.0)}, Capacity(2.0)),
            "about 3 s (from 1 earlier run)",
        ),
        (
            Estimate(seconds=36000.0, cpu_seconds=36000.0, stages={"a": 1.0}, runs=1),
            "about 10 h, 10 CPU-h (from 1 earlier run)",
        ),
        (
            Estimate(seconds=0.2, cpu_seconds=0.2, stages={"a": 0.2}, runs=1),
            "about 1 s, 0.2 CPU-s (from 1 earlier run)",
        ),
    ],
)
def test_an_estimate_is_told_in_one_line(found: Estimate, told: str) -> None:
    assert str(found) == told


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0.0, "1 s"),
        (3.14, "3.1 s"),
        (42.4, "42 s"),
        (89.0, "89 s"),
        (239.0, "4 min"),
        (5400.0, "1.5 h"),
        (9000.0, "2.5 h"),
    ],
)
def test_a_guess_is_not_told_more_exactly_than_it_is(seconds: float, told: str) -> None:
    assert roughly(seconds) == told


def test_what_is_unknown_has_no_duration() -> None:
    assert estimate(DIAMOND, ALL, {}, Capacity(2.0)).duration == ""


def played(stages: Sequence[StagePlan], known: Mapping[str, Cost], capacity: Capacity) -> float:
    """The queue itself, asked again at each end of a stage, as the control plane does."""
    ways = longest_ways(stages, known)
    waiting: dict[str, Ticket] = {}
    running: dict[str, tuple[float, Ticket]] = {}
    done: set[str] = set()
    now = 0.0
    while len(done) < len(stages):
        for one in stages:
            if one.name not in {*done, *running, *waiting} and done.issuperset(one.needs):
                claim = claim_of(one.resources, known[one.name])
                waiting[one.name] = Ticket(1, "r", one.name, one.kind, claim, now, ways[one.name])
        occupied = [ticket for _, ticket in running.values()]
        for ticket, told in choose(list(waiting.values()), occupied, capacity, {}, set()).items():
            if not told:
                running[ticket.stage] = (now + known[ticket.stage].seconds, waiting.pop(ticket.stage))
        now = min(end for end, _ in running.values())
        for name in [name for name, (end, _) in running.items() if end <= now]:
            del running[name]
            done.add(name)
    return now


@settings(max_examples=150)
@given(st.data())
def test_the_estimate_is_what_the_queue_really_does(data: st.DataObject) -> None:
    names = [f"s{number}" for number in range(data.draw(st.integers(1, 9)))]
    kinds: st.SearchStrategy[StageKind] = st.sampled_from(["check", "stage", "measure"])
    stages = [
        stage(
            name,
            *(sorted(data.draw(st.sets(st.sampled_from(names[:at]), max_size=3))) if at else ()),
            kind=data.draw(kinds),
            cpu=data.draw(st.sampled_from([0.5, 1.0, 2.0, 5.0])),
            gpu=data.draw(st.integers(0, 1)),
        )
        for at, name in enumerate(names)
    ]
    known = {
        name: Cost(
            seconds=float(data.draw(st.integers(1, 9))), peak_memory=data.draw(st.sampled_from([None, GIB, 3 * GIB]))
        )
        for name in names
    }
    capacity = Capacity(data.draw(st.sampled_from([1.0, 2.0, 4.0])), 4 * GIB, ("0",))
    found = estimate(stages, set(names), known, capacity).seconds
    assert found == played(stages, known, capacity)


@settings(max_examples=150)
@given(st.data())
def test_longest_first_is_never_twice_as_slow_as_any_order_could_be(data: st.DataObject) -> None:
    """Graham 1969: on m machines any list schedule takes less than twice the best, and the best takes at least the
    longest chain and at least the whole work shared out. It is seen to use every core while anything is ready.
    """
    names = [f"s{number}" for number in range(data.draw(st.integers(1, 9)))]
    stages = [
        stage(name, *(sorted(data.draw(st.sets(st.sampled_from(names[:at]), max_size=2))) if at else ()))
        for at, name in enumerate(names)
    ]
    known = {name: Cost(seconds=float(data.draw(st.integers(1, 9)))) for name in names}
    cores = data.draw(st.integers(1, 4))
    found = estimate(stages, set(names), known, Capacity(float(cores))).seconds
    assert found is not None
    work, chain = sum(cost.seconds for cost in known.values()), max(longest_ways(stages, known).values())
    assert max(chain, work / cores) <= found <= chain + (work - chain) / cores
