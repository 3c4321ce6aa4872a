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
         twice; it is a shadow
abort    -                                   the way back, at the next look
=======  ==================================  ==================================================================
"""

from __future__ import annotations

from collections.abc import Callable

from interlock.delivery.advance import proven_harm
from interlock.delivery.rollout import Order, OrderName, Rollout
from interlock.errors import Refused
from interlock.vocabulary import Decision

ORDER = "order"
"""Where an event keeps what a person wanted."""


def obey(rollout: Rollout, order: Order) -> Decision[Rollout]:
    """The rollout as it is wanted, and who wants it why. Refused as the table says."""
    problem = _ended(rollout, order.name) or PROBLEMS[order.name](rollout)
    if problem is not None:
        raise Refused(problem, f"rollout {rollout.number}", "look again with interlock status")
    because = order.because
    changes: dict[OrderName, dict[str, Order | str | None]] = {
        OrderName.PAUSE: {"pause": order},
        OrderName.RESUME: {"pause": None},
        OrderName.PROMOTE: {"promotion": order, "pause": None},
        OrderName.ABORT: {"wish": because},
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
    harm = proven_harm(rollout)
    return f"harm is proven: {harm}" if harm is not None else None


PROBLEMS: dict[OrderName, Callable[[Rollout], str | None]] = {
    OrderName.PAUSE: _no_pause,
    OrderName.RESUME: _no_resumption,
    OrderName.PROMOTE: _no_promotion,
    OrderName.ABORT: lambda _: None,
}
"""What keeps a rollout under way from an order; None where nothing does."""
