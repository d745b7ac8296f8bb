/*
 * fuzz_envelope: any line to envelope_parse. What is taken lies inside the line, its record is one
 * valid JSON value, and the line as a whole is valid JSON by json_validate.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "core/mem.h"
#include "model/envelope.h"
#include "model/json_scan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static bool is_inside(struct slice part, struct slice line)
{
    return part.data >= line.data && part.bytes <= line.bytes &&
           part.data + part.bytes <= line.data + line.bytes;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    uint8_t *exact = mem_alloc(bytes + 1);
    struct envelope envelope;
    struct slice line = {exact, bytes};
    if (bytes != 0) {
        memcpy(exact, data, bytes);
    }
    if (envelope_parse(&envelope, line) == NULL) {
        uint64_t offset;
        const char *text;
        ASSERT(is_inside(envelope.kind, line));
        ASSERT(is_inside(envelope.record, line));
        ASSERT(envelope.severity <= 6);
        ASSERT(!envelope.has_origin ||
               (envelope.origin.lsn >= 1 && envelope.origin.lsn <= ENVELOPE_LSN_MAX &&
                envelope.origin.via_count <= bytes / ULID_TEXT_BYTES));
        ASSERT(envelope.lsn >= 1 && envelope.lsn <= ENVELOPE_LSN_MAX);
        ASSERT(json_validate(envelope.record.data, envelope.record.bytes, &offset, &text) == 0);
    }
    mem_free(exact);
    return 0;
}
