/* The words of AVX-512 with VNNI: 16 lanes. simd.h says what each means. */
static inline vecf vfma(vecf acc, vecf a, vecf b) { return (vecf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)acc); }

static inline vec vdot4(vec acc, vec u, vec s) { return (vec)_mm512_dpbusd_epi32((__m512i)acc, (__m512i)u, (__m512i)s); }

static inline vec vmac(vec acc, const uint8_t *u, const int8_t *w) {
  /* u < 2^15 and the upper half of its lane is 0: of the two 16-bit products of a lane one is u * w, the other 0 */
  __m512i a = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)u));
  __m512i b = _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)w));
  return acc + (vec)_mm512_madd_epi16(a, b);
}

static inline vec64 vmul_even(vec a, vec b) { return (vec64)_mm512_mul_epi32((__m512i)a, (__m512i)b); }

static inline vec64 vshift64(vec64 x, vec64 s, vec64 back) { return (vec64)_mm512_srav_epi64((__m512i)x, (__m512i)s); }

static inline vec vload_codes(const uint8_t *p) { return (vec)_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p)); }

static inline bytes bmax(bytes a, bytes b) { return (bytes)_mm_max_epu8((__m128i)a, (__m128i)b); }

static inline vecf vfload_half(const uint16_t *p) { return (vecf)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)); }

static inline void vstore_codes(uint8_t *out, vec y, vec lo, vec hi, int n) {
  y = (vec)_mm512_min_epi32(_mm512_max_epi32((__m512i)y, (__m512i)lo), (__m512i)hi) + 128;
  __m128i bytes = _mm512_cvtepi32_epi8((__m512i)y);
  if (n >= LANES) { _mm_storeu_si128((__m128i *)out, bytes); return; }
  _mm_mask_storeu_epi8(out, (__mmask16)((1u << n) - 1), bytes);
}
