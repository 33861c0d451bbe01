"""The file of a model is known by its content. A pickle is opened only if the user trusts it."""

import gzip
import os
import pickle
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cloudpickle
import joblib
import numpy as np
import pytest
import sklearn
from sklearn.datasets import load_wine
from sklearn.linear_model import RidgeClassifier
from sklearn.tree import DecisionTreeClassifier
from skops import io as skops

from model.errors import SourceError, SourceNotFound, Untrusted
from model.sources.files import open_file

X, Y = load_wine(return_X_y=True)
MODEL = RidgeClassifier().fit(X, Y)


def pickled(protocol: int, model: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(model, protocol))


WRITERS: dict[str, Callable[[Any, Path], Any]] = {
    "joblib": joblib.dump,
    "cloudpickle": lambda model, path: path.write_bytes(cloudpickle.dumps(model)),
    **{f"pickle {n}": partial(pickled, n) for n in range(6)},
    **{
        f"joblib {kind}": partial(joblib.dump, compress=(kind, 3))
        for kind in ("zlib", "gzip", "bz2", "xz", "lzma")
    },
    "pickle gzip": lambda model, path: path.write_bytes(gzip.compress(pickle.dumps(model))),
}


class Canary:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (self._folder,)


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_a_pickle_of_any_form_is_opened_if_it_is_trusted(
    tmp_path: Path, write: Callable[[Any, Path], Any]
) -> None:
    path = tmp_path / "model"  # the ending of a name shows nothing
    write(MODEL, path)
    model = open_file(path, trust=True).model
    assert (model.predict(X) == MODEL.predict(X)).all()


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_a_pickle_of_any_form_is_not_opened_otherwise(
    tmp_path: Path, write: Callable[[Any, Path], Any]
) -> None:
    path, sung = tmp_path / "model", tmp_path / "sung"
    write(Canary(sung), path)
    with pytest.raises(Untrusted, match=r"runs the code .* It was not opened.*--trust"):
        open_file(path, trust=False)
    assert not sung.exists()
    open_file(path, trust=True)
    assert sung.exists()


def test_a_model_of_skops_needs_no_trust(tmp_path: Path) -> None:
    path = tmp_path / "model.skops"
    skops.dump(MODEL, path)
    opened = open_file(path, trust=False)
    assert (opened.model.coef_ == MODEL.coef_).all()
    assert opened.pickled is None


def test_types_that_skops_does_not_know_need_it(tmp_path: Path) -> None:
    path = tmp_path / "model.skops"
    skops.dump(DecisionTreeClassifier(max_depth=1).fit(X, Y), path)
    with pytest.raises(Untrusted, match=r"sklearn\.tree\._tree\.Tree.*--trust"):
        open_file(path, trust=False)
    assert open_file(path, trust=True).model.get_depth() == 1


def test_an_estimator_of_another_version_is_refused(tmp_path: Path) -> None:
    version = sklearn.__version__
    other = "0" + version[1:]
    pickled, zipped = tmp_path / "model.pkl", tmp_path / "model.skops"
    pickled.write_bytes(pickle.dumps(MODEL).replace(version.encode(), other.encode()))
    with zipfile.ZipFile(skops_file(tmp_path)) as old, zipfile.ZipFile(zipped, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name).replace(version.encode(), other.encode()))
    sentence = f"saved with scikit-learn {other}, the installed version is {version}.*=={other}"
    for path in (pickled, zipped):
        with pytest.raises(SourceError, match=sentence):
            open_file(path, trust=True)


def skops_file(folder: Path) -> Path:
    path = folder / "original.skops"
    skops.dump(MODEL, path)
    return path


def changed(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 255]) + data[middle + 1 :]


def test_what_is_no_model_is_named(tmp_path: Path) -> None:
    zipped = skops_file(tmp_path).read_bytes()
    other_zip = tmp_path / "other.zip"
    with zipfile.ZipFile(other_zip, "w") as archive:
        archive.writestr("data", "1")
    sentences = {
        b"": "is empty",
        b"size,kind\n1,flat\n": "is not a model that was saved with joblib, pickle, cloudpickle",
        b"a text that ends with a dot.": "is not a model that was saved with",
        b"version https://git-lfs.github.com/spec/v1\n": "git lfs pull",
        b"PAR1....PAR1": "is a Parquet table; give the model first",
        b"tree\nversion=v4\n": "is a booster of LightGBM",
        b"<!doctype html>": "a download may have failed",
        b"\x28\xb5\x2f\xfd....": "compressed with zstd",
        other_zip.read_bytes(): "it has no schema.json inside",
        zipped[:500]: "is a damaged ZIP file",
        changed(zipped): "is damaged at",
        pickle.dumps(MODEL)[:300]: "cannot be opened",
        b"\x80\x04\x95": "cannot be opened",
        gzip.compress(b"a text"): "cannot be opened",
    }
    for data, sentence in sentences.items():
        path = tmp_path / "file"
        path.write_bytes(data)
        with pytest.raises(SourceError, match=sentence):
            open_file(path, trust=True)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path, sentence in ((tmp_path / "x", "No such file"), (Path("/dev/zero"), "not a regular")):
        with pytest.raises(SourceNotFound, match=sentence):
            open_file(path, trust=True)


@pytest.mark.parametrize(
    ("pickled", "sentence"),
    [
        (b"cngboost.api\nNGBoost\n.", "needs ngboost, which is not installed: pip install ngboost"),
        (b"cimblearn.pipeline\nPipeline\n.", "pip install imbalanced-learn"),
        (b"csklearn.gone\nModel\n.", "the installed version of sklearn lacks"),
        (b"cour_steps\nStep\n.", "needs the module our_steps.*PYTHONPATH"),
        (b"c__main__\nStep\n.", "needs a class or function of the program that saved it"),
        (b"csys\nexit\n)R.", "cannot be opened: SystemExit"),
    ],
)
def test_what_a_pickle_lacks_is_named(tmp_path: Path, pickled: bytes, sentence: str) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(pickled)
    with pytest.raises(SourceError, match=sentence):
        open_file(path, trust=True)


def test_a_warning_of_a_library_is_kept_once(tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    warning = b"cwarnings\nwarn\n(Vsaved by  an older version\ntR"
    path.write_bytes(warning + b"0" + warning + b".")
    assert open_file(path, trust=True).warnings == ("saved by an older version",)


def test_numbers_stay_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "model.joblib"
    joblib.dump(MODEL, path, compress=9)
    assert np.array_equal(open_file(path, trust=True).model.coef_, MODEL.coef_)
