"""Model versions, their releases and rollouts, and the environments they come into."""

from __future__ import annotations

from typing import Annotated, TypeVar

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from interlock.access.caller import Action, Caller
from interlock.access.recent import RecentCaller
from interlock.app.services import Services
from interlock.control.rows import read_state
from interlock.delivery.environment import Environment
from interlock.delivery.monitoring.monitor import Monitor
from interlock.delivery.release import Release
from interlock.delivery.rollout import OrderName, Rollout
from interlock.registry.version import ModelVersion
from interlock.vocabulary import Kind, Row, Stored
from interlock.web.routes.asking import (
    MOST_PHASES,
    CallerOf,
    Cursor,
    Key,
    Limit,
    Number,
    ServicesOf,
    envelope,
    load_row,
    page_of,
    require_unchanged,
    told,
)
from interlock.web.routes.shapes import FreezeOrder, Page, Reason, ReleaseOrder, Resource, RetryOrder, Told
from interlock.web.sight import may_see

ROUTES = APIRouter(tags=["delivery"])
Name = Annotated[str, Path(max_length=200)]
Phases = Annotated[list[str] | None, Query(max_length=MOST_PHASES)]
StateT = TypeVar("StateT", bound=Stored)


@ROUTES.get("/versions", response_model=Page[Resource[ModelVersion]])
def list_versions(
    services: ServicesOf, caller: CallerOf, model: str | None = None, limit: Limit = 50, cursor: Cursor = None
) -> Response:
    """Registered model versions, the newest first."""
    prefix = None if model is None else f"{model}/"
    return _listed(services, caller, Kind.VERSION, ModelVersion, limit, cursor, prefix=prefix)


@ROUTES.get("/versions/{model}/{number}", response_model=Resource[ModelVersion])
def show_version(model: Name, number: Number, request: Request, services: ServicesOf, caller: CallerOf) -> Response:
    """One model version."""
    return told(request, load_row(services, caller, Kind.VERSION, f"{model}/{number}"), ModelVersion)


@ROUTES.post("/versions/{model}/{number}/lift-quarantine")
def lift_quarantine(model: Name, number: Number, asked: Reason, services: ServicesOf, caller: CallerOf) -> Told:
    """Lets a version that was rolled back be released again."""
    row = load_row(services, caller, Kind.VERSION, f"{model}/{number}")
    services.deliveries.lift_quarantine(caller, row.key, asked.reason)
    return Told(because=f"{row.key} may be released again: {asked.reason}")


@ROUTES.get("/releases", response_model=Page[Resource[Release]])
def list_releases(
    services: ServicesOf, caller: CallerOf, phase: Phases = None, limit: Limit = 50, cursor: Cursor = None
) -> Response:
    """Releases, the newest first."""
    return _listed(services, caller, Kind.RELEASE, Release, limit, cursor, phases=phase)


@ROUTES.post("/releases", status_code=201, response_model=Resource[Release])
def start_release(
    asked: ReleaseOrder, request: Request, services: ServicesOf, caller: CallerOf, key: Key = ""
) -> Response:
    """Takes a registered version through its environments."""
    release = services.deliveries.start_release(caller, asked.version, asked.because, key)
    response = told(request, load_row(services, caller, Kind.RELEASE, release.key), Release, 201)
    response.headers["location"] = f"/api/v1/releases/{release.number}"
    return response


@ROUTES.get("/releases/{number}", response_model=Resource[Release])
def show_release(number: Number, request: Request, services: ServicesOf, caller: CallerOf) -> Response:
    """One release."""
    return told(request, load_row(services, caller, Kind.RELEASE, str(number)), Release)


@ROUTES.post("/releases/{number}/approve")
def approve_release(number: Number, asked: Reason, request: Request, services: ServicesOf, caller: CallerOf) -> Told:
    """One person's approval of a release, for the environment that it waits before."""
    require_unchanged(request, load_row(services, caller, Kind.RELEASE, str(number)))
    return Told(because=services.deliveries.approve(caller, number, asked.reason))


@ROUTES.get("/rollouts", response_model=Page[Resource[Rollout]])
def list_rollouts(
    services: ServicesOf, caller: CallerOf, phase: Phases = None, limit: Limit = 50, cursor: Cursor = None
) -> Response:
    """Rollouts, the newest first."""
    return _listed(services, caller, Kind.ROLLOUT, Rollout, limit, cursor, phases=phase)


@ROUTES.get("/rollouts/{number}", response_model=Resource[Rollout])
def show_rollout(number: Number, request: Request, services: ServicesOf, caller: CallerOf) -> Response:
    """One rollout, with its evidence so far."""
    return told(request, load_row(services, caller, Kind.ROLLOUT, str(number)), Rollout)


