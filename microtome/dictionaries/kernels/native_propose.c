/* Which features are active: an int8 product proposes them, fp32 decides.

   The product. Columns are balanced first, x'_d = x_d / s_d and w'_d = w_d s_d, since a residual stream has a few columns far larger than the rest.
   A row x' becomes q + 64 with q in -63..63 (unsigned bytes), a feature w' becomes -31..31 (signed bytes), each with a scale of its own. maddubs
   multiplies 32 such pairs and adds them two by two into int16; four such sums stay below 4 * 2 * 127 * 31 = 31,496 < 2^15, so they are added in
   int16 without overflow, and only then widened. That is four times the throughput of fp32. The 64s add 64 * sum(w'), which the sum starts without.

   The margin. What rounding took from a row is known, r_x = |x' - sx q|, and from a feature too, r_w. A score is therefore off by about
   (r_x |w'| + |x'| r_w) / sqrt(d), one standard deviation, as the roundings are independent of what they are multiplied with. Every feature whose score
   comes within `sigmas` deviations of the k-th best of its row is a candidate; candidates get their fp32 value, and the k best of those are the result.

   The guess. A row's k-th best score is about as large, beside the row's norm, as that of the rows before it: a row begins with that less three standard
   deviations as its threshold, which spares most of the candidates that only the first features would be. Where fewer than k scores reach the guess,
   the row is done again without; so the result does not depend on it.

   A row that is not finite gets arbitrary features, and a feature that is not finite is always proposed: the loss shows both. */
#include "native.h"
#include <float.h>
#include <math.h>
#include <stdlib.h>

enum { PANEL = 16, TILE = 12, BLOCK = 48, WIDEN = 4, LEVELS_X = 63, OFFSET = 64, LEVELS_W = 31 };
enum { EXACT = 1, COARSE = 1 << 12 }; /* steps of a float; the latter a relative precision of 2^-11 */
#define TINY 1e-36f /* what is smaller throughout counts as 0 */

typedef struct {
    int64_t d_dict, d, groups; /* groups of 4 columns, a multiple of WIDEN */
    const float *W, *balance; /* balance: s_d */
    int8_t *weights;  /* [panel][group][PANEL][4] */
    int32_t *start;   /* [panel * PANEL] -OFFSET * sum(w') */
    float *scale;     /* the same shape, and so below */
    float *lift;      /* added to the score: FLT_MAX for a feature that is not finite, -FLT_MAX in the padding, else 0 */
    float *norm;      /* |w'| / sqrt(d) */
    float *residual;  /* r_w / sqrt(d) */
} Table;

typedef struct {
    float scale, total, lost; /* of a level; sums of squares in levels, of the values and of what rounding took */
    int finite;
} Rounded;

/* `values`, padded with zeros to a multiple of 8, as whole numbers from -levels to levels, in place; the largest becomes `levels`. */
static Rounded round_all(float *values, int64_t padded, int levels)
{
    const __m256 sign = _mm256_set1_ps(-0.0f);
    __m256 most = _mm256_setzero_ps(), total = most, lost = most;
    for (int64_t i = 0; i < padded; i += 8)
        most = _mm256_max_ps(_mm256_andnot_ps(sign, _mm256_loadu_ps(values + i)), most); /* passes by what is not a number */
    float each[8], largest = 0;
    _mm256_storeu_ps(each, most);
    for (int i = 0; i < 8; i++)
        largest = each[i] > largest ? each[i] : largest;
    const int some = largest > TINY;
    const __m256 inverse = _mm256_set1_ps(some ? levels / largest : 0);
    for (int64_t i = 0; i < padded; i += 8) {
        const __m256 level = _mm256_mul_ps(_mm256_loadu_ps(values + i), inverse);
        const __m256 whole = _mm256_round_ps(level, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC), off = _mm256_sub_ps(level, whole);
        total = _mm256_fmadd_ps(level, level, total); /* not finite where any value is not */
        lost = _mm256_fmadd_ps(off, off, lost);
        _mm256_storeu_ps(values + i, whole);
    }
    Rounded rounded = {some ? largest / levels : 0, sum_of(total), sum_of(lost), 0};
    rounded.finite = rounded.total <= FLT_MAX;
    return rounded;
}

