/* Causal attention in fp32, as attention.py beside it documents it. x86 with AVX2 and FMA, vectors as wide as the processor's.

   It goes head by head of the keys, whose transpose is laid out in panels of COLUMNS keys once for all the heads that share it, and BLOCK
   queries at a time: their scores with every key that they may see, the softmax of each row, then the weighted sum of the values. Keys and values are
   taken in tiles that stay in the cache for all queries of the block. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#ifdef __AVX512F__
enum { WIDTH = 16, VECTORS = 4 };
#else
enum { WIDTH = 8, VECTORS = 2 };
#endif
enum { ROWS = 6, COLUMNS = WIDTH * VECTORS, BLOCK = 8 * ROWS, TILE = 256 };
typedef float Floats __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias));
typedef int32_t Ints __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias));
#define INLINE static inline __attribute__((always_inline))
#define LESS(a, b) ((a) < (b) ? (a) : (b))

typedef struct {
    int64_t batch, head, position; /* how far apart, in floats; the last axis is dense */
} Strides;

typedef struct {
    int64_t heads, key_heads, positions, width;
    float scale;
    Strides q, k, v, out;
} Shape;

INLINE Floats choose(Ints where, Floats a, Floats b)
{
    return (Floats)((where & (Ints)a) | (~where & (Ints)b));
}

/* e^x for x up to 0, that of -87 below; NaN stays. Relative error below 2e-7 (the polynomial is Cephes'). */
INLINE Floats exponential(Floats x)
{
    const Floats shift = (Floats){} + 12582912.0f; /* 1.5 * 2^23: what is added to it loses its fraction */
    x = choose(x < -87.0f, (Floats){} - 87.0f, x);
    const Floats power = x * 1.44269504f + shift, whole = power - shift;
    const Floats r = x - whole * 0.693359375f + whole * 2.12194440e-4f;
    Floats y = r * 1.9875691500e-4f + 1.3981999507e-3f;
    y = y * r + 8.3334519073e-3f;
    y = y * r + 4.1665795894e-2f;
    y = y * r + 1.6666665459e-1f;
    y = y * r + 5.0000001201e-1f;
    y = y * r * r + r + 1.0f;
    const Floats scaled = (Floats)((Ints)y + (((Ints)power - (Ints)shift) << 23));
    return choose(x == x, scaled, x);
}

/* Keys of one head, [positions][width], as panels [width][COLUMNS]; those behind the last are 0. */
static void lay_out(const float *k, int64_t stride, const Shape *shape, float *panels)
{
    for (int64_t first = 0; first < shape->positions; first += COLUMNS, panels += shape->width * COLUMNS)
        for (int64_t column = 0; column < COLUMNS; column++)
            for (int64_t i = 0; i < shape->width; i++)
                panels[i * COLUMNS + column] = first + column < shape->positions ? k[(first + column) * stride + i] : 0;
}

/* COLUMNS columns of ROWS rows of `a` times `b`, over the columns of a (rows of b) `from` to `to`: written to `out`, or with `adds` added to it. */
INLINE void multiply(const float *a, int64_t a_apart, const float *b, int64_t b_apart, int64_t from, int64_t to, float *out, int64_t out_apart, int adds)
{
    Floats sum[ROWS][VECTORS] = {};
    for (int row = 0; adds && row < ROWS; row++)
        for (int n = 0; n < VECTORS; n++)
            sum[row][n] = *(const Floats *)(out + row * out_apart + n * WIDTH);
    for (int64_t i = from; i < to; i++) {
        Floats other[VECTORS];
        for (int n = 0; n < VECTORS; n++)
            other[n] = *(const Floats *)(b + i * b_apart + n * WIDTH);
        for (int row = 0; row < ROWS; row++)
            for (int n = 0; n < VECTORS; n++)
                sum[row][n] += a[row * a_apart + i] * other[n];
    }
    for (int row = 0; row < ROWS; row++)
        for (int n = 0; n < VECTORS; n++)
            *(Floats *)(out + row * out_apart + n * WIDTH) = sum[row][n];
}

