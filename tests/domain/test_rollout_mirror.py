"""Steps on copies of requests: pairs of answers are judged before any caller meets the candidate."""

import math
import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.looks import decide, event
from tests.revisions import revision

from interlock.delivery import release as releases
from interlock.delivery.advance import advance
from interlock.delivery.analysis.engine import begin_analysis, conclude, harm_of, observe
from interlock.delivery.analysis.gains import paired_gains, ratio_gains
from interlock.delivery.analysis.streams import Rule
from interlock.delivery.analysis.ticks import Pairs, Tick
from interlock.delivery.analysis.wealth import PAIR_RATIOS, RATIOS
from interlock.delivery.environment import Environment, desired, differences, enter, follow
from interlock.delivery.looks.pairs import growth_of, paired_evidence
from interlock.delivery.looks.replaying import replay
from interlock.delivery.release import Release, ReleasePhase, ReleaseSeen
from interlock.delivery.revision import CounterSeen, DataPlaneSeen, EndpointSeen, PairsSeen, ReplicaSeen
from interlock.delivery.rollout import Order, OrderName, Rollout, RolloutPhase, RolloutSeen, begin, steps_of
from interlock.delivery.steering import obey
from interlock.errors import Refused
from interlock.pipeline.canaries.plan import AnalysisMetricPlan, AnalysisPlan, MirrorPlan, StepPlan, StrategyPlan
from interlock.pipeline.plan import EnvironmentPlan
from interlock.vocabulary import Verdict

STABLE, CANDIDATE = revision(1), revision(2)
ERRORS = AnalysisMetricPlan(metric="error_rate", margin=0.05)
AGREES = AnalysisMetricPlan(metric="agreement", min=0.9, margin=0.05)
RIGHT = AnalysisMetricPlan(metric="accuracy", max_ratio=1.0, margin=0.1)
SECONDS = 20.0
MIRROR = StepPlan(mirror=MirrorPlan(percent=50, seconds=SECONDS))
WEIGHTS = (StepPlan(set_weight=30), StepPlan(analysis=20.0))


def canary(*metrics, steps=(MIRROR, *WEIGHTS), kind="canary", stable=STABLE, deadline=400.0, warm_up=0.0):
    analysis = AnalysisPlan(metrics=metrics or (ERRORS, AGREES), warm_up=warm_up)
    strategy = StrategyPlan(kind=kind, steps=steps, deadline=deadline, analysis=analysis)
    return begin(4, CANDIDATE, stable, EnvironmentPlan(name="production", strategy=strategy), release=5, now=0.0)


def shadow(*metrics, stable=STABLE, deadline=400.0):
    return canary(*metrics, steps=(MIRROR,), kind="shadow", stable=stable, deadline=deadline)


class World:
    """Forty requests a second. ``of_pairs`` are shares of pairs by what became of them."""

    def __init__(self, rate=40, **of_pairs):
        self.rate, self.of_pairs = rate, of_pairs
        self.told = {STABLE.key: 0, CANDIDATE.key: 0}
        self.owed: dict[str, float] = {}
        self.weights, self.mirrors = {STABLE.key: 100}, {}
        self.epoch, self.is_healthy, self.is_taken = "one", True, True
        self.copied_at: list[int] = []

    def serve(self, second=0):
        for key, weight in self.weights.items():
            self.told[key] += self.rate * weight // 100
        copied = self.rate * self.mirrors.get(CANDIDATE.key, 0) // 100
        if copied:
            self.copied_at.append(second)
            for name, share in ({"pairs": 1.0, "compared": 1.0} | self.of_pairs).items():
                self.owed[name] = self.owed.get(name, 0.0) + copied * share

    def seen(self):
        endpoint = EndpointSeen(is_healthy=self.is_healthy, is_draining=False)
        counts = {name: int(count) for name, count in self.owed.items()}
        return DataPlaneSeen(
            replicas={CANDIDATE.replica(0): ReplicaSeen(is_running=True, is_ready=True, age=1000.0)},
            endpoints={one.key: {one.replica(i): endpoint for i in range(2)} for one in (STABLE, CANDIDATE)},
            weights=self.weights,
            mirrors=self.mirrors,
            counters={key: CounterSeen(epoch="e", requests=count, errors=0) for key, count in self.told.items()},
            paired={CANDIDATE.key: PairsSeen(epoch=self.epoch, **counts)} if counts else {},
        )


