"""data/train.csv -> data/features/train.csv: mended rows, only the columns that a model may see, and the label."""

from pathlib import Path

import yaml

from flight_columns import FEATURES, LABEL, mend, read_flights


def main():
    params = yaml.safe_load(Path("params.yaml").read_text())["features"]
    flights = mend(read_flights("data/train.csv"), **params)
    folder = Path("data/features")
    folder.mkdir(parents=True, exist_ok=True)
    flights[[*FEATURES, LABEL]].to_csv(folder / "train.csv", index=False)
    print(f"{len(flights)} flights, {flights[LABEL].mean():.1%} of them late")


if __name__ == "__main__":
    main()
