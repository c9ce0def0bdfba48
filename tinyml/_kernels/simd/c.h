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

static inline vec vload_codes(const uint8_t *p) {
  vec r;
  for (int i = 0; i < LANES; i++) r[i] = p[i];
  return r;
}

static inline bytes bmax(bytes a, bytes b) {
  bytes larger = (bytes)(a > b);
  return (a & larger) | (b & ~larger);
}

static inline vecf vfload_half(const uint16_t *p) {
  /* exponent and fraction in their places are the value times 2^-112, of subnormals too; the largest exponent is kept */
  vec h, bits;
  vecf value;
  for (int i = 0; i < LANES; i++) h[i] = p[i];
  bits = (h & 0x7fff) << 13;
  value = (vecf)bits * 0x1p112f;
  bits = (vec)value | ((h & 0x8000) << 16) | (((h & 0x7c00) == 0x7c00) & 0x7f800000);
  return (vecf)bits;
}

static inline void vstore_codes(uint8_t *out, vec y, vec lo, vec hi, int n) { store_codes_by_lane(out, y, lo, hi, n); }