def play(rollout, world, seconds, change=lambda second, seen: seen, start=0):
    """Second by second until it ends or time is up: the rollout, when, and the events that the loop stores."""
    events, second = [event(rollout, "begins", {})], start
    for second in range(start, start + seconds):
        seen = RolloutSeen(plane=change(second, world.seen()))
        rollout = decide(rollout, seen, float(second), events)
        if rollout.phase.is_final:
            break
        if world.is_taken:
            world.weights, world.mirrors = rollout.weights, rollout.mirrors
        world.serve(second)
    return rollout, second, events


# ---- how it goes


def test_a_candidate_that_answers_as_stable_does_gets_traffic_after_the_mirror_and_is_promoted():
    world = World()
    rollout, ended, events = play(canary(), world, 200)
    assert rollout.phase is RolloutPhase.PROMOTED, rollout.because
    assert len(world.copied_at) == pytest.approx(SECONDS, abs=2)
    assert world.copied_at == list(range(world.copied_at[0], world.copied_at[0] + len(world.copied_at)))
    assert rollout.mirrored == 0
    told = [one.because for one in events]
    assert "50 % of the requests are copied to flights v2" in told[1]
    assert replay(Rollout.model_validate_json(rollout.model_dump_json()), events).differences == ()
    assert ended < 100


@pytest.mark.parametrize(
    ("metrics", "of_pairs", "named"),
    [
        ((ERRORS, AGREES), {"failed": 0.2, "compared": 0.8}, "candidate "),
        ((ERRORS,), {"failed": 1.0, "unanswered": 1.0, "compared": 0.0}, "candidate "),
        ((ERRORS, AGREES), {"unequal": 0.5}, "agreement: "),
        ((RIGHT,), {"labelled": 0.8, "worse": 0.3, "better": 0.05}, "accuracy: "),
        ((AnalysisMetricPlan(metric="error_rate", max_ratio=1.5, max=0.1),), {"both_failed": 0.6}, "candidate "),
    ],
)
def test_harm_that_pairs_prove_rolls_back_before_a_caller_met_the_candidate(metrics, of_pairs, named):
    world = World(**of_pairs)
    rollout, ended, events = play(canary(*metrics), world, 200)
    assert rollout.phase is RolloutPhase.ROLLED_BACK
    assert rollout.because.startswith(named), rollout.because
    assert ended < SECONDS
    assert world.told[CANDIDATE.key] == 0
    assert (rollout.weights, rollout.mirrors) == ({STABLE.key: 100}, {})
    assert replay(Rollout.model_validate_json(rollout.model_dump_json()), events).differences == ()


@pytest.mark.parametrize(
    ("metrics", "of_pairs"),
    [
        ((ERRORS, AGREES), {"failed": 0.02, "recovered": 0.02, "both_failed": 0.03, "compared": 0.9, "unequal": 0.02}),
        ((RIGHT,), {"labelled": 1.0, "worse": 0.05, "better": 0.05, "both_wrong": 0.2}),
    ],
)
def test_what_befalls_both_sides_alike_is_no_harm(metrics, of_pairs):
    rollout, _, _ = play(canary(*metrics, deadline=200.0), World(**of_pairs), 100)
    assert rollout.phase is not RolloutPhase.ROLLED_BACK


def test_without_pairs_the_mirror_lasts_until_the_deadline_and_says_so():
    def nothing(_second, seen):
        return seen.model_copy(update={"paired": {}})

    world = World()
    rollout, ended, _ = play(canary(deadline=60.0), world, 100, nothing)
    assert (rollout.phase, ended) == (RolloutPhase.ROLLED_BACK, 61)
    assert "no request has been answered by both, of 50 % that are copied" in rollout.because
    assert world.told[CANDIDATE.key] == 0


def test_lines_without_a_counterpart_are_told_and_no_evidence():
    world = World(rate=0)
    world.owed = {"unmatched": 7, "duplicated": 2, "late": 3}
    rollout, _, _ = play(canary(), world, 30)
    assert rollout.pairs == 0
    assert "not judged: 7 copies without their request, 2 second answers, 3 late answers" in rollout.because


def test_pairs_that_are_counted_anew_are_no_evidence_in_that_look():
    world = World(failed=0.05)
    rollout, _, _ = play(canary(), world, 10)
    pairs = rollout.pairs
    world.epoch, world.owed = "two", {"pairs": 1000.0, "failed": 1000.0}
    rollout, _, _ = play(rollout, world, 1, start=10)
    assert rollout.pairs == pairs
    assert rollout.phase is RolloutPhase.PROGRESSING


