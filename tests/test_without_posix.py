"""What Windows lacks, taken away (without_posix.py): all modules import, the first stages run (docs/windows.md)."""

import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from torch_utils import crew

PROGRAM = Path(__file__).with_name("without_posix.py")


def run(*arguments: str | Path) -> None:
    command = [sys.executable, str(PROGRAM), *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_module_imports() -> None:
    run("import")


@pytest.mark.slow
def test_pairs_are_drawn_and_checked_and_two_processes_train(tiny_data: Path, tmp_path: Path) -> None:
    size = ("--identities", "4", "--samples", "2", "--resolution", "32")
    run("dataset_tool.py", "example", "--dest", tmp_path / "people", *size, "--workers", "2")
    run("dataset_tool.py", "check", "--data", tmp_path / "people")
    short = ("--cfg", "tiny32", "--fmaps", "0.00390625", "--batch", "4", "--kimg", "0.008")
    processes = ("--workers", "1", "--gpus", "2", "--device", "cpu")
    run("train.py", "--data", tiny_data, "--outdir", tmp_path / "runs", *short, *processes)
    assert list(tmp_path.glob("runs/*/network-snapshot-*.safetensors"))


def test_a_killed_process_is_named_where_there_is_no_sigkill(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delattr(signal, "SIGKILL")
    process = SimpleNamespace(exitcode=-signal.SIGTERM, name="process 0 of 2")
    with pytest.raises(SystemExit):
        crew._raise_first_failure([crew.Member(process, None)], set())  # type: ignore[arg-type]
    assert capsys.readouterr().err == "Error: process 0 of 2 was killed by SIGTERM\n"
