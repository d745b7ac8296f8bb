/*
 * fuzz_query_params: the first byte chooses the route, the rest is a query string. Whatever it is:
 * it is judged; a refusal is valid JSON that fits the room promised; what is accepted lies within
 * the limits, its texts inside the parameters' own memory, its literal inside one of them; and a
 * cursor made for it is taken with it again.
 */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "api/query_params.h"
#include "core/base.h"
#include "model/json_scan.h"

#define NOW        INT64_C(1795262400000000000)
#define QUERY_ROOM ((size_t)1 << 16)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void refusal_check(const struct buf *fault)
{
    uint64_t offset;
    const char *why;
    ASSERT(!fault->is_truncated);
    ASSERT(json_validate(fault->data, fault->bytes, &offset, &why) == 0);
}

static void text_check(const struct query_params *params, struct slice text)
{
    if (text.bytes > 0) {
        ASSERT(text.bytes <= QUERY_TEXT_MAX);
        ASSERT(text.data >= params->text);
        ASSERT(text.data + text.bytes <= params->text + params->text_bytes);
    }
}

static void accepted_check(const struct query_params *params)
{
    struct scan_filter filter;
    ASSERT(params->limit >= 1);
    ASSERT(params->limit <= QUERY_LIMIT_MAX);
    ASSERT(params->start_ns <= params->end_ns);
    ASSERT(params->severity_min <= SEVERITY_CRITICAL);
    ASSERT(params->kinds != 0);
    ASSERT(params->text_bytes <= sizeof params->text);
    text_check(params, params->lookup.service);
    text_check(params, params->lookup.source);
    text_check(params, params->lookup.name);
    text_check(params, params->lookup.correlation_id);
    text_check(params, params->lookup.message);
    query_params_filter(params, &filter);
    text_check(params, filter.literal);
    for (size_t i = 0; i < filter.literal.bytes; i++) {
        uint8_t c = filter.literal.data[i];
        ASSERT(c >= 0x20 && c != '"' && c != '\\');
    }
}

static void cursor_check(const struct query_params *params, enum route_id route, struct slice query)
{
    static char text[QUERY_ROOM];
    static struct query_params again;
    static uint8_t memory[QUERY_FAULT_BYTES_MAX];
    struct buf fault;
    static const char before[] = "&cursor=";
    if (query.bytes > sizeof text - 64 || route == ROUTE_TAIL) {
        return;
    }
    memcpy(text, query.data, query.bytes);
    size_t at = query.bytes;
    memcpy(text + at, before, sizeof before - 1);
    at += sizeof before - 1;
    at += query_cursor_put(text + at, sizeof text - at, params, 77);
    buf_init(&fault, memory, sizeof memory);
    struct slice whole = {(const uint8_t *)text, at};
    ASSERT(query_params_parse(&again, route, whole, NOW, &fault) == 0);
    ASSERT(again.has_cursor);
    ASSERT(again.cursor_lsn == 77);
    ASSERT(again.digest == params->digest);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static const enum route_id routes[] = {ROUTE_LOGS, ROUTE_METRICS, ROUTE_EVENTS, ROUTE_TAIL};
    static uint8_t memory[QUERY_FAULT_BYTES_MAX];
    static struct query_params params;
    struct buf fault;
    if (bytes == 0) {
        return 0;
    }
    enum route_id route = routes[data[0] % ARRAY_COUNT(routes)];
    struct slice query = {data + 1, bytes - 1};
    buf_init(&fault, memory, sizeof memory);
    int r = query_params_parse(&params, route, query, NOW, &fault);
    ASSERT(r == 0 || r == -EINVAL);
    ASSERT((r == 0) == (fault.bytes == 0));
    if (r < 0) {
        refusal_check(&fault);
        return 0;
    }
    accepted_check(&params);
    cursor_check(&params, route, query);
    return 0;
}
