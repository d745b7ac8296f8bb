/*
 * progress: a bar on stderr for work that takes long: drawn on a terminal at most ten times a second, never in
 * a pipe. One owner; never fails.
 */
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H

#include "core/base.h"

struct progress {
    const char *label;
    bool is_shown;
    uint64_t started_ns;
    uint64_t drawn_ns; /* 0: never */
};

void progress_open(struct progress *progress, const char *label);
/* done of all bytes; context is the struct: fits the on_bytes callbacks of the store. */
void progress_bytes(void *progress, uint64_t done, uint64_t all);
/* Wipes the bar. */
void progress_close(struct progress *progress);

#endif
