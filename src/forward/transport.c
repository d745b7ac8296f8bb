/*
 * transport: who serves which sink. Files first, because what they have answered is there already.
 */
#include "forward/transport.h"

#include <errno.h>

#include "core/mem.h"
#include "forward/transport_curl.h"
#include "forward/transport_file.h"

struct transport {
    const struct config_sink *sinks;
    unsigned sink_count;
    struct transport_curl *curl;
    struct transport_file *files[CONFIG_SINKS_MAX]; /* NULL: not a file sink */
};

static void wake_from_file(void *context)
{
    transport_curl_wake(context);
}

int transport_open(struct transport **out, const struct config_sink *sinks, unsigned sink_count,
                   struct err *err)
{
    ASSERT(sink_count <= CONFIG_SINKS_MAX);
    struct transport *transport = mem_alloc(sizeof *transport);
    transport->sinks = sinks;
    transport->sink_count = sink_count;
    int result = transport_curl_open(&transport->curl, sinks, sink_count, err);
    for (unsigned i = 0; i < sink_count && result == 0; i++) {
        if (sinks[i].type == SINK_FILE) {
            result = transport_file_open(&transport->files[i], &sinks[i], wake_from_file,
                                         transport->curl, err);
        }
    }
    if (result < 0) {
        transport_close(transport);
        return result;
    }
    *out = transport;
    return 0;
}

void transport_close(struct transport *transport)
{
    if (transport == NULL) {
        return;
    }
    for (unsigned i = 0; i < transport->sink_count; i++) {
        transport_file_close(transport->files[i]); /* its thread wakes curl: it ends first */
    }
    transport_curl_close(transport->curl);
    mem_free(transport);
}

int transport_send(struct transport *transport, unsigned sink_index,
                   const struct transport_request *request, struct err *err)
{
    ASSERT_ROLE(ROLE_FORWARDER);
    ASSERT(sink_index < transport->sink_count);
    ASSERT(request->on_answer != NULL);
    struct transport_file *file = transport->files[sink_index];
    return file != NULL ? transport_file_send(file, request, err)
                        : transport_curl_send(transport->curl, sink_index, request, err);
}

static bool run_files(struct transport *transport)
{
    bool is_answered = false;
    for (unsigned i = 0; i < transport->sink_count; i++) {
        if (transport->files[i] != NULL) {
            is_answered = transport_file_run(transport->files[i]) || is_answered;
        }
    }
    return is_answered;
}

void transport_run(struct transport *transport, unsigned timeout_ms)
{
    ASSERT_ROLE(ROLE_FORWARDER);
    const bool is_answered = run_files(transport);
    (void)transport_curl_run(transport->curl, is_answered ? 0 : timeout_ms);
    (void)run_files(transport);
}

void transport_wake(struct transport *transport)
{
    transport_curl_wake(transport->curl);
}

int transport_reload(struct transport *transport, struct err *err)
{
    ASSERT_ROLE(ROLE_FORWARDER);
    return transport_curl_reload(transport->curl, err);
}

int transport_target(struct transport *transport, unsigned sink_index, uint64_t body_bytes,
                     int64_t now_ns, char *out, struct err *err)
{
    ASSERT(sink_index < transport->sink_count);
    struct transport_file *file = transport->files[sink_index];
    if (file == NULL) {
        out[0] = '\0'; /* an HTTP sink's batch has its place in its url */
        return 0;
    }
    return transport_file_target(file, body_bytes, now_ns, out, err);
}

void transport_target_known(struct transport *transport, unsigned sink_index, const char *target)
{
    ASSERT(sink_index < transport->sink_count);
    if (transport->files[sink_index] != NULL) {
        transport_file_known(transport->files[sink_index], target);
    }
}

void transport_target_drop(struct transport *transport, unsigned sink_index, const char *target)
{
    ASSERT(sink_index < transport->sink_count);
    if (transport->files[sink_index] != NULL) {
        transport_file_drop(transport->files[sink_index], target);
    }
}
