"""Every chapter explains or links a term of the glossary where it first uses it."""

import re
from pathlib import Path

import pytest

from vartutor.course.chapters import Chapter, find_chapters

ROOT = Path(__file__).resolve().parents[1]
BODY = (ROOT / "book" / "glossary.md").read_text(encoding="utf-8").split("```{glossary}\n")[1].split("\n```")[0]
TERMS = [line for line in BODY.splitlines() if line and not line.startswith(" ")]
LINK = "](../book/glossary.md)"
ELSEWHERE = {
    "code": "mostly the code of a program; chapter 02 explains the other one",
}
NO_PROSE = re.compile(
    r"```.*?```|\$\$.*?\$\$|!\[.*?\]\(.*?\)|<[^>]*>|`[^`]*`|\$[^$]*\$|^\|.*?$|^\*\*You are here\.\*\*.*?$",
    re.S | re.M,
)


def prose(chapter: Chapter) -> list[str]:
    """The text of every cell, without code, formulas, tables and references."""
    cells = [cell.source for cell in chapter.read_source().cells if cell.cell_type == "markdown"]
    return [NO_PROSE.sub("", text.split("## References")[0]) for text in cells]


def uses(term: str) -> re.Pattern:
    """The term in a text, in the plural too; abbreviations by their capitals."""
    words = re.escape(term).replace(r"\ ", r"[\s-]+")
    return re.compile(rf"(?<![\w-]){words}(?:s|es)?(?![\w-])", 0 if re.search("[A-Z]", term[1:]) else re.I)


def unexplained(texts: list[str]) -> list[str]:
    """Terms whose first use is in no heading, not emphasised in its cell or before, and not linked."""
    missed = []
    for term in (term for term in TERMS if term not in ELSEWHERE):
        found = uses(term)
        first = next((i for i, text in enumerate(texts) if found.search(text)), None)
        if first is None:
            continue
        said = re.compile(rf"\*[^*\n]*{found.pattern}[^*\n]*\*|^#+ [^\n]*{found.pattern}", found.flags | re.M)
        linked = any(found.search(part) for part in texts[first].split("\n\n") if LINK in part)
        if not linked and not any(said.search(text) for text in texts[: first + 1]):
            missed.append(term)
    return missed


@pytest.mark.parametrize("chapter", find_chapters(ROOT), ids=lambda chapter: chapter.name)
def test_first_uses_are_explained_or_linked(chapter):
    assert unexplained(prose(chapter)) == []


def test_a_bare_word_is_noticed():
    assert unexplained(["Nothing here.", "A codebook is used, and PSNR."]) == ["codebook", "PSNR"]
    assert unexplained(["A *codebook* is used.", "Codebooks again."]) == []
    assert unexplained([f"Words of other chapters: codebook, [glossary{LINK}.", "A codebook."]) == []
    assert unexplained(["## What is a codebook?", "A codebook is a list."]) == []
    assert unexplained(["The tokenizer.", "A *tokenizer* makes tokens."]) == ["token", "tokenizer"]