def test_a_mirror_is_over_only_once_agreement_is_proven():
    never = AnalysisMetricPlan(metric="agreement", min=0.9, margin=0.001)
    rollout, _, _ = play(canary(ERRORS, never, deadline=100.0), World(unequal=0.1), 60)
    assert (rollout.step, rollout.phase) == (0, RolloutPhase.PROGRESSING)
    assert "not yet proven by copies: agreement" in rollout.because
    told = canary(ERRORS, never.model_copy(update={"dry_run": True}))
    rollout, _, _ = play(told, World(unequal=0.1), 60)
    assert rollout.step > 0


def test_copies_are_no_traffic_for_the_analysis_that_follows():
    def unasked(_second, seen):
        counters = {**seen.counters, CANDIDATE.key: CounterSeen(epoch="e", requests=0, errors=0)}
        return seen.model_copy(update={"counters": counters})

    rollout, _, _ = play(canary(), World(), 100, unasked)
    assert (rollout.weight, rollout.because) == (30, "no request has reached flights v2 yet")


def test_a_mirror_begins_when_the_candidate_is_healthy_and_is_waited_for():
    world = World()
    world.is_healthy = False
    rollout, _, _ = play(canary(), world, 50)
    assert (rollout.mirrored, rollout.because) == (0, "flights v2 is starting")
    world.is_healthy, world.is_taken = True, False
    rollout, _, _ = play(rollout, world, 30, start=50)
    assert (rollout.mirrored, rollout.because) == (50, "mirror of 50 % is not yet in force (0 %)")
    assert not world.copied_at
    world.is_taken = True
    rollout, _, _ = play(rollout, world, 10, start=80)
    assert (rollout.step, len(world.copied_at)) == (0, 10)
    world.mirrors, world.is_taken = {}, False  # its lease ended; then there is a control plane again
    rollout, _, _ = play(rollout, world, 5, start=90)
    world.is_taken = True
    rollout, _, _ = play(rollout, world, 18, start=95)
    assert rollout.step == 0
    rollout, _, _ = play(rollout, world, 5, start=113)
    assert rollout.step > 0


def test_a_weight_waits_until_nothing_is_copied_any_more():
    rollout = canary().model_copy(update={"step": 1})
    world = World()
    world.mirrors, world.is_taken = {CANDIDATE.key: 50}, False
    rollout, _, _ = play(rollout, world, 5)
    assert (rollout.weight, rollout.because) == (0, "mirror of 0 % is not yet in force (50 %)")


def test_a_freeze_stops_the_clock_of_a_mirror_and_evidence_still_counts():
    world = World()
    rollout, _, _ = play(canary(), world, 5)
    seen = RolloutSeen(plane=world.seen(), held="frozen")
    for second in range(5, 60):
        world.serve()
        seen = RolloutSeen(plane=world.seen(), held="frozen")
        rollout = advance(rollout, seen, float(second)).state
    assert (rollout.mirrored, rollout.step) == (50, 0)
    assert rollout.pairs > 1000
    after, _, _ = play(rollout, world, 5, start=60)
    assert after.step == 0
    world.of_pairs = {"failed": 1.0, "compared": 0.0}
    world.serve()
    ended = advance(rollout, RolloutSeen(plane=world.seen(), held="frozen"), 61.0).state
    assert ended.phase is RolloutPhase.ROLLED_BACK


def test_a_promotion_leaves_the_mirror_out():
    rollout, _, _ = play(canary(), world := World(), 5)
    promoted = obey(rollout, Order(name=OrderName.PROMOTE, by="ada", reason="now")).state
    rollout, _, _ = play(promoted, world, 1, start=5)
    assert (rollout.weight, rollout.mirrored) == (100, 0)


def test_a_replica_that_has_just_begun_is_not_judged_by_copies_either():
    def young(_second, seen):
        replica = ReplicaSeen(is_running=True, is_ready=True, age=1.0)
        return seen.model_copy(update={"replicas": {CANDIDATE.replica(0): replica}})

    rollout, _, _ = play(canary(warm_up=30.0), World(failed=1.0), 50, young)
    assert rollout.phase is RolloutPhase.PROGRESSING


def test_without_a_stable_revision_there_is_nothing_to_copy_and_all_traffic_moves_at_once():
    assert steps_of(
        canary().model_copy(update={}).__class__ and StrategyPlan(kind="canary", steps=(MIRROR,)), False
    ) == (StepPlan(set_weight=100),)


