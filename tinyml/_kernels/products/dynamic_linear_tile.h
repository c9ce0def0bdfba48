/* One tile of a dynamic int8 product whose operands are both packed: TALL rows, or two thirds or half of that, by PACKED
   vectors of int32 sums, which stay in registers over all of K.

   This is C, not Cython, because compilers keep the sums in memory unless they are told to unroll all these loops. */
#pragma once
#include "../words/simd.h"

/* The instructions multiply unsigned by signed bytes, so 128 is added to one of the two operands, and OFFSET subtracted
   from it again where they multiply signed by signed bytes. Where SIGNED_ROWS is set, it is added to the weights: the rows
   stay signed, because the instruction can broadcast the signed operand from memory by itself. Else it is added to the
   rows. What it adds to a sum, 128 - OFFSET times the sum of the other operand, is the same for a whole row or for a whole
   column; each sum starts with minus that.

   The loop over K takes STEP words of 4 codes at a time, because counting and jumping took 5% of the time of such tiles. */
#if defined(__AVX512VNNI__)
enum { TALL = 12, PACKED = 2, STEP = 4, SIGNED_ROWS = 1 };
#else
enum { TALL = ROWS, PACKED = WIDE, STEP = 1, SIGNED_ROWS = 0 };
#endif

/* acc + the dot product, in each lane, of the 4 codes of a row at p and 4 weights */
static inline vec dot4_row(vec acc, const void *p, vec weights) {
#if defined(__AVX512VNNI__)
  /* in assembly, because GCC would spend a separate instruction on the broadcast */
  __asm__("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(acc) : "v"(weights), "m"(*(const char (*)[4])p));
  return acc;
#else
  int32_t x;
  memcpy(&x, p, 4);
  return vdot4(acc, (vec){0} + x, weights);
#endif
}

/* sums[rows][PACKED] = start + sum over k < K4 of a[k][rows][4] . b[k][PACKED*LANES][4]. K4 is a multiple of STEP, and
   `rows` is a constant at every call */
static inline __attribute__((always_inline)) void packed_sums(int rows, const uint8_t *a, const int32_t *start,
                                                              ptrdiff_t K4, const uint8_t *b, vec sums[TALL][PACKED]) {
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

/* How many rows the next tile has where `left` rows are left */
static inline ptrdiff_t packed_height(ptrdiff_t left) {
  return left > TALL * 2 / 3 ? TALL : left > TALL / 2 ? TALL * 2 / 3 : TALL / 2;
}

/* out[rows][PACKED*LANES] = the sums */
static inline __attribute__((always_inline)) void packed_tile(int rows, const uint8_t *a, const int32_t *start,
                                                              ptrdiff_t K4, const uint8_t *b, int32_t *out) {
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

/* y[TALL][PACKED*LANES] = the sums times the scales of row and column, + bias. Rows of y are ldy floats apart */
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
