#include "cli/metrics_text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NONE ((double)NAN)

enum {
    LINE_MAX_BYTES = 1024,
    BUCKETS_MAX = 256,
};

static int compare(const void *a, const void *b)
{
    const struct metrics_sample *left = a;
    const struct metrics_sample *right = b;
    int order = strcmp(left->name, right->name);
    if (order != 0 || isnan(left->le) || isnan(right->le)) {
        return order != 0 ? order : (int)isnan(right->le) - (int)isnan(left->le);
    }
    return left->le < right->le ? -1 : left->le > right->le;
}

/* The value of a label (`le="`), not of one whose name ends so (handle, role); NULL: none. Inside of a quoted value
 * the quote behind it would have a backslash before it. */
static const char *find_label(const char *labels, const char *label)
{
    const char *at = labels;
    while ((at = strstr(at, label)) != NULL) { /* bound: the line */
        if (at > labels && (at[-1] == '{' || at[-1] == ',' || at[-1] == ' ')) {
            return at + strlen(label);
        }
        at++;
    }
    return NULL;
}

/* The label's value without its escapes. False: it does not end, or has no room. */
static bool read_value(char *to, size_t room, const char *at)
{
    size_t bytes = 0;
    for (; *at != 0 && *at != '"' && bytes + 1 < room; at++) {
        char c = *at;
        if (c == '\\' && at[1] != 0) {
            at++;
            c = *at == 'n' ? '\n' : *at;
        }
        to[bytes++] = c;
    }
    to[bytes] = 0;
    return *at == '"';
}

/* name{labels} value; line ends with NUL. */
static bool parse_line(struct metrics_sample *sample, const char *line)
{
    size_t name_bytes = strcspn(line, "{ ");
    const char *rest = line + name_bytes;
    if (name_bytes == 0 || name_bytes >= sizeof sample->name || line[0] == '#') {
        return false;
    }
    memcpy(sample->name, line, name_bytes);
    sample->name[name_bytes] = 0;
    sample->le = NONE;
    if (*rest == '{') {
        const char *end = strrchr(rest, '}');
        const char *le = find_label(rest, "le=\"");
        if (end == NULL) {
            return false;
        }
        if (le != NULL && le < end) {
            sample->le = strtod(le, NULL); /* "+Inf" is understood */
        }
        rest = end + 1;
    }
    char *value_end = NULL;
    sample->value = strtod(rest, &value_end);
    return value_end != rest;
}

/* METRICS_SINKS_MAX: there is no room for another. */
static unsigned sink_index(struct metrics_text *metrics, const char *sink)
{
    unsigned i = 0;
    while (i < metrics->sink_count && strcmp(metrics->sinks[i], sink) != 0) {
        i++;
    }
    if (i == metrics->sink_count && i < METRICS_SINKS_MAX) {
        (void)snprintf(metrics->sinks[i], sizeof metrics->sinks[i], "%s", sink);
        metrics->sink_count++;
    }
    return i;
}

/* sample: what the line says. */
static void keep_sink(struct metrics_text *metrics, const struct metrics_sample *sample,
                      const char *line)
{
    char sink[METRICS_NAME_MAX];
    const char *labels = line + strlen(sample->name);
    const char *label = find_label(labels, "sink=\"");
    const char *end = strrchr(labels, '}');
    if (label == NULL || end == NULL || label > end || !read_value(sink, sizeof sink, label) ||
        metrics->sink_value_count == METRICS_SINK_VALUES) {
        return;
    }
    unsigned index = sink_index(metrics, sink);
    if (index < METRICS_SINKS_MAX) {
        struct metrics_sink_value *kept = &metrics->sink_values[metrics->sink_value_count++];
        kept->sink = index;
        kept->value = sample->value;
        _Static_assert(sizeof kept->name == sizeof sample->name, "names are copied whole");
        memcpy(kept->name, sample->name, sizeof kept->name);
    }
}

