"""What messages say of exceptions of other libraries."""

import pytest

from featplug.utils.errors import described, first_line


@pytest.mark.parametrize(
    ("error", "line", "description"),
    [
        (ValueError("too short\nat byte 4"), "too short", "too short"),
        (KeyError("a"), "'a'", "KeyError: 'a'"),
        (RuntimeError(), "RuntimeError", "RuntimeError"),
        (OSError("x" * 300), "x" * 300, f"OSError: {'x' * 200}"),
    ],
)
def test_an_exception_is_one_line(error: Exception, line: str, description: str) -> None:
    assert first_line(error) == line
    assert described(error) == description
