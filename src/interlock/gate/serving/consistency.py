"""Checks of a served model: it is not given its label, but the columns that live slices name, and the same row has the
same answer alone, among others, in another order, and as it was predicted offline.
"""

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


def judge_serving(
    checks: Sequence[CheckPlan], report: Json, model: str, labels: Sequence[str] = (), sliced: Sequence[str] = ()
) -> Checked:
    """Every check of the served model. ``report`` is that of the probe ``served``; without golden rows that can be put
    together there is nothing to decide with. ``labels`` are those of the datasets, ``sliced`` the columns by which live
    metrics are to be sliced: that they are inputs is checked wherever there are some.
    """
    side = report.get("candidate") if isinstance(report, dict) else None
    served = side if isinstance(side, dict) else {}
    results: list[GateResult] = []
    left_out: dict[str, str] = {}
    for check in checks:
        title = title_of(check.name, model)
        if check.name == "target":
            found, because = _judge_target(check, served.get("inputs"), labels, title)
        else:
            found, because = _judge_consistency(check, served.get("consistency"), title)
        if found is not None:
            results.append(found)
        elif check.is_written:
            results.append(GateResult(gate=title, verdict=Verdict.UNDECIDED, because=because))
        else:
            left_out[title] = because
    if sliced and (unsliced := _judge_slices(sliced, served.get("inputs"), title_of("slices", model))) is not None:
        results.append(unsliced)
    return Checked(results=tuple(results), left_out=left_out)


def is_served_as_predicted(checked: Checked | None, model: str) -> bool:
    """Whether it was shown that the model's server answers rows of the holdout as they were predicted."""
    title = title_of("offline", model)
    return any(
        result.gate == title and result.verdict is Verdict.PASS for result in (checked.results if checked else ())
    )


def title_of(check: str, model: str) -> str:
    """The check in a few words, unique within a plan."""
    return f"{check} of {model}"


def _judge_target(check: CheckPlan, inputs: Json, labels: Sequence[str], title: str) -> tuple[GateResult | None, str]:
    if not isinstance(inputs, list) or not inputs or not labels:
        return None, "no golden rows name the inputs" if labels else "no dataset names a label"
    given = [label for label in labels if label in inputs and label not in check.ignore]
    evidence: dict[str, Json] = {"inputs": inputs, "labels": [*labels]}
    if given:
        because = f"the label {given[0]} is an input of the golden requests: it will not be known when serving"
        return GateResult(gate=title, verdict=Verdict.FAIL, because=because, evidence=evidence), ""
    because = f"{', '.join(labels)} is none of {len(inputs)} inputs"
    return GateResult(gate=title, verdict=Verdict.PASS, because=because, evidence=evidence), ""


def _judge_slices(sliced: Sequence[str], inputs: Json, title: str) -> GateResult | None:
    if not isinstance(inputs, list) or not inputs:
        return None
    evidence: dict[str, Json] = {"inputs": inputs, "sliced": [*sliced]}
    unknown = [column for column in sliced if column not in inputs]
    if unknown:
        known = ", ".join(map(str, inputs[:20]))
        because = f"no golden request has an input {unknown[0]} to slice live answers by; write one of these: {known}"
        return GateResult(gate=title, verdict=Verdict.FAIL, because=because, evidence=evidence)
    because = f"{', '.join(sliced)} {'are inputs' if len(sliced) > 1 else 'is an input'} of the golden requests"
    return GateResult(gate=title, verdict=Verdict.PASS, because=because, evidence=evidence)


def _judge_consistency(check: CheckPlan, found: Json, title: str) -> tuple[GateResult | None, str]:
    compared, unread = _read(found, check.name)
    if compared is None:
        return None, unread
    most = check.limits["tolerance"]
    evidence: dict[str, Json] = {**compared.model_dump(), "tolerance": most}
    verdict = Verdict.PASS if compared.worst <= most else Verdict.FAIL
    because = f"{compared.asked} rows are answered alike, within {compared.worst:.2g} of at most {most:g}"
    if verdict is Verdict.FAIL:
        because = f"one row, two answers: {compared.where}; they differ by {compared.worst:.3g}, above {most:g}"
    return GateResult(gate=title, verdict=verdict, because=because, evidence=evidence), ""


def _read(found: Json, name: str) -> tuple[Compared | None, str]:
    raw = found.get(name) if isinstance(found, dict) else None
    if raw is None:
        is_offline = name == "offline"
        return None, "no predictions of a holdout" if is_offline else "no golden rows could be asked together and alone"
    if isinstance(raw, dict) and isinstance(because := raw.get("because"), str):
        return None, because
    try:
        return Compared.model_validate_json(json.dumps(raw)), ""
    except ValidationError:
        return None, "what was measured of it is not of the agreed shape"
