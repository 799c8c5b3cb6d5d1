"""nvcc compiles every kernel for the architectures that we name, without a warning and without spilling registers."""

import ctypes
import re
import subprocess
from pathlib import Path

import pytest
import torch

from torch_utils.ops import build

ARCHITECTURES = "7.5;8.0;9.0;12.0"
SM = [f"sm_{arch.replace('.', '')}" for arch in ARCHITECTURES.split(";")]
# What torch adds to every .cu file: half's operators and implicit conversions are not to be relied on.
TORCH_DEFINES = [
    f"-D__CUDA_NO_{name}__"
    for name in ("HALF_OPERATORS", "HALF_CONVERSIONS", "BFLOAT16_CONVERSIONS", "HALF2_OPERATORS")
]


def spills(text: str) -> dict[tuple[str, str], int]:
    """Output of ptxas -v -> (kernel, architecture) -> bytes that lie in local memory instead of registers."""
    found, key = {}, None
    for line in text.splitlines():
        if entry := re.search(r"Compiling entry function '(\w+)' for '(\w+)'", line):
            key = (entry[1], entry[2])
        elif counts := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line):
            assert key is not None, line
            found[key] = sum(int(count) for count in counts.groups())
            key = None
    return found


def test_a_spill_would_be_seen() -> None:
    text = """
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_Z4tilePf' for 'sm_75'
ptxas info    : Function properties for _Z4tilePf
    16 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 255 registers, 400 bytes cmem[0]
ptxas info    : Compiling entry function '_Z4tilePf' for 'sm_80'
ptxas info    : Function properties for _Z4tilePf
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
"""
    assert spills(text) == {("_Z4tilePf", "sm_75"): 36, ("_Z4tilePf", "sm_80"): 0}


@pytest.mark.slow
@pytest.mark.parametrize("source", sorted(path.name for path in build.CSRC.glob("*.cu")))
def test_kernels_compile_for_all_architectures_without_spilling(source: str, tmp_path: Path) -> None:
    try:
        nvcc = build.find_toolkit() / "bin" / "nvcc"
    except build.BuildError as error:
        pytest.skip(str(error))
    known = subprocess.run([str(nvcc), "--list-gpu-code"], capture_output=True, text=True, check=True).stdout.split()
    if unknown := set(SM) - set(known):
        pytest.skip(f"this nvcc does not know {', '.join(sorted(unknown))}")
    assert source in build.CUDA_SOURCES
    command = [
        str(nvcc),
        "-O3",
        "-std=c++17",
        *build.gencode(ARCHITECTURES),
        "-Werror",
        "all-warnings",
        "-Xptxas",
        "-v",
    ]
    command += [*TORCH_DEFINES, "-c", str(build.CSRC / source), "-o", str(tmp_path / "kernels.o")]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    found = spills(result.stdout + result.stderr)
    assert {arch for _, arch in found} == set(SM)
    assert len(found) >= 4 * 24, "fewer kernels than types, layouts and widths make"
    assert not {key: count for key, count in found.items() if count}


@pytest.mark.slow
def test_the_cuda_build_links_and_loads(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """By way of `ensure`, as on a GPU. Where torch has no CUDA, empty libraries stand in for those that torch names."""
    without_cuda = torch.version.cuda is None
    monkeypatch.setattr(torch.version, "cuda", torch.version.cuda or "13.0")
    if missing := build.missing_tools():
        pytest.skip("; ".join(missing))
    if without_cuda:
        for name in ("libc10_cuda.so", "libtorch_cuda.so"):
            command = ["c++", "-shared", f"-Wl,-soname,{name}", "-x", "c++", "-", "-o", str(tmp_path / name)]
            subprocess.run(command, input=b"", check=True)
            ctypes.CDLL(str(tmp_path / name))
        monkeypatch.setenv("LIBRARY_PATH", str(tmp_path))
    made = build.Build(build.CUDA_SOURCES, "8.6+PTX", tmp_path / "cache")
    build.ensure(made)
    module = build.load(made)
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("Building CUDA kernels for 8.6+PTX, once") and str(made.folder) in line
    with pytest.raises(RuntimeError, match="^x: lies on cpu; these kernels are for CUDA"):
        module.upfirdn2d(torch.zeros(1, 1, 4, 4), torch.ones(1, 1), 1, 1, [0, 0, 0, 0], False, 0)
