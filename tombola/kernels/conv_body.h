/* The kernels; included once for each instruction set, which TARGET, WIDTH and NAME stand for. */

#include "lanes.h"

/* Groups of sums that registers hold. It does not change what is added in which order. */
#if WIDTH == 16
#define HELD 16
#else
#define HELD (8 / PARTS)
#endif
#define STRETCH 16 /* groups that a gradient adds up at once */

/* -- outputs -------------------------------------------------------------------------------------- */

/* Some neighbouring groups of all units' planes. at, plane: in vectors. */
INLINE TARGET void NAME(some_sums)(const struct sums *s, const float *weights, const float *bias,
                                   const lanes *in, lanes *out, const int many) {
  const int64_t pixel = (int64_t)s->groups * PARTS, plane = pixel * s->rows * s->columns;
  const int nv = many * PARTS;
  for (int32_t u = 0; u < s->units; u++, out += plane) {
    lanes sum[HELD * PARTS];
#pragma GCC unroll 16
    for (int v = 0; v < nv; v++) sum[v] = (lanes){0} + (bias ? bias[u] : 0.0f);
    for (int32_t k = s->first[u]; k < s->first[u + 1]; k++) {
      const lanes *x = in + s->offset[k] * pixel;
      const float w = weights[k];
#pragma GCC unroll 16
      for (int v = 0; v < nv; v++) sum[v] += w * x[v];
    }
#pragma GCC unroll 16
    for (int v = 0; v < nv; v++) out[v] = sum[v];
  }
}

static TARGET void NAME(sums_of)(const struct sums *s, const float *weights, const float *bias,
                                 const float *from, float *to) {
  const int32_t run = s->columns * s->groups;
  for (int32_t y = 0; y < s->rows; y++) {
    const lanes *in = (const lanes *)from + (int64_t)y * s->pitch * s->groups * PARTS;
    lanes *out = (lanes *)to + (int64_t)y * run * PARTS;
    for (int32_t g = 0; g < run;) {
      const lanes *x = in + (int64_t)g * PARTS;
      lanes *sum = out + (int64_t)g * PARTS;
      const int32_t left = run - g;
#if HELD >= 16
      if (left >= 16) { NAME(some_sums)(s, weights, bias, x, sum, 16); g += 16; } else
#endif
#if HELD >= 8
      if (left >= 8) { NAME(some_sums)(s, weights, bias, x, sum, 8); g += 8; } else
#endif
#if HELD >= 4
      if (left >= 4) { NAME(some_sums)(s, weights, bias, x, sum, 4); g += 4; } else
#endif
      if (left >= 2) { NAME(some_sums)(s, weights, bias, x, sum, 2); g += 2; } else
      { NAME(some_sums)(s, weights, bias, x, sum, 1); g += 1; }
    }
  }
}

/* -- gradients of weights ------------------------------------------------------------------------- */

INLINE TARGET void NAME(some_gradients)(const struct sums *s, const lanes *in, const lanes *delta,
                                        int64_t plane, float *gradients, const int many) {
  const int64_t pixel = (int64_t)s->groups * PARTS;
  const int nv = many * PARTS, ways = many < 2 ? PARTS : 2 * PARTS;
  lanes group[WIDTH];
  int32_t k = 0;
  for (int32_t u = 0; u < s->units; u++, delta += plane * pixel) {
    lanes d[STRETCH * PARTS];
#pragma GCC unroll 16
    for (int v = 0; v < nv; v++) d[v] = delta[v];
    for (; k < s->first[u + 1]; k++) {
      const lanes *x = in + s->offset[k] * pixel;
      lanes part[2 * PARTS];
      for (int v = 0; v < ways; v++) part[v] = (lanes){0}; /* so that every product is fused */
#pragma GCC unroll 64
      for (int v = 0; v < nv; v++) part[v % ways] += d[v] * x[v];
      for (int v = PARTS; v < ways; v++) part[v - PARTS] += part[v];
      const int32_t turn = k & (WIDTH - 1);
      group[turn] = NAME(folded)(part);
      if (turn == WIDTH - 1) NAME(add_sums)(group, WIDTH, gradients + k - turn);
    }
  }
  const int32_t left = k & (WIDTH - 1);
  if (left) NAME(add_sums)(group, left, gradients + k - left);
}

static TARGET void NAME(gradients_of)(const struct sums *s, const float *from, const float *delta,
                                      int32_t plane, int32_t columns, float *gradients) {
  const int32_t run = s->columns * s->groups;
  const int64_t pixel = (int64_t)s->groups * PARTS;
  for (int32_t y = 0; y < s->rows; y++) {
    const lanes *in = (const lanes *)from + y * s->pitch * pixel;
    const lanes *out = (const lanes *)delta + y * columns * pixel;
    for (int32_t g = 0; g < run;) {
      const lanes *x = in + (int64_t)g * PARTS, *d = out + (int64_t)g * PARTS;
      const int32_t left = run - g;
      if (left >= 16) { NAME(some_gradients)(s, x, d, plane, gradients, 16); g += 16; }
      else if (left >= 8) { NAME(some_gradients)(s, x, d, plane, gradients, 8); g += 8; }
      else if (left >= 4) { NAME(some_gradients)(s, x, d, plane, gradients, 4); g += 4; }
      else if (left >= 2) { NAME(some_gradients)(s, x, d, plane, gradients, 2); g += 2; }
      else { NAME(some_gradients)(s, x, d, plane, gradients, 1); g += 1; }
    }
  }
}

#undef HELD
#undef INLINE
#undef LANES
#undef MOST
#undef NAME
#undef PARTS
#undef POSITIVE
#undef SHUFFLE
#undef STRETCH
#undef TARGET
#undef TILE
#undef WIDTH
#undef lanes
#undef whole
