/* One tile of a small product of blocks that stay in the first-level cache: HIGH rows by two vectors of sums in registers, or
   BESIDE rows by one.

   In C, because a compiler that is not told to unroll all these loops takes the sums through memory: with 16 of them, over 64
   steps, 10% of the time. */
#pragma once
#include "simd.h"

#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif

/* BESIDE: where an FMA broadcasts from memory by itself, rows of a tile by one vector, of values that are neighbours in memory */
enum { HIGH = 2 * WIDE, BESIDE = LANES == 16 ? 16 : 0, MOST = 16 };

/* c[MR][NV*LANES] = (or, to `add`, +=) sum over k < K of a[i*row + k*step] * b[k*ldb ...]; MR and NV are constants at every call */
static inline __attribute__((always_inline)) void tile(int MR, int NV, const float *a, ptrdiff_t row, ptrdiff_t step, ptrdiff_t K,
                                                       const float *b, ptrdiff_t ldb, float *c, ptrdiff_t ldc, int add) {
  vecf sums[MOST][2], y[2];
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

/* Rows of the next tile where `left` are left */
static inline ptrdiff_t height(ptrdiff_t left, ptrdiff_t row) {
  if (BESIDE && row == 1 && left >= BESIDE) return BESIDE;
  return left >= HIGH ? HIGH : left >= HIGH / 2 ? HIGH / 2 : 1;
}

/* The tile of `high` rows, as height gives them, and one or two vectors */
static void tile_of(ptrdiff_t high, ptrdiff_t vectors, const float *a, ptrdiff_t row, ptrdiff_t step, ptrdiff_t K, const float *b,
                    ptrdiff_t ldb, float *c, ptrdiff_t ldc, int add) {
#define TILE(MR, NV, ROW) tile(MR, NV, a, ROW, step, K, b, ldb, c, ldc, add)
  if (BESIDE && high == BESIDE) {
    for (; vectors > 0; vectors--, b += LANES, c += LANES) TILE(BESIDE, 1, 1);
  } else if (vectors == 2) {
    if (high == HIGH) TILE(HIGH, 2, row);
    else if (high == HIGH / 2) TILE(HIGH / 2, 2, row);
    else TILE(1, 2, row);
  } else {
    if (high == HIGH) TILE(HIGH, 1, row);
    else if (high == HIGH / 2) TILE(HIGH / 2, 1, row);
    else TILE(1, 1, row);
  }
#undef TILE
}
