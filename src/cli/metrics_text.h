/*
 * metrics_text: what GET /metrics says (Prometheus text exposition 0.0.4), summed over labels: one value per name,
 * and per name and bound of a histogram. Pure but for its memory; reads hostile text.
 */
#ifndef CLI_METRICS_TEXT_H
#define CLI_METRICS_TEXT_H

#include "core/base.h"

#define METRICS_SAMPLES_MAX 4096
#define METRICS_NAME_MAX    96

struct metrics_sample {
    char name[METRICS_NAME_MAX];
    double le; /* upper bound of a bucket; NAN: none */
    double value;
};

struct metrics_text {
    unsigned count;
    struct metrics_sample samples[METRICS_SAMPLES_MAX]; /* by name, then bound */
};

/* Lines that are none are left out; what has no room is left out. */
void metrics_text_parse(struct metrics_text *metrics, struct slice text);
/* 0 where there is no such name. */
double metrics_text_value(const struct metrics_text *metrics, const char *name);
/* A quantile of what came between two readings of the histogram `name` (without _bucket); NAN: nothing came. */
double metrics_text_quantile(const struct metrics_text *before, const struct metrics_text *after,
                             const char *name, double quantile);

#endif
