/*
 * Any bytes as the value of Retry-After, at a time that the first eight of them choose. Checked besides memory: the answer is
 * bounded, does not change, and does not depend on blanks around the value.
 */
#include <string.h>

#include "core/mem.h"
#include "forward/retry.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    int64_t wall_ns = 0;
    if (bytes < sizeof wall_ns || bytes > 4096) {
        return 0;
    }
    memcpy(&wall_ns, data, sizeof wall_ns);
    wall_ns = wall_ns == INT64_MIN ? 0 : wall_ns < 0 ? -wall_ns : wall_ns;
    /* In a block of its own size, so that the sanitizer sees a read beyond the end. */
    const size_t value_bytes = bytes - sizeof wall_ns;
    uint8_t *value = mem_alloc(value_bytes);
    memcpy(value, data + sizeof wall_ns, value_bytes);
    const uint64_t ns = retry_after_parse((struct slice){value, value_bytes}, wall_ns);
    ASSERT(ns <= RETRY_AFTER_MAX);
    uint8_t *wide = mem_alloc(value_bytes + 2);
    wide[0] = '\t';
    memcpy(wide + 1, value, value_bytes);
    wide[value_bytes + 1] = ' ';
    ASSERT(retry_after_parse((struct slice){wide, value_bytes + 2}, wall_ns) == ns);
    mem_free(wide);
    mem_free(value);
    return 0;
}
