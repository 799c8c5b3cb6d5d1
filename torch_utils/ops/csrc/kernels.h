// What the binding calls: bias_act.cu and upfirdn2d.cu define it for CUDA, cpu.cpp for tests.
#pragma once

#include "bias_act.h"
#include "upfirdn2d.h"

namespace ops {

extern const bool on_cuda;  // where the pointers must lie

// Each starts the work on the stream (a cudaStream_t) and returns null, or what CUDA says against it.
const char* run_bias_act(const BiasAct& task, DType dtype, void* stream);
const char* run_bias_act_grad(const BiasAct& task, DType dtype, void* stream);
const char* run_upfirdn2d(const Upfirdn2d& task, DType dtype, void* stream);

}  // namespace ops
