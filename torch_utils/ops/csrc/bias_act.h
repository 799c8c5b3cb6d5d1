// clamp(act(x * scale + noise + bias) * gain), and its derivative, element by element.
// An item is V neighbours in memory. Device and host run the same items (bias_act.cu, cpu.cpp).
#pragma once

#include <initializer_list>

#include "portable.h"

namespace ops {

struct BiasAct {
    const void* x = nullptr;      // of type T, as is y; the derivative takes the incoming gradient here
    void* y = nullptr;            // the result
    const void* output = nullptr; // the derivative only: what the forward pass gave
    const void* bias = nullptr;   // [C], like scale and noise of type Sum<T>, or null
    const void* scale = nullptr;  // [N, C]
    const void* noise = nullptr;  // [N or 1, pixels]
    uint32_t noise_stride = 0;    // 0 where all images share one noise
    uint32_t channels = 1;
    bool channels_last = false;
    Divisor inner;                // how many elements lie in a row: pixels, or channels if they come last
    Divisor outer;                // how many rows an image has: channels, or pixels
    double slope = 1;             // of act below zero: 1 is linear
    double gain = 1;
    double clamp = -1;            // negative: none
    uint32_t elements = 0;
    uint32_t items = 0;           // set by the dispatch
};

// ----------------------------------------------------------------------------
// Items.

// Of a small operand, what V neighbours in x meet: V neighbours as well, or one value for all; `otherwise` if null.
template <int V, bool NEIGHBOURS, class A>
HOST_DEVICE Pack<A, V> operand(const void* values, uint32_t start, A otherwise) {
    if (NEIGHBOURS && values) return load<V>(static_cast<const A*>(values) + start);
    const A value = values ? static_cast<const A*>(values)[start] : otherwise;
    Pack<A, V> pack;
    UNROLL
    for (int j = 0; j < V; ++j) pack.values[j] = value;
    return pack;
}

template <class T, int V, bool CHANNELS_LAST>
struct BiasActItem {
    HOST_DEVICE static void run(const BiasAct& task, uint32_t item) {
        using A = Sum<T>;
        const uint32_t start = item * V;
        const uint32_t row = task.inner.quotient(start), place = start - row * task.inner.value;
        const uint32_t image = task.outer.quotient(row), number = row - image * task.outer.value;
        const uint32_t channel = CHANNELS_LAST ? place : number, pixel = CHANNELS_LAST ? number : place;
        const Pack<A, V> scale = operand<V, CHANNELS_LAST>(task.scale, image * task.channels + channel, A(1));
        const Pack<A, V> bias = operand<V, CHANNELS_LAST>(task.bias, channel, A(0));
        const Pack<A, V> noise = operand<V, !CHANNELS_LAST>(task.noise, image * task.noise_stride + pixel, A(0));
        const A slope = A(task.slope), gain = A(task.gain), clamp = A(task.clamp);
        Pack<T, V> pack = load<V>(static_cast<const T*>(task.x) + start);
        UNROLL
        for (int j = 0; j < V; ++j) {
            A value = widen(pack.values[j]) * scale.values[j] + noise.values[j] + bias.values[j];
            value = (value > A(0) ? value : value * slope) * gain;
            if (clamp >= A(0)) value = value > clamp ? clamp : value < -clamp ? -clamp : value;  // NaN stays NaN
            narrow(value, pack.values[j]);
        }
        store(static_cast<T*>(task.y) + start, pack);
    }
};

// What the activation did is read from its result, which takes gain > 0.
template <class T, int V>
struct BiasActGradItem {
    HOST_DEVICE static void run(const BiasAct& task, uint32_t item) {
        using A = Sum<T>;
        const uint32_t start = item * V;
        T rounded;
        narrow(A(task.clamp), rounded);  // as the forward pass stored it
        const A limit = widen(rounded), gain = A(task.gain), slope = A(task.slope);
        Pack<T, V> pack = load<V>(static_cast<const T*>(task.x) + start);
        const Pack<T, V> output = load<V>(static_cast<const T*>(task.output) + start);
        UNROLL
        for (int j = 0; j < V; ++j) {
            const A y = widen(output.values[j]);
            const A value = widen(pack.values[j]) * (y > A(0) ? gain : gain * slope);
            const bool flat = task.clamp >= 0 && (y >= limit || y <= -limit);
            narrow(flat ? A(0) : value, pack.values[j]);
        }
        store(static_cast<T*>(task.y) + start, pack);
    }
};

// ----------------------------------------------------------------------------
// Which items: 16 bytes at once where nothing forbids it. `run` is called with an item type and the task.

template <class T, class Run>
void bias_act_items(BiasAct task, Run& run) {
    constexpr int V = 16 / sizeof(T);
    bool packed = task.inner.value % V == 0 && aligned(task.x, 16) && aligned(task.y, 16);
    for (const void* small : {task.bias, task.scale, task.noise}) packed = packed && aligned(small, V * sizeof(Sum<T>));
    task.items = packed ? task.elements / V : task.elements;
    if (task.channels_last) {
        packed ? run(BiasActItem<T, V, true>(), task) : run(BiasActItem<T, 1, true>(), task);
    } else {
        packed ? run(BiasActItem<T, V, false>(), task) : run(BiasActItem<T, 1, false>(), task);
    }
}

template <class T, class Run>
void bias_act_grad_items(BiasAct task, Run& run) {
    constexpr int V = 16 / sizeof(T);
    const bool packed =
        task.elements % V == 0 && aligned(task.x, 16) && aligned(task.y, 16) && aligned(task.output, 16);
    task.items = packed ? task.elements / V : task.elements;
    packed ? run(BiasActGradItem<T, V>(), task) : run(BiasActGradItem<T, 1>(), task);
}

}  // namespace ops
