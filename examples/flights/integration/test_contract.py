"""What every client of this model relies on, asked of the endpoint that is about to be trusted."""

import json
import os
import urllib.error
import urllib.request

import pytest

FLIGHT = {
    "carrier": "UA",
    "origin": "EWR",
    "dest": "IAH",
    "tailnum": "N14228",
    "weekday": 2.0,
    "hour": 5.0,
    "minute": 15.0,
    "distance": 1400.0,
    "temp": 39.02,
    "dewp": 28.04,
    "humid": 64.43,
    "wind_dir": 260.0,
    "wind_speed": 12.66,
    "precip": 0.0,
    "pressure": 1011.9,
    "visib": 10.0,
    "plane_year": 1999.0,
    "engines": 2.0,
    "seats": 149.0,
}
STORM = {"hour": 19.0, "precip": 0.8, "visib": 0.5, "wind_speed": 30.0, "pressure": None}


def ask(*flights):
    """Status and body of one request for these flights."""
    inputs = [
        {
            "name": name,
            "shape": [len(flights)],
            "datatype": "BYTES" if isinstance(FLIGHT[name], str) else "FP64",
            "data": [flight[name] for flight in flights],
        }
        for name in flights[0]
    ]
    request = urllib.request.Request(
        os.environ["INTERLOCK_ENDPOINT"].rstrip("/") + "/v2/models/flights/infer",
        data=json.dumps({"inputs": inputs}).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"{}")


def probabilities(body):
    return next(output["data"] for output in body["outputs"] if output["name"] == "probability")


@pytest.mark.parametrize("count", [1, 3])
def test_each_flight_has_a_decision_and_a_probability(count):
    status, body = ask(*[FLIGHT] * count)
    outputs = {output["name"]: output for output in body["outputs"]}
    assert status == 200
    assert outputs["prediction"]["shape"] == outputs["probability"]["shape"] == [count]
    assert set(outputs["prediction"]["data"]) <= {0, 1}
    assert all(0 <= probability <= 1 for probability in outputs["probability"]["data"])


def test_an_evening_storm_is_worse_than_a_clear_morning():
    _, body = ask(FLIGHT, FLIGHT | STORM)
    clear, storm = probabilities(body)
    assert storm > clear


def test_missing_weather_is_answered():
    status, _ = ask(FLIGHT | {"temp": None, "wind_speed": None, "visib": None})
    assert status == 200


def test_a_request_without_a_column_is_the_clients_mistake():
    status, body = ask({name: value for name, value in FLIGHT.items() if name != "carrier"})
    assert status == 400
    assert "carrier" in body["error"]
