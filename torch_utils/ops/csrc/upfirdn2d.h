// Zeros behind each pixel, padding, a FIR filter over every channel, every down-th pixel kept. Linear in x, and its
// transpose is itself with up and down exchanged, so that this one operation serves all derivatives.
// An item is one output pixel (any filter), or a tile of them (4 x 4 taps), of one channel or of V neighbouring ones.
// Device and host run the same items (upfirdn2d.cu, cpu.cpp).
#pragma once

#include "portable.h"

namespace ops {

struct Axis {
    int in = 0, out = 0, taps = 0;
    int before = 0;  // padding before the first pixel, counted after upsampling; negative crops
    int shift = 0;   // tiles only: how far before output 0 the first tile starts
};

struct Upfirdn2d {
    const void* x = nullptr;  // of type T, as is y
    void* y = nullptr;
    const void* f = nullptr;  // [fh, fw] of type Sum<T>
    Axis rows, columns;
    int up = 1, down = 1;
    int first_weight = 0, weight_step = 1;  // the filter read forwards, or backwards from its end
    bool channels_last = false;
    uint32_t images = 0;          // pictures of their own: N, or N * C planes where channels do not come last
    uint32_t channels = 1;        // elements of a pixel: C, or 1
    Divisor groups, tile_columns, tile_rows;  // set by the dispatch, like items
    uint32_t items = 0;
};

struct Place {
    uint32_t group, column, row, image;
};

HOST_DEVICE Place place_of(const Upfirdn2d& task, uint32_t item) {
    const uint32_t pixel = task.groups.quotient(item), line = task.tile_columns.quotient(pixel);
    const uint32_t image = task.tile_rows.quotient(line);
    return {item - pixel * task.groups.value, pixel - line * task.tile_columns.value,
            line - image * task.tile_rows.value, image};
}

template <class T>
HOST_DEVICE const T* image_of(const Upfirdn2d& task, const Place& at, int width) {
    return static_cast<const T*>(task.x) +
           (size_t(at.image) * task.rows.in * task.columns.in * task.channels + at.group * width);
}

template <class T>
HOST_DEVICE T* output_of(const Upfirdn2d& task, const Place& at, int width) {
    return static_cast<T*>(task.y) +
           (size_t(at.image) * task.rows.out * task.columns.out * task.channels + at.group * width);
}

// ----------------------------------------------------------------------------
// One output pixel, any up, down and filter.

// The taps that meet a pixel rather than padding or an inserted zero: the first, its pixel, and how many there are.
// From one to the next, the tap moves by up and the pixel by one.
struct Taps {
    int tap, pixel, count;
};

HOST_DEVICE Taps taps_at(const Axis& axis, int out, int up, int down) {
    const int start = out * down - axis.before;  // where tap 0 lies among the upsampled pixels
    const int stop = start + axis.taps;
    const int first = start > 0 ? (start + up - 1) / up : 0;
    const int behind = stop > 0 ? (stop + up - 1) / up : 0;
    const int end = behind < axis.in ? behind : axis.in;
    return {first * up - start, first, end - first};  // a negative count is none
}

template <class T, int V>
struct PixelItem {
    HOST_DEVICE static void run(const Upfirdn2d& task, uint32_t item) {
        using A = Sum<T>;
        const Place at = place_of(task, item);
        const Taps rows = taps_at(task.rows, at.row, task.up, task.down);
        const Taps columns = taps_at(task.columns, at.column, task.up, task.down);
        const size_t row_stride = size_t(task.columns.in) * task.channels;
        const T* line = image_of<T>(task, at, V) + (rows.pixel * row_stride + size_t(columns.pixel) * task.channels);
        const A* weights = static_cast<const A*>(task.f) + task.first_weight +
                           task.weight_step * (rows.tap * task.columns.taps + columns.tap);
        const int across = task.weight_step * task.up, along = across * task.columns.taps;
        A sums[V] = {};
        for (int i = 0; i < rows.count; ++i, line += row_stride, weights += along) {
            const T* pixel = line;
            const A* weight = weights;
            for (int j = 0; j < columns.count; ++j, pixel += task.channels, weight += across) {
                const Pack<T, V> pack = load<V>(pixel);
                UNROLL
                for (int v = 0; v < V; ++v) sums[v] += *weight * widen(pack.values[v]);
            }
        }
        Pack<T, V> result;
        UNROLL
        for (int v = 0; v < V; ++v) narrow(sums[v], result.values[v]);
        store(output_of<T>(task, at, V) + (size_t(at.row) * task.columns.out + at.column) * task.channels, result);
    }
};

// ----------------------------------------------------------------------------
// A tile of ROWS x COLUMNS outputs whose pixels are read into registers once. Tiles start where tap 0 meets a pixel
// (Axis::shift sees to it), so that the compiler knows which tap meets which pixel.

template <class T, int UP, int DOWN, int TAPS, int V, int ROWS, int COLUMNS>
struct TileItem {
    using A = Sum<T>;
    static constexpr int up = UP, down = DOWN, taps = TAPS, width = V, rows = ROWS, columns = COLUMNS;
    static constexpr int HEIGHT = ((ROWS - 1) * DOWN + TAPS - 1) / UP + 1;  // of the patch of pixels under the tile
    static constexpr int WIDTH = ((COLUMNS - 1) * DOWN + TAPS - 1) / UP + 1;
    static_assert(ROWS * DOWN % UP == 0 && COLUMNS * DOWN % UP == 0, "all tiles must start at the same phase");

