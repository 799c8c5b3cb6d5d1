// upfirdn2d on the GPU.
#include "launch.cuh"

namespace ops {

const char* run_upfirdn2d(const Upfirdn2d& task, DType dtype, void* stream) {
    Launch launch{static_cast<cudaStream_t>(stream)};
    with_type(dtype, [&](auto type) { upfirdn2d_items<typename decltype(type)::type>(task, launch); });
    return launch_error();
}

}  // namespace ops
