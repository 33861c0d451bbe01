"""A FastAPI application as in its tutorial: typed bodies, a plain function for each request."""

import os

import joblib
import numpy as np
from fastapi import FastAPI
from pydantic import BaseModel


class Rows(BaseModel):
    """The body of a request."""

    X: list[list[float]]


class Predictions(BaseModel):
    """A label and probabilities for each row."""

    y: list[str]
    proba: list[list[float]]


model = joblib.load(os.environ["PETAL_MODEL"])
app = FastAPI()


@app.post("/infer")
def infer(rows: Rows) -> Predictions:
    """Predict all rows of one request."""
    X = np.array(rows.X)
    return Predictions(y=model.predict(X).tolist(), proba=model.predict_proba(X).tolist())
