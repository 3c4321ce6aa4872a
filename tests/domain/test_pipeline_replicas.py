"""Replicas as they are written and as they are planned."""

from __future__ import annotations

import pytest

from interlock.errors import SeveralRefused
from interlock.pipeline.plan import ScalingPlan, SurgePlan
from interlock.pipeline.replicas.spec import replicas_of, scaling_of, surge_of
from interlock.pipeline.resolve import read_pipeline, resolve

FILE = """\
version: 1
stages: {train: {cmd: python t.py, outs: [m.skops], metrics: [m.json]}}
model: {path: m.skops, golden: golden.json}
gates: [%s]
deploy: {production: {%s}}
"""


PATHS = ("t.py", "golden.json", "uv.lock", "pyproject.toml")
KEYS = "min, max, memory, cpu, max_surge, max_unavailable"


def planned(written: str, gates: str = "{metric: auc, min: 0.7}"):
    spec = read_pipeline((FILE % (gates, written)).encode()).spec
    replicas = replicas_of(spec.deploy["production"].replicas)
    return replicas.min, replicas.memory, scaling_of(replicas, spec.gates)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("strategy: rolling", (2, None, None)),
        ("replicas: 3", (3, None, None)),
        ("replicas: {min: 4}", (4, None, None)),
        ("replicas: {max: 2}", (2, None, None)),
        ("replicas: {max: 8}", (2, None, ScalingPlan(most=8))),
        ("replicas: {min: 1, max: 3, memory: 512MiB}", (1, 2**29, ScalingPlan(most=3))),
    ],
)
def test_replicas_are_planned_as_they_are_written(written: str, expected: object) -> None:
    assert planned(written) == expected


def test_the_smallest_latency_that_a_gate_allows_is_the_one_that_counts() -> None:
    gates = "{metric: latency_p99_ms, max: 50}, {metric: latency_p99_ms, max: 20}, {metric: auc, min: 0.7}"
    gates += ", {metric: latency_p99_ms, against: production, max_ratio: 1.2}"
    assert planned("replicas: {max: 8}", gates) == (2, None, ScalingPlan(most=8, latency_ms=20.0))


@pytest.mark.parametrize(
    ("written", "problem", "remedy"),
    [
        ("replicas: {min: 5, max: 4}", "max is 4, less than min, which is 5", "write 5 or more, or remove it"),
        ("replicas: 0", "replicas must be at least 1, not 0", "write a number that is at least 1"),
        ("replicas: many", "replicas must be a whole number, not many", "write it without a point"),
        ("replicas: {max: 65}", "max must be at most 64, not 65", "write a number that is at most 64"),
        (
            "replicas: {most: 5}",
            "the key most is unknown",
            f"known keys here: {KEYS}",
        ),
        ("replicas: {memory: 512}", "512 is no size", "write a number and its unit: 512MiB or 4GiB"),
        ("replicas: {cpu: 0.05}", "cpu must be at least 0.1, not 0.05", "write a number that is at least 0.1"),
        ("replicas: {cpu: all}", "cpu must be a number, not all", "write a plain number such as 0.05"),
        ("autoscaling: {max: 8}", "the key autoscaling is unknown", "write replicas: {min: 2, max: 8}"),
    ],
)
def test_what_is_wrong_is_said_with_a_remedy(written: str, problem: str, remedy: str) -> None:
    with pytest.raises(SeveralRefused) as refused:
        planned(written)
    assert [(one.problem, one.remedy) for one in refused.value.refusals] == [(problem, remedy)]


@pytest.mark.parametrize(("written", "cpu"), [("replicas: 3", None), ("replicas: {cpu: 0.5}", 0.5)])
def test_the_cores_of_a_replica_are_planned_as_they_are_written(written: str, cpu: float | None) -> None:
    file = read_pipeline((FILE % ("{metric: auc, min: 0.7}", f"{written}, strategy: rolling")).encode())
    plan = resolve(file, project="", paths=PATHS, params={}, overrides={}, repository="flights")
    assert plan.deploy[0].cpu == cpu


@pytest.mark.parametrize(
    ("written", "surge"),
    [
        ("replicas: 3", None),
        ("replicas: {min: 3, max_surge: 1}", SurgePlan(max_surge=1, max_unavailable=0)),
        ("replicas: {min: 3, max_surge: 0, max_unavailable: 2}", SurgePlan(max_surge=0, max_unavailable=2)),
        ("replicas: {min: 3}, strategy: recreate", SurgePlan(max_surge=0, max_unavailable=64)),
    ],
)
def test_how_replicas_are_replaced_is_planned_as_it_is_written(written: str, surge: SurgePlan | None) -> None:
    spec = read_pipeline((FILE % ("{metric: auc, min: 0.7}", written)).encode()).spec
    environment = spec.deploy["production"]
    is_recreated = environment.strategy == "recreate"
    assert surge_of(replicas_of(environment.replicas), is_recreated=is_recreated) == surge


CANARY = "strategy: {canary: {steps: [{set_weight: 5}, {analysis: {for: 1m}}]}}"


@pytest.mark.parametrize(
    ("written", "problem", "remedy"),
    [
        (f"replicas: {{max_surge: 1}}, {CANARY}", "max_surge is of no use with strategy: canary",
         "remove it, or write strategy: rolling"),
        ("replicas: {max_surge: 1}, strategy: recreate", "max_surge is of no use with strategy: recreate",
         "remove it, or write strategy: rolling"),
        ("replicas: {max_unavailable: 1}",
         "max_unavailable bounds nothing without max_surge: all new replicas stand beside the old ones",
         "add max_surge: 0"),
        ("replicas: {max_surge: 0}", "with neither more nor fewer replicas none can be replaced",
         "write max_surge: 1, or max_unavailable: 1"),
        ("replicas: {min: 2, max_surge: 0, max_unavailable: 2}", "with 2 of 2 replicas away nobody serves",
         "write less than 2"),
        ("replicas: {min: 1, max_surge: 0, max_unavailable: 1}", "with 1 of 1 replicas away nobody serves",
         "write strategy: recreate if that may be"),
    ],
)  # fmt: skip
def test_replicas_that_could_not_be_replaced_are_refused(written: str, problem: str, remedy: str) -> None:
    with pytest.raises(SeveralRefused) as refused:
        read_pipeline((FILE % ("{metric: auc, min: 0.7}", written)).encode())
    assert [(one.problem, one.remedy) for one in refused.value.refusals] == [(problem, remedy)]
