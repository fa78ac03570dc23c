/* A chain of sparse linear layers, its data and its optimiser, as plain pointers. */

#ifndef TOMBOLA_CHAIN_H
#define TOMBOLA_CHAIN_H

#include <stdint.h>

#define INTERFACE 3 /* raised with every change that callers see */
#define MOST_LAYERS 32

/* One layer. Kept weights lie row by row, an output unit a row. */
struct layer {
  int32_t inputs, outputs;
  int32_t kept;
  int32_t relu;             /* whether one follows */
  const int32_t *row;       /* outputs + 1: where the weights of an output unit begin */
  const int32_t *column;    /* kept: the input unit of each */
  const int32_t *by_input;  /* inputs + 1: the same weights in the order of input units, */
  const int32_t *output;    /* kept: the output unit of each */
  const int32_t *place;     /* kept: where it lies among the weights */
  int64_t weights, biases;  /* where they begin among all values; biases -1: none */
};

/* values: all kept weights and biases, layer by layer; the others are as long. space: room for one
   tile, see `tombola_space`, aligned to 64 bytes. next: room for as many as a layer has outputs. */
struct chain {
  int32_t layers, variant;
  int64_t count;
  const struct layer *layer;
  float *values, *gradients, *first, *second;
  float *space;
  int32_t *next;
};

/* Examples as rows of bytes that a table turns into floats, or of floats where `bytes` is NULL.
   used: the features that the first layer reads, in the order of its input units. */
struct data {
  const uint8_t *bytes;
  const float *floats;
  const float *table; /* 256 for each channel */
  const int64_t *targets;
  const int32_t *used;
  int64_t features, plane; /* in a row; of a channel */
};

enum { SGD, ADAM };

/* decay: of AdamW, or the factor of SGD's L2 penalty. */
struct optimiser {
  int32_t kind, nesterov;
  double momentum, beta1, beta2, eps, decay;
};

#endif
