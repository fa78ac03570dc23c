/* Outputs of a chain of sparse linear layers, for use after training.

   One example meets the rows of kept weights one by one; many are turned into lanes, so that a
   kept weight meets sixteen of them at once, as in chain.c. No state: a call makes its own room,
   and threads may share a network.

   A plain shared library: no Python, no torch. tombola/kernels/infer.py calls it. */

#include <stdint.h>
#include <stdlib.h>

#define INTERFACE 1 /* raised with every change that callers see */
#define ALONE 1 /* up to so many examples are taken one by one; measured */
#define LANES 16
#define TILE 64 /* examples at most */

/* One layer. Kept weights lie row by row, an output unit a row. bias NULL: there is none. */
struct layer {
  int32_t inputs, outputs, relu;
  const int32_t *row;    /* outputs + 1: where the weights of an output unit begin */
  const int32_t *column; /* kept: the input unit of each */
  const float *weight, *bias;
};

/* used: the features of an example that the first layer reads. */
struct network {
  int32_t layers, variant, features, count_used;
  const int32_t *used;
  const struct layer *layer;
};

#define INLINE static inline __attribute__((always_inline))

#define BODY "infer_body.h"
#include "sets.h"

int32_t tombola_infer_interface(void) { return INTERFACE; }

/* The best instruction set of this processor, as `variant` wants it. */
int32_t tombola_infer_variant(void) { return best_set(); }

/* inputs: (examples, features); out: (examples, outputs of the last layer). Returns 1 if there is
   no memory, else 0. */
int32_t tombola_infer(const struct network *network, const float *inputs, int64_t examples,
                      float *out) {
  int64_t widest = 0;
  for (int32_t l = 0; l < network->layers; l++) {
    if (network->layer[l].outputs > widest) widest = network->layer[l].outputs;
  }
  const int64_t width = examples > ALONE ? TILE : 1;
  const int64_t units = 2 * widest + (width > 1 ? network->features : 0);
  const int64_t bytes = (units * width * 4 + 63) / 64 * 64;
  float *space = aligned_alloc(64, bytes);
  if (!space) return 1;
  DISPATCH(infer, network->variant, network, inputs, examples, widest, space, out);
  free(space);
  return 0;
}
