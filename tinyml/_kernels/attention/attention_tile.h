/* One tile of a small product of blocks that stay in the first-level cache: HIGH rows by two vectors of sums in registers.

   This is C, not Cython, because compilers take the sums through memory unless they are told to unroll all these loops.
   That cost the gradient, whose sums run over 32 or 64 steps, some 5%. */
#pragma once
#include "../words/simd.h"

/* 16 sums where there are 32 registers, 8 where there are 16. A tile of one vector by 16 rows, which the FMA itself
   broadcasts, was limited by the loads of scores: it ran at 157 GFLOP/s instead of 175 on a Xeon with AVX-512 */
enum { HIGH = 2 * WIDE };

/* c[i*ldc + j] = sum over k < K of a[i*row + k*step] * b[k*ldb + j] for i < MR, j < NV*LANES; where `add` is set, this is
   added to c. MR and NV are constants at every call */
static inline __attribute__((always_inline)) void tile(int MR, int NV, const float *a, ptrdiff_t row, ptrdiff_t step,
                                                       ptrdiff_t K, const float *b, ptrdiff_t ldb, float *c, ptrdiff_t ldc,
                                                       int add) {
  vecf sums[HIGH][2], y[2];
  UNROLL for (int i = 0; i < MR; i++)
    UNROLL for (int j = 0; j < NV; j++) sums[i][j] = vfzero();
  if (add) {
    UNROLL for (int i = 0; i < MR; i++)
      UNROLL for (int j = 0; j < NV; j++) sums[i][j] = vfload(c + i * ldc + j * LANES);
  }
  for (; K > 0; K--) {
    UNROLL for (int j = 0; j < NV; j++) y[j] = vfload(b + j * LANES);
    UNROLL for (int i = 0; i < MR; i++) {
      vecf x = vfsplat(a + i * row);
      UNROLL for (int j = 0; j < NV; j++) sums[i][j] = vfma(sums[i][j], x, y[j]);
    }
    a += step;
    b += ldb;
  }
  UNROLL for (int i = 0; i < MR; i++)
    UNROLL for (int j = 0; j < NV; j++) vfstore(c + i * ldc + j * LANES, sums[i][j]);
}

/* How many rows the next tile has where `left` rows are left */
static inline ptrdiff_t height(ptrdiff_t left) { return left >= HIGH ? HIGH : left >= HIGH / 2 ? HIGH / 2 : 1; }

/* The tile of `high` rows, a number that `height` gave, and one or two vectors. Where rows are neighbours, which `row` = 1
   says as a constant, no registers are needed for where they are */
static void tile_of(ptrdiff_t high, ptrdiff_t vectors, const float *a, ptrdiff_t row, ptrdiff_t step, ptrdiff_t K,
                    const float *b, ptrdiff_t ldb, float *c, ptrdiff_t ldc, int add) {
#define TILE(MR, NV, ROW) tile(MR, NV, a, ROW, step, K, b, ldb, c, ldc, add)
  if (vectors == 2) {
    if (high == HIGH && row == 1) TILE(HIGH, 2, 1);
    else if (high == HIGH) TILE(HIGH, 2, row);
    else if (high == HIGH / 2) TILE(HIGH / 2, 2, row);
    else TILE(1, 2, row);
  } else {
    if (high == HIGH) TILE(HIGH, 1, row);
    else if (high == HIGH / 2) TILE(HIGH / 2, 1, row);
    else TILE(1, 1, row);
  }
#undef TILE
}
