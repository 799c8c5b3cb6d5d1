"""The folder of a recognition training."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from arcface.recognition_run import latest_state, save_state
from dnnlib.errors import UserError


def test_a_full_disk_leaves_the_state_of_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_state(tmp_path, {"step": 1, "weights": torch.ones(3)})

    def full(file: int) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched, pytest.raises(UserError, match="training-state-00000002.pt: the disk is"):
        patched.setattr("os.fsync", full)
        save_state(tmp_path, {"step": 2, "weights": torch.ones(3)})
    assert [file.name for file in tmp_path.iterdir()] == ["training-state-00000001.pt"]
    save_state(tmp_path, {"step": 2, "weights": torch.ones(3)})
    found = latest_state(tmp_path)
    assert found is not None and found[0]["step"] == 2 and "training-state-00000002.pt" in found[1]
