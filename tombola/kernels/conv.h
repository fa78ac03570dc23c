/* Convolutions with few weights, of which a linear layer is one over images of one pixel. */

#ifndef TOMBOLA_CONV_H
#define TOMBOLA_CONV_H

#include <stdint.h>

/* Images (examples, channels, height, width) and how they are laid out for the kernels: planes of
   pixels, each pixel all examples in groups of sixteen, the last filled up with zeros. With strides
   a channel is several planes, one for each remainder of row and column, so that what neighbouring
   sums read lies side by side: (channels, stride_y, stride_x, rows, columns, examples). Around a
   plane are zeros: `top` rows and `left` columns before, as many as are left over behind. */
struct planes {
  int32_t examples, channels, height, width;
  int32_t stride_y, stride_x, rows, columns, top, left;
};

/* Sums over kept weights, in planes. Those of unit u are `first[u]` to `first[u + 1]`. offset: how
   many pixels behind a sum's own place lies what a weight is multiplied with. rows, columns: of a
   plane of sums. pitch: columns of a plane that is read. groups: of sixteen examples. */
struct sums {
  int32_t variant, units;
  const int32_t *first, *offset;
  int32_t rows, columns, pitch, groups;
};

#endif
