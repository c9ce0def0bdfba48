/* The words in plain C with vectors of 4 lanes, for any machine. simd.h says what each means. */
static inline vecf vfma(vecf acc, vecf a, vecf b) { return acc + a * b; }

static inline vec vless_offset(vec u) { return u; }

static inline vec vdot4(vec acc, vec u, vec s) {
  /* shifts pick the bytes, so that their order within a word does not depend on the byte order of the CPU */
  typedef uint32_t vecu __attribute__((vector_size(4 * LANES)));
  vecu x = (vecu)u, w = (vecu)s;
  for (int shift = 0; shift < 32; shift += 8)
    acc += (vec)((x >> shift) & 255) * ((vec)(w << (24 - shift)) >> 24);
  return acc;
}

static inline void interleave4(const uint8_t *p0, const uint8_t *p1, const uint8_t *p2, const uint8_t *p3, vec *u) {
  uint8_t bytes[16 * LANES];
  for (int i = 0; i < 4 * LANES; i++) {
    bytes[4 * i] = p0[i]; bytes[4 * i + 1] = p1[i]; bytes[4 * i + 2] = p2[i]; bytes[4 * i + 3] = p3[i];
  }
  memcpy(u, bytes, sizeof bytes);
}

static inline vec64 vmul_even(vec a, vec b) {
  vec64 r;
  for (int i = 0; i < LANES / 2; i++) r[i] = (int64_t)a[2 * i] * b[2 * i];
  return r;
}

static inline vecu64 vmulu_even(vecu64 a, vecu64 b) { return (a & UINT32_MAX) * (b & UINT32_MAX); }

static inline vec64 vshift64(vec64 x, vec64 s, vec64 back) { return shift64_unsigned(x, s, back); }

static inline vec vmerge(vec64 even, vec64 odd) {
  vec y;
  for (int i = 0; i < LANES / 2; i++) { y[2 * i] = (int32_t)even[i]; y[2 * i + 1] = (int32_t)odd[i]; }
  return y;
}

static inline vec vcodes(vec a, vec b, vec c, vec d, int lo, int hi) {
  int32_t x[4 * LANES];
  uint8_t bytes[4 * LANES];
  vstore(x, a); vstore(x + LANES, b); vstore(x + 2 * LANES, c); vstore(x + 3 * LANES, d);
  for (int i = 0; i < 4 * LANES; i++) {
    int32_t y = x[i] < lo - 128 ? lo - 128 : x[i];
    bytes[i] = (uint8_t)((y > hi - 128 ? hi - 128 : y) + 128);
  }
  return vload(bytes);
}

static inline vec vunlace(vec v) { return v; }

static inline vecf vfclamp(vecf v, float lo, float hi) {
  for (int i = 0; i < LANES; i++) {
    float x = v[i] < lo ? lo : v[i];
    v[i] = x > hi ? hi : x;
  }
  return v;
}

static inline bytes16 bmax(bytes16 a, bytes16 b) {
  bytes16 larger = (bytes16)(a > b);
  return (a & larger) | (b & ~larger);
}

static inline vec vload_codes(const uint8_t *p) {
  vec r;
  for (int i = 0; i < LANES; i++) r[i] = p[i];
  return r;
}

static inline vecf vfload_half(const uint16_t *p) {
  /* With exponent and fraction in their places the float is the value times 2^-112, also where that is subnormal. The
     largest exponent stands for infinity or NaN */
  vec h, bits;
  vecf value;
  for (int i = 0; i < LANES; i++) h[i] = p[i];
  bits = (h & 0x7fff) << 13;
  value = (vecf)bits * 0x1p112f;
  bits = (vec)value | ((h & 0x8000) << 16) | (((h & 0x7c00) == 0x7c00) & 0x7f800000);
  return (vecf)bits;
}

static inline vecf vfload_or(const float *p, ptrdiff_t n, vecf fill) { return load_each(p, n, fill); }
static inline void vfstore_n(float *p, vecf v, ptrdiff_t n) { store_each(p, v, n); }

static inline vecf pick(vec mask, vecf a, vecf b) { return (vecf)((mask & (vec)a) | (~mask & (vec)b)); }
static inline vecf vfmin(vecf a, vecf b) { return pick(a < b, a, b); }
static inline vecf vfmax(vecf a, vecf b) { return pick(a > b, a, b); }
static inline vecf vfround(vecf x) { for (int i = 0; i < LANES; i++) x[i] = rintf(x[i]); return x; }
static inline vecf vfsqrt(vecf x) { for (int i = 0; i < LANES; i++) x[i] = sqrtf(x[i]); return x; }
static inline vecf vfinverse(vecf x) { return 1 / x; }
static inline vecf vfscale(vecf x, vecf n) { return scale_twice(x, n); }

static inline vecdd vwiden(vecf x) {
  vecdd y;
  for (int i = 0; i < LANES / 2; i++) { y.low[i] = x[i]; y.high[i] = x[i + LANES / 2]; }
  return y;
}
