"""From the text of ``interlock.yaml`` to a plan: read and check the file, then fix everything that it leaves open.

Conventions that make five lines enough for a plain repository: without ``on`` pushes to ``main`` begin runs; without
``python.lock`` it is ``uv.lock``, else ``requirements.txt``; without ``checks`` they are syntax, imports, dependencies
and, where there are tests, ``pytest -q tests``; a stage without ``deps`` follows those above it (see ``rules.graph``);
a model without a name has that of its folder or repository, without a format that of its path's ending, else ``skops``.

The order of a plan: checks, one after the other; ``fetch``; ``data``; the stages; ``served``; ``measurements``. Its
paths carry no trailing slash, and a dependency on a part of a product is one on the whole product.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence

from blake3 import blake3

from interlock.pipeline.canaries.blue_green import blue_green_plan_of
from interlock.pipeline.canaries.plan import StrategyPlan
from interlock.pipeline.canaries.resolution import strategy_plan_of
from interlock.pipeline.checks.resolution import data_checks, serving_checks
from interlock.pipeline.document import Path, Problem, refuse_all
from interlock.pipeline.entries import entry_files, has_tests
from interlock.pipeline.gates.spec import GateSpec
from interlock.pipeline.models.formats import EXPORTABLE, SERVED_MODEL, format_of
from interlock.pipeline.monitoring.resolution import monitoring_plan_of
from interlock.pipeline.outside.refresh import refresh_of, with_version
from interlock.pipeline.outside.sources import fetch_stage, find_sources, hidden_files
from interlock.pipeline.params import nearest_param, override, parse_overrides, select
from interlock.pipeline.plan import (
    Builtin,
    CommandPlan,
    ConcurrencyPlan,
    DataPlan,
    EnvironmentPlan,
    ModelPlan,
    Plan,
    PythonPlan,
    Resources,
    StagePlan,
    WindowPlan,
)
from interlock.pipeline.replicas.spec import replicas_of, scaling_of, surge_of
from interlock.pipeline.rules.graph import Makers, folders_around, in_order, is_within, makers_of, needs_of, products_of
from interlock.pipeline.rules.reading import PipelineFile, read_pipeline
from interlock.pipeline.rules.work import UNIT_CHECK, gate_of, is_table, lack_of_gpus, model_of
from interlock.pipeline.spec import (
    BUILTIN_CHECKS,
    CheckSpec,
    ConcurrencySpec,
    EnvironmentSpec,
    FileSpec,
    OnSpec,
    StageSpec,
)
from interlock.source.triggers import PullRequestPlan, Triggers
from interlock.vocabulary import Digest, Json, canonical

__all__ = ["PipelineFile", "holdout_of", "parse_overrides", "plan_digest", "read_pipeline", "resolve"]

_LOCKS = ("uv.lock", "requirements.txt")
_ASKED = "requirements.in"


def resolve(
    file: PipelineFile,
    *,
    project: str,
    paths: Collection[str],
    params: Mapping[str, Json],
    overrides: Mapping[str, Json],
    repository: str,
    gpus: int = 0,
    beside: Collection[str] = (),
) -> Plan:
    """The plan of one commit. SeveralRefused where the file and the commit do not fit.

    ``project`` is the folder of the pipeline file in the repository, ``paths`` are all files of the commit below it and
    relative to it, ``params`` is the content of its ``params.yaml`` ({} if there is none), ``overrides`` the values to
    use instead by dotted name. ``gpus`` is how many graphics processors there are; ``beside`` is what a working tree
    holds beside the files: see ``outside.sources``.
    """
    spec = file.spec
    there = frozenset(paths)
    used = override(params, overrides)
    sources = find_sources(spec, there, beside)
    missing = [*hidden_files(spec, there), *_missing_paths(spec, there, sources), *_missing_params(spec, used)]
    refuse_all(file.document.refusals([*missing, *_missing_gpus(spec, gpus)]))
    data = tuple(_dataset(name, spec) for name, dataset in spec.data.items() if is_table(dataset))
    model = _model(spec, project.rpartition("/")[2] or repository, there)
    python = python_of(spec, there)
    checks = _checks(spec, there, python)
    fetch = fetch_stage(sources, [check.name for check in checks])
    validation = _data_stage(data, [*checks, *fetch])
    before = tuple(stage.name for stage in (*checks, *fetch, *validation))
    return Plan(
        project=project,
        triggers=_triggers(spec.on),
        concurrency=_concurrency(spec),
        python=python,
        data=data,
        stages=(
            *checks,
            *fetch,
            *validation,
            *_stages(spec, before, used, bool(overrides), sources),
            *_measures(spec, model),
        ),
        model=model,
        gates=tuple(gate_of(gate) for gate in spec.gates),
        deploy=tuple(_environment(name, environment, spec.gates) for name, environment in spec.deploy.items()),
        warnings=tuple(_warnings(spec)),
    )


def plan_digest(plan: Plan) -> Digest:
    """The address of the plan's canonical form."""
    return Digest(f"blake3:{blake3(canonical(plan.model_dump(mode='json'))).hexdigest()}")


