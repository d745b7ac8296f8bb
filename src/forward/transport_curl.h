/*
 * transport_curl: the HTTP half of transport.h, over one curl_multi. One owner (transport_wake: any thread).
 *
 * Easy handles are made at the first use and kept, connections of each sink; each request sets its handle anew, so nothing
 * of one request or of an old secret lives on in the next.
 */
#ifndef FORWARD_TRANSPORT_CURL_H
#define FORWARD_TRANSPORT_CURL_H

#include "core/base.h"
#include "core/err.h"
#include "forward/transport.h"

struct transport_curl;

int transport_curl_open(struct transport_curl **curl, const struct config_sink *sinks,
                        unsigned sink_count, struct err *err) MUST_USE;
void transport_curl_close(struct transport_curl *curl); /* NULL is fine */
int transport_curl_send(struct transport_curl *curl, unsigned sink_index,
                        const struct transport_request *request, struct err *err) MUST_USE;
/* True: something was answered. */
bool transport_curl_run(struct transport_curl *curl, unsigned timeout_ms);
void transport_curl_wake(struct transport_curl *curl);
int transport_curl_reload(struct transport_curl *curl, struct err *err) MUST_USE;

#endif
