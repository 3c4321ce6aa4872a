"""A report: what is still to be told, when it is tried again, and when it is not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.feedback.report import (
    Item,
    Outcome,
    Report,
    ReportPhase,
    advance,
    back_off,
    desired,
    differences,
    due,
    name_of,
    next_due,
    want,
)
from interlock.feedback.status import Comment, Status

PENDING = Status(context="interlock", state="pending", description="runs")
SUCCESS = Status(context="interlock", state="success", description="passed")
PLAN = Status(context="interlock/plan", state="success", description="1 of 5 stages run")
REMARK = Comment(pull_request=7, body="passed")
NOW = 1_000_000.0


def a_report(*items: Item) -> Report:
    report = Report(run=12, repository="flights", sha="a" * 40)
    return wants(report, *items)


def wants(report: Report, *items: Item) -> Report:
    statuses = [item for item in items if isinstance(item, Status)]
    comments = [item for item in items if isinstance(item, Comment)]
    return want(report, statuses, comments[0] if comments else None)


def after(report: Report, now: float = NOW, jitter: float = 1.0, **outcome: object) -> Report:
    return advance(report, Outcome.model_validate(outcome), now, jitter).state


def test_everything_wanted_is_told_once_statuses_before_the_comment() -> None:
    report = a_report(PENDING, PLAN, REMARK)
    assert report.key == "12"
    assert list(desired(report)) == ["interlock", "interlock/plan", "comment"]
    assert differences(report) == due(report, NOW) == (PENDING, PLAN, REMARK)
    assert report.phase is ReportPhase.TELLING
    report = after(report, told=(PENDING, REMARK))
    assert differences(report) == (PLAN,)
    report = after(report, told=(PLAN,))
    assert differences(report) == ()
    assert report.phase is ReportPhase.TOLD
    assert next_due(report) == float("inf")


def test_nothing_is_told_again_unless_it_changed() -> None:
    report = after(a_report(PENDING, PLAN), told=(PENDING, PLAN))
    assert differences(wants(report, PENDING, PLAN)) == ()
    assert differences(wants(report, SUCCESS, PLAN)) == (SUCCESS,)
    assert differences(wants(report, PLAN)) == ()


def test_only_the_newest_state_is_told_and_never_the_older_one_after_it() -> None:
    report = wants(a_report(PENDING), SUCCESS)
    assert due(report, NOW) == (SUCCESS,)
    late = after(report, told=(PENDING,))
    assert due(late, NOW) == (SUCCESS,)
    assert differences(after(late, told=(SUCCESS,))) == ()


def test_an_acknowledgement_that_comes_late_counts_only_for_what_is_wanted_still() -> None:
    newer = wants(a_report(PENDING, PLAN), SUCCESS, PLAN)
    late = after(newer, told=(PENDING, PLAN))
    assert differences(late) == (SUCCESS,)
    assert differences(wants(late, PENDING, PLAN)) == (PENDING,)
    refused = after(newer, refused=((PENDING, "422"),))
    assert due(refused, NOW) == (SUCCESS, PLAN)


def test_what_changed_and_changed_back_is_told_again_for_the_forge_may_show_the_change() -> None:
    report = after(a_report(PENDING), told=(PENDING,))
    assert differences(wants(wants(report, SUCCESS), PENDING)) == (PENDING,)


def test_a_fault_lets_everything_left_wait() -> None:
    decision = advance(a_report(PENDING, PLAN), Outcome(told=(PENDING,), fault="502"), NOW, 1.0)
    report = decision.state
    assert decision.because == "told interlock; tried again in 1 s: 502"
    assert due(report, NOW + 0.9) == ()
    assert due(report, NOW + 1.0) == (PLAN,)
    assert next_due(report) == NOW + 1.0
    assert report.phase is ReportPhase.TELLING


def test_faults_in_a_row_wait_longer_and_an_answer_begins_anew() -> None:
    report = a_report(PENDING, PLAN)
    waits = []
    for _ in range(13):
        report = after(report, fault="502")
        waits.append(report.next_try - NOW)
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600, 600]
    assert after(report, told=(PENDING,), fault="502").next_try == NOW + 1
    answered = after(report, told=(PENDING,))
    assert (answered.tries, answered.next_try) == (0, 0.0)
    nothing = advance(answered, Outcome(), NOW, 0.0)
    assert nothing.state == answered
    assert nothing.because == "nothing is to be told"


def test_what_the_forge_asks_for_is_waited_at_least() -> None:
    assert after(a_report(PENDING), fault="429", retry_after=77.0).next_try == NOW + 77
    assert after(a_report(PENDING), fault="429", retry_after=0.1).next_try == NOW + 1
    assert after(a_report(PENDING), fault="429", retry_after=1e9).next_try == NOW + 3600


def test_a_refused_item_is_held_an_hour_and_the_others_are_told() -> None:
    refused = ((PENDING, "404 (check the project's name)"),)
    decision = advance(a_report(PENDING, PLAN), Outcome(told=(PLAN,), refused=refused), NOW, 0.5)
    report = decision.state
    assert decision.because == "told interlock/plan; interlock is refused: 404 (check the project's name)"
    assert report.phase is ReportPhase.HELD
    assert report.refused["interlock"].because == "404 (check the project's name)"
    assert due(report, NOW + 3599) == ()
    assert next_due(report) == NOW + 3600
    assert due(report, NOW + 3600) == (PENDING,)
    assert report.tries == 0


def test_a_refused_item_is_tried_at_once_when_it_changes() -> None:
    report = wants(after(a_report(PENDING), refused=((PENDING, "422"),)), SUCCESS)
    assert report.phase is ReportPhase.TELLING
    assert due(report, NOW) == (SUCCESS,)
    assert next_due(report) == 0.0
    told = after(report, told=(SUCCESS,))
    assert told.phase is ReportPhase.TOLD
    assert told.refused == {}


def test_a_report_with_items_both_refused_and_open_goes_on_telling() -> None:
    report = wants(after(a_report(PENDING), refused=((PENDING, "422"),)), PENDING, PLAN)
    assert report.phase is ReportPhase.TELLING
    assert due(report, NOW) == (PLAN,)


def test_a_report_is_read_back_as_it_was_stored() -> None:
    report = after(a_report(PENDING, REMARK), told=(REMARK,), refused=((PENDING, "403"),), fault="502")
    again = Report.model_validate(report.model_dump(mode="json"))
    assert again == report
    assert due(again, NOW + 10_000) == (PENDING,)


@given(st.integers(1, 10_000), st.floats(0, 1), st.one_of(st.none(), st.floats(0, 1e6)))
def test_a_wait_is_at_least_half_a_second_and_at_most_an_hour(tries: int, jitter: float, asked: float | None) -> None:
    wait = back_off(tries, jitter, asked)
    assert 0.5 <= wait <= 3600
    assert wait >= min(asked or 0, 3600)
    if asked is None:
        assert wait <= 600
        assert back_off(tries, 0.0) <= wait <= back_off(tries, 1.0)


STATES = st.sampled_from(["pending", "success", "failure", "error"])
WANTED = st.dictionaries(st.sampled_from("abc"), STATES, max_size=3)


@given(st.lists(st.tuples(WANTED, st.sampled_from(["told", "some", "fault", "refused", "lost"])), max_size=12))
def test_a_forge_that_answers_in_the_end_shows_the_last_state_of_all(story: list[tuple[dict[str, str], str]]) -> None:
    """Whatever happens on the way, and though acknowledgements are lost as in a crash."""
    shown: dict[str, str] = {}
    wanted: dict[str, str] = {}
    report, now = a_report(), NOW
    for wanted, what in [*story, (story[-1][0] if story else {}, "told")]:
        now += 4000
        items = [Status.model_validate({"context": name, "state": wanted[name], "description": ""}) for name in wanted]
        report = wants(report, *items)
        sent = due(report, now)
        taken = sent[:1] if what == "some" else () if what in ("fault", "refused") else sent
        shown |= {item.context: item.state for item in taken if isinstance(item, Status)}
        if what == "lost":
            continue
        outcome = Outcome(
            told=taken,
            refused=tuple((item, "403") for item in sent) if what == "refused" else (),
            fault=None if what in ("told", "refused") else "502",
        )
        report = advance(report, outcome, now, 0.5).state
    assert shown.items() >= wanted.items()
    assert differences(report) == ()


@pytest.mark.parametrize(("item", "name"), [(PENDING, "interlock"), (REMARK, "comment")])
def test_items_have_names(item: Item, name: str) -> None:
    assert name_of(item) == name
