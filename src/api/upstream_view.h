/*
 * upstream_view: what upstream.h says of sinks, as JSON: parts of GET /v1/ledger and /v1/durable, and GET /v1/sinks. Any
 * thread; no state. upstream NULL: nothing is configured. A picture of a sink is one moment, so its ledger balances by
 * itself; pictures of two sinks are two moments.
 */
#ifndef API_UPSTREAM_VIEW_H
#define API_UPSTREAM_VIEW_H

#include "api/upstream.h"
#include "core/buf.h"
#include "core/config_sinks.h"

/* No more of either are shown. */
#define UPSTREAM_SINKS_MAX   CONFIG_SINKS_MAX
#define UPSTREAM_POLLERS_MAX CONFIG_POLLERS_MAX

unsigned upstream_view_sinks(const struct upstream *upstream);
unsigned upstream_view_pollers(const struct upstream *upstream);
bool upstream_view_has_sink(const struct upstream *upstream, struct slice name);

/* Records that became durable since the sink began. Pure. */
uint64_t upstream_view_durable(const struct upstream_sink *sink);
/* durable - (delivered + pending + expired + quarantined + filtered); never 0 when the picture says itself that it does
 * not balance. Pure. */
int64_t upstream_view_sink_imbalance(const struct upstream_sink *sink);
/* Of the first sink that has one; 0: all balance. */
int64_t upstream_view_imbalance(const struct upstream *upstream);

/* {"NAME":{"durable":n,...},...} */
void upstream_view_ledger(struct buf *out, const struct upstream *upstream);
/* {"NAME":lsn,...}: up to where each has delivered. */
void upstream_view_delivered(struct buf *out, const struct upstream *upstream);
/* {"data":[{"name":...},...],"pollers":[...]} */
void upstream_view_list(struct buf *out, const struct upstream *upstream);

#endif