# ---- a shadow


def test_a_shadow_ends_proven_and_never_gets_traffic():
    world = World()
    rollout, ended, events = play(shadow(), world, 200)
    assert rollout.phase is RolloutPhase.CANCELLED
    assert rollout.because.startswith("flights v2 was tried beside stable and gets no traffic; ")
    assert "proven safe" in rollout.because
    assert ended >= SECONDS
    assert (world.told[CANDIDATE.key], rollout.weights, rollout.mirrors) == (0, {STABLE.key: 100}, {})
    assert replay(Rollout.model_validate_json(rollout.model_dump_json()), events).differences == ()


def test_a_shadow_that_does_harm_is_rolled_back_and_one_that_stays_open_is_not():
    rollout, _, _ = play(shadow(), World(failed=0.5), 200)
    assert rollout.phase is RolloutPhase.ROLLED_BACK
    rollout, ended, _ = play(shadow(deadline=60.0), World(rate=2), 200)
    assert (rollout.phase, ended) == (RolloutPhase.CANCELLED, 61)
    assert "deadline of 60 s passed, still waiting: not yet proven by copies: error_rate" in rollout.because


def test_a_shadow_of_nothing_ends_at_once():
    rollout, ended, _ = play(shadow(stable=None), World(), 10)
    assert (rollout.phase, ended) == (RolloutPhase.CANCELLED, 0)
    assert rollout.because == "nothing serves here yet whose requests could be copied"


def test_a_shadow_cannot_be_promoted():
    with pytest.raises(Refused, match="never gets traffic"):
        obey(shadow(), Order(name=OrderName.PROMOTE, by="ada", reason="now"))


@pytest.mark.parametrize(
    ("strategy", "phase", "told"),
    [
        (StrategyPlan(kind="shadow", steps=(MIRROR,)), ReleasePhase.DONE, "on trial only: tried"),
        (StrategyPlan(), ReleasePhase.STOPPED, "the rollout was cancelled: tried"),
    ],
)
def test_the_release_of_a_shadow_is_done_with_it(strategy, phase, told):
    plans = (EnvironmentPlan(name="production", strategy=strategy), EnvironmentPlan(name="later"))
    release = Release(
        number=5, model="flights", version="flights/2", title="flights v2", run="7", environments=plans,
        rollouts={"production": 4},
    )  # fmt: skip
    seen = ReleaseSeen(rollout=RolloutPhase.CANCELLED, rollout_because="tried")
    after = releases.advance(release, seen).state
    assert (after.phase, told in after.because) == (phase, True)


# ---- the environment


def test_an_environment_copies_what_its_rollout_says_and_holds_it_by_a_lease():
    environment = Environment(name="production", model="flights", stable=STABLE, weights={STABLE.key: 100})
    rollout, _, _ = play(canary(), World(), 5)
    copying = follow(enter(environment, rollout), rollout)
    wish = desired(copying)
    assert (wish.mirrors, wish.leased, wish.weights) == ({CANDIDATE.key: 50}, CANDIDATE.key, {STABLE.key: 100})
    world = World()
    acts = {act.name: act for act in differences(copying, world.seen())}
    assert acts["ensure_mirrors"].mirrors == {CANDIDATE.key: 50}
    assert acts["renew_lease"].revision == CANDIDATE.key
    world.is_healthy = False
    assert "ensure_mirrors" not in {act.name for act in differences(copying, world.seen())}
    world.mirrors = {CANDIDATE.key: 50}
    for phase in (RolloutPhase.ROLLED_BACK, RolloutPhase.PROMOTED, RolloutPhase.SUPERSEDED, RolloutPhase.CANCELLED):
        ended = follow(copying, rollout.model_copy(update={"phase": phase, "mirrored": 0}))
        assert ended.mirrors == {}
        (act,) = [act for act in differences(ended, world.seen()) if act.name == "ensure_mirrors"]
        assert act.mirrors == {}


def test_what_is_copied_to_stays_until_nothing_is_copied_any_more():
    environment = Environment(name="production", model="flights", stable=STABLE, weights={STABLE.key: 100})
    world = World()
    world.mirrors = {CANDIDATE.key: 50}
    assert "drain_endpoints" not in {act.name for act in differences(environment, world.seen())}
    world.mirrors = {}
    assert "drain_endpoints" in {act.name for act in differences(environment, world.seen())}


# ---- the evidence