/* Quantise the features of some panels. */
void microtome_quantise(const Table *t, int64_t first_panel, int64_t last_panel)
{
    const int64_t padded = 4 * t->groups;
    float *scaled = calloc(padded, sizeof(float));
    int8_t *bytes = calloc(padded, 1);
    const float root = 1 / sqrtf((float)t->d);
    for (int64_t f = first_panel * PANEL; f < last_panel * PANEL; f++) {
        int32_t sum = 0;
        memset(scaled, 0, sizeof(float) * padded);
        if (f < t->d_dict) {
            const float *w = t->W + f * t->d;
            for (int64_t i = 0; i < t->d; i++)
                scaled[i] = w[i] * t->balance[i];
        }
        const Rounded rounded = round_all(scaled, padded, LEVELS_W);
        const int ok = rounded.finite;
        for (int64_t i = 0; i < padded; i++) {
            const int32_t level = ok ? (int32_t)scaled[i] : 0;
            bytes[i] = (int8_t)level;
            sum += level;
        }
        int8_t *out = t->weights + (f / PANEL) * t->groups * PANEL * 4 + (f % PANEL) * 4;
        for (int64_t g = 0; g < t->groups; g++)
            memcpy(out + g * PANEL * 4, bytes + 4 * g, 4);
        t->start[f] = -OFFSET * sum;
        t->scale[f] = ok ? rounded.scale : 0;
        t->norm[f] = ok ? sqrtf(rounded.total) * rounded.scale * root : 0;
        t->residual[f] = ok ? sqrtf(rounded.lost) * rounded.scale * root : 0;
        t->lift[f] = f >= t->d_dict ? -FLT_MAX : ok ? 0 : FLT_MAX;
    }
    free(scaled);
    free(bytes);
}

typedef struct {
    float scale, norm, residual; /* |x'|, r_x, both times the number of sigmas */
    float threshold, guess;      /* a candidate's score plus its margin reaches the threshold, which begins at the guess */
    int64_t count, limit;        /* candidates so far; prune at this number */
    int finite;
} Row;

/* Quantise a row into its lane of a tile: [group][TILE][4]. */
static void quantise_row(const Table *t, const float *x, float sigmas, Row *row, uint8_t *out, float *scaled)
{
    for (int64_t i = 0; i < t->d; i++)
        scaled[i] = x[i] / t->balance[i];
    for (int64_t i = t->d; i < 4 * t->groups; i++)
        scaled[i] = 0;
    const Rounded rounded = round_all(scaled, 4 * t->groups, LEVELS_X);
    const int ok = row->finite = rounded.finite;
    for (int64_t g = 0; g < t->groups; g++) {
        uint8_t four[4];
        for (int i = 0; i < 4; i++)
            four[i] = (uint8_t)(OFFSET + (ok ? (int32_t)scaled[4 * g + i] : 0));
        memcpy(out + g * TILE * 4, four, 4);
    }
    row->scale = ok ? rounded.scale : 0;
    row->norm = ok ? sigmas * rounded.scale * sqrtf(rounded.total) : 0;
    row->residual = ok ? sigmas * rounded.scale * sqrtf(rounded.lost) : 0;
}

/* TILE rows times PANEL features. The weights of WIDEN groups stay in eight registers while the rows pass by. */
static __attribute__((noinline)) void product(const uint8_t *x, const int8_t *w, int64_t groups, __m256i sums[TILE][2])
{
    const __m256i ones = _mm256_set1_epi16(1);
    for (int64_t g = 0; g < groups; g += WIDEN, x += WIDEN * TILE * 4, w += WIDEN * PANEL * 4) {
        __m256i weights[WIDEN][2];
        for (int j = 0; j < WIDEN; j++)
            for (int c = 0; c < 2; c++)
                weights[j][c] = _mm256_loadu_si256((const __m256i *)(w + 64 * j + 32 * c));
#pragma GCC unroll 8
        for (int r = 0; r < TILE; r++) {
            __m256i narrow[2];
#pragma GCC unroll 4
            for (int j = 0; j < WIDEN; j++) {
                int32_t four;
                memcpy(&four, x + TILE * 4 * j + 4 * r, 4);
                const __m256i lanes = _mm256_set1_epi32(four);
                const __m256i p0 = _mm256_maddubs_epi16(lanes, weights[j][0]), p1 = _mm256_maddubs_epi16(lanes, weights[j][1]);
                narrow[0] = j ? _mm256_add_epi16(narrow[0], p0) : p0;
                narrow[1] = j ? _mm256_add_epi16(narrow[1], p1) : p1;
            }
            sums[r][0] = _mm256_add_epi32(sums[r][0], _mm256_madd_epi16(narrow[0], ones));
            sums[r][1] = _mm256_add_epi32(sums[r][1], _mm256_madd_epi16(narrow[1], ones));
        }
    }
}

