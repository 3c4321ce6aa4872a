"""The command that plays a canary before anyone trusts it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from interlock.cli.output import ExitCode, Line
from interlock.cli.session import Session, with_session
from interlock.errors import Refused

if TYPE_CHECKING:
    from interlock.cli.simulating.traffic import Traffic

DEFAULT_RATE = 0.005


@click.command()
@click.argument("file", type=click.Path(path_type=Path), default="interlock.yaml", required=False)
@click.option("--requests", type=click.FloatRange(min=0, min_open=True), help="A minute, to both sides.")
@click.option("--recorded", type=click.Path(path_type=Path), help="A prediction log, or a folder of them, instead.")
@click.option("--environment", default="production", show_default=True, help="Whose canary.")
@click.option(
    "--errors",
    type=click.FloatRange(0, 100, min_open=True, max_open=True),
    help="Of stable, %: 0.5, or as recorded.",
)
@click.option("--worse", type=click.FloatRange(min=1), default=5.0, help="Times the errors of a bad candidate.")
@click.option("--runs", type=click.IntRange(min=1), default=200, help="Rollouts that are played.")
@click.option("--seed", type=int, default=1, help="The same seed plays the same.")
@with_session
def simulate(
    session: Session,
    file: Path,
    requests: float | None,
    recorded: Path | None,
    environment: str,
    errors: float | None,
    worse: float,
    runs: int,
    seed: int,
) -> int:
    """The odds of the canary in a pipeline FILE: false rollbacks, detection, the smallest regression it can show."""
    from interlock.cli.simulating.playing import odds_line, play, slices_lines, visible_lines
    from interlock.pipeline.resolve import read_pipeline, strategy_of

    path = file / "interlock.yaml" if file.is_dir() else file
    if not path.is_file():
        raise Refused("there is no such file", str(path), "`interlock init` writes one from what it finds")
    deploy = read_pipeline(path.read_bytes(), str(path)).spec.deploy
    if environment not in deploy:
        raise Refused(f"there is no environment {environment!r}", str(path), f"it has {', '.join(deploy) or 'none'}")
    strategy = strategy_of(deploy[environment])
    if strategy.kind == "rolling":
        raise Refused(f"{environment} has no canary", str(path), "give it `strategy: {canary: ...}`")
    traffic = _traffic(requests, recorded, errors)
    with session.output.progress("playing"):
        good, bad = play(strategy, traffic, 1.0, runs, seed), play(strategy, traffic, worse, runs, seed + 1)
    session.output.say(
        Line(f"{environment}: {runs} rollouts each, {_told(traffic)}", "title"),
        odds_line("a candidate like stable", good),
        odds_line(f"errors x{worse:g}", bad),
        *visible_lines(strategy, traffic),
        *slices_lines(strategy),
    )
    session.output.answer({"like_stable": good._asdict(), "worse": bad._asdict()})
    return ExitCode.SUCCESS


def _traffic(requests: float | None, place: Path | None, errors: float | None) -> Traffic:
    from interlock.cli.simulating.traffic import recorded, steady

    if (requests is None) == (place is None):
        raise Refused("what it is played over is not said", "simulate", "give either --requests or --recorded")
    rate = None if errors is None else errors / 100.0
    if place is not None:
        return recorded(place, rate)
    assert requests is not None
    return steady(requests, DEFAULT_RATE if rate is None else rate)


def _told(traffic: Traffic) -> str:
    told = f"{traffic.requests:.4g} requests/min, {100.0 * traffic.rate:.3g} % errors"
    minutes = len(traffic.arrivals) / 6
    return told if len(traffic.arrivals) == 1 else f"{told} in {minutes:.3g} recorded min"
