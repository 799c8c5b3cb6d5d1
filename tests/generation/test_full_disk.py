"""A full disk under a run: one line that names option and file, nothing half, and the same command goes on to the same
bytes."""

from __future__ import annotations

import errno
import os

import pytest

from dnnlib.errors import UserError
from generation import writers
from generation.choices import LAYOUTS
from generation.parts import PARTS
from generation.storage import Storage
from tests.generation import fakes


def begin(outdir, format):
    selection = fakes.make_selection(outdir, ids=5, samples_per_id=3)
    selection.layout = Storage(format).build(outdir, selection.plan)
    return selection


def everything(outdir):
    changing = (writers.SUMMARY, writers.REPORT)
    files = {path.relative_to(outdir).as_posix(): path for path in outdir.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if name not in changing}


@pytest.mark.parametrize("format", LAYOUTS)
def test_a_full_disk(format, tmp_path, monkeypatch):
    whole, outdir = tmp_path / "whole", tmp_path / "out"
    fakes.finish(begin(whole, format), whole)
    wanted, flushed = everything(whole), os.fsync
    lines: list[str] = []
    while not (outdir / writers.SUMMARY).exists():
        left = 7  # files until it is full; somebody makes room for so many each time

        def fsync(file):
            nonlocal left
            left -= 1
            if left < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            flushed(file)

        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", fsync)
            try:
                fakes.finish(begin(outdir, format), outdir)
            except UserError as error:
                lines.append(str(error))
                assert not (outdir / writers.SUMMARY).exists() and not list(outdir.rglob("*.tmp"))
        for name, data in everything(outdir).items():
            assert name.startswith(PARTS) or data == wanted[name]
    assert len(lines) >= 2 and everything(outdir) == wanted
    for line in lines:
        assert line.startswith(f"--outdir: {outdir}/") and line.endswith("free some space and go on")
