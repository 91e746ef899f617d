// SPDX-License-Identifier: Apache-2.0
// Multiresolution hash grid (Mueller et al. 2022) on a CPU: trilinear look-up and its gradient.
//
// One level at a time, so that a level's table stays in the cache, and one thread to a level, so
// that the table's gradient needs no atomic additions. Level geometry and hash are tiny-cuda-nn's:
// the position is x * scale + 0.5, a level is dense where its corners fit the table, and hashed
// with the primes 1, 2654435761 and 805459861 otherwise. The plain torch version in
// hash_backends.py is the reference that the tests compare this with.
#include <cmath>
#include <cstdint>
#include <type_traits>

namespace {

struct Level {
  int64_t offset;      // first entry of the level in the table
  uint32_t size;       // entries of the level
  uint32_t resolution; // corners along an axis
  float scale;
};

struct Corners {
  uint32_t index[8];
  float weight[8];
  float part[3];  // position within the cell, 0 to 1
};

inline Corners corners(const float *x, const Level &level) {
  Corners out;
  uint32_t low[3];
  for (int axis = 0; axis < 3; ++axis) {
    const float position = x[axis] * level.scale + 0.5f;
    const float cell = std::floor(position);
    low[axis] = static_cast<uint32_t>(static_cast<int32_t>(cell));
    out.part[axis] = position - cell;
  }
  const bool dense =
      static_cast<uint64_t>(level.resolution) * level.resolution * level.resolution <= level.size;
  for (int corner = 0; corner < 8; ++corner) {
    uint32_t p[3];
    float weight = 1.0f;
    for (int axis = 0; axis < 3; ++axis) {
      const uint32_t bit = (corner >> axis) & 1;
      p[axis] = low[axis] + bit;
      weight *= bit ? out.part[axis] : 1.0f - out.part[axis];
    }
    const uint32_t index =
        dense ? p[0] + level.resolution * (p[1] + level.resolution * p[2])
              : p[0] ^ (p[1] * 2654435761u) ^ (p[2] * 805459861u);
    out.index[corner] = index % level.size;
    out.weight[corner] = weight;
  }
  return out;
}

template <int F>
void forward(const float *x, int64_t count, const float *table, const Level *levels,
             int level_count, float *out) {
#pragma omp parallel for schedule(dynamic, 1)
  for (int l = 0; l < level_count; ++l) {
    const Level level = levels[l];
    const float *entries = table + level.offset * F;
    for (int64_t i = 0; i < count; ++i) {
      const Corners c = corners(x + 3 * i, level);
      float sum[F] = {};
      for (int corner = 0; corner < 8; ++corner) {
        const float *entry = entries + static_cast<int64_t>(c.index[corner]) * F;
        for (int f = 0; f < F; ++f) sum[f] += c.weight[corner] * entry[f];
      }
      float *row = out + (i * level_count + l) * F;
      for (int f = 0; f < F; ++f) row[f] = sum[f];
    }
  }
}

template <int F>
void backward(const float *x, int64_t count, const float *grad_out, const Level *levels,
              int level_count, float *grad_table) {
#pragma omp parallel for schedule(dynamic, 1)
  for (int l = 0; l < level_count; ++l) {
    const Level level = levels[l];
    float *entries = grad_table + level.offset * F;
    for (int64_t i = 0; i < count; ++i) {
      const float *row = grad_out + (i * level_count + l) * F;
      bool zero = true;
      for (int f = 0; f < F; ++f) zero = zero && row[f] == 0.0f;
      if (zero) continue;
      const Corners c = corners(x + 3 * i, level);
      for (int corner = 0; corner < 8; ++corner) {
        float *entry = entries + static_cast<int64_t>(c.index[corner]) * F;
        for (int f = 0; f < F; ++f) entry[f] += c.weight[corner] * row[f];
      }
    }
  }
}

inline float mix(float a, float b, float part) { return a + part * (b - a); }

// Derivative of a trilinear interpolation along each axis, in cells, from its corners' values.
inline void trilinear_gradient(const float *part, const float *v, float *gradient) {
  const float x = part[0], y = part[1], z = part[2];
  gradient[0] = mix(mix(v[1] - v[0], v[3] - v[2], y), mix(v[5] - v[4], v[7] - v[6], y), z);
  gradient[1] = mix(mix(v[2] - v[0], v[3] - v[1], x), mix(v[6] - v[4], v[7] - v[5], x), z);
  gradient[2] = mix(mix(v[4] - v[0], v[5] - v[1], x), mix(v[6] - v[2], v[7] - v[3], x), y);
}

// Here all threads share a level, each with positions of its own: a position's gradient sums over
// the levels.
template <int F>
void backward_positions(const float *x, int64_t count, const float *table, const float *grad_out,
                        const Level *levels, int level_count, float *grad_x) {
  for (int l = 0; l < level_count; ++l) {
    const Level level = levels[l];
    const float *entries = table + level.offset * F;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < count; ++i) {
      const float *row = grad_out + (i * level_count + l) * F;
      bool zero = true;
      for (int f = 0; f < F; ++f) zero = zero && row[f] == 0.0f;
      if (zero) continue;
      const Corners c = corners(x + 3 * i, level);
      float value[8], gradient[3];
      for (int corner = 0; corner < 8; ++corner) {
        const float *entry = entries + static_cast<int64_t>(c.index[corner]) * F;
        value[corner] = 0.0f;
        for (int f = 0; f < F; ++f) value[corner] += entry[f] * row[f];
      }
      trilinear_gradient(c.part, value, gradient);
      for (int axis = 0; axis < 3; ++axis) grad_x[3 * i + axis] += level.scale * gradient[axis];
    }
  }
}

// Calls run with the number of features as a constant; 1 where there is no version for it.
template <typename Run>
int with_features(int features, Run run) {
  switch (features) {
    case 1: run(std::integral_constant<int, 1>()); return 0;
    case 2: run(std::integral_constant<int, 2>()); return 0;
    case 4: run(std::integral_constant<int, 4>()); return 0;
    case 8: run(std::integral_constant<int, 8>()); return 0;
  }
  return 1;
}

}  // namespace

extern "C" int hash_grid_forward(const float *x, int64_t count, const float *table,
                                 const void *levels, int level_count, int features, float *out) {
  const Level *l = static_cast<const Level *>(levels);
  return with_features(features, [&](auto f) {
    forward<decltype(f)::value>(x, count, table, l, level_count, out);
  });
}

// Adds to grad_table.
extern "C" int hash_grid_backward(const float *x, int64_t count, const float *grad_out,
                                  const void *levels, int level_count, int features,
                                  float *grad_table) {
  const Level *l = static_cast<const Level *>(levels);
  return with_features(features, [&](auto f) {
    backward<decltype(f)::value>(x, count, grad_out, l, level_count, grad_table);
  });
}

// Adds to grad_x.
extern "C" int hash_grid_backward_positions(const float *x, int64_t count, const float *table,
                                            const float *grad_out, const void *levels,
                                            int level_count, int features, float *grad_x) {
  const Level *l = static_cast<const Level *>(levels);
  return with_features(features, [&](auto f) {
    backward_positions<decltype(f)::value>(x, count, table, grad_out, l, level_count, grad_x);
  });
}
