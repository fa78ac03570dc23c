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

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define X86 1
#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")))
#define WIDTH 16
#define NAME(x) x##_avx512
#include "infer_body.h"
#define TARGET __attribute__((target("avx2,fma")))
#define WIDTH 8
#define NAME(x) x##_avx2
#include "infer_body.h"
#endif
#define TARGET
#define WIDTH 4
#define NAME(x) x##_plain
#include "infer_body.h"

enum { PLAIN, AVX2, AVX512 };

int32_t tombola_infer_interface(void) { return INTERFACE; }

/* The best instruction set of this processor, as `variant` wants it. */
int32_t tombola_infer_variant(void) {
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
  switch (network->variant) {
#ifdef X86
    case AVX512: infer_avx512(network, inputs, examples, widest, space, out); break;
    case AVX2: infer_avx2(network, inputs, examples, widest, space, out); break;
#endif
    default: infer_plain(network, inputs, examples, widest, space, out); break;
  }
  free(space);
  return 0;
}
