/* The few vector words that the kernels are written in. Each has one exact meaning on every instruction set.

   vec    LANES int32 lanes        vecf   LANES float lanes        vec64  LANES/2 int64 lanes
   bytes16   16 unsigned bytes

   This file has what all instruction sets share, in the compiler's own vectors. A word that is an instruction of its own is
   in avx512.h, avx2.h, neon.h and c.h, one file for each width of vectors. Each of these files defines all of:

   vfma(acc, a, b)              acc + a * b: rounded once where the instruction exists, twice in plain C
   vless_offset(u)              subtracts OFFSET from each of 4*LANES codes
   vdot4(acc, u, s)             adds to each int32 lane the dot product of 4 codes in u and 4 signed bytes in s, exactly
                                (nothing saturates at 16 bits). OFFSET has been subtracted from the codes: vsplat4 and
                                interleave4, which make u, do it
   interleave4(p0, p1, p2, p3, u)    reads 4*LANES codes at each of four pointers and puts the 4 codes of a channel into one
                                lane of u[4]. Lane i of u[q] has channel 16 * (i / 4) + 4 * q + i % 4, because the
                                instructions move bytes only within 128 bits
   vmul_even(a, b)              64-bit products of the signed lanes 0, 2, ...
   vmulu_even(a, b)             64-bit products of the low halves of 64-bit lanes, taken as unsigned
   vshift64(x, s, back)         x >> s in 64-bit lanes, arithmetic; back is 2^(63-s)
   bmax(a, b)                   the larger one of each pair of bytes
   vload_codes(p)               LANES unsigned bytes as int32 lanes
   vmerge(even, odd)            int32 lanes from the low halves of the 64-bit lanes of `even` and `odd` in turn
   vcodes(a, b, c, d, lo, hi)   4*LANES bytes clamp(x + 128, lo, hi), 0 <= lo <= hi <= 255, in the order of interleave4
   vunlace(v)                   those bytes in the order of a, b, c, d: the 32-bit lanes of v, as a matrix, are transposed
   vfclamp(v, lo, hi)           a NaN stays a NaN
   vfload_half(p)               LANES float16 values as floats, exactly
   vfload_or(p, n, fill)        loads the first n lanes (all where n >= LANES); the other lanes are those of `fill`
   vfstore_n(p, v, n)           stores the first n lanes (all where n >= LANES)
   vfmin(a, b), vfmax(a, b)     a < b ? a : b and a > b ? a : b, so the result is b where either is NaN
   vfround(x)                   the nearest whole number, ties to even
   vfsqrt(x)                    the square root, rounded once
   vfscale(x, n)                x * 2^n, rounded once, for |x| in [0.5, 2] and a whole n in [-200, 200]; the result may be
                                subnormal, 0 or infinite
   vfinverse(x)                 1 / x for x in [1, 2^60], off by at most one ulp
   vwiden(x)                    the lanes as doubles

   OFFSET is 0 where the instruction multiplies unsigned by signed bytes, and 128 where it multiplies signed by signed
   bytes. It is a constant of the instruction set: integer_layer.py accounts for it when it folds the bias. */
#pragma once
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* A tile is ROWS rows by WIDE vectors or, for few output channels, twice the rows by half the vectors: as many accumulators
   as the registers hold beside one row of B and one broadcast value. A tile of one vector has 16 rows: compilers do not
   unroll longer loops, and with 24 rows, whose accumulators were then in memory, 16 channels ran at a third of the speed.

   The table was measured on one core of a Xeon that has all four instruction sets of x86, one tile shape after the other: a
   layer of 384 x 768 x 768, in Gop/s for codes and for floats, the best of 25 runs. NEON has only been emulated: there 24
   accumulators, 4 vectors of B, a broadcast value and OFFSET take 30 of 32 registers. Plain C has the 16 registers of SSE2.

                  6 x 4        4 x 4        8 x 2        12 x 2       6 x 2        4 x 2
   avx512_vnni    496  119     460  120     458  101     457  123
   avx512         128  109     121  100     126   90     128   97
   avx_vnni                                 199   51                  273   70     200   65
   avx2                                      86   53                   85   71      78   59  */