@given(
    chances=st.tuples(*[st.floats(0.0, 1.0)] * 4).filter(lambda parts: sum(parts) > 0.01),
    tolerated=st.floats(1.0, 4.0),
    ratios=st.sampled_from([RATIOS, PAIR_RATIOS]),
)
def test_a_pair_is_worth_nothing_on_average_while_the_ratio_is_tolerated(chances, tolerated, ratios):
    """However much both sides fail together. The mean over the four things that may become of a pair, written out."""
    worse, better, both, neither = (part / sum(chances) for part in chances)
    if worse + both > tolerated * (better + both):
        # Make it a tolerated one: as much as is too much goes to where only stable fails.
        better += worse + both - tolerated * (better + both)
        worse, better, both, neither = (
            part / (worse + better + both + neither) for part in (worse, better, both, neither)
        )
    outcomes = ((worse, (1, 0, 0)), (better, (0, 1, 0)), (both, (0, 0, 1)), (neither, (0, 0, 0)))
    for index in range(len(ratios)):
        mean = sum(chance * math.exp(paired_gains(*what, tolerated, ratios)[index]) for chance, what in outcomes)
        assert mean <= 1.0 + 1e-9


@given(worse=st.integers(0, 50), better=st.integers(0, 50))
def test_with_nothing_tolerated_it_is_the_ratio_of_mcnemars_test(worse, better):
    expected = ratio_gains((worse, 1), (better, 1), 1.0)
    assert paired_gains(worse, better, 3, 1.0) == pytest.approx(expected, abs=1e-9)


def test_pairs_find_what_unpaired_counts_of_the_same_answers_cannot():
    """Both sides fail at the same hard tenth of the requests, the candidate at one in fifty more."""
    paired = begin_analysis([Rule(metric="accuracy")], 100)
    for number in range(1, 41):
        seen = {"accuracy": {"": Pairs(pairs=50, worse=1, better=0, both=5)}}
        paired = observe(paired, Tick(number=number, seen=seen))
    assert conclude(paired).verdict is Verdict.FAIL
    evidence = conclude(paired).evidence["metrics"]["accuracy"]
    assert (evidence["candidate"], evidence["stable"]) == ([240, 2000], [200, 2000])


def test_agreement_is_judged_by_its_least_share_alone():
    rule = Rule(metric="agreement", kind="agreement", max=0.1, margin=0.15)
    for share, verdict in ((0.0, Verdict.PASS), (0.1, Verdict.PASS), (0.3, Verdict.FAIL)):
        analysis = begin_analysis([rule], 100)
        for number in range(1, 61):
            seen = {"agreement": {"": Pairs(pairs=20, worse=round(20 * share))}}
            analysis = observe(analysis, Tick(number=number, seen=seen))
        result = conclude(analysis)
        assert result.verdict is verdict
        assert f"agreement: {round(1200 * share)} unequal of 1200 answers" in result.because
    assert (
        "less than 15 % of answers unequal"
        in conclude(
            observe(begin_analysis([rule], 9), Tick(number=1, seen={"agreement": {"": Pairs(pairs=900)}}))
        ).because
    )
    undecided = observe(begin_analysis([rule], 9), Tick(number=1, seen={"agreement": {"": Pairs(pairs=9, worse=1)}}))
    assert "about" in conclude(undecided).because


def test_a_candidate_at_the_bounds_of_agreement_is_seldom_rolled_back():
    """At exactly the least share: in 200 rollouts of 300 pairs each no more than a few, where alpha is 1 %."""
    chance, false = random.Random(11), 0
    rule = Rule(metric="agreement", kind="agreement", max=0.1, margin=0.15)
    for _ in range(200):
        analysis = begin_analysis([rule], 30)
        for number in range(1, 31):
            unequal = sum(chance.random() < 0.1 for _ in range(10))
            seen = {"agreement": {"": Pairs(pairs=10, worse=unequal)}}
            analysis = observe(analysis, Tick(number=number, seen=seen))
            if harm_of(analysis) >= 100.0:
                false += 1
                break
    assert false <= 8  # more than that of 200 at 1 % each comes once in 40,000 times


PLAIN = {"epoch", "slices"}
COUNTS = st.fixed_dictionaries({name: st.integers(0, 50) for name in PairsSeen.model_fields if name not in PLAIN})


