/* The kernels; included once for each instruction set, which TARGET, WIDTH and NAME stand for. */

#include "lanes.h"

/* Calls an inlined function with the number of vectors as a constant; what calls it is small enough
   for the compiler to do well. */
#define BY_SIZE(function, nv, ...)                       \
  switch ((nv) / PARTS) {                                \
    case 1: function(__VA_ARGS__, 1 * PARTS); break;     \
    case 2: function(__VA_ARGS__, 2 * PARTS); break;     \
    case 3: function(__VA_ARGS__, 3 * PARTS); break;     \
    default: function(__VA_ARGS__, 4 * PARTS); break;    \
  }

/* -- examples into a tile: (units, examples), padded with copies of the first ---------------------- */

INLINE TARGET void NAME(gather_bytes)(const struct data *data, int used, const int64_t *index,
                                      int count, lanes *tile, const int nv) {
  const int width = nv * WIDTH;
  const uint8_t *row[TILE];
  for (int e = 0; e < width; e++) row[e] = data->bytes + index[e < count ? e : 0] * data->features;
  for (int u = 0; u < used;) {
    const int32_t feature = data->used[u];
    const float *table = data->table + 256 * (feature / data->plane);
    float *to = (float *)(tile + (int64_t)u * nv);
    if (neighbours(data, u, used)) {
      for (int e = 0; e < width; e++) {
        uint64_t eight;
        memcpy(&eight, row[e] + feature, sizeof eight);
        for (int i = 0; i < 8; i++) to[i * width + e] = table[eight >> 8 * i & 255];
      }
      u += 8;
    } else {
      for (int e = 0; e < width; e++) to[e] = table[row[e][feature]];
      u++;
    }
  }
}

INLINE TARGET void NAME(gather_floats)(const struct data *data, int used, const int64_t *index,
                                       int count, lanes *tile, const int nv) {
  const int width = nv * WIDTH;
  const float *row[TILE];
  for (int e = 0; e < width; e++) row[e] = data->floats + index[e < count ? e : 0] * data->features;
  for (int u = 0; u < used; u++) {
    const int32_t feature = data->used[u];
    float *to = (float *)(tile + (int64_t)u * nv);
    for (int e = 0; e < width; e++) to[e] = row[e][feature];
  }
}

static TARGET void NAME(gather)(const struct data *data, int used, const int64_t *index, int count,
                                lanes *tile, int nv) {
  if (data->bytes) {
    BY_SIZE(NAME(gather_bytes), nv, data, used, index, count, tile);
  } else {
    BY_SIZE(NAME(gather_floats), nv, data, used, index, count, tile);
  }
}

/* -- one layer on a tile ------------------------------------------------------------------------- */

/* Twice: by rows; and, where every output keeps weights enough, in stretches of inputs that are near.
   A sum adds in the order of its row either way. */

INLINE TARGET lanes NAME(bias)(const struct chain *chain, const struct layer *layer, int32_t o) {
  return (lanes){0} + (layer->biases < 0 ? 0.0f : chain->values[layer->biases + o]);
}

INLINE TARGET void NAME(forward_far)(const struct chain *chain, const struct layer *layer,
                                     const lanes *in, lanes *out, const int nv) {
  const float *weight = chain->values + layer->weights;
  for (int32_t o = 0; o < layer->outputs; o++) {
    lanes sum[MOST];
    for (int v = 0; v < nv; v++) sum[v] = NAME(bias)(chain, layer, o);
    for (int32_t k = layer->row[o]; k < layer->row[o + 1]; k++) {
      const lanes *x = in + (int64_t)layer->column[k] * nv;
      const float w = weight[k];
      for (int v = 0; v < nv; v++) sum[v] += w * x[v];
    }
    for (int v = 0; v < nv; v++) out[o * nv + v] = layer->relu ? POSITIVE(sum[v], sum[v]) : sum[v];
  }
}