#if defined(__AVX512F__)
#include <immintrin.h>
#define WORDS "avx512.h"
enum { LANES = 16, ROWS = 6, WIDE = 4, OFFSET = 0 };
#elif defined(__AVX2__)
#include <immintrin.h>
#define WORDS "avx2.h"
enum { LANES = 8, ROWS = 6, WIDE = 2, OFFSET = 0 };
#elif defined(SIMD_NEON)        /* set by table.py: the compiler's own __ARM_NEON is set for the baseline too */
#include <arm_neon.h>
#define WORDS "neon.h"
enum { LANES = 4, ROWS = 6, WIDE = 4, OFFSET = 128 };
#else
#define WORDS "c.h"
enum { LANES = 4, ROWS = 6, WIDE = 2, OFFSET = 0 };
#endif
/* a tile has up to ROWS * MAX_PANEL values */
enum { NARROW = WIDE / 2, NARROW_ROWS = 2 * ROWS, MAX_PANEL = WIDE * LANES };
enum { MAX_ROWS = WIDE == 4 ? 16 : NARROW_ROWS };
/* How many vectors a panel has where there are n output channels: as many as possible without more padding than panels of
   one vector would need. */
static inline ptrdiff_t panel_vectors(ptrdiff_t n) {
  ptrdiff_t least = (n + LANES - 1) / LANES;
  return least % WIDE == 0 || least > 2 * WIDE ? WIDE : least % NARROW == 0 || least > NARROW ? NARROW : 1;
}
static inline ptrdiff_t tile_rows(ptrdiff_t nv) { return nv == WIDE ? ROWS : nv == NARROW ? NARROW_ROWS : MAX_ROWS; }

typedef int32_t vec __attribute__((vector_size(4 * LANES)));
typedef float vecf __attribute__((vector_size(4 * LANES)));
typedef int64_t vec64 __attribute__((vector_size(4 * LANES)));
typedef uint64_t vecu64 __attribute__((vector_size(4 * LANES)));
typedef double vecd __attribute__((vector_size(4 * LANES)));
typedef struct { vecd low, high; } vecdd;       /* LANES doubles */
typedef uint8_t bytes16 __attribute__((vector_size(16)));

/* Stands before a loop whose arrays have to become registers: the compiler then unrolls all of it, however long it is */
#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif

static inline vec vload(const void *p) { vec v; memcpy(&v, p, sizeof v); return v; }
static inline void vstore(void *p, vec v) { memcpy(p, &v, sizeof v); }
static inline vec vzero(void) { return (vec){0}; }
static inline vec vsplat(int32_t x) { return (vec){0} + x; }
/* fetches the cache line at p, which may point anywhere */
static inline void vfetch(const void *p) { __builtin_prefetch(p); }
/* the same, but not into the first-level cache */
static inline void vfetch_far(const void *p) { __builtin_prefetch(p, 0, 2); }
/* The first place from p on where a cache line begins: a vector that lies across two lines costs two loads. There must be
   ON_LINE values more memory at p than are used */
enum { ON_LINE = 16 };
static inline float *on_line(float *p) { return (float *)(((uintptr_t)p + 63) & ~(uintptr_t)63); }
/* p, hidden from the compiler: for p = q + at it would keep each of at, at + 1, at + 2, ... in a register of its own */
static inline const float *vpointer(const float *p) { __asm__("" : "+r"(p)); return p; }
static inline vec64 vsplat64(int64_t x) { return (vec64){0} + x; }
static inline vec64 vload64(const void *p) { vec64 v; memcpy(&v, p, sizeof v); return v; }
static inline vecf vfload(const void *p) { vecf v; memcpy(&v, p, sizeof v); return v; }
static inline void vfstore(void *p, vecf v) { memcpy(p, &v, sizeof v); }
static inline vecf vfzero(void) { return (vecf){0}; }
/* x - 0 is x, also where x is -0, so compilers make it a broadcast from memory; 0 + x would be an addition, which takes a
   place where an FMA could run */
static inline vecf vfsplat(const float *p) { return *p - (vecf){0}; }
static inline vecf vfadd(vecf a, vecf b) { return a + b; }
static inline vecf vfset(float x) { return x - (vecf){0}; }
static inline vec vodd(vec v) { return (vec)((vecu64)v >> 32); }    /* lanes 1, 3, ... in the places of lanes 0, 2, ... */
/* The sum of the lanes: one half of the vector is added to the other, then one half of the result to the other, and so on
   */
static inline float vfsum(vecf v) {
  typedef float quarter __attribute__((vector_size(16)));
  quarter q[LANES / 4];
  memcpy(q, &v, sizeof v);
  for (int half = LANES / 8; half; half /= 2)
    for (int i = 0; i < half; i++) q[i] += q[i + half];
  return (q[0][0] + q[0][2]) + (q[0][1] + q[0][3]);
}
/* out[j * width + i] = factor * x[i * step + j] for i, j < 4. The shuffles are named, because compilers move single
   elements through general registers, which takes longer */
