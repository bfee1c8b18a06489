"""What all exercises share: a check that never raises and says what it saw, a hint, a worked solution.

An answer gets copies of the inputs of some cases, and its results are compared with those of the solution. Only results
that differ are compared with known mistakes, so no right answer is taken for one.
"""

import copy
import functools
import html
import inspect
import linecache
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from IPython.display import HTML, display

from vartutor.errors import UserError
from vartutor.exercises.compare import Mistake, close, difference, holds_nan, leaves, require, same, short, unchanged
from vartutor.exercises.record import SEED, Attempt, record
from vartutor.exercises.saved import saved_answers

NOT_ATTEMPTED = "not attempted yet"
CLONE = "clone it first (a = a - b makes a new tensor, a -= b changes the old one)"


class NotAttempted(Exception):
    """Raised where the answer is still the stub."""


def _guarded(answer: Callable) -> Callable:
    """The answer; what it raises becomes a diagnosis, and a stub is told from a forgotten return."""

    def call(*args):
        try:
            result = answer(*args)
        except Exception as error:  # the reader's code may raise anything
            raise Mistake(f"your function raised {_raised(answer, error)}") from error
        code = getattr(answer, "__code__", None)
        # The body of a stub is `...`, `pass` or the return of a constant: no code is shorter.
        stub = code is not None and len(code.co_code) <= len((lambda: None).__code__.co_code)
        if result is ... or (result is None and stub):
            raise NotAttempted
        require(result is not None, "your function returned None: does it end with `return`, whatever the input?")
        return result

    return call


def _raised(answer: Callable, error: Exception) -> str:
    """The exception, and the last line of the reader's own code on its way."""
    text, place = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}", ""
    trace = error.__traceback__
    while trace:
        frame, code = trace.tb_frame, trace.tb_frame.f_code
        if frame.f_globals is getattr(answer, "__globals__", None):
            line = linecache.getline(code.co_filename, trace.tb_lineno, frame.f_globals).strip()
            place = f", in line {trace.tb_lineno - code.co_firstlineno + 1} of {code.co_name}: {line}"
        trace = trace.tb_next
    return text + place