INLINE TARGET void NAME(forward_near)(const struct chain *chain, const struct layer *layer,
                                      const lanes *in, lanes *out, const int nv) {
  const float *weight = chain->values + layer->weights;
  int32_t *next = chain->next;
  for (int32_t o = 0; o < layer->outputs; o++) {
    for (int v = 0; v < nv; v++) out[o * nv + v] = NAME(bias)(chain, layer, o);
    next[o] = layer->row[o];
  }
  for (int32_t end = NEAR; end < layer->inputs + NEAR; end += NEAR) {
    for (int32_t o = 0; o < layer->outputs; o++) {
      const int32_t most = layer->row[o + 1];
      int32_t k = next[o];
      lanes sum[MOST];
      for (int v = 0; v < nv; v++) sum[v] = out[o * nv + v];
      for (; k < most && layer->column[k] < end; k++) {
        const lanes *x = in + (int64_t)layer->column[k] * nv;
        const float w = weight[k];
        for (int v = 0; v < nv; v++) sum[v] += w * x[v];
      }
      for (int v = 0; v < nv; v++) out[o * nv + v] = sum[v];
      next[o] = k;
    }
  }
  if (!layer->relu) return;
  for (int32_t i = 0; i < layer->outputs * nv; i++) out[i] = POSITIVE(out[i], out[i]);
}

static TARGET void NAME(forward)(const struct chain *chain, const struct layer *layer,
                                 const lanes *in, lanes *out, int nv) {
  if (in_stretches(layer, 6)) {
    BY_SIZE(NAME(forward_near), nv, chain, layer, in, out);
  } else {
    BY_SIZE(NAME(forward_far), nv, chain, layer, in, out);
  }
}

/* The gradient of a weight, before the sum over lanes. */
INLINE TARGET lanes NAME(product)(const lanes *d, const lanes *x, const int nv) {
  lanes part[PARTS];
  for (int v = 0; v < PARTS; v++) part[v] = (lanes){0}; /* so that every product is fused */
  for (int v = 0; v < nv; v++) part[v % PARTS] += d[v] * x[v];
  return NAME(folded)(part);
}

/* Sums over lanes are made for as many neighbouring weights at once as a vector has lanes. */

INLINE TARGET void NAME(gradients_far)(const struct layer *layer, const lanes *in,
                                       const lanes *delta, float *gradient, const int nv) {
  lanes group[WIDTH];
  int32_t k = 0;
  for (int32_t o = 0; o < layer->outputs; o++) {
    lanes d[MOST];
    for (int v = 0; v < nv; v++) d[v] = delta[o * nv + v];
    for (; k < layer->row[o + 1]; k++) {
      const int32_t turn = k & (WIDTH - 1);
      group[turn] = NAME(product)(d, in + (int64_t)layer->column[k] * nv, nv);
      if (turn == WIDTH - 1) NAME(add_sums)(group, WIDTH, gradient + k - turn);
    }
  }
  const int32_t left = k & (WIDTH - 1);
  if (left) NAME(add_sums)(group, left, gradient + k - left);
}

INLINE TARGET void NAME(gradients_near)(const struct layer *layer, const lanes *in,
                                        const lanes *delta, float *gradient, int32_t *next,
                                        const int nv) {
  lanes group[WIDTH];
  memcpy(next, layer->row, sizeof(int32_t) * layer->outputs);
  for (int32_t end = NEAR; end < layer->inputs + NEAR; end += NEAR) {
    for (int32_t o = 0; o < layer->outputs; o++) {
      const int32_t most = layer->row[o + 1];
      int32_t k = next[o];
      lanes d[MOST];
      for (int v = 0; v < nv; v++) d[v] = delta[o * nv + v];
      for (; k + WIDTH <= most && layer->column[k + WIDTH - 1] < end; k += WIDTH) {
        for (int i = 0; i < WIDTH; i++) {
          group[i] = NAME(product)(d, in + (int64_t)layer->column[k + i] * nv, nv);
        }
        NAME(add_sums)(group, WIDTH, gradient + k);
      }
      int left = 0;
      for (; k + left < most && layer->column[k + left] < end; left++) {
        group[left] = NAME(product)(d, in + (int64_t)layer->column[k + left] * nv, nv);
      }
      if (left) NAME(add_sums)(group, left, gradient + k);
      next[o] = k + left;
    }
  }
}

INLINE TARGET void NAME(bias_gradients)(const struct layer *layer, const lanes *delta,
                                        float *gradient, const int nv) {
  lanes group[WIDTH], part[PARTS];
  for (int32_t o = 0; o < layer->outputs; o += WIDTH) {
    const int count = layer->outputs - o < WIDTH ? layer->outputs - o : WIDTH;
    for (int i = 0; i < count; i++) {
      const lanes *d = delta + (o + i) * nv;
      for (int v = 0; v < PARTS; v++) part[v] = d[v];
      for (int v = PARTS; v < nv; v++) part[v % PARTS] += d[v];
      group[i] = NAME(folded)(part);
    }
    NAME(add_sums)(group, count, gradient + o);
  }
}