#if defined(__clang__) || __GNUC__ >= 12
#define SHUFFLE4(a, b, i, j, k, l) __builtin_shufflevector(a, b, i, j, k, l)
#else
#define SHUFFLE4(a, b, i, j, k, l) __builtin_shuffle(a, b, (__typeof__((a) == (b))){i, j, k, l})
#endif
static inline void transpose4(const float *x, ptrdiff_t step, float factor, float *out, ptrdiff_t width) {
  typedef float quarter __attribute__((vector_size(16)));
  quarter a, b, c, d;
  memcpy(&a, x, 16); memcpy(&b, x + step, 16); memcpy(&c, x + 2 * step, 16); memcpy(&d, x + 3 * step, 16);
  quarter ab = SHUFFLE4(a, b, 0, 4, 1, 5), cd = SHUFFLE4(c, d, 0, 4, 1, 5);
  quarter ba = SHUFFLE4(a, b, 2, 6, 3, 7), dc = SHUFFLE4(c, d, 2, 6, 3, 7);
  quarter y[4] = {SHUFFLE4(ab, cd, 0, 1, 4, 5), SHUFFLE4(ab, cd, 2, 3, 6, 7),
                  SHUFFLE4(ba, dc, 0, 1, 4, 5), SHUFFLE4(ba, dc, 2, 3, 6, 7)};
  for (int j = 0; j < 4; j++) { y[j] *= factor; memcpy(out + j * width, &y[j], 16); }
}
/* out[j * width + i] = x[i * step + j] for i, j < LANES. Each round interleaves the lanes of the first half of the rows
   with those of the second half, as one shuffles cards; after log2(LANES) rounds rows have become columns. Clang has no
   __builtin_shuffle that takes the order of the lanes as a vector */
static inline void vtranspose(const float *x, ptrdiff_t step, float *out, ptrdiff_t width) {
#if defined(__clang__)
  for (int i = 0; i < LANES; i += 4)
    for (int j = 0; j < LANES; j += 4) transpose4(x + i * step + j, step, 1, out + j * width + i, width);
#else
  vec low, high;
  for (int i = 0; i < LANES; i++) { low[i] = i / 2 + i % 2 * LANES; high[i] = low[i] + LANES / 2; }
  vecf rows[LANES], laid[LANES];
  for (int i = 0; i < LANES; i++) memcpy(&rows[i], x + i * step, sizeof(vecf));
  for (int round = 1; round < LANES; round *= 2) {
    for (int i = 0; i < LANES / 2; i++) {
      laid[2 * i] = __builtin_shuffle(rows[i], rows[i + LANES / 2], low);
      laid[2 * i + 1] = __builtin_shuffle(rows[i], rows[i + LANES / 2], high);
    }
    for (int i = 0; i < LANES; i++) rows[i] = laid[i];
  }
  for (int j = 0; j < LANES; j++) memcpy(out + j * width, &rows[j], sizeof(vecf));
#endif
}
static inline vecf vfdiv(vecf a, vecf b) { return a / b; }
/* the vector at p, with these bits of each lane inverted */
static inline vecf vflip(const void *p, uint32_t bits) { return (vecf)(vload(p) ^ (int32_t)bits); }
static inline vec vadd(vec a, vec b) { return a + b; }
static inline vec vsub(vec a, vec b) { return a - b; }
static inline vec vscale(vec a, int32_t x) { return a * x; }
static inline vecf to_float(vec v) { return __builtin_convertvector(v, vecf); }

/* All bits of a lane are set where its `a` replaces the maximum so far, `best`: of equal values the first stays, and a NaN
   wins and stays */
static inline vec vfwins(vecf a, vecf best) { return (a > best) | (a != a); }
static inline vec vselect(vec mask, vec a, vec b) { return (a & mask) | (b & ~mask); }
static inline vecf vfselect(vec mask, vecf a, vecf b) { return (vecf)vselect(mask, (vec)a, (vec)b); }

/* Loads and stores of n lanes or bytes, at the end of a row; all of them where n is at least their number */
static inline void vstore_n(int32_t *p, vec v, int n) {
  if (n >= LANES) vstore(p, v); else memcpy(p, &v, (size_t)n * sizeof(int32_t));
}
static inline bytes16 bload_n(const uint8_t *p, int n) {
  bytes16 v = {0};
  if (n >= 16) memcpy(&v, p, 16); else memcpy(&v, p, (size_t)n);
  return v;
}
static inline void bstore_n(uint8_t *p, bytes16 v, int n) {
  if (n >= 16) memcpy(p, &v, 16); else memcpy(p, &v, (size_t)n);
}

/* For instruction sets without an arithmetic shift of 64 bits: x + 2^63 is shifted logically, then 2^(63-s) is subtracted
   */
