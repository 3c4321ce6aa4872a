"""What a person may want of a rollout under way, and what becomes of the rollout then.

=======  ==================================  ==================================================================
order    refused where                       then
=======  ==================================  ==================================================================
any      it ended                            -
any but  its way back was asked for          -
abort
pause    it is paused, or is the way back    nothing goes forward until it is resumed; harm still rolls back
resume   it is not paused                    it goes on where it stood; its clocks stood still
promote  harm is proven, or asked for        its further steps are left out; a pause is over
         twice; it is a shadow, or a
         further step waits for people
approve  it waits for no approval, or this   counts; with the last one it goes on
         person gave one
abort    -                                   the way back, at the next look
=======  ==================================  ==================================================================
"""

from __future__ import annotations

from collections.abc import Callable

from interlock.delivery.advance import proven_harm
from interlock.delivery.holding import Approval, people_of
from interlock.delivery.rollout import Order, OrderName, Rollout
from interlock.errors import Refused
from interlock.vocabulary import Decision

ORDER = "order"
"""Where an event keeps what a person wanted."""


def obey(rollout: Rollout, order: Order) -> Decision[Rollout]:
    """The rollout as it is wanted, and who wants it why. Refused as the table says."""
    problem = _ended(rollout, order.name) or PROBLEMS[order.name](rollout)
    if (
        problem is None
        and order.name is OrderName.APPROVE
        and order.by in people_of(rollout.approvals, str(rollout.step))
    ):
        problem = f"{order.by} approved already: somebody else has to"
    if problem is not None:
        raise Refused(problem, f"rollout {rollout.number}", "look again with interlock status")
    because = order.because
    given = (*rollout.approvals, Approval(by=order.by, reason=order.reason, of=str(rollout.step)))
    changes: dict[OrderName, dict[str, Order | str | tuple[Approval, ...] | None]] = {
        OrderName.PAUSE: {"pause": order},
        OrderName.RESUME: {"pause": None},
        OrderName.PROMOTE: {"promotion": order, "pause": None},
        OrderName.ABORT: {"wish": because},
        OrderName.APPROVE: {"approvals": given},
    }
    return Decision(state=rollout.model_copy(update={**changes[order.name], "because": because}), because=because)


def _ended(rollout: Rollout, name: OrderName) -> str | None:
    if rollout.phase.is_final:
        return f"it has ended, {rollout.phase}: {rollout.because}"
    if rollout.wish is not None and name is not OrderName.ABORT:
        return f"it is {rollout.wish}"
    return None


def _no_pause(rollout: Rollout) -> str | None:
    if rollout.release is None:
        return "it is the way back, which nothing holds up"
    return f"it is {rollout.pause.because}" if rollout.pause is not None else None


def _no_resumption(rollout: Rollout) -> str | None:
    return "it is not paused" if rollout.pause is None else None


def _no_promotion(rollout: Rollout) -> str | None:
    if rollout.promotion is not None:
        return f"it is {rollout.promotion.because}"
    if rollout.is_shadow:
        return "its strategy is a shadow, which never gets traffic"
    for step in range(rollout.step, len(rollout.steps)):
        unapproved = rollout.unapproved(step)
        if unapproved is not None:
            return f"at step {step + 1} {unapproved}"
    harm = proven_harm(rollout)
    return f"harm is proven: {harm}" if harm is not None else None


def _no_approval(rollout: Rollout) -> str | None:
    waits = rollout.unapproved(rollout.step)
    return None if waits is not None else f"it waits for no approval: {rollout.because}"


PROBLEMS: dict[OrderName, Callable[[Rollout], str | None]] = {
    OrderName.PAUSE: _no_pause,
    OrderName.RESUME: _no_resumption,
    OrderName.PROMOTE: _no_promotion,
    OrderName.ABORT: lambda _: None,
    OrderName.APPROVE: _no_approval,
}
"""What keeps a rollout under way from an order; None where nothing does."""
