/* The optimiser's step on rows of weights, and what keeps a row at norm 1, in one pass over memory: a row and its moments stay in the nearest cache. */
#include "native.h"
#include <math.h>

typedef struct {
    float rate;          /* learning rate / (1 - beta1^t) */
    float root;          /* 1 / sqrt(1 - beta2^t) */
    float beta1, beta2, eps;
    float copies;        /* rows are held at norm 1 / sqrt(copies), without what the gradient has along them; 0: neither */
} Adam;

/* Rows `first` to `last` of w, g (gradient), m and v (its moments), all [rows, d]; g is only read. */
void microtome_adam(const Adam *a, float *weights, const float *gradient, float *first_moment, float *second_moment, int64_t d, int64_t first, int64_t last)
{
    const __m256 rate = _mm256_set1_ps(a->rate), root = _mm256_set1_ps(a->root), eps = _mm256_set1_ps(a->eps);
    const __m256 keep1 = _mm256_set1_ps(a->beta1), take1 = _mm256_set1_ps(1 - a->beta1);
    const __m256 keep2 = _mm256_set1_ps(a->beta2), take2 = _mm256_set1_ps(1 - a->beta2);
    for (int64_t r = first; r < last; r++) {
        float *w = weights + r * d, *m = first_moment + r * d, *v = second_moment + r * d;
        const float *g = gradient + r * d;
        const float along = a->copies > 0 ? a->copies * dot(g, w, d, g + d) : 0;
        const __m256 part = _mm256_set1_ps(along);
        int64_t i = 0;
        for (; i + 8 <= d; i += 8) {
            const __m256 old = _mm256_loadu_ps(w + i), slope = _mm256_fnmadd_ps(part, old, _mm256_loadu_ps(g + i));
            const __m256 one = _mm256_fmadd_ps(keep1, _mm256_loadu_ps(m + i), _mm256_mul_ps(take1, slope));
            const __m256 two = _mm256_fmadd_ps(keep2, _mm256_loadu_ps(v + i), _mm256_mul_ps(take2, _mm256_mul_ps(slope, slope)));
            const __m256 size = _mm256_fmadd_ps(_mm256_sqrt_ps(two), root, eps);
            _mm256_storeu_ps(m + i, one);
            _mm256_storeu_ps(v + i, two);
            _mm256_storeu_ps(w + i, _mm256_fnmadd_ps(rate, _mm256_div_ps(one, size), old));
        }
        for (; i < d; i++) {
            const float slope = g[i] - along * w[i];
            m[i] = a->beta1 * m[i] + (1 - a->beta1) * slope;
            v[i] = a->beta2 * v[i] + (1 - a->beta2) * slope * slope;
            w[i] -= a->rate * (m[i] / (sqrtf(v[i]) * a->root + a->eps));
        }
        if (a->copies > 0) {
            const float scale = 1 / sqrtf(a->copies * dot(w, w, d, w));
            for (i = 0; i < d; i++)
                w[i] *= scale;
        }
    }
}