static inline vec64 shift64_unsigned(vec64 x, vec64 s, vec64 back) {
  return (vec64)(((vecu64)x ^ ((vecu64){0} + (1ULL << 63))) >> (vecu64)s) - back;
}
/* For instruction sets without a scaling instruction: two products by powers of two, of which the first is exact */
static inline vecf scale_twice(vecf x, vecf n) {
  vec whole = __builtin_convertvector(n, vec), half = whole >> 1;
  return x * (vecf)((half + 127) << 23) * (vecf)((whole - half + 127) << 23);
}

/* For instruction sets without loads and stores of a part of a vector */
static inline vecf load_each(const float *p, ptrdiff_t n, vecf fill) {
  if (n >= LANES) return vfload(p);
  for (int i = 0; i < n; i++) fill[i] = p[i];
  return fill;
}
static inline void store_each(float *p, vecf v, ptrdiff_t n) {
  if (n >= LANES) vfstore(p, v); else for (int i = 0; i < n; i++) p[i] = v[i];
}

#include WORDS

static inline vecf vfload_n(const float *p, ptrdiff_t n) { return vfload_or(p, n, vfzero()); }

/* the 4 codes at p, less OFFSET, in each lane */
static inline vec vsplat4(const void *p) { int32_t x; memcpy(&x, p, 4); return vless_offset((vec){0} + x); }

/* 4*LANES signed bytes q as codes q + 128 less OFFSET */
static inline vec vload_signed(const int8_t *p) { return vless_offset(vload(p) ^ (int32_t)0x80808080); }
/* For each i < LANES, sums[0][i] is the sum of the first half of the lanes of rows[i] and sums[1][i] that of the second
   half; where a vector has 16 bytes, sums[0][i] is the sum of both. Below, a quarter is 16 bytes of a vector. Two rounds
   interleave two rows within their quarters and add, so that each quarter then holds sums of 4 rows; the last rounds do the
   same with whole quarters. Clang has no shuffle that takes the order of the lanes as a vector */
static inline void vsum_halves(const vec *rows, vec *sums) {
  sums[0] = sums[1] = vzero();
#if defined(__clang__)
  for (int i = 0; i < LANES; i++)
    for (int j = 0; j < LANES; j++) sums[LANES > 4 && j >= LANES / 2][i] += rows[i][j];
#else
  enum { QUARTERS = LANES / 4, HALF = LANES > 4 ? QUARTERS / 2 : 1 };
  vec ones, twos, even, pairs[LANES / 2], fours[QUARTERS];
  for (int i = 0; i < LANES; i++) {
    ones[i] = i / 4 * 4 + i % 4 / 2 + i % 2 * LANES;
    twos[i] = i / 4 * 4 + i % 2 + i % 4 / 2 * LANES;
    even[i] = i / 4 % HALF * 8 + i % 4 + i / 4 / HALF * LANES;
  }
  for (int i = 0; i < LANES / 2; i++)
    pairs[i] = __builtin_shuffle(rows[2 * i], rows[2 * i + 1], ones)
        + __builtin_shuffle(rows[2 * i], rows[2 * i + 1], ones + 2);
  for (int i = 0; i < QUARTERS; i++)
    fours[i] = __builtin_shuffle(pairs[2 * i], pairs[2 * i + 1], twos)
        + __builtin_shuffle(pairs[2 * i], pairs[2 * i + 1], twos + 2);
  for (int n = QUARTERS / 2; n > 1; n /= 2)
    for (int i = 0; i < n; i++)
      fours[i] = __builtin_shuffle(fours[2 * i], fours[2 * i + 1], even)
          + __builtin_shuffle(fours[2 * i], fours[2 * i + 1], even + 4);
  sums[0] = fours[0];
  if (QUARTERS > 1) {
    sums[0] = __builtin_shuffle(fours[0], fours[1], even);
    sums[1] = __builtin_shuffle(fours[0], fours[1], even + 4);
  }
#endif
}

/* the bits of the nearest float16, ties to even; from 65520 on it is infinity */
static inline uint16_t half_of(float x) {
  uint32_t bits, size;
  memcpy(&bits, &x, 4);
  size = bits & 0x7fffffff;
  uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
  if (size >= 0x47800000) return sign | 0x7c00 | (size > 0x7f800000 ? 0x200 : 0);
  if (size < 0x38800000) return sign | (uint16_t)rintf(fabsf(x) * 0x1p24f);       /* subnormal: a multiple of 2^-24 */
  return sign | (uint16_t)((size + 0xfff + (size >> 13 & 1) - 0x38000000) >> 13);
}

