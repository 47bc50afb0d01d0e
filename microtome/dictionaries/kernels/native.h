/* Shared by the compiled kernels: x86 with AVX2 and FMA, fp32, row-major, any width, no alignment asked for. */
#pragma once
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

/* The sum of eight floats, in a fixed order. */
INLINE float sum_of(__m256 eight)
{
    __m128 half = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    half = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}

/* A dot product in a fixed order of summation, so that a pair has the same value wherever it is computed. Touches `next` (may be any address)
   line by line, so that it is in the cache for the following call. */
INLINE float dot(const float *a, const float *b, int64_t d, const float *next)
{
    __m256 s0 = _mm256_setzero_ps(), s1 = s0, s2 = s0, s3 = s0;
    int64_t i = 0;
    for (; i + 32 <= d; i += 32) {
        _mm_prefetch((const char *)(next + i), _MM_HINT_T0);
        _mm_prefetch((const char *)(next + i + 16), _MM_HINT_T0);
        s0 = _mm256_fmadd_ps(_mm256_loadu_ps(a + i), _mm256_loadu_ps(b + i), s0);
        s1 = _mm256_fmadd_ps(_mm256_loadu_ps(a + i + 8), _mm256_loadu_ps(b + i + 8), s1);
        s2 = _mm256_fmadd_ps(_mm256_loadu_ps(a + i + 16), _mm256_loadu_ps(b + i + 16), s2);
        s3 = _mm256_fmadd_ps(_mm256_loadu_ps(a + i + 24), _mm256_loadu_ps(b + i + 24), s3);
    }
    for (; i + 8 <= d; i += 8)
        s0 = _mm256_fmadd_ps(_mm256_loadu_ps(a + i), _mm256_loadu_ps(b + i), s0);
    float sum = sum_of(_mm256_add_ps(_mm256_add_ps(s0, s1), _mm256_add_ps(s2, s3)));
    for (; i < d; i++)
        sum += a[i] * b[i];
    return sum;
}

/* The same of `a` with two others, whose every value is what `dot` gives: `a` is read once, and twice as many lines are on their way. */
INLINE void dot_two(const float *a, const float *const b[2], int64_t d, const float *const next[2], float *out)
{
    __m256 s0 = _mm256_setzero_ps(), s1 = s0, s2 = s0, s3 = s0, t0 = s0, t1 = s0, t2 = s0, t3 = s0;
    int64_t i = 0;
    for (; i + 32 <= d; i += 32) {
        for (int j = 0; j < 2; j++) {
            _mm_prefetch((const char *)(next[j] + i), _MM_HINT_T0);
            _mm_prefetch((const char *)(next[j] + i + 16), _MM_HINT_T0);
        }
        const __m256 a0 = _mm256_loadu_ps(a + i), a1 = _mm256_loadu_ps(a + i + 8), a2 = _mm256_loadu_ps(a + i + 16), a3 = _mm256_loadu_ps(a + i + 24);
        s0 = _mm256_fmadd_ps(a0, _mm256_loadu_ps(b[0] + i), s0);
        t0 = _mm256_fmadd_ps(a0, _mm256_loadu_ps(b[1] + i), t0);
        s1 = _mm256_fmadd_ps(a1, _mm256_loadu_ps(b[0] + i + 8), s1);
        t1 = _mm256_fmadd_ps(a1, _mm256_loadu_ps(b[1] + i + 8), t1);
        s2 = _mm256_fmadd_ps(a2, _mm256_loadu_ps(b[0] + i + 16), s2);
        t2 = _mm256_fmadd_ps(a2, _mm256_loadu_ps(b[1] + i + 16), t2);
        s3 = _mm256_fmadd_ps(a3, _mm256_loadu_ps(b[0] + i + 24), s3);
        t3 = _mm256_fmadd_ps(a3, _mm256_loadu_ps(b[1] + i + 24), t3);
    }
    for (; i + 8 <= d; i += 8) {
        s0 = _mm256_fmadd_ps(_mm256_loadu_ps(a + i), _mm256_loadu_ps(b[0] + i), s0);
        t0 = _mm256_fmadd_ps(_mm256_loadu_ps(a + i), _mm256_loadu_ps(b[1] + i), t0);
    }
    out[0] = sum_of(_mm256_add_ps(_mm256_add_ps(s0, s1), _mm256_add_ps(s2, s3)));
    out[1] = sum_of(_mm256_add_ps(_mm256_add_ps(t0, t1), _mm256_add_ps(t2, t3)));
    for (; i < d; i++) {
        out[0] += a[i] * b[0][i];
        out[1] += a[i] * b[1][i];
    }
}