static TARGET void NAME(gradients)(const struct chain *chain, const struct layer *layer,
                                   const lanes *in, const lanes *delta, int nv) {
  float *gradient = chain->gradients + layer->weights;
  if (in_stretches(layer, 24)) {
    BY_SIZE(NAME(gradients_near), nv, layer, in, delta, gradient, chain->next);
  } else {
    BY_SIZE(NAME(gradients_far), nv, layer, in, delta, gradient);
  }
  if (layer->biases < 0) return;
  BY_SIZE(NAME(bias_gradients), nv, layer, delta, chain->gradients + layer->biases);
}

INLINE TARGET void NAME(backward_of)(const struct chain *chain, const struct layer *layer,
                                     const lanes *in, const lanes *delta, lanes *out, const int nv) {
  const float *weight = chain->values + layer->weights;
  for (int32_t i = 0; i < layer->inputs; i++) {
    lanes sum[MOST];
    for (int v = 0; v < nv; v++) sum[v] = (lanes){0};
    for (int32_t k = layer->by_input[i]; k < layer->by_input[i + 1]; k++) {
      const lanes *d = delta + (int64_t)layer->output[k] * nv;
      const float w = weight[layer->place[k]];
      for (int v = 0; v < nv; v++) sum[v] += w * d[v];
    }
    const int relu = (layer - 1)->relu;
    for (int v = 0; v < nv; v++) {
      out[i * nv + v] = relu ? POSITIVE(sum[v], in[i * nv + v]) : sum[v];
    }
  }
}

/* What comes back to the inputs, through the ReLU that they came out of. */
static TARGET void NAME(backward)(const struct chain *chain, const struct layer *layer,
                                  const lanes *in, const lanes *delta, lanes *out, int nv) {
  BY_SIZE(NAME(backward_of), nv, chain, layer, in, delta, out);
}

/* Mean cross-entropy: logits (classes, examples) become its gradient. share: 1 / batch. */
static TARGET void NAME(cross_entropy)(lanes *out, int32_t classes, const int64_t *targets,
                                       const int64_t *index, int count, float share, int nv) {
  for (int v = 0; v < nv; v++) {
    lanes most = out[v], sum = (lanes){0};
    for (int32_t c = 1; c < classes; c++) {
      const lanes x = out[c * nv + v];
      const whole more = x > most;
      most = (lanes)(((whole)x & more) | ((whole)most & ~more));
    }
    for (int32_t c = 0; c < classes; c++) {
      const lanes e = NAME(exponential)(out[c * nv + v] - most);
      out[c * nv + v] = e;
      sum += e;
    }
    const lanes scale = share / sum;
    for (int32_t c = 0; c < classes; c++) out[c * nv + v] *= scale;
  }
  float *each = (float *)out;
  const int width = nv * WIDTH;
  for (int e = 0; e < count; e++) each[targets[index[e]] * width + e] -= share;
  for (int32_t c = 0; c < classes; c++) {
    for (int e = count; e < width; e++) each[c * width + e] = 0.0f;
  }
}

/* -- a tile through all layers ------------------------------------------------------------------- */

/* Vectors that hold so many examples, in whole groups. */
INLINE int NAME(vectors)(int examples) { return (examples + LANES - 1) / LANES * PARTS; }

/* Where the units of each layer lie; at[0] are the inputs. Returns what is behind them. */
INLINE lanes *NAME(places)(const struct chain *chain, lanes **at, int nv) {
  lanes *next = (lanes *)chain->space;
  at[0] = next;
  next += (int64_t)chain->layer[0].inputs * nv;
  for (int32_t l = 0; l < chain->layers; l++) {
    at[l + 1] = next;
    next += (int64_t)chain->layer[l].outputs * nv;
  }
  return next;
}

INLINE TARGET lanes *NAME(through)(const struct chain *chain, const struct data *data,
                                   const int64_t *index, int count, lanes **at, int nv) {
  lanes *behind = NAME(places)(chain, at, nv);
  NAME(gather)(data, chain->layer[0].inputs, index, count, at[0], nv);
  for (int32_t l = 0; l < chain->layers; l++) {
    NAME(forward)(chain, chain->layer + l, at[l], at[l + 1], nv);
  }
  return behind;
}

