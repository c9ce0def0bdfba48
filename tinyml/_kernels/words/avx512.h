/* The words of AVX-512: 16 lanes, with VNNI or without. simd.h says what each means. */
static inline vecf vfma(vecf acc, vecf a, vecf b) { return (vecf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)acc); }

static inline vec vless_offset(vec u) { return u; }

static inline vec vdot4(vec acc, vec u, vec s) {
#if defined(__AVX512VNNI__)
  return (vec)_mm512_dpbusd_epi32((__m512i)acc, (__m512i)u, (__m512i)s);
#else
  /* vpmaddubsw saturates at 16 bits: widen the even and the odd bytes instead, products and sums then fit int32 */
  __m512i ue = _mm512_and_si512((__m512i)u, _mm512_set1_epi16(255)), uo = _mm512_srli_epi16((__m512i)u, 8);
  __m512i se = _mm512_srai_epi16(_mm512_slli_epi16((__m512i)s, 8), 8), so = _mm512_srai_epi16((__m512i)s, 8);
  return acc + (vec)_mm512_madd_epi16(ue, se) + (vec)_mm512_madd_epi16(uo, so);
#endif
}

static inline void interleave4(const uint8_t *p0, const uint8_t *p1, const uint8_t *p2, const uint8_t *p3, vec *u) {
  __m512i a = _mm512_loadu_si512(p0), b = _mm512_loadu_si512(p1), c = _mm512_loadu_si512(p2), d = _mm512_loadu_si512(p3);
  __m512i ab = _mm512_unpacklo_epi8(a, b), cd = _mm512_unpacklo_epi8(c, d);
  u[0] = (vec)_mm512_unpacklo_epi16(ab, cd); u[1] = (vec)_mm512_unpackhi_epi16(ab, cd);
  ab = _mm512_unpackhi_epi8(a, b); cd = _mm512_unpackhi_epi8(c, d);
  u[2] = (vec)_mm512_unpacklo_epi16(ab, cd); u[3] = (vec)_mm512_unpackhi_epi16(ab, cd);
}

static inline vec64 vmul_even(vec a, vec b) { return (vec64)_mm512_mul_epi32((__m512i)a, (__m512i)b); }

static inline vecu64 vmulu_even(vecu64 a, vecu64 b) { return (vecu64)_mm512_mul_epu32((__m512i)a, (__m512i)b); }

static inline vec64 vshift64(vec64 x, vec64 s, vec64 back) { return (vec64)_mm512_srav_epi64((__m512i)x, (__m512i)s); }

static inline bytes16 bmax(bytes16 a, bytes16 b) { return (bytes16)_mm_max_epu8((__m128i)a, (__m128i)b); }

static inline vec vload_codes(const uint8_t *p) { return (vec)_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p)); }

static inline vecf vfload_half(const uint16_t *p) { return (vecf)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)); }

static inline vec vmerge(vec64 even, vec64 odd) {
  return (vec)_mm512_mask_shuffle_epi32((__m512i)even, 0xaaaa, (__m512i)odd, 0xa0);
}

static inline vec vcodes(vec a, vec b, vec c, vec d, int lo, int hi) {
  __m512i low = _mm512_packs_epi32((__m512i)a, (__m512i)b), high = _mm512_packs_epi32((__m512i)c, (__m512i)d);
  __m512i bytes = _mm512_xor_si512(_mm512_packs_epi16(low, high), _mm512_set1_epi8((char)128));
  return (vec)_mm512_min_epu8(_mm512_max_epu8(bytes, _mm512_set1_epi8((char)lo)), _mm512_set1_epi8((char)hi));
}

static inline vec vunlace(vec v) {
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  return (vec)_mm512_permutexvar_epi32(order, (__m512i)v);
}

static inline vecf vfclamp(vecf v, float lo, float hi) {
  /* where one of the two values is NaN, max and min give the second one */
  return (vecf)_mm512_min_ps(_mm512_set1_ps(hi), _mm512_max_ps(_mm512_set1_ps(lo), (__m512)v));
}

static inline vecf vfload_or(const float *p, ptrdiff_t n, vecf fill) {
  if (n >= LANES) return vfload(p);
  return (vecf)_mm512_mask_loadu_ps((__m512)fill, (__mmask16)((1u << n) - 1), p);
}

static inline void vfstore_n(float *p, vecf v, ptrdiff_t n) {
  if (n >= LANES) vfstore(p, v); else _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), (__m512)v);
}

static inline vecf vfmin(vecf a, vecf b) { return (vecf)_mm512_min_ps((__m512)a, (__m512)b); }
static inline vecf vfmax(vecf a, vecf b) { return (vecf)_mm512_max_ps((__m512)a, (__m512)b); }
static inline vecf vfround(vecf x) { return (vecf)_mm512_roundscale_ps((__m512)x, _MM_FROUND_TO_NEAREST_INT); }
static inline vecf vfsqrt(vecf x) { return (vecf)_mm512_sqrt_ps((__m512)x); }
static inline vecf vfscale(vecf x, vecf n) { return (vecf)_mm512_scalef_ps((__m512)x, (__m512)n); }

/* one step of Newton's method takes half the time of a division */
static inline vecf vfinverse(vecf x) {
  vecf y = (vecf)_mm512_rcp14_ps((__m512)x), one = vfzero() + 1;
  return vfma(y, y, vfma(one, -x, y));
}

static inline vecdd vwiden(vecf x) {
  return (vecdd){(vecd)_mm512_cvtps_pd(_mm512_castps512_ps256((__m512)x)),
                 (vecd)_mm512_cvtps_pd(_mm512_extractf32x8_ps((__m512)x, 1))};
}
