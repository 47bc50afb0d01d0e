/* What fires with a component: sums over the rows of the tokens where it fires (coactivation.py has the formulas and the same in numpy).

   A row's features are ascending and its members' runs follow each other, so a run adds into a narrow part of the sums. Products are rounded before
   they are added, and a feature's tokens come in their order, as numpy has them: the sums are the same to the bit. What comes next is fetched ahead,
   since the rows of a rare feature lie far apart. */
#include <immintrin.h>
#include <stdint.h>

enum { FAR = 16, NEAR = 8, LINE = 64, EIGHT = 8 };

typedef struct {
    const int64_t *indptr;
    const void *ids, *values, *bounds; /* bounds: where each member's run begins within the row; NULL with one member */
    const float *scales;               /* [tokens, n_members]; NULL where weights are the tokens' alone */
    int64_t n_members, wide_ids, wide_values, wide_bounds; /* wide: 32 bits, else 16 */
    int64_t nnz, n_features;
} Forward;

typedef struct {
    double product, gate, count, none;
} Sum;

static inline int64_t bound(const Forward *rows, int64_t row, int64_t member)
{
    const int64_t first = rows->indptr[row];
    if (member == rows->n_members)
        return rows->indptr[row + 1];
    if (!rows->bounds)
        return first;
    const int64_t at = row * rows->n_members + member;
    return first + (rows->wide_bounds ? ((const uint32_t *)rows->bounds)[at] : ((const uint16_t *)rows->bounds)[at]);
}

static inline void fetch(const void *all, int64_t first, int64_t last, int wide)
{
    const char *at = (const char *)all + first * (wide ? 4 : 2), *end = (const char *)all + last * (wide ? 4 : 2);
    for (; at < end; at += LINE)
        _mm_prefetch(at, _MM_HINT_T0);
}

static inline int add(Sum *sums, int64_t feature, int64_t n_features, __m256d own, double product)
{
    if (feature >= n_features)
        return -1;
    const __m256d added = _mm256_blend_pd(own, _mm256_castpd128_pd256(_mm_set_sd(product)), 1);
    double *at = &sums[feature].product;
    _mm256_storeu_pd(at, _mm256_add_pd(_mm256_loadu_pd(at), added));
    return 0;
}

static inline int run(const Forward *rows, int64_t at, int64_t end, double weight, Sum *sums)
{
    if (at < 0 || end < at || end > rows->nnz)
        return -1;
    int wrong = 0;
    const __m256d own = _mm256_set_pd(0, 1, weight, 0), times = _mm256_set1_pd(weight);
    const uint16_t *narrow = rows->ids;
    const uint32_t *wide = rows->ids;
    for (; at < end; at += EIGHT) {
        const int64_t n = end - at < EIGHT ? end - at : EIGHT;
        float values[EIGHT] = {0};
        double products[EIGHT];
        if (n == EIGHT && rows->wide_values)
            _mm256_storeu_ps(values, _mm256_loadu_ps((const float *)rows->values + at));
        else if (n == EIGHT)
            _mm256_storeu_ps(values, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)((const uint16_t *)rows->values + at))));
        else
            for (int64_t i = 0; i < n; i++)
                values[i] = rows->wide_values ? ((const float *)rows->values)[at + i] : _cvtsh_ss(((const uint16_t *)rows->values)[at + i]);
        _mm256_storeu_pd(products, _mm256_mul_pd(times, _mm256_cvtps_pd(_mm_loadu_ps(values))));
        _mm256_storeu_pd(products + 4, _mm256_mul_pd(times, _mm256_cvtps_pd(_mm_loadu_ps(values + 4))));
        if (rows->wide_ids)
            for (int64_t i = 0; i < n; i++)
                wrong |= add(sums, wide[at + i], rows->n_features, own, products[i]);
        else
            for (int64_t i = 0; i < n; i++)
                wrong |= add(sums, narrow[at + i], rows->n_features, own, products[i]);
    }
    return wrong;
}

/* Adds the rows `token[0 … n - 1]` with their weights into `sums`, of the members first … last - 1 alone. -1 where the file is damaged. */
int64_t microtome_join(const Forward *rows, const int64_t *token, const double *weight, int64_t n, int64_t first, int64_t last, Sum *sums)
{
    for (int64_t t = 0; t < n; t++) {
        if (t + FAR < n) {
            const int64_t far = token[t + FAR];
            _mm_prefetch((const char *)(rows->indptr + far), _MM_HINT_T0);
            if (rows->bounds)
                fetch(rows->bounds, far * rows->n_members + first, far * rows->n_members + last, (int)rows->wide_bounds);
            if (rows->scales)
                fetch(rows->scales, far * rows->n_members + first, far * rows->n_members + last, 1);
        }
        if (t + NEAR < n) {
            const int64_t from = bound(rows, token[t + NEAR], first), to = bound(rows, token[t + NEAR], last);
            fetch(rows->ids, from, to, (int)rows->wide_ids);
            fetch(rows->values, from, to, (int)rows->wide_values);
        }
        int64_t at = bound(rows, token[t], first);
        if (!rows->scales) {
            if (run(rows, at, bound(rows, token[t], last), weight[t], sums))
                return -1;
            continue;
        }
        const float *scale = rows->scales + token[t] * rows->n_members;
        for (int64_t member = first; member < last; member++) {
            const int64_t end = bound(rows, token[t], member + 1);
            if (run(rows, at, end, weight[t] * scale[member], sums))
                return -1;
            at = end;
        }
    }
    return 0;
}
