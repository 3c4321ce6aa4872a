"""The end of the demo: what was pushed and what became of it, and what the clients saw meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from interlock.cli.demo.acts import Act
from interlock.cli.demo.service import Tally
from interlock.cli.demo.watch import Journey
from interlock.cli.output import Line, Style
from interlock.cli.show import format_seconds, table


@dataclass(frozen=True)
class Played:
    """One act as it went. ``differences`` is what did not come as it had to; seconds from push to end."""

    act: Act
    journey: Journey
    seconds: float
    differences: tuple[str, ...]


def pushes_table(played: Sequence[Played]) -> list[Line]:
    """One row for each push."""
    rows: list[tuple[Sequence[str], Style]] = [(("act", "push", "run", "delivery", "time", "as it had to be"), "title")]
    for each in played:
        journey = each.journey
        ran = sum(1 for stage in journey.run.stages.values() if stage.attempt)
        run = f"{journey.run.phase}, {ran} of {len(journey.run.stages)} stages ran"
        verdict = "yes" if not each.differences else f"NO: {'; '.join(each.differences)}"
        cells = (each.act.number, each.act.title, run, _delivery(journey), format_seconds(each.seconds), verdict)
        rows.append((cells, "good" if not each.differences else "bad"))
    return table(rows)


def unexpected_failures(
    failures: Sequence[dict[str, object]], bad_revisions: frozenset[str]
) -> list[dict[str, object]]:
    """The failed requests that no bad revision itself answered."""
    return [failure for failure in failures if failure["revision"] not in bad_revisions]


def traffic_lines(
    tally: Tally, failures: Sequence[dict[str, object]], titles: dict[str, str], bad_revisions: frozenset[str]
) -> list[Line]:
    """Requests by revision, and why those failed that did. ``titles`` names revisions for people."""
    served, failed = sum(tally["served"].values()), sum(tally["failed"].values())
    speed = f"median {tally['latency_p50_ms']:.0f} ms, p99 {tally['latency_p99_ms']:.0f} ms"
    lines = [
        Line(f"requests  {served} served, {failed} failed; {speed}"),
        Line(f"labels    {tally['labels']} stored late, {tally['labels_failed']} refused"),
    ]
    for revision in sorted(tally["served"].keys() | tally["failed"].keys()):
        counts = f"{tally['served'].get(revision, 0)} served, {tally['failed'].get(revision, 0)} failed"
        lines.append(Line(f"  {titles.get(revision, revision) or 'no revision'}: {counts}"))
    reasons: dict[tuple[str, object], list[str]] = {}
    for failure in failures:
        reasons.setdefault((str(failure["revision"]), failure["status"]), []).append(str(failure["reason"]))
    for (revision, status), told in reasons.items():
        example = told[0] if len(set(told)) == 1 else f"{told[0]} (and {len(set(told)) - 1} alike)"
        about = f"  {len(told)} x {status or 'no answer'} by {titles.get(revision, revision) or 'nobody'}: {example}"
        lines.append(Line(about, "dim" if revision in bad_revisions else "bad"))
    return lines


def _delivery(journey: Journey) -> str:
    if journey.release is None:
        return "nothing"
    rollouts = [f"{rollout.environment.rpartition('/')[2]} {rollout.phase}" for rollout in journey.rollouts]
    return ", ".join(rollouts) or str(journey.release.phase)
