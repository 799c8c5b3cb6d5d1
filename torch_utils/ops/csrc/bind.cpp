// The Python module: checks arguments, allocates results, fills in the tasks. Linked with the .cu files, or with cpu.cpp.
// Single headers instead of torch/extension.h, which takes three times as long to compile.
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <c10/core/DeviceGuard.h>
#include <c10/util/accumulate.h>
#include <torch/csrc/utils/pybind.h>

#include <algorithm>
#include <array>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "kernels.h"

namespace {

using at::Tensor;
using Optional = std::optional<Tensor>;
constexpr int64_t LIMIT = std::numeric_limits<int32_t>::max();

// ----------------------------------------------------------------------------
// Checks and conversions.

ops::DType dtype_of(const Tensor& x, const char* name) {
    switch (x.scalar_type()) {
        case at::kHalf: return ops::DType::half;
        case at::kBFloat16: return ops::DType::bfloat16;
        case at::kFloat: return ops::DType::float32;
        case at::kDouble: return ops::DType::float64;
        default: TORCH_CHECK(false, name, ": ", x.scalar_type(), "; float16, bfloat16, float32 or float64 is needed");
    }
}

void check_input(const Tensor& x, const char* name) {
    TORCH_CHECK(x.is_cuda() == ops::on_cuda, name, ": lies on ", x.device(), "; these kernels are for ",
                ops::on_cuda ? "CUDA" : "the CPU");
    TORCH_CHECK(x.numel() <= LIMIT, name, ": ", x.numel(), " elements; at most 2^31 - 1 fit");
}

void check_shape(const Tensor& given, at::IntArrayRef shape, const char* name) {
    TORCH_CHECK(given.sizes() == shape, name, ": its shape is ", given.sizes(), "; ", shape, " is needed");
}

// In x's layout if that is one of the two that the kernels know (channels_last for 4 dimensions only).
Tensor dense(const Tensor& x) {
    return x.dim() == 4 ? x.contiguous(x.suggest_memory_format()) : x.contiguous();
}

// Of a dense tensor. The strides decide, as they do about results: a picture of one pixel is contiguous in both layouts.
bool is_channels_last(const Tensor& x) {
    return x.dim() == 4 && x.size(1) > 1 && x.suggest_memory_format() == at::MemoryFormat::ChannelsLast;
}

// The type that x's elements are summed in, which is what small operands are read in.
Tensor operand(const Tensor& given, const Tensor& x, const char* name) {
    TORCH_CHECK(given.device() == x.device(), name, ": lies on ", given.device(), ", but x on ", x.device());
    dtype_of(given, name);
    return given.to(x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat).contiguous();
}

void* stream_of(int64_t stream) { return reinterpret_cast<void*>(stream); }

void check_launch(const char* error, const char* op) { TORCH_CHECK(error == nullptr, op, ": ", error); }

// ----------------------------------------------------------------------------
// bias_act.

double slope_of(const std::string& act) {
    TORCH_CHECK(act == "linear" || act == "lrelu", "act: '", act, "' is neither 'linear' nor 'lrelu'");
    return act == "lrelu" ? 0.2 : 1.0;
}

ops::BiasAct bias_act_task(const Tensor& x, const Tensor& y, const std::string& act, double gain, double clamp) {
    ops::BiasAct task;
    task.x = x.const_data_ptr();
    task.y = y.data_ptr();
    task.slope = slope_of(act);
    task.gain = gain;
    task.clamp = clamp;
    task.elements = static_cast<uint32_t>(x.numel());
    return task;
}

// clamp(act(x * scale + noise + b) * gain): x [N, C, ...], b [C], scale [N, C], noise [N or 1, 1, ...]; clamp < 0: none.
Tensor bias_act(const Tensor& given, const Optional& b, const Optional& scale, const Optional& noise,
                const std::string& act, double gain, double clamp, int64_t stream) {
    check_input(given, "x");
    TORCH_CHECK(given.dim() >= 2, "x: its shape is ", given.sizes(), "; [N, C, ...] is needed");
    const c10::DeviceGuard guard(given.device());
    const Tensor x = dense(given);
    const Tensor y = at::empty_like(x);
    const int64_t images = x.size(0), channels = x.size(1);
    ops::BiasAct task = bias_act_task(x, y, act, gain, clamp);
    const ops::DType dtype = dtype_of(x, "x");
    Tensor bias, scales, noises;  // keep what the pointers point to
    if (b) {
        check_shape(*b, {channels}, "b");
        bias = operand(*b, x, "b");
        task.bias = bias.const_data_ptr();
    }
    if (scale) {
        check_shape(*scale, {images, channels}, "scale");
        scales = operand(*scale, x, "scale");
        task.scale = scales.const_data_ptr();
    }
    if (noise) {
        const bool shared = noise->dim() > 0 && noise->size(0) == 1;
        std::vector<int64_t> shape = x.sizes().vec();
        shape[0] = shared ? 1 : images;
        shape[1] = 1;
        check_shape(*noise, shape, "noise");
        noises = operand(*noise, x, "noise");
        task.noise = noises.const_data_ptr();
        task.noise_stride = shared ? 0 : static_cast<uint32_t>(noises.numel() / std::max<int64_t>(images, 1));
    }
    if (x.numel() == 0) return y;
    const uint32_t pixels = static_cast<uint32_t>(x.numel() / (images * channels));
    task.channels = static_cast<uint32_t>(channels);
    task.channels_last = is_channels_last(x);
    task.inner = ops::Divisor(task.channels_last ? task.channels : pixels);
    task.outer = ops::Divisor(task.channels_last ? pixels : task.channels);
    check_launch(ops::run_bias_act(task, dtype, stream_of(stream)), "bias_act");
    return y;
}

// g * dy / d(what act is given), read from y: g and y have one shape and type. Linear in g. The result has y's layout.
Tensor bias_act_grad(const Tensor& g, const Tensor& y, const std::string& act, double gain, double clamp,
                     int64_t stream) {
    check_input(y, "y");
    check_shape(g, y.sizes(), "g");
    TORCH_CHECK(g.device() == y.device(), "g: lies on ", g.device(), ", but y on ", y.device());
    TORCH_CHECK(g.scalar_type() == y.scalar_type(), "g: ", g.scalar_type(), ", but y is ", y.scalar_type());
    TORCH_CHECK(gain > 0, "gain: ", gain, "; the derivative is read from y, which takes a gain above 0");
    const c10::DeviceGuard guard(y.device());
    const Tensor output = dense(y);
    const Tensor incoming =
        g.strides() == output.strides()
            ? g
            : g.contiguous(is_channels_last(output) ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous);
    const Tensor result = at::empty_like(output);
    ops::BiasAct task = bias_act_task(incoming, result, act, gain, clamp);
    task.output = output.const_data_ptr();
    check_launch(ops::run_bias_act_grad(task, dtype_of(y, "y"), stream_of(stream)), "bias_act_grad");
    return result;
}

// ----------------------------------------------------------------------------
// upfirdn2d.

ops::Axis axis_of(int64_t in, int64_t taps, int64_t up, int64_t down, int64_t before, int64_t after, const char* name) {
    const int64_t padded = in * up + before + after;
    TORCH_CHECK(padded >= taps, "padding: x's ", name, " of ", in, " upsampled by ", up, " and padded by ", before, " and ",
                after, " is shorter than the filter's ", taps);
    TORCH_CHECK(padded <= LIMIT / 2, "padding: ", name, " ", padded, " after upsampling; at most 2^30 fit");
    ops::Axis axis;
    axis.in = static_cast<int>(in);
    axis.out = static_cast<int>((padded - taps) / down + 1);
    axis.taps = static_cast<int>(taps);
    axis.before = static_cast<int>(before);
    return axis;
}

// x [N, C, H, W], f [fh, fw], padding [left, right, top, bottom] counted after upsampling, negative crops.
Tensor upfirdn2d(const Tensor& given, const Tensor& f, int64_t up, int64_t down, const std::array<int64_t, 4>& padding,
                 bool flip_filter, int64_t stream) {
    check_input(given, "x");
    TORCH_CHECK(given.dim() == 4, "x: its shape is ", given.sizes(), "; [N, C, H, W] is needed");
    TORCH_CHECK(f.dim() == 2 && f.numel() > 0, "f: its shape is ", f.sizes(), "; [fh, fw] is needed");
    TORCH_CHECK(f.size(0) < 1 << 15 && f.size(1) < 1 << 15, "f: its shape is ", f.sizes(), ", which is too large");
    TORCH_CHECK(up >= 1 && up < 1 << 15, "up: ", up, "; 1 or more is needed");
    TORCH_CHECK(down >= 1 && down < 1 << 15, "down: ", down, "; 1 or more is needed");
    for (const int64_t side : padding)
        TORCH_CHECK(side >= -LIMIT / 4 && side <= LIMIT / 4, "padding: ", side, " is out of range");
    const c10::DeviceGuard guard(given.device());
    const Tensor x = dense(given);
    const Tensor weights = operand(f, x, "f");
    const ops::DType dtype = dtype_of(x, "x");
    ops::Upfirdn2d task;
    task.columns = axis_of(x.size(3), f.size(1), up, down, padding[0], padding[1], "width");
    task.rows = axis_of(x.size(2), f.size(0), up, down, padding[2], padding[3], "height");
    task.channels_last = is_channels_last(x);
    const std::array<int64_t, 4> shape = {x.size(0), x.size(1), task.rows.out, task.columns.out};
    TORCH_CHECK(c10::multiply_integers(shape) <= LIMIT, "x: the result's shape would be ", at::IntArrayRef(shape),
                "; at most 2^31 - 1 elements fit");
    const Tensor y = at::empty(shape, x.options().memory_format(x.suggest_memory_format()));
    if (y.numel() == 0) return y;
    task.x = x.const_data_ptr();
    task.y = y.data_ptr();
    task.f = weights.const_data_ptr();
    task.up = static_cast<int>(up);
    task.down = static_cast<int>(down);
    task.first_weight = flip_filter ? 0 : static_cast<int>(f.numel() - 1);
    task.weight_step = flip_filter ? 1 : -1;
    task.images = static_cast<uint32_t>(task.channels_last ? x.size(0) : x.size(0) * x.size(1));
    task.channels = static_cast<uint32_t>(task.channels_last ? x.size(1) : 1);
    check_launch(ops::run_upfirdn2d(task, dtype, stream_of(stream)), "upfirdn2d");
    return y;
}

}  // namespace

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
    m.doc() = "Kernels of torch_utils.ops.";
    m.def("bias_act", &bias_act, py::arg("x"), py::arg("b"), py::arg("scale"), py::arg("noise"), py::arg("act"),
          py::arg("gain"), py::arg("clamp"), py::arg("stream"));
    m.def("bias_act_grad", &bias_act_grad, py::arg("g"), py::arg("y"), py::arg("act"), py::arg("gain"),
          py::arg("clamp"), py::arg("stream"));
    m.def("upfirdn2d", &upfirdn2d, py::arg("x"), py::arg("f"), py::arg("up"), py::arg("down"), py::arg("padding"),
          py::arg("flip_filter"), py::arg("stream"));
}
