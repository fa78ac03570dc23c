/* Convolution layers with few weights: outputs, and gradients of weights and of inputs.

   Every kept weight meets runs of whole vectors, because examples are innermost and neighbouring
   pixels follow; see conv.h. As many sums as fit stay in registers while the weights of a unit pass.
   AVX-512 and AVX2 give equal bits: each lane adds in the order of the weights, sums over examples
   and pixels in stretches of sixteen groups whatever the width.

   A plain shared library: no Python, no torch. tombola/kernels/compiled_conv.py calls it. */

#include <string.h>

#include "conv.h"

#define BODY "conv_body.h"
#include "sets.h"

/* out: (units, rows, columns, examples), each sum begun with its unit's bias, or 0 if NULL. */
void tombola_conv_sums(const struct sums *s, const float *weights, const float *bias,
                       const float *in, float *out) {
  DISPATCH(sums_of, s->variant, s, weights, bias, in, out);
}

/* gradients: (kept,), of the weights. delta: those of the sums, in planes of so many pixels, with so
   many columns. */
void tombola_conv_gradients(const struct sums *s, const float *in, const float *delta,
                            int32_t plane, int32_t columns, float *gradients) {
  memset(gradients, 0, sizeof(float) * s->first[s->units]);
  DISPATCH(gradients_of, s->variant, s, in, delta, plane, columns, gradients);
}

/* -- between images and planes ------------------------------------------------------------------- */

enum { LINE = 16, ABREAST = 8 }; /* more images abreast would fall on the same lines of the cache */

static int64_t padded(const struct planes *p) {
  return (p->examples + LINE - 1) / LINE * LINE;
}

/* How many of 0, by, 2 by, ... from `begin` on are below `end`. */
static int32_t steps(int32_t begin, int32_t by, int32_t end) {
  return begin < end ? (end - begin + by - 1) / by : 0;
}

/* One plane of the images from `e` on, ABREAST of them or `some`, to neighbouring examples. */
static inline void pack_plane(const struct planes *p, const float *from, int32_t high, int32_t wide,
                              const int some, float *to) {
  const int64_t image = (int64_t)p->channels * p->height * p->width, pixel = padded(p);
  for (int32_t y = 0; y < high; y++) {
    const float *own = from + (int64_t)y * p->stride_y * p->width;
    float *row = to + y * p->columns * pixel;
    for (int32_t x = 0; x < wide; x++) {
      for (int i = 0; i < some; i++) row[x * pixel + i] = own[i * image + (int64_t)x * p->stride_x];
      for (int i = some; i < ABREAST; i++) row[x * pixel + i] = 0.0f;
    }
  }
}

static inline void unpack_plane(const struct planes *p, const float *from, int32_t high,
                                int32_t wide, const int some, float *to) {
  const int64_t image = (int64_t)p->channels * p->height * p->width, pixel = padded(p);
  for (int32_t y = 0; y < high; y++) {
    float *own = to + (int64_t)y * p->stride_y * p->width;
    const float *row = from + y * p->columns * pixel;
    for (int32_t x = 0; x < wide; x++) {
      for (int i = 0; i < some; i++) own[i * image + (int64_t)x * p->stride_x] = row[x * pixel + i];
    }
  }
}

/* Zeros around a plane of so many rows and columns. */
static void surround(const struct planes *p, int32_t high, int32_t wide, float *to) {
  const int64_t pixel = padded(p), row = p->columns * pixel;
  const int64_t before = p->left * pixel, behind = row - before - wide * pixel;
  const int32_t below = p->rows - p->top - high;
  memset(to, 0, sizeof(float) * p->top * row);
  float *own = to + p->top * row;
  for (int32_t y = 0; y < high; y++, own += row) {
    memset(own, 0, sizeof(float) * before);
    memset(own + row - behind, 0, sizeof(float) * behind);
  }
  memset(own, 0, sizeof(float) * below * row);
}

void tombola_conv_pack(const struct planes *p, const float *images, float *to) {
  const int64_t image = (int64_t)p->channels * p->height * p->width, pixel = padded(p);
  for (int32_t c = 0; c < p->channels; c++) {
    for (int32_t a = 0; a < p->stride_y; a++) {
      for (int32_t b = 0; b < p->stride_x; b++, to += p->rows * p->columns * pixel) {
        const int32_t high = steps(a, p->stride_y, p->height), wide = steps(b, p->stride_x, p->width);
        const float *from = images + ((int64_t)c * p->height + a) * p->width + b;
        float *own = to + ((int64_t)p->top * p->columns + p->left) * pixel;
        surround(p, high, wide, to);
        for (int32_t e = 0; e < pixel; e += ABREAST) {
          const int32_t some = p->examples - e;
          if (some >= ABREAST) {
            pack_plane(p, from + e * image, high, wide, ABREAST, own + e);
          } else {
            pack_plane(p, from + e * image, high, wide, some > 0 ? some : 0, own + e);
          }
        }
      }
    }
  }
}

void tombola_conv_unpack(const struct planes *p, const float *from, float *images) {
  const int64_t image = (int64_t)p->channels * p->height * p->width, pixel = padded(p);
  for (int32_t c = 0; c < p->channels; c++) {
    for (int32_t a = 0; a < p->stride_y; a++) {
      for (int32_t b = 0; b < p->stride_x; b++, from += p->rows * p->columns * pixel) {
        const int32_t high = steps(a, p->stride_y, p->height), wide = steps(b, p->stride_x, p->width);
        float *to = images + ((int64_t)c * p->height + a) * p->width + b;
        const float *own = from + ((int64_t)p->top * p->columns + p->left) * pixel;
        for (int32_t e = 0; e < p->examples; e += ABREAST) {
          const int32_t some = p->examples - e;
          if (some >= ABREAST) {
            unpack_plane(p, own + e, high, wide, ABREAST, to + e * image);
          } else {
            unpack_plane(p, own + e, high, wide, some, to + e * image);
          }
        }
      }
    }
  }
}
