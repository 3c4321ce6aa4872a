"""What begins a run, as the pipeline file says it."""

from __future__ import annotations

from interlock.vocabulary import Stored


class PullRequestPlan(Stored):
    """Runs for pull requests into ``branches`` that touch ``paths``. Stages behind ``until`` are left out."""

    branches: tuple[str, ...] = ("**",)
    paths: tuple[str, ...] = ()
    until: str | None = None


class Triggers(Stored):
    """What begins a run of a plan's project. Patterns are read as in ``source.patterns``.

    ``paths`` are relative to the project; none means any. ``schedule`` are cron expressions in ``time_zone``; ``data``
    are paths of this machine and object-store prefixes whose change begins a run.
    """

    branches: tuple[str, ...] = ("main",)
    tags: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    pull_request: PullRequestPlan | None = None
    schedule: tuple[str, ...] = ()
    time_zone: str = "UTC"
    data: tuple[str, ...] = ()
