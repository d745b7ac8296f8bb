/*
 * Any bytes into the head parser. Checked besides memory: the answer does not depend on how the
 * bytes were cut, every span lies in the head, and what came out as valid framing is unambiguous.
 */
#include <stdlib.h>
#include <string.h>

#include "net/http_head.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static const struct http_limits limits = {2048, 512, 20, MIB(1)};

static void check(bool is_true)
{
    if (!is_true) {
        abort();
    }
}

static void check_span(const struct http_head *head, struct http_span span)
{
    check(span.offset <= head->head_bytes);
    check(span.bytes <= head->head_bytes - span.offset);
}

static void check_head(const struct http_head *head, const uint8_t *data, size_t bytes)
{
    check(head->head_bytes <= bytes && head->head_bytes <= limits.head_bytes_max);
    check(memcmp(data + head->head_bytes - 4, "\r\n\r\n", 4) == 0);
    check(!(head->is_chunked && head->has_content_length));
    check(!(head->is_chunked && head->version_minor == 0));
    check(head->version_minor == 0 || head->host.bytes > 0);
    check(head->target.bytes > 0 && head->target.bytes <= limits.target_bytes_max);
    check(head->path.bytes > 0);
    check(data[head->path.offset] == '/' || data[head->path.offset] == '*');
    check(head->field_count <= limits.fields_max);
    check_span(head, head->target);
    check_span(head, head->path);
    check_span(head, head->query);
    for (uint32_t i = 0; i < head->field_count; i++) {
        check_span(head, head->fields[i].name);
        check_span(head, head->fields[i].value);
        check(head->fields[i].name.bytes > 0);
    }
}

/* A head in pieces may keep a fault for later, but never answer otherwise than the whole. */
static void check_pieces(const struct http_head *whole, int whole_result, const uint8_t *data,
                         size_t bytes, size_t step)
{
    static struct http_head head;
    struct http_fault fault;
    int result = 0;
    for (size_t have = 0, scanned = 0; scanned < bytes && result == 0; scanned = have) {
        have = bytes - have < step ? bytes : have + step;
        result = http_head_parse(&head, data, have, scanned, &limits, &fault);
    }
    check(result == whole_result || (whole_result < 0 && result == 0));
    if (result == 1) {
        check(memcmp(&head, whole, offsetof(struct http_head, fields)) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static struct http_head head;
    struct http_fault fault;
    const int result = http_head_parse(&head, data, bytes, 0, &limits, &fault);
    if (result == 1) {
        check_head(&head, data, bytes);
        (void)http_head_field(&head, data, "Upgrade");
    }
    check_pieces(&head, result, data, bytes, 1);
    check_pieces(&head, result, data, bytes, 7);
    return 0;
}
