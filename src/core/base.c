/*
 * base: what base.h declares and cannot be inline. Pure but for the thread's own role. Fails only
 * by aborting.
 */
#include "core/base.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static _Thread_local enum role role_of_thread = ROLE_ANY;

void role_set(enum role role)
{
    role_of_thread = role;
}

enum role role_current(void)
{
    return role_of_thread;
}

void assert_failed(const char *expression, const char *file, int line)
{
    /* Written with one write(2): stdio may be what is broken, and two threads may die at once. */
    char text[512];
    int length =
        snprintf(text, sizeof(text), "ASSERT failed: %s at %s:%d\n", expression, file, line);
    if (length > 0) {
        size_t bytes = u64_min((uint64_t)length, sizeof(text) - 1);
        ssize_t written = write(STDERR_FILENO, text, bytes);
        (void)written; /* Nobody is left to tell. */
    }
    abort();
}

bool slice_equal(struct slice a, struct slice b)
{
    return a.bytes == b.bytes && (a.bytes == 0 || memcmp(a.data, b.data, a.bytes) == 0);
}

static uint8_t ascii_lower(uint8_t c)
{
    return (c >= 'A' && c <= 'Z') ? (uint8_t)(c | 0x20) : c;
}

bool slice_equal_nocase(struct slice a, struct slice b)
{
    if (a.bytes != b.bytes) {
        return false;
    }
    for (size_t i = 0; i < a.bytes; i++) {
        if (ascii_lower(a.data[i]) != ascii_lower(b.data[i])) {
            return false;
        }
    }
    return true;
}
