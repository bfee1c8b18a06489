"""What must hold for a committed notebook, before anybody executes it again."""

import re
import statistics
from collections.abc import Iterator

from nbformat import NotebookNode

from vartutor.chapter import PARAMETERS
from vartutor.course.chapters import Chapter, find_poster
from vartutor.course.prose import MAX_WORDS, MEDIAN_WORDS, count_words, sentences
from vartutor.errors import UserError
from vartutor.open_code import TAG

TAGS = {"parameters", "poster", "hide-input", "exercise", TAG, "widget", "nbval-ignore-output"}
MAX_BYTES = 1_000_000
MAX_LINES = 40
MEDIAN_LINES = 8
WORDS_PER_CELL = (50, 110)
MACHINE_PATH = re.compile(r"/(?:home|root|tmp|work|Users)/\w")


def check(chapter: Chapter) -> list[str]:
    """Problems of one chapter, one line each; empty if all is well."""
    if not chapter.ipynb.is_file():
        return [f"{chapter.name}: no .ipynb; run: vartutor build {chapter.name}"]
    try:
        source, executed = chapter.read_source(), chapter.read_executed()
    except UserError as error:
        return [str(error)]
    rules = (
        _pairing(source, executed, chapter.name),
        _execution(executed),
        _outputs(executed),
        _size(chapter),
        _poster(chapter, executed),
        _cells(executed),
        _figures(executed),
        _prose(executed),
    )
    return [f"{chapter.name}: {problem}" for rule in rules for problem in rule]


