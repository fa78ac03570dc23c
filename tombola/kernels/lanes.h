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

/* Two vectors into one: the halves of each stretch of lanes are added, p's before q's. */
#if WIDTH == 16
#define PAIR8(p, q)                                                                  \
  (SHUFFLE(p, q, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +           \
   SHUFFLE(p, q, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31))
#define PAIR4(p, q)                                                                  \
  (SHUFFLE(p, q, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27) +         \
   SHUFFLE(p, q, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31))
#define PAIR2(p, q)                                                                  \
  (SHUFFLE(p, q, 0, 1, 4, 5, 8, 9, 12, 13, 16, 17, 20, 21, 24, 25, 28, 29) +         \
   SHUFFLE(p, q, 2, 3, 6, 7, 10, 11, 14, 15, 18, 19, 22, 23, 26, 27, 30, 31))
#define PAIR1(p, q)                                                                  \
  (SHUFFLE(p, q, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30) +        \
   SHUFFLE(p, q, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31))
#elif WIDTH == 8
#define PAIR4(p, q)                                                                  \
  (SHUFFLE(p, q, 0, 1, 2, 3, 8, 9, 10, 11) + SHUFFLE(p, q, 4, 5, 6, 7, 12, 13, 14, 15))
#define PAIR2(p, q)                                                                  \
  (SHUFFLE(p, q, 0, 1, 4, 5, 8, 9, 12, 13) + SHUFFLE(p, q, 2, 3, 6, 7, 10, 11, 14, 15))
#define PAIR1(p, q)                                                                  \
  (SHUFFLE(p, q, 0, 2, 4, 6, 8, 10, 12, 14) + SHUFFLE(p, q, 1, 3, 5, 7, 9, 11, 13, 15))
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

/* The sums over lanes of WIDTH vectors, as the lanes of one; changes the group. */
INLINE TARGET lanes NAME(sums)(lanes *group) {
#if WIDTH == 16
  for (int i = 0; i < 8; i++) group[i] = PAIR8(group[2 * i], group[2 * i + 1]);
#endif
#if WIDTH >= 8
  for (int i = 0; i < 4; i++) group[i] = PAIR4(group[2 * i], group[2 * i + 1]);
#endif
  for (int i = 0; i < 2; i++) group[i] = PAIR2(group[2 * i], group[2 * i + 1]);
  return PAIR1(group[0], group[1]);
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
