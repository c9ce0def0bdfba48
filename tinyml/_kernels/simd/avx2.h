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

static inline vec vload_codes(const uint8_t *p) { return (vec)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p)); }

static inline bytes bmax(bytes a, bytes b) { return (bytes)_mm_max_epu8((__m128i)a, (__m128i)b); }

static inline vecf vfload_half(const uint16_t *p) { return (vecf)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)); }

static inline void vstore_codes(uint8_t *out, vec y, vec lo, vec hi, int n) { store_codes_by_lane(out, y, lo, hi, n); }