def holdout_of(data: Sequence[DataPlan]) -> DataPlan | None:
    """The dataset that predictions are joined with: the one with id and label.

    Of several it is the only one that is disjoint from another, else the one called ``holdout``; else there is none.
    """
    labelled = [dataset for dataset in data if dataset.id and dataset.label]
    apart = [dataset for dataset in labelled if dataset.disjoint_from]
    named = [dataset for dataset in labelled if dataset.name == "holdout"]
    return next((group[0] for group in (labelled, apart, named) if len(group) == 1), None)


def _triggers(on: OnSpec) -> Triggers:
    only_tags = on.push.tags is not None and "branches" not in on.push.model_fields_set
    wanted = on.pull_request
    schedule = [on.schedule] if isinstance(on.schedule, str) else on.schedule
    return Triggers(
        branches=() if only_tags else tuple(on.push.branches),
        tags=tuple(on.push.tags or ()),
        paths=tuple(on.push.paths or ()),
        pull_request=PullRequestPlan(
            branches=tuple(wanted.branches), paths=tuple(wanted.paths or ()), until=wanted.until
        )
        if wanted
        else None,
        schedule=tuple(schedule or ()),
        time_zone=on.time_zone,
        data=tuple(on.data or ()),
    )


def _concurrency(spec: FileSpec) -> ConcurrencyPlan | None:
    found = ConcurrencySpec(group=spec.concurrency) if isinstance(spec.concurrency, str) else spec.concurrency
    return ConcurrencyPlan(group=found.group, cancel_superseded=found.cancel_superseded) if found else None


def _missing_paths(spec: FileSpec, there: Collection[str], fetched: Collection[str]) -> Iterator[Problem]:
    makers = makers_of(spec.stages)
    model = model_of(spec)
    named: list[tuple[Path, str | None, bool]] = [(("python", "lock"), spec.python.lock, False)]
    for name, dataset in spec.data.items():
        named += [(("data", name, "path"), dataset.path, False), (("data", name, "schema"), dataset.schema_path, False)]
    for name, stage in spec.stages.items():
        named += [(("stages", name, "deps", index), dep, True) for index, dep in enumerate(stage.deps or ())]
    named.append((("model", "golden"), model.golden if model else None, True))
    folders = {parent for path in there for parent in folders_around(path)}
    for place, path, may_be_made in named:
        if path is None or path in there or (may_be_made and makers.behind(path)):
            continue
        if any(is_within(path, other) or (is_within(other, path) and place[0] == "stages") for other in fetched):
            continue
        if place[0] == "stages" and path in folders:
            continue
        close = difflib.get_close_matches(path, [*there, *makers] if may_be_made else list(there), n=1, cutoff=0.8)
        made = " and no stage makes it" if may_be_made else ""
        otherwise = "`interlock run --lock` writes it; commit it" if place == ("python", "lock") else "commit it"
        remedy = f"did you mean {close[0]}?" if close else otherwise + (", or add it to a stage's outs" if made else "")
        yield Problem(place, f"the commit has no {path}{made}", remedy)


def _missing_params(spec: FileSpec, used: Mapping[str, Json]) -> Iterator[Problem]:
    for name, stage in spec.stages.items():
        for index, param in enumerate(stage.params or ()):
            if select(used, [param])[1]:
                yield Problem(
                    ("stages", name, "params", index), f"params.yaml has no {param}", nearest_param(param, used)
                )