/* Floats in an order that integers have. */
INLINE int32_t key_of(float value)
{
    int32_t bits;
    memcpy(&bits, &value, 4);
    return bits ^ ((bits >> 31) & 0x7fffffff);
}

INLINE float of_key(int32_t key)
{
    float value;
    key ^= (key >> 31) & 0x7fffffff;
    memcpy(&value, &key, 4);
    return value;
}

/* A value that at least k of the scores reach, and hardly more than k: bisection, to `close` steps of a float. At 1 it is the k-th largest score. */
static float reached_by(const float *score, int64_t count, int64_t k, int64_t close)
{
    float low = FLT_MAX, high = -FLT_MAX;
    for (int64_t i = 0; i < count; i++) {
        low = score[i] < low ? score[i] : low;
        high = score[i] > high ? score[i] : high;
    }
    int64_t least = key_of(low), most = (int64_t)key_of(high) + 1;
    while (most - least > close) {
        const int64_t middle = least + (most - least) / 2;
        const float at = of_key((int32_t)middle);
        const __m256 wide = _mm256_set1_ps(at);
        int64_t reach = 0, i = 0;
        for (; i + 8 <= count; i += 8)
            reach += __builtin_popcount(_mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(score + i), wide, _CMP_GE_OQ)));
        for (; i < count; i++)
            reach += score[i] >= at;
        if (reach >= k)
            least = middle;
        else
            most = middle;
    }
    return of_key((int32_t)least);
}

typedef struct {
    float *score, *upper; /* upper = score + margin */
    int32_t *feature;
} List;

/* Raise a row's threshold to its k-th best score, which is returned, and drop what stays behind it. */
static float prune(Row *row, List list, int64_t k, int64_t close)
{
    const float reached = reached_by(list.score, row->count, k, close);
    row->threshold = reached > row->threshold ? reached : row->threshold;
    int64_t kept = 0;
    for (int64_t i = 0; i < row->count; i++) {
        list.score[kept] = list.score[i];
        list.upper[kept] = list.upper[i];
        list.feature[kept] = list.feature[i];
        kept += list.upper[i] >= row->threshold;
    }
    row->count = kept;
    return reached;
}

