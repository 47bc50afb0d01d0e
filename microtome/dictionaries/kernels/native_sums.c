/* What follows the choice: sums and dot products over (row, feature) pairs. Every output row is made by one thread in a fixed order, so results do
   not depend on the number of threads. */
#include "native.h"

/* Whether any pair from `first` to `last` names a feature that is not there, whose row would lie outside the table. */
static int strange(const int64_t *feature, int64_t first, int64_t last, int64_t d_dict)
{
    int found = 0;
    for (int64_t i = first; i < last; i++)
        found |= (uint64_t)feature[i] >= (uint64_t)d_dict;
    return found;
}

/* out += sum of four rows by weight, and `next` touched. */
INLINE void add_four(float *out, const float *const row[4], const float weight[4], int64_t d, const float *const next[4])
{
    const __m256 w0 = _mm256_set1_ps(weight[0]), w1 = _mm256_set1_ps(weight[1]), w2 = _mm256_set1_ps(weight[2]), w3 = _mm256_set1_ps(weight[3]);
    int64_t i = 0;
    for (; i + 16 <= d; i += 16) {
        for (int j = 0; j < 4; j++)
            _mm_prefetch((const char *)(next[j] + i), _MM_HINT_T0);
        for (int64_t h = i; h < i + 16; h += 8) {
            __m256 a = _mm256_fmadd_ps(w0, _mm256_loadu_ps(row[0] + h), _mm256_loadu_ps(out + h));
            __m256 b = _mm256_mul_ps(w2, _mm256_loadu_ps(row[2] + h));
            a = _mm256_fmadd_ps(w1, _mm256_loadu_ps(row[1] + h), a);
            b = _mm256_fmadd_ps(w3, _mm256_loadu_ps(row[3] + h), b);
            _mm256_storeu_ps(out + h, _mm256_add_ps(a, b));
        }
    }
    for (; i < d; i++)
        out[i] += (weight[0] * row[0][i] + weight[1] * row[1][i]) + (weight[2] * row[2][i] + weight[3] * row[3][i]);
}

/* out = sum over `count` pairs of weight * table[index]; weight of pair i is at weights[place ? place[i] : i]. */
INLINE void weighted_sum(float *out, const int64_t *index, const float *weights, const int64_t *place, int64_t count, const float *table, int64_t d)
{
    memset(out, 0, sizeof(float) * d);
    for (int64_t i = 0; i < count; i += 4) {
        const float *row[4], *next[4];
        float weight[4];
        for (int j = 0; j < 4; j++) {
            const int64_t now = i + j < count ? i + j : count - 1, then = i + j + 4 < count ? i + j + 4 : count - 1;
            row[j] = table + index[now] * d;
            next[j] = table + index[then] * d;
            weight[j] = weights[place ? place[now] : now];
        }
        if (i + 4 <= count)
            add_four(out, row, weight, d, next);
        else /* one by one: a padding weight of 0 times a row that is not finite would not be 0 */
            for (int64_t now = i; now < count; now++) {
                const float *one = table + index[now] * d, by = weights[place ? place[now] : now];
                for (int64_t c = 0; c < d; c++)
                    out[c] += by * one[c];
            }
    }
}

/* decode: rows `first` to `last` of out [n, d]. Returns -1 for a feature outside the table, as the functions below do. */
int64_t microtome_decode(const int64_t *indptr, const int64_t *feature, const float *values, const float *table, int64_t d_dict, int64_t d, float *out,
                         int64_t first, int64_t last)
{
    if (strange(feature, indptr[first], indptr[last], d_dict))
        return -1;
    for (int64_t r = first; r < last; r++)
        weighted_sum(out + r * d, feature + indptr[r], values + indptr[r], 0, indptr[r + 1] - indptr[r], table, d);
    return 0;
}

/* row_dots: pairs of the rows `first` to `last`. */
int64_t microtome_row_dots(const int64_t *indptr, const int64_t *feature, const float *rows, const float *table, int64_t d_dict, int64_t d, float *out,
                           int64_t first, int64_t last)
{
    const int64_t end = indptr[last];
    if (strange(feature, indptr[first], end, d_dict))
        return -1;
    for (int64_t r = first; r < last; r++) {
        int64_t i = indptr[r];
        for (; i + 2 <= indptr[r + 1]; i += 2) {
            const float *row[2], *next[2];
            for (int j = 0; j < 2; j++) {
                row[j] = table + feature[i + j] * d;
                next[j] = table + feature[i + j + 2 < end ? i + j + 2 : i + j] * d;
            }
            dot_two(rows + r * d, row, d, next, out + i);
        }
        if (i < indptr[r + 1])
            out[i] = dot(rows + r * d, table + feature[i] * d, d, table + feature[i + 1 < end ? i + 1 : i] * d);
    }
    return 0;
}

/* Counting sort of the pairs by feature; rows ascend within a feature. `offsets` has d_dict + 1 entries. */
int64_t microtome_by_feature(const int64_t *indptr, const int64_t *feature, int64_t rows, int64_t d_dict, int64_t *order, int64_t *row, int64_t *offsets)
{
    const int64_t nnz = indptr[rows];
    if (strange(feature, 0, nnz, d_dict))
        return -1;
    memset(offsets, 0, sizeof(int64_t) * (d_dict + 1));
    for (int64_t i = 0; i < nnz; i++)
        offsets[feature[i] + 1]++;
    for (int64_t f = 0; f < d_dict; f++)
        offsets[f + 1] += offsets[f];
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = indptr[r]; i < indptr[r + 1]; i++) {
            const int64_t at = offsets[feature[i]]++;
            order[at] = i;
            row[at] = r;
        }
    for (int64_t f = d_dict; f > 0; f--) /* each offset has moved to the end of its feature */
        offsets[f] = offsets[f - 1];
    offsets[0] = 0;
    return 0;
}

/* feature_sums: features `first` to `last` of out [d_dict, d], from the sorted pairs. */
void microtome_feature_sums(const int64_t *offsets, const int64_t *order, const int64_t *row, const float *weights, const float *rows, int64_t d, float *out,
                            int64_t first, int64_t last)
{
    for (int64_t f = first; f < last; f++)
        weighted_sum(out + f * d, row + offsets[f], weights, order + offsets[f], offsets[f + 1] - offsets[f], rows, d);
}

/* The `wanted` largest pairs, in their order, where `least` is the value of the last of them; of those equal to it, the later ones. `indptr` has
   `rows` + 1 entries, as `new_indptr` will; more than `wanted` come only where values are no numbers, which are kept: there is room for all. */
int64_t microtome_largest(const int64_t *indptr, const int64_t *feature, const float *pre, int64_t rows, float least, int64_t wanted, int64_t *new_indptr,
                          int64_t *new_feature, float *new_pre)
{
    int64_t reach = 0, at = 0;
    for (int64_t i = 0; i < indptr[rows]; i++)
        reach += !(pre[i] < least);
    int64_t spare = reach - wanted;
    new_indptr[0] = 0;
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t i = indptr[r]; i < indptr[r + 1]; i++) {
            const int tied = pre[i] == least && spare > 0;
            spare -= tied;
            new_feature[at] = feature[i];
            new_pre[at] = pre[i];
            at += !(pre[i] < least) && !tied;
        }
        new_indptr[r + 1] = at;
    }
    return at;
}
