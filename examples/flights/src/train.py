"""data/features/train.csv -> model/model.skops: one pipeline that takes the raw columns of a flight."""

from pathlib import Path

import yaml
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from flight_columns import CATEGORIES, FEATURES, LABEL, NUMBERS, read_flights
from model_file import save


def logistic(params, seed):
    """A line through everything, and a term for each hour: delays pile up towards the evening."""
    columns = ColumnTransformer(
        [
            ("categories", OneHotEncoder(handle_unknown="ignore"), [*CATEGORIES, "hour"]),
            ("numbers", make_pipeline(SimpleImputer(add_indicator=True), StandardScaler()), NUMBERS),
        ]
    )
    return Pipeline(
        [("columns", columns), ("classifier", LogisticRegression(max_iter=500, random_state=seed, **params))]
    )


def boosting(params, seed):
    """Gradient boosting over binned columns; a missing value is a value of its own, so is an unknown category."""
    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    columns = ColumnTransformer([("categories", codes, CATEGORIES), ("numbers", "passthrough", NUMBERS)])
    classifier = HistGradientBoostingClassifier(early_stopping=False, random_state=seed, **params)
    return Pipeline([("columns", columns), ("classifier", classifier)])


ESTIMATORS = {"logistic": logistic, "boosting": boosting}


def main():
    params = yaml.safe_load(Path("params.yaml").read_text())["train"]
    flights = read_flights("data/features/train.csv")
    name = params["estimator"]
    model = ESTIMATORS[name](params[name], params["seed"]).fit(flights[FEATURES], flights[LABEL])
    Path("model").mkdir(exist_ok=True)
    save(model, "model/model.skops")
    print(f"{name} trained on {len(flights)} flights")


if __name__ == "__main__":
    main()
