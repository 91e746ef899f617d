// SPDX-License-Identifier: Apache-2.0
// Multiresolution hash grid (Mueller et al. 2022) on a CPU: trilinear look-up and its gradient.
//
// Positions go in blocks, so that cells, indices and weights are computed in vector registers.
// Looking up, each thread has positions of its own and takes one level at a time. For the
// table's gradient it is one thread to a level, so that no atomic additions are needed. Level
// geometry and hash are tiny-cuda-nn's: the position is x * scale + 0.5, a level is dense where
// its corners fit the table, and hashed with the primes 1, 2654435761 and 805459861 otherwise.
// The plain torch version in hash_encoding.py is the reference that the tests compare with.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <type_traits>

namespace {

constexpr int BLOCK = 64;
constexpr int64_t CHUNK = 4096;  // positions of one thread whose features stay in its cache

struct Level {
  int64_t offset;      // first entry of the level in the table
  uint32_t size;       // entries of the level
  uint32_t resolution; // corners along an axis
  float scale;
};

struct Cells {
  uint32_t low[3][BLOCK];
  float part[3][BLOCK];  // position within the cell, 0 to 1
  uint32_t index[8][BLOCK];
  float weight[8][BLOCK];
};

// Dense indices lie beyond the level only at its far faces and outside of 0..1.
inline void wrap(Cells &c, uint32_t size) {
  for (int corner = 0; corner < 8; ++corner) {
    uint32_t largest = 0;
    for (int b = 0; b < BLOCK; ++b) largest = std::max(largest, c.index[corner][b]);
    if (largest < size) continue;
    for (int b = 0; b < BLOCK; ++b) c.index[corner][b] %= size;
  }
}

// x: `count` positions, at most BLOCK; what is beyond them is some valid entry.
inline void locate(const float *x, int count, const Level &level, Cells &c) {
  for (int axis = 0; axis < 3; ++axis) {
    float position[BLOCK] = {};
    for (int b = 0; b < count; ++b) position[b] = x[3 * b + axis] * level.scale + 0.5f;
    for (int b = 0; b < BLOCK; ++b) {
      const float cell = std::floor(position[b]);
      c.low[axis][b] = static_cast<uint32_t>(static_cast<int32_t>(cell));
      c.part[axis][b] = position[b] - cell;
    }
  }
  const bool dense =
      static_cast<uint64_t>(level.resolution) * level.resolution * level.resolution <= level.size;
  // A hashed level has as many entries as fit the table: a power of two.
  const uint32_t y = dense ? level.resolution : 2654435761u;
  const uint32_t z = dense ? level.resolution * level.resolution : 805459861u;
  for (int corner = 0; corner < 8; ++corner) {
    const uint32_t dx = corner & 1, dy = (corner >> 1) & 1, dz = corner >> 2;
    for (int b = 0; b < BLOCK; ++b) {
      const uint32_t px = c.low[0][b] + dx, py = (c.low[1][b] + dy) * y,
                     pz = (c.low[2][b] + dz) * z;
      c.index[corner][b] = dense ? px + py + pz : (px ^ py ^ pz) & (level.size - 1);
      c.weight[corner][b] = (dx ? c.part[0][b] : 1.0f - c.part[0][b]) *
                            (dy ? c.part[1][b] : 1.0f - c.part[1][b]) *
                            (dz ? c.part[2][b] : 1.0f - c.part[2][b]);
    }
  }
  if (dense) wrap(c, level.size);
}

template <int F>
void forward(const float *x, int64_t count, const float *table, const Level *levels,
             int level_count, float *out) {
  const int64_t chunks = (count + CHUNK - 1) / CHUNK;
#pragma omp parallel for schedule(dynamic, 1)
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    const int64_t end = std::min(count, (chunk + 1) * CHUNK);
    for (int l = 0; l < level_count; ++l) {
      const float *entries = table + levels[l].offset * F;
      for (int64_t i = chunk * CHUNK; i < end; i += BLOCK) {
        const int n = static_cast<int>(std::min<int64_t>(BLOCK, end - i));
        Cells c;
        locate(x + 3 * i, n, levels[l], c);
        for (int b = 0; b < n; ++b) {
          float sum[F] = {};
          for (int corner = 0; corner < 8; ++corner) {
            const float *entry = entries + static_cast<int64_t>(c.index[corner][b]) * F;
            for (int f = 0; f < F; ++f) sum[f] += c.weight[corner][b] * entry[f];
          }
          float *row = out + ((i + b) * level_count + l) * F;
          for (int f = 0; f < F; ++f) row[f] = sum[f];
        }
      }
    }
  }
}

