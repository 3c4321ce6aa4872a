"""What a push makes of the gates of the model in production: which judge all the same, and what is told."""

import pytest

from interlock.pipeline.gates.guards import (
    data_guards_of,
    guards_of,
    model_guards_of,
    tell_commands,
    tell_files,
    tell_guards,
)
from interlock.pipeline.plan import CheckPlan, DataPlan, GatePlan, ModelPlan, Plan, StagePlan

AUC = GatePlan(metric="auc", min=0.9)
PAIRED = GatePlan(metric="auc", against="production", margin=0.01)
HOLDOUT = DataPlan(name="holdout", path="h.csv", id="id", label="y")
CHECK = CheckPlan(name="volume")
MODEL = ModelPlan(name="small", path="model/", format="skops")
BEFORE = Plan(gates=(AUC, PAIRED), data=(HOLDOUT,), model=MODEL)
SAME = ": it is judged all the same"


def gates(*of_plan: GatePlan) -> Plan:
    return BEFORE.model_copy(update={"gates": of_plan})


def data(*of_plan: DataPlan) -> Plan:
    return BEFORE.model_copy(update={"data": of_plan})


@pytest.mark.parametrize(
    ("plan", "guards", "told"),
    [
        (BEFORE, (), []),
        (gates(AUC, PAIRED, GatePlan(metric="f1", min=0.1)), (), []),
        (gates(PAIRED), (AUC,), [f"the gate auc min 0.9 is not as production's run had it{SAME}"]),
        (
            gates(AUC.model_copy(update={"min": 0.8}), PAIRED),
            (AUC,),
            [f"the gate auc min 0.9 is not as production's run had it, min 0.9 -> 0.8{SAME}"],
        ),
        (
            gates(AUC, PAIRED.model_copy(update={"margin": 0.2, "alpha": 0.4})),
            (PAIRED,),
            [f"the gate {PAIRED.title} is not as production's run had it, margin 0.01 -> 0.2, alpha 0.05 -> 0.4{SAME}"],
        ),
        (
            gates(GatePlan(metric="auc", max=1.0), GatePlan(metric="auc", min=0.1), PAIRED),
            (AUC,),
            [f"the gate auc min 0.9 is not as production's run had it{SAME}"],
        ),
        (data(), (), ["the dataset holdout of production's run is gone"]),
        (
            data(HOLDOUT.model_copy(update={"path": "easy.csv"})),
            (),
            ["the dataset holdout is not declared as production's run had it: h.csv -> easy.csv"],
        ),
        (
            data(HOLDOUT.model_copy(update={"label": "z", "checks": (CHECK,)})),
            (),
            [
                "the checks of the dataset holdout are not as production's run had them",
                "the dataset holdout is not declared as production's run had it",
            ],
        ),
        (
            BEFORE.model_copy(update={"model": MODEL.model_copy(update={"checks": (CHECK,)})}),
            (),
            ["the checks of the model are not as production's run had them"],
        ),
        (
            BEFORE.model_copy(update={"model": MODEL.model_copy(update={"rate": 5.0})}),
            (),
            ["the rate of the model is not as production's run had it: None -> 5.0"],
        ),
        (BEFORE.model_copy(update={"model": None}), (), []),
    ],
)
def test_what_changed_is_told_and_the_gates_of_production_stay(
    plan: Plan, guards: tuple[GatePlan, ...], told: list[str]
) -> None:
    assert guards_of(plan, BEFORE) == guards
    assert list(tell_guards(plan, BEFORE)) == told


# --- what judges is shown otherwise ---

UNIT = StagePlan(name="unit", kind="check", command="pytest -q")
SYNTAX = StagePlan(name="syntax", kind="check", builtin="syntax")
TRAINING = StagePlan(name="train", kind="stage", command="python train.py")


