/*
 * replicate: POST /v1/replicate, the receiving side of the sluice sink: records of another node's
 * log, stored exactly once by (node, LSN), for ever (store/origins.h). Shard's thread.
 *
 *   Sluice-Node: <ULID of the sender>
 *   Sluice-Range: FIRST-LAST      LSNs for which the request speaks; those it does not carry are
 *                                 taken for settled. Left out: it speaks for what it carries only,
 *                                 which is right for a part of a request that is sent again.
 *   Sluice-Kinds: log,metric      the range speaks for records of these kinds only, and the request holds no
 *                                 others. Left out: for all kinds
 *   body: NDJSON of model/envelope.h, LSNs ascending, inside the range
 *
 * 200 {"status":"accepted","accepted":n,"duplicates":m,"rejected":k,"first_lsn","last_lsn",
 * "errors":[{"index":i,"detail":[...]}]} when everything is durable, also what was a duplicate;
 * accepted + duplicates + rejected = lines. A record that its schema or kind refuses is rejected
 * alone and its LSN stays unsettled. 422 for headers or lines that are not this, and for our own
 * node (a loop); 413 for more than SUBMIT_ORIGIN_RUNS_MAX gaps to remember at once; else as ingest.
 *
 * A record that the sender has from others says where it was first and which nodes it passed (origin, via). It is a
 * duplicate when it is here by another way, and when it was here before, on its way: so nothing goes round in rings of
 * senders, and what comes by two ways is stored once (origins.h has the limits). What passed more than
 * ENVELOPE_VIA_MAX nodes is rejected alone.
 *
 * A record keeps its ULID, bytes, severity and event time (the envelope's; without one, what the record says, or
 * when the sender received it). Logs, metrics and events are judged as those of clients are; of other kinds any JSON
 * object is taken: the sender is a Sluice that has judged it. They are stored as records, not carried out as commands:
 * META_RUN, which makes a record a command of the agent-run API (store/runs.h), does not travel. Neither Idempotency-Key
 * nor event_id is looked at: (node, LSN) says more.
 */
#ifndef API_REPLICATE_H
#define API_REPLICATE_H

#include "net/server.h"

struct shard;

enum http_verdict replicate_on_request(struct shard *shard, const struct http_request *request);

#endif
