/* Functions of float vectors, made of the words of simd.h, and the words that only float kernels need.

   The largest errors against float64, over all floats and on every instruction set. An ulp is the distance between two
   neighbouring floats at the true value, 2^-149 where that is subnormal. tests/test_vector_math.py asserts these bounds:

   vexp         1.5 ulp
   vtanh        3.5 ulp
   vsigmoid     3 ulp
   vsilu        4 ulp + |x| 2^-149
   vgelu        4 ulp + |x| 2^-149; for x < 0 it is 9 ulp, and x^2/2 ulp more where vfma rounds twice
   vgelu_tanh   4 ulp + |x| 2^-149; for x < 0 it is 3 |v| ulp more, v the argument of its sigmoid
   gradients    2.5 * 2^-23 |dy|: they cross 0, where an error in ulp says nothing

   The terms with 2^-149 stand for the subnormals in the tails. A NaN gives NaN, an infinity the limit, and -0 gives -0
   where the value is 0. */
#pragma once
#include "simd.h"

/* IDENTITY, RELU, GELU, ...: the numbers of table.py, which setup.py hands to the compiler */
enum { POINTWISE };

static inline vecf vfsub(vecf a, vecf b) { return a - b; }
static inline vecf vfmul(vecf a, vecf b) { return a * b; }
static inline vecf vfabs(vecf x) { return (vecf)((vec)x & INT32_MAX); }
static inline vec vfnegative(vecf x) { return (vec)x >> 31; }      /* all ones in lanes with a minus sign, -0 too */

/* out[i] = 1 where a[i] == b[i], else 0, for the first n lanes (LANES where n is larger) */
static inline void vstore_equal(uint8_t *out, vecf a, vecf b, ptrdiff_t n) {
  typedef uint8_t vecb __attribute__((vector_size(LANES)));
  vecb bytes = __builtin_convertvector((a == b) & 1, vecb);
  if (n >= LANES) memcpy(out, &bytes, LANES); else memcpy(out, &bytes, (size_t)n);
}

/* Sums in double. vddsum adds up the lanes, always in the same order. */
static inline vecdd vddzero(void) { return (vecdd){{0}, {0}}; }
static inline vecdd vddadd(vecdd a, vecdd b) { return (vecdd){a.low + b.low, a.high + b.high}; }
static inline vecdd vddsquare(vecdd a) { return (vecdd){a.low * a.low, a.high * a.high}; }
static inline double vddsum(vecdd v) {
  vecd sum = v.low + v.high;
  double x[LANES / 2];
  memcpy(x, &sum, sizeof x);
  for (int half = LANES / 4; half; half /= 2)
    for (int i = 0; i < half; i++) x[i] += x[i + half];
  return x[0];
}
static inline void vddadd_to(double *p, vecdd x) {       /* LANES doubles in memory += x */
  vecdd sum;
  memcpy(&sum, p, sizeof sum);
  sum = vddadd(sum, x);
  memcpy(p, &sum, sizeof sum);
}
static inline float vfmax_lanes(vecf v) {
  float x[LANES];
  vfstore(x, v);
  for (int half = LANES / 2; half; half /= 2)
    for (int i = 0; i < half; i++) x[i] = x[i] > x[i + half] ? x[i] : x[i + half];
  return x[0];
}

/* e^x = 2^n e^r, where n is the whole number nearest to x / ln 2, so |r| <= ln(2) / 2. Adding and subtracting 1.5 * 2^23
   rounds to n. ln 2 is the sum of two constants: n * LN2_HIGH is exact (15 bits by at most 8), so r has no error of that
   product. */
#define LN2_HIGH 0.693145752f
#define LN2_LOW 1.42860677e-6f
#define LOG2_E 1.44269504f
#define ROUNDER 12582912.0f

/* (e^r - 1 - r) / r^2 on [-ln(2)/2, ln(2)/2]: a minimax polynomial, by which e^r is off by 2^-28. Its two halves do not
   wait for each other. */
static inline vecf exp_rest(vecf r, vecf rr) {
  vecf high = vfma(vfset(4.16683864e-2f), r, vfma(vfset(8.36871e-3f), r, vfset(1.38146492e-3f)));
  return vfma(vfma(vfset(0.499999935f), r, vfset(0.166665207f)), rr, high);
}
/* 2^n e^r, or 0 in the lanes of `zero`. These are set to 0 before they are scaled, because a result that underflows costs
   some 150 cycles, and a row of masked scores is full of them. */
static inline vecf exp_scaled(vecf n, vecf r, vec zero) {
  vecf rr = r * r;
  return vfscale((vecf)(~zero & (vec)(1 + vfma(r, rr, exp_rest(r, rr)))), n);
}

/* e^x: 0 below -104, infinity above 89. */
static inline vecf vexp(vecf x) {
  vec zero = x < -104;
  x = vfmax(vfset(-104), vfmin(vfset(89), x));
  vecf n = vfma(vfset(ROUNDER), x, vfset(LOG2_E)) - ROUNDER;
  return exp_scaled(n, vfma(vfma(x, n, vfset(-LN2_HIGH)), n, vfset(-LN2_LOW)), zero);
}

/* tanh |x| = u / (u + 2), where u = e^(2|x|) - 1 = 2^n (e^r - 1) + (2^n - 1): nothing cancels, however small x is. From 10
   on the result is 1. */
