"""Slices of a rollout: harm to a part of the requests alone is found, and nothing else is judged otherwise for it."""

from __future__ import annotations

import pytest
from tests.looks import decide, event
from tests.planted import ROOMS, Mistake, modules_with
from tests.revisions import revision

from interlock.delivery import rollout as rollouts
from interlock.delivery.analysis.engine import slices_of
from interlock.delivery.looks.replaying import replay
from interlock.delivery.revision import CounterSeen, DataPlaneSeen, EndpointSeen, PairsSeen
from interlock.pipeline.canaries.plan import AnalysisMetricPlan, AnalysisPlan, MirrorPlan, StepPlan, StrategyPlan
from interlock.pipeline.plan import EnvironmentPlan

SLICES = {"carrier": ("AA", "UA"), "origin": ("EWR",)}
SHARES = {"carrier=AA": 0.1, "carrier=UA": 0.05, "origin=EWR": 0.1}
"""Of the requests; a flight may be of UA and from EWR."""
STABLE, CANDIDATE = (revision(number).model_copy(update={"slices": SLICES}) for number in (1, 2))
ACCURACY = AnalysisMetricPlan(metric="accuracy", max_ratio=1.2, margin=0.1, slices=SLICES)
STEPS = (StepPlan(set_weight=50), StepPlan(analysis=60.0), StepPlan(set_weight=100))
MIRRORED = (StepPlan(mirror=MirrorPlan(percent=100, seconds=60.0)), *STEPS)

RULES = ROOMS[: ROOMS.index("delivery.steering")]
MISTAKES = {
    "slices are added up": Mistake("delivery.analysis.streams", "if name not in rule.slices}", "}"),
    "a slice is not judged": Mistake(
        "delivery.analysis.streams", "for name in rule.slices if name in seen}", "for name in ()}"
    ),
    "each slice has the share of all": Mistake(
        "delivery.analysis.streams", "STRATA_SHARE * sum(parts) / len(parts)", "STRATA_SHARE * sum(parts)"
    ),
    "the whole is named": Mistake("delivery.analysis.engine", "if sliced is None else", "if sliced is not None else"),
    "labels of stable are taken for the candidate's": Mistake(
        "delivery.looks.evidence", '"errors": 0, "slices": {}}', '"errors": 0}'
    ),
    "slices are all requests": Mistake("delivery.looks.evidence", "seen.within(name) for", "seen for"),
    "slices of the whole rollout are of each look": Mistake(
        "delivery.looks.evidence",
        "in (before, after))",
        "in ({side: one.within('') for side, one in before.items()}, after))",
    ),
    "pairs have no slices": Mistake("delivery.looks.pairs", "if name in growth.slices}", "if not growth}"),
    "slices that are not compared are not told": Mistake(
        "delivery.rollout", "(unsliced_because(stable, candidate) if", "('' if"
    ),
}


class World:
    """A hundred requests a second, each with its label at once: a tenth is answered wrongly, and more in ``wrong``."""

    def __init__(self, wrong=None, logs=(STABLE, CANDIDATE)):
        self.wrong, self.logs = wrong or {}, {one.key for one in logs}
        self.weights, self.mirrors = {STABLE.key: 100}, {}
        self.counts = {key: dict.fromkeys(("", *SHARES), (0.0, 0.0)) for key in (STABLE.key, CANDIDATE.key)}
        self.pairs = dict.fromkeys(("", *SHARES), (0.0, 0.0))

    def serve(self):
        for key, weight in self.weights.items():
            self._count(self.counts[key], weight, key == CANDIDATE.key)
        if self.mirrors:
            self._count(self.pairs, 100, True)

    def _count(self, counts, requests, is_candidate):
        extra = {name: requests * SHARES[name] * (rate - 0.1) for name, rate in self.wrong.items() if is_candidate}
        for name, share in {"": 1.0, **SHARES}.items():
            more = sum(extra.values()) if name == "" else extra.get(name, 0.0)
            before = counts[name]
            counts[name] = before[0] + requests * share, before[1] + requests * share * 0.1 + more

    def seen(self):
        endpoint = EndpointSeen(is_healthy=True, is_draining=False)
        return DataPlaneSeen(
            endpoints={one.key: {one.replica(i): endpoint for i in range(2)} for one in (STABLE, CANDIDATE)},
            weights=self.weights,
            mirrors=self.mirrors,
            counters={
                key: CounterSeen(epoch="proxy", requests=int(counts[""][0]), errors=0)
                for key, counts in self.counts.items()
            },
            labelled={
                key: CounterSeen(
                    epoch="labels",
                    requests=whole(counts[""])[0],
                    errors=whole(counts[""])[1],
                    slices={name: whole(counts[name]) for name in SHARES} if key in self.logs else {},
                )
                for key, counts in self.counts.items()
            },
            paired={CANDIDATE.key: self._paired()} if self.pairs[""][0] else {},
        )

    def _paired(self):
        """Stable is never wrong where both are asked: its tenth is wrong of both."""
        of = {name: (int(n), int(x - 0.1 * n + 1e-6), 0, int(0.1 * n)) for name, (n, x) in self.pairs.items()}
        labelled, worse, better, both = of.pop("")
        return PairsSeen(
            epoch="pairs", pairs=labelled, labelled=labelled, worse=worse, better=better, both_wrong=both, slices=of
        )