/* Scores of a row become e^(score - largest), 0 behind the first `seen`; returns 1 / their sum. */
static float soften(float *row, int64_t seen, int64_t end)
{
    float largest = row[0], total = 0;
    for (int64_t i = seen; i < end; i++)
        row[i] = -INFINITY; /* all vectors are whole */
    Floats most = (Floats){} + row[0], sum = {};
    int64_t i = 0;
    for (; i < end; i += WIDTH) {
        const Floats here = *(Floats *)(row + i);
        most = choose(here > most, here, most);
    }
    for (int n = 0; n < WIDTH; n++)
        largest = most[n] > largest ? most[n] : largest;
    for (i = 0; i < end; i += WIDTH) {
        const Floats e = exponential(*(Floats *)(row + i) - largest);
        *(Floats *)(row + i) = e;
        if (i + WIDTH <= seen)
            sum += e;
    }
    for (int64_t last = seen / WIDTH * WIDTH; last < seen; last++)
        total += row[last];
    for (int n = 0; n < WIDTH; n++)
        total += sum[n];
    memset(row + seen, 0, sizeof(float) * (end - seen));
    return 1 / total;
}

/* BLOCK queries from `first` on, of one head. scratch: queries [BLOCK][width], outputs the same, scores [BLOCK][positions rounded up]. */
static void attend(const Shape *shape, const float *q, const float *panels, const float *v, float *out, int64_t first, float *scratch)
{
    const int64_t width = shape->width, count = LESS(BLOCK, shape->positions - first);
    const int64_t stride = (shape->positions + COLUMNS - 1) / COLUMNS * COLUMNS, seen = first + count;
    float *queries = scratch, *sums = queries + BLOCK * width, *scores = sums + BLOCK * width;
    memset(queries, 0, sizeof(float) * 2 * BLOCK * width);
    for (int64_t row = 0; row < count; row++)
        for (int64_t i = 0; i < width; i++)
            queries[row * width + i] = q[(first + row) * shape->q.position + i] * shape->scale;
    for (int64_t from = 0; from < seen; from += COLUMNS)
        for (int64_t row = 0; row < count; row += ROWS)
            if (from < first + row + ROWS)
                multiply(queries + row * width, width, panels + from * width, COLUMNS, 0, width, scores + row * stride + from, stride, 0);
    float share[BLOCK];
    for (int64_t row = 0; row < count; row++) {
        const int64_t end = first + LESS(row / ROWS * ROWS + ROWS, count);
        share[row] = soften(scores + row * stride, first + row + 1, (end + WIDTH - 1) / WIDTH * WIDTH);
    }
    for (int64_t row = count; row % ROWS; row++)
        memset(scores + row * stride, 0, sizeof(float) * seen);
    for (int64_t from = 0; from < seen; from += TILE)
        for (int64_t row = 0; row < count; row += ROWS) {
            const int64_t to = LESS(LESS(from + TILE, seen), first + row + ROWS);
            for (int64_t i = 0; i < width && from < to; i += COLUMNS)
                multiply(scores + row * stride, stride, v + i, shape->v.position, from, to, sums + row * width + i, width, 1);
        }
    for (int64_t row = 0; row < count; row++)
        for (int64_t i = 0; i < width; i++)
            out[(first + row) * shape->out.position + i] = sums[row * width + i] * share[row];
}

/* Heads of keys `first` to `last`, counted through the batch, with all heads of queries that share them. */
void microtome_attention(const Shape *shape, const float *q, const float *k, const float *v, float *out, float *scratch, int64_t first, int64_t last)
{
    const int64_t shared = shape->heads / shape->key_heads;
    float *rest = scratch + (shape->positions + COLUMNS - 1) / COLUMNS * COLUMNS * shape->width;
    for (int64_t at = first; at < last; at++) {
        const int64_t batch = at / shape->key_heads, key_head = at % shape->key_heads;
        const float *values = v + batch * shape->v.batch + key_head * shape->v.head;
        lay_out(k + batch * shape->k.batch + key_head * shape->k.head, shape->k.position, shape, scratch);
        for (int64_t head = key_head * shared; head < (key_head + 1) * shared; head++)
            for (int64_t start = 0; start < shape->positions; start += BLOCK)
                attend(shape, q + batch * shape->q.batch + head * shape->q.head, scratch, values,
                       out + batch * shape->out.batch + head * shape->out.head, start, rest);
    }
}
