"""How long the sentences of a chapter are: short ones are read once."""

import re
from collections.abc import Iterator

from nbformat import NotebookNode

HERE = "**You are here.**"  # the way through the course is no sentence
MAX_WORDS = 32
MEDIAN_WORDS = 16
WORD = re.compile(r"[\w'’×.,²-]*\w[\w'’-]*")
# What is read as one word, and what is not read as text at all.
STAND_INS = (
    (r"```.*?```|\$\$.*?\$\$|!\[.*?\]\(.*?\)|</?\w[^>]*>", "\n\n"),
    (r"\$[^$]*\$", "Formula"),
    (r"`[^`]*`", "Code"),
    (r"\[([^\]]*)\]\([^)]*\)", r"\1"),
)
PARAGRAPHS = re.compile(r"\n\s*\n|\n(?=\s*(?:[-*|#]|\d+\.)\s?)|\n(?=[A-Z*(])")
ENDS = re.compile(r"(?<=[.!?:])[\"”)*]*\s+(?=[A-Z(\"*“'×])")


def sentences(notebook: NotebookNode) -> Iterator[str]:
    """The sentences of a chapter's text, without headings, tables and references; a colon ends one."""
    for cell in notebook.cells:
        text = cell.source
        if cell.cell_type != "markdown" or text.lstrip().startswith("## References"):
            continue
        for pattern, stand_in in STAND_INS:
            text = re.sub(pattern, stand_in, text, flags=re.S)
        for block in PARAGRAPHS.split(text):
            if not block.strip().startswith(("|", "#", HERE)):
                yield from (s.strip() for s in ENDS.split(block.replace("\n", " ")) if count_words(s) > 2)


def count_words(sentence: str) -> int:
    """How many; a formula or a piece of code is one."""
    return len(WORD.findall(sentence))
