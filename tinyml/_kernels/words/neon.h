/* The words of NEON on aarch64: 4 lanes, with dotprod or without. simd.h says what each means. */
#if !defined(__clang__)
/* GCC's scheduler and its elimination of partial redundancies keep more values alive through a tile than the 32 registers
   hold: with them, two thirds of the accumulators of sdot were in memory */
#pragma GCC optimize("no-tree-pre", "no-schedule-insns")
#endif
static inline vecf vfma(vecf acc, vecf a, vecf b) {
  return (vecf)vfmaq_f32((float32x4_t)acc, (float32x4_t)a, (float32x4_t)b);
}

static inline vec vless_offset(vec u) {
  /* hidden from the compiler, which would rather do this to 4 codes in a general register before it broadcasts them */
  uint8x16_t sign = vdupq_n_u8(OFFSET);
  __asm__("" : "+w"(sign));
  return (vec)veorq_u8((uint8x16_t)u, sign);
}

static inline vec vdot4(vec acc, vec u, vec s) {
#if defined(__ARM_FEATURE_DOTPROD)
  return (vec)vdotq_s32((int32x4_t)acc, (int8x16_t)u, (int8x16_t)s);
#else
  /* the sum of two products of -128 by -128 does not fit 16 bits: products are widened before they are added */
  int16x8_t low = vmull_s8(vget_low_s8((int8x16_t)u), vget_low_s8((int8x16_t)s));
  int16x8_t high = vmull_high_s8((int8x16_t)u, (int8x16_t)s);
  return acc + (vec)vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high));
#endif
}

static inline void interleave4(const uint8_t *p0, const uint8_t *p1, const uint8_t *p2, const uint8_t *p3, vec *u) {
  uint8x16_t a = vld1q_u8(p0), b = vld1q_u8(p1), c = vld1q_u8(p2), d = vld1q_u8(p3);
  uint16x8_t ab = (uint16x8_t)vzip1q_u8(a, b), cd = (uint16x8_t)vzip1q_u8(c, d);
  u[0] = (vec)vzip1q_u16(ab, cd); u[1] = (vec)vzip2q_u16(ab, cd);
  ab = (uint16x8_t)vzip2q_u8(a, b); cd = (uint16x8_t)vzip2q_u8(c, d);
  u[2] = (vec)vzip1q_u16(ab, cd); u[3] = (vec)vzip2q_u16(ab, cd);
  for (int q = 0; q < 4; q++) u[q] = vless_offset(u[q]);
}

static inline vec64 vmul_even(vec a, vec b) { return (vec64)vmull_s32(vmovn_s64((int64x2_t)a), vmovn_s64((int64x2_t)b)); }

static inline vecu64 vmulu_even(vecu64 a, vecu64 b) {
  return (vecu64)vmull_u32(vmovn_u64((uint64x2_t)a), vmovn_u64((uint64x2_t)b));
}

static inline vec64 vshift64(vec64 x, vec64 s, vec64 back) { return (vec64)vshlq_s64((int64x2_t)x, (int64x2_t)-s); }

static inline vec vmerge(vec64 even, vec64 odd) { return (vec)vtrn1q_s32((int32x4_t)even, (int32x4_t)odd); }

static inline vec vcodes(vec a, vec b, vec c, vec d, int lo, int hi) {
  int16x8_t low = vcombine_s16(vqmovn_s32((int32x4_t)a), vqmovn_s32((int32x4_t)b));
  int16x8_t high = vcombine_s16(vqmovn_s32((int32x4_t)c), vqmovn_s32((int32x4_t)d));
  uint8x16_t bytes = veorq_u8((uint8x16_t)vcombine_s8(vqmovn_s16(low), vqmovn_s16(high)), vdupq_n_u8(128));
  return (vec)vminq_u8(vmaxq_u8(bytes, vdupq_n_u8((uint8_t)lo)), vdupq_n_u8((uint8_t)hi));
}

static inline vec vunlace(vec v) { return v; }

static inline vecf vfclamp(vecf v, float lo, float hi) {
  return (vecf)vminq_f32(vdupq_n_f32(hi), vmaxq_f32(vdupq_n_f32(lo), (float32x4_t)v));
}

static inline bytes16 bmax(bytes16 a, bytes16 b) { return (bytes16)vmaxq_u8((uint8x16_t)a, (uint8x16_t)b); }

static inline vec vload_codes(const uint8_t *p) {
  uint32_t four;
  memcpy(&four, p, 4);
  return (vec)vmovl_u16(vget_low_u16(vmovl_u8(vcreate_u8(four))));
}

static inline vecf vfload_half(const uint16_t *p) { return (vecf)vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }

static inline vecf vfload_or(const float *p, ptrdiff_t n, vecf fill) { return load_each(p, n, fill); }
static inline void vfstore_n(float *p, vecf v, ptrdiff_t n) { store_each(p, v, n); }

/* not vminq: that gives NaN where either is NaN */
static inline vecf vfmin(vecf a, vecf b) {
  return (vecf)vbslq_f32(vcltq_f32((float32x4_t)a, (float32x4_t)b), (float32x4_t)a, (float32x4_t)b);
}
static inline vecf vfmax(vecf a, vecf b) {
  return (vecf)vbslq_f32(vcgtq_f32((float32x4_t)a, (float32x4_t)b), (float32x4_t)a, (float32x4_t)b);
}
static inline vecf vfround(vecf x) { return (vecf)vrndnq_f32((float32x4_t)x); }
static inline vecf vfsqrt(vecf x) { return (vecf)vsqrtq_f32((float32x4_t)x); }
static inline vecf vfinverse(vecf x) { return 1 / x; }
static inline vecf vfscale(vecf x, vecf n) { return scale_twice(x, n); }

static inline vecdd vwiden(vecf x) {
  return (vecdd){(vecd)vcvt_f64_f32(vget_low_f32((float32x4_t)x)), (vecd)vcvt_high_f64_f32((float32x4_t)x)};
}
