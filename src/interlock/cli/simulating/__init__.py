"""The command that plays a canary before anyone trusts it."""

from __future__ import annotations

from pathlib import Path

import click

from interlock.cli.output import ExitCode, Line
from interlock.cli.session import Session, with_session
from interlock.errors import Refused


@click.command()
@click.argument("file", type=click.Path(path_type=Path), default="interlock.yaml", required=False)
@click.option("--requests", type=click.FloatRange(min=0, min_open=True), required=True, help="A minute, to both sides.")
@click.option("--environment", default="production", show_default=True, help="Whose canary.")
@click.option(
    "--errors", type=click.FloatRange(0, 100, min_open=True, max_open=True), default=0.5, help="Of stable, %."
)
@click.option("--worse", type=click.FloatRange(min=1), default=5.0, help="Times the errors of a bad candidate.")
@click.option("--runs", type=click.IntRange(min=1), default=200, help="Rollouts that are played.")
@click.option("--seed", type=int, default=1, help="The same seed plays the same.")
@with_session
def simulate(
    session: Session,
    file: Path,
    requests: float,
    environment: str,
    errors: float,
    worse: float,
    runs: int,
    seed: int,
) -> int:
    """The odds of the canary in a pipeline FILE: false rollbacks, detection, the smallest regression it can show."""
    from interlock.cli.simulating.playing import Traffic, odds_line, play, slices_lines, visible_lines
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
    traffic = Traffic(requests, errors / 100.0)
    with session.output.progress("playing"):
        good, bad = play(strategy, traffic, 1.0, runs, seed), play(strategy, traffic, worse, runs, seed + 1)
    session.output.say(
        Line(f"{environment}: {runs} rollouts each, {requests:g} requests/min, {errors:g} % errors", "title"),
        odds_line("a candidate like stable", good),
        odds_line(f"errors x{worse:g}", bad),
        *visible_lines(strategy, traffic),
        *slices_lines(strategy),
    )
    session.output.answer({"like_stable": good._asdict(), "worse": bad._asdict()})
    return ExitCode.SUCCESS
