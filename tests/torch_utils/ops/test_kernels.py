"""The compiled kernels against the PyTorch reference in float64: values, layouts, both derivatives, refusals.

On the CPU the kernels' own arithmetic runs in loops (csrc/cpu.cpp); the tests marked `cuda` are the same on a GPU.
"""

import ctypes
import itertools
import os
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck

from torch_utils.ops import build
from torch_utils.ops.bias_act import bias_act, reference
from torch_utils.ops.kernels import kernels_for, use
from torch_utils.ops.upfirdn2d import setup_filter, upfirdn2d

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
LAYOUTS = ["contiguous", "channels_last", "strided"]


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def laid_out(x: torch.Tensor, layout: str) -> torch.Tensor:
    """The same values in another layout; strided is every second column of a wider picture."""
    if layout == "channels_last":
        return x.contiguous(memory_format=torch.channels_last)
    if layout == "strided":
        return torch.stack([x, -x], dim=-1).flatten(-2)[..., ::2]
    return x.contiguous()


def assert_rounded(result: torch.Tensor, exact: torch.Tensor, steps: float = 1) -> None:
    """Whether the result is the exact value but for so many roundings of its type: sums must not be kept in half."""
    eps = torch.finfo(result.dtype).eps
    allowed = steps * eps * exact.abs() + 8 * min(eps, torch.finfo(torch.float32).eps) * (1 + exact.abs().max())
    assert ((result.double().cpu() - exact).abs() <= allowed).all(), (result, exact)


# ----------------------------------------------------------------------------
# bias_act.


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("channels", [1, 3, 16])
def test_bias_act(device: torch.device, dtype: torch.dtype, layout: str, channels: int) -> None:
    x = laid_out(normal(2, channels, 3, 8).to(dtype), layout).to(device)
    for act, clamp, scaled, noises in itertools.product(["linear", "lrelu"], [None, 0.7], [False, True], [0, 1, 2]):
        b = normal(channels, seed=1).float() if scaled or noises else None
        scale = normal(2, channels, seed=2).float() if scaled else None
        noise = normal(noises, 1, 3, 8, seed=3).float() if noises else None
        result = bias_act(x, to(b, device), act, 1.5, clamp, to(scale, device), to(noise, device))
        b, scale, noise = (to(small, torch.float64) for small in (b, scale, noise))
        exact = reference(x.double().cpu(), b, scale, noise, act, 1.5, clamp)
        assert result.dtype == dtype and result.shape == x.shape
        assert_rounded(result, exact)
        if layout == "channels_last":
            assert result.is_contiguous(memory_format=torch.channels_last)


def to(tensor: torch.Tensor | None, where: Any) -> torch.Tensor | None:
    return None if tensor is None else tensor.to(where)


