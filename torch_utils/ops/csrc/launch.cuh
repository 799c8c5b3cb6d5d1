// One thread an item.
#pragma once

#include <cuda_runtime.h>

#include "kernels.h"

namespace ops {

constexpr int THREADS = 256;

template <class Item, class Task>
__global__ void __launch_bounds__(THREADS) run_items(const Task task) {
    const uint32_t item = blockIdx.x * THREADS + threadIdx.x;
    if (item < task.items) Item::run(task, item);
}

struct Launch {
    cudaStream_t stream;

    template <class Item, class Task>
    void operator()(Item, const Task& task) {
        if (task.items > 0)
            run_items<Item><<<(task.items + THREADS - 1) / THREADS, THREADS, 0, stream>>>(task);
    }
};

inline const char* launch_error() {
    const cudaError_t error = cudaGetLastError();
    return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

}  // namespace ops