@dataclass(frozen=True)
class Exercise:
    """``draw`` returns the arguments of some calls, from torch's random numbers, small ones first, and the known
    mistakes: a diagnosis, and the function that deserves it. Its docstring is the two hints, a paragraph each.

    ``run`` calls an answer on a case and returns what is compared: all of it, or ``parts`` with names, one after the
    other. ``agree`` compares two of them. ``explain`` gets a wrong result, the right one and the arguments, and says
    what it sees there, or None.
    """

    stars: int
    minutes: int
    solution: Callable
    draw: Callable[[], tuple[list[tuple], dict[str, Callable]]]
    run: Callable
    parts: tuple[str, ...]
    agree: Callable
    explain: Callable

    def drawn(self) -> tuple[list[tuple], dict[str, Callable]]:
        """The cases and the known mistakes, always the same; the reader's own random numbers go on."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(os.environ.get(SEED, 0)))
            return self.draw()

    def judge(self, answer: Callable) -> None:
        """Compare an answer with the solution on all cases.

        Raises:
            NotAttempted: the answer is still the stub.
            Mistake: it is wrong; says in which case, and which known mistake has the same results.
        """
        cases, mistakes = self.drawn()
        for number, case in enumerate(cases):
            names = inspect.signature(self.solution).parameters
            shown = ", ".join(f"{name} = {short(value)}" for name, value in zip(names, case, strict=False))
            right = self.run(self.solution, *copy.deepcopy(case))
            try:
                given = copy.deepcopy(case)
                got = self._result(answer, given)
                seen = self._form(got, right)
                for name, before, after in zip(names, case, given, strict=False):
                    require(seen or unchanged(before, after), f"you changed your input {name}: {CLONE}")
                seen = seen or self._values(got, right)
                require(not seen, f"{seen}.{seen and self._guess(answer, cases, mistakes, number)}")
            except Mistake as mistake:
                raise Mistake(f"with {shown}, {mistake}") from mistake

    def _result(self, answer: Callable, case: tuple):
        try:
            return self.run(_guarded(answer), *case)
        except (Mistake, NotAttempted):
            raise
        except Exception as error:
            raise Mistake(
                f"what your function returned cannot be compared ({type(error).__name__}: {error})"
            ) from error

    def _form(self, got, right) -> str:
        """What makes values pointless to compare."""
        try:
            pairs = leaves(got, right, "the result", self.parts)
            nan = [name for name, g, r in pairs if holds_nan(g) and not holds_nan(r)]
        except Mistake as mistake:
            return str(mistake)
        return f"{nan[0]} holds nan, which is not a number" if nan else ""

    def _values(self, got, right) -> str:
        pairs = leaves(got, right, "the result", self.parts)
        return next((difference(*pair) for pair in pairs if not self.agree(*pair[1:])), "")

    def _guess(self, answer: Callable, cases: list[tuple], mistakes: dict[str, Callable], number: int) -> str:
        """The known mistake that has the same results as the answer, where there is one."""

        @functools.cache
        def result(function: Callable, k: int):
            try:
                return self._result(function, copy.deepcopy(cases[k]))
            except (Mistake, NotAttempted):
                return None

        def alike(wrong: Callable, view: Callable) -> bool:
            order = sorted(range(len(cases)), key=lambda k: k != number)  # most differ here
            found = all(same(view(result(answer, k)), view(result(wrong, k))) for k in order)
            return found and not same(view(result(wrong, number)), view(result(self.solution, number)))

        got, right = result(answer, number), result(self.solution, number)
        fits = same(got, right, lambda g, r: True)
        views = [lambda found: found]
        if self.parts and fits:  # if no mistake has all these results, the first part that is wrong decides
            wrong = [k for k, pair in enumerate(zip(got, right, strict=True)) if not same(*pair, self.agree)]
            first = wrong[0] if wrong else 0  # what draws at random may be right this time
            views.append(lambda found: found[first] if isinstance(found, (list, tuple)) else None)
        for view in views:
            for diagnosis, wrong in mistakes.items():
                if alike(wrong, view):
                    return f" Probably: {diagnosis}"
        said = None if self._form(got, right) else self.explain(got, right, *copy.deepcopy(cases[number]))
        return f" {said}" if said else ""


class Sheet:
    """The exercises of one chapter, by the names of their solutions."""

    used: ClassVar[
        dict[str, bool]
    ] = {}  # of all sheets: the functions that this session uses, and whether the reader's

    def __init__(self, chapter: str):
        self.chapter, self.exercises = chapter, {}

    def exercise(
        self,
        stars: int,
        minutes: int,
        solution: Callable,
        *,
        run: Callable = lambda answer, *case: answer(*case),
        parts: tuple[str, ...] = (),
        agree: Callable = close,
        explain: Callable = lambda got, right, *case: None,
    ) -> Callable:
        """Makes an exercise of the function below, which draws cases and names mistakes; see :class:`Exercise`."""

        def add(draw: Callable) -> Callable:
            self.exercises[solution.__name__] = Exercise(stars, minutes, solution, draw, run, parts, agree, explain)
            return draw

        return add

    def _find(self, name: str) -> Exercise:
        if name not in self.exercises:
            raise UserError(f"no exercise {name!r} in {self.chapter}: it has {', '.join(self.exercises)}")
        return self.exercises[name]

    def verdict(self, name: str, answer: Callable) -> str:
        """``"ok"``, ``"not attempted yet"``, or what was seen and what it probably is."""
        exercise = self._find(name)
        try:
            exercise.judge(answer)
        except NotAttempted:
            return NOT_ATTEMPTED
        except Mistake as mistake:
            return str(mistake)
        return "ok"

    def check(self, name: str, answer: Callable) -> None:
        """Print the verdict on ``answer``; an attempt is recorded for ``vartutor progress``.

        Raises:
            UserError: the chapter has no such exercise.
        """
        print(f"{self.chapter} {name}: {self._recorded(name, answer)}")

    def _recorded(self, name: str, answer: Callable) -> str:
        started = time.perf_counter()
        verdict = self.verdict(name, answer)
        if verdict != NOT_ATTEMPTED:
            seconds = round(time.perf_counter() - started, 2)
            record(Attempt(self.chapter, name, self._find(name).stars, verdict, seconds))
        return verdict

    def use(self, name: str, answer: Callable | None = None, package: Callable | None = None) -> Callable:
        """What a chapter goes on with: the reader's function if it passes its check, else the package's; prints which.

        Args:
            answer: checked and recorded as by :meth:`check`; if left out, what the reader has saved in the chapter of
                the exercise.
            package: does the same as the worked solution, which is taken if this is left out.

        Raises:
            UserError: the chapter has no such exercise.
        """
        package = package or self._find(name).solution
        if answer is None:
            answer = saved_answers(self).get(name)
            verdict = NOT_ATTEMPTED if answer is None else self.verdict(name, answer)
        else:
            verdict = self._recorded(name, answer)
        Sheet.used[f"{self.chapter} {name}"] = verdict == "ok"
        said = "ok; yours is used from here on" if verdict == "ok" else f"the package's is used; yours: {verdict}"
        print(f"{self.chapter} {name}: {said}")
        return answer if verdict == "ok" else package

    def hint(self, name: str) -> None:
        """Show the hint and the second one, folded."""
        first, second = self._find(name).draw.__doc__.split("\n\n")
        _fold(
            (f"Hint for {name}", f"<p>{html.escape(' '.join(first.split()))}</p>"),
            ("Second hint", f"<p>{html.escape(' '.join(second.split()))}</p>"),
        )

    def solution(self, name: str) -> None:
        """Show a worked solution, folded."""
        source = inspect.getsource(self._find(name).solution)
        _fold((f"Solution of {name}", f"<pre>{html.escape(source)}</pre>"))


def whose() -> None:
    """Print which functions of the exercises this session uses, and whose they are."""
    for own, word in ((True, "yours"), (False, "the package's")):
        names = [name for name, theirs in Sheet.used.items() if theirs is own]
        print(f"{word} ({len(names)}): {', '.join(names) or 'none'}")


def _fold(*parts: tuple[str, str]) -> None:
    folded = (f"<details><summary>{title}</summary>{body}</details>" for title, body in parts)
    display(HTML("".join(folded)))
