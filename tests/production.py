"""A model in production, as far as runs look at it: rows of a version and of an environment."""

from __future__ import annotations

from typing import Any

from interlock.control.rows import write_environment, write_state
from interlock.delivery.environment import Environment
from interlock.delivery.revision import Revision
from interlock.gate.judgement import Judgement
from interlock.ports import Store
from interlock.registry.version import ModelVersion
from interlock.run.run import Run
from interlock.vocabulary import Digest, Kind

NO_DIGEST = Digest("blake3:" + "0" * 64)


def version_of(run: Run, number: int = 1, **more: Any) -> ModelVersion:
    """The version that the run made, as far as rows are looked at; ``more`` are other fields of it."""
    digests = dict.fromkeys(("digest", "lock", "plan", "serving", "signature", "provenance"), NO_DIGEST)
    known = {"model": "small", "repository": run.commit.repository, "ref": "refs/heads/main", "commit": run.commit.sha}
    made = {"number": number, "format": "skops", "judgement": Judgement(), "run": run.key, "is_trusted": True}
    return ModelVersion(made=1.0, **{**digests, **known, **made, **more})


def put_into_production(store: Store, run: Run, number: int = 1, **more: Any) -> None:
    """The model that the run made is stable in ``small/production``; ``more`` are fields of its version."""
    version = version_of(run, number, **more)
    revision = Revision(
        environment="small/production",
        number=number,
        version=number,
        model="small",
        model_digest=NO_DIGEST,
        lock=NO_DIGEST,
        format="skops",
    )
    store.save(
        write_state(Kind.VERSION, version.key, version, expected=0, phase="registered", because="well"),
        write_environment(Environment(name="production", model="small", stable=revision), 0, "well"),
    )
