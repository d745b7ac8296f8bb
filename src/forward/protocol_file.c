/*
 * protocol_file: records into a file (transport_file.c writes and rotates it), in the forms of protocol_http. Pure.
 *
 * Each batch ends with a line feed, so that the file is NDJSON whatever the format: a record a line, or an array (or an
 * object) a line. Trouble with a file is never a record's fault: it is tried again until the disk has room or the
 * operator has mended the path.
 */
#include "forward/protocol_table.h"

#include <stdio.h>
#include <string.h>

#include "forward/form.h"

static void file_encoding(const struct config_sink *sink, char *out)
{
    form_encoding(sink, "file", out);
}

/* JSON has line feeds only between its tokens, where a space says the same. */
static void join_lines(struct body *body)
{
    uint8_t *at = body->data;
    uint8_t *end = at + body->bytes;
    while (at < end && (at = memchr(at, '\n', (size_t)(end - at))) != NULL) {
        *at++ = ' ';
    }
}

static void file_end(struct encoder *encoder)
{
    struct body *body = &encoder->body;
    form_end(encoder);
    if (encoder->sink->format != SINK_NDJSON && body->bytes > 0) {
        join_lines(body);
    }
    if (body->bytes > 0 && body->data[body->bytes - 1] != '\n') {
        body_put(body, "\n", 1);
    }
}

static void file_url(const struct encoder *encoder, char *out)
{
    (void)snprintf(out, FORWARD_URL_BYTES, "%s", encoder->sink->path);
}

static void file_judge(const struct encoder *encoder, const struct upstream_answer *answer,
                       struct judgement *judgement)
{
    (void)encoder;
    judgement->verdict = answer->fault == TRANSPORT_OK ? VERDICT_DONE : VERDICT_RETRY;
    if (answer->fault != TRANSPORT_OK) {
        (void)snprintf(judgement->reason, sizeof judgement->reason, "%s", answer->fault_text);
    }
}

const struct protocol protocol_file = {
    .name = "file",
    .kinds = UINT32_MAX,
    .is_local = true,
    .encoding = file_encoding,
    .begin = form_begin,
    .add = form_add,
    .end = file_end,
    .url = file_url,
    .method = "",
    .judge = file_judge,
};