def whole(counts):
    return int(counts[0] + 1e-6), int(counts[1] + 1e-6)


def begun(rules, steps=STEPS, metric=ACCURACY, stable=STABLE):
    """Rollout 4 of the candidate."""
    strategy = StrategyPlan(kind="canary", steps=steps, deadline=300.0, analysis=AnalysisPlan(metrics=(metric,)))
    plan = EnvironmentPlan(name="production", strategy=strategy)
    return rules["delivery.rollout"].begin(4, CANDIDATE, stable, plan, release=None, now=0.0)


def play(rules, rollout, world):
    """Second by second until it ends: the rollout."""
    for second in range(1, 290):
        rollout = rules["delivery.advance"].advance(rollout, seen_by(rules, world.seen()), float(second)).state
        if rollout.phase.is_final:
            break
        world.weights, world.mirrors = rollout.weights, rollout.mirrors
        world.serve()
    return rollout


def seen_by(rules, plane):
    return rules["delivery.rollout"].RolloutSeen(plane=plane)


def tell(rules):
    """What has to hold of slices, whoever judges."""
    # One slice is harmed: it is named, and all requests together say what they say without slices.
    world = World(wrong={"carrier=UA": 0.6})
    ended = play(rules, begun(rules), world)
    assert (ended.phase.value, ended.because.startswith("accuracy of carrier=UA: candidate")) == ("rolled_back", True)
    (stream,) = ended.analysis.streams
    counts = world.counts[CANDIDATE.key]
    assert stream.totals.candidate == whole(counts[""])[::-1]
    assert stream.sliced["carrier=UA"].candidate == whole(counts["carrier=UA"])[::-1]
    assert stream.sliced["origin=EWR"].stable == whole(world.counts[STABLE.key]["origin=EWR"])[::-1]
    values = [stream.harm[f"accuracy in {name}"].value for name in SHARES]
    assert stream.harm_value == pytest.approx(0.8 * stream.harm["accuracy"].value + 0.2 * sum(values) / 3)
    plain = play(rules, begun(rules, metric=ACCURACY.model_copy(update={"slices": {}})), World({"carrier=UA": 0.6}))
    assert plain.phase.value == "promoted"
    # None is: it is promoted as soon.
    good = play(rules, begun(rules), World())
    assert (good.phase.value, good.since) == ("promoted", plain.since)
    # What the older side does not log is told, and only copies tell of it.
    older = begun(rules, stable=STABLE.model_copy(update={"slices": {"carrier": ("AA",)}}))
    assert older.because.endswith("its traffic is not compared by them: carrier=UA, origin=EWR")
    blind = play(rules, older, World(wrong={"carrier=UA": 0.6}, logs=(CANDIDATE,)))
    assert (blind.phase.value, blind.analysis.streams[0].totals) == ("promoted", plain.analysis.streams[0].totals)
    copied = play(rules, begun(rules, MIRRORED), World(wrong={"carrier=UA": 0.6}, logs=(CANDIDATE,)))
    assert (copied.phase.value, copied.weight) == ("rolled_back", 0)
    assert copied.because.startswith("accuracy of carrier=UA: candidate")
    # Of the candidate no label has come where stable has some: nothing of it is a zero, also in a slice.
    world, late = World(), begun(rules)
    for second in range(1, 5):
        plane = world.seen()
        if second < 3:
            plane = plane.model_copy(update={"labelled": {STABLE.key: plane.labelled[STABLE.key]}})
        late = rules["delivery.advance"].advance(late, seen_by(rules, plane), float(second)).state
        world.weights = {STABLE.key: 80, CANDIDATE.key: 20}
        world.serve()
    assert late.analysis.streams[0].sliced["carrier=AA"].candidate == (0, 6)


def test_slices_are_judged_as_is_said():
    tell(modules_with(RULES, None))


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_a_planted_mistake_is_found(mistake):
    rules = modules_with(RULES, mistake)
    with pytest.raises((AssertionError, KeyError)):
        tell(rules)


def test_it_is_told_and_decided_again_from_what_was_stored():
    rollout, world, events = begun({"delivery.rollout": rollouts}), World(wrong={"carrier=UA": 0.6}), []
    events.append(event(rollout, "begins", {}))
    for second in range(1, 60):
        rollout = decide(rollout, rollouts.RolloutSeen(plane=world.seen()), float(second), events)
        world.weights = rollout.weights
        world.serve()
        if rollout.phase.is_final:
            break
    assert (rollout.phase.value, replay(rollout, events).differences) == ("rolled_back", ())
    told = slices_of(rollout.analysis)
    assert [line.partition(":")[0] for line in told] == [f"accuracy of {name}" for name in SHARES]
    assert rollout.because.startswith(told[1])
    wrong, asked = rollout.analysis.streams[0].sliced["carrier=UA"].candidate
    assert rollouts.summary(rollout)["metrics"]["accuracy"]["slices"]["carrier=UA"]["candidate"] == [wrong, asked]
