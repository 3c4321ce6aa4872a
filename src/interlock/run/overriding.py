"""A run that its gates stopped goes on by a person's word: past the gates that are named, and past no other.

==========================================  =======================================================================
seen                                        then
==========================================  =======================================================================
the same was asked before                   nothing
no reason                                   refused
the run has not ended                       a conflict
nothing of the run may ever be delivered    a conflict
no gate stopped it                          a conflict
a gate that was not judged                  not found, with the nearest
a gate that passed                          a conflict
another gate did not pass either            a conflict that names it
every stage is done                         the run goes on: it is sealed, registered and released
some were left out because of the gates     those are executed first, and then all gates are judged
==========================================  =======================================================================
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from interlock.errors import Conflict, NotFound, Refused
from interlock.gate.judgement import GateResult, Judgement, Override
from interlock.run.run import Run, StageRun
from interlock.vocabulary import Decision, Phase, Verdict


def override(run: Run, gates: Sequence[str], reason: str, who: str) -> Decision[Run]:
    """The run, past these gates (the table above). A gate is named by its title, or by a first word that only one has.

    Its verdict stays what it is: ``reason`` and ``who`` are kept beside it, also in the version that comes of it.
    """
    where = f"run {run.number}"
    if not reason.strip():
        raise Refused("an override needs a reason", where, "say why the gate is wrong here: it is kept and shown")
    titles = dict.fromkeys(_title(run.judgement, gate) for gate in gates)
    wanted = [Override(gate=title, by=who, reason=reason) for title in titles]
    if wanted and all(one in run.overrides for one in wanted):
        return Decision(state=run, because=run.because)
    if not run.phase.is_final:
        raise Conflict(f"it is still {run.phase}", where, "wait until it ends")
    _require_deliverable(run, where)
    if run.judgement is None or run.phase not in (Phase.FAILED, Phase.HELD):
        raise Conflict(f"no gate stopped it: it is {run.phase}, {run.because}", where, "there is nothing to override")
    for one in wanted:
        _require_stopped(run.judgement, one.gate, where)
    overrides = (*run.overrides, *(one for one in wanted if one not in run.overrides))
    judgement = run.judgement.model_copy(update={"overrides": overrides})
    left = [result.gate for result in judgement.objections]
    if left:
        others = f"{', '.join(left)} did not pass either"
        raise Conflict(others, where, "override each of them with its reason, or mend what they found and push")
    is_done = all(stage_run.phase is Phase.SUCCEEDED for stage_run in run.stages.values())
    because = "; ".join(f"{one.gate} {one}" for one in wanted)
    state = run.model_copy(
        update={
            "phase": Phase.RUNNING,
            "because": because,
            "overrides": overrides,
            "judgement": judgement if is_done else None,
            "stages": {name: _queued_again(stage_run, because) for name, stage_run in run.stages.items()},
        }
    )
    return Decision(state=state, because=because)


def _title(judgement: Judgement | None, name: str) -> str:
    """The title of the gate that is meant; what is none stays as it is."""
    titles = dict.fromkeys(result.gate for result in judgement.results) if judgement else {}
    meant = [title for title in titles if title.partition(" ")[0] == name]
    return meant[0] if name not in titles and len(meant) == 1 else name


def _require_deliverable(run: Run, where: str) -> None:
    if run.plan.model is None:
        raise Conflict("it makes no model that could be released", where, "there is nothing to override")
    if not run.may_deliver or run.occasion.kind == "local":
        remedy = "override a run of a branch that may deliver"
        raise Conflict("nothing of it may be released, whatever its gates say", where, remedy)


def _require_stopped(judgement: Judgement, gate: str, where: str) -> None:
    found: list[GateResult] = [result for result in judgement.results if result.gate == gate]
    if not found:
        stopping = [result.gate for result in judgement.objections]
        near = difflib.get_close_matches(gate, stopping, n=1)
        remedy = f"did you mean {near[0]!r}?" if near else f"what stopped it: {', '.join(stopping)}"
        raise NotFound(f"no gate {gate!r} was judged", where, remedy)
    if all(result.verdict is Verdict.PASS for result in found):
        raise Conflict(f"the gate {gate} passed", where, "leave it out: there is nothing to override")


def _queued_again(stage_run: StageRun, because: str) -> StageRun:
    """A stage that was left out or ended early, to be executed after all."""
    if stage_run.phase is Phase.SUCCEEDED:
        return stage_run
    return stage_run.model_copy(update={"phase": Phase.QUEUED, "because": because, "not_before": None})
