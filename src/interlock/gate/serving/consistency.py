"""Checks of a served model: the same row has the same answer alone, among others, and in another order."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from interlock.gate.judgement import Checked, GateResult
from interlock.pipeline.plan import CheckPlan
from interlock.vocabulary import Json, Verdict


class Compared(BaseModel):
    """Rows that were asked twice, the worst difference of their answers, and where it was."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    asked: Annotated[int, Field(gt=0)]
    worst: Annotated[float, Field(ge=0.0)]
    where: str


def judge_serving(checks: Sequence[CheckPlan], report: Json, model: str) -> Checked:
    """Every check of the served model. ``report`` is that of the probe ``served``; without golden rows that can be put
    together there is nothing to decide with.
    """
    results: list[GateResult] = []
    left_out: dict[str, str] = {}
    for check in checks:
        title = f"{check.name} of {model}"
        compared, because = _read(report, check.name)
        if compared is not None:
            results.append(_judge(check, compared, title))
        elif check.is_written:
            results.append(GateResult(gate=title, verdict=Verdict.UNDECIDED, because=because))
        else:
            left_out[title] = because
    return Checked(results=tuple(results), left_out=left_out)


def _judge(check: CheckPlan, compared: Compared, title: str) -> GateResult:
    most = check.limits["tolerance"]
    evidence: dict[str, Json] = {**compared.model_dump(), "tolerance": most}
    if compared.worst > most:
        because = f"one row, two answers: {compared.where}; they differ by {compared.worst:.3g}, above {most:g}"
        return GateResult(gate=title, verdict=Verdict.FAIL, because=because, evidence=evidence)
    because = f"{compared.asked} rows are answered alike, within {compared.worst:.2g} of at most {most:g}"
    return GateResult(gate=title, verdict=Verdict.PASS, because=because, evidence=evidence)


def _read(report: Json, name: str) -> tuple[Compared | None, str]:
    side = report.get("candidate") if isinstance(report, dict) else None
    found = side.get("consistency") if isinstance(side, dict) else None
    raw = found.get(name) if isinstance(found, dict) else None
    if raw is None:
        return None, "no golden rows could be asked together and alone"
    try:
        return Compared.model_validate_json(json.dumps(raw)), ""
    except ValidationError:
        return None, "what was measured of it is not of the agreed shape"
