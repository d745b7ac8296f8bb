/*
 * file_target: reads what it writes and nothing else, because it comes back from a database.
 */
#include "forward/file_target.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/clock.h"

#define NUMBER_MAX 999
/* Far above any file, far below where sums wrap. */
#define OFFSET_MAX (UINT64_C(1) << 60)

void file_target_format(const struct file_target *target, char *out, size_t bytes_max)
{
    const char *before = target->before[0] != '\0' ? target->before : "-";
    int length = snprintf(out, bytes_max, "%s %s %" PRIu64 " %" PRIu64, before, target->name,
                          target->offset, target->bytes);
    ASSERT(length > 0 && (size_t)length < bytes_max);
}

void file_target_name(int64_t real_ns, unsigned number, char *out)
{
    char text[CLOCK_RFC3339_BYTES]; /* 2025-11-21T17:00:00Z */
    ASSERT(number <= NUMBER_MAX);
    (void)clock_rfc3339(text, real_ns, 0);
    int length = snprintf(out, FILE_NAME_BYTES, "%.4s%.2s%.2sT%.2s%.2s%.2sZ-%03u", text, text + 5,
                          text + 8, text + 11, text + 14, text + 17, number % (NUMBER_MAX + 1));
    ASSERT(length == FILE_NAME_CHARS);
}

bool file_target_is_name(const char *text)
{
    static const char form[] = "ddddddddTddddddZ-ddd";
    for (size_t i = 0; i < FILE_NAME_CHARS; i++) {
        const bool is_digit = text[i] >= '0' && text[i] <= '9';
        if (form[i] == 'd' ? !is_digit : text[i] != form[i]) {
            return false; /* the end of a shorter text is neither */
        }
    }
    return text[FILE_NAME_CHARS] == '\0';
}

/* A decimal number up to the next space or the end; NULL: none. */
static const char *read_number(const char *at, uint64_t *value)
{
    const char *begin = at;
    *value = 0;
    while (*at >= '0' && *at <= '9' && at - begin < 19) {
        *value = *value * 10 + (uint64_t)(*at++ - '0');
    }
    return at > begin && *value <= OFFSET_MAX && (*at == ' ' || *at == '\0') ? at : NULL;
}

/* A name and the space behind it; NULL: none. */
static const char *read_name(const char *at, char *out)
{
    if (strnlen(at, FILE_NAME_CHARS) < FILE_NAME_CHARS || at[FILE_NAME_CHARS] != ' ') {
        return NULL;
    }
    memcpy(out, at, FILE_NAME_CHARS);
    out[FILE_NAME_CHARS] = '\0';
    return file_target_is_name(out) ? at + FILE_NAME_BYTES : NULL;
}

bool file_target_parse(const char *text, struct file_target *target)
{
    *target = (struct file_target){0};
    const char *at = text;
    at = at[0] == '-' && at[1] == ' ' ? at + 2 : read_name(at, target->before);
    at = at != NULL ? read_name(at, target->name) : NULL;
    at = at != NULL ? read_number(at, &target->offset) : NULL;
    at = at != NULL && *at == ' ' ? read_number(at + 1, &target->bytes) : NULL;
    return at != NULL && *at == '\0';
}
