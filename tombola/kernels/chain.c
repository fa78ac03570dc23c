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

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define X86 1
#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")))
#define WIDTH 16
#define NAME(x) x##_avx512
#include "chain_body.h"
#define TARGET __attribute__((target("avx2,fma")))
#define WIDTH 8
#define NAME(x) x##_avx2
#include "chain_body.h"
#endif
#define TARGET
#define WIDTH 4
#define NAME(x) x##_plain
#include "chain_body.h"

enum { PLAIN, AVX2, AVX512 };

int32_t tombola_interface(void) { return INTERFACE; }

/* The best instruction set of this processor, as `variant` wants it. */
int32_t tombola_variant(void) {
#ifdef X86
  __builtin_cpu_init();
  const int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    return AVX512;
  }
  if (avx2) return AVX2;
#endif
  return PLAIN;
}

/* Floats that `space` must hold: all units of a tile, and what comes back from two layers. */
int64_t tombola_space(const struct chain *chain) {
  int64_t units = chain->layer[0].inputs + 2 * (int64_t)widest(chain);
  for (int32_t l = 0; l < chain->layers; l++) units += chain->layer[l].outputs;
  return units * 64;
}

#ifdef X86
#define DISPATCH(function, ...)                                   \
  switch (chain->variant) {                                       \
    case AVX512: function##_avx512(__VA_ARGS__); break;           \
    case AVX2: function##_avx2(__VA_ARGS__); break;               \
    default: function##_plain(__VA_ARGS__); break;                \
  }
#else
#define DISPATCH(function, ...) function##_plain(__VA_ARGS__)
#endif

/* Makes `steps` optimiser steps. index: steps times batch places in the data. rates: of each step.
   t: number of the first of them for the optimiser, from 1. */
void tombola_train(const struct chain *chain, const struct data *data, const int64_t *index,
                   int64_t steps, int32_t batch, const struct optimiser *optimiser,
                   const double *rates, int64_t t) {
  DISPATCH(train, chain, data, index, steps, batch, optimiser, rates, t);
}

/* Logits of the examples at these places: (examples, classes). */
void tombola_outputs(const struct chain *chain, const struct data *data, const int64_t *index,
                     int64_t examples, float *out) {
  DISPATCH(outputs, chain, data, index, examples, out);
}
