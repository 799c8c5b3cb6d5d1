// bias_act and its derivative on the GPU.
#include "launch.cuh"

namespace ops {

const bool on_cuda = true;

const char* run_bias_act(const BiasAct& task, DType dtype, void* stream) {
    Launch launch{static_cast<cudaStream_t>(stream)};
    with_type(dtype, [&](auto type) { bias_act_items<typename decltype(type)::type>(task, launch); });
    return launch_error();
}

const char* run_bias_act_grad(const BiasAct& task, DType dtype, void* stream) {
    Launch launch{static_cast<cudaStream_t>(stream)};
    with_type(dtype, [&](auto type) { bias_act_grad_items<typename decltype(type)::type>(task, launch); });
    return launch_error();
}

}  // namespace ops
