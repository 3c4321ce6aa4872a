"""model/ and data/holdout.csv -> metrics.json, predictions.csv and golden.json."""

import json
from pathlib import Path

import pandas as pd
import skops.io
from sklearn.metrics import accuracy_score, average_precision_score, brier_score_loss, log_loss, roc_auc_score

from flight_columns import FEATURES, LABEL, NUMBERS, read_flights

MODEL = "model/model.skops"
GOLDEN_REQUESTS = 10


def tensor(name, values):
    """One column as a tensor of the V2 inference protocol; a missing value is null."""
    data = [None if pd.isna(value) else value for value in values]
    return {"name": name, "shape": [len(data)], "datatype": "FP64" if name in NUMBERS else "BYTES", "data": data}


def golden(flights, predictions):
    """Requests and the answers that this model gives to them, so that a server can prove that it serves the same.

    Of flights of which everything is known: what is missing differs from one export of the data to the next.
    """
    rows = flights.index[flights[FEATURES].notna().all(axis=1)][:GOLDEN_REQUESTS]
    requests = [{"inputs": [tensor(name, [flights[name].iloc[row]]) for name in FEATURES]} for row in rows]
    responses = [
        {
            "outputs": [
                {"name": "prediction", "shape": [1], "datatype": "INT64", "data": [int(predictions.prediction[row])]},
                {
                    "name": "probability",
                    "shape": [1],
                    "datatype": "FP64",
                    "data": [float(predictions.probability[row])],
                },
            ]
        }
        for row in rows
    ]
    return {"requests": requests, "responses": responses}


def measure(late, predictions):
    """Numbers about the whole holdout."""
    probability = predictions.probability
    return {
        "auc": roc_auc_score(late, probability),
        "accuracy": accuracy_score(late, predictions.prediction),
        "average_precision": average_precision_score(late, probability),
        "log_loss": log_loss(late, probability),
        "brier": brier_score_loss(late, probability),
    }


def main():
    flights = read_flights("data/holdout.csv")
    model = skops.io.load(MODEL, trusted=skops.io.get_untrusted_types(file=MODEL))
    predictions = pd.DataFrame(
        {
            "id": flights["id"],
            "prediction": model.predict(flights[FEATURES]),
            "probability": model.predict_proba(flights[FEATURES])[:, 1],
        }
    )
    metrics = measure(flights[LABEL], predictions)
    predictions.to_csv("predictions.csv", index=False)
    Path("metrics.json").write_text(json.dumps(metrics, indent=1) + "\n")
    Path("golden.json").write_text(json.dumps(golden(flights, predictions)) + "\n")
    print(" ".join(f"{name} {value:.4f}" for name, value in metrics.items()))


if __name__ == "__main__":
    main()