static inline vecf vtanh(vecf x) {
  vecf a = vfmin(vfset(10), vfabs(x)), biased = vfma(vfset(ROUNDER), a, vfset(2 * LOG2_E)), n = biased - ROUNDER;
  vecf r = vfma(vfma(a + a, n, vfset(-LN2_HIGH)), n, vfset(-LN2_LOW));
  vecf power = (vecf)(((vec)biased << 23) + 0x3f800000);       /* 2^n: n is in the low bits of `biased` */
  vecf rr = r * r, u = vfma(power - 1, power, vfma(r, rr, exp_rest(r, rr)));
  vecf y = u * vfinverse(u + 2);
  return (vecf)((vec)y | ((vec)x & INT32_MIN));
}

/* sigmoid(x) = 1 / (1 + e^-x) for x >= 0 and e^x / (1 + e^x) for x < 0: nothing overflows, and small values keep their
   digits. `other` is 1 - sigmoid(x) = sigmoid(-x). */
static inline vecf sigmoid_pair(vecf x, vecf *other) {
  vecf z = vexp((vecf)((vec)x | INT32_MIN)), large = vfinverse(1 + z), small = z * large;
  vec negative = vfnegative(x);
  *other = vfselect(negative, large, small);
  return vfselect(negative, small, large);
}
static inline vecf vsigmoid(vecf x) {
  vecf z = vexp((vecf)((vec)x | INT32_MIN));
  return vfselect(vfnegative(x), z, vfset(1)) * vfinverse(1 + z);
}
static inline vecf vsigmoid_grad(vecf y, vecf dy) { return dy * (y * (1 - y)); }
static inline vecf vtanh_grad(vecf y, vecf dy) { return dy * vfma(vfset(1), -y, y); }

/* x sigmoid(x). Below -128 the sigmoid is 0, so x can be replaced by -128 there: at -inf the product would be NaN. */
static inline vecf vsilu(vecf x) { return vfmax(vfset(-128), x) * vsigmoid(x); }
static inline vecf vsilu_grad(vecf x, vecf dy) {
  vecf other, y = sigmoid_pair(x, &other);
  x = vfmax(vfset(-128), vfmin(vfset(128), x));
  return dy * vfma(y, x, y * other);
}

/* Phi(-a) = e^(-a^2/2) P(a) / Q(a), the tail of the normal distribution, for a in [0, 14.5]; beyond, it is 0. The rational
   function is minimax, off by 2^-27 of its value. All coefficients are positive, so nothing cancels. */
static inline vecf tail_p(vecf a) {
  vecf p = vfma(vfset(4.06332575e-2f), a, vfset(4.11631167e-3f));
  p = vfma(vfset(0.183235217f), a, p);
  p = vfma(vfset(0.438295074f), a, p);
  return vfma(vfset(0.5f), a, p);
}
static inline vecf tail_q(vecf a) {
  vecf q = vfma(vfset(0.101858907f), a, vfset(1.03179475e-2f));
  q = vfma(vfset(0.469470844f), a, q);
  q = vfma(vfset(1.20250348f), a, q);
  q = vfma(vfset(1.67447511f), a, q);
  return vfma(vfset(1), a, q);
}
/* e^(-a^2/2). Where vfma rounds once, the square enters the reduction unrounded */
static inline vecf bell(vecf a) {
  vecf h = -0.5f * a, n = vfma(vfset(ROUNDER), h, a * LOG2_E) - ROUNDER;
  return exp_scaled(n, vfma(vfma(n * -LN2_HIGH, h, a), n, vfset(-LN2_LOW)), a >= 14.5f);
}

/* GELU: x Phi(x) = max(x, 0) - |x| Phi(-|x|) */
static inline vecf vgelu(vecf x) {
  vecf a = vfmin(vfset(14.5f), vfabs(x));
  return vfmax(vfzero(), x) - a * (bell(a) * (tail_p(a) * vfinverse(tail_q(a))));
}
/* Phi(x) + x phi(x), where phi(a) = e^(-a^2/2) / sqrt(2 pi): it is g for x < 0 and 1 - g for x >= 0, where a = |x| and
   g = Phi(-a) - a phi(a) */
static inline vecf vgelu_grad(vecf x, vecf dy) {
  vecf a = vfmin(vfset(14.5f), vfabs(x));
  vecf g = bell(a) * vfma(tail_p(a) * vfinverse(tail_q(a)), a, vfset(-0.398942280f));
  return dy * vfselect(vfnegative(x), g, 1 - g);
}

/* GELU by tanh: x/2 (1 + tanh(u)) = x sigmoid(2u), where u = sqrt(2/pi) (x + 0.044715 x^3). Beyond +-16 the sigmoid is 0
   or 1. */
static inline vecf gelu_inner(vecf x) { return x * vfma(vfset(1.59576912f), x * x, vfset(0.0713548163f)); }
static inline vecf vgelu_tanh(vecf x) {
  vecf c = vfmax(vfset(-16), vfmin(vfset(16), x));
  return vfmax(vfset(-16), x) * vsigmoid(gelu_inner(c));
}
static inline vecf vgelu_tanh_grad(vecf x, vecf dy) {
  vecf c = vfmax(vfset(-16), vfmin(vfset(16), x)), other, y = sigmoid_pair(gelu_inner(c), &other);
  vecf slope = vfma(vfset(1.59576912f), c * c, vfset(3 * 0.0713548163f));
  return dy * vfma(y, c * slope, y * other);
}

static inline vecf vrelu(vecf x) { return vfmax(vfzero(), x); }     /* NaN stays */
static inline vecf vrelu_grad(vecf y, vecf dy) { return (vecf)((y > 0) & (vec)dy); }
