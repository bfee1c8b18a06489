"""Slides of executed chapters: the questions that are its headings, its equations, its figures; prose as notes."""

import base64
import mimetypes
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from nbconvert.filters import markdown2html
from nbformat import NotebookNode

from vartutor.course.book import IMAGES
from vartutor.course.chapters import Chapter
from vartutor.course.prose import ENDS, count_words
from vartutor.paths import assets, make_folder, whole

KATEX = Path("book", "_static", "katex")
LAST = "In five lines"
QUESTIONS = "Questions"
LEFT_OUT = ("Your turn", "Exercises", "An open experiment", "The course and the paper", "References")
LITTLE, ENOUGH = 8, 40  # words of a text
LINES, COLUMNS = 14, 100  # of what a cell printed
EQUATIONS = 3  # on a slide


@dataclass
class Section:
    """What stands below one heading of a chapter."""

    title: str
    prose: list[str] = field(default_factory=list)
    figures: list[tuple[str, str]] = field(default_factory=list)  # (img element, caption)
    printed: list[str] = field(default_factory=list)

    @property
    def equations(self) -> list[str]:
        """Its displayed ones, with their dollars."""
        return re.findall(r"\$\$.+?\$\$", "\n\n".join(self.prose), re.S)


def write_slides(chapters: list[Chapter], out: Path, root: Path) -> Iterator[Path]:
    """Write the slides of committed chapters, ``NAME.html``, and KaTeX beside them; no network is needed to show them.

    Raises:
        UserError: the folder cannot be written.
    """
    make_folder(out)
    shutil.copytree(root / KATEX, out / "katex", dirs_exist_ok=True)
    page = (assets() / "slides.html").read_text(encoding="utf-8")
    for chapter in chapters:
        sections = read_sections(chapter.read_executed(), chapter.py.parent)
        slides = (f'<section tabindex="0">{slide}</section>' for section in sections for slide in slides_of(section))
        text = page.replace("TITLE", escape(sections[0].title)).replace("SLIDES", "\n".join(slides))
        with whole(path := out / f"{chapter.name}.html") as part:
            part.write_text(text, encoding="utf-8")
        yield path


def read_sections(notebook: NotebookNode, folder: Path) -> list[Section]:
    """A chapter cut at its headings; pictures are taken into the text, those of files from ``folder``."""
    sections: list[Section] = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for piece in re.split(r"^(?=#{1,3} )", cell.source, flags=re.M):
                if heading := re.match(r"#+ (.*)\n?", piece):
                    sections.append(Section(heading[1].strip()))
                    piece = piece[heading.end() :]
                if piece.strip() and sections:
                    sections[-1].prose.append(_with_pictures(piece.strip(), folder))
        elif sections:
            sections[-1].figures += _figures(cell)
            sections[-1].printed += _printed(cell)
    return sections


def slides_of(section: Section) -> Iterator[str]:
    """The slides of one section, as HTML: how it opens, with its equations or what it prints; then each figure."""
    title, text = markdown2html(f"## {section.title}"), "\n\n".join(section.prose)
    notes = f"<aside>{markdown2html(text)}</aside>"
    if section.title.startswith(LEFT_OUT):
        return
    if re.match(r"\d\d · ", section.title):  # the chapter's first
        idea, _, goals = text.partition("After this chapter")
        yield markdown2html(f"# {section.title}\n\n{idea}")
        yield markdown2html(f"After this chapter{goals.split('| time on two cores')[0]}")
    elif section.title == QUESTIONS:
        for question in re.split(r"^(?=\d+\. )", text, flags=re.M)[1:]:
            yield title + markdown2html(question)
    elif section.title == LAST:
        yield title + markdown2html(text)
    else:
        formulas = section.equations
        for i in range(0, len(formulas), EQUATIONS):
            words = "" if i else _opening(text)
            yield title + markdown2html("\n\n".join([words, *formulas[i : i + EQUATIONS]])) + notes
        if not formulas and not section.figures:
            printed = [f"<pre>{escape(words)}</pre>" for words in section.printed[:1]]
            yield title + markdown2html(_opening(text)) + "".join(printed) + notes
        for image, caption in section.figures:
            words = markdown2html(caption)
            yield f"{title}<figure>{image}<figcaption>{words}</figcaption></figure>{notes}"


def _opening(text: str) -> str:
    """Its first paragraph if that is short, else as many of its sentences as fit; two where the first says little."""
    paragraphs = [part for part in re.split(r"\n\s*\n", text) if part and part[0] not in "|<$#"]
    if not paragraphs:
        return ""
    words = ENDS.split(paragraphs[0]) + ENDS.split(paragraphs[1] if len(paragraphs) > 1 else "")[:1]
    if LITTLE <= count_words(paragraphs[0]) <= ENOUGH:
        return paragraphs[0]
    return words[0] if count_words(words[0]) >= LITTLE else " ".join(words[:2])


def _printed(cell: NotebookNode) -> Iterator[str]:
    """What a cell prints, where it fits on a slide."""
    for output in cell.get("outputs", ()):
        text = output.get("text", "")
        if 1 < len(lines := text.rstrip().splitlines()) <= LINES and max(map(len, lines)) <= COLUMNS:
            yield text


def _figures(cell: NotebookNode) -> Iterator[tuple[str, str]]:
    for output in cell.get("outputs", ()):
        for kind in IMAGES:
            if kind in output.get("data", ()):
                about = output.metadata
                alt, caption = about.get(kind, {}).get("alt", ""), about.get("vartutor", {}).get("caption", "")
                yield f'<img src="data:{kind};base64,{output.data[kind].strip()}" alt="{escape(alt)}">', caption


def _with_pictures(text: str, folder: Path) -> str:
    """Markdown with the pictures of files in it, instead of their names."""

    def embed(match: re.Match) -> str:
        path = folder / match[2]
        kind = mimetypes.guess_type(path.name)[0] or "image/png"
        code = base64.b64encode(path.read_bytes()).decode()
        return f'<img src="data:{kind};base64,{code}" alt="{escape(match[1])}">'

    return re.sub(r"!\[([^]]*)\]\(([^)]+)\)", embed, text)
