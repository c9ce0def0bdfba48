/* The few vector words the kernels are written in, each with one exact meaning on every instruction set.

   vec    LANES int32 lanes        vecf   LANES float lanes        vec64  LANES/2 int64 lanes
   dot4   adds to each int32 lane the dot product of 4 unsigned by 4 signed bytes, exactly (no 16-bit saturation)
   fma    one rounding where the instruction exists, two in the baseline

   A tile is ROWS x (WIDE vectors) or, for few output channels, twice the rows by half the vectors: as many accumulators as
   fit the registers beside one row of B and one broadcast. By one vector it is 16 rows: compilers unroll no loop of more,
   and with the accumulators in memory (24 rows) 16 channels ran at a third of the speed. */
#pragma once
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX512VNNI__)
#include <immintrin.h>
enum { LANES = 16, WIDE = 4 };
#elif defined(__AVX2__)
#include <immintrin.h>
enum { LANES = 8, WIDE = 2 };
#else
enum { LANES = 4, WIDE = 2 };
#endif
enum { ROWS = 6, NARROW = WIDE / 2, NARROW_ROWS = 2 * ROWS, MAX_PANEL = WIDE * LANES };   /* a tile has up to ROWS * MAX_PANEL values */
enum { MAX_ROWS = WIDE == 4 ? 16 : NARROW_ROWS };

/* Vectors of the panel for N output channels: the widest that pads no more columns than one vector would. */
static inline ptrdiff_t panel_vectors(ptrdiff_t n) {
  ptrdiff_t least = (n + LANES - 1) / LANES;
  return least % WIDE == 0 || least > 2 * WIDE ? WIDE : least % NARROW == 0 || least > NARROW ? NARROW : 1;
}
static inline ptrdiff_t tile_rows(ptrdiff_t nv) { return nv == WIDE ? ROWS : nv == NARROW ? NARROW_ROWS : MAX_ROWS; }

typedef int32_t vec __attribute__((vector_size(4 * LANES)));
typedef float vecf __attribute__((vector_size(4 * LANES)));
typedef int64_t vec64 __attribute__((vector_size(4 * LANES)));
typedef uint64_t vecu64 __attribute__((vector_size(4 * LANES)));

static inline vec vload(const void *p) { vec v; memcpy(&v, p, sizeof v); return v; }
static inline void vstore(void *p, vec v) { memcpy(p, &v, sizeof v); }
static inline vec vzero(void) { return (vec){0}; }
static inline vec vsplat4(const void *p) { int32_t x; memcpy(&x, p, 4); return (vec){0} + x; }
static inline vecf vfload(const void *p) { vecf v; memcpy(&v, p, sizeof v); return v; }
static inline void vfstore(void *p, vecf v) { memcpy(p, &v, sizeof v); }
static inline vecf vfzero(void) { return (vecf){0}; }
/* x - 0 is x, also for x = -0, and so a broadcast from memory; 0 + x is an addition, which took the FMA's place */
static inline vecf vfsplat(const float *p) { return *p - (vecf){0}; }
static inline vecf vfadd(vecf a, vecf b) { return a + b; }

#if defined(__AVX512VNNI__)
static inline vecf vfma(vecf acc, vecf a, vecf b) { return (vecf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)acc); }
static inline vec vdot4(vec acc, vec u, vec s) { return (vec)_mm512_dpbusd_epi32((__m512i)acc, (__m512i)u, (__m512i)s); }
#elif defined(__AVX2__)
static inline vecf vfma(vecf acc, vecf a, vecf b) { return (vecf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)acc); }
static inline vec vdot4(vec acc, vec u, vec s) {
  /* vpmaddubsw saturates at 16 bits: widen the even and the odd bytes instead, products and sums then fit int32 */
  __m256i ue = _mm256_and_si256((__m256i)u, _mm256_set1_epi16(255)), uo = _mm256_srli_epi16((__m256i)u, 8);
  __m256i se = _mm256_srai_epi16(_mm256_slli_epi16((__m256i)s, 8), 8), so = _mm256_srai_epi16((__m256i)s, 8);
  return acc + (vec)_mm256_madd_epi16(ue, se) + (vec)_mm256_madd_epi16(uo, so);
}
#else
static inline vecf vfma(vecf acc, vecf a, vecf b) { return acc + a * b; }
static inline vec vdot4(vec acc, vec u, vec s) {
  /* bytes picked by shifts, so that the order within a word is the same on any byte order of the vector unit */
  typedef uint32_t vecu __attribute__((vector_size(4 * LANES)));
  vecu x = (vecu)u, w = (vecu)s;
  for (int shift = 0; shift < 32; shift += 8)
    acc += (vec)((x >> shift) & 255) * ((vec)(w << (24 - shift)) >> 24);
  return acc;
}
#endif

