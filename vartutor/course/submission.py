"""Execute one notebook that a student handed in, in a process of its own that imports as little as it can."""

import json
import sys
from itertools import accumulate
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import DeadKernelError
from nbformat import NotebookNode

NO_NOTEBOOK = 3  # exit code where cells cannot even be sent to a kernel
MAX_OUTPUT = 1_000_000  # characters of a cell's outputs that are kept


def execute_submission(source: str, target: str, place: str, seed: str) -> int:
    """Execute a notebook at profile smoke from top to bottom, whatever its cells raise; gives an exit code.

    Args:
        target: where the executed notebook goes.
        place: folder to run it in.
    """
    notebook = nbformat.read(source, as_version=4)
    options = {"allow_errors": True, "resources": {"metadata": {"path": place}}}
    code, quiet = 0, {"extra_arguments": ["--log-level=40"]}  # ipykernel greets otherwise
    try:
        for cell in notebook.cells:
            if "parameters" in cell.metadata.get("tags", ()):
                cell.source = f'PROFILE = "smoke"\nSEED = {int(seed)}\nDEVICE = "cpu"'
        NotebookClient(notebook, timeout=None, kernel_name="python3", **options, **quiet).execute()
    except DeadKernelError:
        code = 1
    except Exception:  # such as a cell that no message can hold
        code = NO_NOTEBOOK
    for cell in notebook.cells:
        _shorten(cell)
    # Half a character, which text may hold and a file may not, becomes its escape in JSON.
    Path(target).write_text(nbformat.writes(notebook) + "\n", encoding="utf-8", errors="backslashreplace")
    return code


def _shorten(cell: NotebookNode) -> None:
    """Leave out of a cell's outputs what goes beyond ``MAX_OUTPUT`` characters."""
    sizes = accumulate(len(json.dumps(output)) for output in cell.get("outputs", ()))
    count = sum(size <= MAX_OUTPUT for size in sizes)
    if count < len(cell.get("outputs", ())):
        cell.outputs[count:] = [nbformat.v4.new_output("stream", name="stderr", text="… more was left out\n")]


if __name__ == "__main__":
    sys.exit(execute_submission(*sys.argv[1:]))
