/*
 * target_url: an upstream's address with a path and a query of ours put to it. Pure.
 */
#ifndef FORWARD_TARGET_URL_H
#define FORWARD_TARGET_URL_H

#include "core/buf.h"

/* "http://h:1/base/?a=b" and "/_bulk" make "http://h:1/base/_bulk?a=b": the path goes behind the base's own (one
 * slash between them), the base's query stays but for parameters without a value ("?a="), a fragment goes. */
void target_url_put(struct buf *out, const char *base, const char *path);
/* "&name=value", or "?name=value" where there is no query yet; the value is percent-encoded (RFC 3986 unreserved bytes
 * stay). */
void target_url_put_parameter(struct buf *out, const char *name, struct slice value);
/* Does base's query name this parameter? *is_empty: without a value. */
bool target_url_has_parameter(const char *base, const char *name, bool *is_empty);

#endif
