"""What people ask of runs: begin one, run one again, cancel it, let it go or past gates. The loop does the rest."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence

from interlock.access.audit import Deed
from interlock.access.caller import Action, Caller
from interlock.control.rows import load_state, read_state, write_run, write_state
from interlock.control.running.intake import Intake
from interlock.errors import AlreadyExists, Conflict, NotFound, StaleWrite
from interlock.ports import Store
from interlock.run.overriding import override
from interlock.run.requests import approve, cancel, run_again
from interlock.run.run import Run
from interlock.source.commit import Occasion
from interlock.source.repository import Watched
from interlock.source.trust import is_trusted
from interlock.vocabulary import Decision, Json, Kind, canonical

TRIES = 5
"""How often a request is tried again when the loop saves the same run at the same moment."""


class RunRequests:
    """Writes what was asked into rows, each with its entry of the audit log; a loop that runs acts on them.

    ``ring`` wakes the loop. ``key`` is an idempotency key: the same one of the same caller answers the same run, and
    Conflict where it was used for something else.
    """

    def __init__(
        self,
        store: Store,
        intake: Intake,
        repositories: Mapping[str, Watched],
        now: Callable[[], float],
        ring: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._intake = intake
        self._repositories = repositories
        self._now = now
        self._ring = ring

    def trigger(self, caller: Caller, repository: str, ref: str, key: str = "") -> Run:
        """A run of what a branch or tag is now; with several pipeline files the first of their runs.

        NotFound, with the nearest name, for what the repository does not have; Refused where it cannot be planned.
        """
        caller.require(Action.RUN, repository=repository)
        watched = self._watched(repository)
        identity = _identity("person", caller, key)
        known = self._find(identity)
        if known is not None:
            if known.commit.repository != repository or ref not in _names_of(known.commit.ref):
                raise _used_before(known)
            return known
        refs = self._intake.refs(watched)
        # A full name means itself: a branch may be called refs/tags/v1.
        full = ref if ref in refs else next((name for name in refs if ref in _names_of(name)), None)
        if full is None:
            raise _no_ref(ref, refs, repository)
        occasion = Occasion(kind="person", detail=key or str(self._now()), by=caller.name)
        begun = self._intake.begin(watched, full, refs[full], occasion)
        return self._begin(caller, "start run", begun, identity, {"ref": full, "sha": refs[full]})

    def rerun(self, caller: Caller, number: int, from_stage: str | None = None, key: str = "") -> Run:
        """Another run of the same commit and plan, which executes only what has not succeeded.

        With ``from_stage`` that stage and all that need it are executed whatever is remembered. Conflict where the run
        has not ended, NotFound where it has no such stage.
        """
        run, _ = self._load(number)
        caller.require(Action.RUN, repository=run.commit.repository)
        watched = self._watched(run.commit.repository)
        identity = _identity("rerun", caller, key)
        known = self._find(identity)
        if known is not None:
            if known.reruns[-1:] != (number,) or known.fresh[:1] != ((from_stage,) if from_stage else ()):
                raise _used_before(known)
            return known
        if run.occasion.kind == "local":
            raise Conflict("it was of a working tree, not of a commit", f"run {number}", "run `interlock run` again")
        if run.occasion.kind == "reproduce":
            raise Conflict("it reproduced another run", f"run {number}", "ask `interlock reproduce` again")
        occasion = Occasion(kind="rerun", detail=f"{number} {key or self._now()}", by=caller.name)
        draft = run_again(run, 0, occasion, from_stage, is_trusted=is_trusted(run.commit.ref, watched))
        begun = draft.model_copy(update={"number": self._store.number(Kind.RUN)})  # none is lost to a refusal
        return self._begin(caller, "run again", [begun], identity, {"run": number, "from_stage": from_stage})

    def cancel(self, caller: Caller, number: int, reason: str) -> Run:
        """The run is to end, with its processes; asked again it changes nothing. Conflict where it has ended."""
        because = f"cancelled by {caller.name}: {reason}"
        return self._change(caller, number, Action.CANCEL, lambda run: cancel(run, because), {"reason": reason})

    def approve(self, caller: Caller, number: int, sha: str) -> Run:
        """Lets a held run of a pull request go. Conflict unless ``sha`` is the whole id of its very commit."""
        return self._change(caller, number, Action.APPROVE, lambda run: approve(run, sha, caller.name), {"sha": sha})

    def override(self, caller: Caller, number: int, gates: Sequence[str], reason: str) -> Run:
        """Lets a run go on past gates that did not pass, to be registered and released; the table of ``overriding``.

        A release goes through all of the environments, so the caller must be allowed each.
        """
        run, _ = self._load(number)
        for environment in run.plan.deploy if run.plan.model else ():
            where = f"{run.plan.model.name if run.plan.model else ''}/{environment.name}"
            caller.require(Action.OVERRIDE, repository=run.commit.repository, environment=where)
        detail: dict[str, Json] = {"gates": [*gates], "reason": reason}
        return self._change(
            caller, number, Action.OVERRIDE, lambda run: override(run, gates, reason, caller.name), detail
        )

    def _begin(
        self, caller: Caller, action: str, begun: list[Run], identity: str | None, detail: dict[str, Json]
    ) -> Run:
        """Saves the runs. ``identity`` is that of the first of them; without one, each asking is its own occasion."""
        first, *others = begun
        writes = [write_run(first, identity or f"{first.occasion.kind}|{first.key}")]
        writes += [write_run(run, f"{run.occasion.kind}|{run.key}") for run in others]
        numbers: list[Json] = [run.number for run in begun]
        deed = _deed(caller, action, first, {**detail, "runs": numbers})
        try:
            self._store.save(*writes, audit=[deed])
        except AlreadyExists:  # the same request came twice at one moment
            known = self._find(identity)
            if known is None:
                raise
            return known
        self._ring()
        return first

    def _change(
        self,
        caller: Caller,
        number: int,
        action: Action,
        decide: Callable[[Run], Decision[Run]],
        detail: dict[str, Json],
    ) -> Run:
        for _ in range(TRIES):
            run, version = self._load(number)
            caller.require(action, repository=run.commit.repository)
            decision = decide(run)
            after = decision.state
            if after == run:
                return run
            because = after.wish or decision.because
            write = write_state(Kind.RUN, run.key, after, expected=version, phase=after.phase, because=because)
            try:
                self._store.save(write, audit=[_deed(caller, f"{action} run", run, detail)])
            except StaleWrite:
                continue
            self._ring()
            return after
        raise StaleWrite(f"run {number} is moved by others all the time")

    def _load(self, number: int) -> tuple[Run, int]:
        run, version = load_state(self._store, Kind.RUN, str(number), Run)
        if run is None:
            raise NotFound(f"there is no run {number}", remedy="`interlock status` shows the last ones")
        return run, version

    def _find(self, identity: str | None) -> Run | None:
        row = self._store.find(Kind.RUN, identity) if identity else None
        return read_state(row, Run) if row else None

    def _watched(self, name: str) -> Watched:
        watched = self._repositories.get(name)
        if watched is None:
            near = difflib.get_close_matches(name, self._repositories, n=1)
            remedy = f"did you mean {near[0]}?" if near else "name one of the settings' repositories"
            raise NotFound(f"there is no repository {name}", "the server's settings", remedy)
        return watched


def _identity(kind: str, caller: Caller, key: str) -> str | None:
    """What a key of this caller stands for; names and keys may hold any letter, so they are kept apart."""
    return canonical([kind, caller.name, key]).decode() if key else None


def _names_of(ref: str) -> tuple[str, ...]:
    return ref, ref.removeprefix("refs/heads/"), ref.removeprefix("refs/tags/")


def _no_ref(ref: str, refs: Mapping[str, str], repository: str) -> NotFound:
    names = [names for full in refs for names in _names_of(full)[1:] if names != full]
    near = difflib.get_close_matches(ref, names, n=3, cutoff=0.5)
    remedy = f"did you mean {', '.join(near)}?" if near else f"it has {', '.join(names[:5]) or 'no branch yet'}"
    return NotFound(f"there is no branch or tag {ref}", repository, remedy)


def _used_before(run: Run) -> Conflict:
    remedy = "choose another key for another request"
    return Conflict(f"this idempotency key began run {run.number}, of {run.commit.ref}", f"run {run.number}", remedy)


def _deed(caller: Caller, action: str, run: Run, detail: dict[str, Json]) -> Deed:
    told: dict[str, Json] = {"repository": run.commit.repository, **detail}
    return Deed(who=caller.name, action=action, thing=f"run/{run.number}", detail=told)