def _code(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def _pairing(source: NotebookNode, executed: NotebookNode, name: str) -> Iterator[str]:
    again = f"run: vartutor build {name}"
    mine, theirs = ([(c.cell_type, c.source, dict(c.metadata)) for c in nb.cells] for nb in (source, executed))
    for i, (a, b) in enumerate(zip(mine, theirs, strict=False)):
        if a != b:
            yield f"cell {i} differs between .py and .ipynb; {again}"
            return
    if len(mine) != len(theirs):
        yield f".py has {len(mine)} cells, .ipynb has {len(theirs)}; {again}"
    elif [c.get("id") for c in executed.cells] != [c.id for c in source.cells]:
        yield f"cell ids are not the numbered ones; {again}"
    elif executed.metadata != source.metadata:
        yield f"notebook metadata is not the fixed one; {again}"


def _execution(notebook: NotebookNode) -> Iterator[str]:
    counts = [cell.execution_count for cell in _code(notebook)]
    if counts != list(range(1, len(counts) + 1)):
        yield "not executed from top to bottom in one run"


def _outputs(notebook: NotebookNode) -> Iterator[str]:
    for cell in _code(notebook):
        for output in cell.outputs:
            if output.output_type == "error":
                yield f"In [{cell.execution_count}] holds an error: {output.ename}"
            if output.get("name") == "stderr":
                yield f"In [{cell.execution_count}] printed to stderr: {output.text.splitlines()[0]}"
            if any("widget" in kind for kind in output.get("data", ())):
                yield f"In [{cell.execution_count}] holds a widget; tag the cell widget"
            if MACHINE_PATH.search(_text(output)):
                yield f"In [{cell.execution_count}] prints a path of this machine"


def _size(chapter: Chapter) -> Iterator[str]:
    size = chapter.ipynb.stat().st_size
    if size > MAX_BYTES:
        yield f"{size / 1000:.0f} kB, over {MAX_BYTES / 1000:.0f}"


def _poster(chapter: Chapter, notebook: NotebookNode) -> Iterator[str]:
    picture = find_poster(notebook)
    if picture and (not chapter.poster.is_file() or chapter.poster.read_bytes() != picture):
        yield f"assets/{chapter.poster.name} is not this chapter's picture; run: vartutor build {chapter.name}"


def _cells(notebook: NotebookNode) -> Iterator[str]:
    for i, cell in enumerate(notebook.cells):
        tags = set(cell.metadata.get("tags", ()))
        if unknown := tags - TAGS:
            yield f"cell {i} has unknown tags: {', '.join(sorted(unknown))}"
        if "widget" in tags and "nbval-ignore-output" not in tags:
            yield f"cell {i} is a widget and needs the tag nbval-ignore-output too"
    lengths = [sum(bool(line.strip()) for line in cell.source.splitlines()) for cell in _code(notebook)]
    if not lengths:
        yield "no code cell"
        return
    if max(lengths) > MAX_LINES:
        yield f"a code cell of {max(lengths)} lines, over {MAX_LINES}"
    seen = [
        n for n, cell in zip(lengths, _code(notebook), strict=True) if "hide-input" not in cell.metadata.get("tags", ())
    ]
    if seen and statistics.median(seen) > MEDIAN_LINES:
        yield f"code cells of {statistics.median(seen):g} lines in the median, over {MEDIAN_LINES}"
    names = [
        re.findall(r"^(\w+) *=", c.source, re.M) for c in _code(notebook) if "parameters" in c.metadata.get("tags", ())
    ]
    if names != [list(PARAMETERS)]:
        yield f"one cell tagged parameters must set exactly {', '.join(PARAMETERS)}; found {names}"


def _figures(notebook: NotebookNode) -> Iterator[str]:
    for cell in _code(notebook):
        figures = [o for o in cell.outputs if any(kind.startswith("image/") for kind in o.get("data", ()))]
        if len(figures) > 1:
            yield f"In [{cell.execution_count}] shows {len(figures)} figures; one per cell"
        for output in figures:
            alt = "".join(output.metadata.get(kind, {}).get("alt", "") for kind in output.data)
            if len(alt) < 30 or not output.metadata.get("vartutor", {}).get("caption"):
                yield f"In [{cell.execution_count}] has a figure without alt text or caption; use vartutor.show"
    for i, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            for alt, target in re.findall(r"!\[(.*?)\]\((.*?)\)", cell.source, re.S):
                if len(alt) < 30:
                    yield f"cell {i}: image {target} needs an alt text of 30 characters"
                if re.match(r"https?:|data:", target):
                    yield f"cell {i}: image {target[:40]} is not a file of this repository"


def _prose(notebook: NotebookNode) -> Iterator[str]:
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    words = len(re.findall(r"[A-Za-z']{2,}", re.sub(r"\$\$.*?\$\$|\(https?:.*?\)", "", text, flags=re.S)))
    per_cell = words / max(1, len(_code(notebook)))
    low, high = WORDS_PER_CELL
    if not low <= per_cell <= high:
        yield f"{per_cell:.0f} words of prose per code cell, outside {low}..{high}"
    lengths = {sentence: count_words(sentence) for sentence in sentences(notebook)}
    for sentence, length in lengths.items():
        if length > MAX_WORDS:
            yield f"a sentence of {length} words, over {MAX_WORDS}: {sentence[:60]} …"
    if lengths and statistics.median(lengths.values()) > MEDIAN_WORDS:
        yield f"sentences of {statistics.median(lengths.values()):g} words in the median, over {MEDIAN_WORDS}"
    # A version is not a result, nor is the memory in the header: an output may print the same digits by chance.
    printed = "\n".join(_text(output) for cell in _code(notebook) for output in cell.outputs)
    for number in sorted(set(re.findall(r"(?<![\w.])(?<!torch )\d+\.\d+(?! GB to run|\w|\.\d)", text))):
        if re.search(rf"(?<![\d.]){re.escape(number)}(?!\d|\.\d)", printed):
            yield f"prose says {number}, and so does an output; give a range, or print it"


def _text(output: NotebookNode) -> str:
    """Everything a reader sees as text in an output."""
    data = output.get("data", {})
    return output.get("text", "") + "".join(str(v) for kind, v in data.items() if kind.startswith("text/"))
