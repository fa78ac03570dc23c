/* Includes BODY once for each instruction set, and calls the functions of the one that is asked for.

   BODY is a header whose functions are named by NAME, marked by TARGET, and work on vectors of WIDTH
   floats. It undefines these three. */

#ifndef TOMBOLA_SETS_H
#define TOMBOLA_SETS_H

#include <stdint.h>

enum { PLAIN, AVX2, AVX512 }; /* as `variant` wants them */

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")))
#define WIDTH 16
#define NAME(x) x##_avx512
#include BODY
#define TARGET __attribute__((target("avx2,fma")))
#define WIDTH 8
#define NAME(x) x##_avx2
#include BODY

#define DISPATCH(function, variant, ...)                \
  switch (variant) {                                    \
    case AVX512: function##_avx512(__VA_ARGS__); break; \
    case AVX2: function##_avx2(__VA_ARGS__); break;     \
    default: function##_plain(__VA_ARGS__); break;      \
  }

/* The best set of this processor. */
static inline int32_t best_set(void) {
  __builtin_cpu_init();
  const int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    return AVX512;
  }
  return avx2 ? AVX2 : PLAIN;
}
#else
#define DISPATCH(function, variant, ...) function##_plain(__VA_ARGS__)
static inline int32_t best_set(void) { return PLAIN; }
#endif
#define TARGET
#define WIDTH 4
#define NAME(x) x##_plain
#include BODY

#endif
