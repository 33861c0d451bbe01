"""The script that people write: read a table, predict it, write it. All of it is in memory."""

import sys

import joblib
import pandas as pd


def main() -> None:
    """Arguments: the artifact, the input, the output, and `proba` for probabilities."""
    artifact, file, output, *proba = sys.argv[1:]
    model = joblib.load(artifact)
    table = pd.read_csv(file)
    X = table.to_numpy()
    table["label"] = model.predict(X)
    if proba:
        table[[f"probability_{c}" for c in model.classes_]] = model.predict_proba(X)
    table.to_csv(output, index=False)


if __name__ == "__main__":
    main()
