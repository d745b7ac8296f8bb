/*
 * fuzz_quarantine: a path, and behind a '?' a query string. Whatever it is: a route's segment lies within the path, holds
 * no slash and is not empty; what is asked of the quarantine is judged, a refusal is valid JSON that fits the room
 * promised, and what is accepted is a positive id, a visible name or a list within its limits.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "api/quarantine.h"
#include "core/base.h"
#include "model/json_scan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void take_sink(void *context, unsigned i, struct upstream_sink *sink)
{
    (void)context;
    (void)i;
    *sink = (struct upstream_sink){.name = "archive"};
}

static const struct upstream upstream = {.sink_count = 1, .sink = take_sink};

static void segment_check(const struct route *route, struct slice path)
{
    struct slice segment = route_parameter(route, path);
    bool is_pattern = strstr(route->path, "{}") != NULL;
    ASSERT(is_pattern == (segment.bytes != 0));
    if (is_pattern) {
        ASSERT(segment.data > path.data);
        ASSERT(segment.data + segment.bytes <= path.data + path.bytes);
        ASSERT(memchr(segment.data, '/', segment.bytes) == NULL);
    }
}

static void accepted_check(const struct query_call *call, const struct route *route)
{
    bool is_list = route->id == ROUTE_QUARANTINE;
    bool is_sink = strncmp(route->path, "/v1/sinks/", 10) == 0;
    ASSERT(call->name_bytes <= QUERY_CALL_NAME_MAX);
    ASSERT(is_list || is_sink == (call->name_bytes != 0));
    ASSERT(is_list || is_sink == (call->id == 0));
    ASSERT(call->id <= INT64_MAX);
    ASSERT(!is_list || (call->limit >= 1 && call->limit <= 1000));
    for (uint32_t i = 0; i < call->name_bytes; i++) {
        ASSERT(call->name[i] > ' ' && call->name[i] < 0x7f);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static uint8_t memory[QUARANTINE_FAULT_BYTES];
    const uint8_t *mark = bytes == 0 ? NULL : memchr(data, '?', bytes);
    size_t path_bytes = mark == NULL ? bytes : (size_t)(mark - data);
    struct slice path = {data, path_bytes};
    struct slice query = {data + path_bytes + (mark != NULL), bytes - path_bytes - (mark != NULL)};
    const struct route *route = bytes == 0 ? NULL : route_find(path);
    struct query_call call;
    struct buf fault;
    uint64_t offset;
    const char *why;
    if (route == NULL) {
        return 0;
    }
    segment_check(route, path);
    if (!route_is_quarantine(route)) {
        return 0;
    }
    buf_init(&fault, memory, sizeof memory);
    unsigned status = quarantine_read_request(&call, &upstream, route, path, query, &fault);
    if (status == 0) {
        accepted_check(&call, route);
        return 0;
    }
    ASSERT(status == 404 || status == 422);
    ASSERT(!fault.is_truncated);
    ASSERT(json_validate(fault.data, fault.bytes, &offset, &why) == 0);
    return 0;
}
