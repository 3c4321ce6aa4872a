"""The director of ``interlock demo``: sets the stage, plays the acts by plain ``git push``, and checks what came of it.

Everything happens in one folder: a bare repository, a clone, the server's state and the traffic's counts.
"""

from __future__ import annotations

import shlex
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from interlock.cli.demo.acts import ACTS, Act
from interlock.cli.demo.dataset import Sizes, make_data
from interlock.cli.demo.repository import Clone
from interlock.cli.demo.service import Service, Traffic, free_ports
from interlock.cli.demo.summary import Played, pushes_table, traffic_lines, unexpected_failures
from interlock.cli.demo.watch import Journey, Say, Watch
from interlock.cli.output import Line
from interlock.cli.show import format_seconds
from interlock.delivery.rollout import RolloutPhase
from interlock.errors import Fault

RATE = 50.0
"""Requests a second."""
PATIENCE_SECONDS = 300.0
"""How long one act may take; the first also builds the environments."""
DEAD_SECONDS = 3.0
"""How long the control plane stays dead in act 7."""
LONGEST_FOLDER = 40
"""Characters of the folder that still leave room for the sockets in it; the system allows them 107."""
FAST_SIZES = Sizes(train=15_000, holdout=8_000)
FAST_STEPS = ("{set_weight: 10}", "{analysis: {for: 8s}}")


@dataclass
class Stage:
    """What the acts are played on. ``titles`` names every revision seen, ``bad`` those that were rolled back."""

    clone: Clone
    service: Service
    traffic: Traffic
    watch: Watch
    say: Say
    titles: dict[str, str] = field(default_factory=dict)
    bad: set[str] = field(default_factory=set)

    def remember(self, journey: Journey) -> None:
        """Keeps the names of the journey's revisions."""
        for rollout in journey.rollouts:
            self.titles[rollout.candidate.key] = f"{rollout.candidate.title} ({rollout.candidate.key})"
            if rollout.phase is RolloutPhase.ROLLED_BACK:
                self.bad.add(rollout.candidate.key)


def run_demo(fast: bool, keep: bool, say: Say) -> int:
    """Plays all acts (``fast``: the short cut) and answers 0 if each came as it had to, else 1.

    ``keep`` leaves the processes running. The folder stays in any case, and the last lines say how to look around.
    """
    begun = time.monotonic()
    folder = _make_folder()
    say(Line(f"Interlock's demo, in {folder}", "title"))
    played: list[Played] = []
    with ExitStack() as curtain:
        clone, live = _make_repository(folder, fast, say)
        stage = _set_up(folder, clone, live, curtain, keep, say)
        is_stuck = _play_all(stage, [act for act in ACTS if act.is_in_fast_cut or not fast], played, begun)
        if not keep:
            stage.traffic.stop()
        is_good = _tell_end(stage, played, is_stuck, time.monotonic() - begun)
    _tell_where(stage, folder, keep)
    return 0 if is_good else 1


def _make_folder() -> Path:
    folder = Path(tempfile.gettempdir())
    if len(str(folder)) > LONGEST_FOLDER:
        folder = Path("/tmp")  # noqa: S108 - mkdtemp makes a private folder in it; sockets need a short path
    return Path(tempfile.mkdtemp(prefix="interlock-demo-", dir=folder))


def _make_repository(folder: Path, fast: bool, say: Say) -> tuple[Clone, Path]:
    clone = Clone.make(folder / "clone", folder / "flights.git")
    live = folder / "live.csv"
    sizes = FAST_SIZES if fast else Sizes()
    begun = time.monotonic()
    make_data(clone.path, live, sizes)
    if fast:
        for step in FAST_STEPS:
            _drop_step(clone, step)
    told = f"{sizes.train} flights to train on, {sizes.holdout} held out, {sizes.live} to come live"
    say(Line(f"  a model repository and its data: {told} ({format_seconds(time.monotonic() - begun)})"))
    return clone, live


def _drop_step(clone: Clone, step: str) -> None:
    """Takes the first such step out of the canary."""
    file = clone.path / "interlock.yaml"
    text = file.read_text(encoding="utf-8")
    line = next(line for line in text.splitlines(keepends=True) if line.strip() == f"- {step}")
    file.write_text(text.replace(line, "", 1), encoding="utf-8")


def _set_up(folder: Path, clone: Clone, live: Path, curtain: ExitStack, keep: bool, say: Say) -> Stage:
    staging, production = (f"127.0.0.1:{port}" for port in free_ports(2))
    config = folder / "server.yaml"
    settings = {
        "repositories": {"flights": {"path": str(clone.origin)}},
        "environments": {"staging": {"listen": staging}, "production": {"listen": production}},
        "poll_every": 5.0,
        "listen": "127.0.0.1:0",
    }
    config.write_text(yaml.safe_dump(settings, sort_keys=False))
    service = Service(folder / "state", config, folder / "server.log")
    traffic = Traffic(f"http://{production}", live, folder / "traffic", RATE)
    if not keep:
        curtain.callback(service.stop)
        curtain.callback(traffic.stop)
    service.start()
    traffic.start()
    say(Line(f"  interlock server is up: staging http://{staging}, production http://{production}"))
    say(Line(f"  traffic: {RATE:g} requests a second to production, as soon as something serves there"))
    watch = curtain.enter_context(Watch(service.state))
    return Stage(clone, service, traffic, watch, say)


