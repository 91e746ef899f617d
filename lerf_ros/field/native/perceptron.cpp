// SPDX-License-Identifier: Apache-2.0
// A small perceptron (ReLU between its layers) on a CPU, forward and backward in one pass each.
//
// A block of rows goes through all layers while it lies in the cache; the backward pass computes
// the hidden values again instead of keeping them. So nothing but inputs, outputs and gradients
// touches the memory, where plain torch writes and reads every layer of every row.
#include <omp.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

// A vector is what a register holds, and the sums of a tile, TILE x WIDE of them, leave a few
// registers over. Wider ones are legal C++ and twenty times slower: the compiler keeps them in
// memory.
#if defined(__AVX512F__)   // 32 registers
constexpr int LANES = 16, TILE = 8, WIDE = 2;
#elif defined(__AVX__)     // 16 registers
constexpr int LANES = 8, TILE = 4, WIDE = 3;
#elif defined(__aarch64__) // 32 registers
constexpr int LANES = 4, TILE = 4, WIDE = 4;
#else                      // SSE2: 16 registers; any other: what one of them would be
constexpr int LANES = 4, TILE = 4, WIDE = 2;
#endif
typedef float Vector __attribute__((vector_size(LANES * sizeof(float))));
constexpr int ROWS = 64;   // of a block

inline int64_t padded(int64_t n) { return (n + LANES - 1) / LANES * LANES; }

// A zeroed array of floats that starts where a vector may.
class Array {
 public:
  explicit Array(int64_t size) : store_(size + LANES, 0.0f) {
    const auto beyond = reinterpret_cast<uintptr_t>(store_.data()) % sizeof(Vector);
    data_ = store_.data() + (beyond ? (sizeof(Vector) - beyond) / sizeof(float) : 0);
  }
  Array(const Array &) = delete;
  Array(Array &&) = default;
  float *data() const { return data_; }

 private:
  std::vector<float> store_;
  float *data_;
};

inline Vector load(const float *p) { return *reinterpret_cast<const Vector *>(p); }
inline void store(float *p, Vector v) { *reinterpret_cast<Vector *>(p) = v; }

template <int WIDTH>   // vectors of columns in a tile
void tile(const float *a, int64_t row_stride, int64_t column_stride, const float *b, int64_t ldb,
          float *c, int64_t ldc, int64_t depth) {
  Vector sum[TILE][WIDTH];
  for (int r = 0; r < TILE; ++r)
    for (int w = 0; w < WIDTH; ++w) sum[r][w] = load(c + r * ldc + w * LANES);
  for (int64_t k = 0; k < depth; ++k) {
    Vector row[WIDTH];
    for (int w = 0; w < WIDTH; ++w) row[w] = load(b + k * ldb + w * LANES);
#pragma GCC unroll 8
    for (int r = 0; r < TILE; ++r) {
      const float value = a[r * row_stride + k * column_stride];
      for (int w = 0; w < WIDTH; ++w) sum[r][w] += value * row[w];
    }
  }
  for (int r = 0; r < TILE; ++r)
    for (int w = 0; w < WIDTH; ++w) store(c + r * ldc + w * LANES, sum[r][w]);
}

// c (rows, columns) += a (rows, depth) b (depth, columns); rows a multiple of TILE, columns of
// LANES. a is read with any strides, so that its transpose serves as well.
void multiply(const float *a, int64_t row_stride, int64_t column_stride, const float *b,
              int64_t ldb, float *c, int64_t ldc, int64_t rows, int64_t columns, int64_t depth) {
  for (int64_t j = 0; j < columns;) {
    const bool whole = columns - j >= WIDE * LANES;
    const auto run = whole ? tile<WIDE> : tile<1>;
    for (int64_t i = 0; i < rows; i += TILE)
      run(a + i * row_stride, row_stride, column_stride, b + j, ldb, c + i * ldc + j, ldc, depth);
    j += (whole ? WIDE : 1) * LANES;
  }
}

struct Layer {
  int64_t inputs, outputs, wide_in, wide_out;   // the wide ones are multiples of LANES
  Array weight, transposed, bias;               // (wide_out, wide_in), (wide_in, wide_out)

  Layer(int64_t in, int64_t out, const float *w, const float *b)
      : inputs(in), outputs(out), wide_in(padded(in)), wide_out(padded(out)),
        weight(wide_in * wide_out), transposed(wide_in * wide_out), bias(wide_out) {
    for (int64_t o = 0; o < out; ++o) {
      bias.data()[o] = b[o];
      for (int64_t i = 0; i < in; ++i)
        weight.data()[o * wide_in + i] = transposed.data()[i * wide_out + o] = w[o * in + i];
    }
  }
};

std::vector<Layer> make_layers(int count, const int64_t *widths, const float *const *parameters) {
  std::vector<Layer> layers;
  layers.reserve(count);
  for (int l = 0; l < count; ++l)
    layers.emplace_back(widths[l], widths[l + 1], parameters[2 * l], parameters[2 * l + 1]);
  return layers;
}

// Rows (count, width) to or from a padded block; what is beyond them in the block is zero.
void load_rows(const float *x, int64_t count, int64_t width, int64_t wide, float *block) {
  std::memset(block, 0, ROWS * wide * sizeof(float));
  for (int64_t r = 0; r < count; ++r)
    std::memcpy(block + r * wide, x + r * width, width * sizeof(float));
}

void store_rows(const float *block, int64_t count, int64_t width, int64_t wide, float *x) {
  for (int64_t r = 0; r < count; ++r)
    std::memcpy(x + r * width, block + r * wide, width * sizeof(float));
}

// The values of a block at each layer: the inputs first, the outputs last.
struct Values {
  std::vector<Array> at;