/* Sums neighbours that differ in other labels only. */
static void merge(struct metrics_text *metrics)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < metrics->count; i++) {
        struct metrics_sample *last = kept > 0 ? &metrics->samples[kept - 1] : NULL;
        if (last != NULL && compare(last, &metrics->samples[i]) == 0) {
            last->value += metrics->samples[i].value;
        } else {
            metrics->samples[kept++] = metrics->samples[i];
        }
    }
    metrics->count = kept;
}

void metrics_text_parse(struct metrics_text *metrics, struct slice text)
{
    char line[LINE_MAX_BYTES];
    const uint8_t *at = text.data;
    const uint8_t *end = text.data + text.bytes;
    metrics->count = 0;
    metrics->sink_count = 0;
    metrics->sink_value_count = 0;
    while (at < end && metrics->count < METRICS_SAMPLES_MAX) { /* bound: lines */
        const uint8_t *stop = memchr(at, '\n', (size_t)(end - at));
        size_t bytes = (size_t)((stop == NULL ? end : stop) - at);
        if (bytes < sizeof line) {
            memcpy(line, at, bytes);
            line[bytes] = 0;
            struct metrics_sample *sample = &metrics->samples[metrics->count];
            if (parse_line(sample, line)) {
                keep_sink(metrics, sample, line);
                metrics->count++;
            }
        }
        at += bytes + (stop == NULL ? 0 : 1);
    }
    qsort(metrics->samples, metrics->count, sizeof metrics->samples[0], compare);
    merge(metrics);
}

static const struct metrics_sample *find(const struct metrics_text *metrics, const char *name,
                                         double le)
{
    struct metrics_sample wanted = {.le = le};
    (void)snprintf(wanted.name, sizeof wanted.name, "%s", name);
    return bsearch(&wanted, metrics->samples, metrics->count, sizeof wanted, compare);
}

double metrics_text_value(const struct metrics_text *metrics, const char *name)
{
    const struct metrics_sample *sample = find(metrics, name, NONE);
    return sample == NULL ? 0 : sample->value;
}

double metrics_text_sink_value(const struct metrics_text *metrics, const char *sink,
                               const char *name)
{
    double sum = 0;
    for (unsigned i = 0; i < metrics->sink_value_count; i++) {
        const struct metrics_sink_value *kept = &metrics->sink_values[i];
        if (strcmp(kept->name, name) == 0 && strcmp(metrics->sinks[kept->sink], sink) == 0) {
            sum += kept->value;
        }
    }
    return sum;
}

double metrics_text_quantile(const struct metrics_text *before, const struct metrics_text *after,
                             const char *name, double quantile)
{
    char bucket[METRICS_NAME_MAX];
    double le[BUCKETS_MAX];
    double counts[BUCKETS_MAX]; /* cumulative, of the time between */
    unsigned count = 0;
    (void)snprintf(bucket, sizeof bucket, "%s_bucket", name);
    for (unsigned i = 0; i < after->count && count < BUCKETS_MAX; i++) {
        const struct metrics_sample *sample = &after->samples[i];
        if (strcmp(sample->name, bucket) == 0 && !isnan(sample->le)) {
            const struct metrics_sample *old = find(before, bucket, sample->le);
            le[count] = sample->le;
            counts[count++] = sample->value - (old == NULL ? 0 : old->value);
        }
    }
    if (count == 0 || counts[count - 1] <= 0) {
        return NONE;
    }
    double wanted = quantile * counts[count - 1];
    for (unsigned i = 0; i < count; i++) {
        double below = i == 0 ? 0 : counts[i - 1];
        double from = i == 0 ? 0 : le[i - 1];
        if (counts[i] >= wanted) {
            return isinf(le[i]) ? from
                                : from + (le[i] - from) * (wanted - below) /
                                             (counts[i] > below ? counts[i] - below : 1);
        }
    }
    return NONE;
}
