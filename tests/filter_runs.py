"""filter.py as a user calls it, within this process."""

from __future__ import annotations

from typing import Any

import pytest

import filter as script


def run(capsys: pytest.CaptureFixture[str], *line: Any) -> tuple[Any, str, str]:
    """(status, stdout, stderr) of the command."""
    with pytest.raises(SystemExit) as ended:
        script.main([str(word) for word in line])
    captured = capsys.readouterr()
    return ended.value.code, captured.out, captured.err