/* Requantization of one vector of accumulators, design (5): y = clamp((acc * m + addend) >> s, lo, hi) + 128 as bytes.
   `p` points to the parameters of these LANES channels, as `requant_block` in integers.py lays them out:
   m int32[LANES], lo int32[LANES], hi int32[LANES], then for even and for odd lanes addend int64, s int64, 2^(63-s) int64.
   The 64-bit result is saturated to int32 before the clamp only where `wide` says that it can leave int32. */
static inline vec64 shift64(vec64 x, const char *p) {
#if defined(__AVX512VNNI__)
  vec64 s; memcpy(&s, p + sizeof(vec64), sizeof s);
  return (vec64)_mm512_srav_epi64((__m512i)x, (__m512i)s);
#else
  /* no 64-bit arithmetic shift below AVX-512: shift x + 2^63 logically and take 2^(63-s) off again */
  vecu64 s; vec64 back; memcpy(&s, p + sizeof(vec64), sizeof s); memcpy(&back, p + 2 * sizeof(vec64), sizeof back);
  return (vec64)(((vecu64)x ^ ((vecu64){0} + (1ULL << 63))) >> s) - back;
#endif
}
static inline vec64 mul_even(vec a, vec b) {
#if defined(__AVX512VNNI__)
  return (vec64)_mm512_mul_epi32((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
  return (vec64)_mm256_mul_epi32((__m256i)a, (__m256i)b);
#else
  vec64 r; for (int i = 0; i < LANES / 2; i++) r[i] = (int64_t)a[2 * i] * b[2 * i]; return r;
#endif
}
static inline vec64 saturate32(vec64 x) {
  const vec64 top = (vec64){0} + INT32_MAX, bottom = (vec64){0} + INT32_MIN;
  vec64 over = x > top, under = x < bottom;
  x = (x & ~over) | (top & over);
  return (x & ~under) | (bottom & under);
}
static inline void requant(const int32_t *acc, const char *p, int wide, uint8_t *out, int n) {
  const vec low32 = (vec)((vec64){0} + 0xffffffffLL);
  vec a = vload(acc), m = vload(p), lo = vload(p + sizeof(vec)), hi = vload(p + 2 * sizeof(vec)), y;
  vec64 add_even, add_odd, even, odd;
  const char *q = p + 3 * sizeof(vec), *r = q + 3 * sizeof(vec64);
  memcpy(&add_even, q, sizeof add_even); memcpy(&add_odd, r, sizeof add_odd);
  even = shift64(mul_even(a, m) + add_even, q);
  odd = shift64(mul_even((vec)((vecu64)a >> 32), (vec)((vecu64)m >> 32)) + add_odd, r);
  if (wide) { even = saturate32(even); odd = saturate32(odd); }
  y = ((vec)even & low32) | (vec)((vecu64)odd << 32);
#if defined(__AVX512VNNI__)
  y = (vec)_mm512_min_epi32(_mm512_max_epi32((__m512i)y, (__m512i)lo), (__m512i)hi) + 128;
  __m128i bytes = _mm512_cvtepi32_epi8((__m512i)y);
  if (n >= LANES) { _mm_storeu_si128((__m128i *)out, bytes); return; }
  _mm_mask_storeu_epi8(out, (__mmask16)((1u << n) - 1), bytes);
#else
  vec below = y < lo, above = y > hi;
  y = (y & ~below) | (lo & below);
  y = ((y & ~above) | (hi & above)) + 128;
  for (int i = 0; i < (n < LANES ? n : LANES); i++) out[i] = (uint8_t)y[i];
#endif
}

/* acc + u * w for LANES channels, of which n (or more) have bytes to read; w has LANES */
static inline vec vmac(vec acc, const uint8_t *u, const int8_t *w, int n) {
  uint8_t tail[LANES];
  if (n < LANES) { memset(tail, 0, LANES); memcpy(tail, u, (size_t)n); u = tail; }
#if defined(__AVX512VNNI__)
  /* u < 2^15 and the upper half of its lane is 0: of the two 16-bit products of a lane one is u * w, the other 0 */
  __m512i a = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)u)), b = _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)w));
  return acc + (vec)_mm512_madd_epi16(a, b);
#elif defined(__AVX2__)
  __m256i a = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)u)), b = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)w));
  return acc + (vec)_mm256_madd_epi16(a, b);
#else
  for (int i = 0; i < LANES; i++) acc[i] += u[i] * w[i];
  return acc;
#endif
}

/* n (or more) float lanes: the tail of a row whose length is no multiple of LANES */
static inline void vfstore_n(float *p, vecf v, int n) {
  if (n >= LANES) vfstore(p, v); else memcpy(p, &v, (size_t)n * sizeof(float));
}
static inline vecf vfload_n(const float *p, int n) {
  vecf v = (vecf){0};
  if (n >= LANES) return vfload(p);
  memcpy(&v, p, (size_t)n * sizeof(float));
  return v;
}
static inline vecf to_float(vec v) { return __builtin_convertvector(v, vecf); }
