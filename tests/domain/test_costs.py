"""What stages cost: medians of what was measured, what they take of a machine, and the longest way through a plan."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.pipeline.plan import Resources, StagePlan
from interlock.run.scheduling.costs import (
    FIRST_GUESS,
    GIB,
    HEAD_ROOM,
    SAMPLES,
    Claim,
    Cost,
    Sample,
    claim_of,
    cost_of,
    longest_ways,
    said_memory,
)


def test_nothing_is_known_of_a_stage_that_was_never_executed() -> None:
    assert cost_of([]) is None


def test_times_are_medians_and_memory_the_most_of_the_last_executions() -> None:
    samples = [Sample(seconds=float(n), cpu_seconds=10.0 * n, peak_memory=100 * n) for n in (3, 1, 2)]
    assert cost_of(samples) == Cost(seconds=2.0, cpu_seconds=20.0, peak_memory=300, runs=3)
    old = [Sample(seconds=1.0)] * SAMPLES + [Sample(seconds=99.0, peak_memory=9)] * 9
    assert cost_of(old) == Cost(seconds=1.0, runs=SAMPLES)


@pytest.mark.parametrize(
    ("resources", "cost", "claim"),
    [
        (Resources(), None, Claim(1.0)),
        (Resources(cpu=2.0, gpu=1), None, Claim(2.0, 0.0, 1)),
        (Resources(), Cost(seconds=1.0), Claim(1.0)),
        (Resources(), Cost(seconds=1.0, peak_memory=GIB), Claim(1.0, HEAD_ROOM * GIB)),
        (Resources(memory=3 * GIB), Cost(seconds=1.0, peak_memory=GIB), Claim(1.0, 3.0 * GIB)),
    ],
)
def test_a_stage_takes_what_it_declares_or_else_what_it_was_seen_to_use(
    resources: Resources, cost: Cost | None, claim: Claim
) -> None:
    assert claim_of(resources, cost) == claim


@pytest.mark.parametrize(
    ("size", "said"),
    [(0, "0 MiB"), (512 * 2**20, "512 MiB"), (1.2 * GIB, "1.2 GiB"), (4 * GIB, "4 GiB"), (23.6 * GIB, "23.6 GiB")],
)
def test_memory_is_said_for_people(size: float, said: str) -> None:
    assert said_memory(size) == said


def stage(name: str, *needs: str) -> StagePlan:
    return StagePlan(name=name, kind="stage", command="x", needs=needs)


DIAMOND = [stage("features"), stage("train", "features"), stage("plots", "features"), stage("report", "train", "plots")]


def costs(**seconds: float) -> dict[str, Cost]:
    return {name: Cost(seconds=one) for name, one in seconds.items()}


@pytest.mark.parametrize(
    ("known", "executed", "ways"),
    [
        (costs(features=1, train=9, plots=2, report=1), None, (11, 10, 3, 1)),
        (costs(features=1, train=9, plots=2, report=1), {"plots", "report"}, (3, 1, 3, 1)),
        (costs(train=9, plots=3), None, (21, 15, 9, 6)),  # those never measured count as the median, 6
        ({}, None, (3 * FIRST_GUESS, 2 * FIRST_GUESS, 2 * FIRST_GUESS, FIRST_GUESS)),
    ],
)
def test_the_longest_way_is_that_of_the_slowest_chain(
    known: dict[str, Cost], executed: set[str] | None, ways: tuple[float, ...]
) -> None:
    assert tuple(longest_ways(DIAMOND, known, executed).values()) == ways


@given(st.data())
def test_the_longest_way_is_the_longest_of_all_chains_that_begin_there(data: st.DataObject) -> None:
    names = [f"s{number}" for number in range(data.draw(st.integers(1, 7)))]
    stages = [
        stage(name, *(data.draw(st.sets(st.sampled_from(names[:at]))) if at else ())) for at, name in enumerate(names)
    ]
    known = {name: Cost(seconds=float(data.draw(st.integers(0, 9)))) for name in names}

    def chains(first: str) -> list[list[str]]:
        behind = [other.name for other in stages if first in other.needs]
        return [[first, *rest] for name in behind for rest in chains(name)] or [[first]]

    ways = longest_ways(stages, known)
    for name in names:
        assert ways[name] == max(sum(known[one].seconds for one in chain) for chain in chains(name))