    HOST_DEVICE static void run(const Upfirdn2d& task, uint32_t item) {
        const Place at = place_of(task, item);
        const int out_y = int(at.row) * ROWS - task.rows.shift, out_x = int(at.column) * COLUMNS - task.columns.shift;
        const int in_y = (out_y * DOWN - task.rows.before) / UP, in_x = (out_x * DOWN - task.columns.before) / UP;
        const T* const image = image_of<T>(task, at, V);
        A weights[TAPS * TAPS];
        UNROLL
        for (int k = 0; k < TAPS * TAPS; ++k)
            weights[k] = static_cast<const A*>(task.f)[task.first_weight + task.weight_step * k];
        A sums[ROWS][COLUMNS][V] = {};
        UNROLL
        for (int r = 0; r < HEIGHT; ++r) {
            A line[WIDTH][V];
            read(task, image, in_y + r, in_x, line);
            UNROLL
            for (int i = 0; i < ROWS; ++i) {
                const int tap = r * UP - i * DOWN;
                if (tap >= 0 && tap < TAPS) accumulate(weights + tap * TAPS, line, sums[i]);
            }
        }
        write(task, at, out_y, out_x, sums);
    }

    HOST_DEVICE static void read(const Upfirdn2d& task, const T* image, int y, int x, A (&line)[WIDTH][V]) {
        const bool inside = y >= 0 && y < task.rows.in;
        UNROLL
        for (int c = 0; c < WIDTH; ++c) {
            Pack<T, V> pack = {};
            if (inside && x + c >= 0 && x + c < task.columns.in)
                pack = load<V>(image + (size_t(y) * task.columns.in + (x + c)) * task.channels);
            UNROLL
            for (int v = 0; v < V; ++v) line[c][v] = widen(pack.values[v]);
        }
    }

    HOST_DEVICE static void accumulate(const A* weights, const A (&line)[WIDTH][V], A (&sums)[COLUMNS][V]) {
        UNROLL
        for (int j = 0; j < COLUMNS; ++j) {
            UNROLL
            for (int c = 0; c < WIDTH; ++c) {
                const int tap = c * UP - j * DOWN;
                if (tap < 0 || tap >= TAPS) continue;
                UNROLL
                for (int v = 0; v < V; ++v) sums[j][v] += weights[tap] * line[c][v];
            }
        }
    }

    HOST_DEVICE static void write(
        const Upfirdn2d& task, const Place& at, int y, int x, const A (&sums)[ROWS][COLUMNS][V]) {
        T* const image = output_of<T>(task, at, V);
        UNROLL
        for (int i = 0; i < ROWS; ++i) {
            if (y + i < 0 || y + i >= task.rows.out) continue;
            T* const line = image + size_t(y + i) * task.columns.out * task.channels;
            UNROLL
            for (int j = 0; j < COLUMNS; ++j) {
                if (x + j < 0 || x + j >= task.columns.out) continue;
                Pack<T, V> pack;
                UNROLL
                for (int v = 0; v < V; ++v) narrow(sums[i][j][v], pack.values[v]);
                store(line + size_t(x + j) * task.channels, pack);
            }
        }
    }
};

// ----------------------------------------------------------------------------
// Which items. `run` is called with an item type and the task.

template <int V, class Run, class Item>
void launch_grid(Upfirdn2d& task, int rows, int columns, Run& run, Item item) {
    task.groups = Divisor(task.channels / V);
    task.tile_rows = Divisor(rows);
    task.tile_columns = Divisor(columns);
    task.items = task.groups.value * task.tile_columns.value * task.tile_rows.value * task.images;
    run(item, task);
}

template <class Item, class Run>
bool try_tiles(Upfirdn2d& task, Run& run) {
    if (task.up != Item::up || task.down != Item::down) return false;
    if (task.rows.taps != Item::taps || task.columns.taps != Item::taps) return false;
    // Of up possible starts, the one at or before output 0 under which tap 0 meets a pixel.
    const auto tiles = [&task](Axis& axis, int size) {
        while ((axis.shift * task.down + axis.before) % task.up != 0) ++axis.shift;
        return (axis.out + axis.shift + size - 1) / size;
    };
    const int rows = tiles(task.rows, Item::rows), columns = tiles(task.columns, Item::columns);
    launch_grid<Item::width>(task, rows, columns, run, Item());
    return true;
}

template <class T, int V, int ROWS, int COLUMNS, class Run>
void upfirdn2d_of_width(Upfirdn2d& task, Run& run) {
    if (try_tiles<TileItem<T, 1, 1, 4, V, ROWS, COLUMNS>>(task, run)) return;
    if (try_tiles<TileItem<T, 2, 1, 4, V, ROWS, 2>>(task, run)) return;
    if (try_tiles<TileItem<T, 1, 2, 4, V, ROWS / 2, COLUMNS>>(task, run)) return;
    launch_grid<V>(task, task.rows.out, task.columns.out, run, PixelItem<T, V>());
}

template <class T, class Run>
void upfirdn2d_items(Upfirdn2d task, Run& run) {
    constexpr int V = sizeof(T) == 8 ? 2 : 4;  // more would leave too few registers for the tile
    const bool packed = task.channels % V == 0 && aligned(task.x, sizeof(T) * V) && aligned(task.y, sizeof(T) * V);
    // Neighbouring threads read neighbouring channels, or neighbouring pixels: then tiles are one pixel wide.
    packed ? upfirdn2d_of_width<T, V, 4, 2>(task, run) : upfirdn2d_of_width<T, 1, 8, 1>(task, run);
}

}  // namespace ops