def _play_all(stage: Stage, acts: Sequence[Act], played: list[Played], begun: float) -> bool:
    """Plays the acts in turn; whether one came to no end, after which the others make no sense."""
    for act in acts:
        try:
            played.append(_play(stage, act, begun))
        except Fault as fault:
            stage.say(Line(f"  {fault}", "bad"))
            stage.say(Line(f"  the server's last words: {stage.service.last_words()}", "bad"))
            return True
    return False


def _play(stage: Stage, act: Act, begun: float) -> Played:
    """One push and all that comes of it. Fault where it comes to no end."""
    say = stage.say
    say(Line(""))
    say(Line(f"Act {act.number}: {act.title}  (at {format_seconds(time.monotonic() - begun)})", "title"))
    before = sum(stage.traffic.tally()["failed"].values())
    act.change(stage.clone)
    stage.clone.commit(act.subject)
    pushed = stage.clone.push()
    say(Line(f"  $ git push   # {act.subject!r}: {format_seconds(pushed.seconds)}"))
    for line in pushed.answer:
        say(Line(f"    remote: {line}", "dim"))
    started = time.monotonic() - pushed.seconds
    if act.is_server_killed:
        _kill_in_canary(stage, pushed.sha)
    journey = stage.watch.follow(pushed.sha, say, PATIENCE_SECONDS, lambda now: now.is_over)
    seconds = time.monotonic() - started
    stage.remember(journey)
    _tell_traffic(stage, before)
    differences = tuple(act.differs(journey))
    for difference in differences:
        say(Line(f"  NOT AS IT HAD TO BE: {difference}", "bad"))
    if act.is_taken_back:
        stage.clone.revert()
    return Played(act, journey, seconds, differences)


def _kill_in_canary(stage: Stage, sha: str) -> None:
    journey = stage.watch.follow(sha, stage.say, PATIENCE_SECONDS, lambda now: now.is_over or now.is_in_canary)
    if journey.is_over:
        raise Fault("the canary was over before the server could be killed")
    before = stage.traffic.tally()
    pid = stage.service.kill()
    stage.say(Line(f"  $ kill -9 {pid}   # the control plane is dead", "warn"))
    time.sleep(DEAD_SECONDS)
    after = stage.traffic.tally()
    served = sum(after["served"].values()) - sum(before["served"].values())
    failed = sum(after["failed"].values()) - sum(before["failed"].values())
    stage.say(Line(f"  {DEAD_SECONDS:g} s without it: {served} requests served, {failed} failed"))
    stage.service.start()
    stage.say(Line("  $ interlock server   # and it is back"))


def _tell_traffic(stage: Stage, failed_before: int) -> None:
    tally = stage.traffic.tally()
    failed = sum(tally["failed"].values()) - failed_before
    stable = stage.watch.stable("flights/production") or "nothing"
    served = f"{sum(tally['served'].values())} requests served so far, {failed} failed in this act"
    stage.say(Line(f"  production serves {stable}; {served}", "warn" if failed else ""))


def _tell_end(stage: Stage, played: Sequence[Played], is_stuck: bool, seconds: float) -> bool:
    """The tables; whether everything came as it had to."""
    say = stage.say
    tally, failures, bad = stage.traffic.tally(), stage.traffic.failures(), frozenset(stage.bad)
    unexpected = unexpected_failures(failures, bad)
    say(Line(""))
    for line in (*pushes_table(played), Line(""), *traffic_lines(tally, failures, stage.titles, bad)):
        say(line)
    if unexpected:
        say(Line(f"{len(unexpected)} requests failed that no bad revision answered", "bad"))
    elif failures:
        say(Line("every failed request was answered by a revision that was rolled back for it", "good"))
    if not tally["served"]:
        say(Line("no request was served", "bad"))
    if tally["labels_failed"]:
        say(Line(f"{tally['labels_failed']} labels could not be stored", "bad"))
    is_good = not is_stuck and not unexpected and bool(tally["served"]) and not tally["labels_failed"]
    is_good = is_good and not any(each.differences for each in played)
    told = "everything came as it had to" if is_good else "not everything came as it had to"
    say(Line(f"{told}, in {format_seconds(seconds)}", "good" if is_good else "bad"))
    return is_good


def _tell_where(stage: Stage, folder: Path, keep: bool) -> None:
    state = shlex.quote(str(stage.service.state))
    stage.say(Line(f"look around:  interlock status --state {state}"))
    stage.say(Line(f"              interlock explain rollout/1 --state {state}"))
    if keep:
        end = f"kill {stage.traffic.pid}; interlock server stop --data-plane --state {state}"
        stage.say(Line(f"all of it still runs; to end it:  {end}"))
    stage.say(Line(f"to remove it: rm -r {shlex.quote(str(folder))}"))
