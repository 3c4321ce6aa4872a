"""``interlock demo``: pushes to a model repository under live traffic, told as they happen and checked."""

from __future__ import annotations

import click

from interlock.cli.output import Line, Output


@click.command()
@click.option("--fast", is_flag=True, help="A shorter cut: fewer acts, less data, shorter analysis.")
@click.option("--keep", is_flag=True, help="Leave the server, the models and the traffic running at the end.")
@click.option("--json", "is_json", is_flag=True, help="JSON on standard output: one line for each line of the story.")
def demo(fast: bool, keep: bool, is_json: bool) -> int:
    """Watch a model go from push to production and back, on real flights, in a folder of its own."""
    from interlock.cli.demo.director import run_demo

    output = Output(is_json)

    def say(line: Line) -> None:
        output.say(line)
        output.answer({"line": line.text, "style": line.style})

    return run_demo(fast=fast, keep=keep, say=say)
