"""The cache lies where the user's system says."""

from pathlib import Path

import pytest

from dnnlib.cache import cache_folder


def test_the_cache_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder("a", "b.txt") == tmp_path / "arcbifacegan/a/b.txt"
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for unset in ("", "relative"):  # the standard says that a relative path is to be ignored
        monkeypatch.setenv("XDG_CACHE_HOME", unset)
        assert cache_folder() == tmp_path / "home/.cache/arcbifacegan"
    assert list(tmp_path.iterdir()) == []