/* vload_codes where only n bytes may be read (all where n >= LANES); the other lanes are 0 */
static inline vec vload_codes_n(const uint8_t *p, int n) {
  uint8_t tail[LANES] = {0};
  if (n < LANES) { memcpy(tail, p, (size_t)n); p = tail; }
  return vload_codes(p);
}

/* n signed bytes (LANES where n is larger) as int32 lanes; the other lanes are 0 */
static inline vec vload_signed_n(const int8_t *p, int n) {
  uint8_t codes[LANES] = {0};
  memcpy(codes, p, (size_t)(n < LANES ? n : LANES));
  return (vload_codes(codes) ^ 128) - 128;
}

/* vfload_half where only n values may be read (all where n >= LANES); the other lanes are 0 */
static inline vecf vfload_half_n(const uint16_t *p, int n) {
  uint16_t tail[LANES] = {0};
  if (n < LANES) { memcpy(tail, p, (size_t)n * sizeof *p); p = tail; }
  return vfload_half(p);
}

static inline vec64 saturate32(vec64 x) {
  const vec64 top = vsplat64(INT32_MAX), bottom = vsplat64(INT32_MIN);
  vec64 over = x > top, under = x < bottom;
  x = (x & ~over) | (top & over);
  return (x & ~under) | (bottom & under);
}

/* Requantizes one vector of accumulators by equation (5): (acc * m + addend) >> s, not yet clamped. `p` points to the
   parameters of these LANES channels, as `requant_block` in integer_layer.py lays them out: m as int32[LANES], then for the
   even and for the odd lanes the addend, s and 2^(63-s) as int64. The 64-bit result is saturated to int32 only where `wide`
   says that it can leave int32. */
static inline vec requant(const int32_t *acc, const char *p, int wide) {
  enum { SIZE = sizeof(vec64) };
  const char *q = p + SIZE, *r = q + 3 * SIZE;
  vec a = vload(acc);
  /* a load from 4 bytes further on has the odd lanes of m in the even ones */
  vec64 even = vmul_even(a, vload(p)) + vload64(q), odd = vmul_even(vodd(a), vload(p + 4)) + vload64(r);
  even = vshift64(even, vload64(q + SIZE), vload64(q + 2 * SIZE));
  odd = vshift64(odd, vload64(r + SIZE), vload64(r + 2 * SIZE));
  if (wide) { even = saturate32(even); odd = saturate32(odd); }
  return vmerge(even, odd);
}
/* The codes of four vectors of accumulators. The parameters of a vector take `bytes` bytes, and those of nv (1, 2 or 4)
   vectors repeat. laced: the accumulators, and so the parameters, have the order of interleave4. */
static inline void requant4(const int32_t *acc, const char *p, ptrdiff_t nv, ptrdiff_t bytes, int wide, int lo, int hi,
                            int laced, uint8_t *out) {
  ptrdiff_t one = nv > 1 ? bytes : 0, two = nv > 2 ? 2 * bytes : 0;
  vec a = requant(acc, p, wide), b = requant(acc + LANES, p + one, wide);
  vec c = requant(acc + 2 * LANES, p + two, wide), d = requant(acc + 3 * LANES, p + one + two, wide);
  vec y = vcodes(a, b, c, d, lo, hi);
  vstore(out, laced ? y : vunlace(y));
}
/* Puts 4*LANES accumulators from the order of interleave4 into that of the channels */
static inline void unlace(int32_t *acc) {
  int32_t in[4 * LANES];
  memcpy(in, acc, sizeof in);
  for (int q = 0; q < 4; q++)
    for (int i = 0; i < LANES; i++) acc[16 * (i / 4) + 4 * q + i % 4] = in[q * LANES + i];
}

/* Stores n codes clamp(zero_point + ((a * m + 2^(s-1)) >> s), 0, 255), with one multiplier and shift for all lanes */
static inline void store_scaled(uint8_t *out, vec a, int32_t m, int64_t s, int zero_point, int n) {
  const vec64 addend = vsplat64((1LL << (s - 1)) + ((int64_t)(zero_point - 128) << s));
  const vec64 shift = vsplat64(s), back = vsplat64(1LL << (63 - s));
  vec64 even = saturate32(vshift64(vmul_even(a, vsplat(m)) + addend, shift, back));
  vec64 odd = saturate32(vshift64(vmul_even(vodd(a), vsplat(m)) + addend, shift, back));
  vec y = vmerge(even, odd), codes = vunlace(vcodes(y, y, y, y, 0, 255));
  if (n >= LANES) memcpy(out, &codes, LANES); else memcpy(out, &codes, (size_t)n);
}