def _missing_gpus(spec: FileSpec, there: int) -> Iterator[Problem]:
    for name, stage in spec.stages.items():
        lack = lack_of_gpus(name, stage.resources.gpu, there)
        if lack is not None:
            yield Problem(("stages", name, "resources", "gpu"), lack[0], lack[2])


def python_of(spec: FileSpec, there: Collection[str]) -> PythonPlan:
    """The Python environment: without ``python.lock``, of the lock that is there, or that could be made."""
    found = next((lock for lock in _LOCKS if lock in there), "requirements.txt" if _ASKED in there else _LOCKS[0])
    return PythonPlan(version=spec.python.version, lock=spec.python.lock or found)


def _dataset(name: str, spec: FileSpec) -> DataPlan:
    dataset = spec.data[name]
    return DataPlan(name=name, **dataset.model_dump(exclude={"home", "checks"}), checks=data_checks(dataset.checks))


def _model(spec: FileSpec, fallback: str, there: Collection[str]) -> ModelPlan | None:
    model = model_of(spec)
    if model is None:
        return None
    name = re.sub(r"[^a-z0-9]+", "-", fallback.lower().removesuffix(".git").rpartition("/")[2]).strip("-")[:63]
    kind = format_of(model.path, model.format)
    may_be_exported = model.export == "auto" and kind in EXPORTABLE and model.golden is not None
    holdout = holdout_of([_dataset(dataset, spec) for dataset in spec.data])
    return ModelPlan(
        name=model.name or name.strip("-") or "model",
        path=model.path,
        format=kind,
        golden=model.golden,
        rate=model.rate,
        checks=serving_checks(model.checks),
        may_be_exported=may_be_exported,
        holdout=holdout.path if may_be_exported and holdout and holdout.path in there else None,
    )


def _checks(spec: FileSpec, there: Collection[str], python: PythonPlan) -> tuple[StagePlan, ...]:
    checks: Sequence[str | CheckSpec] = spec.checks if spec.checks is not None else BUILTIN_CHECKS
    if spec.checks is None and has_tests(there):
        checks = (*checks, UNIT_CHECK)
    live = [check.cmd for environment in spec.deploy.values() for check in environment.checks]
    commands = [*(check.cmd for check in checks if isinstance(check, CheckSpec)), *live]
    entries = entry_files([*commands, *(stage.cmd for stage in spec.stages.values())], there)
    locks = tuple(path for path in (python.lock, "pyproject.toml") if path in there)
    planned: list[StagePlan] = []
    for check in checks:
        needs = (planned[-1].name,) if planned else ()
        if isinstance(check, CheckSpec):
            stage = StagePlan(name=check.name, kind="check", command=check.cmd, needs=needs, timeout=check.timeout)
        elif check == "dependencies":
            stage = StagePlan(name=check, kind="check", builtin="dependencies", needs=needs, deps=locks)
        else:
            builtin: Builtin = "syntax" if check == "syntax" else "imports"
            stage = StagePlan(name=check, kind="check", builtin=builtin, needs=needs, deps=entries)
        planned.append(stage)
    return tuple(planned)


def _data_stage(data: Sequence[DataPlan], before: Sequence[StagePlan]) -> tuple[StagePlan, ...]:
    if not data:
        return ()
    deps = dict.fromkeys(path for dataset in data for path in (dataset.path, dataset.schema_path) if path)
    needs = tuple(stage.name for stage in before)
    return (StagePlan(name="data", kind="data", builtin="data", needs=needs, deps=tuple(deps)),)


def _stages(
    spec: FileSpec, before: tuple[str, ...], used: Mapping[str, Json], is_overridden: bool, fetched: Collection[str]
) -> Iterator[StagePlan]:
    needs = needs_of(spec.stages)
    makers = makers_of(spec.stages)
    for name in in_order(needs):
        stage = spec.stages[name]
        params = select(used, stage.params)[0] if stage.params is not None else None
        planned = StagePlan(
            name=name,
            kind="stage",
            command=stage.cmd,
            needs=(*before, *needs[name]),
            deps=_deps(stage, needs[name], spec, makers, fetched),
            outs=tuple(stage.outs),
            metrics=tuple(stage.metrics),
            predictions=stage.predictions,
            params=dict(used) if params is None and is_overridden else params,
            env=stage.env,
            network=stage.network,
            resources=Resources(**stage.resources.model_dump()),
            timeout=stage.timeout,
            secrets=tuple(stage.secrets),
            determinism=stage.determinism,
            inputs="strict" if stage.inputs == "strict" else "auto",
            frozen=stage.frozen,
            retries=stage.retries,
            refresh=refresh_of(stage),
        )
        yield from with_version(planned)


