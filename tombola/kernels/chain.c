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
