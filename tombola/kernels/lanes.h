/* Vectors of the width that suits an instruction set; included once for each, with WIDTH set.

   A tile's examples count as groups of sixteen whatever the width. Sums over examples add the
   groups, then lanes 8, 4, 2 and 1 apart; so every width adds in the same order. */

#define LANES 16             /* of a group */
#define TILE 64              /* examples at most */
#define PARTS (LANES / WIDTH) /* vectors of a group */
#define MOST (TILE / WIDTH)  /* vectors of a tile */

typedef float NAME(floats) __attribute__((vector_size(4 * WIDTH)));
typedef int32_t NAME(ints) __attribute__((vector_size(4 * WIDTH)));
#define lanes NAME(floats)
#define whole NAME(ints)

#define INLINE static inline __attribute__((always_inline))
#define SHUFFLE __builtin_shufflevector

/* What is not positive as +0.0; NaN stays, so that a diverged training shows. */
#define POSITIVE(x, by) ((lanes)((whole)(x) & ~((by) <= 0.0f)))

/* PAIRn adds lanes that are n apart, of p and of q, and puts both into one vector: into its halves at
   PAIR8, within each half at PAIR4 and within each 128 bits at PAIR2 and PAIR1, so that a shuffle is
   one instruction. */
#if WIDTH == 16
#define PAIR8(p, q)                                                                  \
  (SHUFFLE(p, q, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +           \
   SHUFFLE(p, q, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31))
#define PAIR4(p, q)                                                                  \
  (SHUFFLE(p, q, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27) +         \
   SHUFFLE(p, q, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31))
#define PAIR2(p, q)                                                                  \
  (SHUFFLE(p, q, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29) +         \
   SHUFFLE(p, q, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31))
#define PAIR1(p, q)                                                                  \
  (SHUFFLE(p, q, 0, 2, 16, 18, 4, 6, 20, 22, 8, 10, 24, 26, 12, 14, 28, 30) +        \
   SHUFFLE(p, q, 1, 3, 17, 19, 5, 7, 21, 23, 9, 11, 25, 27, 13, 15, 29, 31))
#elif WIDTH == 8
#define PAIR4(p, q)                                                                  \
  (SHUFFLE(p, q, 0, 1, 2, 3, 8, 9, 10, 11) + SHUFFLE(p, q, 4, 5, 6, 7, 12, 13, 14, 15))
#define PAIR2(p, q)                                                                  \
  (SHUFFLE(p, q, 0, 1, 8, 9, 4, 5, 12, 13) + SHUFFLE(p, q, 2, 3, 10, 11, 6, 7, 14, 15))
#define PAIR1(p, q)                                                                  \
  (SHUFFLE(p, q, 0, 2, 8, 10, 4, 6, 12, 14) + SHUFFLE(p, q, 1, 3, 9, 11, 5, 7, 13, 15))
#else
#define PAIR2(p, q) (SHUFFLE(p, q, 0, 1, 4, 5) + SHUFFLE(p, q, 2, 3, 6, 7))
#define PAIR1(p, q) (SHUFFLE(p, q, 0, 2, 4, 6) + SHUFFLE(p, q, 1, 3, 5, 7))
#endif

/* The lanes of a group of sixteen, in vectors, added eight apart and on down to one vector. */
INLINE TARGET lanes NAME(folded)(const lanes *part) {
#if WIDTH == 16
  return part[0];
#elif WIDTH == 8
  return part[0] + part[1];
#else
  return (part[0] + part[2]) + (part[1] + part[3]);
#endif
}

/* The sums over lanes of WIDTH vectors, as the lanes of one, in their order. */
INLINE TARGET lanes NAME(sums)(const lanes *group) {
  lanes four[4]; /* the b-th 128 bits of the i-th: of vector i + 4 b */
  for (int i = 0; i < 4; i++) {
#if WIDTH == 16
    four[i] = PAIR4(PAIR8(group[i], group[i + 4]), PAIR8(group[i + 8], group[i + 12]));
#elif WIDTH == 8
    four[i] = PAIR4(group[i], group[i + 4]);
#else
    four[i] = group[i];
#endif
  }
  return PAIR1(PAIR2(four[0], four[1]), PAIR2(four[2], four[3]));
}

/* Adds what WIDTH vectors, or fewer, sum to over their lanes to as many numbers. */
INLINE TARGET void NAME(add_sums)(lanes *group, int count, float *to) {
  for (int i = count; i < WIDTH; i++) group[i] = (lanes){0};
  const lanes sums = NAME(sums)(group);
  if (count == WIDTH) {
    lanes total;
    memcpy(&total, to, sizeof total);
    total += sums;
    memcpy(to, &total, sizeof total);
  } else {
    for (int i = 0; i < count; i++) to[i] += sums[i];
  }
}

/* exp of x up to 0, within 2 units in the last place; below -87 it is that of -87. The polynomial
   is that of the Cephes library. */
INLINE TARGET lanes NAME(exponential)(lanes x) {
  const whole low = x < -87.0f;
  x = (lanes)(((whole)x & ~low) | ((whole)((lanes){0} - 87.0f) & low));
  const lanes n = (x * 1.44269504f + 12582912.0f) - 12582912.0f;
  const lanes r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  lanes p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  const whole power = (__builtin_convertvector(n, whole) + 127) << 23;
  return p * (lanes)power;
}

#undef PAIR8
#undef PAIR4
#undef PAIR2
#undef PAIR1