def _deps(
    stage: StageSpec, needs: Sequence[str], spec: FileSpec, makers: Makers, fetched: Collection[str]
) -> tuple[str, ...]:
    if stage.deps is None:
        return (*fetched, *(product for need in needs for product in products_of(spec.stages[need])))
    found: dict[str, None] = {}
    for dep in stage.deps:
        products = makers.behind(dep)
        is_part = any(is_within(dep, product) for product in products)
        found |= dict.fromkeys([*products] if is_part else [dep, *products])
    return tuple(found)


def _measures(spec: FileSpec, model: ModelPlan | None) -> Iterator[StagePlan]:
    makers = makers_of(spec.stages)
    stages = spec.stages.values()
    metrics = [path for stage in stages for path in stage.metrics]
    predictions = [stage.predictions for stage in stages if stage.predictions]
    holdout = holdout_of([_dataset(name, spec) for name in spec.data]) if predictions else None
    if model is not None:
        offline = (predictions[0], holdout.path) if model.golden and predictions and holdout else ()
        deps = tuple(dict.fromkeys(path for path in (model.path, model.golden, *offline, model.holdout) if path))
        needs = dict.fromkeys(makers[product] for path in deps for product in makers.behind(path))
        yield StagePlan(
            name="served",
            kind="measure",
            builtin="served",
            needs=tuple(needs),
            deps=deps,
            outs=(SERVED_MODEL,) if model.may_be_exported else (),
            predictions=predictions[0] if offline else None,
        )
    if metrics or predictions:
        deps = (*metrics, *predictions, *((holdout.path,) if holdout else ()))
        yield StagePlan(
            name="measurements",
            kind="measure",
            builtin="measurements",
            needs=tuple(name for name, stage in spec.stages.items() if stage.metrics or stage.predictions),
            deps=deps,
            metrics=tuple(metrics),
            predictions=predictions[0] if predictions else None,
        )


def _environment(name: str, environment: EnvironmentSpec, gates: Sequence[GateSpec]) -> EnvironmentPlan:
    replicas = replicas_of(environment.replicas)
    strategy = strategy_of(environment)
    checks = tuple(
        CommandPlan(name=check.name, command=check.cmd, timeout=check.timeout, secrets=tuple(check.secrets))
        for check in environment.checks
    )
    return EnvironmentPlan(
        name=name,
        requires=tuple(environment.requires),
        strategy=strategy,
        checks=checks,
        replicas=replicas.min,
        scaling=scaling_of(replicas, gates),
        memory=replicas.memory,
        cpu=replicas.cpu,
        surge=surge_of(replicas, is_recreated=environment.strategy == "recreate"),
        windows=tuple(
            WindowPlan(opens=window.opens, seconds=window.duration, time_zone=window.time_zone)
            for window in environment.windows or ()
        ),
        monitoring=monitoring_plan_of(environment.monitoring),
        approvals=environment.approvals,
    )


def strategy_of(environment: EnvironmentSpec) -> StrategyPlan:
    """How the environment moves to a new revision."""
    if isinstance(environment.strategy, str):
        return StrategyPlan()
    blue_green = environment.strategy.blue_green
    return strategy_plan_of(environment.strategy) if blue_green is None else blue_green_plan_of(blue_green)


def _warnings(spec: FileSpec) -> Iterator[str]:
    if spec.model is not None and not spec.gates:
        yield "there are no gates: every model that is made passes"
    for name, dataset in spec.data.items():
        if not is_table(dataset):
            yield f"the dataset {name} is no CSV or Parquet file: it is not validated"
        elif dataset.schema_path is None:
            yield f"the dataset {name} has no schema: only whether it can be read is checked"
    has_predictions = any(stage.predictions for stage in spec.stages.values())
    if has_predictions and holdout_of([_dataset(name, spec) for name in spec.data]) is None:
        yield "predictions are not joined with labels: give one dataset `id` and `label`, and call it holdout"
