"""What the tab key offers: by click's protocol, and through the function that bash is given."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dnnlib.completion import ROOT, SETTINGS, code_of


def offered(module: str, *words: str) -> list[str]:
    """What follows after the words, of which the last is not finished."""
    line = {"COMP_WORDS": shlex.join([module, *words]), "COMP_CWORD": str(len(words))}
    asked = subprocess.run(
        [sys.executable, "-m", module],
        cwd=ROOT,
        env={**os.environ, **line, "_ARCBIFACEGAN_COMPLETE": "bash_complete"},
        capture_output=True,
        text=True,
        check=True,
    )
    return asked.stdout.splitlines()


def test_options_choices_files_and_commands() -> None:
    assert offered("train", "--cfg", "ti") == ["plain,tiny32", "plain,tiny64"]
    assert offered("train", "--resume", "") == ["plain,latest", "file,"]
    assert offered("train", "--metrics", "fid,kd") == ["plain,fid,kd_arcface"]
    assert offered("train", "--qu") == ["plain,--quiet"]
    assert offered("filter", "a") == ["plain,apply", "plain,audit"]
    assert offered("filter", "apply", "--detector", "") == ["plain,none", "dir,"]
    assert offered("filter", "apply", "--rules", "face,pri") == ["plain,face,private"]
    assert not [name for name in offered("train", "--") if "_" in name]


@pytest.mark.parametrize("shell", SETTINGS)
def test_the_code_names_this_checkout(shell: str) -> None:
    code = code_of(shell)
    assert str(ROOT) in code and sys.executable in code and "generate_dataset.py" in code


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_asks_the_scripts_of_this_checkout_and_runs_no_other(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("open('ran', 'w')")
    (tmp_path / "documents").mkdir()
    lines = {
        f"python {ROOT}/train.py --cfg ti": "tiny32 tiny64",
        f"{ROOT}/train.py --cfg = ti": "tiny32 tiny64",  # bash takes --cfg=ti apart
        f"{ROOT}/filter.py audit --data doc": "documents",
        "python train.py --cfg ti": "",
    }
    program = code_of("bash") + "compopt() { :; }\n"  # which works within a completion alone
    for line in lines:
        program += (
            f'COMP_WORDS=({line})\nCOMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\n_arcbifacegan\necho "${{COMPREPLY[*]}}"\n'
        )
    done = subprocess.run(["bash", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == list(lines.values()), done.stderr
    assert not (tmp_path / "ran").exists()
