/* The words of AVX2 with FMA: 8 lanes. simd.h says what each means. */
static inline vecf vfma(vecf acc, vecf a, vecf b) { return (vecf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)acc); }

static inline vec vdot4(vec acc, vec u, vec s) {
  /* vpmaddubsw saturates at 16 bits: widen the even and the odd bytes instead, products and sums then fit int32 */
  __m256i ue = _mm256_and_si256((__m256i)u, _mm256_set1_epi16(255)), uo = _mm256_srli_epi16((__m256i)u, 8);
  __m256i se = _mm256_srai_epi16(_mm256_slli_epi16((__m256i)s, 8), 8), so = _mm256_srai_epi16((__m256i)s, 8);
  return acc + (vec)_mm256_madd_epi16(ue, se) + (vec)_mm256_madd_epi16(uo, so);
}

static inline vec vmac(vec acc, const uint8_t *u, const int8_t *w) {
  /* u < 2^15 and the upper half of its lane is 0: of the two 16-bit products of a lane one is u * w, the other 0 */
  __m256i a = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)u));
  __m256i b = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)w));
  return acc + (vec)_mm256_madd_epi16(a, b);
}

static inline vec64 vmul_even(vec a, vec b) { return (vec64)_mm256_mul_epi32((__m256i)a, (__m256i)b); }

static inline vec64 vshift64(vec64 x, vec64 s, vec64 back) { return shift64_unsigned(x, s, back); }

static inline void vstore_codes(uint8_t *out, vec y, vec lo, vec hi, int n) { store_codes_by_lane(out, y, lo, hi, n); }

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
static inline vecf vfround(vecf x) { return (vecf)_mm256_round_ps((__m256)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
static inline vecf vfinverse(vecf x) { return 1 / x; }
static inline vecf vfscale(vecf x, vecf n) { return scale_twice(x, n); }

static inline vecdd vwiden(vecf x) {
  return (vecdd){(vecd)_mm256_cvtps_pd(_mm256_castps256_ps128((__m256)x)),
                 (vecd)_mm256_cvtps_pd(_mm256_extractf128_ps((__m256)x, 1))};
}
