"""The notebook is executed top to bottom, and what is committed is what it gives."""

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from model import artifact, train
from tests.processes import ROOT

NOTEBOOK = ROOT / "model" / "train.ipynb"


def outputs(notebook: Any) -> list[list[tuple[str, str]]]:
    """Each code cell's output kinds and texts; pictures only by their kind."""
    return [
        [(o.output_type, o.get("text", "")) for o in cell.outputs]
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


# The kernel talks over loopback in the clear, and warns of it.
@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_the_notebook_runs_and_saves_the_model_that_petal_train_saves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    committed = nbformat.read(NOTEBOOK, as_version=4)
    executed = nbformat.read(NOTEBOOK, as_version=4)
    resources = {"metadata": {"path": str(tmp_path)}}
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    NotebookClient(executed, timeout=120, resources=resources).execute()
    saved = artifact.load(tmp_path / "iris.joblib").card
    assert saved == artifact.save(*train.train(seed=0), tmp_path / "again.joblib")
    # Digests and last digits of floats differ between library versions; kinds do not.
    kinds = [[kind for kind, _ in cell] for cell in outputs(executed)]
    assert kinds == [[kind for kind, _ in cell] for cell in outputs(committed)]
    assert saved.id in "".join(text for cell in outputs(executed) for _, text in cell)


def test_the_committed_notebook_has_its_outputs_and_no_error() -> None:
    cells = outputs(nbformat.read(NOTEBOOK, as_version=4))
    kinds = [kind for cell in cells for kind, _ in cell]
    assert "error" not in kinds
    assert all(cells), "a code cell has no output"
    assert kinds.count("display_data") == 3


def test_the_committed_notebook_is_small_and_tells_nothing_of_a_machine() -> None:
    text = NOTEBOOK.read_text()
    assert len(text) < 300_000
    assert [
        word for word in (str(ROOT), str(Path.home()), "/tmp/", "localhost") if word in text
    ] == []
    assert nbformat.read(NOTEBOOK, as_version=4).metadata == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