// What the eight corners of one cell gather before the table is touched: neighbouring samples of
// a ray lie in the same cell of a coarse level.
template <int F>
struct Corners {
  float sum[8][F];
  uint32_t index[8];

  void start(const Cells &c, int b) {
    for (int corner = 0; corner < 8; ++corner) {
      index[corner] = c.index[corner][b];
      for (int f = 0; f < F; ++f) sum[corner][f] = 0.0f;
    }
  }
  void add(const Cells &c, int b, const float *row) {
    for (int corner = 0; corner < 8; ++corner)
      for (int f = 0; f < F; ++f) sum[corner][f] += c.weight[corner][b] * row[f];
  }
  void finish(float *entries) const {
    for (int corner = 0; corner < 8; ++corner) {
      float *entry = entries + static_cast<int64_t>(index[corner]) * F;
      for (int f = 0; f < F; ++f) entry[f] += sum[corner][f];
    }
  }
};

template <int F>
inline bool is_zero(const float *row) {
  bool zero = true;
  for (int f = 0; f < F; ++f) zero = zero && row[f] == 0.0f;
  return zero;
}

template <int F>
void backward(const float *x, int64_t count, const float *grad_out, const Level *levels,
              int level_count, float *grad_table) {
#pragma omp parallel for schedule(dynamic, 1)
  for (int l = 0; l < level_count; ++l) {
    float *entries = grad_table + levels[l].offset * F;
    Corners<F> corners;
    uint32_t at[3];
    bool open = false;
    for (int64_t i = 0; i < count; i += BLOCK) {
      const int n = static_cast<int>(std::min<int64_t>(BLOCK, count - i));
      Cells c;
      locate(x + 3 * i, n, levels[l], c);
      for (int b = 0; b < n; ++b) {
        const float *row = grad_out + ((i + b) * level_count + l) * F;
        if (is_zero<F>(row)) continue;
        const bool same = open && at[0] == c.low[0][b] && at[1] == c.low[1][b] &&
                          at[2] == c.low[2][b];
        if (!same) {
          if (open) corners.finish(entries);
          corners.start(c, b);
          for (int axis = 0; axis < 3; ++axis) at[axis] = c.low[axis][b];
          open = true;
        }
        corners.add(c, b, row);
      }
    }
    if (open) corners.finish(entries);
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

// A position's gradient sums over the levels: each thread has positions of its own.
template <int F>
void backward_positions(const float *x, int64_t count, const float *table, const float *grad_out,
                        const Level *levels, int level_count, float *grad_x) {
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < count; i += BLOCK) {
    const int n = static_cast<int>(std::min<int64_t>(BLOCK, count - i));
    for (int l = 0; l < level_count; ++l) {
      const float *entries = table + levels[l].offset * F;
      Cells c;
      locate(x + 3 * i, n, levels[l], c);
      for (int b = 0; b < n; ++b) {
        const float *row = grad_out + ((i + b) * level_count + l) * F;
        if (is_zero<F>(row)) continue;
        float value[8] = {}, gradient[3];
        for (int corner = 0; corner < 8; ++corner) {
          const float *entry = entries + static_cast<int64_t>(c.index[corner][b]) * F;
          for (int f = 0; f < F; ++f) value[corner] += entry[f] * row[f];
        }
        const float part[3] = {c.part[0][b], c.part[1][b], c.part[2][b]};
        trilinear_gradient(part, value, gradient);
        for (int axis = 0; axis < 3; ++axis)
          grad_x[3 * (i + b) + axis] += levels[l].scale * gradient[axis];
      }
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
