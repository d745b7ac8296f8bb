/*
 * metrics_text: what GET /metrics says (Prometheus text exposition 0.0.4), summed over labels: one value per name,
 * and per name and bound of a histogram. What has a label sink is also kept for each sink. Pure but for its memory; reads
 * hostile text.
 */
#ifndef CLI_METRICS_TEXT_H
#define CLI_METRICS_TEXT_H

#include "core/base.h"

#define METRICS_SAMPLES_MAX 4096
#define METRICS_NAME_MAX    96
#define METRICS_SINKS_MAX   32
#define METRICS_SINK_VALUES 2048

struct metrics_sample {
    char name[METRICS_NAME_MAX];
    double le; /* upper bound of a bucket; NAN: none */
    double value;
};

struct metrics_sink_value {
    unsigned sink; /* index of sinks */
    char name[METRICS_NAME_MAX];
    double value;
};

struct metrics_text {
    unsigned count;
    unsigned sink_count;
    unsigned sink_value_count;
    char sinks[METRICS_SINKS_MAX][METRICS_NAME_MAX]; /* names, in the order of the text */
    struct metrics_sink_value sink_values[METRICS_SINK_VALUES];
    struct metrics_sample samples[METRICS_SAMPLES_MAX]; /* by name, then bound */
};

/* Lines that are none are left out; what has no room is left out. */
void metrics_text_parse(struct metrics_text *metrics, struct slice text);
/* 0 where there is no such name. */
double metrics_text_value(const struct metrics_text *metrics, const char *name);
/* The same of one sink, summed over what other labels there are; 0 where there is none. */
double metrics_text_sink_value(const struct metrics_text *metrics, const char *sink,
                               const char *name);
/* A quantile of what came between two readings of the histogram `name` (without _bucket); NAN: nothing came. */
double metrics_text_quantile(const struct metrics_text *before, const struct metrics_text *after,
                             const char *name, double quantile);

#endif
