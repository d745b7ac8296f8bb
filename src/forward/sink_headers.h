/*
 * sink_headers: the header lines that an operator adds to a sink's requests: "A: b | C: d". Pure.
 */
#ifndef FORWARD_SINK_HEADERS_H
#define FORWARD_SINK_HEADERS_H

#include "core/base.h"
#include "core/config_sinks.h"
#include "core/err.h"

/* ERR_SYNTAX with a text that names the sink: no "Name: value", bytes that end or break a header line, or a name that is
 * ours to say: Host, Content-Length, Content-Encoding, Transfer-Encoding, Connection, Expect, Idempotency-Key, and
 * Authorization where the sink signs or authenticates. */
int sink_headers_check(const struct config_sink *sink, struct err *err) MUST_USE;
/* The next one at *at, which begins as sink->headers; false: no more. Of checked headers only. line: "Name: value",
 * without blanks around it; name_bytes: of its name. */
bool sink_headers_next(const char **at, struct slice *line, size_t *name_bytes);
bool sink_headers_have(const struct config_sink *sink, const char *name);

#endif
