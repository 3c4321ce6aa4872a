"""Reverts: which rollbacks ask for one, what can be taken back at all, what follows each try, and what is said."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.revisions import revision

from interlock.delivery.rollout import Rollout, RolloutPhase, begin
from interlock.feedback import revert as reverts
from interlock.feedback.revert import Origin, Outcome, Revert, RevertPhase, Sides, advance, proposal, sides_of
from interlock.pipeline.plan import EnvironmentPlan
from interlock.source.selection import is_wanted
from interlock.source.triggers import PullRequestPlan, Triggers

FIRST, SECOND = revision(1), revision(2)
GOOD = Origin(title="flights v1", repository="flights", ref="refs/heads/main", commit="a" * 40)
BAD = Origin(title="flights v2", repository="flights", ref="refs/heads/main", commit="b" * 40)
HARM = "stable 0 errors in 90 requests, candidate 5 errors in 10: proven worse than tolerated"
NOW = 1000.0


def a_rollout(phase: RolloutPhase, release: int | None = 7, harm: str = HARM, **more: object) -> Rollout:
    plan = EnvironmentPlan(name="production")
    begun = begin(4, SECOND, FIRST, plan, release=release, now=0.0)
    return begun.model_copy(update={"phase": phase, "harm": harm, **more})


def a_revert(bad: Origin = BAD, good: Origin | None = GOOD, **more: object) -> Revert:
    begun = reverts.begin(a_rollout(RolloutPhase.ROLLED_BACK), bad, good, "main", 900.0)
    return begun.model_copy(update=more)


WAYS = [
    (RolloutPhase.ROLLED_BACK, 7, HARM, Sides(SECOND, FIRST)),
    (RolloutPhase.ROLLED_BACK, 7, "", None),  # a person, a deadline, a quarantine
    (RolloutPhase.PROGRESSING, 7, HARM, None),
    (RolloutPhase.SUPERSEDED, 7, HARM, None),
    (RolloutPhase.PROGRESSING, None, HARM, None),  # on the way back, which is not yet there
    (RolloutPhase.PROMOTED, None, HARM, Sides(FIRST, SECOND)),
    (RolloutPhase.PROMOTED, None, "", None),  # a person's way back
    (RolloutPhase.ROLLED_BACK, None, HARM, None),  # the way back was no better
    (RolloutPhase.PROMOTED, 7, HARM, None),
]


@pytest.mark.parametrize(("phase", "release", "harm", "expected"), WAYS)
def test_only_what_was_found_to_do_harm_and_has_left_is_taken_back(
    phase: RolloutPhase, release: int | None, harm: str, expected: Sides | None
) -> None:
    assert sides_of(a_rollout(phase, release, harm)) == expected


def test_a_first_revision_that_does_harm_has_no_other_side() -> None:
    assert sides_of(a_rollout(RolloutPhase.ROLLED_BACK, stable=None)) == Sides(SECOND, None)
    assert sides_of(a_rollout(RolloutPhase.PROMOTED, None, stable=None)) is None


LOST = [
    (None, "nothing served in flights/production before flights v2 (bbbbbbbbbb)"),
    (GOOD.model_copy(update={"commit": BAD.commit}), "of one commit: what differs between them is not in the repo"),
    (GOOD.model_copy(update={"repository": "other"}), "flights v1 (aaaaaaaaaa) is of another repository or folder"),
    (GOOD.model_copy(update={"project": "models/a"}), "flights v1 (aaaaaaaaaa) is of another repository or folder"),
]


@pytest.mark.parametrize(("good", "because"), LOST)
def test_what_no_commit_can_take_back_is_dropped_with_the_reason(good: Origin | None, because: str) -> None:
    revert = a_revert(good=good)
    assert revert.phase is RevertPhase.DROPPED
    assert because in revert.because


def test_it_goes_into_the_branch_that_it_came_from_and_that_of_a_tag_into_the_default_branch() -> None:
    revert = a_revert()
    assert (revert.phase, revert.key, revert.base) == (RevertPhase.PENDING, "4", "main")
    assert revert.branch == "interlock/revert-rollout-4-bbbbbbbbbb"
    assert a_revert(BAD.model_copy(update={"ref": "refs/heads/release/2"})).base == "release/2"
    assert a_revert(BAD.model_copy(update={"ref": "refs/tags/v2"})).base == "main"


def after(revert: Revert, **outcome: object) -> Revert:
    decision = advance(revert, Outcome.model_validate(outcome), NOW, 1.0)
    assert decision.because == decision.state.because
    return decision.state


def test_a_commit_is_remembered_then_pushed_then_proposed() -> None:
    revert = after(a_revert(), made="c" * 40)
    assert (revert.commits, revert.phase, revert.is_pushed) == (("c" * 40,), RevertPhase.PENDING, False)
    revert = after(revert, made="d" * 40)
    assert revert.commits == ("c" * 40, "d" * 40)
    revert = after(revert, is_pushed=True, has_forge=True)
    assert (revert.phase, revert.is_pushed, revert.is_over) == (RevertPhase.PENDING, True, False)
    revert = after(revert, pull_request=12)
    assert (revert.phase, revert.pull_request, revert.is_over) == (RevertPhase.PROPOSED, 12, True)
    assert revert.because == "proposed as pull request 12, from interlock/revert-rollout-4-bbbbbbbbbb into main"


def test_without_a_forge_the_branch_is_the_proposal() -> None:
    revert = after(a_revert(), is_pushed=True)
    assert revert.phase is RevertPhase.PROPOSED
    assert revert.because == "pushed as interlock/revert-rollout-4-bbbbbbbbbb, to go into main"


def test_what_cannot_be_taken_back_ends_it() -> None:
    revert = after(a_revert(), dropped="later commits changed the same lines: train.py")
    assert revert.phase is RevertPhase.DROPPED
    assert revert.because == "nothing is taken back: later commits changed the same lines: train.py"


def test_faults_in_a_row_wait_longer_and_a_branch_that_came_through_begins_anew() -> None:
    revert, waits = a_revert(), []
    for _ in range(12):
        revert = after(revert, fault="nobody there")
        waits.append(revert.next_try - NOW)
    assert waits[:4] == [1.0, 2.0, 4.0, 8.0]
    assert waits[-1] == 600.0
    assert revert.phase is RevertPhase.PENDING
    assert after(revert, fault="limited", retry_after=900.0).next_try == NOW + 900.0
    pushed = after(revert, is_pushed=True, has_forge=True)
    assert (pushed.tries, pushed.next_try) == (0, 0.0)


def test_what_the_forge_refuses_is_tried_again_after_an_hour() -> None:
    revert = after(a_revert(is_pushed=True), refused="no rights")
    assert (revert.phase, revert.next_try) == (RevertPhase.PENDING, NOW + 3600.0)
    assert "no rights" in revert.because


# --- what is said ---


def test_the_proposal_says_what_was_rolled_back_why_and_what_it_takes_back() -> None:
    said = proposal(
        a_revert(BAD.model_copy(update={"project": "models/a"}), GOOD.model_copy(update={"project": "models/a"}))
    )
    assert said.title == "Revert flights v2: it was rolled back in flights/production"
    assert (said.branch, said.base) == ("interlock/revert-rollout-4-bbbbbbbbbb", "main")
    assert said.body.split("\n\n") == [
        "Interlock rolled flights v2 back in flights/production, where flights v1 serves again.",
        f"Found: `{HARM}`",
        (
            "This takes back what came from flights v1 (aaaaaaaaaa) to flights v2 (bbbbbbbbbb) below `models/a`: "
            "`git log aaaaaaaaaa..bbbbbbbbbb -- models/a`."
        ),
        "Why, decided again from what was seen: `interlock explain rollout/4`.",
    ]
    assert "-- " not in proposal(a_revert()).body


EVIL = (
    "oh @ada: closes #12, fixes acme/flights#3, GH-4, ABC-5, resolves https://github.com/acme/x/issues/6 [skip ci] !7"
)


def test_words_of_a_crash_mention_close_and_skip_nothing() -> None:
    """What forges read in a commit's message whatever marks stand around it."""
    body = proposal(a_revert(harm=f"{EVIL}\r\n\nSigned-off-by: root `id` | <b>\x1b[31m\u202e")).body
    for meant in ("@", "#", "://", "GH-4", "ABC-5", "[", "!", "\x1b", "\u202e", "\r", "\nSigned"):
        assert meant not in body
    assert "closes" in body
    assert "a 1e-6, b -0.03 and v-1" in proposal(a_revert(harm="a 1e-6, b -0.03 and v-1")).body


@given(st.text(max_size=300), st.text(max_size=40))
def test_whatever_was_found_stays_within_its_code_span(harm: str, folder: str) -> None:
    sides = [side.model_copy(update={"project": folder}) for side in (BAD, GOOD)]
    said = proposal(a_revert(*sides, harm=harm))
    blocks = said.body.split("\n\n")
    assert len(blocks) == 4
    assert all(block.count("`") % 2 == 0 for block in blocks)
    outside = re.sub("`[^`]*`", "", said.body)
    assert not set("@#<>[]!") & set(outside)
    assert said.body.replace("\n", "").isprintable()


# --- no loop ---


def test_a_branch_of_reverts_begins_no_run_but_its_pull_request_does() -> None:
    triggers = Triggers(branches=("**",), pull_request=PullRequestPlan())
    pushed = is_wanted(triggers, "push", f"refs/heads/{a_revert().branch}", None)
    assert not pushed
    assert "a proposal of Interlock's own" in pushed.because
    assert is_wanted(triggers, "pull_request", "main", ("train.py",))
    assert is_wanted(triggers, "push", "refs/heads/interlock/other", None)
