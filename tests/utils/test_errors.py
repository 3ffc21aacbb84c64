"""What messages say of exceptions of other libraries."""

from pathlib import Path

import pytest

from featplug.methods.user_classes import load_file
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


def test_what_a_users_file_raises_has_its_place(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def fails():\n    return 1 / 0\n")
    with pytest.raises(ZeroDivisionError) as raised:
        load_file(file).fails()
    assert described(raised.value) == "ZeroDivisionError: division by zero (mine.py, line 2)"
