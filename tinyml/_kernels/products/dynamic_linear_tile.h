/* One tile of an integer product whose operands are both packed: TALL rows, or two thirds or half of them, by PACKED vectors of
   int32 sums that stay in registers over all of K.

   In C, because a compiler that is not told to unroll all these loops keeps the sums in memory. */
#pragma once
#include "../words/simd.h"

/* Instructions multiply unsigned by signed bytes. SIGNED_ROWS: codes q of the rows by weights w + 128, where an instruction can
   broadcast the signed bytes from memory by itself; else codes q + 128 by weights w. Either way less OFFSET, and what it adds
   is in the starts of the sums, one a row or one a column.

   STEP fours of codes are a round: of tiles that issue little else, counting and jumping took 5%. */
#if defined(__AVX512VNNI__)
enum { TALL = 12, PACKED = 2, STEP = 4, SIGNED_ROWS = 1 };
#else
enum { TALL = ROWS, PACKED = WIDE, STEP = 1, SIGNED_ROWS = 0 };
#endif

/* acc + the 4 codes of a row at p, in each lane, times weights */
static inline vec dot4_row(vec acc, const void *p, vec weights) {
#if defined(__AVX512VNNI__)
  /* by name: GCC would broadcast in an instruction of its own */
  __asm__("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(acc) : "v"(weights), "m"(*(const char (*)[4])p));
  return acc;
#else
  int32_t x;
  memcpy(&x, p, 4);
  return vdot4(acc, (vec){0} + x, weights);
#endif
}

/* sums[rows][PACKED] = start + sum over k of a[k][rows][4] . b[k][PACKED*LANES][4], K4 fours in whole steps; rows is a constant
   at every call */
static inline __attribute__((always_inline)) void packed_sums(int rows, const uint8_t *a, const int32_t *start, ptrdiff_t K4,
                                                              const uint8_t *b, vec sums[TALL][PACKED]) {
  vec y[PACKED];
  UNROLL for (int i = 0; i < rows; i++)
    UNROLL for (int j = 0; j < PACKED; j++) sums[i][j] = SIGNED_ROWS ? vsplat(start[i]) : vload(start + LANES * j);
  for (; K4 > 0; K4 -= STEP) {
    UNROLL for (int u = 0; u < STEP; u++) {
      UNROLL for (int j = 0; j < PACKED; j++) y[j] = vload(b + 4 * LANES * (u * PACKED + j));
      UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int j = 0; j < PACKED; j++) sums[i][j] = dot4_row(sums[i][j], a + 4 * (u * rows + i), y[j]);
    }
    a += 4 * STEP * rows;
    b += 4 * LANES * STEP * PACKED;
  }
}

/* Rows of the next tile where `left` are left */
static inline ptrdiff_t packed_height(ptrdiff_t left) {
  return left > TALL * 2 / 3 ? TALL : left > TALL / 2 ? TALL * 2 / 3 : TALL / 2;
}

/* out[rows][PACKED*LANES] = the sums */
static inline __attribute__((always_inline)) void packed_tile(int rows, const uint8_t *a, const int32_t *start, ptrdiff_t K4,
                                                              const uint8_t *b, int32_t *out) {
  vec sums[TALL][PACKED];
  packed_sums(rows, a, start, K4, b, sums);
  UNROLL for (int i = 0; i < rows; i++)
    UNROLL for (int j = 0; j < PACKED; j++) vstore(out + LANES * (i * PACKED + j), sums[i][j]);
}
static void packed_product(ptrdiff_t height, const uint8_t *a, const int32_t *start, ptrdiff_t K4, const uint8_t *b,
                           int32_t *out) {
  if (height == TALL) packed_tile(TALL, a, start, K4, b, out);
  else if (height == TALL * 2 / 3) packed_tile(TALL * 2 / 3, a, start, K4, b, out);
  else packed_tile(TALL / 2, a, start, K4, b, out);
}

/* y[TALL][PACKED*LANES], rows ldy apart, = the sums times the scales of row and column, + bias */
static void packed_outputs(const uint8_t *a, const int32_t *start, ptrdiff_t K4, const uint8_t *b, const float *row_scale,
                           const float *scale, const float *bias, float *y, ptrdiff_t ldy) {
  vec sums[TALL][PACKED];
  packed_sums(TALL, a, start, K4, b, sums);
  UNROLL for (int i = 0; i < TALL; i++) {
    UNROLL for (int j = 0; j < PACKED; j++) {
      vecf v = to_float(sums[i][j]) * (row_scale[i] * vfload(scale + LANES * j));
      vfstore(y + LANES * j, vfadd(v, vfload(bias + LANES * j)));
    }
    y += ldy;
  }
}
