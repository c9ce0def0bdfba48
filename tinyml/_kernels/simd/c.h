/* The words in plain C with vectors of 4 lanes, for any machine. simd.h says what each means. */
static inline vecf vfma(vecf acc, vecf a, vecf b) { return acc + a * b; }

static inline vec vdot4(vec acc, vec u, vec s) {
  /* bytes picked by shifts, so that the order within a word is the same on any byte order of the vector unit */
  typedef uint32_t vecu __attribute__((vector_size(4 * LANES)));
  vecu x = (vecu)u, w = (vecu)s;
  for (int shift = 0; shift < 32; shift += 8)
    acc += (vec)((x >> shift) & 255) * ((vec)(w << (24 - shift)) >> 24);
  return acc;
}

static inline vec vmac(vec acc, const uint8_t *u, const int8_t *w) {
  for (int i = 0; i < LANES; i++) acc[i] += u[i] * w[i];
  return acc;
}

static inline vec64 vmul_even(vec a, vec b) {
  vec64 r;
  for (int i = 0; i < LANES / 2; i++) r[i] = (int64_t)a[2 * i] * b[2 * i];
  return r;
}

static inline vec64 vshift64(vec64 x, vec64 s, vec64 back) { return shift64_unsigned(x, s, back); }

static inline void vstore_codes(uint8_t *out, vec y, vec lo, vec hi, int n) { store_codes_by_lane(out, y, lo, hi, n); }

static inline vecf vfload_or(const float *p, ptrdiff_t n, vecf fill) {
  if (n >= LANES) return vfload(p);
  for (int i = 0; i < n; i++) fill[i] = p[i];
  return fill;
}

static inline void vfstore_n(float *p, vecf v, ptrdiff_t n) {
  if (n >= LANES) vfstore(p, v); else for (int i = 0; i < n; i++) p[i] = v[i];
}

static inline vecf pick(vec mask, vecf a, vecf b) { return (vecf)((mask & (vec)a) | (~mask & (vec)b)); }
static inline vecf vfmin(vecf a, vecf b) { return pick(a < b, a, b); }
static inline vecf vfmax(vecf a, vecf b) { return pick(a > b, a, b); }
static inline vecf vfround(vecf x) { for (int i = 0; i < LANES; i++) x[i] = rintf(x[i]); return x; }
static inline vecf vfinverse(vecf x) { return 1 / x; }
static inline vecf vfscale(vecf x, vecf n) { return scale_twice(x, n); }

static inline vecdd vwiden(vecf x) {
  vecdd y;
  for (int i = 0; i < LANES / 2; i++) { y.low[i] = x[i]; y.high[i] = x[i + LANES / 2]; }
  return y;
}
