/* Philox4x32-10 (Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3, 2011): four 32-bit words from a 128-bit
   counter and a 64-bit key, any of them without the ones before it. It passes all of TestU01's BigCrush.

   The words are in the low halves of 64-bit lanes; the high halves do not matter. Two vectors of counters are computed at a
   time, because the rounds of one are a chain in which each instruction waits for the one before. */
#pragma once
#include "simd.h"

enum { COUNTERS = LANES };     /* how many counters one call of philox takes */
typedef struct { vecu64 words[4]; } random4;        /* the four words of LANES/2 counters */

static inline vecu64 low32(uint32_t x) { return (vecu64){0} + x; }

static inline random4 philox_round(random4 x, uint32_t k, uint32_t l) {
  vecu64 p = vmulu_even(x.words[0], low32(0xd2511f53)), q = vmulu_even(x.words[2], low32(0xcd9e8d57));
  return (random4){{(q >> 32) ^ x.words[1] ^ low32(k), q, (p >> 32) ^ x.words[3] ^ low32(l), p}};
}

/* The words of the counters first, ..., first + COUNTERS - 1, of which none but the first may be a multiple of 2^32 */
static inline void philox(uint64_t first, uint64_t key, random4 *x, random4 *y) {
  vecu64 step;
  for (int i = 0; i < LANES / 2; i++) step[i] = i;
  random4 a = {{low32((uint32_t)first) + step, low32((uint32_t)(first >> 32)), low32(0), low32(0)}}, b = a;
  b.words[0] += LANES / 2;
  uint32_t k = (uint32_t)key, l = (uint32_t)(key >> 32);
  for (int round = 0; round < 10; round++) {
    a = philox_round(a, k, l);
    b = philox_round(b, k, l);
    k += 0x9e3779b9;
    l += 0xbb67ae85;
  }
  *x = a;
  *y = b;
}

/* x * scale in the lanes whose random word is at least `least`, else 0. The lanes have words 2h and 2h + 1 of the counters
   in turn */
static inline vecf keep_scaled(vecf x, float scale, const random4 *r, int h, uint32_t least) {
  /* the unsigned order, as a signed one */
  vec words = vmerge((vec64)r->words[2 * h], (vec64)r->words[2 * h + 1]) ^ INT32_MIN;
  return (vecf)((words >= (int32_t)(least ^ 0x80000000)) & (vec)(x * scale));
}