@pytest.mark.parametrize(
    ("now", "told"),
    [
        ((UNIT, SYNTAX, TRAINING), []),
        ((UNIT, SYNTAX, StagePlan(name="more", kind="check", command="ruff check")), []),
        ((UNIT, TRAINING), ["the check syntax is not as it was: syntax -> gone"]),
        ((UNIT.model_copy(update={"command": "true"}), SYNTAX), ["the check unit is not as it was: pytest -q -> true"]),
        ((UNIT.model_copy(update={"kind": "stage"}), SYNTAX), ["the check unit is not as it was: pytest -q -> gone"]),
    ],
)
def test_checks_before_training_that_are_gone_or_run_something_else_are_told(
    now: tuple[StagePlan, ...], told: list[str]
) -> None:
    assert list(tell_commands(Plan(stages=now), Plan(stages=(UNIT, SYNTAX, TRAINING)), "as it was")) == told


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ((), []),
        (("s.yaml", "golden.json", "flights/h.csv"), []),  # of another project
        (("flights/s.yaml",), ["the schema of the dataset holdout, flights/s.yaml, is not as it was"]),
        (("flights/golden.json",), ["the file of golden requests, flights/golden.json, is not as it was"]),
    ],
)
def test_files_that_judge_are_told_where_they_changed(changed: tuple[str, ...], told: list[str]) -> None:
    data = (DataPlan(name="holdout", path="h.csv", schema_path="s.yaml"), DataPlan(name="train", path="t.csv"))
    model = MODEL.model_copy(update={"golden": "golden.json"})
    plan = Plan(project="flights", data=data, model=model)
    assert list(tell_files(plan, changed, "as it was")) == [f"{one}: it judges as it is now" for one in told]
    assert list(tell_files(Plan(), changed, "as it was")) == []


# --- checks of datasets and of the served model ---

VOLUME = CheckPlan(name="volume", limits={"min_ratio": 0.5})
SOFT = VOLUME.model_copy(update={"limits": {"min_ratio": 0.01}})
WRITTEN = VOLUME.model_copy(update={"is_written": True})
UNITS = CheckPlan(name="units", limits={"max": 0.1})
TRAIN = DataPlan(name="train", path="t.csv", checks=(UNITS,))
CHECKED = DataPlan(name="holdout", path="h.csv", id="id", label="y", checks=(VOLUME, UNITS))
STAY = ": its own are asked all the same"
OTHERS = "are not as production's run had them"


def checked(*data: DataPlan) -> Plan:
    return Plan(data=data, model=MODEL.model_copy(update={"checks": (VOLUME,)}))


def holdout(*checks: CheckPlan, **changed: str) -> DataPlan:
    return CHECKED.model_copy(update={"checks": checks, **changed})


@pytest.mark.parametrize(
    ("now", "lost", "told"),
    [
        (CHECKED, (), []),
        (holdout(UNITS, VOLUME), (), [f"the checks of the dataset holdout {OTHERS}"]),
        (holdout(VOLUME, UNITS, CheckPlan(name="drift")), (), [f"the checks of the dataset holdout {OTHERS}"]),
        (holdout(WRITTEN, UNITS), (), [f"the checks of the dataset holdout {OTHERS}"]),
        (holdout(SOFT, UNITS), (VOLUME,), [f"the checks of the dataset holdout {OTHERS}{STAY}"]),
        (holdout(UNITS), (VOLUME,), [f"the checks of the dataset holdout {OTHERS}{STAY}"]),
        (holdout(), (VOLUME, UNITS), [f"the checks of the dataset holdout {OTHERS}{STAY}"]),
        (
            holdout(UNITS, name="test"),
            (VOLUME,),
            [
                f"the checks of the dataset holdout {OTHERS}{STAY}",
                "the dataset holdout is not declared as production's run had it: holdout -> test",
            ],
        ),
        (
            holdout(path="easy.csv", name="test"),
            (),
            ["the dataset holdout of production's run is gone"],
        ),
    ],
)
def test_checks_that_a_push_softens_stay_those_of_production(
    now: DataPlan, lost: tuple[CheckPlan, ...], told: list[str]
) -> None:
    guards = data_guards_of(checked(TRAIN, now), checked(TRAIN, CHECKED))
    # every dataset is there, for one may be compared with another; only those that lost checks are asked
    expected = (TRAIN.model_copy(update={"checks": ()}), now.model_copy(update={"checks": lost}))
    assert guards == (expected if lost else ())
    assert list(tell_guards(checked(TRAIN, now), checked(TRAIN, CHECKED))) == told


def test_what_was_asked_to_be_decided_stays_so() -> None:
    assert data_guards_of(checked(holdout(VOLUME)), checked(holdout(WRITTEN)))[0].checks == (WRITTEN,)


def test_softened_checks_of_the_served_model_stay_too() -> None:
    softer = BEFORE.model_copy(update={"model": MODEL})
    assert model_guards_of(softer, checked()) == (VOLUME,)
    assert list(tell_guards(softer, checked()))[-1] == f"the checks of the model {OTHERS}{STAY}"
    assert model_guards_of(checked(), softer) == ()
    assert model_guards_of(Plan(), checked()) == ()
