"""Who has asked a holdout: every commit that was judged on it is remembered, by the holdout's digest and the metric."""

from __future__ import annotations

import json
from collections.abc import Sequence

from interlock.gate.reuse.counting import Asked, new_uses
from interlock.gate.reuse.ledger import Use
from interlock.pipeline.resolve import holdout_of
from interlock.ports import Blobs, Store
from interlock.run.run import Run, RunSeen
from interlock.vocabulary import Fact, Json

SPACE = "holdout use"
MOST_USES = 1_000_000
"""The most uses that are counted: as many as a budget may have."""


def see_asked(store: Store, blobs: Blobs, run: Run) -> Asked | None:
    """The holdout of the run and its uses; None where it has none that was read."""
    digest = digest_of_holdout(blobs, run)
    if not digest:
        return None
    keys = {gate.metric: _key(digest, gate.metric) for gate in run.plan.gates}
    found = store.recall_each(SPACE, list(keys.values()), MOST_USES)
    uses = {
        metric: tuple(Use.model_validate(fact) for fact in reversed(found[key]))
        for metric, key in keys.items()
        if key in found
    }
    return Asked(holdout=digest, commit=run.commit.sha, uses=uses, is_counted=run.may_deliver)


def facts_of_uses(before: Run, after: Run, seen: Sequence[RunSeen]) -> list[Fact]:
    """To be remembered with the judgement of a run."""
    asked = next((one.asked for one in reversed(seen) if one.asked is not None), None)
    if asked is None or before.judgement is not None or after.judgement is None:
        return []
    uses = new_uses(after.plan.gates, after.judgement, asked)
    return [Fact(SPACE, _key(asked.holdout, metric), use.model_dump(mode="json")) for metric, use in uses.items()]


def _key(digest: str, metric: str) -> str:
    return f"{digest} {metric}"


def digest_of_holdout(blobs: Blobs, run: Run) -> str:
    """That of the rows, as the data probe read them: wherever they live, the same rows are the same test set.

    Empty where the run has no holdout, or what was read of it is not kept.
    """
    holdout, measured = holdout_of(run.plan.data), run.stages.get("data")
    if holdout is None or measured is None or measured.report is None or not blobs.has(measured.report):
        return ""
    report: Json = json.loads(blobs.read(measured.report))
    found = report.get(holdout.name) if isinstance(report, dict) else None
    digest = found.get("digest") if isinstance(found, dict) else None
    return digest if isinstance(digest, str) else ""
