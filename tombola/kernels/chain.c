/* Training steps of a chain of sparse linear layers, in one call.

   Units times examples: a tile holds up to 64 examples, so that every kept weight meets whole
   vectors of neighbours, and nothing depends on where the weights lie. Cost falls with the number
   of kept weights. AVX-512 and AVX2 give equal bits: the lanes are the same sixteen, and both fuse
   a product with its sum.

   A plain shared library: no Python, no torch. tombola/kernels/compiled.py calls it. */

#include <math.h>
#include <string.h>

#include "chain.h"

static int32_t widest(const struct chain *chain) {
  int32_t most = 0;
  for (int32_t l = 0; l < chain->layers - 1; l++) {
    if (chain->layer[l].outputs > most) most = chain->layer[l].outputs;
  }
  return most;
}

/* Inputs whose values for a tile of examples stay in the nearest cache. */
#define NEAR 112

/* Whether a layer is worked through in such stretches of inputs: while one is near, every output
   reads it, so each has to keep so many weights of it: 6 pay forward, 24 for gradients, as measured
   with AVX2. A sum adds in the same order either way. */
static int in_stretches(const struct layer *layer, int64_t weights) {
  const int64_t stretches = (layer->inputs + NEAR - 1) / NEAR;
  return stretches > 1 && layer->kept > weights * stretches * layer->outputs;
}

/* Whether the next eight units are neighbouring features of one channel, on a machine whose first
   byte is the lowest. */
static int neighbours(const struct data *data, int unit, int used) {
  if (__BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__ || unit + 8 > used) return 0;
  const int32_t first = data->used[unit], last = data->used[unit + 7]; /* in ascending order */
  return last - first == 7 && last / data->plane == first / data->plane;
}

#define BODY "chain_body.h"
#include "sets.h"

int32_t tombola_interface(void) { return INTERFACE; }

/* The best instruction set of this processor, as `variant` wants it. */
int32_t tombola_variant(void) { return best_set(); }

/* Floats that `space` must hold: all units of a tile, and what comes back from two layers. */
int64_t tombola_space(const struct chain *chain) {
  int64_t units = chain->layer[0].inputs + 2 * (int64_t)widest(chain);
  for (int32_t l = 0; l < chain->layers; l++) units += chain->layer[l].outputs;
  return units * 64;
}

/* Makes `steps` optimiser steps. index: steps times batch places in the data. rates: of each step.
   t: number of the first of them for the optimiser, from 1. */
void tombola_train(const struct chain *chain, const struct data *data, const int64_t *index,
                   int64_t steps, int32_t batch, const struct optimiser *optimiser,
                   const double *rates, int64_t t) {
  DISPATCH(train, chain->variant, chain, data, index, steps, batch, optimiser, rates, t);
}

/* Logits of the examples at these places: (examples, classes). */
void tombola_outputs(const struct chain *chain, const struct data *data, const int64_t *index,
                     int64_t examples, float *out) {
  DISPATCH(outputs, chain->variant, chain, data, index, examples, out);
}