static TARGET void NAME(learn)(const struct chain *chain, const struct data *data,
                               const int64_t *index, int count, float share) {
  lanes *at[MOST_LAYERS + 1];
  const int32_t last = chain->layers - 1;
  const int nv = NAME(vectors)(count);
  lanes *behind = NAME(through)(chain, data, index, count, at, nv);
  lanes *room[2] = {behind, behind + (int64_t)widest(chain) * nv}, *delta = at[last + 1];
  NAME(cross_entropy)
  (delta, chain->layer[last].outputs, data->targets, index, count, share, nv);
  for (int32_t l = last; l >= 0; l--) {
    NAME(gradients)(chain, chain->layer + l, at[l], delta, nv);
    if (l) NAME(backward)(chain, chain->layer + l, at[l], delta, room[l % 2], nv);
    delta = room[l % 2];
  }
}

/* -- the optimiser ------------------------------------------------------------------------------- */

/* Step number `t`, from 1, at this rate; in torch's order of operations. */
INLINE TARGET void NAME(move)(const struct chain *chain, const struct optimiser *o, double rate,
                              int64_t t) {
  float *restrict p = chain->values, *restrict m = chain->first, *restrict s = chain->second;
  const float *restrict g = chain->gradients;
  const float lr = (float)rate, decay = (float)o->decay;
  if (o->kind == ADAM) {
    const float keep = (float)(1.0 - rate * o->decay), eps = (float)o->eps;
    const float to1 = (float)(1.0 - o->beta1), by2 = (float)o->beta2, to2 = (float)(1.0 - o->beta2);
    const float size = (float)(rate / (1.0 - pow(o->beta1, (double)t)));
    const float root = (float)sqrt(1.0 - pow(o->beta2, (double)t));
    for (int64_t i = 0; i < chain->count; i++) {
      m[i] += (g[i] - m[i]) * to1;
      s[i] = s[i] * by2 + to2 * g[i] * g[i];
      p[i] = p[i] * keep - size * m[i] / (sqrtf(s[i]) / root + eps);
    }
  } else if (o->momentum != 0.0) {
    const float momentum = (float)o->momentum, ahead = o->nesterov ? momentum : 0.0f;
    const float own = o->nesterov ? 1.0f : 0.0f;
    for (int64_t i = 0; i < chain->count; i++) {
      const float d = g[i] + decay * p[i];
      m[i] = momentum * m[i] + d;
      p[i] -= lr * (o->nesterov ? own * d + ahead * m[i] : m[i]);
    }
  } else {
    for (int64_t i = 0; i < chain->count; i++) p[i] -= lr * (g[i] + decay * p[i]);
  }
}

/* -- what is called from outside ----------------------------------------------------------------- */

static TARGET void NAME(train)(const struct chain *chain, const struct data *data,
                               const int64_t *index, int64_t steps, int32_t batch,
                               const struct optimiser *optimiser, const double *rates, int64_t t) {
  const float share = 1.0f / (float)batch;
  for (int64_t step = 0; step < steps; step++, index += batch) {
    memset(chain->gradients, 0, sizeof(float) * chain->count);
    for (int32_t done = 0; done < batch; done += TILE) {
      const int count = batch - done < TILE ? batch - done : TILE;
      NAME(learn)(chain, data, index + done, count, share);
    }
    NAME(move)(chain, optimiser, rates[step], t + step);
  }
}

static TARGET void NAME(tell)(const struct chain *chain, const struct data *data,
                              const int64_t *index, int count, float *out) {
  lanes *at[MOST_LAYERS + 1];
  const int nv = NAME(vectors)(count);
  NAME(through)(chain, data, index, count, at, nv);
  const int32_t classes = chain->layer[chain->layers - 1].outputs;
  const float *each = (const float *)at[chain->layers];
  for (int e = 0; e < count; e++) {
    for (int32_t c = 0; c < classes; c++) out[e * classes + c] = each[c * nv * WIDTH + e];
  }
}

static TARGET void NAME(outputs)(const struct chain *chain, const struct data *data,
                                 const int64_t *index, int64_t examples, float *out) {
  const int32_t classes = chain->layer[chain->layers - 1].outputs;
  for (int64_t done = 0; done < examples; done += TILE) {
    const int count = examples - done < TILE ? (int)(examples - done) : TILE;
    NAME(tell)(chain, data, index + done, count, out + done * classes);
  }
}

#undef BY_SIZE
#undef INLINE
#undef LANES
#undef MOST
#undef NAME
#undef PARTS
#undef POSITIVE
#undef SHUFFLE
#undef TARGET
#undef TILE
#undef WIDTH
#undef lanes
#undef whole
