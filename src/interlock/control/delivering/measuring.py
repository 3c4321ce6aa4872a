"""Asks what other sources measure of a rollout, beside the loop: it never waits for them.

What they answered is taken up at the next look, and stored with it. Each metric has one question under way at most, and
each question an end: a server that hangs keeps nobody but its own metric waiting.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Mapping
from typing import Any

from interlock.control.rows import load_state
from interlock.delivery.external.measured import Measured, counter_of
from interlock.delivery.external.questions import CANDIDATE, STABLE, Question, questions_of
from interlock.delivery.revision import CounterSeen
from interlock.delivery.rollout import Rollout
from interlock.errors import InterlockError, NotFound
from interlock.pipeline.canaries.external import EVENTS, REQUESTS, VALUE
from interlock.pipeline.plan import StagePlan
from interlock.ports import Blobs, Executor, Store, Telemetry
from interlock.registry.version import ModelVersion
from interlock.run.run import Run
from interlock.run.stage import StageOutcome, StageRequest
from interlock.vocabulary import Kind, Phase

COMMAND_SECONDS = 60.0
"""How long a command may take."""
PRINTED = ".interlock/printed"
ANSWER = ".interlock/answer"
MOST_PRINTED = 4096
_RUN = """mkdir -p .interlock && ( {command}
) > {printed} || exit
head -c {most} {printed} > {answer}"""


class Measuring:
    """The newest answers of each rollout under way. ``now`` is wall time; ``ring`` is called when one has come.

    ``endpoint`` answers the base URL of ``model/environment``.
    """

    def __init__(
        self,
        store: Store,
        executor: Executor,
        blobs: Blobs,
        telemetry: Telemetry,
        endpoint: Callable[[str], str],
        now: Callable[[], float],
        ring: Callable[[], None],
    ) -> None:
        self._store = store
        self._executor = executor
        self._blobs = blobs
        self._telemetry = telemetry
        self._endpoint = endpoint
        self._now = now
        self._ring = ring
        self._guard = threading.Lock()
        self._rollouts: dict[str, int] = {}
        self._asked: dict[str, float] = {}
        self._under_way: set[str] = set()
        self._answers: dict[str, Measured] = {}

    def newest(self, rollout: Rollout) -> dict[str, Measured]:
        """What is known by now, by metric. Begins the questions that are due, and waits for none."""
        if not rollout.external:
            return {}
        with self._guard:
            self._forget_others(rollout)
            due = [one for one in questions_of(rollout, self._asked, self._now()) if one.name not in self._under_way]
            self._asked |= {one.name: self._now() for one in due}
            self._under_way |= {one.name for one in due}
            found = {plan.metric: self._answers.get(f"{rollout.number}/{plan.metric}") for plan in rollout.external}
        for question in due:
            self._begin(rollout, question)
        return {metric: answer for metric, answer in found.items() if answer is not None}

    def _forget_others(self, rollout: Rollout) -> None:
        """What was known of the rollout before in this environment."""
        before = self._rollouts.get(rollout.environment)
        if before is not None and before != rollout.number:
            for known in (self._asked, self._answers):
                for name in [name for name in known if name.startswith(f"{before}/")]:
                    del known[name]
        self._rollouts[rollout.environment] = rollout.number

    def _begin(self, rollout: Rollout, question: Question) -> None:
        if question.plan.source == "prometheus":
            threading.Thread(target=self._ask, args=(question,), name=f"metric {question.name}", daemon=True).start()
            return
        command = _RUN.format(command=question.plan.command, printed=PRINTED, answer=ANSWER, most=MOST_PRINTED + 1)
        stage = StagePlan(
            name=question.plan.metric,
            kind="check",
            command=command,
            outs=(ANSWER,),
            env=dict(question.variables),
            secrets=question.plan.secrets,
            timeout=COMMAND_SECONDS,
        )
        attempt = f"rollout-{rollout.number}/{question.plan.metric}/{int(self._now() * 1000)}"
        try:
            request = live_request(self._store, rollout, attempt, stage, self._endpoint(rollout.environment))
            self._executor.start(request, lambda outcome: self._printed(question, outcome))
        except InterlockError as fault:
            self._answer(question, Measured(at=self._now(), problem=str(fault)))

    def _ask(self, question: Question) -> None:
        at = self._now()
        try:
            numbers = self._telemetry.ask(question.plan.server, list(question.queries.values()), at)
        except InterlockError as fault:
            self._answer(question, Measured(at=at, problem=str(fault)))
            return
        found = dict(zip(question.queries, numbers, strict=True))
        if not question.plan.is_counted:
            self._answer(question, Measured(at=at, value=found["", VALUE]))
            return
        sides = {side: (found[side, EVENTS], found[side, REQUESTS]) for side in (CANDIDATE, STABLE)}
        self._answer(question, counted(at, sides))

    def _printed(self, question: Question, outcome: StageOutcome) -> None:
        """What a command printed, once it has ended."""
        at = self._now()
        if outcome.phase is not Phase.SUCCEEDED:
            self._answer(question, Measured(at=at, problem=f"the command {outcome.phase}: {outcome.because}"))
            return
        try:
            measured = read_printed(self._blobs.read(outcome.products[ANSWER]), at, question.plan.is_counted)
        except InterlockError as fault:
            measured = Measured(at=at, problem=str(fault))
        self._answer(question, measured)

    def _answer(self, question: Question, measured: Measured) -> None:
        with self._guard:
            self._under_way.discard(question.name)
            if question.rollout in self._rollouts.values():
                self._answers[question.name] = measured
        self._ring()


def counted(at: float, sides: Mapping[str, tuple[float, float]]) -> Measured:
    """Counts of both sides from (events, requests) of each; a problem where one cannot be a count."""
    counts: dict[str, CounterSeen] = {}
    for side, (events, requests) in sides.items():
        counter = counter_of(events, requests)
        if counter is None:
            return Measured(at=at, problem=f"{side}: {events:g} events of {requests:g} requests are no counts")
        counts[side] = counter
    return Measured(at=at, counts=counts)


def read_printed(content: bytes, at: float, is_counted: bool) -> Measured:
    """The answer in what a command printed; a problem where it printed something else."""
    if len(content) > MOST_PRINTED:
        return Measured(at=at, problem=f"the command printed more than {MOST_PRINTED} bytes")
    try:
        printed: Any = json.loads(content)
        if is_counted:
            sides = {side: printed[side] for side in (CANDIDATE, STABLE)}
            return counted(at, {side: (float(one[EVENTS]), float(one[REQUESTS])) for side, one in sides.items()})
        value = float(printed[VALUE] if isinstance(printed, dict) else printed)
    except (ValueError, KeyError, TypeError, RecursionError):
        wanted = '{"candidate": {"events": 1, "requests": 400}, "stable": {...}}' if is_counted else "a number"
        return Measured(at=at, problem=f"the command did not print {wanted}")
    if not math.isfinite(value):
        return Measured(at=at, problem=f"the command printed {value}")
    return Measured(at=at, value=value)


def live_request(store: Store, rollout: Rollout, attempt: str, stage: StagePlan, endpoint: str) -> StageRequest:
    """A stage of the run that made the candidate, against the endpoint there, with the environment's secrets.

    NotFound where the run is gone.
    """
    version, _ = load_state(store, Kind.VERSION, f"{rollout.candidate.model}/{rollout.candidate.version}", ModelVersion)
    run, _ = load_state(store, Kind.RUN, version.run, Run) if version else (None, 0)
    if run is None:
        raise NotFound(f"the run that made {rollout.candidate.title} is gone", f"rollout {rollout.number}")
    return StageRequest(
        attempt=attempt,
        stage=stage,
        commit=run.commit,
        project=run.plan.project,
        python=run.plan.python,
        secrets_of=f"{run.commit.repository}/{rollout.environment}" if stage.secrets else None,
        endpoint=endpoint,
    )


def measure_nothing(_rollout: Rollout) -> dict[str, Measured]:
    """Where nobody asks other sources, nothing is known of their metrics, and no rollout with such is promoted."""
    return {}
