"""What all exercises share: a check that never raises and names the likely mistake, a hint, a worked solution."""

import html
import inspect
from collections.abc import Callable
from dataclasses import dataclass

from IPython.display import HTML, display

from vartutor.errors import UserError

NOT_ATTEMPTED = "not attempted yet"


class Mistake(Exception):
    """Raised by a test with the diagnosis to show."""


class NotAttempted(Exception):
    """Raised where the answer is still the stub's ``None`` or ``...``."""


@dataclass(frozen=True)
class Exercise:
    """``test`` calls the answer through the function it is given and raises :class:`Mistake` with a diagnosis.

    Its docstring is the hint.
    """

    stars: int
    solution: Callable
    test: Callable[[Callable], None]


def _attempted(answer: Callable) -> Callable:
    def call(*args, **kwargs):
        result = answer(*args, **kwargs)
        if result is None or result is ...:
            raise NotAttempted
        return result

    return call


class Sheet:
    """The exercises of one chapter, by the names of their solutions."""

    def __init__(self, chapter: str):
        self.chapter, self.exercises = chapter, {}

    def exercise(self, stars: int, solution: Callable) -> Callable:
        """Makes the test below an exercise."""

        def add(test: Callable[[Callable], None]) -> Callable:
            self.exercises[solution.__name__] = Exercise(stars, solution, test)
            return test

        return add

    def _find(self, name: str) -> Exercise:
        if name not in self.exercises:
            raise UserError(f"no exercise {name!r} in {self.chapter}: it has {', '.join(self.exercises)}")
        return self.exercises[name]

    def verdict(self, name: str, answer: Callable) -> str:
        """``"ok"``, ``"not attempted yet"``, or what is wrong."""
        exercise = self._find(name)
        try:
            exercise.test(_attempted(answer))
        except NotAttempted:
            return NOT_ATTEMPTED
        except Mistake as mistake:
            return str(mistake)
        except Exception as error:  # the reader's code may raise anything
            return f"your function raised {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        return "ok"

    def check(self, name: str, answer: Callable) -> None:
        """Print the verdict on ``answer``.

        Raises:
            UserError: the chapter has no such exercise.
        """
        print(f"{self.chapter} {name}: {self.verdict(name, answer)}")

    def hint(self, name: str) -> None:
        """Show the hint, folded."""
        text = " ".join(self._find(name).test.__doc__.split())
        _fold(f"Hint for {name}", f"<p>{html.escape(text)}</p>")

    def solution(self, name: str) -> None:
        """Show a worked solution, folded."""
        source = inspect.getsource(self._find(name).solution)
        _fold(f"Solution of {name}", f"<pre>{html.escape(source)}</pre>")


def _fold(title: str, body: str) -> None:
    display(HTML(f"<details><summary>{title}</summary>{body}</details>"))


def require(condition: bool, diagnosis: str) -> None:
    """Raise the diagnosis unless the condition holds."""
    if not condition:
        raise Mistake(diagnosis)
