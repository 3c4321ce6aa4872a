"""A run as the one comment on its pull request, in Markdown.

All text of others stands in code spans; every other character of the comment is ours.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

from interlock.feedback.status import Comment
from interlock.feedback.text import code
from interlock.feedback.wording import Told, tell_gate, tell_plan, tell_run
from interlock.gate.judgement import GateResult
from interlock.run.run import Run
from interlock.run.stage import Problem
from interlock.vocabulary import Json, Phase, Verdict

MOST_GATES = 50
MOST_PROBLEMS = 20
_ORDER = (Verdict.FAIL, Verdict.UNDECIDED, Verdict.PASS)


def comment(run: Run, url: str) -> Comment | None:
    """Verdict, plan, gates with their difference to production, problems, way out. None where the run belongs to no
    pull request, and until its plan is known.
    """
    plan = tell_plan(run)
    if run.pull_request is None or (plan is None and run.phase in (Phase.QUEUED, Phase.RUNNING)):
        return None
    told = tell_run(run)
    blocks = [f"### Interlock: {told.told}{f' ({code(run.plan.project)})' if run.plan.project else ''}"]
    if told.reason:
        blocks.append(code(told.reason, 1000))
    if plan is not None:
        blocks.append(f"**Plan:** {_tell(plan)}")
    blocks += [block for block in (_gates(run), _problems(run)) if block]
    if told.way_out:
        blocks.append(f"**Way out:** {told.way_out}")
    where = f"run {run.number}"
    blocks.append(f"{f'[{where}](<{url}>)' if url else where}, commit {code(run.commit.sha[:10])}")
    return Comment(pull_request=run.pull_request.number, mark=_mark(run.plan.project), body="\n\n".join(blocks))


def _mark(project: str) -> str:
    """One comment for each project of a repository; the project's name could end the mark, its digest cannot."""
    digest = f" {hashlib.sha256(project.encode()).hexdigest()[:16]}" if project else ""
    return f"<!-- interlock{digest} -->"


def _tell(told: Told) -> str:
    return f"{told.told}: {code(told.reason)}" if told.reason else told.told


def _gates(run: Run) -> str:
    results = sorted(run.judgement.results if run.judgement else (), key=lambda result: _ORDER.index(result.verdict))
    if not results:
        return ""
    lines = ["| verdict | gate | candidate | production | difference | because |", "|---|---|---|---|---|---|"]
    lines += [_gate_line(run, result) for result in results[:MOST_GATES]]
    return "\n".join([*lines, *_rest(len(results) - MOST_GATES, "| … | {} more gates | | | | |")])


def _gate_line(run: Run, result: GateResult) -> str:
    evidence = result.evidence
    way_out = tell_gate(run, result).way_out
    because = f"{code(result.because)}{f'; {way_out}' if way_out else ''}"
    numbers = [_number(evidence.get(side)) for side in ("candidate", "production")]
    cells = [f"**{result.verdict}**", code(result.gate, 120), *numbers, _difference(evidence), because]
    return f"| {' | '.join(cells)} |"


def _difference(evidence: dict[str, Json]) -> str:
    """The estimate with its one-sided bounds; a ratio where a ratio is judged."""
    estimate = _number(evidence.get("estimate"))
    if not estimate:
        return ""
    bounds = evidence.get("interval")
    told = [number for bound in bounds if (number := _number(bound))] if isinstance(bounds, list) else []
    between = f" ({told[0]} to {told[1]})" if len(told) == 2 else ""
    return f"{'ratio ' if evidence.keys() & {'max_ratio', 'min_ratio'} else ''}{estimate}{between}"


def _number(value: Json) -> str:
    """A finite number in four digits; nothing for anything else."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return f"{value:.4g}" if is_number else ""


def _problems(run: Run) -> str:
    found: list[tuple[str, Problem]] = [("", problem) for problem in run.problems]
    for name, stage_run in run.stages.items():
        found += [(f"{name}: ", problem) for problem in stage_run.problems if stage_run.phase is Phase.FAILED]
    wrong = [f"- {code(f'{where}{problem}')}" for where, problem in found if not problem.is_warning]
    if not wrong:
        return ""
    return "\n".join(["**Problems**", "", *wrong[:MOST_PROBLEMS], *_rest(len(wrong) - MOST_PROBLEMS, "- and {} more")])


def _rest(count: int, told: str) -> Sequence[str]:
    return [told.format(count)] if count > 0 else []