@ROUTES.post("/rollouts/{number}/retry", status_code=201, response_model=Resource[Release])
def retry(
    number: Number, asked: RetryOrder, request: Request, services: ServicesOf, caller: CallerOf, key: Key = ""
) -> Response:
    """Begins a rollout anew that ended without promotion: a release from its environment on."""
    load_row(services, caller, Kind.ROLLOUT, str(number))
    release = services.deliveries.retry(caller, number, asked.reason, asked.lift_quarantine, key)
    response = told(request, load_row(services, caller, Kind.RELEASE, release.key), Release, 201)
    response.headers["location"] = f"/api/v1/releases/{release.number}"
    return response


@ROUTES.post("/rollouts/{number}/{order}")
def steer(
    number: Number, order: OrderName, asked: Reason, request: Request, services: ServicesOf, caller: CallerOf
) -> Told:
    """Holds a rollout, lets it go on, leaves its further steps out, takes it back, or approves of its step."""
    row = load_row(services, caller, Kind.ROLLOUT, str(number))
    require_unchanged(request, row)
    return Told(because=services.deliveries.steer(caller, number, order, asked.reason))


@ROUTES.get("/environments", response_model=Page[Resource[Environment]])
def list_environments(services: ServicesOf, caller: CallerOf, limit: Limit = 50, cursor: Cursor = None) -> Response:
    """Environments, the one that was first delivered to last."""
    return _listed(services, caller, Kind.ENVIRONMENT, Environment, limit, cursor)


@ROUTES.get("/environments/{model}/{name}", response_model=Resource[Environment])
def show_environment(model: Name, name: Name, request: Request, services: ServicesOf, caller: CallerOf) -> Response:
    """What serves in one environment."""
    return told(request, load_row(services, caller, Kind.ENVIRONMENT, f"{model}/{name}"), Environment)


@ROUTES.get("/environments/{model}/{name}/monitor", response_model=Resource[Monitor])
def show_monitor(model: Name, name: Name, request: Request, services: ServicesOf, caller: CallerOf) -> Response:
    """How what serves in one environment is watched, and which alerts fire."""
    return told(request, load_row(services, caller, Kind.MONITOR, f"{model}/{name}"), Monitor)


@ROUTES.post("/environments/{model}/{name}/rollback")
def roll_back(
    model: Name, name: Name, asked: Reason, request: Request, services: ServicesOf, caller: CallerOf, key: Key = ""
) -> Told:
    """Brings an environment back: ends its rollout, or rolls out its previous revision."""
    row = load_row(services, caller, Kind.ENVIRONMENT, f"{model}/{name}")
    require_unchanged(request, row)
    return Told(because=services.deliveries.roll_back(caller, row.key, asked.reason, key))


@ROUTES.post("/environments/{model}/{name}/freeze")
def freeze(
    model: Name, name: Name, asked: FreezeOrder, request: Request, services: ServicesOf, caller: CallerOf
) -> Told:
    """Lets nothing go forward in an environment; the way back stays open."""
    row = load_row(services, caller, Kind.ENVIRONMENT, f"{model}/{name}")
    require_unchanged(request, row)
    return Told(because=services.deliveries.freeze(caller, row.key, asked.reason, asked.until))


@ROUTES.post("/environments/{model}/{name}/unfreeze")
def unfreeze(model: Name, name: Name, asked: Reason, request: Request, services: ServicesOf, caller: CallerOf) -> Told:
    """Lets an environment go forward again."""
    row = load_row(services, caller, Kind.ENVIRONMENT, f"{model}/{name}")
    require_unchanged(request, row)
    return Told(because=services.deliveries.unfreeze(caller, row.key, asked.reason))


@ROUTES.get("/models/{model}/callers")
def list_callers(model: Name, services: ServicesOf, caller: CallerOf) -> list[RecentCaller]:
    """Who asked a model lately, as far as the front's log says."""
    return services.retiring.callers(caller, model)


@ROUTES.post("/models/{model}/retire")
def retire_model(model: Name, asked: Reason, services: ServicesOf, caller: CallerOf) -> Told:
    """Takes a model away: the front answers 410 for it, and its replicas are freed."""
    return Told(because=services.retiring.retire(caller, model, asked.reason))


@ROUTES.post("/models/{model}/restore")
def restore_model(model: Name, asked: Reason, services: ServicesOf, caller: CallerOf) -> Told:
    """Brings a retired model back as it was."""
    return Told(because=services.retiring.restore(caller, model, asked.reason))


def _listed(
    services: Services,
    caller: Caller,
    kind: Kind,
    shape: type[StateT],
    limit: int,
    cursor: str | None,
    *,
    prefix: str | None = None,
    phases: list[str] | None = None,
) -> Response:
    caller.require(Action.READ)
    store = services.store

    def read(newest: int, before: int | None) -> list[Row]:
        return store.rows(kind, prefix=prefix, phases=phases, newest=newest, before=before)

    return page_of(
        read,
        lambda row: may_see(store, caller, row),
        lambda row: envelope(row, read_state(row, shape)),
        limit,
        cursor,
    )
