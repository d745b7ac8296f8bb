/*
 * quarantine: records that an upstream refused for good, and what an operator may order of sinks:
 *
 *   GET  /v1/quarantine?sink=&limit=&cursor=   POST /v1/quarantine/{id}/requeue|drop
 *   GET  /v1/quarantine/{id}                   POST /v1/sinks/{name}/requeue|drop|resume
 *
 * Two halves. In the shard's thread: what is asked for, and everything that can be said at once (404, 422). In a
 * query thread (quarantine_answer): the call of struct upstream, which reads a database or waits for the forwarder. A
 * client that leaves before its order was begun has ordered nothing.
 */
#ifndef API_QUARANTINE_H
#define API_QUARANTINE_H

#include "api/query_job.h"
#include "api/route.h"
#include "api/upstream.h"
#include "net/server.h"

struct shard;

enum http_verdict quarantine_on_request(struct shard *shard, const struct route *route,
                                        const struct http_request *request);

/* What the path and the query string ask for. Pure but for upstream's sink names. 0: call is filled. Else the status: 404
 * or 422, with its body in fault (QUARANTINE_FAULT_BYTES). */
#define QUARANTINE_FAULT_BYTES 4096u
unsigned quarantine_read_request(struct query_call *call, const struct upstream *upstream,
                                 const struct route *route, struct slice path, struct slice query,
                                 struct buf *fault) MUST_USE;
/* query_call.answer of what quarantine_read_request filled. May block for seconds. */
unsigned quarantine_answer(const struct query_call *call, struct query_text *out);

#endif