@pytest.mark.parametrize("act", ["linear", "lrelu"])
@pytest.mark.parametrize("clamp", [None, 0.9])
def test_bias_act_derivatives(device: torch.device, act: str, clamp: float | None) -> None:
    given = [
        tensor.to(device).requires_grad_()
        for tensor in (normal(2, 3, 3, 2), normal(3, seed=1), normal(2, 3, seed=2), normal(1, 1, 3, 2, seed=3))
    ]

    def op(x: torch.Tensor, b: torch.Tensor, scale: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        return bias_act(x, b, act, 1.3, clamp, scale, noise)

    assert gradcheck(op, given) and gradgradcheck(op, given)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layouts", list(itertools.product(["contiguous", "channels_last"], LAYOUTS)))
def test_bias_act_gradient(device: torch.device, dtype: torch.dtype, layouts: tuple[str, str]) -> None:
    """Of x, and the second one, where the incoming gradient's layout differs from that of x."""
    x = laid_out(normal(2, 8, 3, 5).to(dtype), layouts[0]).to(device).requires_grad_()
    g = laid_out(normal(2, 8, 3, 5, seed=1).to(dtype), layouts[1]).to(device).requires_grad_()
    gg = normal(2, 8, 3, 5, seed=2).to(dtype).to(device)
    y = bias_act(x, act="lrelu", clamp=0.7)
    (first,) = torch.autograd.grad(y, x, g, create_graph=True)
    (second,) = torch.autograd.grad(first, g, gg)
    assert first.stride() == y.stride() == second.stride()
    above, clamped = (y > 0).double(), (y.abs() >= torch.tensor(0.7, dtype=dtype).item()).double()
    slope = 2**0.5 * (above + 0.2 * (1 - above)) * (1 - clamped)
    assert_rounded(first, (g.double() * slope).cpu())
    assert_rounded(second, (gg.double() * slope).cpu())


def test_bias_act_of_other_shapes(device: torch.device) -> None:
    for shape in ([5, 3], [2, 3, 7], [2, 3, 2, 3, 2], [0, 3, 4, 4], [2, 0, 4, 4]):
        x, b = normal(*shape), normal(shape[1], seed=1)
        noise = normal(1, 1, *shape[2:], seed=2)
        result = bias_act(x.to(device), b.to(device), act="lrelu", gain=1.0, noise=noise.to(device))
        assert torch.allclose(result.cpu(), reference(x, b, None, noise, "lrelu", 1.0, None)), shape


def test_bias_act_lets_nan_and_infinity_through(device: torch.device) -> None:
    """The count of bad gradients depends on it."""
    x = torch.tensor([[float("nan"), float("inf"), -float("inf")]], device=device)
    assert bias_act(x, act="lrelu", clamp=2).tolist()[0][1:] == [2, -2]
    assert bias_act(x, act="lrelu", clamp=2).isnan().tolist() == [[True, False, False]]
    assert bias_act(x, act="lrelu", gain=1).tolist()[0][1:] == [float("inf"), -float("inf")]


def test_unaligned_memory(device: torch.device) -> None:
    """Views that begin in the middle of a packed load: pictures, and small operands."""
    flat, f = normal(2 * 8 * 4 * 4 + 1).float().to(device), setup_filter([1, 3, 3, 1]).to(device)
    for x in (flat[1:].view(2, 8, 4, 4), flat[1:].view(2, 4, 4, 8).permute(0, 3, 1, 2)):
        assert_rounded(
            bias_act(x, act="lrelu", gain=1.0), reference(x.double().cpu(), None, None, None, "lrelu", 1, None)
        )
        assert_rounded(upfirdn2d(x, f, up=2, padding=(2, 1, 2, 1)), definition(x, f, up=2, padding=(2, 1, 2, 1)))
        x, b, scale, noise = x.clone(), flat[1:9], flat[1:17].view(2, 8), flat[1:33].view(2, 1, 4, 4)
        on_cpu = [tensor.double().cpu() for tensor in (x, b, scale, noise)]
        exact = reference(on_cpu[0], on_cpu[1], on_cpu[2], on_cpu[3], "linear", 1, None)
        assert_rounded(bias_act(x, b, scale=scale, noise=noise), exact, steps=4)


# ----------------------------------------------------------------------------
# upfirdn2d.


def definition(x: torch.Tensor, f: torch.Tensor, **arguments: Any) -> torch.Tensor:
    """The reference in float64 on the CPU; test_ops.py compares it with scipy."""
    with use(None):
        return upfirdn2d(x.double().cpu(), f.double().cpu(), **arguments)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("channels", [1, 3, 8])
def test_upfirdn2d(device: torch.device, dtype: torch.dtype, layout: str, channels: int) -> None:
    """The blocks' filters, which have tiles of their own, at odd sizes, and others."""
    x = laid_out(normal(2, channels, 7, 9).to(dtype), layout).to(device)
    filters = [setup_filter([1, 3, 3, 1]), normal(4, 4, seed=1).float(), normal(3, 5, seed=2).float()]
    for (up, down), padding, f in itertools.product(
        [(1, 1), (2, 1), (1, 2), (2, 2), (3, 2)], [(2, 1, 2, 1), (1, 2, -2, 5), (3, -1, 4, 0)], filters
    ):
        arguments: dict[str, Any] = {"up": up, "down": down, "padding": padding, "flip_filter": f is filters[1]}
        result, exact = upfirdn2d(x, f.to(device), **arguments), definition(x, f, **arguments)
        assert result.dtype == dtype and result.shape == exact.shape
        assert_rounded(result, exact)
        if channels > 1:
            last = layout == "channels_last"
            assert result.is_contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


def among_nans(x: torch.Tensor) -> torch.Tensor:
    """The same tensor with NaN before and behind it in memory, to be found where a kernel reads too far."""
    size = 1 + sum((length - 1) * stride for length, stride in zip(x.shape, x.stride(), strict=True))
    memory = torch.full([64 + size + 64], float("nan"), dtype=x.dtype)
    return memory.as_strided(x.shape, x.stride(), 64).copy_(x)


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_upfirdn2d_of_any_arguments(cpu_module: ModuleType, data: st.DataObject) -> None:
    sizes = [data.draw(st.integers(1, most), label=name) for name, most in [("N", 2), ("C", 5), ("H", 7), ("W", 7)]]
    taps = data.draw(st.one_of(st.just((4, 4)), st.tuples(st.integers(1, 6), st.integers(1, 6))), label="taps")
    up, down = data.draw(st.integers(1, 4), label="up"), data.draw(st.integers(1, 4), label="down")
    padding = tuple(data.draw(st.integers(-3, 7), label=side) for side in ("left", "right", "top", "bottom"))
    arguments: dict[str, Any] = {"up": up, "down": down, "padding": padding, "flip_filter": data.draw(st.booleans())}
    for axis, sides in ((3, padding[:2]), (2, padding[2:])):
        assume(sizes[axis] * up + min(sides[0], 0) + min(sides[1], 0) > 0)  # the reference cannot crop it all
    x = among_nans(laid_out(normal(*sizes), data.draw(st.sampled_from(LAYOUTS), label="layout")))
    f = normal(*taps, seed=1)
    with use(cpu_module):
        if sizes[3] * up + sum(padding[:2]) < taps[1] or sizes[2] * up + sum(padding[2:]) < taps[0]:
            with pytest.raises(RuntimeError, match="shorter than the filter"):
                upfirdn2d(x, f, **arguments)
        else:
            assert_rounded(upfirdn2d(x, f, **arguments), definition(x, f, **arguments), steps=8)


@pytest.mark.parametrize(("up", "down"), [(1, 1), (2, 1), (1, 2), (3, 2)])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_upfirdn2d_derivatives(device: torch.device, up: int, down: int, layout: str) -> None:
    x = laid_out(normal(1, 2, 5, 4), layout).to(device).requires_grad_()
    f = normal(4, 4, seed=1).to(device)

    def op(x: torch.Tensor) -> torch.Tensor:
        return upfirdn2d(x, f, up, down, (2, 1, 3, -1), flip_filter=True, gain=1.5)

    assert gradcheck(op, (x,)) and gradgradcheck(op, (x,))


def test_a_picture_of_one_pixel_in_both_layouts(device: torch.device) -> None:
    """It is contiguous in either, and what grows out of it lies as its strides say."""
    f, values = setup_filter([1, 3, 3, 1]), normal(2, 3)
    for layout, strides in (("contiguous", (3, 1, 1, 1)), ("channels_last", (3, 1, 3, 3))):
        x = values.as_strided([2, 3, 1, 1], strides)
        arguments: dict[str, Any] = {"up": 2, "padding": (2, 1, 2, 1)}
        result = upfirdn2d(x.to(device), f.to(device), **arguments)
        assert_rounded(result, definition(x, f, **arguments))
        assert result.stride() == laid_out(torch.zeros(2, 3, 2, 2), layout).stride()
        assert bias_act(x.to(device)).stride() == strides


def test_upfirdn2d_of_large_filters_and_empty_batches(device: torch.device) -> None:
    x, f = normal(1, 2, 40, 33), normal(32, 32, seed=1)
    assert_rounded(upfirdn2d(x.to(device), f.to(device)), definition(x, f), steps=64)
    assert upfirdn2d(x[:0].to(device), f.to(device), up=2).shape == (0, 2, 49, 35)


# ----------------------------------------------------------------------------
# Refusals, each naming its argument.


def test_wrong_arguments_are_named(cpu_module: ModuleType) -> None:
    x, f = torch.zeros(2, 3, 4, 4), torch.zeros(2, 2)
    act: dict[str, Any] = {"b": None, "scale": None, "noise": None, "act": "linear", "gain": 1.0, "clamp": -1.0}
    for name, value in {
        "x": x.int(), "b": torch.zeros(4), "scale": torch.zeros(3, 3), "noise": torch.zeros(2, 1, 4, 3), "act": "relu"
    }.items():  # fmt: skip
        with pytest.raises(RuntimeError, match=f"^{name}: "):
            cpu_module.bias_act(**{"x": x, **act, "stream": 0, name: value})
    grad: dict[str, Any] = {"g": x, "y": x, "act": "lrelu", "gain": 1.0, "clamp": -1.0, "stream": 0}
    for name, value in {"g": x[:1], "gain": 0.0, "act": "gelu"}.items():
        with pytest.raises(RuntimeError, match=f"^{name}: "):
            cpu_module.bias_act_grad(**{**grad, name: value})
    up: dict[str, Any] = {"x": x, "f": f, "up": 1, "down": 1, "padding": [0, 0, 0, 0], "flip_filter": False}
    for name, value in {"x": x[0], "f": f[0], "up": 0, "down": -1, "padding": [-3, 0, 0, 0]}.items():
        with pytest.raises(RuntimeError, match=f"^{name}: "):
            cpu_module.upfirdn2d(**{**up, "stream": 0, name: value})
    huge = torch.zeros(1, 1, 1, 1, dtype=torch.float16).expand(1, 1, 2**16, 2**15)
    with pytest.raises(RuntimeError, match=r"^x: 2147483648 elements; at most 2\^31 - 1 fit"):
        cpu_module.bias_act(huge, stream=0, **act)
    with pytest.raises(RuntimeError, match="^x: the result's shape would be"):
        cpu_module.upfirdn2d(**{**up, "stream": 0, "up": 2**14})


def test_the_reference_serves_the_cpu() -> None:
    assert kernels_for(torch.zeros(1)) is None


# ----------------------------------------------------------------------------
# Division by multiplication.


@pytest.fixture(scope="module")
def quotient(tmp_path_factory: pytest.TempPathFactory) -> Any:
    if missing := build.missing_tools(cuda=False):
        pytest.skip("; ".join(missing))
    folder = tmp_path_factory.mktemp("divisor")
    source, library = folder / "divisor.cpp", folder / "divisor.so"
    source.write_text(
        '#include "portable.h"\n'
        'extern "C" uint32_t quotient(uint32_t n, uint32_t d) { return ops::Divisor(d).quotient(n); }\n'
    )
    command = [*os.environ.get("CXX", "c++").split(), "-std=c++20", "-shared", "-fPIC", str(source), "-o", str(library)]
    includes = [f"-I{build.CSRC}", f"-I{Path(torch.__file__).parent / 'include'}"]
    subprocess.run([*command, *includes], check=True)
    return ctypes.CDLL(str(library)).quotient


@given(n=st.integers(0, 2**31 - 1), d=st.one_of(st.integers(1, 2**31 - 1), st.integers(1, 4096)))
@settings(max_examples=500, deadline=None)
def test_divisor(quotient: Any, n: int, d: int) -> None:
    assert quotient(n, d) == n // d
    multiple = n // d * d  # just below a multiple a wrong quotient shows first
    assert quotient(multiple, d) == multiple // d and (multiple == 0 or quotient(multiple - 1, d) == multiple // d - 1)