/* The candidates of a tile and a panel. Few features are any after the first panels, so a row's sixteen are tested at once. */
INLINE void collect(const Table *t, const float *base, int64_t panel, __m256i sums[TILE][2], int absolute, Row *rows, const List *lists)
{
    const __m256 sign = absolute ? _mm256_set1_ps(-0.0f) : _mm256_setzero_ps();
    const int64_t at = panel * PANEL, real = t->d_dict - at;
    const unsigned there = real < PANEL ? (1u << real) - 1 : 0xffff;
    __m256 scale[2], bias[2], norm[2], residual[2];
    for (int c = 0; c < 2; c++) {
        scale[c] = _mm256_loadu_ps(t->scale + at + 8 * c), bias[c] = _mm256_loadu_ps(base + at + 8 * c);
        norm[c] = _mm256_loadu_ps(t->norm + at + 8 * c), residual[c] = _mm256_loadu_ps(t->residual + at + 8 * c);
    }
    for (int r = 0; r < TILE; r++) {
        const Row *row = rows + r;
        const __m256 row_scale = _mm256_set1_ps(row->scale), row_residual = _mm256_set1_ps(row->residual), row_norm = _mm256_set1_ps(row->norm);
        const __m256 threshold = _mm256_set1_ps(row->threshold);
        __m256 score[2], upper[2];
        unsigned passed = 0;
        for (int c = 0; c < 2; c++) {
            const __m256 signed_score = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums[r][c]), _mm256_mul_ps(scale[c], row_scale), bias[c]);
            score[c] = _mm256_andnot_ps(sign, signed_score);
            upper[c] = _mm256_fmadd_ps(norm[c], row_residual, _mm256_fmadd_ps(residual[c], row_norm, score[c]));
            passed |= (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(upper[c], threshold, _CMP_GE_OQ)) << (8 * c);
        }
        passed &= there;
        if (__builtin_expect(!passed, 1))
            continue;
        float scores[PANEL], uppers[PANEL];
        for (int c = 0; c < 2; c++) {
            _mm256_storeu_ps(scores + 8 * c, score[c]);
            _mm256_storeu_ps(uppers + 8 * c, upper[c]);
        }
        int64_t count = row->count;
        for (; passed; passed &= passed - 1, count++) {
            const int i = __builtin_ctz(passed);
            lists[r].score[count] = scores[i];
            lists[r].upper[count] = uppers[i];
            lists[r].feature[count] = (int32_t)(at + i);
        }
        rows[r].count = count;
    }
}

/* Move the k entries with the largest keys to the front (quickselect). */
static void select_largest(float *key, float *value, int32_t *feature, int64_t count, int64_t k)
{
    int64_t low = 0, high = count - 1;
    while (low < high) {
        const float pivot = key[low + (high - low) / 2];
        int64_t i = low, j = high;
        while (i <= j) {
            while (key[i] > pivot) i++;
            while (key[j] < pivot) j--;
            if (i <= j) {
                float a = key[i]; key[i] = key[j]; key[j] = a;
                a = value[i]; value[i] = value[j]; value[j] = a;
                int32_t b = feature[i]; feature[i] = feature[j]; feature[j] = b;
                i++, j--;
            }
        }
        if (k - 1 <= j) high = j;
        else if (k - 1 >= i) low = i;
        else return;
    }
}

/* fp32 values of a row's candidates into list.score. */
static void rescore(const Table *t, const float *b, const float *x, int64_t count, List list)
{
    int64_t i = 0;
    for (; i + 2 <= count; i += 2) {
        const float *row[2], *next[2];
        for (int j = 0; j < 2; j++) {
            row[j] = t->W + list.feature[i + j] * t->d;
            next[j] = t->W + list.feature[i + j + 2 < count ? i + j + 2 : i + j] * t->d;
        }
        dot_two(x, row, t->d, next, list.score + i);
    }
    if (i < count)
        list.score[i] = dot(x, t->W + list.feature[i] * t->d, t->d, x);
    for (i = 0; i < count; i++)
        list.score[i] += b[list.feature[i]];
}

typedef struct {
    double count, sum, squares; /* of rows done: their thresholds beside their norms */
} Habit;

typedef struct {
    Row rows[BLOCK];
    List lists[BLOCK];
    uint8_t *x;
    float *scaled, *floats;
    int32_t *ints;
} Scratch;

static int begin(Scratch *s, const Table *t)
{
    const int64_t width = t->d_dict + PANEL;
    s->x = aligned_alloc(64, (size_t)(BLOCK * 4 * t->groups + 63) / 64 * 64);
    s->scaled = malloc(sizeof(float) * 4 * t->groups);
    s->floats = malloc(sizeof(float) * 2 * width * BLOCK);
    s->ints = malloc(sizeof(int32_t) * width * BLOCK);
    if (!s->x || !s->scaled || !s->floats || !s->ints)
        return 0;
    for (int r = 0; r < BLOCK; r++)
        s->lists[r] = (List){s->floats + 2 * r * width, s->floats + (2 * r + 1) * width, s->ints + r * width};
    return 1;
}

static void end(Scratch *s)
{
    free(s->x);
    free(s->scaled);
    free(s->floats);
    free(s->ints);
}

