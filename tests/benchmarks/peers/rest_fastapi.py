"""A FastAPI application as its tutorial has it: typed bodies, a plain function per request."""

import os

import joblib
import numpy as np
from fastapi import FastAPI
from pydantic import BaseModel


class Question(BaseModel):
    """Rows to answer."""

    X: list[list[float]]


class Answer(BaseModel):
    """A label and probabilities for each row."""

    y: list[str]
    proba: list[list[float]]


model = joblib.load(os.environ["PETAL_MODEL"])
app = FastAPI()


@app.post("/infer")
def infer(question: Question) -> Answer:
    """Predict all rows of one request."""
    X = np.array(question.X)
    return Answer(y=model.predict(X).tolist(), proba=model.predict_proba(X).tolist())
