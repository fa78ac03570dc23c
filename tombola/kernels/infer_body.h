/* The kernels of infer.c; included once for each instruction set, which TARGET, WIDTH and NAME stand
   for. A group of sixteen examples is 16 / WIDTH vectors. */

typedef float NAME(floats) __attribute__((vector_size(4 * WIDTH)));
typedef int32_t NAME(ints) __attribute__((vector_size(4 * WIDTH)));
#define lanes NAME(floats)
#define whole NAME(ints)
#define PARTS (LANES / WIDTH)

/* -- one example --------------------------------------------------------------------------------- */

INLINE TARGET void NAME(row_by_row)(const struct layer *layer, const float *restrict in,
                                    float *restrict out) {
  for (int32_t o = 0; o < layer->outputs; o++) {
    const int32_t begin = layer->row[o], count = layer->row[o + 1] - begin;
    const int32_t *column = layer->column + begin;
    const float *weight = layer->weight + begin;
    /* Four sums, since one would wait for each of its additions. */
    float sum = layer->bias ? layer->bias[o] : 0.0f, b = 0.0f, c = 0.0f, d = 0.0f;
    int32_t k = 0;
    for (; k + 4 <= count; k += 4) {
      sum += weight[k] * in[column[k]];
      b += weight[k + 1] * in[column[k + 1]];
      c += weight[k + 2] * in[column[k + 2]];
      d += weight[k + 3] * in[column[k + 3]];
    }
    switch (count & 3) {
      case 3: d += weight[k + 2] * in[column[k + 2]]; /* fall through */
      case 2: c += weight[k + 1] * in[column[k + 1]]; /* fall through */
      case 1: b += weight[k] * in[column[k]]; /* fall through */
      default: break;
    }
    sum = (sum + b) + (c + d);
    out[o] = layer->relu && sum <= 0.0f ? 0.0f : sum;
  }
}

static TARGET void NAME(one)(const struct network *network, const float *input, int64_t widest,
                             float *space, float *out) {
  float *room[2] = {space, space + widest};
  const int32_t last = network->layers - 1;
  for (int32_t l = 0; l <= last; l++) {
    float *to = l == last ? out : room[l % 2];
    NAME(row_by_row)(network->layer + l, input, to);
    input = to;
  }
}

/* -- up to 64 examples: (units, examples) -------------------------------------------------------- */

INLINE TARGET void NAME(side_by_side)(const struct layer *layer, const lanes *in, lanes *out,
                                      const int nv) {
  for (int32_t o = 0; o < layer->outputs; o++) {
    const float bias = layer->bias ? layer->bias[o] : 0.0f;
    lanes sum[TILE / WIDTH];
    for (int v = 0; v < nv; v++) sum[v] = (lanes){0} + bias;
    for (int32_t k = layer->row[o]; k < layer->row[o + 1]; k++) {
      const lanes *x = in + (int64_t)layer->column[k] * nv;
      const float w = layer->weight[k];
      for (int v = 0; v < nv; v++) sum[v] += w * x[v];
    }
    for (int v = 0; v < nv; v++) {
      /* What is not positive as +0.0; NaN stays. */
      out[o * nv + v] = layer->relu ? (lanes)((whole)sum[v] & ~(sum[v] <= 0.0f)) : sum[v];
    }
  }
}

INLINE TARGET void NAME(tile)(const struct network *network, const float *inputs, int count,
                              int64_t widest, float *space, float *out, const int nv) {
  const int width = nv * WIDTH;
  const float *row[TILE];
  for (int e = 0; e < width; e++) row[e] = inputs + (int64_t)(e < count ? e : 0) * network->features;
  for (int32_t u = 0; u < network->count_used; u++) {
    const int32_t feature = network->used[u];
    float *to = space + (int64_t)feature * width;
    for (int e = 0; e < width; e++) to[e] = row[e][feature];
  }
  const lanes *at = (lanes *)space;
  lanes *behind = (lanes *)(space + (int64_t)network->features * width);
  for (int32_t l = 0; l < network->layers; l++) {
    lanes *to = behind + (l % 2) * widest * nv;
    NAME(side_by_side)(network->layer + l, at, to, nv);
    at = to;
  }
  const int32_t outputs = network->layer[network->layers - 1].outputs;
  for (int e = 0; e < count; e++) {
    for (int32_t o = 0; o < outputs; o++) {
      out[(int64_t)e * outputs + o] = ((const float *)at)[(int64_t)o * width + e];
    }
  }
}

/* -- what is called from outside ----------------------------------------------------------------- */

static TARGET void NAME(infer)(const struct network *network, const float *inputs, int64_t examples,
                               int64_t widest, float *space, float *out) {
  const int32_t outputs = network->layer[network->layers - 1].outputs;
  while (examples > 0) {
    const int count = examples < TILE ? (int)examples : TILE;
    if (count <= ALONE) {
      for (int e = 0; e < count; e++) {
        NAME(one)
        (network, inputs + (int64_t)e * network->features, widest, space,
         out + (int64_t)e * outputs);
      }
    } else if (count <= LANES) {
      NAME(tile)(network, inputs, count, widest, space, out, PARTS);
    } else if (count <= 2 * LANES) {
      NAME(tile)(network, inputs, count, widest, space, out, 2 * PARTS);
    } else {
      NAME(tile)(network, inputs, count, widest, space, out, 4 * PARTS);
    }
    inputs += (int64_t)count * network->features;
    out += (int64_t)count * outputs;
    examples -= count;
  }
}

#undef lanes
#undef whole
#undef PARTS
#undef TARGET
#undef WIDTH
#undef NAME