/* A row's k-th best score, guessed; -FLT_MAX before there is something to guess from. */
static float guess(const Habit *habit, const Row *row)
{
    if (habit->count < BLOCK)
        return -FLT_MAX;
    const double mean = habit->sum / habit->count, variance = habit->squares / habit->count - mean * mean;
    const double least = (mean - 3 * sqrt(variance > 0 ? variance : 0)) * row->norm;
    return least > -FLT_MAX && least < FLT_MAX ? (float)least : -FLT_MAX;
}

static void note(Habit *habit, const Row *row)
{
    const double beside = row->threshold / row->norm;
    if (!isfinite(beside))
        return;
    habit->count += 1;
    habit->sum += beside;
    habit->squares += beside * beside;
}

/* Candidates of up to BLOCK rows, guessed where there is a `habit`. k = 0: no pruning, everything whose score plus margin reaches 0 (`base` is then lifted bias less
   bound). */
static void propose(const Table *t, const float *base, const float *x, int64_t n, int64_t k, int absolute, float sigmas, const Habit *habit, Scratch *s)
{
    const int64_t lane = 4 * t->groups, tiles = (n + TILE - 1) / TILE, panels = (t->d_dict + PANEL - 1) / PANEL;
    const int64_t limit = 3 * k > 96 ? 3 * k : 96;
    for (int64_t r = 0; r < tiles * TILE; r++) {
        Row *row = s->rows + r;
        quantise_row(t, x + (r < n ? r : n - 1) * t->d, sigmas, row, s->x + (r / TILE) * TILE * lane + (r % TILE) * 4, s->scaled);
        row->count = 0;
        row->limit = limit;
        row->guess = habit && row->finite ? guess(habit, row) : -FLT_MAX;
        row->threshold = k || !row->finite ? row->guess : 0;
    }
    for (int64_t panel = 0; panel < panels; panel++)
        for (int64_t tile = 0; tile < tiles; tile++) {
            __m256i sums[TILE][2];
            const __m256i *start = (const __m256i *)(t->start + panel * PANEL);
            for (int r = 0; r < TILE; r++)
                sums[r][0] = _mm256_loadu_si256(start), sums[r][1] = _mm256_loadu_si256(start + 1);
            product(s->x + tile * TILE * lane, t->weights + panel * t->groups * PANEL * 4, t->groups, sums);
            Row *rows = s->rows + tile * TILE;
            collect(t, base, panel, sums, absolute, rows, s->lists + tile * TILE);
            if (k)
                for (int r = 0; r < TILE; r++)
                    if (rows[r].count > rows[r].limit) {
                        prune(rows + r, s->lists[tile * TILE + r], k, COARSE);
                        rows[r].limit = 2 * rows[r].count > limit ? 2 * rows[r].count : limit;
                    }
        }
}

static void everything(const Table *t, Row *row, List list)
{
    for (row->count = 0; row->count < t->d_dict; row->count++) {
        list.score[row->count] = list.upper[row->count] = 0;
        list.feature[row->count] = (int32_t)row->count;
    }
    row->threshold = -FLT_MAX;
}

typedef struct {
    const Table *t;
    const float *base, *b;
    int64_t k, most;
    int absolute;
    float sigmas;
} Wanted;

/* The k largest of one row, from its candidates; returns how many were rescored, or -1 where the guess was too high. */
static int64_t choose(const Wanted *w, const float *x, Row *row, List list, Habit *habit, int64_t *feature, float *pre)
{
    const int64_t k = w->k;
    if (row->count < k) {
        if (row->guess > -FLT_MAX)
            return -1;
        everything(w->t, row, list); /* numbers so large that scores overflow */
    }
    if (prune(row, list, k, EXACT) < row->guess)
        return -1;
    note(habit, row);
    int64_t count = row->count;
    if (count > w->most) {
        select_largest(list.upper, list.score, list.feature, count, w->most);
        count = w->most;
    }
    rescore(w->t, w->b, x, count, list);
    for (int64_t i = 0; i < count; i++) {
        const float value = w->absolute ? fabsf(list.score[i]) : list.score[i];
        list.upper[i] = value != value ? INFINITY : value;
    }
    select_largest(list.upper, list.score, list.feature, count, k);
    for (int64_t i = 0; i < k; i++) {
        feature[i] = list.feature[i];
        pre[i] = list.score[i];
    }
    return count;
}

