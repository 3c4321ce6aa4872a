"""What a push makes of the gates of the model in production: which judge all the same, and what is told."""

import pytest

from interlock.pipeline.gates.guards import guards_of, tell_guards
from interlock.pipeline.plan import CheckPlan, DataPlan, GatePlan, ModelPlan, Plan

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
