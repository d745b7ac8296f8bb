/*
 * doctor: private to `sluice doctor`. Each check says one line or more; none stops the others, so
 * that one run shows everything that is to be mended. Main thread, blocking; nothing is left behind
 * on any path.
 */
#ifndef CLI_DOCTOR_H
#define CLI_DOCTOR_H

#include "core/config.h"

enum doctor_verdict {
    DOCTOR_OK,
    DOCTOR_NOTE,    /* serve works; the operator should know */
    DOCTOR_PROBLEM, /* serve would fail */
};

struct doctor {
    const struct config *config;
    bool is_json;
    unsigned note_count;
    unsigned problem_count;
};

/* What is wrong, why it matters, what to do. why and mend are NULL for DOCTOR_OK. */
struct doctor_advice {
    enum doctor_verdict verdict;
    const char *subject; /* "io_uring": a few words, stable for scripts */
    const char *why;
    const char *mend;
};

void doctor_say(struct doctor *doctor, const struct doctor_advice *advice, const char *format, ...)
    PRINTF_LIKE(3, 4);

/* doctor_say for what is as it should be. */
void doctor_ok(struct doctor *doctor, const char *subject, const char *format, ...)
    PRINTF_LIKE(3, 4);

void doctor_check_kernel(struct doctor *doctor);
void doctor_check_limits(struct doctor *doctor);
void doctor_check_clock(struct doctor *doctor);
void doctor_check_cores(struct doctor *doctor);
void doctor_check_disk(struct doctor *doctor);

/* The first line of a small file of /proc or /sys, without its end; false when it cannot be read.
 */
bool doctor_read_line(char *out, size_t capacity, const char *path);

#endif
