/* The words of AVX2 with FMA: 8 lanes, with AVX-VNNI or without. simd.h says what each means. */
static inline vecf vfma(vecf acc, vecf a, vecf b) { return (vecf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)acc); }

static inline vec vless_offset(vec u) { return u; }

static inline vec vdot4(vec acc, vec u, vec s) {
#if defined(__AVXVNNI__)
  return (vec)_mm256_dpbusd_avx_epi32((__m256i)acc, (__m256i)u, (__m256i)s);
#else
  /* vpmaddubsw saturates at 16 bits: widen the even and the odd bytes instead, products and sums then fit int32 */
  __m256i ue = _mm256_and_si256((__m256i)u, _mm256_set1_epi16(255)), uo = _mm256_srli_epi16((__m256i)u, 8);
  __m256i se = _mm256_srai_epi16(_mm256_slli_epi16((__m256i)s, 8), 8), so = _mm256_srai_epi16((__m256i)s, 8);
  return acc + (vec)_mm256_madd_epi16(ue, se) + (vec)_mm256_madd_epi16(uo, so);
#endif
}

static inline void interleave4(const uint8_t *p0, const uint8_t *p1, const uint8_t *p2, const uint8_t *p3, vec *u) {
  __m256i a = _mm256_loadu_si256((const __m256i *)p0), b = _mm256_loadu_si256((const __m256i *)p1);
  __m256i c = _mm256_loadu_si256((const __m256i *)p2), d = _mm256_loadu_si256((const __m256i *)p3);
  __m256i ab = _mm256_unpacklo_epi8(a, b), cd = _mm256_unpacklo_epi8(c, d);
  u[0] = (vec)_mm256_unpacklo_epi16(ab, cd); u[1] = (vec)_mm256_unpackhi_epi16(ab, cd);
  ab = _mm256_unpackhi_epi8(a, b); cd = _mm256_unpackhi_epi8(c, d);
  u[2] = (vec)_mm256_unpacklo_epi16(ab, cd); u[3] = (vec)_mm256_unpackhi_epi16(ab, cd);
}

static inline vec64 vmul_even(vec a, vec b) { return (vec64)_mm256_mul_epi32((__m256i)a, (__m256i)b); }

static inline vecu64 vmulu_even(vecu64 a, vecu64 b) { return (vecu64)_mm256_mul_epu32((__m256i)a, (__m256i)b); }

static inline vec64 vshift64(vec64 x, vec64 s, vec64 back) { return shift64_unsigned(x, s, back); }

static inline vec vmerge(vec64 even, vec64 odd) {
  return (vec)_mm256_blend_epi32((__m256i)even, _mm256_slli_epi64((__m256i)odd, 32), 0xaa);
}

static inline vec vcodes(vec a, vec b, vec c, vec d, int lo, int hi) {
  __m256i low = _mm256_packs_epi32((__m256i)a, (__m256i)b), high = _mm256_packs_epi32((__m256i)c, (__m256i)d);
  __m256i bytes = _mm256_xor_si256(_mm256_packs_epi16(low, high), _mm256_set1_epi8((char)128));
  return (vec)_mm256_min_epu8(_mm256_max_epu8(bytes, _mm256_set1_epi8((char)lo)), _mm256_set1_epi8((char)hi));
}

static inline vec vunlace(vec v) {
  return (vec)_mm256_permutevar8x32_epi32((__m256i)v, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

static inline vecf vfclamp(vecf v, float lo, float hi) {
  /* where one of the two values is NaN, max and min give the second one */
  return (vecf)_mm256_min_ps(_mm256_set1_ps(hi), _mm256_max_ps(_mm256_set1_ps(lo), (__m256)v));
}

static inline bytes16 bmax(bytes16 a, bytes16 b) { return (bytes16)_mm_max_epu8((__m128i)a, (__m128i)b); }

static inline vec vload_codes(const uint8_t *p) { return (vec)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p)); }

static inline vecf vfload_half(const uint16_t *p) { return (vecf)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)); }

static inline __m256i first_lanes(ptrdiff_t n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

static inline vecf vfload_or(const float *p, ptrdiff_t n, vecf fill) {
  if (n >= LANES) return vfload(p);
  __m256i mask = first_lanes(n);
  return (vecf)_mm256_blendv_ps((__m256)fill, _mm256_maskload_ps(p, mask), _mm256_castsi256_ps(mask));
}

static inline void vfstore_n(float *p, vecf v, ptrdiff_t n) {
  if (n >= LANES) vfstore(p, v); else _mm256_maskstore_ps(p, first_lanes(n), (__m256)v);
}

static inline vecf vfmin(vecf a, vecf b) { return (vecf)_mm256_min_ps((__m256)a, (__m256)b); }
static inline vecf vfmax(vecf a, vecf b) { return (vecf)_mm256_max_ps((__m256)a, (__m256)b); }
static inline vecf vfround(vecf x) {
  return (vecf)_mm256_round_ps((__m256)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
static inline vecf vfsqrt(vecf x) { return (vecf)_mm256_sqrt_ps((__m256)x); }
static inline vecf vfinverse(vecf x) { return 1 / x; }
static inline vecf vfscale(vecf x, vecf n) { return scale_twice(x, n); }

static inline vecdd vwiden(vecf x) {
  return (vecdd){(vecd)_mm256_cvtps_pd(_mm256_castps256_ps128((__m256)x)),
                 (vecd)_mm256_cvtps_pd(_mm256_extractf128_ps((__m256)x, 1))};
}
