/*
 * logline: one line per event on stderr, text for a terminal, JSON otherwise. Rate-limited per call
 * site (10 lines, then 1 a second, with the number held back). Agents never block on a slow stderr:
 * a line is formatted by the caller into its thread's ring and written by the main thread
 * (logline_drain); before logline_start and after logline_stop, and when the process is about to
 * die, it is written directly. A full ring drops the line and counts it; the count is logged. Never
 * log: bodies, headers, tokens, keys.
 *
 *   LOG(LOGLINE_WARNING, "segment_failed", "segment %" PRIu64 " is sealed: %s", id, why);
 */
#ifndef CORE_LOGLINE_H
#define CORE_LOGLINE_H

#include "core/base.h"

#include <stdatomic.h>

enum logline_level {
    LOGLINE_DEBUG = 0,
    LOGLINE_INFO = 1,
    LOGLINE_WARNING = 2,
    LOGLINE_ERROR = 3,
};

struct logline_site {
    _Atomic uint64_t window_start_ns;
    _Atomic uint32_t in_window;
    _Atomic uint32_t held_back;
};

/* is_json decided by the caller (isatty). Call once, before threads. */
void logline_configure(enum logline_level level_min, bool is_json);
/* From here on threads use rings. The main thread must call logline_drain regularly. */
void logline_start(void);
void logline_stop(void); /* drains and goes back to direct writing; threads must have ended */
/* The process is about to die: from here on every thread writes its lines directly. Any thread. */
void logline_panic(void);
/* Main thread: writes what is waiting; returns the number of lines. */
size_t logline_drain(void);
bool logline_is_enabled(enum logline_level level);
/* Any time: reload. */
void logline_set_level(enum logline_level level_min);
void logline_write(struct logline_site *site, enum logline_level level, const char *event,
                   const char *format, ...) PRINTF_LIKE(4, 5);

#define LOG(level, event, ...)                                                                     \
    do {                                                                                           \
        static struct logline_site log_site;                                                       \
        if (logline_is_enabled(level)) {                                                           \
            logline_write(&log_site, (level), (event), __VA_ARGS__);                               \
        }                                                                                          \
    } while (0)

#endif
