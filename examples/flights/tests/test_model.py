import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.base import clone

from flight_columns import CATEGORIES, FEATURES, NUMBERS
from model_file import save
from train import ESTIMATORS

PARAMS = {"logistic": {"C": 1.0}, "boosting": {"max_iter": 5, "learning_rate": 0.3, "max_leaf_nodes": 8}}


def some_flights(count):
    random = np.random.default_rng(7)
    numbers = {name: random.normal(10, 3, count) for name in NUMBERS} | {"hour": random.integers(5, 23, count) * 1.0}
    words = {name: random.choice(["AA", "BB", "CC"], count) for name in [*CATEGORIES, "tailnum"]}
    flights = pd.DataFrame(words | numbers).astype(dict.fromkeys(words, "object"))[FEATURES]
    flights.loc[::7, ["pressure", "plane_year", "engines", "seats"]] = np.nan
    return flights, (flights.hour > 14).astype(int)


@pytest.fixture(params=sorted(ESTIMATORS))
def model_and_flights(request):
    flights, late = some_flights(400)
    return ESTIMATORS[request.param](PARAMS[request.param], 13).fit(flights, late), flights, late


def test_a_model_learns_that_evenings_are_late(model_and_flights):
    model, flights, late = model_and_flights
    assert (model.predict(flights) == late).mean() > 0.95


def test_unknown_airports_and_missing_planes_are_answered(model_and_flights):
    model, flights, _ = model_and_flights
    strange = flights.iloc[:3].assign(dest="XXX", tailnum="N0", plane_year=np.nan, engines=np.nan, seats=np.nan)
    assert np.isfinite(model.predict_proba(strange)).all()


def test_a_saved_model_answers_as_before(model_and_flights, tmp_path):
    model, flights, _ = model_and_flights
    save(model, tmp_path / "model.skops")
    again = skops.io.load(tmp_path / "model.skops", trusted=skops.io.get_untrusted_types(file=tmp_path / "model.skops"))
    assert np.array_equal(again.predict_proba(flights), model.predict_proba(flights))


def test_the_same_model_is_the_same_file(model_and_flights, tmp_path):
    model, flights, late = model_and_flights
    for name, one in (("first", model), ("second", clone(model).fit(flights, late))):
        save(one, tmp_path / name)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()
