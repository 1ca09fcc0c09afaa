"""The mutations fit the project as it stands: each text stands once in its function, each test is there."""

from __future__ import annotations

import pytest
from mutations import MUTATIONS, Mutation, find_problem


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_the_line_and_the_test_of_a_mutation_are_there(mutation: Mutation) -> None:
    assert find_problem(mutation) == ""


@pytest.mark.parametrize(
    ("function", "old", "tests", "problem"),
    [
        ("run_script", "stops.append(number)", "test_scripts.py", ""),
        ("open_streams", "stops.append(number)", "test_scripts.py", "no file holds it in 'open_streams'"),
        ("", "from __future__ import annotations", "test_scripts.py", "expected once"),
        ("run_script", "stops.append(number)", "test_gone.py", "no file, or several, of tests/ for test_gone.py"),
    ],
)
def test_what_does_not_fit_is_said(function: str, old: str, tests: str, problem: str) -> None:
    assert problem in find_problem(Mutation("a mutation", function, old, "", tests))