  explicit Values(const std::vector<Layer> &layers) {
    at.emplace_back(ROWS * layers[0].wide_in);
    for (const Layer &layer : layers) at.emplace_back(ROWS * layer.wide_out);
  }
  // Runs the first `count` layers; the last of all is linear.
  void run(const std::vector<Layer> &layers, size_t count) {
    for (size_t l = 0; l < count; ++l) {
      const Layer &layer = layers[l];
      float *out = at[l + 1].data();
      for (int r = 0; r < ROWS; ++r)
        std::memcpy(out + r * layer.wide_out, layer.bias.data(), layer.wide_out * sizeof(float));
      multiply(at[l].data(), layer.wide_in, 1, layer.transposed.data(), layer.wide_out, out,
               layer.wide_out, ROWS, layer.wide_out, layer.inputs);
      if (l + 1 == layers.size()) continue;
      for (int64_t i = 0; i < ROWS * layer.wide_out; ++i) out[i] = out[i] < 0.0f ? 0.0f : out[i];
    }
  }
};

// Sums of the gradients of one layer's parameters over the blocks of one thread.
struct Gradients {
  Array weight, bias;
  explicit Gradients(const Layer &layer)
      : weight(layer.wide_in * layer.wide_out), bias(layer.wide_out) {}

  void add(const Layer &layer, const float *gradient, const float *values) {
    multiply(gradient, 1, layer.wide_out, values, layer.wide_in, weight.data(), layer.wide_in,
             layer.wide_out, layer.wide_in, ROWS);
    for (int r = 0; r < ROWS; ++r)
      for (int64_t o = 0; o < layer.wide_out; ++o)
        bias.data()[o] += gradient[r * layer.wide_out + o];
  }
  void write(const Layer &layer, float *to_weight, float *to_bias) const {
    for (int64_t o = 0; o < layer.outputs; ++o) {
      to_bias[o] += bias.data()[o];
      for (int64_t i = 0; i < layer.inputs; ++i)
        to_weight[o * layer.inputs + i] += weight.data()[o * layer.wide_in + i];
    }
  }
};

// Backward through one block whose values are known; the gradient of its outputs is in the last
// array of `slopes`, that of its inputs ends in the first where it is wanted.
void backward_block(const std::vector<Layer> &layers, const Values &values, Values &slopes,
                    std::vector<Gradients> &sums, bool inputs) {
  for (size_t l = layers.size(); l-- > 0;) {
    const Layer &layer = layers[l];
    const float *gradient = slopes.at[l + 1].data();
    sums[l].add(layer, gradient, values.at[l].data());
    if (l == 0 && !inputs) return;
    float *before = slopes.at[l].data();
    std::memset(before, 0, ROWS * layer.wide_in * sizeof(float));
    multiply(gradient, layer.wide_out, 1, layer.weight.data(), layer.wide_in, before,
             layer.wide_in, ROWS, layer.wide_in, layer.outputs);
    if (l == 0) return;
    const float *value = values.at[l].data();
    for (int64_t i = 0; i < ROWS * layer.wide_in; ++i)
      before[i] = value[i] > 0.0f ? before[i] : 0.0f;
  }
}

}  // namespace

// widths (layers + 1,); parameters: weight (out, in) and bias (out,) of each layer in turn.
extern "C" int perceptron_forward(const float *x, int64_t count, int layer_count,
                                  const int64_t *widths, const float *const *parameters,
                                  float *out) {
  const std::vector<Layer> layers = make_layers(layer_count, widths, parameters);
  const Layer &last = layers.back();
#pragma omp parallel
  {
    Values values(layers);
#pragma omp for schedule(static)
    for (int64_t i = 0; i < count; i += ROWS) {
      const int64_t n = std::min<int64_t>(ROWS, count - i);
      load_rows(x + i * widths[0], n, widths[0], layers[0].wide_in, values.at[0].data());
      values.run(layers, layers.size());
      store_rows(values.at.back().data(), n, last.outputs, last.wide_out, out + i * last.outputs);
    }
  }
  return 0;
}

// Adds to grad_parameters; grad_x may be null.
extern "C" int perceptron_backward(const float *x, int64_t count, int layer_count,
                                   const int64_t *widths, const float *const *parameters,
                                   const float *grad_out, float *grad_x,
                                   float *const *grad_parameters) {
  const std::vector<Layer> layers = make_layers(layer_count, widths, parameters);
  const Layer &last = layers.back();
#pragma omp parallel
  {
    Values values(layers), slopes(layers);
    std::vector<Gradients> sums;
    for (const Layer &layer : layers) sums.emplace_back(layer);
#pragma omp for schedule(static)
    for (int64_t i = 0; i < count; i += ROWS) {
      const int64_t n = std::min<int64_t>(ROWS, count - i);
      load_rows(x + i * widths[0], n, widths[0], layers[0].wide_in, values.at[0].data());
      load_rows(grad_out + i * last.outputs, n, last.outputs, last.wide_out,
                slopes.at.back().data());
      values.run(layers, layers.size() - 1);
      backward_block(layers, values, slopes, sums, grad_x != nullptr);
      if (grad_x)
        store_rows(slopes.at[0].data(), n, widths[0], layers[0].wide_in, grad_x + i * widths[0]);
    }
    // In the order of the threads, so that a run can be repeated.
#pragma omp for ordered schedule(static, 1)
    for (int thread = 0; thread < omp_get_num_threads(); ++thread) {
#pragma omp ordered
      for (int l = 0; l < layer_count; ++l)
        sums[l].write(layers[l], grad_parameters[2 * l], grad_parameters[2 * l + 1]);
    }
  }
  return 0;
}
