#include "api/query_fault.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define MESSAGE_BYTES_MAX 320u

/* A UTF-8 character is not cut, or its first bytes would turn into U+FFFD. */
static void input_put(struct buf *body, struct slice input)
{
    uint8_t cut[QUERY_INPUT_BYTES_MAX + 3];
    if (input.bytes <= QUERY_INPUT_BYTES_MAX) {
        buf_put_json_string(body, input);
        return;
    }
    size_t bytes = QUERY_INPUT_BYTES_MAX;
    while (bytes > QUERY_INPUT_BYTES_MAX - 4 && (input.data[bytes] & 0xc0) == 0x80) {
        bytes--;
    }
    memcpy(cut, input.data, bytes);
    memcpy(cut + bytes, "...", 3);
    buf_put_json_string(body, (struct slice){cut, bytes + 3});
}

void query_fault_add(struct query_faults *faults, const char *type, const char *name,
                     const char *message, struct slice input)
{
    struct buf *body = faults->body;
    buf_put_text(body, faults->count++ == 0 ? "{\"detail\":[" : ",");
    buf_put_text(body, "{\"type\":\"");
    buf_put_text(body, type);
    buf_put_text(body, "\",\"loc\":[\"");
    buf_put_text(body, faults->place == NULL ? "query" : faults->place);
    buf_put_text(body, "\",\"");
    buf_put_text(body, name);
    buf_put_text(body, "\"],\"msg\":");
    buf_put_json_string(body, (struct slice){(const uint8_t *)message, strlen(message)});
    buf_put_text(body, ",\"input\":");
    input_put(body, input);
    buf_put_char(body, '}');
}

void query_fault_add_value(struct query_faults *faults, const char *name, struct slice input,
                           const char *format, ...)
{
    char message[MESSAGE_BYTES_MAX];
    int before = snprintf(message, sizeof message, "Value error, ");
    va_list arguments;
    va_start(arguments, format);
    int wrote = vsnprintf(message + before, sizeof message - (size_t)before, format, arguments);
    va_end(arguments);
    ASSERT(wrote >= 0);
    ASSERT((size_t)(before + wrote) < sizeof message);
    query_fault_add(faults, "value_error", name, message, input);
}

int query_faults_end(struct query_faults *faults)
{
    if (faults->count == 0) {
        return 0;
    }
    buf_put_text(faults->body, "]}");
    return -EINVAL;
}
