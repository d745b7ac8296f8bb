/*
 * protocol http: records as they are, to anything that takes a POST. The upstream keeps apart what it has by the
 * Idempotency-Key, which the transport sends with every request, or by batch_id in format object. Pure.
 */
#include <stdio.h>
#include <string.h>

#include "forward/form.h"
#include "forward/judge.h"
#include "forward/protocol_table.h"

static void http_encoding(const struct config_sink *sink, char *out)
{
    form_encoding(sink, "http", out);
}

static void http_url(const struct encoder *encoder, char *out)
{
    _Static_assert(sizeof(encoder->sink->url) <= FORWARD_URL_BYTES, "any configured URL fits");
    (void)snprintf(out, FORWARD_URL_BYTES, "%s", encoder->sink->url);
}

static void http_headers(const struct encoder *encoder, char *out)
{
    int bytes = snprintf(out, 1024, "Content-Type: %s", form_content_type(encoder->sink));
    out[bytes + 1] = '\0'; /* The empty one that ends. */
}

static void http_judge(const struct encoder *encoder, const struct upstream_answer *answer,
                       struct judgement *judgement)
{
    (void)encoder;
    /* 409 is what servers that know Idempotency-Key say while the first request under it is still being worked
     * on (draft-ietf-httpapi-idempotency-key-header §2.6): the same bytes later. */
    if (answer->fault == TRANSPORT_OK && answer->status == 409) {
        judge_as(answer, VERDICT_RETRY, judgement);
        return;
    }
    judge_by_status(answer, judgement);
}

const struct protocol protocol_http = {
    .name = "http",
    .kinds = UINT32_MAX,
    .encoding = http_encoding,
    .begin = form_begin,
    .add = form_add,
    .end = form_end,
    .url = http_url,
    .method = "POST",
    .headers = http_headers,
    .judge = http_judge,
};