/* The k largest of every row (`base`: lifted bias, padded). `most` bounds the candidates of a row: beyond it scores tie within the margin, and any of them will do.
   `habit` goes on from the rows done before. Returns how many candidates were rescored, or -1 without memory. */
int64_t microtome_top_k(const Table *t, const float *base, const float *b, const float *x, int64_t n, int64_t k, int64_t absolute, float sigmas,
                        int64_t most, Habit *habit, int64_t *feature, float *pre)
{
    Scratch s;
    const Wanted w = {t, base, b, k, most, (int)absolute, sigmas};
    int64_t rescored = 0, n_again = 0;
    int64_t *again = malloc(sizeof(int64_t) * (n + 1));
    if (!begin(&s, t) || !again)
        return free(again), end(&s), -1;
    for (int64_t first = 0; first < n; first += BLOCK) {
        const int64_t rows = n - first < BLOCK ? n - first : BLOCK;
        propose(t, base, x + first * t->d, rows, k, w.absolute, sigmas, habit, &s);
        for (int64_t r = first; r < first + rows; r++) {
            const int64_t count = choose(&w, x + r * t->d, s.rows + r - first, s.lists[r - first], habit, feature + r * k, pre + r * k);
            if (count < 0)
                again[n_again++] = r;
            else
                rescored += count;
        }
    }
    for (int64_t i = 0; i < n_again; i++) {
        const int64_t r = again[i];
        propose(t, base, x + r * t->d, 1, k, w.absolute, sigmas, NULL, &s);
        rescored += choose(&w, x + r * t->d, s.rows, s.lists[0], habit, feature + r * k, pre + r * k);
    }
    free(again);
    end(&s);
    return rescored;
}

typedef struct {
    int64_t count, capacity;
    int64_t *feature;
    float *pre;
} Found;

static void drop(Found *found)
{
    free(found->feature);
    free(found->pre);
    *found = (Found){0};
}

/* Every pair above its feature's bound, appended to `found`, and how many each row has. Returns -1 without memory, and then holds none.
   `base`: lifted bias less bound, padded. */
int64_t microtome_above(const Table *t, const float *base, const float *b, const float *bound, const float *x, int64_t n, float sigmas, int64_t *counts,
                        Found *found)
{
    Scratch s;
    int64_t rescored = 0;
    if (!begin(&s, t))
        return end(&s), drop(found), -1;
    for (int64_t first = 0; first < n; first += BLOCK) {
        const int64_t rows = n - first < BLOCK ? n - first : BLOCK;
        propose(t, base, x + first * t->d, rows, 0, 0, sigmas, NULL, &s);
        for (int64_t r = 0; r < rows; r++) {
            const List list = s.lists[r];
            const int64_t count = s.rows[r].count, before = found->count;
            rescore(t, b, x + (first + r) * t->d, count, list);
            rescored += count;
            if (found->count + count > found->capacity) {
                found->capacity = 2 * (found->count + count) + 1024;
                int64_t *features = realloc(found->feature, sizeof(int64_t) * found->capacity);
                found->feature = features ? features : found->feature;
                float *values = realloc(found->pre, sizeof(float) * found->capacity);
                found->pre = values ? values : found->pre;
                if (!features || !values)
                    return end(&s), drop(found), -1;
            }
            for (int64_t i = 0; i < count; i++) {
                found->feature[found->count] = list.feature[i];
                found->pre[found->count] = list.score[i];
                found->count += !(list.score[i] <= bound[list.feature[i]]);
            }
            counts[first + r] = found->count - before;
        }
    }
    end(&s);
    return rescored;
}

/* Hand over what was found, and free it. */
void microtome_take(Found *found, int64_t *feature, float *pre)
{
    if (found->count) {
        memcpy(feature, found->feature, sizeof(int64_t) * found->count);
        memcpy(pre, found->pre, sizeof(float) * found->count);
    }
    drop(found);
}
