// The same items in a loop: so the tests can check the kernels' arithmetic where there is no GPU. Nothing else uses it.
#include "kernels.h"

namespace ops {

const bool on_cuda = false;

namespace {

struct Loop {
    template <class Item, class Task>
    void operator()(Item, const Task& task) {
        for (uint32_t item = 0; item < task.items; ++item) Item::run(task, item);
    }
};

}  // namespace

const char* run_bias_act(const BiasAct& task, DType dtype, void*) {
    Loop loop;
    with_type(dtype, [&](auto type) { bias_act_items<typename decltype(type)::type>(task, loop); });
    return nullptr;
}

const char* run_bias_act_grad(const BiasAct& task, DType dtype, void*) {
    Loop loop;
    with_type(dtype, [&](auto type) { bias_act_grad_items<typename decltype(type)::type>(task, loop); });
    return nullptr;
}

const char* run_upfirdn2d(const Upfirdn2d& task, DType dtype, void*) {
    Loop loop;
    with_type(dtype, [&](auto type) { upfirdn2d_items<typename decltype(type)::type>(task, loop); });
    return nullptr;
}

}  // namespace ops
