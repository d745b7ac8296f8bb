/*
 * upstream_metrics: the part of GET /metrics that is about sinks (label sink) and pollers (label poller). Any thread; no
 * state.
 */
#ifndef API_UPSTREAM_METRICS_H
#define API_UPSTREAM_METRICS_H

#include "api/upstream.h"
#include "core/buf.h"

/* upstream NULL: writes nothing. real_ns: now, for ages. */
void upstream_metrics_write(struct buf *out, const struct upstream *upstream, int64_t real_ns);

/* A label's value as the text format wants it, without its quotes: backslash, quote and line feed escaped. */
void upstream_metrics_label(struct buf *out, struct slice value);

#endif
