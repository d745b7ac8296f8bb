/*
 * replicate: POST /v1/replicate, the receiving side of the sluice sink: records of another node's
 * log, stored exactly once by (node, LSN), for ever (store/origins.h). Shard's thread.
 *
 *   Sluice-Node: <ULID of the sender>
 *   Sluice-Range: FIRST-LAST      LSNs for which the request speaks; those it does not carry are
 *                                 taken for settled. Left out: it speaks for what it carries only,
 *                                 which is right for a part of a request that is sent again.
 *   body: NDJSON of model/envelope.h, LSNs ascending, inside the range
 *
 * 200 {"status":"accepted","accepted":n,"duplicates":m,"rejected":k,"first_lsn","last_lsn",
 * "errors":[{"index":i,"detail":[...]}]} when everything is durable, also what was a duplicate;
 * accepted + duplicates + rejected = lines. A record that its schema or kind refuses is rejected
 * alone and its LSN stays unsettled. 422 for headers or lines that are not this, and for our own
 * node (a loop); 413 for more than SUBMIT_ORIGIN_RUNS_MAX gaps to remember at once; else as ingest.
 *
 * A record keeps its ULID, bytes, severity and event time. Where it names no time, that is when the
 * sender received it. Neither Idempotency-Key nor event_id is looked at: (node, LSN) says more.
 */
#ifndef API_REPLICATE_H
#define API_REPLICATE_H

#include "net/server.h"

struct shard;

enum http_verdict replicate_on_request(struct shard *shard, const struct http_request *request);

#endif
