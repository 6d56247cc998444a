"""Code problems for the example: most are sound, some have too few tests, some a wrong reference solution."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

_FEW_TESTS = 9  # of the function problems, one in so many pieces has too few
_WRONG = 11


def _multiples(k: int) -> tuple[str, str, Callable[[int], int]]:
    return (
        f"Return the sum of all multiples of {k} from 0 to n, n included.",
        f"    return sum(range(0, n + 1, {k}))\n",
        lambda n: sum(range(0, n + 1, k)),
    )


def _digits(k: int) -> tuple[str, str, Callable[[int], int]]:
    return (
        f"Return the sum of the decimal digits of n, each digit raised to the power {k}.",
        f"    return sum(int(digit) ** {k} for digit in str(n))\n",
        lambda n: sum(int(digit) ** k for digit in str(n)),
    )


def _remainder(k: int) -> tuple[str, str, Callable[[int], int]]:
    return (
        f"Count the numbers from 1 to n that leave the remainder 1 when they are divided by {k}.",
        f"    return sum(1 for i in range(1, n + 1) if i % {k} == 1)\n",
        lambda n: sum(1 for i in range(1, n + 1) if i % k == 1),
    )


_FAMILIES = (_multiples, _digits, _remainder)


def function_problems(rng: random.Random) -> Iterator[dict[str, Any]]:
    """HumanEval-style rows: signature and docstring, `check(candidate)` with asserts, canonical solution."""
    for number in range(45):
        statement, body, function = _FAMILIES[number % 3](2 + number // 3)
        count = rng.randint(1, 3) if number % _FEW_TESTS == 0 else rng.randint(5, 8)
        inputs = rng.sample(range(10, 500), count)
        asserts = "".join(f"    assert candidate({n}) == {function(n)}\n" for n in inputs)
        name = f"{function_name(number)}"
        wrong = number % _WRONG == 5
        yield {
            "task_id": f"demo/{number}",
            "prompt": f'def {name}(n: int) -> int:\n    """{statement}"""\n',
            "entry_point": name,
            "canonical_solution": "    return 0\n" if wrong else body,
            "test": f"def check(candidate):\n{asserts}",
        }


def function_name(number: int) -> str:
    """A name that says which family a problem belongs to."""
    return f"{('sum_multiples', 'digit_powers', 'count_remainder')[number % 3]}_{2 + number // 3}"


def stdin_problems(rng: random.Random) -> Iterator[dict[str, Any]]:
    """TACO-style rows: inputs and outputs of a program that reads standard input."""
    for number in range(24):
        story, expression, answer = _STORIES[number % len(_STORIES)]
        k = 2 + number
        count = 2 if number % 8 == 0 else 6
        cases = [rng.sample(range(1000), rng.randint(3, 6)) for _ in range(count)]
        yield {
            "id": f"contest-{number}",
            "question": story.format(k=k, day=number + 1),
            "input_output": {
                "inputs": [" ".join(map(str, case)) + "\n" for case in cases],
                "outputs": [f"{answer(case, k)}\n" for case in cases],
            },
            "solutions": [f"k = {k}\nx = [int(word) for word in input().split()]\nprint({expression})\n"],
        }


_STORIES: tuple[tuple[str, str, Callable[[list[int], int], int]], ...] = (
    ("On day {day} numbers that {k} divides are lucky. Read a line of numbers and print how many are lucky.",
     "sum(n % k == 0 for n in x)", lambda x, k: sum(n % k == 0 for n in x)),
    ("Shop {day} packs boxes of {k} apples. One line gives the apples of each crate. Print the full boxes.",
     "sum(n // k for n in x)", lambda x, k: sum(n // k for n in x)),
    ("Bus {day} seats {k} people. The line lists how many wait at each stop. Print how many stay behind.",
     "sum(max(0, n - k) for n in x)", lambda x, k: sum(max(0, n - k) for n in x)),
    ("In level {day} a score counts {k} times if it is even. Given all scores on a line, print their sum.",
     "sum(n * k if n % 2 == 0 else n for n in x)", lambda x, k: sum(n * k if n % 2 == 0 else n for n in x)),
)  # fmt: skip