@given(first=COUNTS, more=COUNTS)
def test_what_grew_is_what_was_added(first, more):
    before = PairsSeen(epoch="a", **first)
    after = PairsSeen(epoch="a", **{name: first[name] + more[name] for name in first})
    grown = growth_of(before, after)
    assert (grown.model_dump(exclude=PLAIN) if grown else dict.fromkeys(first, 0)) == more
    assert growth_of(after, before) is None
    assert growth_of(before, after.model_copy(update={"epoch": "b"})) is None
    assert growth_of(before, None) is None
    assert growth_of(None, after) == (after if any(count for name, count in after if name not in PLAIN) else None)


def test_pairs_of_a_slice_are_evidence_of_it_beside_all():
    before = PairsSeen(epoch="a", labelled=9, worse=2, slices={"carrier=AA": (4, 2, 0, 0)})
    after = PairsSeen(epoch="a", labelled=20, worse=5, slices={"carrier=AA": (9, 5, 0, 1), "carrier=UA": (2, 0, 1, 0)})
    rule = Rule(metric="accuracy", slices=("carrier=AA", "carrier=DL"))
    assert paired_evidence([rule], growth_of(before, after)) == {
        "accuracy": {"": Pairs(pairs=11, worse=3), "carrier=AA": Pairs(pairs=5, worse=3, both=1)}
    }
    assert paired_evidence([rule], growth_of(None, before))["accuracy"]["carrier=AA"] == Pairs(pairs=4, worse=2)
    fell = after.model_copy(update={"slices": {"carrier=AA": (3, 1, 0, 0)}})
    assert paired_evidence([rule], growth_of(before, fell)) == {"accuracy": {"": Pairs(pairs=11, worse=3)}}


@given(
    fates=st.lists(
        st.tuples(
            st.sampled_from(["pairs", "none", "anew", "lost", "ill", "unread"]),
            st.integers(1, 15),
            st.floats(0.0, 0.6),
        ),
        max_size=12,
    )
)
def test_over_any_history_no_weight_comes_before_pairs_and_time_and_nothing_is_copied_beside_a_weight(fates):
    rollout, world, now, copied = canary(deadline=150.0), World(), 0, 0
    for fate, seconds, failing in fates:
        world.of_pairs = {"failed": failing, "compared": 1.0 - failing}
        world.rate = 0 if fate == "none" else 40
        world.is_healthy = fate != "ill"
        if fate == "anew":
            world.epoch, world.owed = f"epoch {now}", {}
        for _ in range(seconds):
            now += 1
            seen = world.seen()
            if fate == "lost":
                seen = seen.model_copy(update={"mirrors": {}})  # its lease has ended
            if fate == "unread":
                seen = seen.model_copy(update={"problem": "no answer"})
            before, rollout = rollout, advance(rollout, RolloutSeen(plane=seen), float(now)).state
            if rollout.phase.is_final:
                break
            world.weights, world.mirrors = rollout.weights, rollout.mirrors
            world.serve()
            copied += before.mirrored > 0
            assert not (rollout.weight and rollout.mirrored)
            if rollout.weight > before.weight == 0:
                assert (rollout.pairs > 0, copied >= SECONDS) == (True, True)
    weights = [rollout.weight] if rollout.phase is RolloutPhase.PROGRESSING else [0, 100]
    assert rollout.weight in weights
    assert rollout.phase is RolloutPhase.PROGRESSING or rollout.mirrored == 0


@pytest.mark.parametrize("broken", [{"failed": 3}, {"labelled": 1, "worse": 1, "both_wrong": 1}, {"unequal": 1}])
def test_numbers_that_do_not_fit_together_are_no_evidence(broken):
    rules = [Rule(metric="error_rate"), Rule(metric="accuracy"), Rule(metric="agreement", kind="agreement", max=0.1)]
    rules.append(Rule(metric="latency_p99_ms", kind="latency"))
    found = paired_evidence(rules, PairsSeen(epoch="a", pairs=2).model_copy(update=broken))
    assert set(found) == ({"error_rate"} if "failed" not in broken else set())
    assert paired_evidence(rules, None) == {}


def test_the_more_often_it_is_looked_at_the_same_is_counted():
    totals = []
    for every in (1, 3):
        rollout, world = canary(), World(failed=0.01)
        for second in range(16):
            if second % every == 0:
                rollout = advance(rollout, RolloutSeen(plane=world.seen()), float(second)).state
            world.weights, world.mirrors = rollout.weights, {CANDIDATE.key: 50}
            world.serve()
        totals.append(rollout.pairs)
    assert all(one == other for one, other in pairwise(totals))
