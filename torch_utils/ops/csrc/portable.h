// What lets one header serve nvcc and a C++ compiler: qualifiers, half types, packed loads, division without dividing.
// No torch header is needed for CUDA, so nvcc alone can compile the kernels for any architecture.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#define HOST_DEVICE __host__ __device__ __forceinline__
#define UNROLL _Pragma("unroll")
#else
#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <stdexcept>
#define HOST_DEVICE inline
#define UNROLL
#endif

namespace ops {

// ----------------------------------------------------------------------------
// Number types: stored as T, summed as Sum<T>.

#ifdef __CUDACC__
using Half = __half;
using BFloat16 = __nv_bfloat16;
// Functions, not conversions: torch compiles .cu files with half's implicit conversions switched off.
HOST_DEVICE float widen(Half value) { return __half2float(value); }
HOST_DEVICE float widen(BFloat16 value) { return __bfloat162float(value); }
HOST_DEVICE void narrow(float value, Half& result) { result = __float2half_rn(value); }
HOST_DEVICE void narrow(float value, BFloat16& result) { result = __float2bfloat16_rn(value); }
#else
using Half = c10::Half;
using BFloat16 = c10::BFloat16;
HOST_DEVICE float widen(Half value) { return static_cast<float>(value); }
HOST_DEVICE float widen(BFloat16 value) { return static_cast<float>(value); }
HOST_DEVICE void narrow(float value, Half& result) { result = Half(value); }
HOST_DEVICE void narrow(float value, BFloat16& result) { result = BFloat16(value); }
#endif
HOST_DEVICE float widen(float value) { return value; }
HOST_DEVICE double widen(double value) { return value; }
HOST_DEVICE void narrow(float value, float& result) { result = value; }
HOST_DEVICE void narrow(double value, double& result) { result = value; }

template <class T>
using Sum = decltype(widen(T()));

enum class DType { half, bfloat16, float32, float64 };

template <class T>
struct Type {
    using type = T;
};

// Calls run(Type<T>()) with the type that dtype names.
template <class Run>
void with_type(DType dtype, Run run) {
    switch (dtype) {
        case DType::half: return run(Type<Half>());
        case DType::bfloat16: return run(Type<BFloat16>());
        case DType::float32: return run(Type<float>());
        case DType::float64: return run(Type<double>());
    }
}

// ----------------------------------------------------------------------------
// V neighbours in one load or store; the address is a multiple of their size. A GPU insists on that, and the CPU build
// checks it.

template <class T, int V>
struct alignas(sizeof(T) * V) Pack {
    T values[V];
};

inline bool aligned(const void* address, uint32_t bytes) { return reinterpret_cast<uintptr_t>(address) % bytes == 0; }

#ifdef __CUDACC__
#define CHECK_ALIGNED(address, bytes)
#else
#define CHECK_ALIGNED(address, bytes) \
    if (!aligned(address, bytes)) throw std::logic_error("a packed access at an address that is not aligned")
#endif

template <int V, class T>
HOST_DEVICE Pack<T, V> load(const T* address) {
    CHECK_ALIGNED(address, sizeof(T) * V);
    return *reinterpret_cast<const Pack<T, V>*>(address);
}

template <class T, int V>
HOST_DEVICE void store(T* address, const Pack<T, V>& pack) {
    CHECK_ALIGNED(address, sizeof(T) * V);
    *reinterpret_cast<Pack<T, V>*>(address) = pack;
}

// ----------------------------------------------------------------------------
// n / divisor for 0 <= n < 2^31 by a multiplication and a shift (Granlund and Montgomery 1994, section 4).

struct Divisor {
    uint32_t value = 1, multiplier = 1, shift = 0;

    Divisor() = default;
    explicit Divisor(uint32_t divisor) : value(divisor) {
        while ((uint64_t(1) << shift) < divisor) ++shift;
        multiplier = static_cast<uint32_t>((((uint64_t(1) << shift) - divisor) << 32) / divisor + 1);
    }

    HOST_DEVICE uint32_t quotient(uint32_t n) const {
        const uint32_t high = static_cast<uint32_t>((static_cast<uint64_t>(n) * multiplier) >> 32);
        return (high + n) >> shift;
    }
};

}  // namespace ops
