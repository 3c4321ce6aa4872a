"""Who asks, and what their role lets them do."""

from __future__ import annotations

from enum import StrEnum

from interlock.errors import Forbidden
from interlock.vocabulary import Stored


class Role(StrEnum):
    """Each role may do all that those before it may."""

    VIEWER = "viewer"
    DEVELOPER = "developer"
    MAINTAINER = "maintainer"
    OPERATOR = "operator"
    ADMIN = "admin"

    @property
    def rank(self) -> int:
        """Its place in the order, from 0."""
        return list(Role).index(self)


class Action(StrEnum):
    """What can be asked for; the table below names the least role for each."""

    READ = "read"
    RUN = "run"
    CANCEL = "cancel"
    APPROVE = "approve"
    MANAGE_SECRETS = "manage secrets"
    RELEASE = "release"
    OVERRIDE = "override"
    ROLL_BACK = "roll back"
    FREEZE = "freeze"
    RETIRE = "retire models"
    STEER = "steer rollouts"
    MANAGE_KEYS = "manage API keys"
    MANAGE_TOKENS = "manage tokens"
    READ_AUDIT = "read audit"


LEAST_ROLE = {
    Action.READ: Role.VIEWER,
    Action.RUN: Role.DEVELOPER,
    Action.CANCEL: Role.DEVELOPER,
    Action.APPROVE: Role.MAINTAINER,
    Action.MANAGE_SECRETS: Role.MAINTAINER,
    Action.RELEASE: Role.OPERATOR,
    Action.OVERRIDE: Role.OPERATOR,
    Action.ROLL_BACK: Role.OPERATOR,
    Action.FREEZE: Role.OPERATOR,
    Action.RETIRE: Role.OPERATOR,
    Action.STEER: Role.OPERATOR,
    Action.MANAGE_KEYS: Role.OPERATOR,
    Action.MANAGE_TOKENS: Role.ADMIN,
    Action.READ_AUDIT: Role.ADMIN,
}


class Caller(Stored):
    """An authenticated person or program. No ``repositories`` or ``environments``: all of them.

    ``name`` is what the audit log says: a token's name, or ``local:ada`` for a user of this machine.
    """

    name: str
    role: Role
    repositories: tuple[str, ...] = ()
    environments: tuple[str, ...] = ()

    def may(self, action: Action, *, repository: str | None = None, environment: str | None = None) -> bool:
        """Whether this caller may do it there. ``environment`` is ``model/environment``."""
        return (
            self.role.rank >= LEAST_ROLE[action].rank
            and (repository is None or not self.repositories or repository in self.repositories)
            and (environment is None or not self.environments or environment in self.environments)
        )

    def require(self, action: Action, *, repository: str | None = None, environment: str | None = None) -> None:
        """Forbidden, with what would be needed, unless the caller may."""
        if self.may(action, repository=repository, environment=environment):
            return
        where = environment or repository or ""
        if self.role.rank < LEAST_ROLE[action].rank:
            remedy = f"it takes the role {LEAST_ROLE[action]}; {self.name} is {self.role}"
        else:
            remedy = f"the token of {self.name} is for {', '.join(self.repositories + self.environments)}"
        raise Forbidden(f"{self.name} may not {action}", where, remedy)
